"""From tiles of an image to finished rows of probability: rows of windows, blended."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rasterio.windows import Window

from geo.borders import Borders
from geo.encoding import Encoding
from geo.errors import ModelError
from geo.image import Image
from geo.labels import Area
from geo.stream import stream
from geo.windows import blend_weights, clip, slices
from models.chips import BandStatistics
from models.predict.grid import Windows, mirrored, weight_sums
from models.predict.members import Ensemble

#: A row of windows and first columns of some of its windows, with their tiles; None where nothing is wanted.
Batch = tuple[tuple[int, Sequence[int]], list["Tile | None"]]
#: Mean and spread of what the models say of some windows.
Answer = tuple[np.ndarray, np.ndarray | None]

#: One pixel in so many of a row is enough to learn how bands are distributed, and how far windows differ.
_THIN = 8
#: Columns that are finished together, a multiple of that.
_PIECE = 2048


@dataclass(frozen=True)
class Tile:
    """Input of one window."""

    window: Window
    values: np.ndarray  # mirrored past the edges of the image
    wanted: np.ndarray  # valid, seen and inside the area; False past the edges


@dataclass
class Tally:
    """What is learnt on the way.

    Attributes
    ----------
    windows, skipped : int
        Windows that were seen by the model, and those that hold nothing wanted.
    pixels, above : int
        Wanted ones, and those from the threshold on.
    total : float
        Sum of their probability.
    shared : int
        Wanted pixels in more than one window, of every eighth column.
    apart : float
        Sum over these of the variance between what their windows say, weighted as they are blended.
    statistics : BandStatistics
        Of every eighth wanted pixel's input.
    """

    windows: int = 0
    skipped: int = 0
    pixels: int = 0
    total: float = 0.0
    above: int = 0
    shared: int = 0
    apart: float = 0.0
    statistics: BandStatistics = field(default_factory=BandStatistics)

    def join(self, other: Tally) -> None:
        """Add what was learnt elsewhere."""
        self.windows += other.windows
        self.skipped += other.skipped
        self.pixels += other.pixels
        self.total += other.total
        self.above += other.above
        self.shared += other.shared
        self.apart += other.apart
        self.statistics.join(other.statistics)

    def plain(self) -> dict[str, Any]:
        """Say it in plain numbers, for a file."""
        s = self.statistics
        return {
            "counts": [self.windows, self.skipped, self.pixels, self.above, self.shared],
            "sums": [self.total, self.apart],
            "statistics": [s.count, s.mean.tolist(), s.squares.tolist()],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Tally:
        """Read what ``plain`` said."""
        windows, skipped, pixels, above, shared = plain["counts"]
        total, apart = plain["sums"]
        count, mean, squares = plain["statistics"]
        statistics = BandStatistics(count, np.asarray(mean, float), np.asarray(squares, float))
        return cls(windows, skipped, pixels, total, above, shared, apart, statistics)


@dataclass(frozen=True)
class Strip:
    """Rows of the whole width that no window adds to any more, as they lie on disk.

    Attributes
    ----------
    row : int
        Number of the row of windows that finished it.
    top : int
        First row of pixels.
    probability : ndarray, shape (height, width)
        Encoded; there may be no row in it, where the first windows begin far before the image.
    spread : ndarray, shape (height, width), or None
        Encoded likewise.
    tally : Tally
    """

    row: int
    top: int
    probability: np.ndarray
    spread: np.ndarray | None
    tally: Tally


def read_tile(
    image: Image, bands: Sequence[str], area: Area | None, window: Window, borders: Borders | None = None
) -> Tile | None:
    """Input of a window; None where nothing in it is wanted."""
    inside = clip(window, image.shape)
    wanted = image.seen(window)
    if area is not None:
        wanted &= area.read(window)
    if not wanted.any():
        return None
    height, width = image.shape
    rows = mirrored(window.row_off, window.height, height)
    columns = mirrored(window.col_off, window.width, width)
    top, left = rows.min(), columns.min()
    part = Window(int(left), int(top), int(columns.max() - left) + 1, int(rows.max() - top) + 1)
    values, valid = image.read(part, [band.lower() for band in bands])
    if borders is not None:
        empty = borders.mask(values, part)
        valid &= ~empty
        values[:, empty] = np.nan
    at = slices(inside, window)
    wanted[at] &= valid[slices(inside, part)]
    if not wanted.any():
        return None
    if (part.height, part.width) != (window.height, window.width) or part != inside:
        values = values[:, (rows - top)[:, None], columns - left]
    return Tile(window, values, wanted)


def blend(
    batches: Iterable[Batch],
    ensemble: Ensemble,
    windows: Windows,
    shape: tuple[int, int],
    rows: range,
    *,
    encoding: Encoding,
    threshold: float,
    workers: int = 1,
) -> Generator[Strip]:
    """Run the models on batches and give rows as soon as no window adds to them any more.

    Sums begin ``windows.lead`` rows of windows before those asked for and grow in the order of the windows, so
    that rows come out the same to the last bit wherever a run begins.

    Parameters
    ----------
    batches : iterable
        From ``windows.lead`` rows of windows before ``rows``, or from the first row, on.
    ensemble : Ensemble
    windows : Windows
    shape : (int, int)
        Of the image.
    rows : range
        Rows of windows to finish.
    encoding : Encoding
        Of the strips.
    threshold : float
        Only for the tally.
    workers : int
        Batches that the models see at the same time.

    Yields
    ------
    Strip
    """
    blender = _Blender(_Sums(ensemble, windows, shape), windows, rows, encoding, threshold)

    def answer(batch: Batch) -> tuple[list[Tile], Answer | None]:
        there = [tile for tile in batch[1] if tile is not None]
        return there, ensemble.answer(np.stack([tile.values for tile in there])) if there else None

    with closing(stream(answer, batches, workers=workers)) as answers:
        for ((row, _), tiles), (there, answered) in answers:
            if (strip := blender.add(row, len(tiles), there, answered)) is not None:
                yield strip
    if (strip := blender.finish()) is not None:
        yield strip


class _Blender:
    """Take batches in the order of the rows of windows, and give a row's strip when the next one begins."""

    def __init__(self, sums: _Sums, windows: Windows, rows: range, encoding: Encoding, threshold: float):
        self._sums, self._tally = sums, Tally()
        self._rows, self._current = rows, -1
        self._encoding, self._threshold = encoding, threshold
        first = windows.overlap // 2  # each pixel once, not once in each of its windows
        self._thin = (slice(first, first + windows.step, _THIN),) * 2

    def add(self, row: int, windows: int, there: Sequence[Tile], answer: Answer | None) -> Strip | None:
        """Add some windows of a row; gives the strip of the row before where this one is new."""
        strip = None
        if self._current not in (-1, row):
            strip = self.finish()
            self._sums.advance()
        self._current = row
        own = row in self._rows
        if own:
            self._tally.windows += len(there)
            self._tally.skipped += windows - len(there)
        if answer is not None:
            self._sums.add(there, *answer)
        if own:
            for tile in there:
                self._tally.statistics.add(tile.values[(slice(None), *self._thin)], tile.wanted[self._thin])
        return strip

    def finish(self) -> Strip | None:
        """Give the strip of the last row; None where it was not asked for."""
        if self._current not in self._rows:
            return None
        tally, self._tally = self._tally, Tally()
        return self._sums.finished(self._current, self._encoding, self._threshold, tally)


