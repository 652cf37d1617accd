"""The steps of a registration: one shift for the whole scene, then tie points, then the check."""

from __future__ import annotations

import numpy as np
from rasterio.windows import Window

from geo.coregister.agreement import Agreement, find_agreement
from geo.coregister.bright import Bright, find_bright
from geo.coregister.choice import FEWEST, Choice, Vectors, usual_miss
from geo.coregister.phase import MAX_SHIFT_PX, least_score, phase_shift
from geo.coregister.result import Registration, TiePoints
from geo.errors import RegistrationError
from geo.fusion.pair import SMALLEST, Pair
from geo.ortho.dem import apply
from geo.stream import stream
from geo.windows import spread_windows

#: Side of a tie point's window in pixels of the pair at most; at least it is ``SMALLEST``.
LARGEST = 64
#: Tie points along one side at most.
MOST = 24
#: Residual of held-out tie points over which the registration has failed, pixels of the pair.
MAX_RESIDUAL_PX = 0.5
#: Miss of a held-out tie point that is always allowed, pixels of the pair.
_LEAST_LIMIT_PX = 0.3
#: Height of the second peak relative to the first from which a texture repeats itself: 0.55 to 0.95 where it does, 0.1
#: to 0.2 on other ground, also under clouds (measured).
REPEATED = 0.5
#: Side of the windows that the first shift is found on, and their pixels of the moving image and the reference that are
#: read, where it is not the least.
_GLOBAL, _GLOBAL_READ = 384, (1536, 3072)
#: Share of good ground that a tie point needs, and that a window of the first shift needs: these are large, and the
#: corners of a scene that lies aslant on its grid are empty.
_MIN_VALID, _GLOBAL_MIN_VALID = 0.5, 0.2
#: Share of a tie point's window that is enough where much of the scene is left out as bright.
_LEFT_VALID = 0.25


