"""Write an image that is made window by window, and its quality beside it: both whole, or neither."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from geo.atomic import together
from geo.encoding import Encoding
from geo.errors import GeocrackError
from geo.geobox import GeoBox
from geo.geotiff import GeoTiffWriter
from geo.masks import QUALITY, Quality, quality_path
from geo.progress import Counted
from geo.stream import OncePerProcess, cpus, give_back_memory, keep_memory, stream
from geo.windows import blocks

if TYPE_CHECKING:
    import xarray as xr


def write_windows(
    make: Callable[[Window], tuple[np.ndarray, np.ndarray]],
    output: str | os.PathLike,
    grid: GeoBox,
    bands: Sequence[str],
    encoding: Encoding,
    *,
    window: int,
    nothing: GeocrackError,
    tags: dict[str, str] | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    cog: bool = True,
    compress: str = "zstd",
    progress: Counted | None = None,
) -> float:
    """Make all windows of an image and write them.

    Parameters
    ----------
    make : callable
        Gives a window's stored values, shape (bands, height, width), and its flags, uint8 (height, width).
    output : path
        The image; its quality goes to ``geo.masks.quality_path(output)``.
    grid, bands, encoding, tags, overwrite, cog, compress
        See ``geo.geotiff.GeoTiffWriter``.
    window : int
        Side of the windows; a multiple of the writer's blocks.
    nothing : GeocrackError
        Raised where no pixel is good; nothing is written then.
    threads, executor
        Where windows are made, see ``geo.stream.stream``; on other machines ``make`` is unpacked once by each process.
    progress : callable, optional
        Wraps the stream of windows, given with their number.

    Returns
    -------
    float
        Share of the pixels that are good.
    """
    quality = quality_path(output)
    height, width = grid.shape
    good = 0
    keep_memory()
    with (
        together(Path(output), quality),
        GeoTiffWriter(
            quality,
            grid,
            ["quality"],
            QUALITY,
            overwrite=overwrite,
            cog=cog,
            compress="zstd" if compress == "none" else compress,  # flags shrink to nothing
            resampling="nearest",
            tags=tags,
        ) as quality_writer,
        GeoTiffWriter(
            output, grid, bands, encoding, overwrite=overwrite, cog=cog, compress=compress, tags=tags
        ) as writer,
    ):
        windows = list(blocks((height, width), window))
        work = make if executor is None else OncePerProcess(make)
        done = stream(work, windows, workers=cpus(threads) if executor is None else None, executor=executor)
        for at, (stored, flags) in progress(done, len(windows)) if progress else done:
            writer.write_stored(stored, at)
            quality_writer.write_stored(flags, at)
            good += int(np.count_nonzero((flags & int(Quality.NODATA)) == 0))
        if not good:
            raise nothing
        give_back_memory()  # before the files are finished
    return good / (height * width)


def view(
    make: Callable[[Window], tuple[np.ndarray, np.ndarray]],
    grid: GeoBox,
    bands: Sequence[str],
    encoding: Encoding,
    *,
    window: int,
) -> xr.DataArray:
    """See an image that is made window by window as an array of dask: nothing is made before it is asked for.

    dask computes it with threads, or on the cluster of a ``dask.distributed.Client`` where one is there.

    Parameters
    ----------
    make, grid, bands, encoding, window
        As for ``write_windows``.

    Returns
    -------
    DataArray of float32, dimensions (band, y, x)
        Physical values; NaN where not good. One chunk is one window.
    """
    import dask.array
    import xarray as xr
    from odc.geo.xr import xr_coords

    height, width = grid.shape
    sides = [tuple(min(window, side - start) for start in range(0, side, window)) for side in (height, width)]
    values = dask.array.map_blocks(
        _values,
        OncePerProcess(make),
        encoding,
        chunks=((len(bands),), *sides),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    coordinates = {"band": list(bands), **xr_coords(grid)}
    return xr.DataArray(values, coordinates, ("band", *grid.dimensions))


def _values(make: OncePerProcess, encoding: Encoding, block_info: dict | None = None) -> np.ndarray:
    """Physical values of one chunk."""
    (_, _), (top, bottom), (left, right) = (block_info or {})[None]["array-location"]
    stored, flags = make(Window(left, top, right - left, bottom - top))
    return encoding.decode(stored, (flags & np.uint8(Quality.NODATA)) == 0)
