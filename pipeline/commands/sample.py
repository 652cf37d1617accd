"""``geocrack sample``: a random sample to be checked by eye."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options
from pipeline.config import Sampling

log = logging.getLogger(__name__)


@click.command("sample")
@click.argument("inventory", type=options.PATH)
@options.output("GeoPackage with the points to be labelled in QGIS.", ".gpkg", what="a GeoPackage")
@click.option("--image", type=options.PATH, help="Image that will be looked at: points fall on its valid pixels.")
@click.option("--area", type=options.PATH, help="Polygons inside which points fall.")
@options.setting(Sampling, "number", "-n")
@options.setting(Sampling, "near_m")
@options.setting(Sampling, "by_size")
@options.setting(Sampling, "seed")
@options.overwrite
@options.verbosity
def command(
    inventory: Path,
    output: Path,
    image: Path | None,
    area: Path | None,
    number: int,
    near_m: float,
    by_size: bool,
    seed: int,
    overwrite: bool,
) -> None:
    """Draw a stratified random sample of the ground that INVENTORY was searched on.

    Strata are mapped landslides, ground near them, and the rest. Open the sample in QGIS over the image and choose for
    each point what is there (attribute `reference`); then `geocrack estimate` tells the true area with its error.
    Points must not be moved, added or deleted.
    """
    from geo.atomic import check_free
    from geo.inventory import sample_file, sampling
    from pipeline import provenance

    check_free(output, overwrite=overwrite)
    settings = {"number": number, "near_m": near_m, "by_size": by_size, "seed": seed}
    with provenance.track("sample", output, inputs=[inventory, image, area], settings=settings) as record:
        drawn = sampling.draw(
            inventory,
            number=number,
            seed=seed,
            near_m=near_m,
            by_size=by_size,
            image=image,
            area=area,
            progress=lambda windows, total: options.progress(windows, "Sampling", total),
        )
        sample_file.write(output, drawn, overwrite=overwrite)
        strata = [
            {"name": s.name, "km2": s.pixels * drawn.design.pixel_m2 / 1e6, "points": s.drawn}
            for s in drawn.design.strata
        ]
        record["results"] = {"points": drawn.design.number, "strata": strata}
    for s in strata:
        log.info("%s: %d points in %.4g km2", s["name"], s["points"], s["km2"])
    if drawn.design.number < number:
        log.warning(
            "%d points were asked for, but the ground has %d pixels: each of them is a point, which is a census and no "
            "sample; give a smaller -n, or more ground",
            number,
            drawn.design.number,
        )
    log.info("label the attribute 'reference' of %s in QGIS, then run geocrack estimate", output)
