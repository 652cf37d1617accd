"""``geocrack ortho``: an image in sensor geometry becomes an ortho on a snapped UTM grid."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pipeline import ground_control, options
from pipeline.config import Ortho

log = logging.getLogger(__name__)


@click.command()
@click.argument("image", type=options.PATH)
@options.raster("Ortho (Cloud Optimized GeoTIFF); its quality is written beside it.")
@options.setting(Ortho, "dem")
@options.setting(Ortho, "geoid")
@options.setting(Ortho, "geoid_height_m")
@options.setting(Ortho, "dem_zero")
@click.option(
    "--resolution",
    type=options.Number(min=0, min_open=True),
    help="Pixel in metres.  [default: the sensor's own, by scene.json beside IMAGE, else by IMAGE's place]",
)
@options.setting(Ortho, "crs")
@click.option(
    "--centre-from",
    type=options.PATH,
    help="Image whose centre decides the UTM zone.  [default: scene.json beside IMAGE, else IMAGE]",
)
@options.setting(Ortho, "resampling")
@ground_control.options
@options.cog
@options.compress
@options.scheduler
@options.threads
@options.overwrite
@options.verbosity
def command(
    image: Path,
    output: Path,
    dem: Path | None,
    geoid: str,
    geoid_height_m: float,
    dem_zero: str,
    resolution: float | None,
    crs: str,
    centre_from: Path | None,
    resampling: str,
    gcps: Path | None,
    gcp_crs: str | None,
    reference: Path | None,
    gcp_model: str,
    cog: bool,
    compress: str,
    scheduler: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Orthorectify IMAGE with its RPC and a DEM.

    The grid's pixel edges are multiples of the resolution, so that PAN and MSS fall on each other. An image
    that has a CRS already is warped to such a grid without a DEM. Ground without a height becomes nodata.
    Ground control corrects the RPC; its residuals are written beside the ortho, as OUTPUT.gcps.json.
    """
    import os
    from contextlib import ExitStack

    from geo.atomic import atomic, check_apart, check_free, together
    from geo.cluster import connected
    from geo.masks import quality_path
    from geo.ortho import centre_of, orthorectify
    from geo.ortho.control_points import read_control_points
    from pipeline.provenance import track
    from pipeline.side_files import side_files

    if scheduler:  # workers stand in other folders
        image, dem = Path(os.path.abspath(image)), dem and Path(os.path.abspath(dem))
    ground_control.check(gcps, reference, gcp_model)
    report = ground_control.report_path(output)
    written = [output, quality_path(output), *([report] if gcps or reference else [])]
    for path in written:
        check_free(path, overwrite=overwrite)
    check_apart(output, [image, dem, gcps, reference])
    centre = centre_of(centre_from) if centre_from else _scene_centre(image)
    resolution_m = resolution or _noted_resolution(image)
    heights: dict[str, Any] = {"dem": dem, "geoid": geoid, "geoid_height_m": geoid_height_m, "dem_zero": dem_zero}
    settings = {
        "resolution_m": resolution_m,
        "crs": crs,
        **{key: value for key, value in heights.items() if key != "dem"},
        "resampling": resampling,
        "centre": centre,
        "gcp_model": gcp_model if gcps or reference else None,
    }
    with (
        together() as also,
        track("ortho", output, inputs=[image, dem, gcps, reference], settings=settings) as record,
        side_files(output, written, record, also, overwrite=overwrite),
        ExitStack() as made,
    ):
        control = read_control_points(gcps, crs=gcp_crs) if gcps else None
        part = made.enter_context(atomic(report, overwrite=overwrite)) if control or reference else None
        files = [str(path) for path in (image, dem) if path]
        executor = made.enter_context(connected(scheduler, files)) if scheduler else None
        result = orthorectify(
            image,
            output,
            resolution_m=resolution_m,
            **heights,
            control=control,
            reference=reference,
            control_model=gcp_model,
            crs=crs,
            centre=centre,
            resampling=resampling,
            threads=threads,
            executor=executor,
            overwrite=overwrite,
            cog=cog,
            compress=compress,
            progress=lambda windows, total: options.progress(windows, "ortho", total),
        )
        height, width = result.geobox.shape
        resolution_m = abs(result.geobox.resolution.x)
        record["results"] = {
            "resolution_m": resolution_m,
            "width": width,
            "height": height,
            "crs": result.crs,
            "dem_share": result.dem_share,
            "valid_share": result.valid_share,
        }
        if result.heights:
            record["results"]["heights"] = result.heights.as_dict()
        if part and result.refinement:
            record["results"]["gcps"] = ground_control.write(result.refinement, part, output)
    log.info(
        "%s: %d x %d pixels of %g m in %s, %.1f %% valid",
        output,
        width,
        height,
        resolution_m,
        result.crs,
        100 * result.valid_share,
    )


@contextmanager
def _scene_of(image: Path) -> Iterator[dict[str, Any] | None]:
    """Give what `geocrack reflectance` noted beside an image, if it did; what is amiss with it is told."""
    import json

    from geo.errors import ProductError

    beside = image.parent / "scene.json"
    try:
        yield json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProductError(
            f'{beside} does not say the scene\'s centre or pixels ({error!r}); expected "centre": [longitude, '
            'latitude] and "images": {"mss": {"gsd_m": ...}}: make it again with geocrack reflectance'
        ) from error


def _scene_centre(image: Path) -> tuple[float, float] | None:
    """Longitude and latitude of the scene that the image belongs to, so that all its images get one UTM zone."""
    with _scene_of(image) as scene:
        if scene is None:
            return None
        lon, lat = scene["centre"]
        return float(lon), float(lat)


def _noted_resolution(image: Path) -> float | None:
    """Pixels of the sensor that `geocrack reflectance` noted beside its images."""
    from geo.sensors.place import pixels_m

    with _scene_of(image) as scene:
        images = (scene or {}).get("images") or {}
        return pixels_m({key: facts["gsd_m"] for key, facts in images.items()}).get(image.stem)
