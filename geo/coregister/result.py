"""What a registration has found: the displacement, the tie points, and the errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geo.displacement import Displacement


@dataclass(frozen=True)
class TiePoints:
    """Where the displacement was measured.

    Attributes
    ----------
    x, y : ndarray of float64, shape (n,)
        Map coordinates in metres, where the reference shows the thing.
    dx, dy : ndarray of float64
        Displacement in metres; NaN where nothing was found.
    residual_x, residual_y : ndarray of float64
        What was left after the model, measured, in metres.
    score : ndarray of float64
        Correlation of the gradients, at most 1.
    held_out : ndarray of bool
        Not used by the estimate.
    good : ndarray of bool
        False for outliers.
    """

    x: np.ndarray
    y: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    residual_x: np.ndarray
    residual_y: np.ndarray
    score: np.ndarray
    held_out: np.ndarray
    good: np.ndarray

    @property
    def status(self) -> np.ndarray:
        """``"used"`` by the model, ``"held out"`` for its check, or ``"rejected"``; shape (n,)."""
        return np.where(self.good, np.where(self.held_out, "held out", "used"), "rejected")


@dataclass(frozen=True)
class Registration:
    """A measured displacement between two images.

    Attributes
    ----------
    displacement : Displacement
        ``displacement(x, y)`` gives dx, dy in metres anywhere on the map, whatever the model is.
    crs : str
        CRS of all coordinates, as WKT.
    pixel_m : float
        Side of a pixel of the coarser image, in which residuals are judged.
    points : TiePoints
    rmse_m : float
        Of the tie points that the model was fitted to.
    held_out_rmse_m : float
        Measured with the model applied, at tie points that it was not fitted to.
    held_out_before_m : float
        Of the same tie points before registration.
    left_out_m : dict
        Name of each model that was tried: RMS of its misses at tie points left out of its fit, metres.
    """

    displacement: Displacement
    crs: str
    pixel_m: float
    points: TiePoints
    rmse_m: float
    held_out_rmse_m: float
    held_out_before_m: float
    left_out_m: dict[str, float] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """``"shift"``, ``"affine"`` or ``"local"``."""
        return self.displacement.model

    @property
    def origin(self) -> tuple[float, float]:
        """Middle of the common ground, that coefficients are counted from."""
        return self.displacement.origin

    @property
    def coefficients(self) -> np.ndarray:
        """Of the affine, see ``Displacement``; a local model has a field besides."""
        return self.displacement.coefficients

    def summary(self) -> dict[str, Any]:
        """Say the same in plain numbers, for a report; the shift is that of the middle of the common ground."""
        points = self.points
        used = points.good & ~points.held_out
        checked = points.good & points.held_out
        dx, dy = (float(d) for d in self.displacement(*self.origin))
        field = self.displacement.field
        return {
            "status": "measured",
            "model": self.model,
            "shift_x_m": dx,
            "shift_y_m": dy,
            "shift_px": float(np.hypot(dx, dy) / self.pixel_m),
            "pixel_m": self.pixel_m,
            "coefficients": self.coefficients.tolist(),
            "origin": list(self.origin),
            "field": None if field is None else {"bounds": list(field.bounds), "weights": field.weights.tolist()},
            "tie_points_used": int(used.sum()),
            "tie_points_held_out": int(checked.sum()),
            "tie_points_rejected": int((~points.good).sum()),
            "rmse_m": self.rmse_m,
            "held_out_rmse_m": self.held_out_rmse_m,
            "held_out_rmse_px": self.held_out_rmse_m / self.pixel_m,
            "held_out_before_m": self.held_out_before_m,
            "left_out_m": dict(self.left_out_m),
        }
