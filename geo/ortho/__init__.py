"""Orthorectification: an image in sensor geometry, or in any CRS, to a snapped UTM grid, window by window."""

from __future__ import annotations

import logging
import os
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyproj import CRS

from geo.atomic import check_free
from geo.errors import GridError, RasterError, unknown_name
from geo.geobox import GeoBox
from geo.masks import quality_path
from geo.ortho.control_points import ControlPoints
from geo.ortho.dem import LON_LAT, Dem, open_dem
from geo.ortho.geometry import MapGeometry, RpcGeometry, ground_cover
from geo.ortho.grid import metric_crs, middle, snapped_grid, utm_crs
from geo.ortho.ground_control import Refinement, refine
from geo.ortho.heights import HeightReference
from geo.ortho.rpc import CameraModel
from geo.ortho.warp import KERNELS, Warp, one_thread_each
from geo.progress import Counted
from geo.source import FileSource, Source
from geo.write import write_windows

log = logging.getLogger(__name__)

#: Side of an output window in pixels; a multiple of the writer's blocks.
WINDOW = 1024
#: Output pixels per image pixel beyond which the resolution must be a mistake.
_MOST = 400
#: Degrees of longitude beside its zone where a CRS may well be used: the next zone, for a mosaic.
_BESIDE = 6.0


@dataclass(frozen=True)
class Ortho:
    """What an orthorectification made.

    Attributes
    ----------
    geobox : GeoBox
        The output grid.
    crs : str
        Its CRS, such as ``EPSG:32648``.
    dem_share : float
        Share of the image whose ground has a height in the DEM; 1 where none is needed.
    valid_share : float
        Share of the output's pixels that are good.
    heights : HeightReference, optional
        What the DEM's numbers were taken for; None where no DEM was needed.
    refinement : Refinement, optional
        How ground control corrected the camera model, where it was given.
    """

    geobox: GeoBox
    crs: str
    dem_share: float
    valid_share: float
    heights: HeightReference | None = None
    refinement: Refinement | None = None


def orthorectify(
    image: str | os.PathLike,
    output: str | os.PathLike,
    *,
    resolution_m: float | None = None,
    dem: str | os.PathLike | None = None,
    geoid: str = "auto",
    geoid_height_m: float = 0.0,
    dem_zero: str = "auto",
    control: ControlPoints | None = None,
    reference: str | os.PathLike | None = None,
    control_model: str = "auto",
    crs: str = "auto",
    centre: tuple[float, float] | None = None,
    resampling: str = "cubic",
    threads: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    cog: bool = True,
    compress: str = "zstd",
    progress: Counted | None = None,
) -> Ortho:
    """Lay an image on the ground and write it, with its quality, as Cloud Optimized GeoTIFFs.

    An image with a CRS and a geotransform is warped by them, another by its RPC over the DEM. The grid's
    pixel edges are multiples of the resolution. Ground without a height becomes nodata.

    Parameters
    ----------
    image : path
        Raster; its bands, encoding, ``GEOCRACK_`` tags and quality raster are carried over.
    output : path
        The ortho; its quality goes to ``geo.masks.quality_path(output)``.
    resolution_m : float, optional
        Side of an output pixel in metres; about that of the image's own where absent.
    dem : path, optional
        Needed where the image has only an RPC.
    geoid : str
        ``"egm96"`` or ``"egm2008"`` where the DEM's heights stand on that geoid, ``"none"`` where on the ellipsoid;
        ``"auto"`` asks the vertical part of the DEM's CRS.
    geoid_height_m : float
        Added to the DEM's heights as well, for other geoids.
    dem_zero : str
        Whether 0 in the DEM is a ``"height"`` or a ``"void"``; ``"auto"`` decides by the ground beside it.
    control : ControlPoints, optional
        Ground control that corrects the RPC in image space.
    reference : path, optional
        Ortho that ground control is measured against, instead.
    control_model : str
        ``"auto"``, ``"bias"`` or ``"affine"``.
    crs : str
        ``"auto"`` for the UTM zone of the centre, or a projected CRS in metres.
    centre : (float, float), optional
        Longitude and latitude that decide the UTM zone; by default the image's own centre.
    resampling : str
        A name in ``geo.ortho.warp.KERNELS``.
    threads : int, optional
        CPUs to use at most.
    executor : Executor, optional
        Where windows are made instead, see ``geo.cluster``; image and DEM must be files that it can read.
    overwrite : bool
        Replace outputs that are there.
    cog, compress
        Layout of the outputs, see ``geo.geotiff.GeoTiffWriter``.
    progress : callable, optional
        Wraps the stream of windows, given with their number.

    Returns
    -------
    Ortho

    Raises
    ------
    GridError
        No RPC and no georeference, no DEM where one is needed, a DEM elsewhere, a CRS not in metres; ground control
        for an image on a map.
    RegistrationError
        The ground control points are too few, or do not agree.
    RasterError
        The image cannot be read, or holds no good pixel.
    """
    for path in (output, quality_path(output)):
        check_free(path, overwrite=overwrite)
    with ExitStack() as opened:
        source = opened.enter_context(FileSource(image))
        heights, camera, refinement = None, None, None
        if dem is not None and not on_a_map(source):
            heights = opened.enter_context(open_dem(dem, geoid=geoid, geoid_height_m=geoid_height_m, zero=dem_zero))
        if reference is not None:
            from geo.ortho.reference import control_from_reference  # which lays images out itself

            control = control_from_reference(source, reference, heights, resolution_m=resolution_m, threads=threads)
        if control is not None:
            camera, refinement = corrected(source, control, heights, model=control_model)
        warp, share = lay_out(
            source, heights, resolution_m=resolution_m, crs=crs, centre=centre, resampling=resampling, camera=camera
        )
        opened.enter_context(one_thread_each())
        valid_share = write_windows(
            warp.stored,
            output,
            warp.grid,
            warp.bands,
            warp.encoding,
            window=WINDOW,
            nothing=RasterError(
                f"{image} holds no valid pixel on ground with a height at {warp.grid.resolution.x:g} m; expected an "
                "image that is not all nodata, and a resolution far finer than its extent"
                + ("" if resolution_m else ": give it, or get its RPC again if that is not its pixels' size")
            ),
            tags=warp.tags,
            threads=threads,
            executor=executor,
            overwrite=overwrite,
            cog=cog,
            compress=compress,
            progress=progress,
        )
    target = CRS.from_user_input(warp.grid.crs)
    code = target.to_epsg()
    name = f"EPSG:{code}" if code else target.to_wkt()
    stands_on = heights.reference if heights else None
    return Ortho(warp.grid, name, share, valid_share, stands_on, refinement)