class Estimate:
    """Finds the displacement of a pair, step by step; the pair carries it.

    Parameters
    ----------
    pair : Pair
    workers : int
        Threads.
    way_on : str
        End of the sentence of an error.
    bright : Bright, optional
        Part of the scene that is left out.
    """

    def __init__(self, pair: Pair, workers: int, way_on: str, bright: Bright | None = None):
        self.pair, self.workers, self.way_on, self.bright = pair, workers, way_on, bright
        self.agreement = Agreement(np.full(pair.bands, 1 / pair.bands))

    def failed(self, reason: str) -> RegistrationError:
        """Error that names the images, and the way on without a registration."""
        reasons = "; ".join(filter(None, [reason, self.pair.saturated()]))
        return RegistrationError(f"{self.pair.names} could not be registered: {reasons}; {self.way_on}")

    def measure(self, windows: list[Window], *, least: float = _MIN_VALID) -> np.ndarray:
        """Measure what is left of the displacement in windows with at least this share of good ground.

        Returns
        -------
        ndarray of float64, shape (n, 4)
            dx and dy in metres, NaN without good ground; score; rival (see ``Match``).
        """

        def one(window: Window) -> tuple[float, float, float, float]:
            reference, moving, valid = self.patches(window)
            valid = self.agreement.same(reference, moving, valid)
            if valid.mean() < least:
                return np.nan, np.nan, 0.0, 1.0
            found = phase_shift(reference, self.agreement.mixed(moving), valid)
            return found.dx * self.pair.to_map.a, found.dy * self.pair.to_map.e, found.score, found.rival

        return np.array([result for _, result in stream(one, windows, workers=self.workers)])

    def patches(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a window of both images, see ``Pair.patches``; what is bright is not valid where it is left out."""
        reference, moving, valid = self.pair.patches(window)
        return reference, moving, self.bright.without(reference, moving, valid) if self.bright else valid

    def large_windows(self) -> list[Window]:
        """Windows spread over the scene, as large as can be afforded."""
        overlap, pixel = self.pair.overlap, self.pair.pixel_m
        ratio = self.pair.factor, pixel * self.pair.to_reference.a
        affordable = max(int(min(_GLOBAL_READ[0] / ratio[0], _GLOBAL_READ[1] / ratio[1])), 2 * MAX_SHIFT_PX)
        return spread_windows(overlap, min(_GLOBAL, affordable, overlap.width, overlap.height), 3)

    def find_bright(self) -> Bright | None:
        """Find the bright part of the scene, if it has one."""
        return find_bright([patch for _, patch in stream(self.patches, self.large_windows(), workers=self.workers)])

    def find_shift(self) -> None:
        """Find one shift for the whole scene, and how the bands give the reference.

        Raises
        ------
        RegistrationError
            No large window matches, or all that do match at several places.
        """
        pixel, windows = self.pair.pixel_m, self.large_windows()
        side = min(windows[0].width, windows[0].height)
        for attempt in range(6):
            found = self.measure(windows, least=_GLOBAL_MIN_VALID)
            left, score = found[:, :2], found[:, 2]
            enough = least_score(side)
            if not (score >= enough).any():
                raise self.failed(
                    f"no large part of them matches within {MAX_SHIFT_PX * pixel:.4g} m (best correlation "
                    f"{score.max():.2f}, expected {enough:.2f})"
                )
            unique = (score >= enough) & (found[:, 3] < REPEATED)
            if not unique.any():
                raise self.failed("their texture repeats itself, so that they match at several places")
            left = left[unique]
            near = np.hypot(*(left[:, None] - left[None]).T) < 2 * pixel
            step = left[near[near.sum(axis=1).argmax()]].mean(axis=0)
            self.pair.displacement = self.pair.displacement.moved(step)
            if attempt and np.hypot(*step) < 0.02 * pixel:
                break
            patches = [patch for _, patch in stream(self.patches, windows, workers=self.workers)]
            self.agreement = find_agreement(patches) or self.agreement

    def through_tie_points(self) -> Registration:
        """Fit the model to tie points, and measure its error at those held out.

        Raises
        ------
        RegistrationError
            Too few tie points match or agree, or what is left at those held out is too large.
        """
        pair = self.pair
        side = int(np.clip(min(pair.overlap.width, pair.overlap.height) // 5, SMALLEST, LARGEST))
        windows = spread_windows(pair.overlap, side, MOST)
        held_out = _held_out(windows)
        least = _MIN_VALID if self.bright is None else _LEFT_VALID
        found = self.measure(windows, least=least)
        ground = found[:, 2] > 0
        windows, held_out, found = (
            [w for w, g in zip(windows, ground, strict=True) if g],
            held_out[ground],
            found[ground],
        )
        if not windows:
            raise self.failed("no tie point lies on clear ground with texture")
        middles = np.array([[axis.mean() for axis in pair.places(w)] for w in windows])
        self._fit(middles, found, held_out, side)
        found = self.measure(windows, least=least)  # nearer to zero, so better
        choice = self._fit(middles, found, held_out, side)
        found = self.measure(windows, least=least)
        return self._checked(self._vectors(middles, found), found, choice, held_out, side)

    def _fit(self, middles: np.ndarray, found: np.ndarray, held_out: np.ndarray, side: int) -> Choice:
        """Fit the model to what was found at tie points that match and are not held out."""
        vectors = self._vectors(middles, found)
        candidates = (found[:, 2] >= least_score(side)) & ~held_out
        if candidates.sum() < FEWEST:
            raise self.failed(f"{candidates.sum()} tie points match, expected {FEWEST} at least")
        choice = vectors.choose(candidates)
        if choice is None:
            raise self.failed(
                f"the {candidates.sum()} tie points that match do not agree with each other, "
                "expected a third of them at least to do so"
            )
        self.pair.displacement = choice.displacement
        return choice

    def _vectors(self, middles: np.ndarray, found: np.ndarray) -> Vectors:
        """Whole displacements, of what was found left of them at these middles of windows of the moving image."""
        pair = self.pair
        x, y = pair.displacement.inverse(*middles.T)
        total = np.column_stack([middles[:, 0] - x, middles[:, 1] - y]) + found[:, :2]
        window = pair.overlap
        (x0, x1), (y1, y0) = apply(
            pair.to_map,
            np.array([window.col_off, window.col_off + window.width]),
            np.array([window.row_off, window.row_off + window.height]),
        )
        return Vectors(
            x,
            y,
            total,
            found[:, 2],
            origin=pair.displacement.origin,
            bounds=(float(x0), float(y0), float(x1), float(y1)),
            tolerance_m=MAX_RESIDUAL_PX * pair.pixel_m,
            pixel_m=pair.pixel_m,
        )

    def _checked(
        self,
        vectors: Vectors,
        found: np.ndarray,
        choice: Choice,
        held_out: np.ndarray,
        side: int,
    ) -> Registration:
        """Judge the model by what it leaves at the tie points that were held out."""
        pair = self.pair
        left, score = found[:, :2], found[:, 2]
        error, matched = np.hypot(*left.T), score >= least_score(side)
        fitted = choice.fitted & matched
        asked = held_out & matched
        limit = usual_miss(error[fitted], pair.pixel_m, _LEAST_LIMIT_PX) if fitted.any() else 0.0
        checked = asked & (error <= min(limit, 2 * MAX_RESIDUAL_PX * pair.pixel_m))
        # outliers are left out as among the points used, but most must agree, or the model is wrong somewhere
        if checked.sum() < max(2, held_out.sum() // 8, -(-asked.sum() // 2)):
            raise self.failed(
                f"{checked.sum()} of the {held_out.sum()} tie points kept for a check agree with the "
                f"{pair.displacement.model} fitted to the others, of {asked.sum()} that match"
            )
        residual = _rms(error[checked])
        if residual > MAX_RESIDUAL_PX * pair.pixel_m:
            raise self.failed(
                f"{residual / pair.pixel_m:.2f} pixels are left between them, expected {MAX_RESIDUAL_PX} at most"
            )
        total = vectors.vectors
        return Registration(
            displacement=pair.displacement,
            crs=pair.crs,
            pixel_m=pair.pixel_m,
            points=TiePoints(
                x=vectors.x,
                y=vectors.y,
                dx=total[:, 0],
                dy=total[:, 1],
                residual_x=left[:, 0],
                residual_y=left[:, 1],
                score=score,
                held_out=held_out,
                good=np.where(held_out, checked, fitted),
            ),
            rmse_m=_rms(error[fitted]),
            held_out_rmse_m=residual,
            held_out_before_m=_rms(np.hypot(*total[checked].T)),
            left_out_m=choice.left_out,
        )


def _held_out(windows: list[Window]) -> np.ndarray:
    """Mark a third of a grid's windows, spread evenly in rows and columns, that no estimate may use."""
    rows = np.unique([w.row_off for w in windows], return_inverse=True)[1]
    cols = np.unique([w.col_off for w in windows], return_inverse=True)[1]
    return (rows + cols) % 3 == 1


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
