"""Blocks of rows joined, from top to bottom, into regions with polygons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine

from geo.connected import united
from geo.vectorize.blocks import MICRO, RUN, Block, measure, runs_of
from geo.vectorize.rings import polygons


@dataclass(frozen=True)
class Regions:
    """Polygons of a mask, in the order of their first pixels (row by row).

    Attributes
    ----------
    geometry : ndarray of shapely.MultiPolygon, shape (n,)
        In the coordinates of the transform; exteriors counter-clockwise on a north-up grid, holes kept.
    pixels : ndarray of int64, shape (n,)
        Number of pixels.
    first : ndarray of int64, shape (n, 2)
        Row and column of the first pixel.
    mean, highest : ndarray of float64, shape (n,)
        Mean (to a millionth) and highest of the pixels' values; NaN where no values were given.
    source : ndarray of int64, shape (n,)
        Which source most of its pixels come from; the lower number where equal.
    """

    geometry: np.ndarray
    pixels: np.ndarray
    first: np.ndarray
    mean: np.ndarray
    highest: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.geometry)

    def take(self, which: np.ndarray) -> Regions:
        """Take some of the regions, by their numbers or a mask."""
        return Regions(*(getattr(self, name)[which] for name in Regions.__dataclass_fields__))

    @staticmethod
    def concatenate(several: Sequence[Regions]) -> Regions:
        """Join several sets of regions, in the order of their first pixels."""
        if not several:
            empty, whole = np.empty(0), np.empty(0, np.int64)
            return Regions(np.empty(0, object), whole, np.empty((0, 2), np.int64), empty, empty, whole)
        columns = [np.concatenate([getattr(r, name) for r in several]) for name in Regions.__dataclass_fields__]
        together = Regions(*columns)
        return together.take(np.lexsort((together.first[:, 1], together.first[:, 0])))


class Polygonizer:
    """Join blocks of rows, from top to bottom, into regions.

    Memory holds the regions that are not finished, and the polygons of those that are.

    Parameters
    ----------
    width : int
        Columns of the mask.
    transform : Affine
        From (column, row) to coordinates.
    connectivity : {4, 8}
        Pixels are joined by their edges, or by their corners too.
    min_pixels : int
        Regions with fewer pixels are left out.
    sources : int
        How many sources pixels may come from.

    Attributes
    ----------
    pixels : int
        Pixels of all blocks so far, also of regions that are left out.
    """

    def __init__(
        self, width: int, transform: Affine, *, connectivity: int = 4, min_pixels: int = 1, sources: int = 1
    ) -> None:
        if connectivity not in (4, 8):
            raise ValueError(f"connectivity must be 4 or 8, got {connectivity}")
        self._width, self._transform, self._sources = width, transform, sources
        self._by_corners, self._min_pixels = connectivity == 8, max(1, min_pixels)
        self._row = 0
        self._bottom: np.ndarray = np.zeros(width, np.int32)
        self._runs: np.ndarray = np.empty(0, RUN)
        self._region: np.ndarray = np.empty(0, np.int64)  # region of each part that is carried on
        self._counts: np.ndarray = np.zeros((0, sources), np.int64)
        self._total: np.ndarray = np.zeros(0)
        self._highest: np.ndarray = np.zeros(0)
        self._seeded: np.ndarray = np.zeros(0, bool)
        self._done: list[Regions] = []
        self.pixels = 0

    def add(self, block: Block) -> None:
        """Join the next block of rows.

        Parameters
        ----------
        block : Block
            Of the same width and sources.
        """
        self.pixels += int(block.counts.sum())
        # parts that are carried on have the numbers 1..carried, those of the block follow
        carried, fresh = len(self._region), len(block.counts)
        top = np.where(block.top > 0, block.top + carried, 0)
        seam, inner = runs_of(np.stack([self._bottom, top])), block.runs.copy()
        seam["line"] += self._row - 1
        inner["line"] += self._row
        inner["part"] += carried
        new = np.concatenate([seam, inner])

        # parts that meet at the seam are one
        joined = (self._bottom > 0) & (top > 0)
        part = united(carried + fresh, self._bottom[joined] - 1, top[joined] - 1)
        new["part"] = part[new["part"] - 1]
        old = self._runs
        old["part"] = part[old["part"]]

        first_part = np.full(len(self._counts), -1)  # one part of each region that is carried on
        first_part[self._region[::-1]] = np.arange(carried)[::-1]
        region = self._regions_of(part, part[:carried], part[first_part[self._region]], new)
        regions = int(region.max(initial=-1)) + 1
        owner = np.concatenate([region[part[first_part]], region[part[carried:]]])
        counts = np.zeros((regions, self._sources), np.int64)
        np.add.at(counts, owner, np.concatenate([self._counts, block.counts]))
        total = np.bincount(owner, np.concatenate([self._total, block.total]), minlength=regions)
        highest = np.full(regions, -np.inf)
        with np.errstate(invalid="ignore"):  # NaN where no values were given
            np.maximum.at(highest, owner, np.concatenate([self._highest, block.highest]))
        seeded = np.zeros(regions, bool)
        np.logical_or.at(seeded, owner, np.concatenate([self._seeded, block.seeded]))

        # what does not reach the last row is finished; the rest is carried on under new numbers
        runs = np.concatenate([old, new])
        bottom = np.full(self._width, -1)  # parts in the last row
        bottom[block.bottom > 0] = part[block.bottom[block.bottom > 0] + carried - 1]
        is_open = np.zeros(regions, bool)
        is_open[region[bottom[bottom >= 0]]] = True
        wanted = ~is_open & seeded & (counts.sum(axis=1) >= self._min_pixels)
        self._finish(runs, region, wanted, counts, total, highest)

        stays = is_open[region]
        self._runs = runs[stays[runs["part"]]]
        new_part = np.cumsum(stays) - 1
        new_region = np.cumsum(is_open) - 1
        self._runs["part"] = new_part[self._runs["part"]]
        self._bottom = np.zeros(self._width, np.int32)
        self._bottom[bottom >= 0] = new_part[bottom[bottom >= 0]] + 1
        self._region = new_region[region[stays]]
        self._counts, self._total = counts[is_open], total[is_open]
        self._highest, self._seeded = highest[is_open], seeded[is_open]
        self._row += block.rows

    def _regions_of(self, part: np.ndarray, a: np.ndarray, b: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Region of each part: pairs ``(a, b)`` were one before, others touch at the corners of new runs."""
        if self._by_corners:
            left, right = runs[:-1], runs[1:]
            touch = (left["line"] == right["line"]) & (left["end"] == right["start"])
            a, b = np.append(a, left["part"][touch]), np.append(b, right["part"][touch])
        return united(int(part.max(initial=-1)) + 1, a, b)

    def _finish(
        self,
        runs: np.ndarray,
        region: np.ndarray,
        wanted: np.ndarray,
        counts: np.ndarray,
        total: np.ndarray,
        highest: np.ndarray,
    ) -> None:
        """Make the polygons of regions to which no further row can add."""
        runs = runs[wanted[region[runs["part"]]]]
        if not len(runs):
            return
        geometry, which, first = polygons(runs, region[runs["part"]], self._transform)
        counts = counts[which]
        pixels = counts.sum(axis=1)
        mean = total[which] / pixels / MICRO
        self._done.append(Regions(geometry, pixels, first, mean, highest[which], counts.argmax(axis=1)))

    def finish(self) -> Regions:
        """Close what is open at the last row and give all regions."""
        self.add(measure(np.zeros((1, self._width), bool), sources=self._sources))
        return Regions.concatenate(self._done)


def polygonize(mask: np.ndarray, transform: Affine, *, connectivity: int = 4, min_pixels: int = 1) -> Regions:
    """Polygons of a mask that fits in memory.

    Parameters
    ----------
    mask : ndarray of bool, shape (height, width)
    transform : Affine
        From (column, row) to coordinates.
    connectivity : {4, 8}
        Pixels are joined by their edges, or by their corners too.
    min_pixels : int
        Regions with fewer pixels are left out.

    Returns
    -------
    Regions

    Examples
    --------
    >>> import numpy as np
    >>> from affine import Affine
    >>> ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    >>> polygonize(ring, Affine.scale(2)).geometry[0].area
    32.0
    """
    return join([measure(mask)], mask.shape[1], transform, connectivity=connectivity, min_pixels=min_pixels)


def join(
    blocks: Iterable[Block],
    width: int,
    transform: Affine,
    *,
    connectivity: int = 4,
    min_pixels: int = 1,
    sources: int = 1,
) -> Regions:
    """Regions of blocks of rows that follow each other from top to bottom; parameters as of ``Polygonizer``."""
    whole = Polygonizer(width, transform, connectivity=connectivity, min_pixels=min_pixels, sources=sources)
    for block in blocks:
        whole.add(block)
    return whole.finish()
