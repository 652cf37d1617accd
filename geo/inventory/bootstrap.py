"""Intervals by resampling blocks of ground, because what lies side by side is right or wrong together.

Scars on one slope share its light, its rock and its training chip, so pixels and scars are no independent
draws: intervals that take them for such are too narrow. Ground is cut into square blocks, whole blocks are drawn
with replacement, and each score is computed anew from what the drawn blocks hold (Efron and Tibshirani 1993,
An Introduction to the Bootstrap, chapters 8 and 13: percentile intervals; blocks in space: Lahiri 2003,
Resampling Methods for Dependent Data, chapter 12).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from rasterio.windows import Window

from geo.errors import ConfigError
from geo.geobox import GeoBox
from geo.replicates import CHUNK, Interval, percentile_interval

#: With fewer blocks an interval would pretend to know more than it does, so there is none.
LEAST_BLOCKS = 10
#: Narrowest block, in pixels.
_LEAST_PIXELS = 8


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes
    ----------
    block_m : float
        Side of a block in metres.
    replicates : int
    seed : int
    level : float
        Share of the replicates inside an interval.
    """

    block_m: float = 500.0
    replicates: int = 1000
    seed: int = 0
    level: float = 0.95

    def facts(self, blocks: int) -> dict[str, Any]:
        """Tell how intervals were made, for the file of scores."""
        return {
            "method": (
                "percentile bootstrap of square blocks of ground, drawn with replacement; "
                "for shares of all or none the exact bound for as many draws as there are blocks with objects"
            ),
            "block_m": self.block_m,
            "blocks": blocks,
            "least_blocks": LEAST_BLOCKS,
            "replicates": self.replicates,
            "seed": self.seed,
            "level": self.level,
        }


