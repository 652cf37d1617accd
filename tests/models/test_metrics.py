"""Scores against scikit-learn, identities, and thresholds that survive rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from geo.raster import PROBABILITY
from models import metrics


def scene(seed: int = 0, size: int = 40):
    rng = np.random.default_rng(seed)
    label = (rng.random((size, size)) < 0.3).astype(np.uint8)
    probability = np.clip(0.3 * label + 0.7 * rng.random((size, size)), 0, 1).astype(np.float32)
    return probability, label


def test_scores_agree_with_scikit_learn():
    probability, label = scene()
    threshold = metrics.best_threshold(metrics.histogram(probability, label))[0]
    mask = (probability >= threshold).ravel()
    truth = label.ravel()
    found = metrics.summary(metrics.histogram(probability, label)[None], threshold)["pooled"]
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(truth, mask, average="binary")
    each = oracle.jaccard_score(truth, mask, average=None)
    expected = {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "iou": each[1],
        "miou": each.mean(),
        "accuracy": oracle.accuracy_score(truth, mask),
        "specificity": oracle.recall_score(truth, mask, pos_label=0),
        "precision_classes": oracle.precision_score(truth, mask, average="macro"),
        "recall_classes": oracle.recall_score(truth, mask, average="macro"),
    }
    assert found == pytest.approx(expected, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.integers(0, 10_000)] * 4))
def test_iou_and_f1_are_tied(four):
    tp, fp, fn, tn = four
    found = metrics.scores(tp, fp, fn, tn)
    if tp + fp + fn:
        assert found["iou"] == pytest.approx(found["f1"] / (2 - found["f1"]))
    else:
        assert np.isnan(found["f1"])
        assert np.isnan(found["iou"])
    if tp:
        mean = 2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"])
        assert found["f1"] == pytest.approx(mean)


def test_ignored_pixels_are_not_counted():
    probability, label = scene()
    label[:20] = 255
    probability[:20] = np.nan
    whole = metrics.histogram(probability, label)
    assert whole.sum() == (label != 255).sum()
    assert (whole == metrics.histogram(probability[20:], label[20:])).all()


def test_best_threshold_is_the_middle_of_those_as_good_as_the_best():
    probability, label = scene(3)
    threshold, f1 = metrics.best_threshold(metrics.histogram(probability, label))
    tried = np.linspace(0.01, 0.99, 197)
    all_f1 = np.array([oracle.f1_score(label.ravel(), (probability >= t).ravel()) for t in tried])
    good = tried[all_f1 >= 0.99 * all_f1.max()]
    assert f1 >= 0.99 * all_f1.max() - 2e-3
    assert abs(threshold - good.mean()) < 0.02


def test_threshold_of_a_flat_curve_does_not_lie_at_its_end():
    """Dice drives probabilities to 0 and 1; one pixel more or less must not move the threshold to an extreme."""
    probability = np.repeat([0.02, 0.03, 0.97, 0.98], 500).reshape(40, 50)
    label = (probability > 0.5).astype(np.uint8)
    label[probability == 0.97] = np.arange(500) > 3
    threshold, _ = metrics.best_threshold(metrics.histogram(probability, label))
    assert 0.4 < threshold < 0.6


def test_a_clear_case_takes_the_middle():
    label = np.array([0, 0, 1, 1], dtype=np.uint8)
    threshold, f1 = metrics.best_threshold(metrics.histogram(np.array([0.1, 0.2, 0.8, 0.9]), label))
    assert f1 == 1
    assert abs(threshold - 0.5) <= 0.004


def test_rounded_probability_gives_the_same_mask():
    probability, label = scene(5, 100)
    threshold, _ = metrics.best_threshold(metrics.histogram(probability, label))
    on_disk = PROBABILITY.encode(probability).astype(np.float32) * np.float32(PROBABILITY.scale)
    assert ((on_disk >= threshold) == (probability >= threshold)).all()


def test_per_image_means_leave_out_what_is_undefined():
    empty = metrics.histogram(np.zeros((4, 4)), np.zeros((4, 4), dtype=np.uint8))
    whole = metrics.histogram(np.ones((4, 4)), np.ones((4, 4), dtype=np.uint8))
    found = metrics.summary(np.stack([empty, whole]), 0.502)
    assert found["images"] == 2
    assert found["per_image"]["f1"] == 1
    assert found["per_image"]["accuracy"] == 1
    assert metrics.summary(empty[None], 0.502)["pooled"]["f1"] is None


def test_validation_is_weighed_to_the_share_of_all_ground():
    """Validation with few landslides gives the threshold that the same ground with many would have given."""
    rng = np.random.default_rng(0)
    label = (rng.random((400, 400)) < 0.2).astype(np.uint8)
    probability = np.clip(0.35 * label + 0.3 + 0.15 * rng.standard_normal(label.shape), 0, 1)
    few = (label == 0) | (rng.random(label.shape) < 0.1)
    whole = metrics.histogram(probability, label)
    poor = metrics.histogram(probability[few], label[few])
    share = whole[1].sum() / whole.sum()
    weighed = metrics.at_share(poor, share)
    assert weighed.sum() == pytest.approx(poor.sum())
    assert weighed[1].sum() / weighed.sum() == pytest.approx(share)
    wanted, given = metrics.best_threshold(whole)[0], metrics.best_threshold(weighed)[0]
    assert abs(given - wanted) < 0.03 < abs(metrics.best_threshold(poor)[0] - wanted)


def test_one_class_alone_is_not_weighed():
    only = metrics.histogram(np.zeros((4, 4)), np.zeros((4, 4), dtype=np.uint8))
    assert (metrics.at_share(only, 0.3) == only).all()
