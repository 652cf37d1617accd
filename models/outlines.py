"""Agreement of outlines and of centre lines within a tolerance, for shapes whose exact pixels nobody can draw.

Two people draw an outline a pixel or two apart, and a crack three pixels wide has hardly an inside: overlap then
punishes what is right. Here a line counts as found where the other map has one within some pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from models.chips import IGNORE

#: What ``tolerant_counts`` counts, in its order; four numbers for each of three ways to look.
KINDS = ("boundary", "centre_line", "pixels")
_COUNTS = ("found_right", "found", "true_found", "true")
COLUMNS = tuple(f"{kind}_{count}" for kind in KINDS for count in _COUNTS)


def tolerant_counts(mask: np.ndarray, label: np.ndarray, tolerance_px: float) -> np.ndarray:
    """Count outlines, centre lines and pixels that lie near those of the other map.

    Parameters
    ----------
    mask : ndarray of bool, shape (h, w)
        What was found.
    label : ndarray of uint8, shape (h, w)
        1 landslide, 0 background, 255 ignored: there nothing counts, and its border is no outline.
    tolerance_px : float
        Distance in pixels up to which lines agree.

    Returns
    -------
    ndarray of int64, shape (12,)
        ``COLUMNS``: for outlines (Martin et al. 2004, the boundary F1), centre lines (completeness and correctness of
        Heipke et al. 1997) and all pixels: those found that lie near a true one, all found, those true that
        lie near a found one, all true.
    """
    known = label != IGNORE
    found, true = mask & known, label == 1
    pairs = [(_outline(found, known), _outline(true, known)), (centre_line(found), centre_line(true)), (found, true)]
    rows = []
    for ours, theirs in pairs:
        rows += [_near(ours, theirs, tolerance_px), int(ours.sum()), _near(theirs, ours, tolerance_px)]
        rows.append(int(theirs.sum()))
    return np.array(rows, dtype=np.int64)


def tolerant_scores(counted: np.ndarray) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of summed ``tolerant_counts``, by kind; NaN where nothing was to be found or is.

    Parameters
    ----------
    counted : ndarray, shape (12,)
    """
    found = {}
    for kind, (right, all_found, met, all_true) in zip(KINDS, counted.reshape(3, 4).astype(float), strict=True):
        precision = right / all_found if all_found else math.nan
        recall = met / all_true if all_true else math.nan
        total = precision + recall
        f1 = 2 * precision * recall / total if total > 0 else (0.0 if all_found or all_true else math.nan)
        found[kind] = {"precision": precision, "recall": recall, "f1": f1}
    return found


def centre_line(mask: np.ndarray) -> np.ndarray:
    """Middle of a shape, one pixel wide (the thinning of Zhang and Suen 1984 in scikit-image)."""
    from skimage.morphology import skeletonize

    return skeletonize(mask) if mask.any() else np.zeros(mask.shape, dtype=bool)


def _outline(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pixels of a shape that touch known ground beside it by an edge; the border of the image is none."""
    beside = cv2.dilate((known & ~mask).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return mask & (beside > 0)


def _near(lines: np.ndarray, others: np.ndarray, tolerance_px: float) -> int:
    """How many pixels of lines lie within the tolerance of some pixel of others."""
    if not others.any() or not lines.any():
        return 0
    distance = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return int((distance[lines] <= tolerance_px + 1e-3).sum())
