"""An image that can be read by window: pixels, where they are valid, and quality, wherever they come from.

A file is one source; others make their pixels when they are asked for them (``geo.preprocess``,
``geo.ortho.warp``). So a step does not need to know whether the step before it has written a file. A source can be
pickled, for workers in other processes: a file is opened there when it is first read.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.rpc import RPC
from rasterio.windows import Window

from geo.alpha import data_numbers
from geo.encoding import physical
from geo.errors import GridError
from geo.geobox import GeoBox
from geo.masks import Quality, quality_path
from geo.raster import Encoding, damage_told, geobox_of, open_dataset, read
from geo.windows import clip, intersection, slices

log = logging.getLogger(__name__)


class Source(Protocol):
    """An image that can be read by window, from several threads."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def grid(self) -> GeoBox:
        """Shape and place; the CRS is None in sensor geometry."""

    @property
    def rpcs(self) -> RPC | None:
        """Its camera model, where it lies in sensor geometry."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of its bands, without alpha."""

    @property
    def encoding(self) -> Encoding:
        """How its values lie on disk, or would."""

    @property
    def tags(self) -> dict[str, str]:
        """What is known of its scene: the tags that every product of it carries."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a window, which may reach past the image.

        Returns
        -------
        values : ndarray of float32, shape (bands, height, width)
            Physical values; NaN where not good.
        valid : ndarray of bool, shape (height, width)
            Good, and not flagged as nodata.
        flags : ndarray of uint8, shape (height, width)
            Quality; ``NODATA`` where not valid.
        """


class FileSource:
    """A raster and the quality raster beside it, opened for each thread that reads: GDAL does not share datasets.

    Parameters
    ----------
    path : path
    zero_fill : bool
        In an image of integers that marks no nodata (no number, mask, alpha or quality), 0 in all bands is nodata,
        as where products are calibrated: it is what a warp leaves beyond the ground. That holds for single pixels
        too, so a pixel whose only band is rightly 0 is lost. The first that is met is told in the log.

    Raises
    ------
    RasterError
        The raster cannot be opened, or turns out to be damaged while it is read.
    GridError
        Its quality has another shape.
    """

    rpcs: RPC | None

    def __init__(self, path: str | os.PathLike, *, zero_fill: bool = False):
        self.path = Path(path)
        self.name = os.fspath(path)
        self._start()
        src, quality = opened = self._open()
        self._zero_fill = zero_fill and quality is None and _marks_nothing(src)
        self._free.put(opened)
        self.grid, self.rpcs = geobox_of(src), src.rpcs
        self.bands, self.encoding = band_names(src), encoding_of(src)
        self.tags = {k: v for k, v in src.tags().items() if k.startswith("GEOCRACK_")}

    def _start(self) -> None:
        self._datasets: list[rasterio.DatasetReader] = []
        self._free: LifoQueue[tuple[rasterio.DatasetReader, rasterio.DatasetReader | None]] = LifoQueue()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_datasets", "_free")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for src in self._datasets:
            src.close()

    def _open(self) -> tuple[rasterio.DatasetReader, rasterio.DatasetReader | None]:
        quality = quality_path(self.path)
        src, flags = open_dataset(self.path), None
        self._datasets.append(src)
        if quality.exists():
            flags = open_dataset(quality)
            self._datasets.append(flags)
            if flags.shape != src.shape:
                raise GridError(
                    f"{quality} has {flags.width} x {flags.height} pixels and its image has "
                    f"{src.width} x {src.height}; expected the same: make it again, or remove it"
                )
        return src, flags

    @contextmanager
    def opened(self) -> Iterator[tuple[rasterio.DatasetReader, rasterio.DatasetReader | None]]:
        """Give the raster and its quality to one thread; others open them again meanwhile."""
        try:
            both = self._free.get_nowait()
        except Empty:
            both = self._open()
        try:
            with damage_told(self.path):
                yield both
        finally:
            self._free.put(both)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with self.opened() as (src, quality):
            values, valid = read(src, window, zero_fill=self._zero_fill)
            if self._zero_fill and not valid[slices(clip(window, src.shape), window)].all():
                _tell_fill(self.name)
            flags = np.zeros(valid.shape, np.uint8)
            if quality is not None:
                inside = clip(window, quality.shape)
                if inside.width and inside.height:
                    flags[slices(inside, window)] = quality.read(1, window=inside)
        nodata = np.uint8(Quality.NODATA)
        if quality is not None and flags.any():
            valid &= (flags & nodata) == 0
        if not valid.all():
            flags[~valid] |= nodata
        return values, valid, flags


