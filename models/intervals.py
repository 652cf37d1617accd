"""How sure a score is, and whether two systems really differ: images are drawn anew, never pixels.

Pixels of one image share its light, its place and the hand that drew its label; they are right or wrong
together. An image is drawn whole, with all its counts, and copies of one picture are one image (percentile intervals
and paired resampling: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8, 13 and 16).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geo.replicates import CHUNK, Interval, percentile_interval
from models.metrics import mean_of_defined, ratios

#: With fewer images an interval would pretend to know more than it does, so there is none.
LEAST_IMAGES = 10
#: Scores that are shares of images: columns of tp, fp, fn, tn that count, and all that the share is of.
_LOOKED_AT = {
    "accuracy": ([0, 3], [0, 1, 2, 3]),
    "precision": ([0], [0, 1]),
    "recall": ([0], [0, 2]),
    "specificity": ([3], [1, 3]),
    "f1": ([0], [0, 1, 2]),
    "iou": ([0], [0, 1, 2]),
}


@dataclass(frozen=True)
class Draws:
    """How intervals are made.

    Attributes
    ----------
    replicates : int
    seed : int
    level : float
        Share of the replicates inside an interval.
    """

    replicates: int = 2000
    seed: int = 0
    level: float = 0.95

    def times(self, blocks: int) -> Iterator[np.ndarray]:
        """How often each replicate holds each block: uint16 arrays ``(some replicates, blocks)``, in a fixed order."""
        rng = np.random.default_rng((self.seed, blocks))
        step = max(1, CHUNK // max(1, blocks))
        for start in range(0, self.replicates, step):
            number = min(step, self.replicates - start)
            yield rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=number).astype(np.uint16)

    def between(self, replicates: np.ndarray) -> Interval:
        """Percentile interval of replicates; None where many are not defined.

        It may have no width, which scores of an inventory never get: of two systems that answer every image alike the
        difference is 0 to 0, and shares of whole images are widened to Wilson's (``interval_of_images``).
        """
        found = percentile_interval(replicates, self.level)
        return found and [round(v, 6) for v in found]

    def facts(self, blocks: int) -> dict[str, Any]:
        """Tell how intervals were made, for the file of scores."""
        return {
            "method": "percentile bootstrap of whole images, drawn with replacement; copies of a picture are one image",
            "images": blocks,
            "least_images": LEAST_IMAGES,
            "replicates": self.replicates,
            "seed": self.seed,
            "level": self.level,
        }


def blocks_of(keys: Sequence[Any]) -> np.ndarray:
    """Give the number of the block that each image belongs to, from a key of each: equal keys are one block.

    Returns
    -------
    ndarray of int, shape (images,)
    """
    return np.unique(np.asarray(keys), return_inverse=True)[1].astype(np.int64)


def intervals(
    counted: np.ndarray, *, blocks: np.ndarray | None = None, draws: Draws | None = None
) -> dict[str, dict[str, Interval]]:
    """Intervals of the scores over all pixels and of the means over images.

    Parameters
    ----------
    counted : ndarray, shape (images, 4)
        tp, fp, fn, tn of each image.
    blocks : ndarray of int, shape (images,), optional
        Images that are drawn together; each on its own by default.
    draws : Draws, optional

    Returns
    -------
    dict
        ``pooled`` and ``per_image``: an interval for each score, None where there are fewer than ``LEAST_IMAGES``
        blocks or the score is often not defined.
    """
    draws = draws or Draws()
    blocks = np.arange(len(counted)) if blocks is None else blocks
    number = int(blocks.max()) + 1 if len(blocks) else 0
    names = list(ratios(np.zeros(4)))
    if number < LEAST_IMAGES:
        return {way: dict.fromkeys(names) for way in ("pooled", "per_image")}
    tables = [_pooled_table(counted, blocks, number), *_image_tables(counted, blocks, number)]
    pooled: dict[str, list[np.ndarray]] = {name: [] for name in names}
    means: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for times in draws.times(number):
        weights = times.astype(float)
        for name, values in ratios(weights @ tables[0]).items():
            pooled[name].append(values)
        total, defined = weights @ tables[1], weights @ tables[2]
        values = np.divide(total, defined, out=np.full(total.shape, np.nan), where=defined > 0)
        for column, name in enumerate(names):
            means[name].append(values[:, column])
    return {
        way: {name: draws.between(np.concatenate(parts)) for name, parts in found.items()}
        for way, found in (("pooled", pooled), ("per_image", means))
    }


def _pooled_table(counted: np.ndarray, blocks: np.ndarray, number: int) -> np.ndarray:
    return np.stack([np.bincount(blocks, column, minlength=number) for column in counted.T.astype(float)], axis=1)


def _image_tables(counted: np.ndarray, blocks: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Add up each score over the images of a block, and how many of them define it."""
    values = np.stack(list(ratios(counted).values()), axis=1)
    defined = np.isfinite(values)
    clean = np.where(defined, values, 0)
    sums = [np.bincount(blocks, column, minlength=number) for column in clean.T]
    numbers = [np.bincount(blocks, column, minlength=number) for column in defined.T.astype(float)]
    return np.stack(sums, axis=1), np.stack(numbers, axis=1)


