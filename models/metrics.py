"""How well a probability map agrees with the truth: counts, ratios, and the threshold that is best.

Probabilities are counted in histograms of one image each, by which every threshold can be judged later and
no map has to be kept. The steps of the histogram are those of probability on disk (0.004) and thresholds
lie half-way between them, so that a map gives the same mask whether it was rounded or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
    return {name: float(value) for name, value in ratios(np.array([tp, fp, fn, tn], dtype=float)).items()}


def ratios(counted: np.ndarray) -> dict[str, np.ndarray]:
    """Compute ``scores`` of many counts at once.

    Parameters
    ----------
    counted : ndarray of float, shape (..., 4)
        tp, fp, fn, tn.

    Returns
    -------
    dict of ndarray, shape (...)
        NaN where a ratio is 0 / 0.
    """
    tp, fp, fn, tn = np.moveaxis(np.asarray(counted, dtype=float), -1, 0)
    precision, recall, specificity = _ratio(tp, tp + fp), _ratio(tp, tp + fn), _ratio(tn, tn + fp)
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


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) != 0)


def identities(values: Mapping[str, float | None], *, places: float | Mapping[str, float] = 1e-6) -> list[str]:
    """Tell which scores contradict each other, whatever they were before they were rounded.

    F1 is the harmonic mean of precision and recall, IoU = F1 / (2 - F1), and mIoU the mean of the IoU of both classes.
    Tables in print do not always keep to it.

    Parameters
    ----------
    values : mapping
        Any of ``precision, recall, f1, iou`` of one class, ``background_iou`` of the other and ``miou``, between 0
        and 1.
    places : float or mapping
        To how much each value was rounded: it is off by half of it at most.

    Returns
    -------
    list of str
        One clause a contradiction; empty where all fit.
    """
    known = {k: v for k, v in values.items() if v is not None and math.isfinite(v)}
    off = {name: (places[name] if isinstance(places, Mapping) else places) / 2 for name in known}
    wrong = []
    for words, given, target, formula in _IDENTITIES:
        if not {*given, target} <= known.keys():
            continue
        low, expected, high = (  # no formula falls where a value rises
            formula(*(min(max(known[name] + way * off[name], 0), 1) for name in given)) for way in (-1, 0, 1)
        )
        if not low - off[target] - 1e-9 <= known[target] <= high + off[target] + 1e-9:
            wrong.append(f"{words} {expected:.4f}, not {known[target]:.4f}")
    return wrong


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _iou(f1: float) -> float:
    return f1 / (2 - f1)


#: In words, of which scores, of which other, and how.
_IDENTITIES: list[tuple[str, tuple[str, ...], str, Callable[..., float]]] = [
    ("precision and recall give F1", ("precision", "recall"), "f1", _harmonic),
    ("F1 gives IoU", ("f1",), "iou", _iou),
    ("precision and recall give IoU", ("precision", "recall"), "iou", lambda p, r: _iou(_harmonic(p, r))),
    ("the IoU of both classes gives mIoU", ("iou", "background_iou"), "miou", lambda one, other: (one + other) / 2),
]


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
    """Scores over all pixels together, as means over images, and as means over the two classes, side by side.

    Published figures differ in how they average; all are given. A mean over images leaves out the images
    for which the ratio is 0 / 0.

    Parameters
    ----------
    histograms : ndarray, shape (images, 2, STEPS + 1)
    threshold : float

    Returns
    -------
    dict
        ``threshold, images, counts, confusion, pooled, per_image, class_mean, classes, calibration_error``;
        undefined ratios are None. ``confusion`` has true classes in rows and found ones in columns, background first.
    """
    each = counts(histograms, threshold)
    table = np.stack([each[name] for name in ("tp", "fp", "fn", "tn")], axis=-1)
    tp, fp, fn, tn = (int(n) for n in table.sum(axis=0))
    landslide, background = scores(tp, fp, fn, tn), scores(tn, fn, fp, tp)
    wrong = identities(landslide)
    if wrong:  # a mistake of ours
        raise AssertionError("; ".join(wrong))
    names = ("precision", "recall", "f1", "iou")
    return {
        "threshold": threshold,
        "images": len(histograms),
        "counts": {"tp": tp, "fp": fp, "fn": fn, "tn": tn},
        "confusion": [[tn, fp], [fn, tp]],
        "pooled": plain(landslide),
        "per_image": plain({name: mean_of_defined(column) for name, column in ratios(table).items()}),
        "class_mean": plain({name: (landslide[name] + background[name]) / 2 for name in names}),
        "classes": {
            kind: plain({name: of[name] for name in names})
            for kind, of in (("landslide", landslide), ("background", background))
        },
        "calibration_error": plain({"ece": calibration(histograms.sum(axis=0))["ece"]})["ece"],
    }


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else math.nan


def calibration(pooled: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """How often ground of a stated probability is landslide.

    Parameters
    ----------
    pooled : ndarray, shape (2, STEPS + 1)
    bins : int
        Of equal width; a probability on an edge belongs to the upper one.

    Returns
    -------
    dict
        ``bins`` (a list of ``pixels, stated, found``: means of the probability and of the truth; empty bins are left
        out) and ``ece``, the expected calibration error of Guo et al. 2017 (On calibration of modern neural
        networks, eq. 3): the mean of ``|stated - found|`` over pixels; NaN without pixels.
    """
    steps = np.arange(STEPS + 1)
    number = np.minimum(steps * bins // STEPS, bins - 1)
    pixels = np.bincount(number, pooled.sum(axis=0), minlength=bins)
    stated = np.bincount(number, pooled.sum(axis=0) * steps / STEPS, minlength=bins)
    found = np.bincount(number, pooled[1], minlength=bins)
    rows = [
        {"pixels": int(n), "stated": round(float(s / n), 6), "found": round(float(f / n), 6)}
        for n, s, f in zip(pixels, stated, found, strict=True)
        if n
    ]
    total = pixels.sum()
    return {"bins": rows, "ece": float(np.abs(stated - found).sum() / total) if total else math.nan}


def curve(pooled: np.ndarray) -> dict[str, Any]:
    """Precision and recall at every threshold.

    Parameters
    ----------
    pooled : ndarray, shape (2, STEPS + 1)

    Returns
    -------
    dict
        ``threshold, precision, recall, f1`` (lists, of the thresholds at which something is found) and
        ``average_precision``: precision summed over the steps of recall; NaN without landslide.
    """
    # from nothing found to all found; the lowest step finds everything
    fp, tp = np.cumsum(pooled[:, ::-1], axis=1).astype(float)
    some = (tp + fp > 0) & (np.diff(tp + fp, prepend=0) > 0)
    tp, fp = tp[some], fp[some]
    thresholds = ((np.arange(STEPS, -1, -1) - 0.5) / STEPS)[some]
    total = pooled[1].sum()
    if not total:
        return {"threshold": [], "precision": [], "recall": [], "f1": [], "average_precision": math.nan}
    precision, recall = tp / (tp + fp), tp / total
    f1 = 2 * tp / (tp + fp + total)
    return {
        "threshold": [round(float(v), 6) for v in np.maximum(thresholds, 0)],
        **{
            name: [round(float(v), 6) for v in values]
            for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
        },
        "average_precision": float((np.diff(recall, prepend=0) * precision).sum()),
    }


def plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers that JSON knows: None for NaN."""
    return {name: round(float(value), 6) if math.isfinite(value) else None for name, value in values.items()}
