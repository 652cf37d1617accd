"""Resampling by window: values and flags of a source window at computed positions.

Positions are GDAL pixel coordinates (the centre of the first pixel is (0.5, 0.5)) counted from the window's
first pixel. Nodata never bleeds: where its weight matters the result is nodata, and where a wide kernel
touches it lightly, the values of the nearest good pixels stand in for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import LifoQueue
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from geo.errors import GridError, RasterError
from geo.masks import Quality, quality_path
from geo.raster import Encoding, open_raster, read
from geo.windows import clip, slices

#: OpenCV's kernel, and how many pixels it reaches beyond the nearest two.
KERNELS = {"bilinear": (cv2.INTER_LINEAR, 0), "cubic": (cv2.INTER_CUBIC, 1), "lanczos": (cv2.INTER_LANCZOS4, 3)}
#: Bilinear weight of nodata up to which a pixel is still good.
TOLERANCE = 0.05
#: A pixel's flags count where it lies within this distance of the position, beside the nearest pixel's.
FLAG_REACH = 0.25
#: OpenCV's remap takes positions and sources up to this size.
LARGEST = 32766


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
    col, row : ndarray of float32, shape (rows, cols)
        GDAL pixel coordinates in the source window; NaN has no position.
    resampling : str
        ``"bilinear"``, ``"cubic"`` (OpenCV's, a = -0.75) or ``"lanczos"`` (8 x 8). Apart from bilinear, OpenCV
        rounds positions to 1/32 pixel.

    Returns
    -------
    values : ndarray of float32, shape (bands, rows, cols)
        NaN where not good.
    good : ndarray of bool, shape (rows, cols)
        False where nodata or the outside of the window has a bilinear weight over ``TOLERANCE``.
    """
    kernel, halo = KERNELS[resampling]
    x, y = col - np.float32(0.5), row - np.float32(0.5)
    placed = np.isfinite(x) & np.isfinite(y)
    if not placed.all():
        x, y = np.where(placed, x, np.float32(-10)), np.where(placed, y, np.float32(-10))
    height, width = valid.shape
    within = x.min() >= halo and y.min() >= halo and x.max() <= width - 1 - halo and y.max() <= height - 1 - halo
    if within and valid.all():
        good = placed
    else:
        weight = cv2.remap(valid.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        good = placed & (weight >= 1 - TOLERANCE)
        if not valid.all():
            values = np.stack([spread(v, valid, halo + 1) for v in values])
    result = np.empty((len(values), *col.shape), np.float32)
    for band, out in zip(values, result, strict=True):
        cv2.remap(band, x, y, kernel, dst=out, borderMode=cv2.BORDER_REPLICATE)
    if not good.all():
        result[:, ~good] = np.nan
    return result, good


def spread(values: np.ndarray, valid: np.ndarray, distance: int) -> np.ndarray:
    """Let good values grow into nodata by some pixels, as means of their good neighbours; beyond is 0.

    Parameters
    ----------
    values : ndarray of float32, shape (height, width)
    valid : ndarray of bool, same shape
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
        total = cv2.boxFilter(filled, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        new = (known == 0) & (count > 0.5)
        filled[new] = total[new] / count[new]
        known[new] = 1
    return filled


def resample_flags(flags: np.ndarray, col: np.ndarray, row: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Quality flags at positions: of the nearest pixel, joined by OR with those nearly as near.

    Parameters
    ----------
    flags : ndarray of uint8, shape (height, width)
        Flags of the source window.
    col, row : ndarray of float32
        GDAL pixel coordinates in the source window.
    good : ndarray of bool
        Where the resampled values are good: ``NODATA`` is set just where they are not.

    Returns
    -------
    ndarray of uint8
    """
    result = np.zeros(col.shape, np.uint8)
    if flags.any():
        x, y = np.nan_to_num(col - np.float32(0.5), nan=-10), np.nan_to_num(row - np.float32(0.5), nan=-10)
        for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            at = np.float32(dx * FLAG_REACH), np.float32(dy * FLAG_REACH)
            near = cv2.remap(flags, x + at[0], y + at[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
            result |= near.astype(np.uint8, copy=False)
    nodata = np.uint8(Quality.NODATA)
    return np.where(good, result & ~nodata, result | nodata)


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


def encoding_of(src: rasterio.DatasetReader) -> Encoding:
    """How a raster's values lie on disk, with a nodata number for the places that a warp leaves empty.

    Integers keep their nodata if it is the end of their range, else nodata is the lowest number (0 for
    unsigned, whose own zeros become 1). Bands stored in different ways are kept as float32.
    """
    ways = set(zip(src.dtypes, src.scales, src.offsets, strict=True))
    dtype, scale, offset = ways.pop()
    if ways or np.issubdtype(dtype, np.floating) or not np.issubdtype(dtype, np.integer):
        return Encoding("float32", nodata=float("nan"))
    limits = np.iinfo(dtype)
    nodata = src.nodata if src.nodata in (limits.min, limits.max) else limits.min
    return Encoding(dtype, nodata=nodata, scale=scale, offset=offset)


class Readers:
    """An image and its quality, opened several times: a GDAL dataset must not be used by two threads at once.

    Parameters
    ----------
    path : path
        The raster. A quality raster beside it is read with it.
    count : int
        Threads that may read at the same time; more wait.

    Raises
    ------
    RasterError
        The raster cannot be opened, or turns out to be damaged while it is read.
    GridError
        Its quality has another shape.
    """

    def __init__(self, path: str | os.PathLike, count: int):
        quality = quality_path(path)
        self._free: LifoQueue[tuple[rasterio.DatasetReader, rasterio.DatasetReader | None]] = LifoQueue()
        with ExitStack() as opened:
            for _ in range(count):
                src = opened.enter_context(open_raster(path))
                flags = opened.enter_context(open_raster(quality)) if quality.exists() else None
                if flags is not None and flags.shape != src.shape:
                    raise GridError(
                        f"{quality} has {flags.width} x {flags.height} pixels and its image has "
                        f"{src.width} x {src.height}; expected the same: make it again, or remove it"
                    )
                self._free.put((src, flags))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a window, which may reach past the image.

        Parameters
        ----------
        window : Window

        Returns
        -------
        values : ndarray of float32, shape (bands, height, width)
            As ``geo.raster.read`` gives them.
        valid : ndarray of bool, shape (height, width)
            Good, and not flagged as nodata.
        flags : ndarray of uint8, shape (height, width)
            Quality; 0 where there is none, ``NODATA`` where not valid.
        """
        src, quality = self._free.get()
        nodata = np.uint8(Quality.NODATA)
        try:
            values, valid = read(src, window)
            flags = np.zeros(valid.shape, np.uint8)
            if quality is not None:
                inside = clip(window, quality.shape)
                if inside.width and inside.height:
                    flags[slices(inside, window)] = quality.read(1, window=inside)
        except RasterioError as error:
            cause = str(error.__cause__ or error).splitlines()[0].rstrip(".")
            raise RasterError(f"{src.name} is truncated or damaged ({cause}); copy or download it again") from error
        finally:
            self._free.put((src, quality))
        if flags.any():
            valid &= (flags & nodata) == 0
        if not valid.all():
            flags[~valid] |= nodata
        return values, valid, flags


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own under ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