@dataclass(frozen=True)
class System:
    """Counts of one system on the test images, one table for each seed it was trained with.

    Attributes
    ----------
    counted : ndarray, shape (seeds, images, 4)
        tp, fp, fn, tn.
    ratios : callable
        From counts (..., 4) to scores (...) by name; of other counts than these four it is another one.
    """

    counted: np.ndarray
    ratios: Callable[[np.ndarray], dict[str, np.ndarray]] = ratios

    def score(self, name: str) -> float:
        """Mean over seeds of a score over all pixels."""
        return mean_of_defined(self.ratios(self.counted.sum(axis=1))[name])

    def per_image(self, name: str) -> float:
        """Mean over seeds of the mean of a score over the images that define it."""
        return mean_of_defined(np.array([mean_of_defined(of_seed) for of_seed in self.ratios(self.counted)[name]]))

    def spread(self, name: str) -> tuple[float, float] | None:
        """Lowest and highest of the seeds; None where there is one seed."""
        values = self.ratios(self.counted.sum(axis=1))[name]
        if len(values) == 1:
            return None
        known = values[np.isfinite(values)]
        return (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)

    def tables(self, blocks: np.ndarray) -> np.ndarray:
        """Add up counts by block: shape (seeds, blocks, 4)."""
        number = int(blocks.max()) + 1
        return np.stack([_pooled_table(table, blocks, number) for table in self.counted])


def interval_over_seeds(
    system: System, name: str, *, blocks: np.ndarray | None = None, draws: Draws | None = None
) -> Interval:
    """Interval of the mean over seeds of a pooled score; images are drawn anew, and seeds too where there are some."""
    draws = draws or Draws()
    blocks = np.arange(system.counted.shape[1]) if blocks is None else blocks
    if len(np.unique(blocks)) < LEAST_IMAGES:
        return None
    replicate = _replicates([system], name, blocks, draws)
    return draws.between(replicate[0])


def interval_of_images(
    system: System, name: str, *, blocks: np.ndarray | None = None, draws: Draws | None = None
) -> Interval:
    """Interval of a score of answers to whole images, which is never narrower than Wilson's.

    Draws of images that were all answered right hold no error, so their interval has no width, however few they are.
    Wilson's (1927, J. Am. Stat. Assoc. 22: 209-212) has the width that the number of images allows. Its trials are the
    blocks that the ratio looks at, as if all images of one were right or wrong together. F1 is no share of
    trials, but IoU is, the hits among images that are positive or answered so; F1 = 2 IoU / (1 + IoU) grows with it.

    Parameters
    ----------
    system : System
        Each image has a single 1 among its tp, fp, fn, tn.
    name : {"accuracy", "precision", "recall", "specificity", "f1", "iou"}
        Of other scores the interval is that of the draws alone.
    blocks : ndarray of int, optional
        Images that are drawn together.
    draws : Draws, optional
        Wilson's interval is of 95 % always.

    Returns
    -------
    list of float or None
        None where there are fewer than ``LEAST_IMAGES`` blocks or the score is often not defined.
    """
    blocks = np.arange(system.counted.shape[1]) if blocks is None else blocks
    drawn = interval_over_seeds(system, name, blocks=blocks, draws=draws)
    if drawn is None or name not in _LOOKED_AT:
        return drawn
    part, whole = _LOOKED_AT[name]
    tables = system.tables(blocks)
    share = float(tables[..., part].sum() / max(1, tables[..., whole].sum()))
    trials = float((tables[..., whole].sum(axis=-1) > 0).sum(axis=-1).mean())
    low, high = wilson(share * trials, trials)
    if name == "f1":
        low, high = (round(2 * v / (1 + v), 6) for v in (low, high))
    return [min(low, drawn[0]), max(high, drawn[1])]


def wilson(hits: float, trials: float) -> list[float]:
    """Interval (95 %) of a share of which ``hits`` of ``trials`` were seen (Wilson 1927)."""
    if not trials:
        return [0.0, 1.0]
    z = 1.959964
    share = hits / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return [round(float(v), 6) for v in (max(0.0, centre - half), min(1.0, centre + half))]


