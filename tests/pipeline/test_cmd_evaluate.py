"""``geocrack evaluate``: scores, intervals and pictures of a model on chips it has not seen."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from geo.errors import LabelError, ModelError, OutputExistsError
from models import copies, evaluation, recipe, scoring
from models.chips import open_chips, read_chip
from models.train import train
from pipeline.cli import geocrack

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from made_chips import write_chips

SVM = ["sample=300", "validation_sample=2000", "gamma=[0.25]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of chips with twelve to test on, and a model trained on them."""
    folder = tmp_path_factory.mktemp("made")
    chips = write_chips(folder / "chips", ["train"] * 4 + ["val"] * 2 + ["test"] * 12)
    train(recipe.load("svm", SVM), [chips], folder / "model.pt", threads=1)
    return folder


def run(*arguments):
    return CliRunner().invoke(geocrack, ["evaluate", *map(str, arguments), "--threads", "1"])


def test_scores_intervals_curves_and_pictures(made, tmp_path):
    result = run(made / "model.pt", "--chips", made / "chips", "-o", tmp_path / "scores.json", "--worst", 3)
    assert result.exception is None, result.output
    found = json.loads((tmp_path / "scores.json").read_text())
    trained = json.loads((made / "model.metrics.json").read_text())
    assert found["pooled"] == trained["test"]["pooled"]
    assert found["interval"] == trained["test"]["interval"]
    low, high = found["interval"]["pooled"]["f1"]
    assert low < found["pooled"]["f1"] < high
    assert {"boundary", "centre_line", "pixels"} == set(found["tolerant"])
    assert len(found["curve"]["threshold"]) == len(found["curve"]["f1"]) > 10
    assert found["average_precision"] > 0.8
    assert [row["share_of_error"] for row in found["worst"]] == sorted(
        (row["share_of_error"] for row in found["worst"]), reverse=True
    )
    picture = cv2.imread(str(tmp_path / "scores.panels.png"))
    assert picture.shape[1] == 1000
    assert picture.std() > 20
    record = json.loads((tmp_path / "scores.json.provenance.json").read_text())
    assert record["settings"]["split"] == "test"


def test_turning_chips_changes_nothing_for_what_sees_pixels_alone(made, tmp_path):
    for augment in ("none", "d4"):
        result = run(
            made / "model.pt", "--chips", made / "chips", "-o", tmp_path / f"{augment}.json", "--augment", augment
        )
        assert result.exception is None, result.output
    one, eight = (json.loads((tmp_path / f"{augment}.json").read_text()) for augment in ("none", "d4"))
    assert (one.pop("augment"), eight.pop("augment")) == ("none", "d4")
    assert one == eight


def test_counts_of_images_are_those_of_training(made, tmp_path):
    run(made / "model.pt", "--chips", made / "chips", "-o", tmp_path / "scores.json")
    ours, theirs = (evaluation.read_counts(p) for p in (tmp_path / "scores.counts.csv", made / "model.images.csv"))
    assert ours.ids == theirs.ids
    assert len(ours.ids) == 12
    assert (ours.counted == theirs.counted).all()
    assert (ours.tolerant == theirs.tolerant).all()
    known = [int((read_chip(r)[1] != 255).sum()) for r in open_chips([made / "chips"]).split("test")]
    assert ours.counted.sum(axis=1).tolist() == known
    assert len(evaluation.read_counts(made / "model.images.csv", "val").ids) == 2


def test_a_split_without_chips_is_told(made, tmp_path):
    other = write_chips(tmp_path / "other", ["train"] * 2 + ["val"])
    result = run(made / "model.pt", "--chips", other, "-o", tmp_path / "s.json")
    assert isinstance(result.exception, LabelError)
    assert "is of the split 'test' (there are 2 train, 1 val, 0 test); name another" in str(result.exception)
    assert not (tmp_path / "s.json").exists()


def test_pictures_that_were_trained_on_are_refused(made, tmp_path):
    """Chips 0 and 1 train the model; here they would test it."""
    other = write_chips(tmp_path / "other", ["test"] * 2)
    result = run(made / "model.pt", "--chips", other, "-o", tmp_path / "s.json")
    assert isinstance(result.exception, LabelError)
    assert "2 of 2 test chips show a picture that" in str(result.exception)
    assert run(made / "model.pt", "--chips", made / "chips", "--split", "val", "-o", tmp_path / "v.json").exit_code == 0


def test_a_model_that_does_not_know_its_pictures_says_so(made, tmp_path, monkeypatch):
    real = scoring.model_file.load
    forgetful = lambda *given, **how: replace(real(*given, **how), trained_on={})  # noqa: E731
    monkeypatch.setattr(scoring.model_file, "load", forgetful)
    result = run(made / "model.pt", "--chips", made / "chips", "-o", tmp_path / "s.json")
    assert result.exception is None, result.output
    assert "was trained before models noted their pictures" in result.output