def _marks_nothing(src: rasterio.DatasetReader) -> bool:
    """Whether all bands are integers and nothing says where they hold no ground."""
    return all(np.issubdtype(np.dtype(kind), np.integer) for kind in src.dtypes) and all(
        list(flags) == [MaskFlags.all_valid] for flags in src.mask_flag_enums
    )


@functools.lru_cache(maxsize=256)  # once for each file, which is opened by many
def _tell_fill(name: str) -> None:
    log.warning(
        "%s names no nodata; pixels that are 0 in all bands are taken for it: where they are ground, name another "
        "number (gdal_edit.py -a_nodata)",
        name,
    )


class Cached:
    """A source that keeps blocks of what it made, where small windows are read here and there and again.

    Parameters
    ----------
    source : Source
    size : int
        Side of a block in pixels.
    megabytes : int
        What is kept at most, as it would lie on disk; the blocks that were not used for longest go.
    """

    def __init__(self, source: Source, *, size: int, megabytes: int):
        self.source, self.size, self.megabytes = source, size, megabytes
        self.name, self.grid, self.rpcs = source.name, source.grid, source.rpcs
        self.bands, self.encoding, self.tags = source.bands, source.encoding, source.tags
        self._start()

    def _start(self) -> None:
        self._blocks: OrderedDict[tuple[int, int], Future] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_blocks", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = (window.height, window.width)
        stored = np.empty((len(self.bands), *shape), self.encoding.dtype)
        flags = np.full(shape, int(Quality.NODATA), np.uint8)
        inside = clip(window, (self.grid.shape[0], self.grid.shape[1]))
        for row in range(inside.row_off // self.size, -(-(inside.row_off + inside.height) // self.size)):
            for col in range(inside.col_off // self.size, -(-(inside.col_off + inside.width) // self.size)):
                block = Window(col * self.size, row * self.size, self.size, self.size)
                common = intersection(block, inside)
                if common.width and common.height:
                    numbers, bits = self._block(row, col, block)
                    stored[:, *slices(common, window)] = numbers[:, *slices(common, block)]
                    flags[slices(common, window)] = bits[slices(common, block)]
        valid = (flags & np.uint8(Quality.NODATA)) == 0
        return physical(stored, valid, *([number] * len(stored) for number in self._scaling)), valid, flags

    def forget(self) -> None:
        """Let go of all that is kept."""
        with self._lock:
            self._blocks.clear()

    @property
    def _scaling(self) -> tuple[float, float]:
        return self.encoding.scale, self.encoding.offset

    def _block(self, row: int, col: int, block: Window) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and flags of a block, made by the first who asks; others wait for it."""
        with self._lock:
            known = self._blocks.get((row, col))
            if known is None:
                made = self._blocks[row, col] = Future()
                each = self.size**2 * (len(self.bands) * np.dtype(self.encoding.dtype).itemsize + 1)
                while len(self._blocks) > max(1, self.megabytes * 1_000_000 // each):
                    self._blocks.popitem(last=False)
            else:
                self._blocks.move_to_end((row, col))
        if known is not None:
            return known.result()
        try:
            values, valid, flags = self.source.read(block)
            made.set_result((self.encoding.encode(values, valid), flags))
        except BaseException as error:
            made.set_exception(error)
            raise
        return made.result()


def band_names(src: rasterio.DatasetReader) -> tuple[str, ...]:
    """Names of the bands but alpha; ``band1`` and so on where the file has none."""
    return tuple(src.descriptions[number - 1] or f"band{number}" for number in data_numbers(src))


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
