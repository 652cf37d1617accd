"""Agreement of outlines and of centre lines within a tolerance, for shapes whose exact pixels nobody can draw.

Two people draw an outline a pixel or two apart, and a crack three pixels wide has hardly an inside: overlap then
punishes what is right. Here a line counts as found where the other map has one within some pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from models.chips import IGNORE

#: Raise it where the same masks are to give other counts than before; `compare` then counts its finished models anew.
#: 2: centre lines are thinned by the rule of Lee et al. 1994 instead of that of Zhang & Suen 1984.
COUNTED = 2
#: What ``tolerant_counts`` counts, in its order; four numbers for each of three ways to look.
KINDS = ("boundary", "centre_line", "pixels")
_COUNTS = ("found_right", "found", "true_found", "true")
COLUMNS = tuple(f"{kind}_{count}" for kind in KINDS for count in _COUNTS)
#: F1 of each way by the name that tables of comparisons have for it.
F1_OF: Mapping[str, str] = {f"{kind}_f1": kind for kind in KINDS[:2]} | {"tolerant_f1": KINDS[2]}


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
    return {
        kind: {name: float(value) for name, value in tolerant_ratios(four).items()}
        for kind, four in zip(KINDS, counted.reshape(3, 4), strict=True)
    }


def columns_of(kind: str, counted: np.ndarray) -> np.ndarray:
    """Take the counts of one of ``KINDS``, shape (..., 4), of all twelve."""
    place = 4 * KINDS.index(kind)
    return counted[..., place : place + 4]


def tolerant_ratios(counted: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of many counts of one kind at once.

    Parameters
    ----------
    counted : ndarray, shape (..., 4)

    Returns
    -------
    dict of ndarray, shape (...)
        NaN where nothing was to be found or is; F1 is 0 where only one of both is.
    """
    right, found, met, true = np.moveaxis(np.asarray(counted, dtype=float), -1, 0)
    precision, recall = _share(right, found), _share(met, true)
    p, r = np.nan_to_num(precision), np.nan_to_num(recall)
    f1 = np.where(found + true > 0, np.nan_to_num(_share(2 * p * r, p + r)), np.nan)
    return {"precision": precision, "recall": recall, "f1": f1}


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def centre_line(mask: np.ndarray) -> np.ndarray:
    """Middle of a shape, one pixel wide, as ``geocrack cracks`` measures it (the thinning of Lee et al. 1994)."""
    from geo.cracks.skeleton import centre_pixels

    return centre_pixels(mask) if mask.any() else np.zeros(mask.shape, dtype=bool)


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
