"""How far one image lies beside another: tie points by phase correlation, a model through them, and its error.

The reference (PAN) is blurred to the sharpness of the moving image (MSS) and sampled on its grid, displaced by
the model known so far; what phase correlation then still finds is added to the model. So every measurement is
made near zero, where it is best, and the last one, at tie points that the model was not fitted to, is the
error of the registration itself.

A displacement is where the moving image shows a thing, minus where the reference shows it, in metres along
x (east) and y (north).
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rasterio.windows import Window
from scipy.optimize import nnls

from geo.errors import RegistrationError
from geo.fusion.mtf import GAIN
from geo.fusion.pair import SMALLEST, Pair, evaluate, spread_windows
from geo.ortho.dem import apply
from geo.stream import cpus, stream

#: Side of a tie point's window in MSS pixels at most; at least it is ``SMALLEST``.
LARGEST = 64
#: Tie points along one side at most.
MOST = 16
#: Largest displacement that is searched for, MSS pixels.
MAX_SHIFT_PX = 32
#: Correlation of the gradients under which a window is no match, at least; see ``least_score``.
MIN_SCORE = 0.1
#: Residual of held-out tie points over which the registration has failed, MSS pixels.
MAX_RESIDUAL_PX = 0.5
#: Side of the windows that the first shift is found on.
_GLOBAL = 384
_FEWEST = 4
#: Share of good ground that a tie point needs, and that a window of the first shift needs: these are large, and the
#: corners of a scene that lies aslant on its grid are empty.
_MIN_VALID, _GLOBAL_MIN_VALID = 0.7, 0.25
#: Standard deviation, in cycles per pixel, of the Gaussian weight of frequencies: the finest are aliased.
_BANDWIDTH = 0.2


@dataclass(frozen=True)
class TiePoints:
    """Where the displacement was measured.

    Attributes
    ----------
    x, y : ndarray of float64, shape (n,)
        Map coordinates in metres.
    dx, dy : ndarray of float64
        Displacement in metres.
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


