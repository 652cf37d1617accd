"""``geocrack predict``: the landslide probability of a whole scene."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from pipeline import config, options

log = logging.getLogger(__name__)


@click.command("predict")
@click.argument("image", type=options.PATH)
@click.option("--model", type=options.PATH, required=True, help="Model file written by `geocrack train`.")
@options.output("Probability raster on exactly the image's grid (a Cloud Optimized GeoTIFF).")
@options.setting(config.Prediction, "area")
@click.option("--area-layer", help="Layer of the area.  [default: the only one]")
@options.setting(config.Prediction, "overlap")
@options.setting(config.Prediction, "batch")
@options.setting(config.Prediction, "dtype")
@click.option(
    "--window",
    type=click.IntRange(min=32),
    help="Side of the windows in pixels.  [default: the model's chips, or twice the overlap]",
)
@click.option("--bands", help="Names of the image's bands in the order of the file, such as red,green,blue.")
@options.threads
@options.overwrite
@options.verbosity
def command(
    image: Path,
    model: Path,
    output: Path,
    area: Path | None,
    area_layer: str | None,
    overlap: int,
    batch: int,
    dtype: str,
    window: int | None,
    bands: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Map the landslide probability of IMAGE, window by window.

    The model's bands are found by name. Ground that is not valid, was hidden by cloud or shadow, or lies
    outside --area is nodata in the output.
    """
    from geo.atomic import check_free
    from geo.masks import quality_path

    check_free(output, overwrite=overwrite)

    import torch

    from geo.stream import cpus
    from models import model_file
    from models.predict import predict
    from pipeline.provenance import sha256, track

    torch.set_num_threads(cpus(threads))
    loaded = model_file.load(model)
    tags = {
        "GEOCRACK_MODEL": sha256(model)[:12],
        "GEOCRACK_RECIPE": recipe_name(loaded.recipe),
        "GEOCRACK_THRESHOLD": f"{loaded.threshold:.6g}",
    }
    quality = quality_path(image)
    settings: dict[str, Any] = {"overlap": overlap, "batch": batch, "dtype": dtype, "window": window, "bands": bands}
    settings |= {"area_layer": area_layer, "threads": threads}
    inputs = [image, quality if quality.exists() else None, model, area]
    with track("predict", output, inputs=inputs, settings=settings) as record:
        found = predict(
            image,
            loaded,
            output,
            overlap=overlap,
            batch=batch,
            dtype=dtype,
            window=window,
            area=area,
            area_layer=area_layer,
            bands=bands.split(",") if bands else None,
            threshold=loaded.threshold,
            tags=tags,
            overwrite=overwrite,
            progress=options.progress,
        )
        record["results"] = found
    log.info(
        "%s: %.1f %% of the image was searched, %.2f %% of that is landslide by the model's threshold of %.2f",
        output,
        100 * found["valid_share"],
        100 * found["landslide_share"],
        loaded.threshold,
    )


def recipe_name(recipe: dict[str, Any]) -> str:
    """Architecture and encoder of a recipe, in short."""
    network = recipe["network"]
    return " ".join(str(part) for part in (network["name"], network.get("encoder")) if part)
