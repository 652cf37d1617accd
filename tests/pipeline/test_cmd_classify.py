"""``geocrack classify``: what its commands write, and one sentence for each mistake."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import pytest
import yaml
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from made_pictures import TINY, write_set

from geo.errors import ConfigError, ModelError, OutputExistsError
from pipeline.cli import geocrack


def run(*arguments):
    return CliRunner().invoke(geocrack, ["classify", *map(str, arguments), "--threads", "1"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with a set, a recipe and a model."""
    folder = tmp_path_factory.mktemp("made")
    write_set(folder / "walls", 12)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    result = run("train", folder / "tiny.yaml", "--data", folder / "walls", "-o", folder / "model.pt", "--seed", 2)
    assert result.exception is None, result.output
    return folder


def test_training_writes_model_scores_and_record(made):
    assert (made / "model.pt").is_file()
    record = json.loads((made / "model.pt.provenance.json").read_text())
    assert record["settings"]["recipe"]["network"]["name"] == "timm"
    assert record["settings"]["test_fraction"] == 0.2
    assert record["results"]["test"]["walls"]["images"] == 4
    assert "intervals" in record["results"]["test"]["walls"]


def test_the_second_stage(made, tmp_path):
    small = write_set(tmp_path / "soil", 6, first=200)
    model = made / "model.pt"
    options = ["--data", made / "walls", "--data", small, "-o", tmp_path / "b.pt", "--val-fraction", "0.2"]
    result = run("train", made / "tiny.yaml", "--from", model, *options, "--seed", "2")
    assert "were learnt from by" in str(result.exception)  # the fractions are not as they were
    result = run("train", made / "tiny.yaml", "--from", model, *options[:-2], "--seed", "2")
    assert "no image of the class 'crack' is to choose" not in str(result.exception)
    assert result.exception is None, result.exception


def test_evaluation_with_pictures(made, tmp_path):
    result = run(
        "evaluate", "--model", made / "model.pt", "--data", made / "walls", "-o", tmp_path / "e.json", "--explain",
        tmp_path / "look", "--pictures", "2",
    )  # fmt: skip
    assert result.exception is None, result.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["sets"]["walls"]["left_out"] == 20
    assert found["corners"]["even"] == 0.25
    assert (tmp_path / "look" / "corners.png").is_file()
    overlays = [p for p in (tmp_path / "look").rglob("*.png") if p.name != "corners.png"]
    assert len(overlays) in (2, 3, 4)
    assert cv2.imread(str(overlays[0])).shape == (32, 68, 3)
    again = run(
        "evaluate", "--model", made / "model.pt", "--data", made / "walls", "-o", tmp_path / "e2.json", "--explain",
        tmp_path / "look",
    )  # fmt: skip
    assert isinstance(again.exception, OutputExistsError)


def test_predict_and_explain_images(made, tmp_path):
    image = next((made / "walls" / "crack").iterdir())
    result = run("predict", image, "--model", made / "model.pt", "-o", tmp_path / "heat.tif")
    assert result.exception is None, result.output
    record = json.loads((tmp_path / "heat.tif.provenance.json").read_text())
    assert {"threshold", "validation_recall", "validation_recall_interval"} <= record["results"].keys()
    result = run("predict", made / "walls", "--model", made / "model.pt", "-o", tmp_path / "t.csv")
    assert result.exception is None, result.output
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 25
    result = run("explain", image, "--model", made / "model.pt", "-o", tmp_path / "look")
    assert result.exception is None, result.output
    assert len(list((tmp_path / "look").glob("*.png"))) == 1


def test_segmenters_are_explained_too(made, tmp_path):
    import torch

    import models
    from models import model_file, recipe

    network = models.build("linknet", bands=3, encoder="tu-test_efficientnet")
    settings = {"network": {"name": "linknet", "encoder": "tu-test_efficientnet"}, "weights": "none"}
    made_by = recipe.parse({**settings, "phases": [{"epochs": 1, "learning_rate": 1}]})
    torch.manual_seed(0)
    model_file.save(
        tmp_path / "s.pt", network, made_by, bands=["red", "green", "blue"], mean=[128.0] * 3, std=[40.0] * 3,
        chip_size=64, threshold=0.5, metrics={},
    )  # fmt: skip
    images = sorted((made / "walls" / "crack").iterdir())[:2]
    result = run("explain", *images, "--model", tmp_path / "s.pt", "-o", tmp_path / "look")
    assert result.exception is None, result.output
    assert len(list((tmp_path / "look").glob("*.png"))) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["train", "classify-lite", "--data", "x", "-o", "m.pt"], ConfigError, "did you mean 'classify-lite0'"),
        (["train", "svm", "--data", "x", "-o", "m.pt"], ConfigError, "which labels pixels; train it with `geocrack"),
        (
            ["train", "classify-lite0", "--data", "x", "-o", "m.pt", "--set", "sise=3"],
            ConfigError,
            "did you mean 'size'",
        ),
        (["predict", "walls", "--model", "model.pt", "-o", "h.tif"], ModelError, r"is a folder; give a table"),
        (["predict", "walls", "--model", "model.pt", "-o", "h.csv", "--window", "64"], ModelError, "neither windows"),
    ],
)
def test_mistakes_have_a_sentence(made, monkeypatch, arguments, error, message):
    monkeypatch.chdir(made)
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert not Path("h.tif").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["-o", "h.png"], "expected the name of a heat map or a table, *.tif or *.tiff or *.csv"),
        (["-o", "h.tif/"], "is the name of a folder"),
        (["-o", "h.tif", "--screen", "s.shp"], "expected the name of the kept ground, *.gpkg or *.tif"),
        (["-o", "h.tif", "--screen", "walls"], "is the name of a folder"),
    ],
)
def test_names_tell_what_is_written(made, monkeypatch, names, message):
    monkeypatch.chdir(made)
    before = sorted(Path().iterdir())
    result = run("predict", "scene.tif", "--model", "model.pt", *names)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert sorted(Path().iterdir()) == before


def test_a_recipe_of_whole_images_is_not_one_of_pixels(tmp_path):
    result = CliRunner().invoke(geocrack, ["train", "classify-lite0", "--chips", "x", "-o", str(tmp_path / "m.pt")])
    assert isinstance(result.exception, ConfigError)
    assert "use `geocrack classify`" in str(result.exception)


@pytest.mark.realdata
def test_copies_among_real_photographs_stay_in_one_split():
    from models.classification.pictures import open_sets

    data = (
        Path(os.environ.get("GEOCRACK_REALDATA", Path(__file__).parents[2] / "../shared/data")) / "crack_classification"
    )
    if not data.is_dir():
        pytest.skip(f"{data} is not there; set GEOCRACK_REALDATA")
    sets = open_sets([data], val_fraction=0.1, test_fraction=0.2, seed=0, threads=2)
    assert len(sets.pictures) == 468
    assert sets.copies == 4
    splits = {}
    for picture in sets.pictures:
        assert splits.setdefault(picture.content, picture.split) == picture.split
