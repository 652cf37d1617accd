"""``geocrack vectorize``: from probability to landslide polygons."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import click

from pipeline import config, options

log = logging.getLogger(__name__)


@click.command("vectorize")
@click.argument("probability", nargs=-1, required=True, type=options.PATH)
@options.output("GeoPackage with the layers landslides and searched.")
@options.setting(config.Vectorization, "threshold")
@options.setting(config.Vectorization, "min_area_m2")
@options.setting(config.Vectorization, "connectivity")
@options.setting(config.Vectorization, "prefer")
@options.threads
@options.overwrite
@options.verbosity
def command(
    probability: tuple[Path, ...],
    output: Path,
    threshold: float | None,
    min_area_m2: float,
    connectivity: Literal[4, 8],
    prefer: Literal["newest", "nadir"],
    threads: int | None,
    overwrite: bool,
) -> None:
    """Turn PROBABILITY, one raster or several that may overlap, into landslide polygons.

    The polygons lie in the CRS of the first raster, along its pixels. Where rasters overlap, the best view that
    is valid decides, so that a landslide is one polygon and searched ground counts once. The GeoPackage opens
    styled in QGIS.
    """
    from geo.atomic import check_free
    from geo.inventory import make_inventory, write
    from pipeline import __version__, provenance

    if output.suffix.lower() != ".gpkg":
        raise click.BadParameter(f"{output}; expected the name of a GeoPackage, *.gpkg", param_hint="--output")
    check_free(output, overwrite=overwrite)
    settings = {
        "threshold": threshold,
        "min_area_m2": min_area_m2,
        "connectivity": connectivity,
        "prefer": prefer,
    }
    with provenance.track("vectorize", output, inputs=probability, settings=settings) as record:
        inventory = make_inventory(
            probability,
            threshold=threshold,
            min_area_m2=min_area_m2,
            connectivity=connectivity,
            prefer=prefer,
            version=__version__,
            workers=threads,
            progress=lambda windows, total: options.progress(windows, "Vectorizing", total),
        )
        write(output, inventory, overwrite=overwrite)
        searched_km2 = sum(inventory.searched_km2.values())
        record["results"] = {
            "landslides": len(inventory.landslides),
            "landslide_km2": inventory.landslide_km2,
            "searched_km2": searched_km2,
            "searched_km2_by_scene": inventory.searched_km2,
            "thresholds": inventory.settings["thresholds"],
        }
    log.info(
        "%s: %d landslides, %.4g km2 of %.4g km2 searched",
        output,
        len(inventory.landslides),
        inventory.landslide_km2,
        searched_km2,
    )