class Blocks:
    """Square blocks of ground on the pixels of a grid, numbered by rows.

    Parameters
    ----------
    grid : GeoBox
        Its pixels may be rotated; a block is a square of pixels.
    block_m : float
        Side in metres.

    Raises
    ------
    ConfigError
        Blocks are so narrow that all of one lies within the reach of a mixed pixel and its neighbours.
    """

    def __init__(self, grid: GeoBox, block_m: float):
        pixel_m = max(np.hypot(grid.affine.b, grid.affine.e), np.hypot(grid.affine.a, grid.affine.d))
        if block_m < _LEAST_PIXELS * pixel_m:
            raise ConfigError(
                f"blocks of {block_m:g} m are less than {_LEAST_PIXELS} pixels of {pixel_m:g} m wide, so neighbours "
                f"would count as independent and intervals be too narrow; give --block-m {_LEAST_PIXELS * pixel_m:g} "
                "or more"
            )
        self._height, self._width = grid.shape
        self._inverse: Affine = ~grid.affine
        self.rows, self.columns = (
            round(block_m / size)
            for size in (np.hypot(grid.affine.b, grid.affine.e), np.hypot(grid.affine.a, grid.affine.d))
        )
        self.across = -(-self._width // self.columns)
        self.number = -(-self._height // self.rows) * self.across

    def of_window(self, window: Window) -> np.ndarray:
        """Give the number of the block of each pixel of a window: int64, shape (height, width)."""
        row = np.arange(window.row_off, window.row_off + window.height) // self.rows
        column = np.arange(window.col_off, window.col_off + window.width) // self.columns
        return row[:, None] * self.across + column[None, :]

    def of_points(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Give the number of the block of each point; one beyond the grid belongs to the nearest block."""
        t = self._inverse
        column, row = t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f
        row, column = np.clip(row, 0, self._height - 1), np.clip(column, 0, self._width - 1)
        return (row // self.rows).astype(np.int64) * self.across + (column // self.columns).astype(np.int64)


class Bootstrap:
    """Replicates of blocks, drawn once, so that all intervals of a comparison see the same draws.

    Parameters
    ----------
    present : ndarray of int
        Numbers of the blocks that hold searched ground.
    how : Resampling
    """

    def __init__(self, present: np.ndarray, how: Resampling):
        self.present, self.how = np.unique(present), how
        n = len(self.present)
        self.enough = n >= LEAST_BLOCKS
        random = np.random.default_rng(how.seed)
        draws = random.integers(0, n, (how.replicates, n)) if self.enough else np.empty((0, n), np.int64)
        rows = np.arange(len(draws))[:, None]
        self._times = np.zeros((len(draws), n), np.uint16)  # how often each replicate holds each block
        np.add.at(self._times, (rows, draws), 1)

    def place(self, blocks: np.ndarray) -> np.ndarray:
        """Positions of blocks, given by number, among those present; absent ones raise ``KeyError``."""
        at = np.searchsorted(self.present, blocks)
        at = np.minimum(at, max(len(self.present) - 1, 0))
        if len(blocks) and (self.present[at] != blocks).any():
            raise KeyError("a block that holds no searched ground")
        return at

    def sums(self, blocks: np.ndarray, *quantities: np.ndarray) -> list[np.ndarray]:
        """Add up quantities of objects by block: one array of shape (blocks present,) for each."""
        at = self.place(blocks)
        return [np.bincount(at, np.asarray(q, float), minlength=len(self.present)) for q in quantities]

    def ratio(self, part: np.ndarray, whole: np.ndarray) -> Interval:
        """Interval of sum(part) / sum(whole), both given by block present."""
        return self.interval(lambda s: s[:, 0] / s[:, 1], part, whole)

    def rate(self, part: np.ndarray, whole: np.ndarray) -> Interval:
        """Interval of a share of objects, given by block present as counts.

        Where all or none have a property every draw says the same, which does not mean certainty: then the bound
        is the exact one (Clopper and Pearson 1934) for as many draws as there are blocks with objects. Objects may be
        pixels too.
        """
        total, blocks = part.sum(), int((whole > 0).sum())
        if self.enough and blocks and total in (0, whole.sum()):
            bound = ((1 - self.how.level) / 2) ** (1 / blocks)
            return [0.0, 1 - bound] if total == 0 else [bound, 1.0]
        return self.ratio(part, whole)

    def interval(self, score: Callable[[np.ndarray], np.ndarray], *by_block: np.ndarray) -> Interval:
        """Interval of a score of sums over blocks.

        Parameters
        ----------
        score : callable
            From sums, shape (replicates, quantities), to scores, shape (replicates,); NaN where not defined.
        *by_block : ndarray, shape (blocks present,)
            The quantities.

        Returns
        -------
        [low, high] or None
            None where blocks are too few, the score is often not defined, or all draws say the same, as an interval of
            no width would pass for certainty.
        """
        if not self.enough:
            return None
        table = np.stack([np.asarray(q, float) for q in by_block], axis=1)
        sums = np.concatenate([times.astype(float) @ table for times in self._chunks(len(self.present))])
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._percentiles(score(sums))

    def quantile(self, values: np.ndarray, blocks: np.ndarray, share: float) -> Interval:
        """Interval of a quantile of objects' values.

        Parameters
        ----------
        values : ndarray, shape (n,)
        blocks : ndarray of int, shape (n,)
            Number of the block of each.
        share : float
            0.5 is the median.
        """
        if not self.enough or not len(values):
            return None
        order = np.argsort(values, kind="stable")
        at, ordered = self.place(np.asarray(blocks))[order], np.asarray(values, float)[order]
        found = []
        for times in self._chunks(len(order)):
            heap = np.cumsum(times[:, at].astype(float), axis=1)
            first = (heap < share * heap[:, -1:]).sum(axis=1)
            some = heap[:, -1] > 0
            found.append(np.where(some, ordered[np.minimum(first, len(ordered) - 1)], np.nan))
        return self._percentiles(np.concatenate(found))

    def _chunks(self, numbers: int) -> Sequence[np.ndarray]:
        step = max(1, CHUNK // max(numbers, 1))
        return [self._times[i : i + step] for i in range(0, len(self._times), step)]

    def _percentiles(self, replicates: np.ndarray) -> Interval:
        found = percentile_interval(replicates, self.how.level)
        return found if found and found[1] > found[0] else None