@dataclass(frozen=True)
class Registration:
    """A measured displacement between two images.

    Attributes
    ----------
    model : str
        ``"shift"`` or ``"affine"``.
    origin : (float, float)
        Map coordinates that the coefficients are counted from.
    coefficients : ndarray of float64, shape (2, 3)
        ``dx = c00 + c01 (x - x0) + c02 (y - y0)`` in metres, and ``dy`` likewise.
    pixel_m : float
        Side of a pixel of the moving image.
    points : TiePoints
    rmse_m : float
        Of the tie points that the model was fitted to.
    held_out_rmse_m : float
        Measured with the model applied, at tie points that it was not fitted to.
    held_out_before_m : float
        Of the same tie points before registration.
    """

    model: str
    origin: tuple[float, float]
    coefficients: np.ndarray
    pixel_m: float
    points: TiePoints
    rmse_m: float
    held_out_rmse_m: float
    held_out_before_m: float

    def displacement(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Displacement in metres at points of the map: the moving image shows (x, y) at (x + dx, y + dy)."""
        return evaluate(self.coefficients, self.origin, x, y)

    def summary(self) -> dict[str, Any]:
        """Say the same in plain numbers, for a report."""
        points = self.points
        used = points.good & ~points.held_out
        checked = points.good & points.held_out
        dx, dy = self.coefficients[:, 0]
        return {
            "status": "measured",
            "model": self.model,
            "shift_x_m": float(dx),
            "shift_y_m": float(dy),
            "shift_px": float(np.hypot(dx, dy) / self.pixel_m),
            "coefficients": self.coefficients.tolist(),
            "origin": list(self.origin),
            "tie_points_used": int(used.sum()),
            "tie_points_held_out": int(checked.sum()),
            "tie_points_rejected": int((~points.good).sum()),
            "rmse_m": self.rmse_m,
            "held_out_rmse_m": self.held_out_rmse_m,
            "held_out_rmse_px": self.held_out_rmse_m / self.pixel_m,
            "held_out_before_m": self.held_out_before_m,
        }


def register(
    reference: str | os.PathLike,
    moving: str | os.PathLike,
    *,
    gain: float = GAIN,
    threads: int | None = None,
) -> Registration:
    """Measure the displacement of an ortho against another of the same or a finer resolution.

    First one shift is found on a few large windows, up to ``MAX_SHIFT_PX``; with it the weights of the moving
    image's bands that best give the reference; then tie points on a grid. A third of them is held out. Outliers
    are rejected, and the model is a shift or an affine, whichever predicts left-out points better.

    Parameters
    ----------
    reference, moving : path
        Orthos in one CRS, for instance PAN and MSS; nodata is left out.
    gain : float
        MTF of the moving image at its Nyquist frequency.
    threads : int, optional
        CPUs to use at most.

    Returns
    -------
    Registration

    Raises
    ------
    RegistrationError
        Too few tie points match or agree, or what is left at the held-out ones is too large.
    GridError
        The images have different CRSs, are rotated, or do not overlap.
    """
    workers = cpus(threads)
    with ExitStack() as opened:
        estimate = _Estimate(Pair(reference, moving, opened, gain=gain), workers)
        estimate.find_shift()
        return estimate.through_tie_points()


def phase_shift(reference: np.ndarray, moving: np.ndarray, valid: np.ndarray) -> tuple[float, float, float]:
    """Displacement of one small image against another, to a thousandth of a pixel.

    The images are compared by their complex gradients, whose amplitude is compressed so that neither a
    bright edge nor a cloud decides alone. The cross-power spectrum is whitened by half its amplitude and
    weighted towards frequencies that are not aliased; its peak is refined by a matrix-multiply Fourier
    transform (Guizar-Sicairos, Thurman & Fienup 2008, Optics Letters 33(2), 156-158).

    Parameters
    ----------
    reference, moving : ndarray of float, shape (height, width)
    valid : ndarray of bool, same shape
        True where both are good.

    Returns
    -------
    dx, dy : float
        Columns and rows by which ``moving`` shows things further right and down; NaN without texture.
    score : float
        Correlation of the gradients at the peak, at most 1.
    """
    first, second = (np.fft.fft2(_texture(a, valid)) for a in (reference, moving))
    energy = np.sqrt((np.abs(first) ** 2).sum() * (np.abs(second) ** 2).sum())
    if not energy > 0:
        return np.nan, np.nan, 0.0
    cross = second * np.conj(first)
    height, width = cross.shape
    fy, fx = np.fft.fftfreq(height), np.fft.fftfreq(width)
    weight = np.exp(-0.5 * (fy[:, None] ** 2 + fx**2) / _BANDWIDTH**2)
    white = weight * cross / np.sqrt(np.maximum(np.abs(cross), energy * 1e-12))
    coarse = np.fft.ifft2(white).real
    far = np.maximum(np.abs(fy[:, None] * height), np.abs(fx * width)) > MAX_SHIFT_PX
    row, col = np.unravel_index(np.argmax(np.where(far, -np.inf, coarse)), coarse.shape)
    dy, dx = fy[row] * height, fx[col] * width
    for step in (0.1, 0.01, 0.001):
        offsets = np.arange(-15, 16) * step
        fine = np.exp(2j * np.pi * np.outer(dy + offsets, fy)) @ white @ np.exp(2j * np.pi * np.outer(fx, dx + offsets))
        row, col = np.unravel_index(np.argmax(fine.real), fine.shape)
        dy, dx = dy + offsets[row], dx + offsets[col]
    turned = np.exp(2j * np.pi * fy * dy) @ cross @ np.exp(2j * np.pi * fx * dx)
    return float(dx), float(dy), float(turned.real / energy)


def least_score(side: int) -> float:
    """Correlation of the gradients that a window of this side must reach to be a match.

    The best of all shifts of two unrelated images correlates too: by ``6 / side`` in the median and ``9 / side``
    at the 95th percentile (measured on textured images, windows of 24 to 384 pixels). What passes by chance
    does not agree with the other tie points.
    """
    return max(MIN_SCORE, 8 / side)


def _texture(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Complex gradient with its amplitude compressed, 0 where not valid, faded out towards the edges."""
    gy, gx = np.gradient(np.where(valid, values, np.nan))
    gradient = np.nan_to_num(gx + 1j * gy)
    size = np.abs(gradient)
    usual = np.median(size[size > 0]) if (size > 0).any() else 1.0
    fade = np.outer(np.hanning(values.shape[0] + 2)[1:-1], np.hanning(values.shape[1] + 2)[1:-1])
    return gradient / (size + usual) * fade


class _Estimate:
    """Finds the model of a pair's displacement, step by step; the pair carries it."""

    def __init__(self, pair: Pair, workers: int):
        self.pair, self.workers = pair, workers
        self.weights = np.full(pair.bands, 1 / pair.bands)

    def failed(self, reason: str) -> RegistrationError:
        """Error that names the images, and the way on without a registration."""
        return RegistrationError(
            f"{self.pair.names} could not be registered: {reason}; look at both images, or fuse with --no-coregister"
        )

    def measure(self, windows: list[Window], *, least: float = _MIN_VALID) -> tuple[np.ndarray, np.ndarray]:
        """Measure what is left of the displacement in windows with at least this share of good ground.

        Returns
        -------
        left : ndarray of float64, shape (n, 2)
            Metres; NaN without good ground.
        score : ndarray of float64, shape (n,)
        """
        measure = partial(self._measure, least=least)
        found = np.array([result for _, result in stream(measure, windows, workers=self.workers)])
        return found[:, :2], found[:, 2]

    def _measure(self, window: Window, *, least: float) -> tuple[float, float, float]:
        reference, moving, valid = self.pair.patches(window)
        if valid.mean() < least:
            return np.nan, np.nan, 0.0
        dx, dy, score = phase_shift(reference, np.tensordot(self.weights, moving, 1), valid)
        return dx * self.pair.to_map.a, dy * self.pair.to_map.e, score

    def find_shift(self) -> None:
        """Find one shift for the whole scene, and the weights of the bands."""
        overlap, pixel = self.pair.overlap, self.pair.pixel_m
        windows = spread_windows(overlap, min(_GLOBAL, overlap.width, overlap.height), 3)
        for attempt in range(6):
            left, score = self.measure(windows, least=_GLOBAL_MIN_VALID)
            enough = least_score(windows[0].width)
            if not (score >= enough).any():
                raise self.failed(
                    f"no large part of them matches within {MAX_SHIFT_PX} pixels (best correlation "
                    f"{score.max():.2f}, expected {enough:.2f})"
                )
            left = left[score >= enough]
            near = np.hypot(*(left[:, None] - left[None]).T) < 2 * pixel
            step = left[near[near.sum(axis=1).argmax()]].mean(axis=0)
            self.pair.coefficients[:, 0] += step
            if attempt and np.hypot(*step) < 0.02 * pixel:
                break
            self._weigh_bands(windows)

    def _weigh_bands(self, windows: list[Window]) -> None:
        """Find weights, none negative, with which the moving image's bands give the reference."""
        samples = []
        for _, (reference, moving, valid) in stream(self.pair.patches, windows, workers=self.workers):
            thin = (slice(None, None, 3), slice(None, None, 3))
            keep = valid[thin]
            samples.append(np.vstack([moving[:, *thin][:, keep], reference[thin][keep]]))
        together = np.concatenate(samples, axis=1).astype(float)
        if together.shape[1] > 10 * len(together):
            together -= together.mean(axis=1, keepdims=True)
            weights, _ = nnls(together[:-1].T, together[-1])
            if weights.sum() > 0:
                self.weights = weights / weights.sum()

    def through_tie_points(self) -> Registration:
        """Fit the model to tie points, and measure its error at those held out."""
        pair = self.pair
        side = int(np.clip(min(pair.overlap.width, pair.overlap.height) // 5, SMALLEST, LARGEST))
        windows = spread_windows(pair.overlap, side, MOST)
        held_out = _held_out(windows)
        ground = self.measure(windows)[1] > 0
        windows, held_out = [w for w, there in zip(windows, ground, strict=True) if there], held_out[ground]
        if not windows:
            raise self.failed("no tie point lies on clear ground with texture")
        middles = np.array([(w.col_off + w.width / 2, w.row_off + w.height / 2) for w in windows])
        x, y = apply(pair.to_map, middles[:, 0], middles[:, 1])
        model, fitted = "shift", np.zeros(len(windows), bool)
        for last in (False, False, True):
            left, score = self.measure(windows)
            total = np.column_stack(evaluate(pair.coefficients, pair.origin, x, y)) + left
            matched = score >= least_score(side)
            if not last:
                fitted = self._agreeing(x, y, total, matched & ~held_out)
                model = _better_model(x, y, total, fitted, pair.origin)
                pair.coefficients = _fit(x, y, total, fitted, pair.origin, model)
        error = np.hypot(*left.T)
        fitted &= matched
        checked = held_out & matched & (error < 2 * MAX_RESIDUAL_PX * pair.pixel_m)
        if checked.sum() < max(2, held_out.sum() // 8):
            raise self.failed(f"{checked.sum()} of the {held_out.sum()} tie points kept for a check match")
        residual = _rms(error[checked])
        if residual > MAX_RESIDUAL_PX * pair.pixel_m:
            raise self.failed(
                f"{residual / pair.pixel_m:.2f} pixels are left between them, expected {MAX_RESIDUAL_PX} at most"
            )
        return Registration(
            model=model,
            origin=pair.origin,
            coefficients=pair.coefficients,
            pixel_m=pair.pixel_m,
            points=TiePoints(x, y, total[:, 0], total[:, 1], left[:, 0], left[:, 1], score, held_out, checked | fitted),
            rmse_m=_rms(error[fitted]),
            held_out_rmse_m=residual,
            held_out_before_m=_rms(np.hypot(*total[checked].T)),
        )

    def _agreeing(self, x: np.ndarray, y: np.ndarray, total: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Find candidates that agree on one model (RANSAC), then only those within three deviations (MAD)."""
        index = np.flatnonzero(candidates)
        if len(index) < _FEWEST:
            raise self.failed(f"{len(index)} tie points match, expected {_FEWEST} at least")
        origin, pixel = self.pair.origin, self.pair.pixel_m
        best = np.zeros(len(x), bool)
        chance = np.random.default_rng(0)
        # with few points an affine fits anything: then begin from the shift of a single one
        size, model = (3, "affine") if len(index) >= 12 else (1, "shift")
        for _ in range(200):
            guess = _fit(x, y, total, chance.choice(index, size, replace=False), origin, model)
            agree = candidates & (_misses(guess, origin, x, y, total) < MAX_RESIDUAL_PX * pixel)
            if agree.sum() > best.sum():
                best = agree
        if best.sum() < max(_FEWEST, len(index) // 3):
            raise self.failed(
                f"{best.sum()} of {len(index)} tie points agree with each other, expected a third at least"
            )
        model = _better_model(x, y, total, best, origin)
        misses = _misses(_fit(x, y, total, best, origin, model), origin, x, y, total)
        return candidates & (misses <= max(3 * 1.4826 * np.median(misses[best]), 0.1 * pixel))


def _held_out(windows: list[Window]) -> np.ndarray:
    """Mark a third of a grid's windows, spread evenly in rows and columns, that no estimate may use."""
    rows = np.unique([w.row_off for w in windows], return_inverse=True)[1]
    cols = np.unique([w.col_off for w in windows], return_inverse=True)[1]
    return (rows + cols) % 3 == 1


def _better_model(
    x: np.ndarray, y: np.ndarray, total: np.ndarray, fitted: np.ndarray, origin: tuple[float, float]
) -> str:
    """Choose the model that predicts points better which it was not given: an affine must beat a shift by a tenth."""
    index = np.flatnonzero(fitted)
    if len(index) < 8:
        return "shift"
    error = {}
    for model in ("shift", "affine"):
        misses = np.zeros(len(index))
        for part in range(4):
            left_out = np.arange(len(index)) % 4 == part
            guess = _fit(x, y, total, index[~left_out], origin, model)
            misses[left_out] = _misses(guess, origin, x, y, total)[index[left_out]]
        error[model] = _rms(misses)
    return "affine" if error["affine"] < 0.9 * error["shift"] else "shift"


def _fit(
    x: np.ndarray, y: np.ndarray, total: np.ndarray, chosen: np.ndarray, origin: tuple[float, float], model: str
) -> np.ndarray:
    """Fit the coefficients (2, 3) of a model to the chosen points, by least squares."""
    if model == "shift":
        return np.column_stack([total[chosen].mean(axis=0), np.zeros((2, 2))])
    design = np.column_stack([np.ones(len(x)), x - origin[0], y - origin[1]])[chosen]
    return np.linalg.lstsq(design, total[chosen], rcond=None)[0].T


def _misses(
    coefficients: np.ndarray, origin: tuple[float, float], x: np.ndarray, y: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """Distances of measured displacements from the model's, metres; infinite where none was measured."""
    miss = np.column_stack(evaluate(coefficients, origin, x, y)) - total
    return np.nan_to_num(np.hypot(*miss.T), nan=np.inf)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