def _replicates(systems: Sequence[System], name: str, blocks: np.ndarray, draws: Draws) -> list[np.ndarray]:
    """Replicates of each system's score on the same draws of images; each system's seeds are drawn on their own."""
    tables = [system.tables(blocks) for system in systems]
    rng = np.random.default_rng((draws.seed, 7))
    found: list[list[np.ndarray]] = [[] for _ in systems]
    for times in draws.times(int(blocks.max()) + 1):
        weights = times.astype(float)
        for number, (system, table) in enumerate(zip(systems, tables, strict=True)):
            values = np.stack([system.ratios(weights @ of_seed)[name] for of_seed in table])
            seeds = rng.integers(0, len(table), size=values.shape) if len(table) > 1 else np.zeros(values.shape, int)
            found[number].append(np.take_along_axis(values, seeds, axis=0).mean(axis=0))
    return [np.concatenate(parts) for parts in found]


def difference(
    one: System,
    other: System,
    name: str = "f1",
    *,
    blocks: np.ndarray | None = None,
    draws: Draws | None = None,
) -> dict[str, Any]:
    """Compare two systems on the same images.

    Parameters
    ----------
    one, other : System
        Counts of the same images in the same order.
    name : str
        A score that both systems know.
    blocks : ndarray of int, optional
        Images that are drawn together.
    draws : Draws, optional

    Returns
    -------
    dict
        ``difference`` (one minus other, over all pixels), its ``interval``, ``p`` (two-sided, by the paired bootstrap:
        twice the share of replicates on the other side of 0), and ``wilcoxon_p`` of the signed ranks of the
        differences of single images (Wilcoxon 1945), which asks whether most images, not most pixels, are
        better; None where images are too few or all are equal.
    """
    draws = draws or Draws()
    if one.counted.shape[1:] != other.counted.shape[1:]:
        raise ValueError("systems are compared on the same images")
    blocks = np.arange(one.counted.shape[1]) if blocks is None else blocks
    found: dict[str, Any] = {"difference": one.score(name) - other.score(name), "interval": None, "p": None}
    found["wilcoxon_p"] = None
    if len(np.unique(blocks)) < LEAST_IMAGES:
        return found
    ours, theirs = _replicates([one, other], name, blocks, draws)
    apart = (ours - theirs)[np.isfinite(ours - theirs)]
    found["interval"] = draws.between(ours - theirs)
    if found["interval"] is not None:
        smaller = min((apart <= 0).sum(), (apart >= 0).sum())
        found["p"] = min(1.0, 2 * (int(smaller) + 1) / (len(apart) + 1))
    found["wilcoxon_p"] = _signed_ranks(one, other, name, blocks)
    return found


def sign_test(one: System, other: System, blocks: np.ndarray) -> float | None:
    """Exact sign test of whether one of two systems answers more images right.

    Where each image is a block of its own and was answered by one seed, this is the exact test of McNemar (1947).

    Returns
    -------
    float or None
        Two-sided; None with fewer than ``LEAST_IMAGES`` blocks. 1 where no block is answered otherwise.
    """
    from scipy.stats import binomtest

    if len(np.unique(blocks)) < LEAST_IMAGES:
        return None
    right = [system.tables(blocks)[..., [0, 3]].sum(axis=-1).mean(axis=0) for system in (one, other)]
    better, worse = int((right[0] > right[1]).sum()), int((right[0] < right[1]).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _signed_ranks(one: System, other: System, name: str, blocks: np.ndarray) -> float | None:
    from scipy.stats import wilcoxon

    means: list[np.ndarray] = []
    for system in (one, other):
        values = np.stack([system.ratios(table)[name] for table in system.tables(blocks)])
        means.append(values.mean(axis=0))
    apart = means[0] - means[1]
    apart = apart[np.isfinite(apart) & (apart != 0)]
    return float(wilcoxon(apart).pvalue) if len(apart) >= LEAST_IMAGES else None


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Raise p values for as many comparisons as were made (Holm 1979); None stays None.

    Parameters
    ----------
    values : sequence of float or None
    """
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = highest
    return adjusted


def interval_of(
    table: np.ndarray, score: Callable[[np.ndarray], np.ndarray], blocks: np.ndarray, draws: Draws | None = None
) -> Interval:
    """Interval of any score of sums over images.

    Parameters
    ----------
    table : ndarray, shape (images, quantities)
    score : callable
        From sums ``(replicates, quantities)`` to scores ``(replicates,)``.
    blocks : ndarray of int, shape (images,)
    draws : Draws, optional
    """
    draws = draws or Draws()
    number = int(blocks.max()) + 1 if len(blocks) else 0
    if number < LEAST_IMAGES:
        return None
    sums = _pooled_table(table, blocks, number)
    with np.errstate(divide="ignore", invalid="ignore"):
        return draws.between(np.concatenate([score(times.astype(float) @ sums) for times in draws.times(number)]))
