"""Pictures of chips beside their answers: what is wrong has a box, wherever in the chip it lies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.panels import MISS, Answer, Row, draw

SIDE = 64


def sides_of_the_box(path, missed):
    """Draw a chip with a missed area; rows and columns of the picture that hold a long line of its colour."""
    label = np.zeros((SIDE, SIDE), np.uint8)
    label[missed] = 1
    black = np.zeros((SIDE, SIDE, 3), np.float32)
    row = Row("chip", black, label, (Answer("system", np.zeros((SIDE, SIDE)), 0.5),))
    draw(path, [row], title="", probability=False)
    picture = cv2.imread(str(path))[:-60, :, ::-1].astype(int)  # without the legend
    colour = [int(MISS[i : i + 2], 16) for i in (1, 3, 5)]
    line = (np.abs(picture - colour) < 40).all(axis=2)
    return [np.ptp(np.flatnonzero(line.sum(axis=axis) > 0.8 * line.sum(axis=axis).max())) for axis in (0, 1)]


@pytest.mark.parametrize(
    "missed",
    [np.s_[:, :], np.s_[:32, :32], np.s_[32:, 32:], np.s_[20:52, 16:48], np.s_[:, 16:48]],
    ids=["all", "corner", "other corner", "middle", "edge to edge"],
)
def test_an_error_has_a_whole_box_at_the_edge_too(tmp_path, missed):
    wide, high = sides_of_the_box(tmp_path / "panels.png", missed)
    area = np.zeros((SIDE, SIDE))[missed].shape
    assert wide / high == pytest.approx((area[1] + 1) / (area[0] + 1), rel=0.06)
    assert wide > 100
