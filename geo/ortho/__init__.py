"""Orthorectification: an image in sensor geometry, or in any CRS, to a snapped UTM grid, window by window."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.windows import Window

from geo.atomic import check_free, together
from geo.errors import GridError, RasterError, unknown_name
from geo.masks import QUALITY, Quality, quality_path
from geo.ortho.dem import LON_LAT, Dem, horizontal, open_dem, transform
from geo.ortho.geometry import (
    Geometry,
    MapGeometry,
    Positions,
    RpcGeometry,
    ground_cover,
    lattice,
    metric_crs,
    snapped_grid,
    utm_crs,
)
from geo.ortho.rpc import CameraModel
from geo.ortho.warp import (
    KERNELS,
    Readers,
    encoding_of,
    one_thread_each,
    reach,
    resample,
    resample_flags,
    shrink,
    shrink_flags,
)
from geo.raster import Encoding, GeoTiffWriter, open_raster
from geo.stream import cpus, stream
from geo.windows import blocks

log = logging.getLogger(__name__)

#: Side of an output window in pixels; a multiple of the writer's blocks.
WINDOW = 1024
#: Output pixels per image pixel beyond which the resolution must be a mistake.
_MOST = 400

Result = TypeVar("Result")
Progress = Callable[[Iterable[Result], int], Iterable[Result]]


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
    """

    geobox: GeoBox
    crs: str
    dem_share: float
    valid_share: float


