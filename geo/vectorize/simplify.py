"""Take the staircase of pixels away: fewer corners, the same neighbours, the same area.

Borders are simplified as a coverage (Visvalingam's rule: the corner goes whose triangle is smallest), so that an
edge that two polygons share stays one edge and none begins to overlap. What that changes in area is given back by
moving the corners that a polygon has for itself along its outline by one and the same small distance. A polygon
that would become invalid by this, or run into a neighbour, is left as the simplification gave it; its error is
measured like that of all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine

#: A corner moves at most this many times the distance of its edges, or a needle's tip would run away.
_LONGEST_MITER = 2.0
#: Newton steps: the area is a parabola of the distance, and three reach rounding.
_STEPS = 3
#: Share of its area from which a polygon without neighbours is rather left as it was.
_MOST_LOST = 0.01
#: A side of a corner that Chaikin's rule cuts off.
_CUT = 0.25


@dataclass(frozen=True)
class Simplified:
    """Simpler polygons, and by how much they differ from those they come from.

    Attributes
    ----------
    geometry : ndarray of shapely.MultiPolygon, shape (n,)
    area_error : ndarray of float64, shape (n,)
        Relative change of the area.
    moved : ndarray of float64, shape (n,)
        Hausdorff distance to the border before, at the corners of both, in the units of the coordinates.
    """

    geometry: np.ndarray
    area_error: np.ndarray
    moved: np.ndarray


def simplify(
    geometry: np.ndarray,
    tolerance: float,
    *,
    smooth: int = 0,
    touching: np.ndarray | None = None,
    transform: Affine = Affine.identity(),  # noqa: B008 - a constant
) -> Simplified:
    """Simplify polygons along pixel edges; keep their area, and shared edges shared.

    Parameters
    ----------
    geometry : ndarray of shapely.MultiPolygon, shape (n,)
        No two overlap.
    tolerance : float
        Square root of the area of the largest triangle that is cut off, in the units of the coordinates; about
        1.5 pixels take single steps away. 0 leaves the corners as they are.
    smooth : int
        Rounds of Chaikin's corner cutting afterwards, on borders that are not shared.
    touching : ndarray of bool, shape (n,), optional
        Polygons that share edges with others.
    transform : Affine
        Grid of the pixels; edges of ``touching`` polygons get a corner at each pixel, so that shared edges have
        the same corners on both sides.

    Returns
    -------
    Simplified
    """
    if not len(geometry):
        return Simplified(geometry, np.zeros(0), np.zeros(0))
    simple = geometry.copy()
    if touching is not None and touching.any():
        simple[touching] = _with_all_corners(geometry[touching], transform)
    if tolerance > 0:
        simple = _multi(shapely.coverage_simplify(simple, tolerance))
    area = shapely.area(geometry)
    own = _Corners(simple)
    locked = own.locked
    for _ in range(smooth):
        own, locked = own.cut(locked)
    own.restore(area, locked)
    found = _whole_or(own.polygons(), simple)
    # a polygon of few pixels may lose a good part of itself, and cannot get it back; it keeps its corners
    lost = np.abs(shapely.area(found) / area - 1) > _MOST_LOST
    lost &= ~np.isin(np.arange(len(geometry)), own.polygon[locked])
    if lost.any():
        found = _whole_or(np.where(lost, geometry, found), found)
    error = np.abs(shapely.area(found) / area - 1)
    return Simplified(found, error, shapely.hausdorff_distance(geometry, found))


def _multi(geometry: np.ndarray) -> np.ndarray:
    parts, owner = shapely.get_parts(geometry, return_index=True)
    return shapely.multipolygons(parts, indices=owner)


def _with_all_corners(geometry: np.ndarray, transform: Affine) -> np.ndarray:
    """Polygons with a corner wherever their border passes one of a pixel, computed the same for each polygon."""
    kind, coordinates, offsets = shapely.to_ragged_array(geometry)
    t = ~transform
    column = np.rint(t.a * coordinates[:, 0] + t.b * coordinates[:, 1] + t.c)
    line = np.rint(t.d * coordinates[:, 0] + t.e * coordinates[:, 1] + t.f)
    steps = np.maximum(np.abs(np.diff(column)), np.abs(np.diff(line))).astype(np.int64)
    ends = offsets[0][1:-1]
    steps[ends - 1] = 1  # from the last corner of a ring to the first of the next
    begin = np.repeat(np.arange(len(steps)), steps)
    along = np.arange(len(begin)) - np.repeat(np.cumsum(steps) - steps, steps)
    share = along / steps[begin]
    column = np.append(column[begin] + np.rint(share * np.diff(column)[begin]), column[-1])
    line = np.append(line[begin] + np.rint(share * np.diff(line)[begin]), line[-1])
    moved = np.append(0, np.cumsum(steps))
    moved = np.append(moved, moved[-1] + 1)[offsets[0]]
    t = transform
    dense = np.column_stack([t.a * column + t.b * line + t.c, t.d * column + t.e * line + t.f])
    return shapely.from_ragged_array(kind, dense, (moved, *offsets[1:]))


class _Corners:
    """Corners of polygons without the one that closes each ring, and which ring and polygon each belongs to."""

    def __init__(self, geometry: np.ndarray):
        _, coordinates, (rings, self._parts, self._wholes) = shapely.to_ragged_array(geometry)
        keep = np.ones(len(coordinates), bool)
        keep[rings[1:] - 1] = False
        self.xy = coordinates[keep]
        self.sizes = np.diff(rings) - 1

    @property
    def polygon(self) -> np.ndarray:
        """Polygon of each corner."""
        rings = self._parts[self._wholes]
        return np.repeat(np.searchsorted(rings, np.arange(len(self.sizes)), side="right") - 1, self.sizes)

    @property
    def locked(self) -> np.ndarray:
        """Corners that lie on another: on a shared edge, or where polygons touch."""
        _, which, times = np.unique(self.xy, axis=0, return_inverse=True, return_counts=True)
        return times[which.ravel()] > 1

    def _neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """Index of the corner before and after each."""
        starts = np.cumsum(self.sizes) - self.sizes
        here = np.arange(len(self.xy))
        before, after = here - 1, here + 1
        before[starts] = starts + self.sizes - 1
        after[starts + self.sizes - 1] = starts
        return before, after

    def cut(self, locked: np.ndarray) -> tuple[_Corners, np.ndarray]:
        """One round of Chaikin: each free corner becomes two; locked ones stay."""
        before, after = self._neighbours()
        ring = np.repeat(np.arange(len(self.sizes)), self.sizes)
        first = self.xy + _CUT * (self.xy[before] - self.xy)
        last = self.xy + _CUT * (self.xy[after] - self.xy)
        times = np.where(locked, 1, 2)
        index = np.repeat(np.arange(len(self.xy)), times)
        second = np.append(False, index[1:] == index[:-1])
        xy = np.where(second[:, None], last[index], first[index])
        xy[locked[index]] = self.xy[index[locked[index]]]
        new = object.__new__(_Corners)
        new.xy, new._parts, new._wholes = xy, self._parts, self._wholes
        new.sizes = np.bincount(ring, times, minlength=len(self.sizes)).astype(np.int64)
        return new, locked[index]

    def restore(self, area: np.ndarray, locked: np.ndarray) -> None:
        """Move free corners along the outline until each polygon has its area."""
        before, after = self._neighbours()
        polygon, count = self.polygon, len(area)
        turned = np.array([[0.0, -1.0], [1.0, 0.0]])  # to the right of a counter-clockwise ring: outwards
        into, out = self.xy - self.xy[before], self.xy[after] - self.xy
        normals = [(v / np.maximum(np.hypot(*v.T), 1e-12)[:, None]) @ turned for v in (into, out)]
        miter = (normals[0] + normals[1]) / np.maximum(1 + (normals[0] * normals[1]).sum(axis=1), 1e-6)[:, None]
        length = np.maximum(np.hypot(*miter.T), 1e-12)
        miter *= (np.minimum(length, _LONGEST_MITER) / length)[:, None]
        miter[locked] = 0
        # counted from a corner of the polygon: products of coordinates of millions of metres lose the square metres
        origin = self.xy[np.searchsorted(polygon, np.arange(count))][polygon]
        for _ in range(_STEPS):
            x, y = (self.xy - origin).T
            now = np.bincount(polygon, x * y[after] - x[after] * y, minlength=count) / 2
            grows = 0.5 * (miter[:, 0] * (y[after] - y[before]) - miter[:, 1] * (x[after] - x[before]))
            rate = np.bincount(polygon, grows, minlength=count)
            missing = np.sign(now) * area - now
            step = np.where(np.abs(rate) > 1e-9, missing / np.where(rate == 0, 1, rate), 0)
            self.xy = self.xy + step[polygon][:, None] * miter

    def polygons(self) -> np.ndarray:
        """Give MultiPolygons, rings closed."""
        ends = np.cumsum(self.sizes)
        starts = ends - self.sizes
        closed = np.insert(self.xy, ends, self.xy[starts], axis=0)
        offsets = np.append(0, ends + np.arange(1, len(ends) + 1))
        return shapely.from_ragged_array(
            shapely.GeometryType.MULTIPOLYGON, closed, (offsets, self._parts, self._wholes)
        )


def _whole_or(wanted: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Take what is wanted where it is valid and overlaps no other, else what is known to be so."""
    found = np.where(shapely.is_valid(wanted), wanted, otherwise)
    bad = _overlapping(found) & (found != otherwise)
    while bad.any():
        found[bad] = otherwise[bad]
        bad = _overlapping(found) & (found != otherwise)
    return found


def _overlapping(geometry: np.ndarray) -> np.ndarray:
    """Whether the inside of each polygon meets that of another."""
    tree = shapely.STRtree(geometry)
    one, other = tree.query(geometry, predicate="intersects")
    pair = one < other
    one, other = one[pair], other[pair]
    # T: interiors meet
    meet = shapely.relate_pattern(geometry[one], geometry[other], "T********")
    result = np.zeros(len(geometry), bool)
    result[one[meet]] = result[other[meet]] = True
    return result
