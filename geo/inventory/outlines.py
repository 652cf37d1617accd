"""Outlines of many polygons at once: how far apart two are, and which displacement lays one on the other.

Outlines are cut into short straight pieces. Pairs of polygons are kept apart in one search tree by a third
coordinate, so that the nearest piece of the right partner is found for all pairs in one query.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.spatial import KDTree

#: Distance between pairs in the third coordinate; farther than any two outlines of a pair.
_APART_M = 1e6


@dataclass(frozen=True)
class Pieces:
    """Short straight pieces of outlines, holes included.

    Attributes
    ----------
    start, end : ndarray, shape (n, 2)
    normal : ndarray, shape (n, 2)
        Unit vector that points out of the polygon.
    length : ndarray, shape (n,)
    owner : ndarray of int, shape (n,)
        Which geometry.
    """

    start: np.ndarray
    end: np.ndarray
    normal: np.ndarray
    length: np.ndarray
    owner: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """Shape (n, 2)."""
        return (self.start + self.end) / 2

    def only(self, kept: np.ndarray) -> Pieces:
        """Give those pieces that a mask keeps."""
        return Pieces(self.start[kept], self.end[kept], self.normal[kept], self.length[kept], self.owner[kept])


def pieces(geometry: np.ndarray, step_m: float, *, most: int = 600) -> Pieces:
    """Cut outlines into straight pieces of about ``step_m``, longer where an outline is very long.

    Parameters
    ----------
    geometry : ndarray of valid Polygons and MultiPolygons
    step_m : float
    most : int
        Pieces of an outline at most, but for those that its corners demand.
    """
    parts, of_part = shapely.get_parts(geometry, return_index=True)
    step = np.maximum(step_m, shapely.length(geometry) / most)
    # the normal form runs clockwise around a polygon and the other way around its holes: out is to the left
    rings, of_ring = shapely.get_rings(shapely.normalize(parts), return_index=True)
    owner = of_part[of_ring]
    points, ring = shapely.get_coordinates(shapely.segmentize(rings, step[owner]), return_index=True)
    same = ring[1:] == ring[:-1]
    start, end = points[:-1][same], points[1:][same]
    along = end - start
    length = np.hypot(*along.T)
    some = length > 0
    start, end, along, length = start[some], end[some], along[some], length[some]
    normal = np.column_stack([-along[:, 1], along[:, 0]]) / length[:, None]
    return Pieces(start, end, normal, length, owner[ring[1:][same]][some])


class Nearest:
    """Nearest point of each pair's outline.

    Parameters
    ----------
    to : Pieces
    facing_m : float
        A piece that faces the other way is taken for this much farther (twice over, as the normals differ by two
        units); 0 looks at distance alone.
    reach_m : float
        Nothing is looked for farther away.
    """

    def __init__(self, to: Pieces, facing_m: float = 0.0, reach_m: float = np.inf):
        self._to, self._facing_m, self._reach_m = to, facing_m, reach_m
        self._tree = KDTree(self._coordinates(to.middle, to.normal, to.owner))

    def _coordinates(self, points: np.ndarray, normal: np.ndarray, owner: np.ndarray) -> np.ndarray:
        columns = [points, owner[:, None] * _APART_M]
        return np.hstack([*columns, normal * self._facing_m] if self._facing_m else columns)

    def __call__(self, points: np.ndarray, normal: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest point on the outline of the same number.

        Parameters
        ----------
        points, normal : ndarray, shape (n, 2)
        owner : ndarray of int, shape (n,)

        Returns
        -------
        away : ndarray, shape (n, 2)
            From that point to the given one; infinite where there is none within reach.
        piece : ndarray of int, shape (n,)
            Piece that it lies on.
        """
        _, nearest = self._tree.query(self._coordinates(points, normal, owner), distance_upper_bound=self._reach_m)
        to, best = self._to, np.full(len(points), np.inf)
        beyond = nearest == len(to.owner)
        nearest[beyond] = 0
        away, piece = np.full((len(points), 2), np.inf), nearest.copy()
        for step in (0, -1, 1):  # the nearest middle is of the nearest piece or of its neighbour
            candidate = np.clip(nearest + step, 0, len(to.owner) - 1)
            along = to.end[candidate] - to.start[candidate]
            at = np.einsum("ij,ij->i", points - to.start[candidate], along) / to.length[candidate] ** 2
            vector = points - to.start[candidate] - np.clip(at, 0, 1)[:, None] * along
            distance = np.hypot(*vector.T)
            better = (distance < best) & (to.owner[candidate] == owner) & ~beyond
            best[better], away[better], piece[better] = distance[better], vector[better], candidate[better]
        return away, piece