def orthorectify(
    image: str | os.PathLike,
    output: str | os.PathLike,
    *,
    resolution_m: float,
    dem: str | os.PathLike | None = None,
    geoid: str = "none",
    geoid_height_m: float = 0.0,
    crs: str = "auto",
    centre: tuple[float, float] | None = None,
    resampling: str = "cubic",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
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
    resolution_m : float
        Side of an output pixel in metres.
    dem : path, optional
        Needed where the image has only an RPC.
    geoid : str
        ``"egm96"`` or ``"egm2008"`` where the DEM's heights stand on that geoid, ``"none"`` where on the ellipsoid.
    geoid_height_m : float
        Added to the DEM's heights as well, for other geoids.
    crs : str
        ``"auto"`` for the UTM zone of the centre, or a projected CRS in metres.
    centre : (float, float), optional
        Longitude and latitude that decide the UTM zone; by default the image's own centre.
    resampling : str
        A name in ``geo.ortho.warp.KERNELS``.
    threads : int, optional
        CPUs to use at most.
    overwrite : bool
        Replace outputs that are there.
    progress : callable, optional
        Wraps the stream of windows, given with their number.

    Returns
    -------
    Ortho

    Raises
    ------
    GridError
        No RPC and no georeference, no DEM where one is needed, a DEM elsewhere, a CRS not in metres.
    RasterError
        The image cannot be read, or holds no good pixel.
    """
    if resampling not in KERNELS:
        raise GridError(unknown_name("resampling", resampling, list(KERNELS)))
    quality, workers = quality_path(output), cpus(threads)
    for path in (output, quality):
        check_free(path, overwrite=overwrite)
    with ExitStack() as opened:
        src = opened.enter_context(open_raster(image))
        heights = None
        if dem is not None and src.crs is None:
            heights = opened.enter_context(open_dem(dem, geoid=geoid, geoid_height_m=geoid_height_m))
        target = None if crs == "auto" else metric_crs(crs)
        geometry = _geometry(src, heights, target or LON_LAT)
        lon, lat, share = ground_cover(geometry, src.shape)
        if target is None:
            geometry.crs = target = utm_crs(*(centre or (float(np.median(lon)), float(np.median(lat)))))
        geobox = snapped_grid(lon, lat, target, resolution_m)
        height, width = geobox.shape
        if height * width > _MOST * src.width * src.height:
            raise GridError(
                f"{image} of {src.width} x {src.height} pixels would become {width} x {height} "
                f"at {resolution_m:g} m; expected a resolution near the image's own: give a coarser one"
            )
        if share < 1:
            log.warning(
                "%s: the DEM %s has no heights for %.1f %% of the scene; that part becomes nodata",
                Path(image).name,
                dem,
                100 * (1 - share),
            )
        warp = _Warp(image, src, geometry, geobox, resampling, opened, workers)
        encoding = encoding_of(src)
        tags = {k: v for k, v in src.tags().items() if k.startswith("GEOCRACK_")}
        opened.enter_context(one_thread_each())
        good = 0
        with (
            together(Path(output), quality),
            GeoTiffWriter(
                quality, geobox, ["quality"], QUALITY, overwrite=overwrite, resampling="nearest", tags=tags
            ) as quality_writer,
            GeoTiffWriter(output, geobox, band_names(src), encoding, overwrite=overwrite, tags=tags) as writer,
        ):
            windows = list(blocks((height, width), WINDOW))
            done = stream(lambda w: warp(w, encoding), windows, workers=workers)
            for window, (stored, flags) in progress(done, len(windows)) if progress else done:
                writer.write_stored(stored, window)
                quality_writer.write_stored(flags, window)
                good += int(np.count_nonzero((flags & int(Quality.NODATA)) == 0))
            if not good:
                raise RasterError(
                    f"{image} holds no valid pixel on ground with a height; expected an image that is not all nodata"
                )
    code = target.to_epsg()
    return Ortho(geobox, f"EPSG:{code}" if code else target.to_wkt(), share, good / (height * width))


def centre_of(image: str | os.PathLike) -> tuple[float, float]:
    """Longitude and latitude of the middle of an image, at its camera model's mean height."""
    with open_raster(image) as src:
        col, row = np.array([src.width / 2]), np.array([src.height / 2])
        if src.crs is None and src.rpcs is not None:
            camera = CameraModel.from_rpcs(src.rpcs)
            lon, lat = camera.to_ground(col, row, camera.mean_height)
        else:
            lon, lat, _ = _geometry(src, None, LON_LAT).to_ground(col, row)
    return float(lon[0]), float(lat[0])


def band_names(src: rasterio.DatasetReader) -> list[str]:
    """Names of the bands but alpha; ``band1`` and so on where the file has none."""
    alpha = rasterio.enums.ColorInterp.alpha
    named = zip(src.indexes, src.descriptions, src.colorinterp, strict=True)
    return [name or f"band{number}" for number, name, colour in named if colour != alpha]


def _geometry(src: rasterio.DatasetReader, dem: Dem | None, crs: CRS) -> MapGeometry | RpcGeometry:
    """How this image lies on the ground."""
    if src.crs is not None:
        return MapGeometry(src.transform, CRS.from_user_input(src.crs), crs)
    if src.rpcs is None:
        raise GridError(
            f"{src.name} has neither an RPC nor a CRS; expected one of them: "
            "put its .rpb or _rpc.txt file beside it, under the same name"
        )
    if dem is None:
        raise GridError(f"{src.name} has an RPC and no CRS, so heights are needed; give a DEM with --dem")
    return RpcGeometry(CameraModel.from_rpcs(src.rpcs), dem, crs)


class _Warp:
    """Resample output windows of one image; called from several threads."""

    def __init__(
        self,
        image: str | os.PathLike,
        src: rasterio.DatasetReader,
        geometry: Geometry,
        geobox: GeoBox,
        resampling: str,
        opened: ExitStack,
        workers: int,
    ):
        self.geometry, self.geobox, self.resampling = geometry, geobox, resampling
        self.shape, self.bands = src.shape, len(band_names(src))
        self.factor = _factor(geometry, src.shape, geobox)
        self.image = opened.enter_context(Readers(image, workers))

    def __call__(self, window: Window, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
        """Make the stored values and the flags of a window."""
        positions = self.geometry.positions(self.geobox, window)
        source = self._source(positions)
        shape = (window.height, window.width)
        if source is None:
            nothing = np.full((self.bands, *shape), np.nan, np.float32)
            return encoding.encode(nothing), np.full(shape, int(Quality.NODATA), np.uint8)
        col, row = positions.col, positions.row  # ours alone: changed in place
        col += np.float32(positions.origin[0] - source.col_off)
        row += np.float32(positions.origin[1] - source.row_off)
        if self.factor > 1:
            col /= np.float32(self.factor)
            row /= np.float32(self.factor)
        values, valid, flags = self.image.read(source)
        if self.factor > 1:
            values, valid = shrink(values, valid, self.factor)
            flags = shrink_flags(flags, self.factor)
        values, good = resample(values, valid, col, row, self.resampling)
        return encoding.encode(values), resample_flags(flags, col, row, good)

    def _source(self, positions: Positions) -> Window | None:
        """Image window around the positions, in whole blocks of ``factor`` pixels; None if they lie outside."""
        edges = []
        for local, origin, length in (
            (positions.col, positions.origin[0], self.shape[1]),
            (positions.row, positions.origin[1], self.shape[0]),
        ):
            low, high = np.fmin.reduce(local, axis=None) + origin, np.fmax.reduce(local, axis=None) + origin
            if not (high > 0 and low < length):
                return None
            margin = reach(self.resampling)
            first = max(int(np.floor(low / self.factor)), 0) - margin
            last = min(int(np.ceil(high / self.factor)), -(-length // self.factor)) + margin
            edges.append((first * self.factor, (last - first) * self.factor))
        (left, width), (top, height) = edges
        return Window(left, top, width, height)


def _factor(geometry: Geometry, shape: tuple[int, int], geobox: GeoBox) -> int:
    """Image pixels that one output pixel spans, in whole numbers: so many are averaged before they are sampled."""
    col, row = (a[32:34, 32:34] for a in lattice(shape))
    lon, lat, _ = geometry.to_ground(col, row)
    x, y = transform(LON_LAT, horizontal(CRS.from_user_input(geobox.crs)), lon, lat)
    area = abs((x[0, 1] - x[0, 0]) * (y[1, 0] - y[0, 0]) - (x[1, 0] - x[0, 0]) * (y[0, 1] - y[0, 0]))
    pixels = (col[0, 1] - col[0, 0]) * (row[1, 0] - row[0, 0])
    ratio = abs(geobox.affine.a) / np.sqrt(area / pixels)
    return max(1, int(ratio + 0.1)) if np.isfinite(ratio) else 1
