"""From a mask to polygons along pixel edges, in blocks of rows, as if the whole mask had been seen at once.

The border of a region is a sequence of horizontal and vertical runs along the lines between pixels. Each
corner ends exactly one horizontal run, and one vertical one. So it is enough to note the horizontal runs of
every line (each lies within one block of rows): sorting their ends by column pairs them vertically, and
following the pairs gives closed rings. Nothing is cut at a seam between blocks, so nothing has to be mended.

Words: a *part* is a set of pixels joined by their edges, and always one polygon that is valid; a *region* is
what becomes one MultiPolygon: one part (connectivity 4), or parts that touch at corners (connectivity 8).
A *line* ``k`` lies above pixel row ``k``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from affine import Affine
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order

#: Sums of probability are kept in whole millionths: sums of whole numbers do not depend on their order.
_MICRO = 1e6

#: A horizontal piece of border on a line from column ``start`` to ``end``; ``below``: its region lies below it.
_RUN = np.dtype([("line", "i4"), ("start", "i4"), ("end", "i4"), ("part", "i4"), ("below", "?")])


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


@dataclass(frozen=True)
class Block:
    """What a block of rows tells before its neighbours are known; its parts are numbered from 1."""

    rows: int
    top: np.ndarray  # parts in the first row, 0 where none
    bottom: np.ndarray
    runs: np.ndarray  # on the lines inside the block, counted from its first row
    counts: np.ndarray  # pixels of each part from each source, shape (parts, sources)
    total: np.ndarray  # sum of values in millionths
    highest: np.ndarray


def measure(
    mask: np.ndarray,
    values: np.ndarray | None = None,
    source: np.ndarray | int = 0,
    *,
    sources: int = 1,
) -> Block:
    """Find the parts and borders inside one block of rows; a pure function, so blocks can be done in parallel.

    Parameters
    ----------
    mask : ndarray of bool, shape (rows, width)
        True inside regions.
    values : ndarray of float, shape (rows, width), optional
        For instance probability; read only where the mask is True.
    source : int or ndarray of int, shape (rows, width)
        Number of the source of each pixel.
    sources : int
        How many sources there are.

    Returns
    -------
    Block
    """
    rows, width = mask.shape
    plain = values is None and sources == 1
    if plain and mask.all():  # most of the ground that was searched
        one = np.ones(width, np.int32)
        return Block(rows, one, one, np.empty(0, _RUN), np.full((1, 1), mask.size), *np.full((2, 1), np.nan))
    if not mask.any():
        nothing = np.zeros(width, np.int32)
        return Block(rows, nothing, nothing, np.empty(0, _RUN), np.zeros((0, sources), np.int64), *np.zeros((2, 0)))
    number, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=4)
    parts = number - 1
    if plain:
        counts = np.bincount(labels.ravel(), minlength=number)[1:, None]
        return Block(rows, labels[0].copy(), labels[-1].copy(), _runs(labels), counts, *np.full((2, parts), np.nan))
    at = np.flatnonzero(mask)
    part: np.ndarray = labels.ravel()[at] - 1
    if sources == 1:
        counts = np.bincount(part, minlength=parts)[:, None]
    else:
        from_source = np.broadcast_to(source, mask.shape).ravel()[at]
        counts = np.bincount(part * sources + from_source, minlength=parts * sources).reshape(parts, sources)
    if values is None:
        total, highest = np.full((2, parts), np.nan)
    else:
        inside = values.ravel()[at].astype(np.float64)
        total = np.bincount(part, np.rint(inside * _MICRO), minlength=parts)
        highest = np.full(parts, -np.inf)
        np.maximum.at(highest, part, inside)
    return Block(rows, labels[0].copy(), labels[-1].copy(), _runs(labels), counts, total, highest)


def _runs(labels: np.ndarray) -> np.ndarray:
    """Horizontal runs on the lines between the rows of labelled parts, line by line from the left."""
    rows, width = labels.shape
    mask = np.zeros((rows, width + 2), np.int8)
    np.greater(labels, 0, out=mask[:, 1:-1], casting="unsafe")
    step = mask[1:] - mask[:-1]  # 1 where a region lies below the line, -1 above, 0 no border
    turn = step[:, 1:] - step[:, :-1]  # not 0 at the corners; 2 or -2 where one run ends and another begins
    at = np.flatnonzero(turn != 0)
    at = np.repeat(at, np.abs(turn.ravel()[at]))
    line, column = np.divmod(at, width + 1)
    runs = np.empty(len(at) // 2, _RUN)
    line = line[::2]
    runs["line"] = line + 1
    runs["start"], runs["end"] = column[::2], column[1::2]
    runs["below"] = step[line, column[::2] + 1] > 0
    runs["part"] = labels[line + runs["below"], column[::2]]
    return runs


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
        self._runs: np.ndarray = np.empty(0, _RUN)
        self._region: np.ndarray = np.empty(0, np.int64)  # region of each part that is carried on
        self._counts: np.ndarray = np.zeros((0, sources), np.int64)
        self._total: np.ndarray = np.zeros(0)
        self._highest: np.ndarray = np.zeros(0)
        self._done: list[Regions] = []

    def add(self, block: Block) -> None:
        """Join the next block of rows.

        Parameters
        ----------
        block : Block
            Of the same width and sources.
        """
        # parts that are carried on have the numbers 1..carried, those of the block follow
        carried, fresh = len(self._region), len(block.counts)
        top = np.where(block.top > 0, block.top + carried, 0)
        seam, inner = _runs(np.stack([self._bottom, top])), block.runs.copy()
        seam["line"] += self._row - 1
        inner["line"] += self._row
        inner["part"] += carried
        new = np.concatenate([seam, inner])

        # parts that meet at the seam are one
        joined = (self._bottom > 0) & (top > 0)
        part = _united(carried + fresh, self._bottom[joined] - 1, top[joined] - 1)
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

        # what does not reach the last row is finished; the rest is carried on under new numbers
        runs = np.concatenate([old, new])
        bottom = np.full(self._width, -1)  # parts in the last row
        bottom[block.bottom > 0] = part[block.bottom[block.bottom > 0] + carried - 1]
        is_open = np.zeros(regions, bool)
        is_open[region[bottom[bottom >= 0]]] = True
        self._finish(runs, region, ~is_open & (counts.sum(axis=1) >= self._min_pixels), counts, total, highest)

        stays = is_open[region]
        self._runs = runs[stays[runs["part"]]]
        new_part = np.cumsum(stays) - 1
        new_region = np.cumsum(is_open) - 1
        self._runs["part"] = new_part[self._runs["part"]]
        self._bottom = np.zeros(self._width, np.int32)
        self._bottom[bottom >= 0] = new_part[bottom[bottom >= 0]] + 1
        self._region = new_region[region[stays]]
        self._counts, self._total, self._highest = counts[is_open], total[is_open], highest[is_open]
        self._row += block.rows

    def _regions_of(self, part: np.ndarray, a: np.ndarray, b: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Region of each part: pairs ``(a, b)`` were one before, others touch at the corners of new runs."""
        if self._by_corners:
            left, right = runs[:-1], runs[1:]
            touch = (left["line"] == right["line"]) & (left["end"] == right["start"])
            a, b = np.append(a, left["part"][touch]), np.append(b, right["part"][touch])
        return _united(int(part.max(initial=-1)) + 1, a, b)

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
        geometry, which, first = _polygons(runs, region[runs["part"]], self._transform)
        counts = counts[which]
        pixels = counts.sum(axis=1)
        mean = total[which] / pixels / _MICRO
        self._done.append(Regions(geometry, pixels, first, mean, highest[which], counts.argmax(axis=1)))

    def finish(self) -> Regions:
        """Close what is open at the last row and give all regions."""
        self.add(measure(np.zeros((1, self._width), bool), sources=self._sources))
        if not self._done:
            empty = np.empty(0)
            whole = np.empty(0, np.int64)
            return Regions(np.empty(0, object), whole, np.empty((0, 2), np.int64), empty, empty, whole)
        columns = [np.concatenate([getattr(r, f) for r in self._done]) for f in Regions.__dataclass_fields__]
        first = columns[2]
        order = np.lexsort((first[:, 1], first[:, 0]))
        return Regions(*(c[order] for c in columns))


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


