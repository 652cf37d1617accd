"""Where one image shows things beside another: a shift, an affine, or a smooth field, as a function of the map.

A displacement is where the moving image shows a thing, minus where the reference shows it, in metres along
x (east) and y (north): the moving image shows the reference's (x, y) at (x + dx, y + dy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Steps of ``Displacement.inverse``: each shrinks the error by the steepness of the displacement, a few percent.
_STEPS = 20
#: Change of a step, in metres, with which it ends.
_CONVERGED_M = 1e-5


@dataclass(frozen=True)
class Field:
    """A smooth vector field: uniform cubic B-splines on a rectangle, constant beyond its edges.

    Attributes
    ----------
    bounds : (left, bottom, right, top)
        The rectangle in map coordinates.
    weights : ndarray of float64, shape (2, rows + 3, cols + 3)
        Coefficients of the splines for dx and dy in metres, the first row at the bottom.
    """

    bounds: tuple[float, float, float, float]
    weights: np.ndarray

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vectors at points; fast where x is a row (1, n) and y a column (m, 1), as on a grid."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        left, bottom, right, top = self.bounds
        _, rows, cols = self.weights.shape
        if x.ndim == 2 and y.ndim == 2 and x.shape[0] == 1 and y.shape[1] == 1:
            across = basis(x[0], left, right, cols - 3)
            up = basis(y[:, 0], bottom, top, rows - 3)
            dx, dy = (up @ w @ across.T for w in self.weights)
            return dx, dy
        x, y = np.broadcast_arrays(x, y)
        across, up = basis(x.ravel(), left, right, cols - 3), basis(y.ravel(), bottom, top, rows - 3)
        dx, dy = (((up @ w) * across).sum(axis=1).reshape(x.shape) for w in self.weights)
        return dx, dy


@dataclass(frozen=True)
class Displacement:
    """An affine, and a field on top of it where one is needed.

    Attributes
    ----------
    origin : (float, float)
        Map coordinates that the coefficients are counted from.
    coefficients : ndarray of float64, shape (2, 3)
        ``dx = c00 + c01 (x - x0) + c02 (y - y0)`` in metres, and ``dy`` likewise.
    field : Field, optional
        Added to the affine.
    """

    origin: tuple[float, float]
    coefficients: np.ndarray
    field: Field | None = None

    @property
    def model(self) -> str:
        """``"shift"``, ``"affine"`` or ``"local"``."""
        if self.field is not None:
            return "local"
        return "affine" if self.coefficients[:, 1:].any() else "shift"

    def __call__(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Displacement in metres at points of the reference: it shows (x, y) where moving shows (x + dx, y + dy).

        Parameters
        ----------
        x, y : float or ndarray
            Map coordinates that broadcast with each other. On a grid give x as a row (1, n) and y as a column
            (m, 1): that takes a few milliseconds for a million pixels.

        Returns
        -------
        dx, dy : float or ndarray
        """
        dx, dy = evaluate(self.coefficients, self.origin, x, y)
        if self.field is not None:
            more_x, more_y = self.field(x, y)
            dx, dy = dx + more_x, dy + more_y
        return dx, dy

    def inverse(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Where the reference shows what the moving image shows at (x, y); by fixed-point iteration."""
        at_x, at_y = x, y
        for _ in range(_STEPS):
            dx, dy = self(at_x, at_y)
            change = np.abs(x - dx - at_x).max() + np.abs(y - dy - at_y).max()
            at_x, at_y = x - dx, y - dy
            if change < _CONVERGED_M:
                break
        return at_x, at_y

    def moved(self, step: np.ndarray) -> Displacement:
        """Copy with a shift in metres added."""
        coefficients = self.coefficients.copy()
        coefficients[:, 0] += step
        return Displacement(self.origin, coefficients, self.field)


def evaluate(coefficients: np.ndarray, origin: tuple[float, float], x: Any, y: Any) -> tuple[Any, Any]:
    """Displacement of an affine at points of the map, metres: ``dx = c00 + c01 (x - x0) + c02 (y - y0)``."""
    u, v = x - origin[0], y - origin[1]
    (a, b, c), (d, e, f) = coefficients
    return a + b * u + c * v, d + e * u + f * v


def fit_shift(vectors: np.ndarray, trust: np.ndarray, origin: tuple[float, float]) -> Displacement:
    """One shift, the mean of vectors (n, 2) weighted by trust (n,)."""
    return Displacement(origin, np.column_stack([np.average(vectors, axis=0, weights=trust), np.zeros((2, 2))]))


def fit_affine(
    x: np.ndarray, y: np.ndarray, vectors: np.ndarray, trust: np.ndarray, origin: tuple[float, float]
) -> Displacement:
    """Affine through vectors (n, 2) at points, by least squares weighted by trust (n,)."""
    weight = np.sqrt(trust)[:, None]
    design = np.column_stack([np.ones(len(x)), x - origin[0], y - origin[1]])
    return Displacement(origin, np.linalg.lstsq(weight * design, weight * vectors, rcond=None)[0].T)


def fit_field(
    x: np.ndarray,
    y: np.ndarray,
    vectors: np.ndarray,
    trust: np.ndarray,
    bounds: tuple[float, float, float, float],
    cells: tuple[int, int],
    stiffness: float,
) -> Field:
    """Smooth field through vectors (Eilers & Marx 2003, Chemometrics 66, 159-174: P-splines).

    The sum of squared misses, weighted by trust, plus ``stiffness`` times the bending of the field is least; the
    bending is that of a thin plate, by second differences of the coefficients.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Map coordinates.
    vectors : ndarray, shape (n, 2)
        Metres.
    trust : ndarray, shape (n,)
        Weights; 1 on average.
    bounds : (left, bottom, right, top)
        Rectangle of the field.
    cells : (int, int)
        Rows and columns of its lattice.
    stiffness : float
        0 follows every vector, a large one is all but a plane.

    Returns
    -------
    Field
    """
    left, bottom, right, top = bounds
    rows, cols = (n + 3 for n in cells)
    up, across = basis(y, bottom, top, cells[0]), basis(x, left, right, cells[1])
    design = (up[:, :, None] * across[:, None, :]).reshape(len(x), -1)
    one = np.eye(rows), np.eye(cols)
    first = np.diff(one[0], axis=0), np.diff(one[1], axis=0)
    second = np.diff(one[0], 2, axis=0), np.diff(one[1], 2, axis=0)
    bending = sum(
        weight * np.kron(a.T @ a, b.T @ b)
        for weight, a, b in ((1, second[0], one[1]), (2, first[0], first[1]), (1, one[0], second[1]))
    )
    # a trace of a pull to zero holds the field where no vector is near
    weighted = design * trust[:, None]
    system = weighted.T @ design + stiffness * bending + 1e-3 * np.eye(rows * cols)
    weights = np.linalg.solve(system, weighted.T @ vectors)
    return Field(bounds, weights.T.reshape(2, rows, cols))


def basis(at: np.ndarray, low: float, high: float, cells: int) -> np.ndarray:
    """Uniform cubic B-splines at points.

    Parameters
    ----------
    at : ndarray of float64, shape (n,)
        Points; those outside are moved to the nearest end.
    low, high : float
        Ends of the interval.
    cells : int
        Parts that it is cut into.

    Returns
    -------
    ndarray of float64, shape (n, cells + 3)
        Rows sum to 1.
    """
    place = np.clip((at - low) / (high - low), 0, 1) * cells
    cell = np.minimum(place.astype(int), cells - 1)
    t = place - cell
    parts = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    values = np.zeros((len(at), cells + 3))
    np.put_along_axis(values, cell[:, None] + np.arange(4), parts, axis=1)
    return values
