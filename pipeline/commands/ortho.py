"""``geocrack ortho``: an image in sensor geometry becomes an ortho on a snapped UTM grid."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options
from pipeline.config import Ortho

log = logging.getLogger(__name__)

_PAN_M, _MSS_M = (Ortho.model_fields[name].default for name in ("pan_resolution_m", "mss_resolution_m"))


@click.command()
@click.argument("image", type=options.PATH)
@options.output("Ortho (Cloud Optimized GeoTIFF); its quality is written beside it.")
@options.setting(Ortho, "dem")
@options.setting(Ortho, "geoid")
@options.setting(Ortho, "geoid_height_m")
@click.option(
    "--resolution",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Pixel in metres.  [default: {_PAN_M:g} for one band, {_MSS_M:g} for several]",
)
@options.setting(Ortho, "crs")
@click.option(
    "--centre-from",
    type=options.PATH,
    help="Image whose centre decides the UTM zone.  [default: scene.json beside IMAGE, else IMAGE]",
)
@options.setting(Ortho, "resampling")
@options.threads
@options.overwrite
@options.verbosity
def command(
    image: Path,
    output: Path,
    dem: Path | None,
    geoid: str,
    geoid_height_m: float,
    resolution: float | None,
    crs: str,
    centre_from: Path | None,
    resampling: str,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Orthorectify IMAGE with its RPC and a DEM.

    The grid's pixel edges are multiples of the resolution, so that PAN and MSS fall on each other. An image
    that has a CRS already is warped to such a grid without a DEM. Ground without a height becomes nodata.
    """
    from geo.ortho import centre_of, orthorectify
    from pipeline.provenance import track

    centre = centre_of(centre_from) if centre_from else _scene_centre(image)
    resolution_m = resolution or _default_resolution(image)
    settings = {
        "resolution_m": resolution_m,
        "crs": crs,
        "geoid": geoid,
        "geoid_height_m": geoid_height_m,
        "resampling": resampling,
        "centre": centre,
    }
    with track("ortho", output, inputs=[image, dem], settings=settings) as record:
        made = orthorectify(
            image,
            output,
            resolution_m=resolution_m,
            dem=dem,
            geoid=geoid,
            geoid_height_m=geoid_height_m,
            crs=crs,
            centre=centre,
            resampling=resampling,
            threads=threads,
            overwrite=overwrite,
            progress=lambda windows, total: options.progress(windows, "ortho", total),
        )
        height, width = made.geobox.shape
        record["results"] = {
            "width": width,
            "height": height,
            "crs": made.crs,
            "dem_share": made.dem_share,
            "valid_share": made.valid_share,
        }
    log.info(
        "%s: %d x %d pixels of %g m in %s, %.1f %% valid",
        output,
        width,
        height,
        resolution_m,
        made.crs,
        100 * made.valid_share,
    )


def _scene_centre(image: Path) -> tuple[float, float] | None:
    """Longitude and latitude of the scene that the image belongs to, so that all its images get one UTM zone."""
    import json

    from geo.errors import ProductError

    beside = image.parent / "scene.json"
    if not beside.exists():
        return None
    try:
        lon, lat = json.loads(beside.read_text(encoding="utf-8"))["centre"]
        return float(lon), float(lat)
    except (ValueError, KeyError, TypeError) as error:
        raise ProductError(
            f'{beside} does not say the scene\'s centre ({error!r}); expected "centre": [longitude, latitude]: '
            "make it again with geocrack reflectance"
        ) from error


def _default_resolution(image: Path) -> float:
    """Resolution of the configuration for PAN or MSS, by the number of bands."""
    from geo.raster import open_raster
    from geo.source import band_names

    with open_raster(image) as src:
        return _PAN_M if len(band_names(src)) == 1 else _MSS_M
