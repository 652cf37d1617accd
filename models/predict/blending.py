"""What windows say of the same pixels, blended to finished rows, in memory that hardly grows with the width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rasterio.windows import Window

from geo.encoding import Encoding
from geo.errors import ModelError
from geo.windows import blend_weights, clip, slices
from models.predict.grid import Windows, weight_sums
from models.predict.strips import Strip, Tally, Tile

#: Mean and spread of what the models say of some windows.
Answer = tuple[np.ndarray, np.ndarray | None]

#: One pixel in so many of a row is enough to learn how bands are distributed, and how far windows differ.
_THIN = 8
#: Columns that are finished together, a multiple of that.
_PIECE = 2048


class _Plane:
    """One quantity that windows add to.

    A panel of some columns, in which all rows of the windows are held, moves to the right with the windows. Of the
    whole width only those rows are held to which the next row of windows adds too.

    Attributes
    ----------
    panel : ndarray, shape (size, columns of the panel)
    """

    def __init__(self, windows: Windows, width: int, panel: int, dtype: type):
        self._step = windows.step
        self._waiting: np.ndarray = np.zeros((windows.size - windows.step, width), dtype)
        self.panel: np.ndarray = np.zeros((windows.size, panel), dtype)

    def begin(self) -> None:
        """Go to the left end of the next row of windows."""
        self._fill(0, 0)

    def move(self, left: int, by: int) -> None:
        """Leave ``by`` columns, of which the first is ``left``, to the next row of windows."""
        self._waiting[:, left : left + by] = self.panel[self._step :, :by]
        keep = self.panel.shape[1] - by
        self.panel[:, :keep] = self.panel[:, by:]
        self._fill(keep, left + self.panel.shape[1])

    def _fill(self, first: int, column: int) -> None:
        """Take up, from a column of the panel on, what the row of windows above left from a column of the image on."""
        stay, width = self._waiting.shape
        count = max(0, min(self.panel.shape[1] - first, width - column))
        at = slice(first, first + count)
        self.panel[:stay, at] = self._waiting[:, column : column + count]
        self.panel[stay:, at] = 0


class Blender:
    """Add windows in their order, from the left to the right and from the top down; finished rows come out as strips.

    How far windows differ is found on every eighth column.

    Parameters
    ----------
    spread : bool
        Whether there is a spread beside the mean.
    windows : Windows
    shape : (int, int)
        Of the image.
    rows : range
        Rows of windows to finish; those before only add to the rows of pixels below them.
    encoding : Encoding
        Of the strips.
    threshold : float
        Only for the tally.
    """

    def __init__(
        self,
        spread: bool,
        windows: Windows,
        shape: tuple[int, int],
        rows: range,
        encoding: Encoding,
        threshold: float,
    ):
        self._windows, self._shape, self._rows = windows, shape, rows
        self._encoding, self._threshold = encoding, threshold
        size, (height, width) = windows.size, shape
        self._weights = blend_weights(size, windows.overlap)
        ramp = np.sqrt(np.diagonal(self._weights).astype(np.float64))  # the weights are its product with itself
        self._starts, columns = windows.rows(height), windows.columns(width)
        self._down, self._across = weight_sums(self._starts, height, ramp), weight_sums(columns, width, ramp)
        ones = np.ones(size)
        self._shared_down = weight_sums(self._starts, height, ones) > 1
        self._shared_across = (weight_sums(columns, width, ones) > 1)[::_THIN]
        first = windows.overlap // 2  # each pixel once, not once in each of its windows
        self._own = (slice(first, first + windows.step, _THIN),) * 2
        # one window fits in wherever the panel ends
        thin = min(-(-width // _THIN), -(-(_PIECE + size) // _THIN) + 1)
        self._panel = thin * _THIN
        self._sums = [_Plane(windows, width, self._panel, np.float32) for _ in range(1 + spread)]
        self._squares = _Plane(windows, -(-width // _THIN), thin, np.float32)
        self._wanted = _Plane(windows, width, self._panel, np.bool_)
        self._row, self._left = -1, 0
        self._strip: Strip | None = None

    def add(self, row: int, windows: int, tiles: Sequence[Tile], answer: Answer | None) -> Strip | None:
        """Add some windows of a row, those with something wanted; give the strip of the row before when one begins.

        Parameters
        ----------
        row : int
            Of windows.
        windows : int
            How many there were.
        tiles : sequence of Tile
            Those with something wanted.
        answer : (ndarray, ndarray or None), optional
            What the models say of the tiles.
        """
        before = None
        if row != self._row:
            before = self.finish()
            self._begin(row)
        if self._strip is not None:
            tally = self._strip.tally
            tally.windows += len(tiles)
            tally.skipped += windows - len(tiles)
            for tile in tiles:
                tally.statistics.add(tile.values[(slice(None), *self._own)], tile.wanted[self._own])
        if answer is not None:
            mean, spread = answer
            for number, tile in enumerate(tiles):
                self._add(tile, mean[number], None if spread is None else spread[number])
        return before

    def finish(self) -> Strip | None:
        """Give the strip of the last row; None where it was not asked for."""
        if self._row >= 0:
            self._settle(self._shape[1])
        strip, self._strip = self._strip, None
        return strip

    def _begin(self, row: int) -> None:
        height, width = self._shape
        self._row, self._left = row, 0
        for plane in (*self._sums, self._squares, self._wanted):
            plane.begin()
        if row in self._rows:
            top, bottom = self._windows.finished(range(row, row + 1), height)
            stored = [np.empty((bottom - top, width), self._encoding.dtype) for _ in self._sums]
            self._strip = Strip(row, top, stored[0], stored[1] if len(stored) > 1 else None, Tally())

    def _add(self, tile: Tile, mean: np.ndarray, spread: np.ndarray | None) -> None:
        size, width = self._windows.size, self._shape[1]
        left, right = tile.window.col_off, min(width, tile.window.col_off + size)
        if right > self._left + self._panel:
            self._settle(left // _THIN * _THIN)  # no later window of the row reaches further to the left
        frame = Window(left - self._left, 0, size, size)
        inside = clip(frame, (size, min(self._panel, width - self._left)))
        at, part = slices(inside), slices(inside, frame)
        for total, answer in zip(self._sums, (mean, spread), strict=False):
            assert answer is not None
            total.panel[at] += (answer * self._weights)[part]
        self._wanted.panel[at] |= tile.wanted[part]
        first, last = -(-max(0, left) // _THIN), -(-right // _THIN)
        thin = np.s_[:, first * _THIN - left : last * _THIN - left : _THIN]
        beyond = self._left // _THIN
        self._squares.panel[:, first - beyond : last - beyond] += mean[thin] ** 2 * self._weights[thin]

    def _settle(self, until: int) -> None:
        """Finish the columns before this one, few at a time so that little is held in passing."""
        while self._left < until:
            by = min(_PIECE, until - self._left)
            if self._strip is not None and len(self._strip.probability):
                self._take(self._strip, by)
            for plane in (*self._sums, self._wanted):
                plane.move(self._left, by)
            self._squares.move(self._left // _THIN, -(-by // _THIN))
            self._left += by

    def _take(self, strip: Strip, count: int) -> None:
        """Take the first columns of the panel that no window adds to any more, as far down as this row finishes."""
        top, bottom = strip.top, strip.top + len(strip.probability)
        rows = slice(top - self._starts[self._row], bottom - self._starts[self._row])
        columns, thin_count = slice(self._left, self._left + count), -(-count // _THIN)
        thin = slice(self._left // _THIN, self._left // _THIN + thin_count)
        norm = np.outer(self._down[top:bottom], self._across[columns])
        good = np.ascontiguousarray(self._wanted.panel[rows, :count])
        blended = [(plane.panel[rows, :count] / norm).astype(np.float32) for plane in self._sums]
        values = blended[0][good]
        if not np.isfinite(values).all():
            raise ModelError("the model gives no number for some valid pixels; train it again")
        tally = strip.tally
        tally.pixels += values.size
        tally.total += float(values.sum(dtype=np.float64))
        tally.above += int((values >= self._threshold).sum())
        shared = good[:, ::_THIN] & np.logical_or.outer(self._shared_down[top:bottom], self._shared_across[thin])
        variance = self._squares.panel[rows, :thin_count] / norm[:, ::_THIN] - blended[0][:, ::_THIN] ** 2
        tally.shared += int(shared.sum())
        tally.apart += float(np.maximum(variance[shared], 0).sum())
        for whole, piece in zip((strip.probability, strip.spread), blended, strict=False):
            assert whole is not None
            whole[:, columns] = self._encoding.encode(piece, good)
