"""``geocrack stack``: an image with terrain, spectral indices and another date as more bands."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options
from pipeline.config import Ortho

log = logging.getLogger(__name__)


def _listed(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


@click.command("stack")
@click.argument("image", type=options.PATH)
@options.raster("Image with more bands (Cloud Optimized GeoTIFF, float32) on IMAGE's grid; its quality beside it.")
@click.option("--dem", type=options.PATH, help="DEM in any CRS, for elevation, slope, aspect and relief.")
@click.option(
    "--add",
    callback=_listed,
    metavar="BANDS",
    help="Bands to add: elevation,slope,aspect_sin,aspect_cos,relief (from --dem), ndvi,ndwi,brightness.  "
    "[default: the first four with --dem]",
)
@click.option("--before", type=options.PATH, help="Image of another date; its bands get names ending in _before.")
@click.option("--bands", callback=_listed, help="Names of IMAGE's bands in the order of the file.")
@click.option(
    "--relief-m",
    type=options.Number(min=0, min_open=True),
    default=200.0,
    help="Side of the square whose range of heights is the relief, metres.",
)
@options.setting(Ortho, "dem_zero")
@options.setting(Ortho, "resampling")
@options.threads
@options.overwrite
@options.verbosity
def command(
    image: Path,
    output: Path,
    dem: Path | None,
    add: list[str] | None,
    before: Path | None,
    bands: list[str] | None,
    relief_m: float,
    dem_zero: str,
    resampling: str,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Add bands to IMAGE, an ortho, for recipes that name them: terrain, spectral indices, another date.

    A pixel is valid where all bands are; quality flags of both dates are joined. Another date is resampled to IMAGE's
    grid as it lies: register it first with `geocrack coregister`.
    """
    from geo.atomic import check_apart, check_free, together
    from geo.masks import quality_path
    from geo.stack import stack
    from pipeline.provenance import track
    from pipeline.side_files import side_files

    beside = [quality_path(path) for path in (image, before) if path is not None]
    inputs = [image, dem, before, *(path for path in beside if path.exists())]
    outputs = (output, quality_path(output))
    for path in outputs:
        check_free(path, overwrite=overwrite)
        check_apart(path, [*inputs, *beside])
    settings = {"add": add, "bands": bands, "relief_m": relief_m, "dem_zero": dem_zero, "resampling": resampling}
    with (
        together() as also,
        track("stack", output, inputs=inputs, settings=settings) as record,
        side_files(output, outputs, record, also, overwrite=overwrite),
    ):
        made = stack(
            image,
            output,
            dem=dem,
            add=add,
            before=before,
            names=bands,
            relief_m=relief_m,
            dem_zero=dem_zero,
            resampling=resampling,
            threads=threads,
            overwrite=overwrite,
            progress=lambda windows, total: options.progress(windows, "Stacking", total),
        )
        record["results"] = {"bands": list(made.bands), "valid_share": made.valid_share}
    log.info("%s: %s; %.1f %% valid", output, ", ".join(made.bands), 100 * made.valid_share)
