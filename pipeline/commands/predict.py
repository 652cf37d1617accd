"""``geocrack predict``: the landslide probability of a whole scene."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from pipeline import config, options

log = logging.getLogger(__name__)

#: Windows that differ by more say that the model is not sure of its ground: 0.008 where it is like the training's.
UNSURE_APART = 0.04


@click.command("predict")
@click.argument("image", type=options.PATH)
@click.option(
    "--model",
    "models",
    type=options.PATH,
    required=True,
    multiple=True,
    help="Model file written by `geocrack train`; given several times, the mean of what they say.",
)
@options.raster("Probability raster on exactly the image's grid (a Cloud Optimized GeoTIFF).")
@options.setting(config.Prediction, "area")
@click.option("--area-layer", help="Layer of the area.  [default: the only one]")
@options.setting(config.Prediction, "overlap")
@options.setting(config.Prediction, "batch")
@options.setting(config.Prediction, "dtype")
@options.setting(config.Prediction, "augment")
@options.setting(config.Prediction, "backend")
@options.setting(config.Prediction, "black_px")
@click.option(
    "--spread",
    type=options.FileName(path_type=Path),
    callback=options.named(".tif", ".tiff", what="a GeoTIFF"),
    help="Write the standard deviation of all answers to this raster.",
)
@click.option("--scheduler", help="Compute on a dask.distributed cluster, such as tcp://10.0.0.1:8786.")
@click.option(
    "--part",
    callback=lambda _ctx, _param, value: _part(value),
    metavar="K/N",
    help="Only compute and keep the K-th of N parts; a last call without --part joins them.",
)
@click.option(
    "--window",
    type=click.IntRange(min=32),
    help="Side of the windows in pixels.  [default: eight times the model's reach, its chips at least]",
)
@click.option("--bands", help="Names of the image's bands in the order of the file, such as red,green,blue.")
@options.threads
@options.overwrite
@options.verbosity
def command(
    image: Path,
    models: tuple[Path, ...],
    output: Path,
    area: Path | None,
    area_layer: str | None,
    overlap: int | None,
    batch: int,
    dtype: str,
    augment: Any,
    backend: Any,
    black_px: int,
    spread: Path | None,
    scheduler: str | None,
    part: tuple[int, int] | None,
    window: int | None,
    bands: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Map the landslide probability of IMAGE, window by window.

    The model's bands are found by name. Ground that is not valid, was hidden by cloud or shadow, or lies
    outside --area is nodata in the output. What is finished is kept in OUTPUT.rows until all is: the same
    command, run again after it was killed, goes on from there.
    """
    from geo.atomic import check_apart, check_free
    from geo.masks import quality_path

    check_free(output, overwrite=overwrite)
    if spread:
        check_apart(spread, [image, *models, output])

    import torch

    from geo.stream import cpus
    from models import model_file
    from models.predict import predict
    from pipeline.provenance import track

    torch.set_num_threads(cpus(threads))
    loaded = [model_file.load(model) for model in models]
    hashes = _different(models)
    threshold = sum(model.threshold for model in loaded) / len(loaded)
    tags = {
        "GEOCRACK_MODEL": "+".join(found[:12] for found in hashes),
        "GEOCRACK_RECIPE": " + ".join(dict.fromkeys(recipe_name(model.recipe) for model in loaded)),
        "GEOCRACK_THRESHOLD": f"{threshold:.6g}",
    }
    choices: dict[str, Any] = {"overlap": overlap, "batch": batch, "dtype": dtype, "window": window}
    choices |= {"augment": augment, "backend": backend, "area_layer": area_layer, "black_px": black_px}

    def work() -> dict[str, Any]:
        return predict(
            image,
            models,
            output,
            area=area,
            bands=bands.split(",") if bands else None,
            threshold=threshold,
            spread=spread,
            scheduler=scheduler,
            part=part,
            threads=threads,
            tags=tags,
            overwrite=overwrite,
            progress=options.progress,
            **choices,
        )

    if part:
        log.info("%s: part %d of %d, %d blocks of rows are kept", output, *part, work()["blocks"])
        return
    quality = quality_path(image)
    settings = {**choices, "bands": bands, "scheduler": scheduler, "threads": threads}
    inputs = [image, quality if quality.exists() else None, *models, area]
    with ExitStack() as records:
        kept = [
            records.enter_context(track("predict", file, inputs=inputs, settings=settings))
            for file in (output, *([spread] if spread else []))
        ]
        found = work()
        for record in kept:
            record["results"] = found
    if found["landslide_share"] is None:
        log.warning("%s: nothing was searched, all is nodata: the screening %s kept no ground", output, area)
        return
    km2 = found["searched_km2"]
    log.info(
        "%s: %.1f %% of the image was searched%s, %.2f %% of that is landslide by the model's threshold of %.2f",
        output,
        100 * found["valid_share"],
        "" if km2 is None else f" ({km2:.4g} km2)",
        100 * found["landslide_share"],
        threshold,
    )
    if (apart := found["window_difference"]) is not None:
        log.info(
            "windows of %d pixels, %d of them shared; what several say of a pixel lies %.3f (rms) from their blend",
            found["window_px"],
            found["overlap_px"],
            apart,
        )
        if apart > UNSURE_APART:
            log.warning(
                "%s: what the model says of a pixel hangs on the window it is seen in (%.2f rms): the ground is unlike "
                "that of its training, or windows are too small; train on ground like this, or try a larger --overlap",
                image,
                apart,
            )


def _different(models: tuple[Path, ...]) -> list[str]:
    """Hashes of the model files; one that is given twice would agree with itself and pass for sure of its answer."""
    from geo.errors import ModelError
    from pipeline.provenance import sha256

    first: dict[str, Path] = {}
    for model in models:
        if (same := first.setdefault(sha256(model), model)) is not model:
            raise ModelError(
                f"{model} holds the same model as {same}, which tells no spread and counts twice in the mean; "
                "give each once"
            )
    return list(first)


def _part(text: str | None) -> tuple[int, int] | None:
    """Read ``K/N``."""
    if text is None:
        return None
    try:
        k, n = map(int, text.split("/"))
    except ValueError:
        k = n = 0
    if not 1 <= k <= n:
        raise click.BadParameter(f"'{text}' is no part; expected K/N with 1 <= K <= N, such as 2/8")
    return k, n


def recipe_name(recipe: dict[str, Any]) -> str:
    """Architecture and encoder of a recipe, in short."""
    network = recipe["network"]
    return " ".join(str(part) for part in (network["name"], network.get("encoder")) if part)
