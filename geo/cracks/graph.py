"""Centre pixels joined to branches: lines between junctions and free ends, without the spurs that thinning leaves.

Two pixels are neighbours by their edges, or by a corner where no pixel beside both joins them already. A pixel with
three neighbours or more is part of a *junction*; junction pixels that touch are one. What is left are paths.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from geo.connected import united

#: A branch that reaches less far than this from its junction is a spur, however narrow the crack is.
SPUR_PX = 3.0
#: Branches from a junction to itself with fewer pixels enclose nothing.
_NO_LOOP = 4


@dataclass
class Branch:
    """A line of centre pixels.

    Attributes
    ----------
    path : ndarray of int
        Numbers of points (``Graph.xy`` and so on), in order, without the junctions at its ends.
    nodes : [int, int]
        Points of the junctions at its ends; -1 where an end is free.
    closed : bool
        A ring: the first point follows the last.
    """

    path: np.ndarray
    nodes: list[int]
    closed: bool = False

    @property
    def whole(self) -> np.ndarray:
        """Numbers of its points with the junctions."""
        first, last = ([n] if n >= 0 else [] for n in self.nodes)
        return np.concatenate([first, self.path, last]).astype(np.int64)


@dataclass
class Graph:
    """Centre pixels, then one point in the middle of each junction; and the branches between them.

    Attributes
    ----------
    xy : ndarray of float64, shape (points, 2)
        Column and row of the points in pixels; the centre of the first pixel lies at (0.5, 0.5).
    radius, area : ndarray of float
        Half width, and pixels that belong to the point.
    tip : ndarray of float, shape (points, 2)
        Centre of the farthest pixel that belongs to the point.
    cut : ndarray of bool
    branches : dict of int to Branch
    spurs : int
        How many were taken away.
    """

    xy: np.ndarray
    radius: np.ndarray
    area: np.ndarray
    tip: np.ndarray
    cut: np.ndarray
    branches: dict[int, Branch] = field(default_factory=dict)
    spurs: int = 0
    _numbers: Iterator[int] = field(default_factory=count)
    _at: dict[int, list[int]] = field(default_factory=dict)  # branches at each junction, twice where both ends are

    def add(self, branch: Branch) -> int:
        """Add a branch and give its number."""
        number = next(self._numbers)
        self.branches[number] = branch
        for node in branch.nodes:
            if node >= 0:
                self._at.setdefault(node, []).append(number)
        return number

    def remove(self, number: int) -> Branch:
        """Take a branch away."""
        branch = self.branches.pop(number)
        for node in branch.nodes:
            if node >= 0:
                self._at[node].remove(number)
        return branch

    def at(self, node: int) -> list[int]:
        """Numbers of the branches that end at a junction; one that begins and ends there is named twice."""
        return self._at.get(node, [])

    def length(self, branch: Branch) -> float:
        """Length of the raw line in pixels."""
        return float(np.hypot(*np.diff(self.xy[branch.whole], axis=0).T).sum())


def join(points: np.ndarray) -> Graph:
    """Join centre pixels to a graph.

    Parameters
    ----------
    points : ndarray of ``geo.cracks.skeleton.POINT``
        Each pixel once, in any order.

    Returns
    -------
    Graph
        With all spurs.
    """
    points = points[np.lexsort((points["col"], points["row"]))]
    a, b = _neighbours(points["row"].astype(np.int64), points["col"].astype(np.int64))
    number = len(points)
    degree = np.bincount(np.concatenate([a, b]), minlength=number)
    junction = degree >= 3
    both = junction[a] & junction[b]
    cluster = united(number, a[both], b[both])
    middle = np.unique(cluster[junction], return_inverse=True)[1]
    node = np.full(number, -1)
    node[junction] = number + middle
    graph = _graph(points, junction, middle)
    one = ~junction[a] & ~junction[b]
    links: list[list[int]] = [[] for _ in range(number)]
    for p, q in zip(a[one].tolist(), b[one].tolist(), strict=True):
        links[p].append(q)
        links[q].append(p)
    held: dict[int, list[int]] = {}
    for p, q in ((a, b), (b, a)):
        mixed = ~junction[p] & junction[q]
        for here, there in zip(p[mixed].tolist(), node[q[mixed]].tolist(), strict=True):
            held.setdefault(here, []).append(there)
    done = junction.copy()
    starts = [p for p in np.flatnonzero(~junction).tolist() if len(links[p]) < 2]
    for start in starts + np.flatnonzero(~junction).tolist():  # what is left after paths are rings
        if done[start]:
            continue
        path = _walk(start, links, done)
        closed = len(links[start]) == 2
        if len(path) == 1:
            ends = [*held.get(start, []), -1, -1][:2]
        else:
            ends = [held.get(path[0], [-1])[0], held.get(path[-1], [-1])[0]]
        graph.add(Branch(np.array(path), [-1, -1] if closed else ends, closed))
    for place in range(number, len(graph.xy)):
        _settle(graph, place)
    return graph


def prune(graph: Graph) -> None:
    """Take spurs away, the shortest first, and join what they had parted; the graph is changed.

    A spur is a branch with one free end that reaches from its junction less far than the crack is wide there (twice
    its half width), or than ``SPUR_PX``: a bulge of the border, not a crack. Its pixels count for the junction.
    """
    waiting = [(_reach(graph, n), n) for n in graph.branches if _is_side(graph, n)]
    heapq.heapify(waiting)
    while waiting:
        reach, number = heapq.heappop(waiting)
        if number not in graph.branches or not _is_side(graph, number):
            continue
        node = max(graph.branches[number].nodes)
        if reach >= max(2 * graph.radius[node], SPUR_PX):
            continue
        branch = graph.remove(number)
        graph.spurs += 1
        graph.area[node] += graph.area[branch.path].sum()
        graph.cut[node] |= graph.cut[branch.path].any()
        joined = _settle(graph, node)
        if joined is not None and _is_side(graph, joined):
            heapq.heappush(waiting, (_reach(graph, joined), joined))


def components(graph: Graph) -> dict[int, int]:
    """Which crack each branch belongs to: branches that meet have the same number."""
    numbers = list(graph.branches)
    place = {number: k for k, number in enumerate(numbers)}
    pairs = [(place[n], place[row[0]]) for row in graph._at.values() for n in row if row]
    a, b = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return dict(zip(numbers, united(len(numbers), a, b).tolist(), strict=True))


def _graph(points: np.ndarray, junction: np.ndarray, middle: np.ndarray) -> Graph:
    xy = np.column_stack([points["col"], points["row"]]) + 0.5
    tip = xy + points["tip"][:, ::-1]
    pixels = np.bincount(middle)
    centre = np.column_stack([np.bincount(middle, xy[junction, k]) / pixels for k in (0, 1)])
    radius = np.zeros(len(pixels))
    np.maximum.at(radius, middle, points["radius"][junction])
    cut = np.bincount(middle, points["cut"][junction]) > 0
    return Graph(
        xy=np.concatenate([xy, centre]),
        radius=np.concatenate([points["radius"], radius]).astype(float),
        area=np.concatenate([points["area"], np.bincount(middle, points["area"][junction])]).astype(float),
        tip=np.concatenate([tip, centre]),
        cut=np.concatenate([points["cut"], cut]),
    )


def _neighbours(row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of neighbours among pixels that are sorted by row and column."""
    if not len(row):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    stride = int(col.max()) + 3
    key = row * stride + col + 1

    def beside(down: int, right: int) -> np.ndarray:
        wanted = key + down * stride + right
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where(key[place] == wanted, place, -1)

    east, west, south = beside(0, 1), beside(0, -1), beside(1, 0)
    south_east = np.where((east < 0) & (south < 0), beside(1, 1), -1)
    south_west = np.where((west < 0) & (south < 0), beside(1, -1), -1)
    found = [(np.flatnonzero(to >= 0), to[to >= 0]) for to in (east, south, south_east, south_west)]
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _walk(start: int, links: list[list[int]], done: np.ndarray) -> list[int]:
    path, here = [start], start
    done[start] = True
    while True:
        ahead = [p for p in links[here] if not done[p]]
        if not ahead:
            return path
        here = ahead[0]
        done[here] = True
        path.append(here)


