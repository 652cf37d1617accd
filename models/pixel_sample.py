"""Pixels drawn from all chips with bounded memory, and answers calibrated to probabilities."""

from __future__ import annotations

import numpy as np

from geo.errors import LabelError
from models.chips import IGNORE
from models.dataset import FittedChips


def sample(chips: FittedChips, size: int, *, seed: int, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels from all chips, each with the same chance, with one chip in memory at a time.

    Every pixel draws a random key and those with the smallest keys are kept.

    Parameters
    ----------
    chips : FittedChips
    size : int
        Pixels to draw; all where there are fewer.
    seed : int
    label : int, optional
        Draw among the pixels of this class only.

    Returns
    -------
    pixels : ndarray of float32, shape (n, bands)
    labels : ndarray of uint8, shape (n,)
    """
    keys, pixels, labels = np.empty(0), [], []
    for number in range(len(chips)):
        chip = chips[number]
        known = chip.label != IGNORE if label is None else chip.label == label
        rng = np.random.default_rng((seed, number, 0 if label is None else 1 + label))
        drawn = rng.random(int(known.sum()))
        few = np.sort(np.argpartition(drawn, size)[:size]) if len(drawn) > size else np.arange(len(drawn))
        keys = np.concatenate([keys, drawn[few]])
        pixels.append(chip.image[known][few].astype(np.float32))
        labels.append(chip.label[known][few])
        if len(keys) > 4 * size:  # so that the pieces do not add up
            keys, joined, joined_labels = _smallest(keys, np.concatenate(pixels), np.concatenate(labels), size)
            pixels, labels = [joined], [joined_labels]
    _, joined, joined_labels = _smallest(keys, np.concatenate(pixels), np.concatenate(labels), size)
    return joined, joined_labels


def _smallest(
    keys: np.ndarray, pixels: np.ndarray, labels: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")[:size]
    return keys[order], pixels[order], labels[order]


def balanced_sample(chips: FittedChips, size: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels of which half are landslide; see ``sample``."""
    classes = [sample(chips, size // 2, seed=seed, label=value) for value in (0, 1)]
    pixels, labels = (np.concatenate(parts) for parts in zip(*classes, strict=True))
    return pixels, labels


def sample_of_both(chips: FittedChips, size: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels as ``sample`` does, but half of each class where chance has drawn a single one.

    Whoever counts them weighs the classes to their share of the ground, as ``platt`` and ``metrics.at_share`` do.

    Raises
    ------
    LabelError
        All labelled pixels are of one class.
    """
    pixels, labels = sample(chips, size, seed=seed)
    if labels.all() or not labels.any():
        pixels, labels = balanced_sample(chips, size, seed=seed)
    if labels.all() or not labels.any():
        found = f"no pixel {'without' if labels.all() else 'with'} landslide" if len(labels) else "no labelled pixel"
        raise LabelError(
            f"the {len(chips)} validation chips hold {found}, and probabilities are calibrated on both kinds; "
            "label more ground, or cut smaller blocks"
        )
    return pixels, labels


def platt(decision: np.ndarray, truth: np.ndarray, share: float) -> tuple[float, float]:
    """Slope and offset of a logistic curve from decision values to probabilities (Platt 1999).

    Parameters
    ----------
    decision : ndarray, shape (n,)
    truth : ndarray of uint8, shape (n,)
        0 and 1, of a random sample of validation pixels; both occur.
    share : float
        Of landslide in the labelled ground, to which the sample is weighed.
    """
    from sklearn.linear_model import LogisticRegression

    weight = np.where(truth == 1, share / truth.mean(), (1 - share) / (1 - truth.mean()))
    solved = LogisticRegression(C=1e6).fit(decision[:, None].astype(np.float64), truth, sample_weight=weight)
    return float(solved.coef_[0, 0]), float(solved.intercept_[0])
