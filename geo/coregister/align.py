"""The moving image without its displacement, on its own grid, window by window."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from geo.atomic import check_free, together
from geo.coregister.result import Registration
from geo.errors import GridError, unknown_name
from geo.geotiff import GeoTiffWriter
from geo.masks import QUALITY, Quality, quality_path
from geo.ortho.warp import KERNELS, one_thread_each, reach, resample, resample_flags
from geo.progress import Counted
from geo.source import FileSource
from geo.stream import cpus, stream
from geo.windows import blocks

#: Side of an output window in pixels; a multiple of the writer's blocks.
WINDOW = 1024
#: Positions are rounded to this part of a pixel, as OpenCV does, but from the scene's origin: so that the pixels do
#: not depend on the windows.
_STEPS = 32


@dataclass(frozen=True)
class Aligned:
    """What was written.

    Attributes
    ----------
    shape : (int, int)
    bands : tuple of str
    valid_share : float
        Share of the pixels that are good.
    """

    shape: tuple[int, int]
    bands: tuple[str, ...]
    valid_share: float


def align(
    moving: str | os.PathLike,
    output: str | os.PathLike,
    registration: Registration,
    *,
    resampling: str = "cubic",
    window: int = WINDOW,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Counted | None = None,
) -> Aligned:
    """Write an image without its displacement, and its quality, as Cloud Optimized GeoTIFFs on the same grid.

    Parameters
    ----------
    moving : path
        The image that was registered; its bands, encoding, ``GEOCRACK_`` tags and quality raster are carried over.
    output : path
        Its quality goes to ``geo.masks.quality_path(output)``. What the image does not show becomes nodata.
    registration : Registration
    resampling : str
        A name in ``geo.ortho.warp.KERNELS``.
    window : int
        Side of the windows; the pixels do not depend on it.
    threads : int, optional
        CPUs to use at most.
    overwrite : bool
        Replace outputs that are there.
    progress : callable, optional
        Wraps the stream of windows, given with their number.

    Returns
    -------
    Aligned
    """
    if resampling not in KERNELS:
        raise GridError(unknown_name("resampling", resampling, list(KERNELS)))
    quality = quality_path(output)
    for path in (output, quality):
        check_free(path, overwrite=overwrite)
    with ExitStack() as opened:
        image = opened.enter_context(FileSource(moving, zero_fill=True))
        opened.enter_context(one_thread_each())
        grid, encoding = image.grid, image.encoding
        height, width = grid.shape

        def one(at: Window) -> tuple[np.ndarray, np.ndarray]:
            col, row = _positions(at, image, registration)
            margin = reach(resampling)
            left, top = int(np.floor(col.min())) - margin, int(np.floor(row.min())) - margin
            width, height = int(np.ceil(col.max())) + margin - left, int(np.ceil(row.max())) + margin - top
            values, valid, flags = image.read(Window(left, top, width, height))
            col, row = (col - left).astype(np.float32), (row - top).astype(np.float32)
            values, good = resample(values, valid, col, row, resampling)
            return encoding.encode(values, good), resample_flags(flags, col, row, good)

        good = 0
        with (
            together(Path(output), quality),
            GeoTiffWriter(
                quality, grid, ["quality"], QUALITY, overwrite=overwrite, resampling="nearest", tags=image.tags
            ) as quality_writer,
            GeoTiffWriter(output, grid, image.bands, encoding, overwrite=overwrite, tags=image.tags) as writer,
        ):
            windows = list(blocks((height, width), window))
            done = stream(one, windows, workers=cpus(threads))
            for at, (stored, flags) in progress(done, len(windows)) if progress else done:
                writer.write_stored(stored, at)
                quality_writer.write_stored(flags, at)
                good += int(np.count_nonzero((flags & int(Quality.NODATA)) == 0))
    return Aligned((height, width), tuple(image.bands), good / (height * width))


def _positions(at: Window, image: FileSource, registration: Registration) -> tuple[np.ndarray, np.ndarray]:
    """Where a window's ground lies in the displaced image, GDAL pixel coordinates; arrays of the window's shape."""
    to_map = image.grid.affine
    col = (at.col_off + 0.5 + np.arange(at.width))[None, :]
    row = (at.row_off + 0.5 + np.arange(at.height))[:, None]
    dx, dy = registration.displacement(to_map.c + to_map.a * col, to_map.f + to_map.e * row)
    shape = at.height, at.width
    col, row = (np.broadcast_to(a, shape) for a in (col + dx / to_map.a, row + dy / to_map.e))
    return np.round(col * _STEPS) / _STEPS, np.round(row * _STEPS) / _STEPS
