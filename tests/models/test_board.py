"""What TensorBoard will show is read back from its files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.tensorboard import SummaryWriter

sys.path.insert(0, str(Path(__file__).parent))
from made_chips import write_chips
from made_pictures import TINY, write_set
from test_train import tiny

from models import metrics, recipe
from models.board import add_curve, shown
from models.classification.train import train as train_classifier
from models.train import train


def read(folder):
    """All that a log holds; every event is kept."""
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0, "scalars": 0})
    return found.Reload()


def curves(found):
    """Curves by epoch: rows are tp, fp, tn, fn, precision, recall."""
    return {event.step: make_ndarray(event.tensor_proto) for event in found.Tensors("precision_recall")}


def test_a_curve_is_that_of_the_counts(tmp_path):
    rng = np.random.default_rng(0)
    label = (rng.random((50, 60)) < 0.3).astype(np.uint8)
    probability = np.clip(rng.normal(0.35 + 0.3 * label, 0.2), 0, 1)
    pooled = metrics.histogram(probability, label)
    with SummaryWriter(str(tmp_path)) as board:
        add_curve(board, pooled, 3)
    found = read(tmp_path)
    assert found.SummaryMetadata("precision_recall").plugin_data.plugin_name == "pr_curves"
    (curve,) = curves(found).values()
    assert curve.shape == (6, 126)
    steps = np.rint(probability * metrics.STEPS)
    for number in (0, 40, 63, 125):  # thresholds are number / 125, which is what TensorBoard takes them for
        mask = steps >= 2 * number
        tp, fp, tn, fn, precision, recall = curve[:, number]
        assert tp == (mask & (label == 1)).sum()
        assert fp == (mask & (label == 0)).sum()
        assert (tn, fn) == ((label == 0).sum() - fp, (label == 1).sum() - tp)
        assert precision == pytest.approx(tp / max(tp + fp, 1))
        assert recall == pytest.approx(tp / (tp + fn))
    assert curve[5, 0] == 1


def test_a_segmenter_writes_a_curve_at_each_better_validation(tmp_path):
    folder = write_chips(tmp_path / "chips")
    history = train(tiny(), [folder], tmp_path / "a.pt", threads=1)["history"]
    found, better = read(tmp_path / "a.tensorboard"), []
    for row in history:
        if row["f1"] > max([0, *(r["f1"] for r in history[: row["epoch"] - 1])]):
            better.append(row["epoch"])
    assert sorted(curves(found)) == better
    assert [event.step for event in found.Scalars("f1")] == [1, 2, 3]
    known = {curve[[0, 1, 2, 3], 60].sum() for curve in curves(found).values()}
    assert len(known) == 1  # all labelled validation pixels, each time
    assert len([tag for tag in found.Tags()["images"] if tag.startswith("validation/")]) == 2


def test_a_classifier_writes_scalars_curve_and_pictures(tmp_path):
    walls = write_set(tmp_path / "walls", 16)
    settings = recipe.parse(TINY | {"phases": [{"epochs": 2, "learning_rate": 0.01, "batch": 4}]})
    train_classifier(settings, [walls], tmp_path / "a.pt", threads=1, val_fraction=0.4)
    found = read(tmp_path / "a.tensorboard")
    scalars = {"loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy", "seconds"}
    assert scalars == set(found.Tags()["scalars"])
    curve = curves(found)[1]
    assert curve[:4].sum(axis=0).max() == curve[:4].sum(axis=0).min() > 0  # each validation image once
    tags = found.Tags()["images"]
    assert len(tags) == 4
    kinds = {tag.split("/")[2] for tag in tags}  # validation/<set>/<class>/<image>
    assert kinds == {"crack", "sound"}
    picture = np.asarray(Image.open(io.BytesIO(found.Images(tags[0])[0].encoded_image_string)))
    assert picture.shape == (218, 192, 3)
    assert tuple(picture[1, 1]) in {(59, 110, 165), (194, 69, 45)}
    assert picture[192:].min() < 128  # words


def test_a_few_images_are_spread():
    assert shown(0) == []
    assert shown(1) == [0]
    assert shown(3) == [0, 1, 2]
    assert shown(100) == [0, 33, 66, 99]
