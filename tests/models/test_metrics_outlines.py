"""Outlines and centre lines within a tolerance."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from models.outlines import KINDS, centre_line, tolerant_counts, tolerant_scores


def square(left, top, side, size=60):
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def found(mask, label, tolerance=2.0):
    return tolerant_scores(tolerant_counts(mask.astype(bool), label, tolerance))


def test_the_truth_itself_is_perfect():
    label = square(10, 12, 20)
    assert all(found(label, label, 0)[kind] == {"precision": 1, "recall": 1, "f1": 1} for kind in KINDS)


@pytest.mark.parametrize(("shift", "expected"), [(1, 1.0), (2, 1.0), (4, None)])
def test_a_shift_within_the_tolerance_is_forgiven(shift, expected):
    scores = found(square(10 + shift, 12, 20), square(10, 12, 20))
    if expected:
        assert scores["boundary"]["f1"] == expected
        assert scores["centre_line"]["f1"] == 1
    else:
        assert scores["boundary"]["f1"] < 0.7


def test_outline_by_hand():
    """A 3 x 3 square has 8 pixels of outline; a 5 x 5 one around it 16, all of them a pixel away."""
    ours, truth = square(11, 11, 5), square(12, 12, 3)
    counted = dict(zip(("right", "found", "met", "true"), tolerant_counts(ours > 0, truth, 1)[:4], strict=True))
    assert counted == {"right": 12, "found": 16, "met": 8, "true": 8}  # corners are 1.4 pixels away
    assert tolerant_counts(ours > 0, truth, 1.5)[0] == 16


def test_ignored_ground_has_no_outline_and_counts_nowhere():
    label = square(10, 10, 30)
    label[:, 25:] = 255
    mask = np.zeros(label.shape, dtype=bool)
    mask[10:40, 10:55] = True
    assert found(mask, label, 0)["boundary"] == {"precision": 1, "recall": 1, "f1": 1}
    assert found(mask, label, 0)["pixels"]["f1"] == 1


def test_nothing_found_and_nothing_there():
    empty, some = np.zeros((20, 20), dtype=np.uint8), square(5, 5, 5, 20)
    assert np.isnan(found(empty, empty)["boundary"]["f1"])
    assert found(empty, some)["pixels"]["f1"] == 0
    assert found(some, empty)["centre_line"]["f1"] == 0


def test_a_crack_found_twice_as_wide_has_its_centre_line():
    label = np.zeros((80, 80), dtype=np.uint8)
    cv2.line(label, (5, 10), (70, 60), 1, 3)
    wide = np.zeros_like(label)
    cv2.line(wide, (5, 10), (70, 60), 1, 7)
    overlap = 2 * (label & wide).sum() / (label.sum() + wide.sum())
    assert overlap < 0.8
    assert found(wide, label)["centre_line"]["f1"] > 0.95
    assert centre_line(label > 0).sum() < label.sum() / 2


def diagonal(width, off, size=260, length=200):
    """A strip at 45 degrees whose middle lies ``off`` pixels beside the centre."""
    row, col = np.mgrid[:size, :size] - (size - 1) / 2
    along, across = (col + row) / np.sqrt(2), (row - col) / np.sqrt(2) - off
    return (abs(along) <= length / 2) & (abs(across) < width / 2)


@pytest.mark.parametrize("width", [2, 4, 10])
@pytest.mark.parametrize("off", [0, 0.35, -0.35])
def test_a_diagonal_crack_keeps_its_centre_line(width, off):
    """200 pixels long at 45 degrees are 141 steps; thinning may stop a half width before either tip."""
    steps = 200 / np.sqrt(2)
    assert steps - width - 4 <= centre_line(diagonal(width, off)).sum() <= steps + 4


def test_a_diagonal_crack_that_was_missed_is_missed_in_the_recall():
    label = diagonal(10, -0.35).astype(np.uint8)
    short = np.zeros_like(label)
    short[240:246, 30:80] = 1
    recall = found(short, label | short)["centre_line"]["recall"]
    assert recall == pytest.approx(50 / (50 + 200 / np.sqrt(2)), abs=0.03)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 5))
def test_nearness_is_that_of_the_distance_transform(seed, tolerance):
    rng = np.random.default_rng(seed)
    mask, label = rng.random((20, 25)) < 0.1, (rng.random((20, 25)) < 0.1).astype(np.uint8)
    counted = tolerant_counts(mask, label, tolerance)[8:]
    near = lambda a, b: int((distance_transform_edt(~b)[a] <= tolerance + 1e-3).sum()) if b.any() else 0  # noqa: E731
    assert counted.tolist() == [near(mask, label > 0), mask.sum(), near(label > 0, mask), label.sum()]
