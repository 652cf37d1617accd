"""Where two images show the same ground: clouds, new scars and shadows that one of them shows are left out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import nnls

#: Side of the box that differences are averaged over: what is smaller, such as an edge that is displaced, is no change.
_BOX = 7
#: Deviations (MAD) from which a difference is unusual.
_UNUSUAL = 4.0
#: Rounds of the fit to the half of the samples that fits best.
_ROUNDS = 8
_MAD = 1.4826


@dataclass(frozen=True)
class Agreement:
    """How the moving image's bands give the reference where the ground has not changed.

    Attributes
    ----------
    weights : ndarray of float64, shape (bands,)
        None negative, sum 1.
    gain, offset : float
        ``reference = gain * (weights . moving) + offset``.
    limit : float
        Difference, averaged over a box, from which the images do not show the same; infinite where nobody knows.
    """

    weights: np.ndarray
    gain: float = 1.0
    offset: float = 0.0
    limit: float = np.inf

    def mixed(self, moving: np.ndarray) -> np.ndarray:
        """Bands (bands, height, width) mixed to one image that looks like the reference."""
        return np.tensordot(self.weights, moving, 1)

    def same(self, reference: np.ndarray, moving: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Where both show the same ground, among what is valid; shape (height, width)."""
        if not np.isfinite(self.limit):
            return valid
        return valid & (np.abs(self._difference(reference, moving, valid)) <= self.limit)

    def _difference(self, reference: np.ndarray, moving: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Difference of reference and mixed bands, averaged over a box; 0 where not valid."""
        raw = reference - (self.gain * self.mixed(moving) + self.offset)
        size = (_BOX, _BOX)
        total = cv2.boxFilter(np.where(valid, raw, 0).astype(np.float32), -1, size, normalize=False)
        count = cv2.boxFilter(valid.astype(np.float32), -1, size, normalize=False)
        return np.where(valid, total / np.maximum(count, 1), 0)


def find_agreement(patches: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Agreement | None:
    """Find how moving bands give the reference, from the half of the pixels that shows it best.

    Least trimmed squares (Rousseeuw & Van Driessen 2006, Data Min. Knowl. Disc. 12, 29-45) with weights that are
    not negative; so the clouds of up to half of the ground have no say.

    Parameters
    ----------
    patches : list of (reference, moving, valid)
        Windows as ``Pair.patches`` gives them, registered to a pixel or so.

    Returns
    -------
    Agreement or None
        None with too few pixels, or where no mix of the bands resembles the reference.
    """
    thin = (slice(None, None, 3), slice(None, None, 3))
    bands = np.concatenate([m[:, *thin][:, v[thin]] for _, m, v in patches], axis=1).T.astype(float)
    target = np.concatenate([r[thin][v[thin]] for r, _, v in patches]).astype(float)
    if len(target) <= 10 * (bands.shape[1] + 1):
        return None
    mean = bands.mean(axis=1)
    gain = _spread(target) / max(_spread(mean), 1e-12)
    miss = np.abs(target - np.median(target) - gain * (mean - np.median(mean)))
    weights, offset = np.zeros(bands.shape[1]), 0.0
    for _ in range(_ROUNDS):
        best = miss <= np.median(miss)
        centre, level = bands[best].mean(axis=0), target[best].mean()
        weights, _ = nnls(bands[best] - centre, target[best] - level)
        offset = level - centre @ weights
        miss = np.abs(target - bands @ weights - offset)
    gain = weights.sum()
    if not gain > 0:
        return None
    found = Agreement(weights / gain, float(gain), float(offset))
    box = np.concatenate([found._difference(r, m, v)[v] for r, m, v in patches])
    return Agreement(found.weights, found.gain, found.offset, _UNUSUAL * _spread(box))


def _spread(values: np.ndarray) -> float:
    """Compute the standard deviation of the usual ones among values."""
    return float(_MAD * np.median(np.abs(values - np.median(values))))