class _Sums:
    """Weighted sums over the rows of pixels that windows still add to, as wide as the image.

    How far windows differ is found on every eighth column: a second sum of that many pixels would cost memory that
    grows with the width of the scene.
    """

    def __init__(self, ensemble: Ensemble, windows: Windows, shape: tuple[int, int]):
        self._windows, self._shape = windows, shape
        size, (height, width) = windows.size, shape
        self._weights = blend_weights(size, windows.overlap)
        ramp = np.sqrt(np.diagonal(self._weights).astype(np.float64))  # the weights are its product with itself
        self._starts, columns = windows.rows(height), windows.columns(width)
        self._down, self._across = weight_sums(self._starts, height, ramp), weight_sums(columns, width, ramp)
        ones = np.ones(size)
        self._shared_down = weight_sums(self._starts, height, ones) > 1
        self._shared_across = (weight_sums(columns, width, ones) > 1)[::_THIN]
        self._sums = np.zeros((1 if ensemble.size == 1 else 2, size, width), dtype=np.float32)
        self._squares = np.zeros((size, -(-width // _THIN)), dtype=np.float32)
        self._wanted = np.zeros((size, width), dtype=bool)

    def advance(self) -> None:
        """Go down to the next row of windows."""
        stay = self._windows.size - self._windows.step
        for plane in (*self._sums, self._squares, self._wanted):
            plane[:stay] = plane[self._windows.step :]
            plane[stay:] = 0

    def add(self, tiles: Sequence[Tile], mean: np.ndarray, spread: np.ndarray | None) -> None:
        """Add what the models say of some windows of this row."""
        size, width = self._windows.size, self._shape[1]
        for number, tile in enumerate(tiles):
            left = tile.window.col_off
            frame = Window(left, 0, size, size)
            inside = clip(frame, (size, width))
            at, part = slices(inside), slices(inside, frame)
            for total, answer in zip(self._sums, (mean, spread), strict=False):
                assert answer is not None
                total[at] += (answer[number] * self._weights)[part]
            self._wanted[at] |= tile.wanted[part]
            first, last = -(-max(0, left) // _THIN), -(-min(width, left + size) // _THIN)
            thin = np.s_[:, first * _THIN - left : last * _THIN - left : _THIN]
            self._squares[:, first:last] += mean[number][thin] ** 2 * self._weights[thin]

    def finished(self, row: int, encoding: Encoding, threshold: float, tally: Tally) -> Strip:
        """Take the rows that no later window adds to; what they hold is added to the tally."""
        height, width = self._shape
        top, bottom = self._windows.finished(range(row, row + 1), height)
        rows = slice(top - self._starts[row], bottom - self._starts[row])
        stored = [np.empty((bottom - top, width), encoding.dtype) for _ in self._sums]
        for left in range(0, width if bottom > top else 0, _PIECE):  # pieces keep what is held in passing small
            columns = slice(left, min(left + _PIECE, width))
            norm = np.outer(self._down[top:bottom], self._across[columns])
            good = np.ascontiguousarray(self._wanted[rows, columns])
            blended = [(plane[rows, columns] / norm).astype(np.float32) for plane in self._sums]
            values = blended[0][good]
            if not np.isfinite(values).all():
                raise ModelError("the model gives no number for some valid pixels; train it again")
            tally.pixels += values.size
            tally.total += float(values.sum(dtype=np.float64))
            tally.above += int((values >= threshold).sum())
            thin = slice(left // _THIN, -(-columns.stop // _THIN))
            shared = good[:, ::_THIN] & np.logical_or.outer(self._shared_down[top:bottom], self._shared_across[thin])
            variance = self._squares[rows, thin] / norm[:, ::_THIN] - blended[0][:, ::_THIN] ** 2
            tally.shared += int(shared.sum())
            tally.apart += float(np.maximum(variance[shared], 0).sum())
            for whole, piece in zip(stored, blended, strict=True):
                whole[:, columns] = encoding.encode(piece, good)
        return Strip(row, top, stored[0], stored[1] if len(stored) > 1 else None, tally)
