"""``geocrack compare`` of classifiers: images in folders, tested apart from where they were trained."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import pytest
import yaml
from click.testing import CliRunner

from geo.errors import ConfigError
from models.classification import classifier_file
from models.compare.cells import cells_of
from models.compare.experiment import load
from pipeline.cli import geocrack

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from made_pictures import TINY, write_set


@pytest.fixture
def made(tmp_path):
    """Write an experiment of two classifiers on walls, which are tested on rocks too."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    write_set(tmp_path / "walls", 30)
    write_set(tmp_path / "rocks", 8, first=400)
    row = {"recipe": str(tmp_path / "tiny.yaml")}
    printed = [
        {"measured_on": "walls in print", "scores": {"accuracy": 99.8, "minutes_per_epoch": 1.33}},
        {
            "measured_on": "longer",
            "data": "walls",
            "scores": {"accuracy": 99.9, "parameters": 2.8, "train_accuracy": 98},
        },
        {"measured_on": "rocks in print", "data": "rocks", "scores": {"accuracy": 63.4}},
    ]
    settings = {
        "title": "Cracks or none",
        "data": {
            "walls": {"images": [str(tmp_path / "walls")], "test_fraction": 0.4},
            "rocks": {"images": [str(tmp_path / "rocks")], "train": False},
        },
        "metric": "accuracy",
        "budget": {"steps": 6, "epochs": 2, "batch": 4},
        "rows": [
            {"name": "Tiny", **row, "published": printed},
            {"name": "Slow", **row, "changes": ["phases.0.learning_rate=0.0001"]},
            {"name": "Two stages", **row, "skip": "run elsewhere"},  # the cell of the first row, which it is not
            {"name": "Hub", **row, "changes": ["weights=wheel:nothing"]},
        ],
    }

    def write(**changes):
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(settings | changes))
        return path

    return write


def test_cells_are_of_images_as_they_lie_and_of_the_tags_they_take(made, tmp_path):
    rows = [
        {"name": name, "recipe": str(tmp_path / "tiny.yaml"), "changes": changes}
        for name, changes in (("Plain", []), ("Tags", ["network.name=multimodal", "tags={numbers: [km]}"]))
    ]

    def keys():
        return [cell.folder.name for cell in cells_of(load(made(rows=rows)), tmp_path)]

    def write_tags(km, other):
        images = sorted((tmp_path / "walls").rglob("*.png"))
        lines = [f"{image.relative_to(tmp_path / 'walls').as_posix()},{km},{other}" for image in images]
        (tmp_path / "walls" / "tags.csv").write_text("\n".join(["image,km,other", *lines]))

    plain, without = keys()  # no table of tags: the row fails when it is trained, and the other goes on
    write_tags(1, 1)
    first = keys()
    assert first[0] == plain
    assert first[1] != without
    write_tags(1, 2)
    assert keys() == first
    write_tags(2, 2)
    assert keys()[0] == plain
    assert keys()[1] != first[1]
    image = tmp_path / "walls" / "crack" / "000.png"
    cv2.imwrite(str(image), cv2.imread(str(image))[:, ::-1])
    assert keys()[0] != plain


def run(*arguments):
    return CliRunner().invoke(geocrack, ["compare", *map(str, arguments), "--threads", "1"])


def test_tables_of_classifiers(made, tmp_path):
    output = tmp_path / "results"
    result = run(made(), "-o", output)
    assert result.exception is None, result.output
    with open(output / "table.csv") as file:
        rows = list(csv.DictReader(file))
    found = {(row["system"], row["tested_on"]): row for row in rows}
    tiny, slow = found["Tiny", "walls"], found["Slow", "walls"]
    assert (tiny["images"], found["Tiny", "rocks"]["images"]) == ("24", "16")
    for row in (tiny, slow):
        low, high = float(row["accuracy_low"]), float(row["accuracy_high"])
        assert low <= float(row["accuracy"]) <= high
        assert high - low > 0.1  # of 24 images nobody knows more
    assert float(slow["difference"]) == pytest.approx(float(slow["accuracy"]) - float(tiny["accuracy"]), abs=2e-6)
    assert 0 < float(slow["p_signs"]) <= 1
    with open(output / "published.csv") as file:
        printed = list(csv.DictReader(file))
    shown = [(row["tested_on"], row["measured_on"], row["score"], row["published"]) for row in printed]
    assert sorted(shown) == sorted(
        [
            ("walls", "walls in print", "accuracy", "99.8"),
            ("walls", "walls in print", "minutes_per_epoch", "1.33"),
            ("walls", "longer", "accuracy", "99.9"),
            ("walls", "longer", "parameters", "2.8"),
            ("walls", "longer", "train_accuracy", "98"),
            ("rocks", "rocks in print", "accuracy", "63.4"),
        ]
    )
    for row in printed:
        ours, on = row["ours"], found["Tiny", row["tested_on"]]
        if row["score"] == "minutes_per_epoch":  # of another machine
            assert ours == ""
        else:
            scale = 1 if row["score"] == "parameters" else 100
            assert float(ours) == pytest.approx(scale * float(on[row["score"]]), abs=1e-4)
    assert "not run: " in found["Hub", "walls"]["not_run"]
    assert found["Two stages", "walls"]["not_run"] == "not run: run elsewhere"
    assert found["Two stages", "rocks"]["not_run"] == "not run: run elsewhere"
    text = (output / "table.md").read_text()
    assert "accuracy 99.9, 10^6 parameters 2.8, train accuracy 98 (longer)" in text
    assert "## Tested on rocks, trained on walls" in text
    assert "| system |  | accuracy | F1 | P | R | specificity | difference | p | p signs | in print | minutes |" in text
    assert "Every network: 6 steps of 4 images" in text
    assert (output / "figure.png").exists()
    again = run(made(), "-o", output, "--plan")
    assert again.output.count("finished") == 2