def _settle(graph: Graph, node: int) -> int | None:
    """Join the two branches that are left at a junction; gives the number of the joined one."""
    for number in set(graph.at(node)):
        branch = graph.branches[number]
        if branch.nodes == [node, node] and len(branch.path) < _NO_LOOP and len(graph.at(node)) > 2:
            graph.remove(number)
            graph.area[node] += graph.area[branch.path].sum()
    there = graph.at(node)
    if len(there) > 2:
        return None
    if len(there) == 2 and there[0] == there[1]:
        branch = graph.remove(there[0])
        return graph.add(Branch(np.append(branch.path, node), [-1, -1], closed=True))
    parts = [_ending_at(graph.remove(number), node) for number in list(there)]
    if not parts:
        return graph.add(Branch(np.array([node]), [-1, -1]))
    if len(parts) == 1:
        return graph.add(Branch(np.append(parts[0].path, node), [parts[0].nodes[0], -1]))
    first, second = parts
    path = np.concatenate([first.path, [node], second.path[::-1]])
    return graph.add(Branch(path, [first.nodes[0], second.nodes[0]]))


def _ending_at(branch: Branch, node: int) -> Branch:
    """Branch whose last end is at a junction."""
    if branch.nodes[1] == node:
        return branch
    return Branch(branch.path[::-1], branch.nodes[::-1])


def _is_side(graph: Graph, number: int) -> bool:
    """Whether a branch has one free end and leaves a junction with others."""
    nodes = graph.branches[number].nodes
    return min(nodes) < 0 <= max(nodes) and len(graph.at(max(nodes))) > 2


def _reach(graph: Graph, number: int) -> float:
    branch = graph.branches[number]
    free = branch.path[0] if branch.nodes[0] < 0 else branch.path[-1]
    return graph.length(branch) + float(graph.radius[free])
