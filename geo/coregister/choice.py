"""Which tie points agree, and which model they support: a shift, an affine or a local field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.spatial import cKDTree

from geo.displacement import Displacement, fit_affine, fit_field, fit_shift

#: Fewest tie points of any model, of an affine, and of a local one.
FEWEST, FEWEST_AFFINE, FEWEST_LOCAL = 4, 12, 30
#: An affine must predict n left-out points better than a shift by the factor 1 - 1.8 / sqrt(n), for few noisy points
#: lie on some plane by chance; a local model better than both by the second number and by so many pixels.
_AFFINE_DOUBT, _LOCAL_GAIN, _LOCAL_GAIN_PX = 1.8, 0.75, 0.03
_FOLDS = 4
#: Neighbours that a tie point is compared with.
_NEIGHBOURS = 8
#: Tie points along a side for one cell of the field's lattice, and cells at most.
_POINTS_PER_CELL, _MOST_CELLS = 1.5, 16
_STIFFNESS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)

_Fit = Callable[[np.ndarray], Displacement]


@dataclass(frozen=True)
class Choice:
    """A model and the tie points that it was fitted to.

    Attributes
    ----------
    displacement : Displacement
    fitted : ndarray of bool, shape (n,)
    left_out : dict
        Model: RMS of its misses at points left out of its fit, in the unit of the vectors.
    """

    displacement: Displacement
    fitted: np.ndarray
    left_out: dict[str, float]


class Vectors:
    """Displacements measured at points, from which a model is chosen.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Map coordinates.
    vectors : ndarray, shape (n, 2)
        Metres; NaN where none was measured.
    score : ndarray, shape (n,)
        Correlation of the gradients: a point counts by its square.
    origin : (float, float)
        Coefficients are counted from here.
    bounds : (left, bottom, right, top)
        Ground that a field must cover.
    tolerance_m : float
        Points that miss a model by more do not agree with it.
    pixel_m : float
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        vectors: np.ndarray,
        score: np.ndarray,
        *,
        origin: tuple[float, float],
        bounds: tuple[float, float, float, float],
        tolerance_m: float,
        pixel_m: float,
    ):
        self.x, self.y, self.vectors, self.trust = x, y, vectors, np.square(score)
        self.origin, self.bounds, self.tolerance_m, self.pixel_m = origin, bounds, tolerance_m, pixel_m

    def choose(self, candidates: np.ndarray) -> Choice | None:
        """Choose the model that candidates support, or None where they do not agree with each other.

        Parameters
        ----------
        candidates : ndarray of bool, shape (n,)
            Points that may be used, ``FEWEST`` at least.
        """
        plain = self._plain(candidates)
        local = self._local(candidates)
        return local if local is not None else plain

    def misses(self, model: Displacement) -> np.ndarray:
        """Distances of the vectors from the model's, metres; infinite where none was measured."""
        miss = np.column_stack(np.broadcast_arrays(*model(self.x, self.y))) - self.vectors
        return np.nan_to_num(np.hypot(*miss.T), nan=np.inf)

    def _shift(self, index: np.ndarray) -> Displacement:
        return fit_shift(self.vectors[index], self.trust[index], self.origin)

    def _affine(self, index: np.ndarray) -> Displacement:
        return fit_affine(self.x[index], self.y[index], self.vectors[index], self.trust[index], self.origin)

    def _field(self, index: np.ndarray, stiffness: float) -> Displacement:
        affine = self._affine(index)
        x, y = self.x[index], self.y[index]
        rest = self.vectors[index] - np.column_stack(affine(x, y))
        trust = self.trust[index] / self.trust[index].mean()
        field = fit_field(x, y, rest, trust, self.bounds, self._cells(len(index)), stiffness)
        return Displacement(affine.origin, affine.coefficients, field)

    def _cells(self, points: int) -> tuple[int, int]:
        """Rows and columns of a lattice that this many points support, in the proportions of the ground."""
        left, bottom, right, top = self.bounds
        aspect = (right - left) / (top - bottom)
        cols = np.sqrt(points * aspect) / _POINTS_PER_CELL
        rows = np.sqrt(points / aspect) / _POINTS_PER_CELL
        rows, cols = (int(np.clip(round(n), 1, _MOST_CELLS)) for n in (rows, cols))
        return rows, cols

    def _left_out(self, index: np.ndarray, fit: _Fit) -> float:
        """RMS of the misses of points that were left out of the fit, a quarter at a time."""
        misses = np.zeros(len(index))
        # not every fourth: that would be columns of a grid
        part = np.random.default_rng(0).permutation(len(index)) % _FOLDS
        for fold in range(_FOLDS):
            misses[part == fold] = self.misses(fit(index[part != fold]))[index[part == fold]]
        return float(np.sqrt(np.mean(misses**2)))

    def _plain(self, candidates: np.ndarray) -> Choice | None:
        """Shift or affine of the candidates that agree on one (RANSAC), within three deviations (MAD)."""
        index = np.flatnonzero(candidates)
        best = np.zeros(len(self.x), bool)
        chance = np.random.default_rng(0)
        # with few points an affine fits anything: then begin from the shift of a single one
        size, guess = (3, self._affine) if len(index) >= 12 else (1, self._shift)
        for _ in range(200):
            agree = candidates & (self.misses(guess(chance.choice(index, size, replace=False))) < self.tolerance_m)
            if agree.sum() > best.sum():
                best = agree
        if best.sum() < max(FEWEST, len(index) // 3):
            return None
        model, _ = self._better(np.flatnonzero(best))
        misses = self.misses(model)
        fitted = candidates & (misses <= usual_miss(misses[best], self.pixel_m))
        model, left_out = self._better(np.flatnonzero(fitted))
        return Choice(model, fitted, left_out)

    def _better(self, index: np.ndarray) -> tuple[Displacement, dict[str, float]]:
        """Shift or affine, whichever predicts points better which it was not given."""
        if len(index) < FEWEST_AFFINE:
            return self._shift(index), {}
        left_out = {"shift": self._left_out(index, self._shift), "affine": self._left_out(index, self._affine)}
        affine = left_out["affine"] < (1 - _AFFINE_DOUBT / np.sqrt(len(index))) * left_out["shift"]
        return (self._affine if affine else self._shift)(index), left_out

    def _local(self, candidates: np.ndarray) -> Choice | None:
        """Fit a smooth field to the candidates that agree with their neighbours; give it where it is clearly better."""
        fitted = self._like_neighbours(candidates)
        if fitted.sum() < max(FEWEST_LOCAL, candidates.sum() // 3):
            return None
        index = np.flatnonzero(fitted)
        by_stiffness = {s: self._left_out(index, partial(self._field, stiffness=s)) for s in _STIFFNESS}
        stiffness = min(by_stiffness, key=lambda s: by_stiffness[s])
        for again in (True, True, False):  # points at the rim come back, whose neighbours all lie on one side
            misses = self.misses(self._field(index, stiffness))
            fitted = candidates & (misses <= (self.pixel_m if again else usual_miss(misses[index], self.pixel_m)))
            index = np.flatnonzero(fitted)
        left_out = {
            "shift": self._left_out(index, self._shift),
            "affine": self._left_out(index, self._affine),
            "local": self._left_out(index, partial(self._field, stiffness=stiffness)),
        }
        plain = min(left_out["shift"], left_out["affine"])
        better = left_out["local"] < _LOCAL_GAIN * plain and left_out["local"] < plain - _LOCAL_GAIN_PX * self.pixel_m
        return Choice(self._field(index, stiffness), fitted, left_out) if better else None

    def _like_neighbours(self, candidates: np.ndarray) -> np.ndarray:
        """Mark candidates that miss the median of their neighbours by a pixel at most; twice, to forget outliers."""
        alike = candidates.copy()
        for _ in range(2):
            index = np.flatnonzero(alike)
            if len(index) < FEWEST_LOCAL:
                return np.zeros(len(candidates), bool)
            tree = cKDTree(np.column_stack([self.x[index], self.y[index]]))
            _, near = tree.query(np.column_stack([self.x[candidates], self.y[candidates]]), k=_NEIGHBOURS + 1)
            usual = np.median(self.vectors[index[near]], axis=1)
            alike = candidates.copy()
            alike[candidates] = np.hypot(*(self.vectors[candidates] - usual).T) < self.pixel_m
        return alike


def usual_miss(misses: np.ndarray, pixel_m: float, least_px: float = 0.1) -> float:
    """Give the miss that is not unusual among these: three deviations, by their median."""
    return max(3 * 1.4826 * float(np.median(misses)), least_px * pixel_m)
