"""The bright part of a scene: clouds look alike in both images, but lie high, so that they tell another displacement.

PAN and MSS look from a little apart, and clouds a few kilometres over the ground are displaced by pixels more than it.
Where a scene falls into a dark and a bright part, registration therefore asks the dark one alone, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

#: Share of the variance that lies between two parts of a scene from which they are two: 0.64 for a bell (2 / pi),
#: 0.75 for evenly spread values, 0.85 and more for clouds over ground.
_APART = 0.78
#: Shares of the scene that the bright part may have.
_SHARES = (0.02, 0.7)
#: Times by which the bright part is brighter in every band.
_BRIGHTER = 1.5
#: Pixels around the bright part that are left out as well: a cloud's rim is thin, and elsewhere in the other image.
_RIM_PX = 5


@dataclass(frozen=True)
class Bright:
    """Values over which a pixel is bright, of the reference and of the mean of the moving image's bands."""

    reference: float
    moving: float

    def without(self, reference: np.ndarray, moving: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Give the valid pixels (height, width) that are not bright in either image, nor beside such."""
        bright = valid & ((reference > self.reference) | (moving.mean(axis=0) > self.moving))
        if not bright.any():
            return valid
        side = 2 * _RIM_PX + 1
        near = cv2.dilate(bright.astype(np.uint8), np.ones((side, side), np.uint8))
        return valid & (near == 0)


def find_bright(patches: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Bright | None:
    """Find what divides a scene into a dark and a bright part, in both images.

    The threshold is that of Otsu 1979 (IEEE Trans. Sys. Man Cyber. 9, 62-66): it makes the variance between the parts
    largest, whose share of all variance tells whether there are two.

    Parameters
    ----------
    patches : list of (reference, moving, valid)
        Windows as ``Pair.patches`` gives them.

    Returns
    -------
    Bright or None
        None where one of the images does not fall into two parts, or one is not brighter in every band: land beside
        water is so in the infrared alone, and waves are no ground to go by.
    """
    reference = np.concatenate([reference[valid] for reference, _, valid in patches])
    bands = np.concatenate([moving[:, valid] for _, moving, valid in patches], axis=1)
    first, second = _threshold(reference), _threshold(bands.mean(axis=0))
    if first is None or second is None:
        return None
    bright = bands.mean(axis=0) > second
    if not (bands[:, bright].mean(axis=1) > _BRIGHTER * bands[:, ~bright].mean(axis=1)).all():
        return None
    return Bright(first, second)


def _threshold(values: np.ndarray) -> float | None:
    if len(values) < 1000:
        return None
    lowest, highest = np.percentile(values, [0.1, 99.9])
    if not highest > lowest:
        return None
    counts, edges = np.histogram(np.clip(values, lowest, highest), bins=256)
    share = np.cumsum(counts) / len(values)
    middles = (edges[1:] + edges[:-1]) / 2
    total = np.cumsum(counts * middles) / len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((total[-1] * share - total) ** 2 / (share * (1 - share)))
    best = int(between.argmax())
    apart = between[best] / max(float(np.var(np.clip(values, lowest, highest))), 1e-30)
    if apart < _APART or not _SHARES[0] <= 1 - share[best] <= _SHARES[1]:
        return None
    return float(edges[best + 1])