def corrected(
    image: Source, control: ControlPoints, dem: Dem | None, *, model: str = "auto"
) -> tuple[CameraModel, Refinement]:
    """Camera model of an image, corrected by ground control; see ``geo.ortho.ground_control.refine``.

    Raises
    ------
    GridError
        The image lies on a map, or has no RPC.
    RegistrationError
        The points are too few, or do not agree.
    """
    if image.rpcs is None or on_a_map(image):
        raise GridError(
            f"{image.name} has no RPC that ground control points could correct; expected an image in sensor "
            "geometry: leave out the ground control"
        )
    camera = CameraModel.from_rpcs(image.rpcs)
    found = refine(camera, control, shape=(image.grid.shape[0], image.grid.shape[1]), dem=dem, model=model)
    return camera.corrected(found.correction), found


def lay_out(
    image: Source,
    dem: Dem | None,
    *,
    resolution_m: float | None = None,
    crs: str = "auto",
    centre: tuple[float, float] | None = None,
    resampling: str = "cubic",
    camera: CameraModel | None = None,
) -> tuple[Warp, float]:
    """Find the grid of an image's ortho, whose windows can then be made one by one.

    Parameters
    ----------
    image : Source
        With a CRS and a geotransform, or an RPC.
    dem : Dem, optional
        Needed where the image has only an RPC.
    resolution_m, crs, centre, resampling
        As in ``orthorectify``.
    camera : CameraModel, optional
        Instead of the image's own RPC, which it corrects.

    Returns
    -------
    warp : Warp
    share : float
        Share of the image whose ground has a height in the DEM.
    """
    from geo.sensors.place import own_pixel_m  # readers of products are not needed for more

    if resampling not in KERNELS:
        raise GridError(unknown_name("resampling", resampling, list(KERNELS)))
    target = None if crs == "auto" else metric_crs(crs)
    geometry = _geometry(image, dem, target or LON_LAT, camera)
    rows, cols = image.grid.shape
    lon, lat, share = ground_cover(geometry, (rows, cols))
    if target is None:
        geometry.crs = target = utm_crs(*(centre or middle(lon, lat)))
    resolution_m = resolution_m or own_pixel_m(image.rpcs, image.grid)
    if resolution_m is None:
        raise GridError(f"{image.name} does not tell the size of its pixels on the ground; give a resolution")
    grid = snapped_grid(lon, lat, target, resolution_m)
    height, width = grid.shape
    if height * width > _MOST * cols * rows:
        raise GridError(
            f"{image.name} of {cols} x {rows} pixels would become {width} x {height} "
            f"at {resolution_m:g} m; expected a resolution near the image's own: give a coarser one"
            + (", or get its RPC again" if isinstance(geometry, RpcGeometry) else "")
        )
    _tell_of_another_zone(image, target, *middle(lon, lat))
    if share < 1 and dem is not None:
        log.warning(
            "%s: the DEM %s has no heights for %.1f %% of the scene; that part becomes nodata",
            Path(image.name).name,
            dem.path,
            100 * (1 - share),
        )
    warp = Warp(image, geometry, grid, resampling)
    if isinstance(geometry, RpcGeometry):
        warp.tags = warp.tags | {
            "GEOCRACK_DEM_GEOID": geometry.dem.reference.geoid,
            "GEOCRACK_DEM_GEOID_SOURCE": geometry.dem.reference.source,
        }
        _tell_of_extrapolation(image, geometry, lon, lat)
    return warp, share


