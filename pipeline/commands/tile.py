"""``geocrack tile``: an image and its labels to chips, split by spatial blocks."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import config, options

log = logging.getLogger(__name__)


@click.command("tile")
@click.argument("image", type=options.PATH)
@click.option(
    "--labels", type=options.PATH, help="Landslides: polygons of any format and CRS, or a raster of 0 and 1 or 255."
)
@click.option("--labels-layer", help="Layer of the labels.  [default: the only one, or landslides]")
@click.option(
    "--review",
    type=options.PATH,
    multiple=True,
    help="What was judged in an inventory (geocrack ingest-review); it stands above the labels.",
)
@click.option("--areas", type=options.PATH, help="Polygons; only chips that lie wholly inside are cut.")
@click.option("--areas-layer", help="Layer of the areas.  [default: the only one]")
@click.option("--bands", help="Names of the image's bands in the order of the file, such as red,green,blue.")
@options.output("Folder of chips to make: images/, labels/, index.gpkg, chips.json.")
@options.setting(config.Tiling, "size")
@options.setting(config.Tiling, "overlap")
@options.setting(config.Tiling, "block_chips")
@options.setting(config.Tiling, "gap_m")
@options.setting(config.Tiling, "fractions")
@options.setting(config.Tiling, "min_valid")
@options.setting(config.Tiling, "seed")
@options.threads
@options.overwrite
@options.verbosity
def command(
    image: Path,
    labels: Path | None,
    labels_layer: str | None,
    review: tuple[Path, ...],
    areas: Path | None,
    areas_layer: str | None,
    bands: str | None,
    output: Path,
    size: int,
    overlap: int,
    block_chips: int,
    gap_m: float,
    fractions: tuple[float, float, float],
    min_valid: float,
    seed: int,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Cut IMAGE and its labels into georeferenced chips that train, validate and test.

    Whole blocks of ground are dealt to the splits, with a gap between them, and the same ground falls into the
    same split in every image of one CRS and resolution. Without --labels the chips are dealt as well, with
    labels of 255 (not known). With --review only chips with ground of which something is known are cut.
    """
    from geo.atomic import check_free
    from geo.masks import quality_path
    from models.tiling import Cut, tile
    from pipeline.provenance import track

    if overlap >= size:
        raise click.BadParameter(f"{overlap} pixels; expected less than --size {size}", param_hint="--overlap")
    if abs(sum(fractions) - 1) > 1e-6 or min(fractions) < 0:
        shown = " ".join(f"{f:g}" for f in fractions)
        raise click.BadParameter(f"{shown}; expected shares that sum to 1", param_hint="--fractions")
    check_free(output, overwrite=overwrite)
    cut = Cut(size, overlap, block_chips, gap_m, fractions, min_valid, seed)
    quality = quality_path(image)
    inputs = [image, quality if quality.exists() else None, labels, *review, areas]
    settings = {**vars(cut), "labels_layer": labels_layer, "areas_layer": areas_layer, "bands": bands}
    with track("tile", output, inputs=inputs, settings=settings) as record:
        found = tile(
            image,
            output,
            cut,
            labels=labels,
            labels_layer=labels_layer,
            reviews=review,
            areas=areas,
            areas_layer=areas_layer,
            bands=bands.split(",") if bands else None,
            overwrite=overwrite,
            threads=threads,
            progress=options.progress,
        )
        record["results"] = {name: found[name] for name in ("counts", "left_out", "labels")}
    log_counts(output, found["counts"])
    if found["left_out"]:
        log.info("%d chips were left out: less than %g %% of them is valid", found["left_out"], 100 * min_valid)
    if found.get("unknown"):
        log.info("%d chips show no ground that was judged, and are left out", found["unknown"])
    if labels is None and not review:
        log.info("no labels were given: all pixels are labelled 255 (not known)")


def log_counts(output: Path, counts: dict[str, dict[str, int]]) -> None:
    """Say how many chips there are and how much landslide they show."""
    landslide, known = (
        sum(c["landslide_pixels"] for c in counts.values()),
        sum(c["landslide_pixels"] + c["background_pixels"] for c in counts.values()),
    )
    log.info(
        "%s: %s chips%s",
        output,
        ", ".join(f"{c['chips']} {name}" for name, c in counts.items()),
        f"; {100 * landslide / known:.2f} % of the labelled ground is landslide" if known else "",
    )
