"""The card of a model says what is in its file: data, scores with intervals, limits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_chips import write_chips
from made_pictures import TINY, write_set
from test_train import tiny

from geo.errors import GeocrackError, ModelError, OutputExistsError
from models import card, model_file, recipe
from models.classification.train import train as train_classifier
from models.train import train

SPLITS = ("train",) * 6 + ("val",) * 12 + ("test",) * 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small network, trained on chips of 2 m that were cut from a scene."""
    root = tmp_path_factory.mktemp("made")
    folder = write_chips(root / "valley", SPLITS)
    facts = json.loads((folder / "chips.json").read_text())
    facts |= {"resolution_m": 2.0, "tiling": {"size": 64, "block_chips": 4, "gap_m": 100.0}}
    facts |= {"sources": [{"image": "/somewhere/secret/GF1_a.tif", "name": "GF1_a", "labels": None}]}
    (folder / "chips.json").write_text(json.dumps(facts))
    found = train(tiny(), [folder], root / "model.pt", threads=1)
    return root / "model.pt", found


def test_a_segmenter_has_a_card_beside_it_that_its_file_gives_again(made):
    path, found = made
    text = path.with_name("model.card.md").read_text()
    told = card.facts(path)
    assert card.markdown(told) == text
    assert json.loads(json.dumps(told)) == told
    assert told["bands"] == ["blue", "green", "red", "nir"]
    assert told["resolution_m"] == [2.0]
    assert told["threshold"] == found["threshold"]
    (folder,) = told["data"]["folders"]
    assert (folder["name"], folder["sources"]) == ("valley", ["GF1_a"])
    assert folder["split"] == "blocks of ground of 4 x 4 chips, 100.0 m apart"
    assert [folder["counts"][split]["chips"] for split in ("train", "val", "test")] == [6, 12, 3]
    assert told["versions"]["torch"].startswith("2.")
    assert "secret" not in text  # paths are the maker's own
    for words in ("| started from | random weights |", "| pixel size | 2 m |", "## Limits", "Saturated", "(100 m2)"):
        assert words in text


def test_scores_have_intervals_where_there_are_enough_images(made):
    path, found = made
    inside = torch.load(path, weights_only=True)["metrics"]
    low, high = inside["validation"]["interval"]["pooled"]["f1"]  # 12 chips
    assert low <= inside["validation"]["pooled"]["f1"] <= high
    assert inside["test"]["interval"]["pooled"]["f1"] is None  # 3 chips
    scores = card.facts(path)["metrics"]
    (validation,), (test,) = scores["validation"], scores["test"]
    assert validation["intervals"]["f1"] == [low, high]
    assert validation["scores"]["f1"] == found["validation"]["pooled"]["f1"]
    assert (test["images"], test["intervals"]["f1"]) == (3, None)
    text = path.with_name("model.card.md").read_text()
    assert f"{validation['scores']['f1']:.3f} ({low:.3f} to {high:.3f})" in text


def test_without_test_chips_the_card_says_so(tmp_path):
    folder = write_chips(tmp_path / "chips", ["train"] * 4 + ["val"] * 2)
    settings = recipe.load("svm", ["sample=200", "validation_sample=500", "gamma=[0.25]"])
    train(settings, [folder], tmp_path / "a.pt", threads=1)
    text = (tmp_path / "a.card.md").read_text()
    assert "* Test: there was none; validation chose the weights and the threshold, so its scores flatter." in text
    assert "that of the training images is not recorded" in text


def test_a_classifier_has_one_too(tmp_path):
    walls = write_set(tmp_path / "walls", 16)
    train_classifier(recipe.parse(TINY), [walls], tmp_path / "a.pt", threads=1, test_fraction=0.5)
    told = card.facts(tmp_path / "a.pt")
    assert card.markdown(told) == (tmp_path / "a.card.md").read_text()
    assert (told["kind"], told["classes"], told["positive"]) == ("classifier", ["crack", "sound"], "crack")
    (folder,) = told["data"]["folders"]
    assert folder["name"] == "walls"
    assert sum(folder["counts"][split]["chips"] for split in ("train", "val", "test")) == 32
    (validation,), (test,) = told["metrics"]["validation"], told["metrics"]["test"]
    assert validation["set"] == test["set"] == "walls"
    assert validation["intervals"]["accuracy"] is None  # fewer than 10 images
    low, high = test["intervals"]["accuracy"]
    assert low <= test["scores"]["accuracy"] <= high


def test_an_older_file_says_what_is_not_recorded(made, tmp_path):
    content = torch.load(made[0], weights_only=True)
    for name in ("data", "software"):
        del content["trained_on"][name]
    del content["metrics"]["validation"]["interval"]
    torch.save(content, tmp_path / "old.pt")
    told = card.facts(tmp_path / "old.pt")
    assert [folder["name"] for folder in told["data"]["folders"]] == ["valley"]
    text = card.markdown(told)
    assert "| valley | not recorded | not recorded | not recorded | not recorded |" in text
    f1 = content["metrics"]["validation"]["pooled"]["f1"]
    assert told["metrics"]["validation"][0]["scores"]["f1"] == f1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {"validation": "abc"}}, r"metrics.validation: input should be a valid dictionary \(found"),
        ({"metrics": {"test": {"pooled": {"f1": "high"}}}}, r"metrics.test.pooled.f1: .* number \(found 'high'\)"),
        ({"metrics": {"test": {"interval": {"pooled": {"f1": [1]}}}}}, "metrics.test.interval.pooled.f1.1: field"),
        ({"trained_on": {"data": "x"}}, r"trained_on.data: input should be a valid list \(found 'x'\)"),
        ({"trained_on": {"data": [{"sources": [1]}]}}, "trained_on.data.0.name: field required"),
        ({"trained_on": {"software": ["torch"]}}, "trained_on.software: input should be a valid dictionary"),
        ({"threshold": float("nan")}, "threshold: input should be a finite number"),
        ({"bands": ["red", "red", "blue", "nir"]}, "bands: 'red' is given twice"),
        ({"recipe": {"network": "linknet"}}, r"odd\.pt: network: "),
        ({"version": 9}, "is a model of version 9"),
    ],
)
def test_what_loading_refuses_has_no_card(made, tmp_path, change, message):
    torch.save(torch.load(made[0], weights_only=True) | change, tmp_path / "odd.pt")
    for read in (card.facts, model_file.load):
        with pytest.raises(GeocrackError, match=message):
            read(tmp_path / "odd.pt")


def test_no_card_of_other_files(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"II*\0")
    with pytest.raises(ModelError, match=r"a\.pt is a TIFF; expected a model written by 'geocrack train' or"):
        card.facts(tmp_path / "a.pt")
    torch.save({"format": "geocrack-model", "version": 1, "kind": "segmenter", "mean": []}, tmp_path / "b.pt")
    with pytest.raises(ModelError, match=r"b\.pt lacks recipe, bands, .*metrics.*; it was not written whole: train"):
        card.facts(tmp_path / "b.pt")


def test_a_card_that_a_person_completed_is_not_replaced(tmp_path):
    folder = write_chips(tmp_path / "chips")
    (tmp_path / "a.card.md").write_text("Licence: CC BY 4.0")
    with pytest.raises(OutputExistsError, match=r"a\.card\.md is already there"):
        train(tiny(), [folder], tmp_path / "a.pt", threads=1)
