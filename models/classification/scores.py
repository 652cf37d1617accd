"""How well images were classified: confusion matrix, ratios with intervals, and the threshold for a recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.intervals import Draws, System, interval_of_images, wilson
from models.metrics import STEPS, calibration


def ratios(counts: np.ndarray, positive: int) -> dict[str, np.ndarray]:
    """Ratios of confusion matrices; NaN where a ratio is 0 / 0.

    Parameters
    ----------
    counts : ndarray, shape (..., classes, classes)
        Rows are classes, columns answers.
    positive : int
        The class that is sought; all others together are the negative ones.

    Returns
    -------
    dict of ndarray, shape (...)
        ``accuracy``, and of the positive class ``precision, recall, specificity, f1``.
    """
    total = counts.sum((-2, -1))
    right = np.trace(counts, axis1=-2, axis2=-1)
    hit = counts[..., positive, positive]
    answered, there = counts[..., :, positive].sum(-1), counts[..., positive, :].sum(-1)
    return {
        "accuracy": _ratio(right, total),
        "precision": _ratio(hit, answered),
        "recall": _ratio(hit, there),
        "specificity": _ratio(total - there - answered + hit, total - there),
        "f1": _ratio(2 * hit, answered + there),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def summary(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence[str],
    classes: Sequence[str],
    positive: int,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of a set of images, with intervals (``models.intervals.interval_of_images``).

    They come from draws of whole groups (Efron's percentile bootstrap) and are never narrower than those of Wilson
    (1927) for as many trials as groups: where all answers are right, the draws alone would claim to be sure.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    probabilities : ndarray of float, shape (n, classes)
        The largest is the answer.
    groups : sequence of str
        Images of one group (copies, parts of one photograph) are drawn together.
    classes : sequence of str
    positive : int
    replicates : int
    seed : int

    Returns
    -------
    dict
        ``images, groups, classes, positive, confusion`` (rows are classes), ``scores`` and ``intervals`` (95 %);
        undefined ratios are None, and so are intervals of fewer than ten groups. ``calibration`` and
        ``calibration_error`` tell how often images of a stated probability of the class that is sought are of it, in
        ten bins (``metrics.calibration``).
    """
    answers = probabilities.argmax(axis=1)
    number = len(classes)
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    each = np.zeros((place.max() + 1, number, number), dtype=np.int64)
    np.add.at(each, (place, labels, answers), 1)
    found = ratios(each.sum(0), positive)
    four = four_counts(labels == positive, answers == positive)
    right = four_counts(np.ones(len(labels), dtype=bool), labels == answers)  # of any number of classes
    system = {name: System((right if name == "accuracy" else four)[None]) for name in found}
    calibrated = calibration(counted(labels, probabilities[:, positive], positive))
    draws = Draws(replicates, seed)
    spans = {
        name: interval_of_images(of, "recall" if name == "accuracy" else name, blocks=place, draws=draws)
        for name, of in system.items()
    }
    return {
        "images": len(labels),
        "groups": len(each),
        "classes": list(classes),
        "positive": classes[positive],
        "confusion": each.sum(0).tolist(),
        "scores": {name: _plain(float(value)) for name, value in found.items()},
        "intervals": spans,
        "calibration": [{"images": row.pop("pixels"), **row} for row in calibrated["bins"]],
        "calibration_error": _plain(calibrated["ece"]),
    }


def _plain(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def four_counts(truth: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Count each image as tp, fp, fn or tn: int64 of shape (n, 4) with a single 1 in each row.

    Parameters
    ----------
    truth, answered : ndarray of bool, shape (n,)
        Whether an image is positive, and was answered so.
    """
    kinds = (truth & answered, ~truth & answered, truth & ~answered, ~truth & ~answered)
    return np.stack(kinds, axis=-1).astype(np.int64)


def counted(labels: np.ndarray, probability: np.ndarray, positive: int) -> np.ndarray:
    """Count images by whether they are positive and by the probability of it, int64 of shape (2, STEPS + 1)."""
    step = np.rint(probability * STEPS).astype(np.int64)
    return np.bincount((labels == positive) * (STEPS + 1) + step, minlength=2 * (STEPS + 1)).reshape(2, -1)


def threshold_for(counts: np.ndarray, recall: float) -> dict[str, Any]:
    """Highest threshold that still finds a share of the positive images, and what it costs.

    Parameters
    ----------
    counts : ndarray, shape (2, STEPS + 1)
        Negative and positive validation images by probability, see ``counted``.
    recall : float
        Share of positive images to be found.

    Returns
    -------
    dict
        ``threshold`` (half-way between two steps of probability on disk), ``recall`` found on these images with its
        interval (``recall_interval``, Wilson 1927, 95 %), ``positives``, and ``skipped``: share of negative images
        below it, which need not be looked at.
    """
    negatives, positives = counts.sum(axis=1)
    at_least = np.cumsum(counts[1][::-1])[::-1]  # positives with this step or more
    enough = np.flatnonzero(at_least[1:] >= recall * positives - 1e-9)
    first = int(enough[-1]) + 1 if enough.size else 1
    hit = int(at_least[first])
    return {
        "threshold": (first - 0.5) / STEPS,
        "recall": _plain(float(_ratio(np.array(hit), positives))),
        "recall_interval": wilson(hit, int(positives)),
        "positives": int(positives),
        "skipped": _plain(float(_ratio(counts[0][:first].sum(), negatives))),
    }