def test_every_seed_is_tested_on_the_same_images(made, tmp_path):
    output = tmp_path / "results"
    settings = yaml.safe_load(made().read_text())
    result = run(made(seeds=[0, 1], rows=settings["rows"][:1]), "-o", output)
    assert result.exception is None, result.output
    names = [path.read_text().splitlines() for path in output.rglob("model.images.csv")]
    assert len(names) == 2, (output / "table.md").read_text()
    first, second = ([row.split(",")[1] for row in table] for table in names)
    assert first == second


def test_a_table_tells_size_and_training_accuracy_where_a_cell_does(made, tmp_path):
    output = tmp_path / "results"
    rows = yaml.safe_load(made().read_text())["rows"][:1]
    rows[0]["published"] = [{"measured_on": "slides", "data": "walls", "scores": {"train_accuracy": 88.98}}]
    path = made(rows=rows, columns=["train_accuracy", "accuracy", "parameters", "size_mb"])
    assert run(path, "-o", output).exception is None
    (cell,) = output.rglob("cell.json")
    facts = json.loads(cell.read_text())
    module = classifier_file.load(cell.parent / "model.pt").module
    assert facts["parameters"] == sum(p.numel() for p in module.parameters()) / 1e6
    assert facts["size_mb"] == (cell.parent / "model.pt").stat().st_size / 1e6
    history = classifier_file.load(cell.parent / "model.pt").history
    best = max(history, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    assert facts["train_accuracy"] == best["accuracy"]
    text = (output / "table.md").read_text()
    assert "| system |  | train accuracy | accuracy | 10^6 parameters | file, MB | difference |" in text
    assert "train accuracy 88.98 (slides)" in text
    for name in ("parameters", "size_mb", "train_accuracy"):  # as cells were before
        facts.pop(name)
    cell.write_text(json.dumps(facts))
    assert run(path, "-o", output).exception is None
    line = next(line for line in (output / "table.md").read_text().splitlines() if line.startswith("| Tiny |"))
    shown = [part.strip() for part in line.split("|")[3:7]]
    assert [shown[0], *shown[2:]] == ["-"] * 3
    with open(output / "table.csv") as file:
        assert next(csv.DictReader(file))["parameters"] == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": ["boundary_f1"]}, "'boundary_f1' is of maps, and the data are images of classes"),
        ({"columns": ["sise_mb"]}, "unknown column 'sise_mb'; did you mean 'size_mb'"),
        ({"rows": [{"name": "A", "recipe": "svm"}]}, "the row 'A': svm labels pixels, and the data are images"),
        ({"train_chips": [3]}, "classifiers are trained on all images"),
        ({"data": {"a": {}}}, "neither chips nor images given"),
        ({"data": {"a": {"chips": ["x"], "images": ["y"]}}}, "both given; give chips for models of pixels"),
        ({"data": {"a": {"chips": ["x"]}, "b": {"images": ["y"]}}}, "some sets are of chips, others of images"),
        ({"data": {"a": {"images": ["y"], "train": False}}}, "nothing is trained on"),
        ({"seeds": [-1]}, "seeds.0: input should be greater than or equal to 0 (found -1)"),
    ],
)
def test_mistakes_have_a_sentence(made, tmp_path, changes, message):
    result = run(made(**changes), "-o", tmp_path / "results")
    assert isinstance(result.exception, ConfigError), result.output
    assert message in str(result.exception)