def _united(number: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Set to which each of ``number`` items belongs when the pairs ``(a, b)`` are united; sets count from 0."""
    if not number:
        return np.empty(0, np.int64)
    pairs = coo_array((np.ones(len(a), bool), (a, b)), shape=(number, number))
    return connected_components(pairs, directed=False)[1].astype(np.int64)


def _polygons(runs: np.ndarray, region: np.ndarray, transform: Affine) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Polygons of whole regions from their runs, which come line by line from the left.

    Returns
    -------
    geometry : ndarray of MultiPolygon, shape (n,)
    region : ndarray of int, shape (n,)
        Number of each.
    first : ndarray of int64, shape (n, 2)
        Row and column of its first pixel.
    """
    number = len(runs)
    part = runs["part"]
    corner_line = np.repeat(runs["line"], 2)
    corner_column = np.column_stack([runs["start"], runs["end"]]).ravel()
    across = _vertical(runs, corner_line, corner_column)

    # walk with the region on the left: westwards where it lies below the run
    enter = 2 * np.arange(number) + runs["below"]
    leave = enter ^ 1
    follows = across[leave] >> 1
    ring = connected_components(_arrows(follows), connection="strong")[1]

    # the first run of a part lies on its exterior, so in order of first runs a part's exterior comes before its holes
    ring_first = _first(ring)
    order = np.lexsort((ring_first, _first(part)[part[ring_first]], _first(region)[region[ring_first]]))
    heads = ring_first[order]
    before = np.empty(number, np.int64)
    before[follows] = np.arange(number)
    follows[before[heads]] = np.roll(heads, -1)  # one long walk through ring after ring
    walk = depth_first_order(_arrows(follows), heads[0], return_predecessors=False)

    corners = np.column_stack([enter[walk], leave[walk]]).ravel()
    ends = np.cumsum(2 * np.bincount(ring)[order])
    starts = np.append(0, ends[:-1])
    corners = np.insert(corners, ends, corners[starts])
    x, y = corner_column[corners].astype(np.float64), corner_line[corners].astype(np.float64)
    t = transform
    coordinates = np.column_stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f])

    part_starts = _changes(part[heads])
    region_starts = _changes(region[heads[part_starts]])
    offsets = (
        np.append(0, ends + np.arange(1, len(ends) + 1)),
        np.append(part_starts, len(heads)),
        np.append(region_starts, len(part_starts)),
    )
    geometry = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, coordinates, offsets)
    first = heads[part_starts[region_starts]]
    return geometry, region[first], np.column_stack([runs["line"][first], runs["start"][first]]).astype(np.int64)


