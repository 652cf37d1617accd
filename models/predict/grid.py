"""The grid of windows over a scene, and the blocks of rows that it is worked through in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from geo.errors import ModelError
from geo.geobox import GeoBox

#: Side of the windows of models that see each pixel on its own: a tile of the file.
_PIXEL_WINDOW = 512
#: A block is at least this many rows of the image high: a killed run loses little, and on a cluster few rows of
#: windows are computed twice.
BLOCK_ROWS = 1024
#: Where a pixel of the lattice of all pixels ends: far from the fractions (0, 1/2, 1/3, 1/4, ...) that grids are laid
#: at, so that the last digit of a coordinate does not decide.
_CUT = 0.2718


class Seer(Protocol):
    """What the grid of windows needs to know of a model."""

    @property
    def bands(self) -> Sequence[str]:
        """Names of the input bands, in their order."""

    @property
    def chip_size(self) -> int:
        """Height and width that it was trained on."""

    @property
    def reach(self) -> int:
        """Pixels of context on each side; 0 where each pixel stands alone."""

    @property
    def stride(self) -> int:
        """Windows at its multiples are seen alike."""


class Model(Seer, Protocol):
    """What prediction needs of a model; ``models.model_file.LoadedModel`` is one."""

    def probability(self, images: np.ndarray) -> np.ndarray:
        """Probability (n, h, w) of physical values (n, bands, h, w), NaN where not valid."""


@dataclass(frozen=True)
class Windows:
    """The grid of windows over a scene.

    Attributes
    ----------
    size : int
        Height and width of a window.
    step : int
        From one window to the next.
    margin : int
        How far the first windows begin before the image, and the last end after it, at least.
    lag : (int, int)
        How many rows and columns more the first windows begin before the image, less than a step, so that windows
        lie where they lie over any other image of the same pixels.
    """

    size: int
    step: int
    margin: int
    lag: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, model: Seer, *, overlap: int | None = None, window: int | None = None) -> Windows:
        """Windows for a model: of the size of its chips or larger, with at least this overlap.

        By default they overlap by twice the model's reach, so that every pixel has that much context on all sides in
        one of them at least, and are four times as large as that: then windows share a quarter of their sides. Where
        an overlap is asked for, they are at least twice as large. What a network with global pooling says of a pixel
        depends on the whole window, so such a model keeps to windows of the size of its chips, and to an overlap of
        its reach.

        Raises
        ------
        ModelError
            The overlap leaves no step, the window is smaller than the model's chips, or it is another one than
            a model with global pooling was trained on.
        """
        stride = model.stride
        if model.reach == 0:
            size = -(-(window or _PIXEL_WINDOW) // stride) * stride
            return cls(size, size, 0)
        if window is not None and window < model.chip_size:
            raise ModelError(
                f"windows of {window} pixels are smaller than the chips of {model.chip_size} that the model was "
                "trained on; give as many or more"
            )
        fixed = getattr(model, "global_context", False)
        if fixed and window not in (None, model.chip_size):
            raise ModelError(
                f"the model pools over its whole window, so it sees in windows of {window} pixels what it did not in "
                f"those of {model.chip_size} that it was trained on; leave --window away"
            )
        wide = 8 * model.reach if overlap is None else 2 * overlap
        smallest = model.chip_size if fixed else max(model.chip_size, wide)
        size = -(-(window or smallest) // stride) * stride
        if overlap is None:
            overlap = min(model.reach if fixed else 2 * model.reach, size // 2)
        step = (size - overlap) // stride * stride
        if step < stride:
            raise ModelError(
                f"an overlap of {overlap} pixels leaves no step between windows of {size}; give {size - stride} or less"
            )
        return cls(size, step, (size - step) // 2 // stride * stride)

    def over(self, geobox: GeoBox) -> Windows:
        """Lay the grid over an image: where it lies depends on the ground, not on where the image begins.

        Images whose pixels lie on one lattice (a scene and its crops, neighbours on a snapped grid) get the same
        windows where they overlap. An image without a CRS lies nowhere: its grid begins at its first pixel.
        """
        affine = geobox.affine
        if geobox.crs is None or affine.is_degenerate:
            return self
        column, row = (math.floor(place + _CUT) for place in ~affine @ (0.0, 0.0))
        return replace(self, lag=(-row % self.step, -column % self.step))

    def together(self, model: Seer, chips: int) -> int:
        """Windows that hold as many pixels as a number of chips, one at least."""
        return max(1, chips * model.chip_size**2 // self.size**2)

    @property
    def overlap(self) -> int:
        """Pixels that neighbours share."""
        return self.size - self.step

    @property
    def lead(self) -> int:
        """Rows of windows that still add to the rows of pixels below them."""
        return -(-self.size // self.step) - 1

    def rows(self, height: int) -> range:
        """First rows of the windows."""
        return self._starts(height, self.lag[0])

    def columns(self, width: int) -> range:
        """First columns of the windows."""
        return self._starts(width, self.lag[1])

    def _starts(self, length: int, lag: int) -> range:
        first = -self.margin - lag
        count = 1 + max(0, -(-(length + self.margin - first - self.size) // self.step))
        return range(first, first + count * self.step, self.step)

    def blocks(self, height: int, block_rows: int = BLOCK_ROWS) -> list[range]:
        """Rows of windows (their numbers from 0), in blocks of at least ``block_rows`` rows of pixels."""
        rows, each = len(self.rows(height)), -(-block_rows // self.step)
        return [range(first, min(rows, first + each)) for first in range(0, rows, each)]

    def finished(self, rows: range, height: int) -> tuple[int, int]:
        """First row of pixels, and the one after the last, that rows of windows finish."""
        starts = self.rows(height)
        last = rows.stop == len(starts)
        top, bottom = starts[rows.start], height if last else starts[rows.stop - 1] + self.step
        return max(0, top), min(height, max(0, bottom))

    def jobs(self, shape: tuple[int, int], rows: range, batch: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Numbers of rows of windows, and first columns of some of their windows, from the top row down."""
        columns = self.columns(shape[1])
        for row in rows:
            for first in range(0, len(columns), batch):
                yield row, columns[first : first + batch]


def weight_sums(starts: Sequence[int], length: int, ramp: np.ndarray) -> np.ndarray:
    """Sum of the weights of all windows at each pixel of an axis.

    Parameters
    ----------
    starts : sequence of int
        First pixels of the windows.
    length : int
        Of the axis.
    ramp : ndarray, shape (size,)
        Weights of one window.
    """
    sums = np.zeros(length)
    for start in starts:
        inside = slice(max(0, start), max(0, min(length, start + len(ramp))))
        sums[inside] += ramp[inside.start - start : inside.stop - start]
    return sums


def mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Pixels ``start`` to ``start + count`` of an axis; those past its ends are mirrored at the end pixels."""
    period = max(1, 2 * (length - 1))
    places = np.abs(np.arange(start, start + count)) % period
    return np.minimum(places, period - places) if length > 1 else np.zeros(count, dtype=int)
