"""From runs of border to rings, and from rings to polygons."""

from __future__ import annotations

import numpy as np
import shapely
from affine import Affine
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order


def polygons(runs: np.ndarray, region: np.ndarray, transform: Affine) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Polygons of whole regions from their runs, which come line by line from the left.

    Parameters
    ----------
    runs : ndarray of ``geo.vectorize.blocks.RUN``
    region : ndarray of int
        Number of the region of each run.
    transform : Affine
        From (column, line) to coordinates.

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
