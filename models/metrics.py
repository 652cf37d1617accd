"""How well a probability map agrees with the truth: counts, ratios, and the threshold that is best.

Probabilities are counted in histograms of one image each, by which every threshold can be judged later and
no map has to be kept. The steps of the histogram are those of probability on disk (0.004) and thresholds
lie half-way between them, so that a map gives the same mask whether it was rounded or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from models.chips import IGNORE

#: Steps from probability 0 to 1.
STEPS = 250


def histogram(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Count the pixels of an image by class and probability.

    Parameters
    ----------
    probability : ndarray of float
    label : ndarray of uint8, same shape
        1 landslide, 0 background, 255 ignored.

    Returns
    -------
    ndarray of int64, shape (2, STEPS + 1)
        Background and landslide pixels.
    """
    known = label != IGNORE
    step = np.rint(probability[known] * STEPS).astype(np.int64)
    return np.bincount(label[known] * np.int64(STEPS + 1) + step, minlength=2 * (STEPS + 1)).reshape(2, -1)


def counts(histograms: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Count true and false positives and negatives at a threshold.

    Parameters
    ----------
    histograms : ndarray, shape (..., 2, STEPS + 1)
    threshold : float
        One that ``best_threshold`` can give: half-way between two steps.

    Returns
    -------
    dict of ndarray, shape (...)
        ``tp, fp, fn, tn``.
    """
    first = math.ceil(threshold * STEPS)
    above, below = histograms[..., first:].sum(-1), histograms[..., :first].sum(-1)
    return {"tp": above[..., 1], "fp": above[..., 0], "fn": below[..., 1], "tn": below[..., 0]}


def scores(tp: float, fp: float, fn: float, tn: float) -> dict[str, float]:
    """Ratios of the four counts; NaN where a ratio is 0 / 0.

    Returns
    -------
    dict
        ``precision, recall, f1, iou`` of the landslide class, ``miou`` (mean IoU of both classes),
        ``specificity``, ``accuracy``, and ``precision_classes, recall_classes`` (means over both classes).
    """
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    specificity = _ratio(tn, tn + fp)
    iou = _ratio(tp, tp + fp + fn)
    return {
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "iou": iou,
        "miou": (iou + _ratio(tn, tn + fp + fn)) / 2,
        "specificity": specificity,
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "precision_classes": (precision + _ratio(tn, tn + fn)) / 2,
        "recall_classes": (recall + specificity) / 2,
    }


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else math.nan


def f1_by_threshold(pooled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of the landslide class at every threshold.

    Parameters
    ----------
    pooled : ndarray, shape (2, STEPS + 1)

    Returns
    -------
    thresholds, f1 : ndarray of float, shape (STEPS,)
        F1 is 0 where there is neither a landslide nor a false alarm.
    """
    fp, tp = np.cumsum(pooled[:, ::-1], axis=1)[:, ::-1][:, 1:].astype(float)
    fn = pooled[1].sum() - tp
    whole = 2 * tp + fp + fn
    f1 = np.divide(2 * tp, whole, out=np.zeros_like(tp), where=whole > 0)
    return (np.arange(STEPS) + 0.5) / STEPS, f1


def at_share(pooled: np.ndarray, share: float) -> np.ndarray:
    """Weigh the two classes so that landslide takes a given share of the pixels.

    F1 depends on how much of the ground is landslide, and a few validation chips may by chance show half or
    twice as much of it as all labelled ground does; their threshold would then be too high or too low.

    Parameters
    ----------
    pooled : ndarray, shape (2, STEPS + 1)
    share : float
        Between 0 and 1.

    Returns
    -------
    ndarray of float, same shape
        With the same sum; unchanged where one class is missing.
    """
    total, of_class = pooled.sum(), pooled.sum(axis=1)
    if not of_class.all():
        return pooled.astype(float)
    return pooled * (total * np.array([1 - share, share]) / of_class)[:, None]


#: Thresholds whose F1 is this near to the highest are as good as it, for all that validation pixels can tell.
PLATEAU = 0.99


def best_threshold(pooled: np.ndarray) -> tuple[float, float]:
    """Threshold in the middle of those with a high F1, and its F1.

    Networks trained with Dice give probabilities near 0 and 1, over which F1 hardly changes with the
    threshold; the very highest value on a few validation chips is then chance and may lie at either end. The
    middle of the thresholds within a hundredth of it carries over better.
    """
    thresholds, f1 = f1_by_threshold(pooled)
    good = np.flatnonzero(f1 >= PLATEAU * f1.max())
    middle = thresholds[good].mean() if f1.max() > 0 else 0.5
    at = good[np.argmin(np.abs(thresholds[good] - middle))]
    return float(thresholds[at]), float(f1[at])


def summary(histograms: np.ndarray, threshold: float) -> dict[str, Any]:
    """Scores over all pixels together and as means over images, side by side.

    Published figures differ in how they average; both are given. A mean over images leaves out the images
    for which the ratio is 0 / 0.

    Parameters
    ----------
    histograms : ndarray, shape (images, 2, STEPS + 1)
    threshold : float

    Returns
    -------
    dict
        ``threshold, images, counts, pooled, per_image``; undefined ratios are None.
    """
    each = counts(histograms, threshold)
    pooled = {name: int(value.sum()) for name, value in each.items()}
    rows = [scores(*(each[name][i] for name in ("tp", "fp", "fn", "tn"))) for i in range(len(histograms))]
    names = rows[0] if rows else scores(0, 0, 0, 0)
    means = {}
    for name in names:
        column = np.array([row[name] for row in rows], dtype=float)
        column = column[np.isfinite(column)]
        means[name] = float(column.mean()) if column.size else math.nan
    return {
        "threshold": threshold,
        "images": len(histograms),
        "counts": pooled,
        "pooled": _plain(scores(**pooled)),
        "per_image": _plain(means),
    }


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers that JSON knows: None for NaN."""
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}