def _tell_of_another_zone(image: Source, crs: CRS, lon: float, lat: float) -> None:
    """Warn where the ground lies far outside of where a CRS is used: lengths and areas are not true there."""
    area = crs.area_of_use
    if area is None:
        return
    east = (lon - area.west + 180) % 360 - 180  # of its western edge
    width = (area.east - area.west) % 360 or 360.0
    if -_BESIDE <= east <= width + _BESIDE or east + 360 <= width + _BESIDE:
        return
    log.warning(
        "%s: lies at longitude %.1f, latitude %.1f, and %s is used from longitude %.0f to %.0f; lengths and areas are "
        "not true there (is --crs right?)",
        Path(image.name).name,
        lon,
        lat,
        crs.name,
        area.west,
        area.east,
    )


def _tell_of_extrapolation(image: Source, geometry: RpcGeometry, lon: np.ndarray, lat: np.ndarray) -> None:
    """Warn where the ground lies beyond the heights that the camera model was made for."""
    found = geometry.dem.heights(lon, lat)
    found = found[np.isfinite(found)]
    if geometry.camera.extrapolates(found).any():
        log.warning(
            "%s: the ground lies at %.0f to %.0f m above the ellipsoid, the RPC was made for %.0f to %.0f m; positions "
            "beyond are extrapolated (is the DEM in metres?)",
            Path(image.name).name,
            found.min(),
            found.max(),
            *geometry.camera.height_range,
        )


def on_a_map(image: Source) -> bool:
    """Whether an image has a place on a map already; with an RPC, a CRS alone is none."""
    return image.grid.crs is not None and not (image.rpcs is not None and image.grid.affine.is_identity)


def centre_of(image: str | os.PathLike) -> tuple[float, float]:
    """Longitude and latitude of the middle of an image, at its camera model's mean height."""
    with FileSource(image) as source:
        row, col = (np.array([side / 2]) for side in source.grid.shape)
        if source.rpcs is not None and not on_a_map(source):
            camera = CameraModel.from_rpcs(source.rpcs)
            lon, lat = camera.to_ground(col, row, camera.mean_height)
        else:
            lon, lat, _ = _geometry(source, None, LON_LAT).to_ground(col, row)
    return float(lon[0]), float(lat[0])


def _geometry(image: Source, dem: Dem | None, crs: CRS, camera: CameraModel | None = None) -> MapGeometry | RpcGeometry:
    """How this image lies on the ground."""
    if on_a_map(image):
        rows, cols = image.grid.shape
        if image.grid.affine.is_degenerate:
            raise GridError(f"{image.name} has a geotransform without an area; expected pixels with a size")
        if image.rpcs is not None:
            log.warning("%s: has a place on a map and an RPC; the place is taken, the RPC is not used", image.name)
        return MapGeometry(image.grid.affine, (rows, cols), CRS.from_user_input(image.grid.crs), crs)
    if image.rpcs is None:
        raise GridError(
            f"{image.name} has neither an RPC nor a CRS; expected one of them: "
            "put its .rpb or _rpc.txt file beside it, under the same name"
        )
    if dem is None:
        raise GridError(f"{image.name} has an RPC and no CRS, so heights are needed; give a DEM with --dem")
    return RpcGeometry(camera or CameraModel.from_rpcs(image.rpcs), dem, crs)
