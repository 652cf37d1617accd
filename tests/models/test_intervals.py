"""Intervals from images drawn anew, and paired comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from models import intervals as module
from models.intervals import Draws, System, blocks_of, difference, holm, interval_of, interval_over_seeds, intervals
from models.metrics import ratios


def images(number=60, *, seed=0, recall=0.8):
    """Counts of images that differ among each other."""
    rng = np.random.default_rng(seed)
    true = rng.integers(200, 2000, number)
    tp = rng.binomial(true, np.clip(rng.normal(recall, 0.1, number), 0, 1))
    fp = rng.integers(0, 500, number)
    return np.stack([tp, fp, true - tp, 10_000 - true - fp], axis=1)


def test_intervals_are_those_of_scipy():
    counted = images()
    found = intervals(counted, draws=Draws(4000))

    def pooled(tp, fp, fn, axis):
        return 2 * tp.sum(axis) / (2 * tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    oracle = bootstrap(
        tuple(counted[:, :3].T.astype(float)),
        pooled,
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found["pooled"]["f1"] == pytest.approx([oracle.low, oracle.high], abs=2e-3)
    each = bootstrap(
        (ratios(counted)["iou"],), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found["per_image"]["iou"] == pytest.approx([each.low, each.high], abs=2e-3)


def test_a_mean_over_images_leaves_out_what_is_undefined():
    counted = np.vstack([images(30), np.tile([0, 0, 0, 500], (30, 1))])
    low, high = intervals(counted)["per_image"]["f1"]
    assert low < ratios(counted[:30])["f1"].mean() < high


def test_copies_are_drawn_together():
    counted = images(20)
    twice = np.repeat(counted, 5, axis=0)
    keys = [f"picture {number // 5}" for number in range(100)]
    alone = intervals(twice)["pooled"]["f1"]
    together = intervals(twice, blocks=blocks_of(keys))["pooled"]["f1"]
    width = lambda interval: interval[1] - interval[0]  # noqa: E731
    assert width(together) > 1.7 * width(alone)
    assert together == pytest.approx(intervals(counted)["pooled"]["f1"], abs=0.01)


def test_few_images_have_no_interval():
    found = intervals(images(9))
    assert all(value is None for way in found.values() for value in way.values())
    assert interval_of(images(9), lambda s: s[:, 0], np.arange(9)) is None
    assert difference(System(images(9)[None]), System(images(9)[None]))["interval"] is None


def test_memory_is_bounded_and_pieces_do_not_matter(monkeypatch):
    counted = images(40)
    whole = intervals(counted)
    monkeypatch.setattr(module, "CHUNK", 4001)
    assert intervals(counted) == whole


def test_a_real_difference_is_seen_and_chance_is_not():
    system, better = images(60, seed=1, recall=0.7), images(60, seed=1, recall=0.85)
    found = difference(System(better[None]), System(system[None]))
    assert found["interval"][0] > 0
    assert found["p"] < 0.01
    assert found["wilcoxon_p"] < 0.01
    same = difference(System(system[None]), System(system[None]))
    assert same == {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0, "wilcoxon_p": None}


def test_pairs_tell_more_than_two_intervals():
    """Two systems that are right and wrong on the same images: each is unsure, their difference is not."""
    one = images(50, seed=2)
    lost = np.minimum(one[:, 0], 40)
    other = one + np.stack([-lost, 0 * lost, lost, 0 * lost], axis=1)
    alone, found = intervals(one)["pooled"]["f1"], difference(System(one[None]), System(other[None]))
    assert found["interval"][1] - found["interval"][0] < 0.5 * (alone[1] - alone[0])
    assert found["interval"][0] > 0


def test_coverage_of_no_difference():
    """Of comparisons of two equal systems about one in twenty calls itself sure."""
    sure = 0
    for seed in range(60):
        one, other = images(40, seed=2 * seed), images(40, seed=2 * seed + 1)
        low, high = difference(System(one[None]), System(other[None]), draws=Draws(400))["interval"]
        sure += not low <= 0 <= high
    assert sure <= 9


def test_seeds_widen_an_interval():
    counted = images(60)
    worse = counted + np.stack([-counted[:, 0] // 3, 0 * counted[:, 0], counted[:, 0] // 3, 0 * counted[:, 0]], axis=1)
    steady, shaky = System(np.stack([counted] * 3)), System(np.stack([counted, counted, worse]))
    low, high = interval_over_seeds(shaky, "f1")
    other = interval_over_seeds(steady, "f1")
    assert high - low > 1.5 * (other[1] - other[0])
    assert low < shaky.score("f1") < high
    assert shaky.spread("f1")[0] < shaky.spread("f1")[1]
    assert System(counted[None]).spread("f1") is None


def test_other_images_are_our_mistake():
    with pytest.raises(ValueError, match="same images"):
        difference(System(images(20)[None]), System(images(21)[None]))


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == [0.03, None, 0.06, 0.06]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
