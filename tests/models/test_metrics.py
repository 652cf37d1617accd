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


def test_many_counts_at_once_are_each_scored_alike():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 50, (40, 4)) * rng.integers(0, 2, (40, 4))
    found = metrics.ratios(table)
    for number, row in enumerate(table):
        for name, value in metrics.scores(*row).items():
            np.testing.assert_equal(found[name][number], value)


def test_class_means_and_the_confusion_matrix_are_those_of_scikit_learn():
    probability, label = scene(4)
    found = metrics.summary(metrics.histogram(probability, label)[None], 0.502)
    mask, truth = (probability >= 0.502).ravel(), label.ravel()
    assert found["confusion"] == oracle.confusion_matrix(truth, mask).tolist()
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(truth, mask, average="macro")
    iou = oracle.jaccard_score(truth, mask, average="macro")
    expected = {"precision": precision, "recall": recall, "f1": f1, "iou": iou}
    assert found["class_mean"] == pytest.approx(expected, abs=1e-6)
    assert found["classes"]["background"]["f1"] == pytest.approx(oracle.f1_score(truth, mask, pos_label=0), abs=1e-6)


def test_contradictions_are_told():
    assert metrics.identities({"precision": 0.8196, "recall": 0.8533, "f1": 0.8361}, places=1e-4) == []
    wrong = metrics.identities({"precision": 0.6363, "recall": 0.7591, "f1": 0.7097}, places=1e-4)
    assert wrong == ["precision and recall give F1 0.6923, not 0.7097"]
    assert metrics.identities({"f1": 0.8, "iou": 0.7}) == ["F1 gives IoU 0.6667, not 0.7000"]
    assert metrics.identities({"f1": None, "iou": 0.7}) == []


def test_calibration_is_that_of_scikit_learn():
    from sklearn.calibration import calibration_curve

    probability, label = scene(6, 120)
    probability = np.rint(probability * metrics.STEPS) / metrics.STEPS
    inside = ~np.isclose(probability * 10 % 1, 0) & ~np.isclose(probability * 10 % 1, 1)  # edges belong elsewhere there
    probability, label = probability[inside], label[inside]
    found = metrics.calibration(metrics.histogram(probability, label))
    true, stated = calibration_curve(label, probability, n_bins=10)
    assert [row["found"] for row in found["bins"]] == pytest.approx(true.tolist(), abs=1e-5)
    assert [row["stated"] for row in found["bins"]] == pytest.approx(stated.tolist(), abs=1e-5)
    share = np.array([row["pixels"] for row in found["bins"]]) / label.size
    assert found["ece"] == pytest.approx(float((share * np.abs(true - stated)).sum()), abs=1e-6)


def test_a_perfectly_calibrated_map_has_no_calibration_error():
    rng = np.random.default_rng(0)
    stated = rng.random(200_000)
    label = (rng.random(200_000) < stated).astype(np.uint8)
    assert metrics.calibration(metrics.histogram(stated, label))["ece"] < 0.01
    assert metrics.calibration(metrics.histogram(stated**2, label))["ece"] > 0.1


def test_the_curve_and_its_average_precision_are_those_of_scikit_learn():
    probability, label = scene(7, 90)
    rounded = np.rint(probability * metrics.STEPS) / metrics.STEPS
    found = metrics.curve(metrics.histogram(probability, label))
    precision, recall, _ = oracle.precision_recall_curve(label.ravel(), rounded.ravel())
    assert found["precision"] == pytest.approx(precision[-2::-1].tolist(), abs=1e-6)
    assert found["recall"] == pytest.approx(recall[-2::-1].tolist(), abs=1e-6)
    expected = oracle.average_precision_score(label.ravel(), rounded.ravel())
    assert found["average_precision"] == pytest.approx(expected, abs=1e-6)
    at = found["threshold"][len(found["threshold"]) // 2]
    mask = (probability >= at).ravel()
    place = found["threshold"].index(at)
    assert found["recall"][place] == pytest.approx(oracle.recall_score(label.ravel(), mask), abs=1e-6)


def test_no_landslide_has_no_curve():
    found = metrics.curve(metrics.histogram(np.zeros((4, 4)), np.zeros((4, 4), dtype=np.uint8)))
    assert found["threshold"] == []
    assert np.isnan(found["average_precision"])