@dataclass(frozen=True)
class Displacement:
    """How far each outline lies aside from its partner.

    Attributes
    ----------
    east, north : ndarray, shape (n,)
        Metres by which the outline lies east and north of where it belongs.
    margin_m : ndarray, shape (n,)
        By how much it lies outside its partner on all sides alike (negative: inside), once moved.
    support : ndarray, shape (n,)
        Share of the outline that lies on its partner's, once moved and but for that margin.
    error_m : ndarray, shape (n,)
        Standard error of the displacement; infinite where too little outline supports it in some direction.
    """

    east: np.ndarray
    north: np.ndarray
    margin_m: np.ndarray
    support: np.ndarray
    error_m: np.ndarray

    @property
    def length_m(self) -> np.ndarray:
        """Length of the displacement."""
        return np.hypot(self.east, self.north)


#: Stretches of an outline that are left out in turn to tell how certain a displacement is.
_STRETCHES = 8
#: An outline of which less lies on its partner's is laid on it from other sides too, lest a toe is taken for a crown.
_WELL_SUPPORTED = 0.9


def displacement(found: Pieces, true: Pieces, pairs: int, *, reach_m: float, tolerance_m: float) -> Displacement:
    """Find the displacement that lays each found outline on its true one, whatever part of the shape is missed.

    Iterated closest points with the distance along the true outline's normal (Chen and Medioni 1992, Image and
    Vision Computing 10: 145) and Geman-McClure weights whose scale shrinks from ``reach_m`` to ``tolerance_m``
    (graduated non-convexity; Blake and Zisserman 1987): stretches of outline that have no partner within
    ``tolerance_m``, such as the rim of a toe that was missed, lose their weight. A margin, equal on all sides, is
    estimated along with the displacement, so that an outline that is too large or too small does not count as aside.

    Parameters
    ----------
    found, true : Pieces
        With the same numbers for partners.
    pairs : int
    reach_m : float
        Longest displacement that is looked for.
    tolerance_m : float
        Outlines this near lie on each other; about two pixels.

    Returns
    -------
    Displacement
    """
    fit = np.zeros((pairs, 3))  # east, north, margin
    if not len(found.owner) or not len(true.owner):
        return Displacement(fit[:, 0], fit[:, 1], fit[:, 2], np.zeros(pairs), np.full(pairs, np.inf))
    search = _Search(found, true, pairs, reach_m, tolerance_m)
    everyone = np.ones(pairs, bool)
    held = search.descend(fit, everyone, reach_m, margin=False)
    fit = search.descend(held, everyone, 2 * tolerance_m)
    support = search.support(fit)
    starts: list[np.ndarray] = [np.zeros((pairs, 3))]
    for turn in np.arange(0, 2 * np.pi, np.pi / 3):
        starts.append(np.tile([0.6 * reach_m * np.cos(turn), 0.6 * reach_m * np.sin(turn), 0.0], (pairs, 1)))
    for start in starts:
        doubtful = support < _WELL_SUPPORTED
        if not doubtful.any():
            break
        other = search.descend(start, doubtful, reach_m / 2)
        supported = search.support(other)
        better = doubtful & (supported > support + 0.02)
        fit[better], support[better] = other[better], supported[better]
    return Displacement(-fit[:, 0], -fit[:, 1], fit[:, 2], support, search.error(fit, support))