def _vertical(runs: np.ndarray, corner_line: np.ndarray, corner_column: np.ndarray) -> np.ndarray:
    """Corner at the other end of the vertical run from each corner (2 p and 2 p + 1 are the ends of run p).

    Where two runs meet in a point, four border pieces do, and it has to be said which of the two corners
    goes up: the parts must stay apart if they are two, and the ground between must if it is one part, for a
    ring that visits a point twice is not valid.
    """
    left, right = runs[:-1], runs[1:]
    meet = np.flatnonzero((left["line"] == right["line"]) & (left["end"] == right["start"]))
    first_goes_down = right["below"][meet] == (left["part"][meet] == right["part"][meet])
    late = np.zeros(2 * len(runs), np.int64)
    late[2 * meet + 1] = first_goes_down
    late[2 * meet + 2] = ~first_goes_down
    lines = int(corner_line.max()) + 1
    order = np.argsort((corner_column.astype(np.int64) * lines + corner_line) * 2 + late)
    across = np.empty(len(order), np.int64)
    across[order[::2]], across[order[1::2]] = order[1::2], order[::2]
    return across


def _arrows(follows: np.ndarray) -> csr_array:
    """Graph with one arrow from each item to the one that follows it."""
    number = len(follows)
    arrows = (np.ones(number), follows.astype(np.int32), np.arange(number + 1, dtype=np.int32))
    return csr_array(arrows, shape=(number, number))


def _first(group: np.ndarray) -> np.ndarray:
    """Index of the first member of each group."""
    first = np.zeros(int(group.max()) + 1, np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]
    return first


def _changes(values: np.ndarray) -> np.ndarray:
    """Find the indices at which a new value begins, the first one included."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1]))
