"""Ground control: points known in the image and on the ground correct the camera model in image space.

An RPC as delivered is off by metres to tens of metres, for the attitude of the satellite is known to arc seconds only.
Over one scene that error is nearly a shift of the image, and what is left of it nearly an affine: Fraser & Hanley
add to the line and sample of the RPC

    d_sample = a0 + a1 * sample + a2 * line        d_line = b0 + b1 * sample + b2 * line

with a0 and b0 alone (bias) or all six (affine). The coefficients are fitted by least squares to the points that agree;
wrong points are found before by the least median of squares (Rousseeuw). Each point is also predicted by a fit that it
took no part in: these left-out residuals choose between the models, and are the error to expect elsewhere.

References
----------
Fraser & Hanley 2003, Bias compensation in rational functions for Ikonos satellite imagery, PE&RS 69(1), 53-57.
Fraser & Hanley 2005, Bias-compensated RPCs for sensor orientation of high-resolution imagery, PE&RS 71(8), 909-915.
Rousseeuw 1984, Least median of squares regression, JASA 79(388), 871-880.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from geo.errors import ConfigError, RegistrationError, unknown_name
from geo.ortho.control_points import ControlPoints
from geo.ortho.dem import Dem
from geo.ortho.rpc import CENTRE, CameraModel

log = logging.getLogger(__name__)

#: Agreeing points that each model needs: one more than decides it for a bias, twice as many for an affine.
FEWEST = {"bias": 3, "affine": 6}
MODELS = ("auto", *FEWEST)
#: Pixels within which no point is wrong, for nobody measures better; and beyond which every point is.
_CERTAIN_PX, _WRONG_PX = 0.5, 10.0
#: Share of the left-out error of the simpler model that a richer one may leave at most.
_BETTER = 0.9
#: Smallest spread of the points, in half images along the shorter way, that carries an affine.
_SPREAD = 0.2
_TRIALS = 500
#: Of distances in the plane, in deviations of one coordinate: the median, and what one in a hundred exceeds.
_MEDIAN, _CHANCE = 1.1774, 3.035
#: Left-out error in pixels that is warned of.
_POOR_PX = 1.5
#: Points nearer to each other than this, and off by the same, are one measurement.
_ONE_PX = 1.0
#: Correction in pixels that is warned of: tens of metres are usual, which are fewer in any image.
_LARGE_PX = 200.0
#: Metres that points lie from the DEM in the median, beyond what a geoid (107 m at most) and errors of a DEM explain;
#: and within which a height is the DEM's own.
_APART_M, _DEMS_OWN_M = 150.0, 1.0


@dataclass(frozen=True)
class Refinement:
    """A correction of a camera model in image space, and how well it holds.

    Attributes
    ----------
    model : str
        ``"none"``, ``"bias"`` or ``"affine"``.
    correction : ndarray of float64, shape (2, 3)
        As in ``CameraModel``, pixels.
    points : ControlPoints
    height : ndarray of float64, shape (n,)
        Metres above the ellipsoid that was used; NaN where none is known.
    status : tuple of str
        Of each point: ``used``, ``rejected``, ``outside`` (of the image), ``no height`` or ``repeated`` (another).
    before, after, left_out : ndarray of float64, shape (n, 2)
        Column and row measured less those of the camera model: as delivered, corrected, and corrected by the other
        points alone; NaN where there is none.
    """

    model: str
    correction: np.ndarray
    points: ControlPoints
    height: np.ndarray
    status: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray
    left_out: np.ndarray

    def rmse(self, residuals: np.ndarray) -> float:
        """Root mean square distance in pixels of the points used."""
        used = np.array(self.status) == "used"
        return float(np.sqrt(np.mean(np.sum(residuals[used] ** 2, axis=1))))

    def as_dict(self) -> dict[str, Any]:
        """For a record, in plain numbers; residuals are pixels, measured less modelled."""
        count = {name: self.status.count(name) for name in ("used", "rejected", "outside", "no height", "repeated")}
        return {
            "model": self.model,
            "correction_px": self.correction.tolist(),
            "points": {name.replace(" ", "_"): number for name, number in count.items()},
            "rmse_before_px": self.rmse(self.before),
            "rmse_px": self.rmse(self.after),
            "held_out_rmse_px": self.rmse(self.left_out),
            "residuals": [
                {
                    "name": name,
                    "col": float(self.points.col[i]),
                    "row": float(self.points.row[i]),
                    "lon": float(self.points.lon[i]),
                    "lat": float(self.points.lat[i]),
                    "height_m": _plain(self.height[i]),
                    "status": self.status[i],
                    "before_px": [_plain(v) for v in self.before[i]],
                    "after_px": [_plain(v) for v in self.after[i]],
                    "held_out_px": [_plain(v) for v in self.left_out[i]],
                }
                for i, name in enumerate(self.points.names)
            ],
        }


def refine(
    camera: CameraModel,
    points: ControlPoints,
    *,
    shape: tuple[int, int],
    dem: Dem | None = None,
    model: str = "auto",
) -> Refinement:
    """Fit a correction of a camera model to ground control points.

    Parameters
    ----------
    camera : CameraModel
        As delivered.
    points : ControlPoints
    shape : (int, int)
        Height and width of the image in pixels; points outside are left aside.
    dem : Dem, optional
        Gives the height of points that have none; heights of others that lie far from it are warned of.
    model : str
        ``"bias"``, ``"affine"``, or ``"auto"`` for the one with the smallest left-out residuals, where a richer one
        must be better by a tenth; that may be none, where the RPC is right already.

    Returns
    -------
    Refinement

    Raises
    ------
    ConfigError
        An unknown model.
    RegistrationError
        Too few points lie in the image and agree with each other, or they lie too near to a line for an affine.
    """
    if model not in MODELS:
        raise ConfigError(unknown_name("model of ground control", model, MODELS))
    ground = np.full(len(points.lon), np.nan) if dem is None else dem.heights(points.lon, points.lat).astype(float)
    height = np.where(np.isnan(points.height), ground, points.height)
    _tell_of_heights(camera, points, ground)  # before the fit, which may fail because of them
    col, row = camera.to_image(points.lon, points.lat, height)
    before = np.column_stack([points.col - col, points.row - row])
    inside = (points.col >= 0) & (points.col <= shape[1]) & (points.row >= 0) & (points.row <= shape[0])
    placed = inside & np.isfinite(before).all(axis=1)
    repeated = _repeated(points, before, placed)
    usable = placed & ~repeated
    least = FEWEST["bias" if model == "auto" else model]
    if usable.sum() < least:
        repeats = f" ({repeated.sum()} repeat another)" if repeated.any() else ""
        raise RegistrationError(
            f"{points.source} has {usable.sum()} ground control points inside the image and with a height, of "
            f"{len(points.names)}{repeats}; expected {least} at least, so that a wrong one can be told: measure more, "
            "in pixels from the image's upper left corner"
        )
    # sample and line that the RPC gives, in its own units: what the correction is a function of
    design = np.column_stack(
        [
            np.ones(len(col)),
            (col - CENTRE - camera.offsets[3]) / camera.scales[3],
            (row - CENTRE - camera.offsets[4]) / camera.scales[4],
        ]
    )
    half = np.array(shape)[::-1] / 2 / np.abs(camera.scales[3:])
    agree = _agreeing(design, before, usable, "bias" if model == "bias" else "affine")
    richest = "bias" if model == "bias" or not _carries_affine(design[agree], half) else "affine"
    if model == "affine" and richest == "bias":
        raise RegistrationError(
            f"{points.source}: {agree.sum()} ground control points agree, too few or too near to a line for an affine; "
            f"expected {FEWEST['affine']} at least, all over the image: measure more, or give --gcp-model bias"
        )
    if agree.sum() < least or agree.sum() <= usable.sum() / 2:
        raise RegistrationError(
            f"{points.source}: {agree.sum()} of {usable.sum()} ground control points agree with each other; expected "
            f"{least} at least and more than half: check them, in pixels from the image's upper left corner"
        )
    chosen = model if model != "auto" else _best(design, before, agree, richest)
    correction = _fit(design[agree], before[agree], chosen)
    left_out = np.full_like(before, np.nan)
    for i in np.flatnonzero(usable):
        others = agree & (np.arange(len(agree)) != i)
        left_out[i] = before[i] - design[i] @ _fit(design[others], before[others], chosen).T
    kinds = np.select([~inside, ~placed, repeated, agree], ["outside", "no height", "repeated", "used"], "rejected")
    status = tuple(map(str, kinds))
    made = Refinement(chosen, correction, points, height, status, before, before - design @ correction.T, left_out)
    corners = np.array([[1, u, v] for u in (-half[0], half[0]) for v in (-half[1], half[1])])
    largest = float(np.hypot(*(corners @ correction.T).T).max())
    if largest > _LARGE_PX:
        log.warning(
            "%s: the correction reaches %.0f pixels, and RPCs as delivered are off by some tens of metres; check that "
            "the points are of this image, in pixels from its upper left corner, and their CRS",
            points.source,
            largest,
        )
    if made.rmse(left_out) > _POOR_PX:
        log.warning(
            "%s: the ground control points agree to %.1f pixels only (left-out residuals, model %s); look at each",
            points.source,
            made.rmse(left_out),
            chosen,
        )
    return made


def _tell_of_heights(camera: CameraModel, points: ControlPoints, ground: np.ndarray) -> None:
    """Warn where the heights given with points can hardly be metres: a correction takes up what they spoil."""
    apart = points.height - ground
    with np.errstate(invalid="ignore"):
        own = np.isfinite(points.height) & ~(np.abs(apart) < _DEMS_OWN_M)  # what the DEM says is told of the DEM
    beyond = own & camera.extrapolates(points.height)
    if beyond.any():
        log.warning(
            "%s: %d of %d ground control points lie at %.0f to %.0f m above the ellipsoid, the RPC was made for %.0f "
            "to %.0f m; positions beyond are extrapolated (is their z in metres?)",
            points.source,
            beyond.sum(),
            len(beyond),
            points.height[beyond].min(),
            points.height[beyond].max(),
            *camera.height_range,
        )
    both = np.isfinite(apart)
    middle = float(np.median(apart[both])) if both.any() else 0.0
    if abs(middle) > _APART_M:
        log.warning(
            "%s: the ground control points lie at %.0f to %.0f m above the ellipsoid, the DEM at %.0f to %.0f m there, "
            "%.0f m %s in the median, more than geoids and errors of a DEM explain; check that both are in metres, and "
            "the points' CRS, or leave z out and the DEM's heights are taken",
            points.source,
            points.height[both].min(),
            points.height[both].max(),
            ground[both].min(),
            ground[both].max(),
            abs(middle),
            "lower" if middle > 0 else "higher",
        )


def _repeated(points: ControlPoints, before: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """Points that say once more what an earlier one says: counted twice, a wrong one would agree with itself."""
    repeated = np.zeros(len(placed), bool)
    for i in np.flatnonzero(placed):
        near = np.hypot(points.col - points.col[i], points.row - points.row[i]) < _ONE_PX
        same = np.hypot(*(before - before[i]).T) < _ONE_PX
        repeated[i + 1 :] |= (placed & near & same & ~repeated[i])[i + 1 :]
    return repeated


def _fit(design: np.ndarray, off: np.ndarray, model: str) -> np.ndarray:
    """Fit the correction (2, 3) by least squares."""
    correction = np.zeros((2, 3))
    if model == "bias":
        correction[:, 0] = off.mean(axis=0)
    elif model == "affine":
        correction = np.linalg.lstsq(design, off, rcond=None)[0].T
    return correction


def _agreeing(design: np.ndarray, off: np.ndarray, usable: np.ndarray, richest: str) -> np.ndarray:
    """Points that agree with each other, by the least median of squares (Rousseeuw 1984).

    The residuals under the best of all hypotheses - each through as few points as decide the model - have a median
    that half the points may not spoil; what lies beyond three deviations of it is wrong.
    """
    index = np.flatnonzero(usable)
    affine = richest == "affine" and len(index) >= FEWEST["affine"]
    size, model = (3, "affine") if affine else (1, "bias")
    trials = list(itertools.combinations(index, size)) if len(index) <= 16 else None
    chance = np.random.default_rng(0)
    if trials is None or len(trials) > _TRIALS:
        trials = [tuple(chance.choice(index, size, replace=False)) for _ in range(_TRIALS)]
    rank = (len(index) + size + 1) // 2 - 1
    best, smallest = np.zeros((2, 3)), np.inf
    for trial in trials:
        chosen = list(trial)
        if size == 3 and abs(np.linalg.det(design[chosen])) < 0.02:
            continue  # on a line, or next to each other
        guess = _fit(design[chosen], off[chosen], model)
        median = np.sort(np.hypot(*(off[index] - design[index] @ guess.T).T))[min(rank, len(index) - 1)]
        if median < smallest:
            best, smallest = guess, median
    deviation = smallest / _MEDIAN * (1 + 5 / max(len(index) - size, 1))  # small samples look too good
    if affine and not np.isfinite(smallest):
        return _agreeing(design, off, usable, "bias")
    agree = _within(design, off, usable, best, deviation)
    for _ in range(2):  # the best of many hypotheses looks too good: the fit to all that agree says the deviation
        if agree.sum() <= size:
            break
        best = _fit(design[agree], off[agree], model)
        deviation = float(np.median(np.hypot(*(off[index] - design[index] @ best.T).T))) / _MEDIAN
        agree = _within(design, off, usable, best, deviation * (1 + 5 / max(len(index) - size, 1)))
    return agree


def _within(
    design: np.ndarray, off: np.ndarray, usable: np.ndarray, correction: np.ndarray, deviation: float
) -> np.ndarray:
    """Points whose residual is no larger than chance makes one in a hundred."""
    misses = np.hypot(*(off - design @ correction.T).T)
    with np.errstate(invalid="ignore"):
        return usable & (misses <= np.clip(_CHANCE * deviation, _CERTAIN_PX, _WRONG_PX))


def _carries_affine(design: np.ndarray, half: np.ndarray) -> bool:
    """Whether points are enough, and spread over the image in every direction."""
    if len(design) < FEWEST["affine"]:
        return False
    places = design[:, 1:] / half
    return bool(np.sqrt(np.linalg.eigvalsh(np.cov(places.T))[0]) > _SPREAD)


def _best(design: np.ndarray, off: np.ndarray, agree: np.ndarray, richest: str) -> str:
    """Model with the smallest left-out residuals; a richer one must be better by a tenth."""
    index = np.flatnonzero(agree)
    best, least = "none", np.inf
    for model in ("none", "bias", "affine"):
        misses = [off[i] - design[i] @ _fit(design[index[index != i]], off[index[index != i]], model).T for i in index]
        error = float(np.sqrt(np.mean(np.sum(np.square(misses), axis=1))))
        if error < _BETTER * least or not np.isfinite(least):
            best, least = model, error
        if model == richest:
            break
    return best


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
