"""Resampling by window: values and flags of a source window at computed positions.

Positions are GDAL pixel coordinates (the centre of the first pixel is (0.5, 0.5)) counted from the window's
first pixel. Nodata never bleeds: where its weight matters the result is nodata, and where a wide kernel
touches it lightly, the values of the nearest good pixels stand in for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from pyproj import CRS
from rasterio.windows import Window

from geo import kernels
from geo.geobox import GeoBox
from geo.masks import Quality
from geo.ortho.dem import LON_LAT, horizontal, transform
from geo.ortho.geometry import Geometry, Positions, lattice
from geo.source import Source
from geo.windows import clip, slices

#: OpenCV's kernel, and how many pixels it reaches beyond the nearest two.
KERNELS = {"bilinear": (cv2.INTER_LINEAR, 0), "cubic": (cv2.INTER_CUBIC, 1), "lanczos": (cv2.INTER_LANCZOS4, 3)}
#: Bilinear weight of nodata up to which a pixel is still good.
TOLERANCE = 0.05
#: A pixel's flags count where it lies within this distance of the position, beside the nearest pixel's.
FLAG_REACH = 0.25


def reach(resampling: str) -> int:
    """Pixels to read around the positions' range on each side: the kernel's, and those that stand in for nodata."""
    return 2 * (KERNELS[resampling][1] + 1) + 2


def resample(
    values: np.ndarray, valid: np.ndarray, col: np.ndarray, row: np.ndarray, resampling: str = "cubic"
) -> tuple[np.ndarray, np.ndarray]:
    """Values at positions, and where they are good.

    Parameters
    ----------
    values : ndarray of float32, shape (bands, height, width)
        Source window; what it holds where not valid does not matter.
    valid : ndarray of bool, shape (height, width)
        True where the source is good.
    col, row : ndarray of float, shape (rows, cols)
        GDAL pixel coordinates in the source window; NaN has no position. Where the grids are parallel, (1, cols)
        and (rows, 1) are enough, and cubic interpolation is ten times as fast.
    resampling : str
        ``"bilinear"``, ``"cubic"`` (OpenCV's, a = -0.75) or ``"lanczos"`` (8 x 8).

    Returns
    -------
    values : ndarray of float32, shape (bands, rows, cols)
        NaN where not good.
    good : ndarray of bool, shape (rows, cols)
        False where nodata or the outside of the window has a bilinear weight over ``TOLERANCE``.
    """
    kernel, _ = KERNELS[resampling]
    parallel = resampling == "cubic" and col.shape[0] == 1 and row.shape[1] == 1
    if not parallel:
        col, row = whole(col, row)
    values, good = filled(values, valid, col, row, resampling)
    x, y = col - np.float32(0.5), row - np.float32(0.5)
    result: np.ndarray = np.empty((len(values), *good.shape), np.float32)
    if parallel:
        across, down = kernels.cubic_weights(x[0]), kernels.cubic_weights(y[:, 0])
        kernels.cubic(np.ascontiguousarray(values), *across, *down, result)
    else:
        x, y = _somewhere(x), _somewhere(y)
        for band, out in zip(values, result, strict=True):
            cv2.remap(band, x, y, kernel, dst=out, borderMode=cv2.BORDER_REPLICATE)
    if not good.all():
        for band in result:
            np.copyto(band, np.float32(np.nan), where=~good)
    return result, good


def _somewhere(positions: np.ndarray) -> np.ndarray:
    """Positions with those that are NaN far outside the image, where OpenCV can do with them."""
    missing = np.isnan(positions)
    return np.where(missing, np.float32(-10), positions) if missing.any() else positions


def filled(
    values: np.ndarray, valid: np.ndarray, col: np.ndarray, row: np.ndarray, resampling: str = "cubic"
) -> tuple[np.ndarray, np.ndarray]:
    """Make ready to interpolate: good values stand in for nodata beside them, and where positions are good.

    Parameters and ``good`` are those of ``resample``; the values keep their shape and are finite near good ones.
    """
    _, halo = KERNELS[resampling]
    x, y = col - np.float32(0.5), row - np.float32(0.5)
    height, width = valid.shape
    inside = x.min() >= halo and y.min() >= halo and x.max() <= width - 1 - halo and y.max() <= height - 1 - halo
    if inside and valid.all():  # not so where a position is NaN
        return values, np.ones(np.broadcast_shapes(x.shape, y.shape), bool)
    rows: np.ndarray = np.any(valid, axis=1, keepdims=True)
    cols: np.ndarray = np.any(valid, axis=0, keepdims=True)
    if x.shape[0] == y.shape[1] == 1 and np.array_equal(valid, rows & cols):
        # as at a scene's edge a rectangle is good: the weight is that of columns by that of rows
        good = _enough(_weight(rows, np.zeros_like(y), y), _weight(cols, x, np.zeros_like(x)))
    else:
        good = _weight(valid, *whole(x, y)) >= 1 - TOLERANCE
    if not valid.all():
        values = spread(values, valid, halo + 1)
    return values, good


def _enough(down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Where the product of weights of rows (m, 1) and columns (1, n) is enough: shape (m, n)."""
    least = 1 - TOLERANCE
    good: np.ndarray = (down >= least) & (across >= least)
    between = np.flatnonzero((down >= least) & (down < 1))  # few: elsewhere the columns decide alone
    good[between] = down[between] * across >= least
    return good


def _weight(valid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear weight of what is valid at positions; the outside is not."""
    x, y = (_somewhere(np.ascontiguousarray(a, np.float32)) for a in (x, y))
    return cv2.remap(valid.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def whole(col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of every pixel, float32, where only those of columns (1, n) and rows (m, 1) are given."""
    if col.shape != row.shape:
        col, row = np.broadcast_arrays(col, row)
    return np.ascontiguousarray(col, np.float32), np.ascontiguousarray(row, np.float32)


def spread(values: np.ndarray, valid: np.ndarray, distance: int) -> np.ndarray:
    """Let good values grow into nodata by some pixels, as means of their good neighbours; beyond is 0.

    Parameters
    ----------
    values : ndarray of float32, shape (bands, height, width)
    valid : ndarray of bool, shape (height, width)
    distance : int
        Pixels to grow by.

    Returns
    -------
    ndarray of float32
        Equal to ``values`` where valid, and finite everywhere.
    """
    known = valid.astype(np.float32)
    filled = np.where(valid, values, np.float32(0))
    for _ in range(distance):
        count = cv2.boxFilter(known, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        new = (known == 0) & (count > 0.5)
        for band in filled:
            total = cv2.boxFilter(band, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
            band[new] = total[new] / count[new]
        known[new] = 1
    return filled


def resample_flags(flags: np.ndarray, col: np.ndarray, row: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Quality flags at positions: of the nearest pixel, joined by OR with those nearly as near.

    Parameters
    ----------
    flags : ndarray of uint8, shape (height, width)
        Flags of the source window.
    col, row : ndarray of float
        GDAL pixel coordinates in the source window, as in ``resample``.
    good : ndarray of bool
        Where the resampled values are good: ``NODATA`` is set just where they are not.

    Returns
    -------
    ndarray of uint8
    """
    result = np.zeros(good.shape, np.uint8)
    nodata = np.uint8(Quality.NODATA)
    if (flags & ~nodata).any():
        col, row = whole(col, row)
        x, y = _somewhere(col - np.float32(0.5)), _somewhere(row - np.float32(0.5))
        for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            at = np.float32(dx * FLAG_REACH), np.float32(dy * FLAG_REACH)
            near = cv2.remap(flags, x + at[0], y + at[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
            result |= near.astype(np.uint8, copy=False)
        result &= ~nodata
    if not good.all():
        result[~good] |= nodata
    return result


def shrink(values: np.ndarray, valid: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of blocks of ``factor`` x ``factor`` pixels, so that a coarser grid does not alias.

    Parameters
    ----------
    values : ndarray of float32, shape (bands, height, width)
        Height and width are multiples of ``factor``.
    valid : ndarray of bool, shape (height, width)
    factor : int

    Returns
    -------
    values : ndarray of float32, shape (bands, height / factor, width / factor)
    valid : ndarray of bool
        True where all pixels of the block are.
    """
    bands, height, width = values.shape
    cut = height // factor, factor, width // factor, factor
    return values.reshape(bands, *cut).mean(axis=(2, 4)), np.all(valid.reshape(cut), axis=(1, 3))


def shrink_flags(flags: np.ndarray, factor: int) -> np.ndarray:
    """Join the flags of each block of ``factor`` x ``factor`` pixels by OR."""
    height, width = flags.shape
    return np.bitwise_or.reduce(flags.reshape(height // factor, factor, width // factor, factor), axis=(1, 3))


class Warp:
    """An image laid on a map grid, window by window; a source as any other, and safe to call from several threads.

    Parameters
    ----------
    image : Source
    geometry : Geometry
        How the image lies on the ground.
    grid : GeoBox
        Of the output.
    resampling : str
        A name in ``KERNELS``.
    """

    rpcs = None

    def __init__(self, image: Source, geometry: Geometry, grid: GeoBox, resampling: str):
        self.image, self.geometry, self.grid, self.resampling = image, geometry, grid, resampling
        self.name, self.bands, self.encoding, self.tags = image.name, image.bands, image.encoding, image.tags
        self.factor = _factor(geometry, image.grid, grid)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a window as if the ortho had been written and read again."""
        inside = clip(window, (self.grid.shape[0], self.grid.shape[1]))
        shape = (window.height, window.width)
        values = np.full((len(self.bands), *shape), np.nan, np.float32)
        flags = np.full(shape, int(Quality.NODATA), np.uint8)
        if inside.width and inside.height:
            at = slices(inside, window)
            stored, flags[at] = self.stored(inside)
            values[:, *at] = self.encoding.decode(stored)
        return values, (flags & int(Quality.NODATA)) == 0, flags

    def stored(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Make the stored values and the flags of a window inside the grid."""
        positions = self.geometry.positions(self.grid, window)
        source = self._source(positions)
        shape = (window.height, window.width)
        if source is None:
            nothing = np.full((len(self.bands), *shape), np.nan, np.float32)
            return self.encoding.encode(nothing), np.full(shape, int(Quality.NODATA), np.uint8)
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
        return self.encoding.encode(values), resample_flags(flags, col, row, good)

    def _source(self, positions: Positions) -> Window | None:
        """Image window around the positions, in whole blocks of ``factor`` pixels; None if they lie outside."""
        edges = []
        for local, origin, length in zip(
            (positions.col, positions.row), positions.origin, self.image.grid.shape[::-1], strict=True
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


def _factor(geometry: Geometry, image: GeoBox, geobox: GeoBox) -> int:
    """Image pixels that one output pixel spans, in whole numbers: so many are averaged before they are sampled."""
    col, row = (a[32:34, 32:34] for a in lattice((image.shape[0], image.shape[1])))
    lon, lat, _ = geometry.to_ground(col, row)
    x, y = transform(LON_LAT, horizontal(CRS.from_user_input(geobox.crs)), lon, lat)
    area = abs((x[0, 1] - x[0, 0]) * (y[1, 0] - y[0, 0]) - (x[1, 0] - x[0, 0]) * (y[0, 1] - y[0, 0]))
    pixels = (col[0, 1] - col[0, 0]) * (row[1, 0] - row[0, 0])
    ratio = abs(geobox.affine.a) / np.sqrt(area / pixels)
    return max(1, int(ratio + 0.1)) if np.isfinite(ratio) else 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own under ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
