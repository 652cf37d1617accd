"""Heights of the ground, from a DEM in any CRS, for points given in any other.

A height is interpolated bilinearly between the centres of the DEM's pixels. A point outside the DEM, or with a
void among its four neighbours, has the height NaN. DEMs such as SRTM and Copernicus give heights above the
geoid, camera models want them above the ellipsoid: the difference is added here, once. What the numbers of a DEM
stand on and which of them are heights, ``geo.ortho.heights`` finds out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import cv2
import numpy as np
import rasterio
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.windows import Window

from geo.errors import GridError
from geo.geoid import undulation
from geo.mosaic import check_one_band
from geo.ortho.heights import RIM, HeightReference, height_reference, usable
from geo.raster import open_raster, read
from geo.windows import clip

#: Longitude and latitude, as camera models want them.
LON_LAT = CRS.from_epsg(4326)
#: Pixels of DEM that are read at once at most, along one side.
_LARGEST = 4096
_ROW = 1024
#: Where the centre of a pixel lies in it.
CENTRE = 0.5
_thread = threading.local()
Number = TypeVar("Number", float, np.ndarray)


@contextmanager
def open_dem(
    path: str | os.PathLike, *, geoid: str | None = "auto", geoid_height_m: float = 0.0, zero: str = "auto"
) -> Iterator[Dem]:
    """Open a DEM.

    Parameters
    ----------
    path : path
        Raster of one band of heights; its scale, offset, unit, nodata and mask are honoured.
    geoid : str, optional
        ``"egm96"`` or ``"egm2008"`` where its heights stand on that geoid: the undulation is added. ``"none"``
        where they stand on the ellipsoid; ``"auto"`` asks the vertical part of the DEM's CRS. None leaves them as they
        are, whatever they stand on.
    geoid_height_m : float
        Added to every height as well, for other geoids.
    zero : str
        Whether 0 is a ``"height"`` or a ``"void"``; ``"auto"`` decides by the ground beside it.

    Raises
    ------
    RasterError
        It cannot be read, or has more than one band.
    GridError
        It has no CRS or no place in it, or stands on a vertical datum that is not known.
    """
    # the vertical part of a GeoTIFF's CRS is passed over by GDAL unless asked for
    with rasterio.Env(GTIFF_REPORT_COMPD_CS=True), open_raster(path) as src:
        check_one_band(src, "heights, a DEM")
        if src.crs is None:
            raise GridError(
                f"the DEM {path} has no CRS; expected a georeferenced raster: assign its CRS (gdal_edit.py)"
            )
        if np.issubdtype(np.dtype(src.dtypes[0]), np.complexfloating):
            raise GridError(f"the DEM {path} holds complex numbers; expected heights: give another file")
        crs = CRS.from_user_input(src.crs)
        if src.transform.is_identity or not (_flat(crs).is_geographic or _flat(crs).is_projected):
            missing = "no geotransform" if src.transform.is_identity else f"the local CRS '{crs.name}'"
            raise GridError(
                f"the DEM {path} has {missing}; expected a place on the earth: assign it (gdal_edit.py -a_ullr, -a_srs)"
            )
        yield Dem(src, height_reference(src, geoid=geoid, geoid_height_m=geoid_height_m, zero=zero))


class Dem:
    """An opened DEM; safe to use from several threads.

    Parameters
    ----------
    src : rasterio dataset
        With a CRS; of a compound or three-dimensional CRS the horizontal part is used.
    reference : HeightReference, optional
        What its numbers mean; by default metres above the ellipsoid.
    """

    def __init__(self, src: rasterio.DatasetReader, reference: HeightReference | None = None):
        self._start(src, reference or HeightReference())

    def _start(self, src: rasterio.DatasetReader, reference: HeightReference) -> None:
        self.src = src
        self.reference = reference
        self.crs = horizontal(CRS.from_user_input(src.crs))
        self._to_pixel = ~src.transform
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """For workers in other processes: the file is opened there again."""
        return {"path": self.path, "reference": self.reference}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with rasterio.Env(GTIFF_REPORT_COMPD_CS=True):
            self._start(rasterio.open(state["path"]), state["reference"])

    @property
    def path(self) -> str:
        """Name of its file."""
        return self.src.name

    def pixel_coordinates(self, x: np.ndarray, y: np.ndarray, crs: CRS) -> tuple[np.ndarray, np.ndarray]:
        """Where points lie in the DEM, in GDAL pixel coordinates; NaN where they cannot be transformed."""
        x, y = transform(crs, self.crs, x, y)
        if self.crs.is_geographic:
            middle, _ = apply(self.src.transform, self.src.width / 2, self.src.height / 2)
            x = around(x, middle)
        return apply(self._to_pixel, x, y)

    def heights(self, x: np.ndarray, y: np.ndarray, crs: CRS = LON_LAT) -> np.ndarray:
        """Heights of points.

        Parameters
        ----------
        x, y : ndarray of float
            Easting and northing, or longitude and latitude in degrees.
        crs : pyproj CRS
            Of the points.

        Returns
        -------
        ndarray of float32, same shape
            Metres above the ellipsoid, NaN in voids and outside the DEM.
        """
        shape = np.shape(x)
        col, row = self.pixel_coordinates(np.ravel(x), np.ravel(y), crs)
        return self.sample(col, row).reshape(shape)

    def sample(self, col: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Heights at pixel coordinates of the DEM; only the part around the points is read.

        Parameters
        ----------
        col, row : ndarray of float
            GDAL pixel coordinates. Points that lie far apart are read in groups.

        Returns
        -------
        ndarray of float32, same shape
        """
        height, width = self.src.height, self.src.width
        with np.errstate(invalid="ignore"):
            inside = (col >= 0) & (col <= width) & (row >= 0) & (row <= height)
        if not inside.any():
            return np.full(col.shape, np.nan, np.float32)
        # within the outer half pixel the nearest centre's height holds
        col = np.clip(np.where(inside, col, np.nan), CENTRE, width - CENTRE)
        row = np.clip(np.where(inside, row, np.nan), CENTRE, height - CENTRE)
        left, right = np.nanmin(col), np.nanmax(col)
        top, bottom = np.nanmin(row), np.nanmax(row)
        if max(right - left, bottom - top) > _LARGEST:
            along, middle = (col, (left + right) / 2) if right - left > bottom - top else (row, (top + bottom) / 2)
            with np.errstate(invalid="ignore"):
                near = along < middle
            result = np.full(col.shape, np.nan, np.float32)
            for part in (near, inside & ~near):
                result[part] = self.sample(col[part], row[part])
            return result
        values, valid, origin = self._patch(left, top, right, bottom)
        return _bilinear(values, valid, col - origin[0], row - origin[1])

    def sample_smooth(
        self, col: np.ndarray, row: np.ndarray, to_pixels: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Heights of all pixels of a window whose DEM coordinates are given at nodes.

        Parameters
        ----------
        col, row : ndarray of float64
            GDAL pixel coordinates of the DEM at the nodes.
        to_pixels : callable
            Interpolates values at nodes to pixels.

        Returns
        -------
        ndarray of float32, shape of the pixels
        """
        left, right, top, bottom = col.min(), col.max(), row.min(), row.max()
        far = max(right - left, bottom - top) > _LARGEST
        at_edge = not (
            left >= CENTRE and top >= CENTRE and right <= self.src.width - CENTRE and bottom <= self.src.height - CENTRE
        )
        if far or at_edge:  # also where a node has no place
            return self.sample(to_pixels(col), to_pixels(row))
        values, valid, origin = self._patch(left, top, right, bottom)
        return _bilinear(
            values,
            valid,
            to_pixels((col - origin[0]).astype(np.float32)),
            to_pixels((row - origin[1]).astype(np.float32)),
        )

    def _patch(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Ellipsoidal heights around a range of pixel coordinates, where they are known, and the first pixel."""
        more = RIM if self.reference.zero_is_void else 0
        first_col, first_row = int(left) - 1 - more, int(top) - 1 - more
        window = Window(first_col, first_row, int(right) - first_col + 2 + more, int(bottom) - first_row + 2 + more)
        window = clip(window, (self.src.height, self.src.width))
        with self._lock:
            values, valid = read(self.src, window, bands=[1])
        heights = values[0] * np.float32(self.reference.unit_m)
        valid = usable(heights, valid, self.reference)
        if self.reference.zero_is_void:  # what mixed voids into their rim has mixed the outside into the edge
            rows = np.arange(window.row_off, window.row_off + window.height)
            cols = np.arange(window.col_off, window.col_off + window.width)
            valid &= ((rows > 0) & (rows < self.src.height - 1))[:, None] & (cols > 0) & (cols < self.src.width - 1)
        return heights + self._above_ellipsoid(window), valid, (window.col_off, window.row_off)

    def _above_ellipsoid(self, window: Window) -> np.ndarray | np.float32:
        """Metres to add to the heights of a window; the geoid is so smooth that 33 nodes a side give centimetres."""
        added = np.float32(self.reference.geoid_height_m)
        if self.reference.geoid == "none":
            return added
        rows = np.linspace(window.row_off, window.row_off + window.height - 1, 33)
        cols = np.linspace(window.col_off, window.col_off + window.width - 1, 33)
        x, y = apply(self.src.transform, *np.meshgrid(cols + CENTRE, rows + CENTRE))
        nodes = undulation(*transform(self.crs, LON_LAT, x, y), model=self.reference.geoid)
        at_row, at_col = (np.linspace(0, 32, side, dtype=np.float32) for side in (window.height, window.width))
        smooth = cv2.remap(nodes.astype(np.float32), *np.meshgrid(at_col, at_row), cv2.INTER_LINEAR)
        return smooth + added

    @cached_property
    def typical_height(self) -> float:
        """Median of a sample of its heights, to begin iterations with; NaN if all of the sample is void."""
        col, row = np.meshgrid(
            (np.arange(33) + CENTRE) / 33 * self.src.width, (np.arange(33) + CENTRE) / 33 * self.src.height
        )
        found = self.sample(col, row)
        return float(np.nanmedian(found)) if np.isfinite(found).any() else float("nan")

    def extent(self) -> str:
        """Its extent in degrees, for messages."""
        bounds = self.src.bounds
        left, bottom, right, top = Transformer.from_crs(self.crs, LON_LAT, always_xy=True).transform_bounds(*bounds)
        return degrees(left, bottom, right, top)


def horizontal(crs: CRS) -> CRS:
    """Horizontal part of a compound or three-dimensional CRS; other CRSs as they are."""
    while crs.is_compound:
        crs = crs.sub_crs_list[0]
    return crs.to_2d()


def _flat(crs: CRS) -> CRS:
    """CRS that says whether it is geographic or projected, of a compound one or one bound to a datum shift."""
    crs = horizontal(crs)
    return crs.source_crs or crs if crs.is_bound else crs


def around(lon: np.ndarray, middle: float) -> np.ndarray:
    """Longitudes, in degrees, moved by whole turns: each near the first of them, and that one near the middle.

    So points on both sides of the antimeridian lie beside each other, in a DEM from 179 to 181 degrees as well.
    """
    known = np.isfinite(lon)
    if not known.any():
        return lon
    first = lon[known].flat[0]
    if np.ptp(lon[known]) < 180 and abs(first - middle) < 180:
        return lon
    with np.errstate(invalid="ignore"):
        return middle + ((first - middle + 180) % 360 - 180) + ((lon - first + 180) % 360 - 180)


def transform(src: CRS, dst: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of points in another CRS, x before y; NaN where they have none.

    PROJ's transformers must not be shared by threads and cost some milliseconds to make: each thread keeps its own.
    """
    made = _thread.__dict__.setdefault("transformers", {})
    key = src.srs, dst.srs
    if key not in made:
        made[key] = Transformer.from_crs(src, dst, always_xy=True)
    x, y = (np.asarray(v, float) for v in made[key].transform(x, y))
    lost = ~(np.isfinite(x) & np.isfinite(y))
    return (np.where(lost, np.nan, x), np.where(lost, np.nan, y)) if lost.any() else (x, y)


def apply(affine: Affine, x: Number, y: Number) -> tuple[Number, Number]:
    """Coordinates of points through an affine transform."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def degrees(left: float, bottom: float, right: float, top: float) -> str:
    """Sentence part that names an extent: ``longitude 103.4 to 103.6, latitude 31.2 to 31.4``."""
    return f"longitude {left:.4f} to {right:.4f}, latitude {bottom:.4f} to {top:.4f}"


def _bilinear(values: np.ndarray, valid: np.ndarray, col: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Bilinear interpolation that never mixes a void into a height; NaN there and at NaN coordinates."""
    shape, flat = col.shape, col.ndim != 2
    if flat:  # OpenCV limits the length of a row
        pad = -col.size % _ROW
        col, row = (np.pad(np.ravel(a), (0, pad)).reshape(-1, _ROW) for a in (col, row))
    x, y = (a.astype(np.float32) - np.float32(CENTRE) for a in (col, row))
    missing = ~np.isfinite(x + y)
    if missing.any():
        x, y = np.where(missing, np.float32(0), x), np.where(missing, np.float32(0), y)
    if valid.all():
        found = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    else:
        known = valid.astype(np.float32)
        weight = cv2.remap(known, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found = cv2.remap(np.where(valid, values, 0), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        missing |= weight < 0.999
        found = found / np.where(missing, 1, weight)
    if missing.any():
        found[missing] = np.nan
    return found.ravel()[: int(np.prod(shape))].reshape(shape) if flat else found