class _Search:
    """Robust fit of displacement and margin for all pairs at once."""

    def __init__(self, found: Pieces, true: Pieces, pairs: int, reach_m: float, tolerance_m: float):
        self._found, self._true, self._pairs = found, true, pairs
        self._reach_m, self._tolerance_m = reach_m, tolerance_m
        self._nearest = Nearest(true, facing_m=reach_m, reach_m=2.5 * reach_m)
        self._whole = np.maximum(np.bincount(found.owner, found.length, minlength=pairs), 1e-9)

    def descend(self, fit: np.ndarray, which: np.ndarray, scale: float, *, margin: bool = True) -> np.ndarray:
        """Fit the chosen pairs from a start, shape (pairs, 3); the others stay."""
        fit = fit.copy()
        scales = np.geomspace(scale, self._tolerance_m, 6).tolist() + [self._tolerance_m] * 12
        going = which.copy()
        # a little inertia: what no outline tells of stays as it is
        inertia = np.outer(self._whole, [1e-3, 1e-3, 1e-2 if margin else 1e6])
        wide = np.zeros(self._pairs)
        for number, width in enumerate(scales):
            some = self._found.only(going[self._found.owner])
            weight, rows, deviation, distance = self._residuals(some, fit, np.maximum(width, wide))
            if number in (4, 8):  # outlines that are rough all along agree within their roughness
                wide = np.maximum(wide, 1.5 * self._median(distance, some))
            matrix, side = self._equations(weight, rows, deviation, some.owner)
            matrix[:, [0, 1, 2], [0, 1, 2]] += inertia
            step = np.linalg.solve(matrix, side[:, :, None])[:, :, 0]
            step[~going] = 0
            fit -= step
            fit[:, :2] *= np.minimum(1.0, self._reach_m / np.maximum(np.hypot(*fit[:, :2].T), 1e-12))[:, None]
            fit[:, 2] = np.clip(fit[:, 2], -self._reach_m / 2, self._reach_m / 2)
            if number >= 6:
                going &= np.abs(step).max(axis=1) > 0.02
                if not going.any():
                    break
        return fit

    def support(self, fit: np.ndarray) -> np.ndarray:
        """Share of each outline that lies on its partner's."""
        weight, _, _, distance = self._residuals(self._found, fit, np.full(self._pairs, self._tolerance_m))
        on = self._found.length * ((weight > 0) & (distance <= self._tolerance_m))
        return np.bincount(self._found.owner, on, minlength=self._pairs) / self._whole

    def error(self, fit: np.ndarray, support: np.ndarray) -> np.ndarray:
        """Give the standard error of the displacement by the jackknife: the outline is left out stretch by stretch.

        Where the displacement hangs on one stretch, as that of a long scar hangs on its toe, the error is large.
        """
        found, pairs = self._found, self._pairs
        before = np.concatenate([[0.0], np.cumsum(found.length)[:-1]])
        begin = np.full(pairs, np.inf)
        np.minimum.at(begin, found.owner, before)
        stretch = (_STRETCHES * (before - begin[found.owner]) / self._whole[found.owner]).astype(int)
        moved = []
        for number in range(_STRETCHES):
            rest = _Search(found.only(stretch != number), self._true, pairs, self._reach_m, self._tolerance_m)
            rest._nearest = self._nearest
            moved.append(rest.descend(fit, support > 0, 2 * self._tolerance_m)[:, :2])
        spread = np.asarray(moved) - np.mean(moved, axis=0)
        error = np.sqrt((_STRETCHES - 1) / _STRETCHES * (spread**2).sum(axis=(0, 2)))
        return np.where(self._facing(fit) >= 2 * self._tolerance_m, error, np.inf)

    def _facing(self, fit: np.ndarray) -> np.ndarray:
        """Metres of supporting outline that face the direction which fewest face: none of it, nothing is told."""
        weight, rows, deviation, distance = self._residuals(self._found, fit, np.full(self._pairs, self._tolerance_m))
        on = self._found.length * ((weight > 0) & (distance <= self._tolerance_m))
        matrix, _ = self._equations(on, rows, deviation, self._found.owner)
        return np.linalg.eigvalsh(matrix[:, :2, :2])[:, 0]

    def _residuals(self, some: Pieces, fit: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, ...]:
        """Weights (metres of outline), rows of the equations, deviations along the normal, and distances."""
        mine = fit[some.owner]
        away, piece = self._nearest(some.middle + mine[:, :2], some.normal, some.owner)
        near = np.isfinite(away[:, 0])
        normal = self._true.normal[piece]
        away[~near] = 0
        deviation = np.einsum("ij,ij->i", normal, away) - mine[:, 2]
        distance = np.hypot(*(away - mine[:, 2:] * normal).T)
        facing = np.maximum(np.einsum("ij,ij->i", normal, some.normal), 0) * near
        weight = some.length * facing**2 / (1 + (distance / scale[some.owner]) ** 2) ** 2
        return weight, np.column_stack([normal, -np.ones(len(normal))]), deviation, distance

    def _median(self, distance: np.ndarray, some: Pieces) -> np.ndarray:
        """Median distance of each pair, by length of outline."""
        order = np.lexsort((distance, some.owner))
        owner, heap = some.owner[order], np.cumsum(some.length[order])
        total = np.bincount(owner, some.length[order], minlength=self._pairs)
        half = np.cumsum(total) - total / 2
        first = np.searchsorted(heap, half)
        median = distance[order][np.minimum(first, len(order) - 1)]
        return np.where(total > 0, median, 0.0)

    def _equations(
        self, weight: np.ndarray, rows: np.ndarray, deviation: np.ndarray, owner: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Set up the normal equations of weighted least squares for each pair."""
        matrix, side = np.empty((self._pairs, 3, 3)), np.empty((self._pairs, 3))
        for i in range(3):
            side[:, i] = np.bincount(owner, weight * rows[:, i] * deviation, minlength=self._pairs)
            for j in range(i, 3):
                matrix[:, i, j] = np.bincount(owner, weight * rows[:, i] * rows[:, j], minlength=self._pairs)
                matrix[:, j, i] = matrix[:, i, j]
        return matrix, side