def test_false_alarms_on_images_without_landslide(made, tmp_path):
    """Chips 20 to 23 show none; two of them hold a bright patch that looks like one."""

    def bare(number, image, label):
        if number < 20:
            return image, label
        plain = np.empty_like(image)
        plain[:] = np.nanmedian(image[:, label == 0], axis=1)[:, None, None]
        if number % 2:
            plain[:, 10:20, 30:40] = np.nanmedian(image[:, label == 1], axis=1)[:, None, None]
        plain += 2e-3 * np.random.default_rng(number).random(image.shape, np.float32)
        return plain, np.zeros_like(label)

    chips = write_chips(tmp_path / "chips", ["train"] * 20 + ["test"] * 4, change=bare)
    result = run(made / "model.pt", "--chips", chips, "-o", tmp_path / "s.json")
    assert result.exception is None, result.output
    found = json.loads((tmp_path / "s.json").read_text())
    share = pytest.approx(200 / 4 / 64**2, abs=1e-5)
    alarms = found["without_landslide"]
    assert {name: alarms[name] for name in ("images", "false_alarm", "rate", "share", "least_px")} == {
        "images": 4, "false_alarm": 2, "rate": 0.5, "share": share, "least_px": 100,
    }  # fmt: skip
    assert alarms["interval"] == pytest.approx([0.15, 0.85], abs=0.01)
    assert found["with_landslide"]["f1"] is None
    assert found["pooled"]["f1"] == 0
    assert found["pooled"]["recall"] is None


@pytest.mark.parametrize(
    ("copy", "message"),
    [
        (7, r"1 of 2 test chips show a picture that trains too.*c007 is c002.*a test on them would flatter"),
        (5, r"1 of 2 validation chips .* trains too.*c005 is c002.*weights and a threshold chosen by them would"),
    ],
)
def test_turned_copies_across_splits_are_refused_by_training(tmp_path, copy, message):
    from made_chips import chip

    def turned(number, image, label):
        if number == copy:
            image, label = chip(2)
            image, label = np.rot90(image, 1, (1, 2))[:, :, ::-1].copy(), np.rot90(label)[:, ::-1].copy()
        return image, label

    chips = write_chips(tmp_path / "chips", ["train"] * 5 + ["val"] * 2 + ["test"] * 2, change=turned)
    with pytest.raises(LabelError, match=message):
        train(recipe.load("svm", SVM), [chips], tmp_path / "model.pt")


def test_a_digest_is_of_the_picture_not_of_its_turn():
    rng = np.random.default_rng(0)
    image = rng.random((3, 20, 31)).astype(np.float32)
    image[:, :5] = np.nan
    same = {copies.digest(np.rot90(image, k, (1, 2))[:, :, ::step]) for k in range(4) for step in (1, -1)}
    assert len(same) == 1
    assert copies.digest(image + 0.001) not in same
    assert copies.digest(np.zeros((3, 8, 8), np.float32)) == ""


def test_other_bands_are_told(made, tmp_path):
    other = write_chips(tmp_path / "rgb", ["test"] * 2, bands=("red", "green", "blue"))
    result = run(made / "model.pt", "--chips", other, "-o", tmp_path / "s.json")
    assert isinstance(result.exception, ModelError)
    assert "was trained on the bands blue, green, red, nir" in str(result.exception)


def test_no_model_and_no_overwriting(made, tmp_path):
    (tmp_path / "no.pt").write_bytes(b"PK nothing")
    assert isinstance(
        run(tmp_path / "no.pt", "--chips", made / "chips", "-o", tmp_path / "s.json").exception, ModelError
    )
    (tmp_path / "s.panels.png").write_bytes(b"precious")
    result = run(made / "model.pt", "--chips", made / "chips", "-o", tmp_path / "s.json")
    assert isinstance(result.exception, OutputExistsError)


def test_a_checkpoint_of_another_architecture_is_told(made, tmp_path):
    content = torch.load(made / "model.pt", weights_only=True)
    content["state"] = {"conv.weight": torch.zeros(3, 3)}
    torch.save(content, tmp_path / "model.pt")
    result = run(tmp_path / "model.pt", "--chips", made / "chips", "-o", tmp_path / "s.json")
    assert isinstance(result.exception, ModelError)
    assert "holds weights of another architecture than its recipe's 'svm'" in str(result.exception)


def test_a_table_of_another_kind_is_told(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(LabelError, match=r"x\.csv is no table of counts by image"):
        evaluation.read_counts(tmp_path / "x.csv")


def test_chips_of_other_units_are_told(made, tmp_path):
    result = run(made / "model.pt", "--chips", made / "chips", "-o", tmp_path / "a.json")
    assert "other values" not in result.output
    others = write_chips(tmp_path / "others", ["test"] * 3, change=lambda _, image, label: (5 * image + 1, label))
    result = run(made / "model.pt", "--chips", others, "-o", tmp_path / "b.json")
    assert result.exception is None, result.output
    told = " ".join(result.output.split())
    assert "others has other values than the model was trained on, on average" in told
    assert "is one in digital numbers and the other in reflectance?" in told
