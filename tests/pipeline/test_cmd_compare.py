"""``geocrack compare``: an experiment in, tables and figures out; finished cells are not run again."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from click.testing import CliRunner

from geo.errors import ConfigError, LabelError, OutputExistsError
from models.compare import cells as cells_module
from models.evaluation import read_counts
from models.outlines import COUNTED, tolerant_scores
from pipeline.cli import geocrack

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from made_chips import write_chips

TINY = """
network: {name: linknet, encoder: tu-test_efficientnet}
weights: none
size: 64
optimizer: {name: adamw}
phases: [{epochs: 1, learning_rate: 0.01, batch: 3}]
"""
SVM = ["sample=300", "validation_sample=2000", "gamma=[0.25]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_chips(folder / "chips", ["train"] * 4 + ["val"] * 2 + ["test"] * 12)
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture
def experiment(made, tmp_path):
    """Write an experiment with some changes."""

    def write(**changes):
        settings = {
            "title": "A small comparison",
            "data": {"made": {"chips": [str(made / "chips")]}},
            "rows": [
                {
                    "name": "LinkNet",
                    "recipe": str(made / "tiny.yaml"),
                    "mark": "small",
                    "published": [
                        {"measured_on": "GF-1 2013", "scores": {"precision": 63.63, "recall": 75.91, "f1": 70.97}}
                    ],
                },
                {"name": "SVM", "recipe": "svm", "changes": SVM},
                {"name": "Left", "recipe": "linknet-resnet50", "skip": "no GPU at hand"},
            ],
            "budget": {"steps": 4, "epochs": 2, "batch": 2, "size": 64},
        }
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(settings | changes))
        return path

    return write


def run(*arguments):
    return CliRunner().invoke(geocrack, ["compare", *map(str, arguments), "--threads", "1"])


def trained(monkeypatch):
    """Names of the models that are trained from now on."""
    done = []
    real = cells_module.train

    def noted(recipe, folders, output, **how):
        done.append(recipe.network.name)
        return real(recipe, folders, output, **how)

    monkeypatch.setattr(cells_module, "train", noted)
    return done


def test_tables_figures_and_what_is_not_run_again(experiment, tmp_path, monkeypatch):
    done = trained(monkeypatch)
    path, output = experiment(), tmp_path / "results"
    result = run(path, "-o", output)
    assert result.exception is None, result.output
    assert done == ["linknet", "svm"]
    text = (output / "table.md").read_text()
    assert "Every network: 4 steps of 2 chips of 64 x 64" in text
    assert "P 63.63, R 75.91, F1 70.97 (GF-1 2013)*" in text
    assert "precision and recall give F1 0.6923, not 0.7097" in text
    assert "| Left | not run: no GPU at hand |" in text
    with open(output / "table.csv") as file:
        linknet, svm, left = csv.DictReader(file)
    assert float(svm["f1"]) > 0.9
    assert float(svm["f1_low"]) <= float(svm["f1"]) <= float(svm["f1_high"])
    assert float(svm["difference"]) == pytest.approx(float(svm["f1"]) - float(linknet["f1"]), abs=2e-6)
    with open(output / "published.csv") as file:
        f1, precision, recall = csv.DictReader(file)
    assert [row["published"] for row in (precision, recall, f1)] == ["63.63", "75.91", "70.97"]
    assert float(f1["ours"]) == pytest.approx(100 * float(linknet["f1"]), abs=1e-4)
    assert f1["contradiction"] == "precision and recall give F1 0.6923, not 0.7097"
    assert (left["f1"], left["not_run"]) == ("", "not run: no GPU at hand")
    for name in ("figure.png", "panels-made.png"):
        assert cv2.imread(str(output / name)).std() > 10
    assert not list(output.rglob("*.checkpoints"))
    record = json.loads((output / "provenance.json").read_text())
    assert record["settings"]["budget"]["steps"] == 4

    before = (output / "table.md").read_text().splitlines()[4:]
    assert run(path, "-o", output).exception is None
    assert done == ["linknet", "svm"]
    assert (output / "table.md").read_text().splitlines()[4:] == before
    result = run(path, "-o", output, "--set", "rows.0.changes=['phases.0.learning_rate=0.02']")
    assert result.exception is None, result.output
    assert done == ["linknet", "svm", "linknet"]


def test_a_killed_run_goes_on(experiment, tmp_path, monkeypatch):
    """The second training dies; the next run leaves the first alone and resumes the second."""

    class Killed(BaseException):
        pass

    real, seen = cells_module.train, []

    def dies(recipe, folders, output, **how):
        seen.append((recipe.network.name, how["seed"], how["resume"]))
        if len(seen) == 2:
            real(recipe, folders, output, **how | {"progress": lambda items, *_: _until(items, 3, Killed)})
        return real(recipe, folders, output, **how)

    monkeypatch.setattr(cells_module, "train", dies)
    path, output = experiment(seeds=[0, 1]), tmp_path / "results"
    with pytest.raises(Killed):
        CliRunner().invoke(
            geocrack, ["compare", str(path), "-o", str(output)], standalone_mode=False, catch_exceptions=False
        )
    assert "seeds 1 not run: not run yet" in (output / "table.md").read_text()
    result = run(path, "-o", output)
    assert result.exception is None, result.output
    assert seen == [
        ("linknet", 0, True),
        ("linknet", 1, True),
        ("linknet", 1, True),
        ("svm", 0, False),
        ("svm", 1, False),
    ]
    with open(output / "table.csv") as file:
        assert next(csv.DictReader(file))["seeds"] == "0 1"


def _until(items, number, error):
    for place, item in enumerate(items):
        if place == number:
            raise error
        yield item


def test_learning_curve_and_plan(experiment, tmp_path):
    rows = [{"name": "SVM", "recipe": "svm", "changes": SVM}]
    path, output = experiment(train_chips=[2, 3, "all"], rows=rows), tmp_path / "results"
    result = run(path, "-o", output, "--plan")
    assert result.output.count("to be run") == 3
    assert "SVM on made, 2 training chips, seed 0" in result.output
    assert not output.exists()
    result = run(path, "-o", output)
    assert result.exception is None, result.output
    assert cv2.imread(str(output / "curve.png")).std() > 10
    with open(output / "table.csv") as file:
        assert [row["train_chips"] for row in csv.DictReader(file)] == ["2", "3", "all"]
    assert run(path, "-o", output, "--plan").output.count("finished") == 3


def test_trained_on_one_set_and_tested_on_the_other(experiment, made, tmp_path):
    other = write_chips(tmp_path / "other", ["train"] * 20 + ["val"] * 2 + ["test"] * 12)
    rows = [{"name": "SVM", "recipe": "svm", "changes": SVM}]
    data = {2013: {"chips": [str(made / "chips")]}, 2014: {"chips": [str(other)]}}
    path, output = experiment(data=data, rows=rows, cross=True), tmp_path / "results"
    result = run(path, "-o", output)
    assert result.exception is None, result.output
    with open(output / "table.csv") as file:
        found = {(row["trained_on"], row["tested_on"]): row for row in csv.DictReader(file)}
    assert set(found) == {("2013", "2013"), ("2014", "2014"), ("2013", "2014"), ("2014", "2013")}
    assert float(found["2013", "2014"]["f1"]) > 0.9
    # chips 6 to 17 test in the one set and train in the other
    assert "show a picture that" in found["2014", "2013"]["not_run"]
    assert "## Tested on 2014, trained on 2013" in (output / "table.md").read_text()


def test_a_failed_row_is_named_wherever_it_would_have_been_tested(experiment, made, tmp_path):
    other = write_chips(tmp_path / "other", ["train"] * 4 + ["val"] * 2 + ["test"] * 2, bands=("red", "green", "nir"))
    rows = [{"name": "Four", "recipe": "svm", "changes": [*SVM, "bands=[blue]"]}]
    data = {"a": {"chips": [str(made / "chips")]}, "b": {"chips": [str(other)]}}
    result = run(experiment(data=data, rows=rows, cross=True), "-o", tmp_path / "results")
    assert result.exception is None, result.output
    with open(tmp_path / "results" / "table.csv") as file:
        found = {(row["trained_on"], row["tested_on"]): row["not_run"] for row in csv.DictReader(file)}
    assert set(found) == {("a", "a"), ("b", "b"), ("a", "b"), ("b", "a")}
    assert "asks for the bands blue" in found["b", "b"]
    assert found["b", "a"] == found["b", "b"]
    assert "## Tested on a, trained on b" in (tmp_path / "results" / "table.md").read_text()


def test_lines_have_columns_and_old_cells_are_counted_anew(experiment, made, tmp_path, monkeypatch):
    rows = [{"name": name, "recipe": "svm", "changes": [*SVM, f"c={c}"]} for name, c in (("one", 1), ("two", 2))]
    path = experiment(rows=rows, columns=["f1", "boundary_f1", "centre_line_f1", "tolerant_f1"], metric="boundary_f1")
    output = tmp_path / "results"
    assert run(path, "-o", output).exception is None
    with open(output / "table.csv") as file:
        one, two = csv.DictReader(file)
    counts = [read_counts(p) for p in output.rglob("model.images.csv")]
    expected = {round(tolerant_scores(c.tolerant.sum(axis=0))["boundary"]["f1"], 6) for c in counts}
    assert {float(one["boundary_f1"]), float(two["boundary_f1"])} == expected
    assert float(one["boundary_f1_low"]) <= float(one["boundary_f1"]) <= float(one["boundary_f1_high"])
    assert float(two["difference"]) == pytest.approx(float(two["boundary_f1"]) - float(one["boundary_f1"]), abs=2e-6)
    assert "is within 2 pixels" in (output / "table.md").read_text()
    before = (output / "table.csv").read_text()
    of_model = {p: p.read_text() for p in output.rglob("model.images.csv")}
    for old, text in of_model.items():  # as they were before lines were counted
        old.write_text("\n".join(",".join(line.split(",")[:7]) for line in text.splitlines()) + "\n")
        facts = json.loads((old.parent / "cell.json").read_text())
        assert facts.pop("counted") == COUNTED
        (old.parent / "cell.json").write_text(json.dumps(facts))
        (old.parent / "on-0123456789ab.images.csv").write_text("counted the old way")
    gone = next(
        old.with_name("model.pt")
        for old in of_model
        if json.loads((old.parent / "cell.json").read_text())["row"] == "one"
    )
    gone.rename(tmp_path / "model.pt")
    done = trained(monkeypatch)
    result = run(path, "-o", output)
    assert result.exception is None, result.output
    assert "one on made, seed 0 keeps its old counts: " in result.output
    assert "one on made, seed 0 is left out of panels-made.png: " in result.output
    assert "two on made, seed 0 is counted anew" in result.output
    line = next(line for line in (output / "table.md").read_text().splitlines() if line.startswith("| one |"))
    assert [cell.strip() for cell in line.split("|")][4:7] == ["-"] * 3

    (tmp_path / "model.pt").rename(gone)
    result = run(path, "-o", output)
    assert result.exception is None, result.output
    assert "one on made, seed 0 is counted anew" in result.output
    assert "two on made" not in result.output
    assert done == []
    assert (output / "table.csv").read_text() == before
    assert {p: p.read_text() for p in of_model} == of_model
    assert not list(output.rglob("on-*.images.csv"))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_false_alarms_on_chips_without_landslide(experiment, tmp_path):
    """A set of which nothing is learnt: its F1 is nowhere defined, its false alarms are counted."""
    write_chips(tmp_path / "chips", ["test"] * 12, change=lambda _, image, label: (1.1 * image, label * (label > 1)))
    rows = [{"name": name, "recipe": "svm", "changes": SVM} for name in ("SVM", "again")]
    settings = yaml.safe_load(experiment().read_text())
    data = settings["data"] | {"none": {"chips": [str(tmp_path / "chips")], "train": False}}
    data["gone"] = {"chips": [str(tmp_path / "nowhere")], "train": False}
    output = tmp_path / "results"
    result = run(experiment(data=data, rows=rows, seeds=[0, 1], alarm_px=5), "-o", output)
    assert result.exception is None, result.output
    with open(output / "table.csv") as file:
        found = {row["tested_on"]: row for row in csv.DictReader(file) if row["system"] == "SVM"}
    assert (found["none"]["without_landslide"], found["none"]["f1"]) == ("12", "")
    rate = float(found["none"]["false_alarms"])
    assert float(found["none"]["false_alarms_low"]) <= rate <= float(found["none"]["false_alarms_high"])
    assert "is no folder of chips" in found["gone"]["not_run"]
    text = (output / "table.md").read_text()
    assert "| F1 per image | false alarms | of pixels | difference |" in text.split("Tested on none")[1]
    assert "on which at least 5 pixels are found" in text


def test_a_row_that_cannot_be_trained_says_why_and_others_go_on(experiment, made, tmp_path):
    rows = [
        {"name": "Weights", "recipe": str(made / "tiny.yaml"), "changes": ["weights=wheel:nothing"]},
        {"name": "SVM", "recipe": "svm", "changes": SVM},
    ]
    path, output = experiment(rows=rows), tmp_path / "results"
    result = run(path, "-o", output)
    assert result.exception is None, result.output
    text = (output / "table.md").read_text()
    assert "| Weights | not run: " in text
    assert "nothing" in text
    assert "| SVM |  |" in text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU's memory is too small; give"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory is too small; give a smaller batch"),
        (MemoryError(), "memory is too small; give a smaller batch or size, or close other programs"),
    ],
)
def test_a_network_too_large_for_memory_is_passed_over(experiment, tmp_path, monkeypatch, error, reason):
    real = cells_module.train

    def train(recipe, *rest, **how):
        if recipe.network.name == "linknet":
            raise error
        return real(recipe, *rest, **how)

    monkeypatch.setattr(cells_module, "train", train)
    result = run(experiment(), "-o", tmp_path / "results")
    assert result.exception is None, result.output
    assert f"small; not run: {reason}" in (tmp_path / "results/table.md").read_text()
    assert "Traceback" not in result.output


def test_a_mistake_of_ours_costs_one_cell_and_shows_its_traceback(experiment, tmp_path, monkeypatch):
    real = cells_module.train

    def train(recipe, *rest, **how):
        if recipe.network.name == "linknet":
            raise IndexError("nobody thought of this")
        return real(recipe, *rest, **how)

    monkeypatch.setattr(cells_module, "train", train)
    result = run(experiment(), "-o", tmp_path / "results")
    assert result.exception is None, result.output
    told = "not run: an error of geocrack itself, whose traceback is in the log (IndexError: nobody thought of this)"
    assert told in (tmp_path / "results/table.md").read_text()
    assert "| SVM |  |" in (tmp_path / "results/table.md").read_text()
    assert "Traceback (most recent call last)" in result.output


def test_a_budget_of_any_size_is_run(experiment, tmp_path):
    path = experiment(budget={"steps": 2, "epochs": 1, "batch": 2, "size": 50})
    result = run(path, "-o", tmp_path / "results", "--only", "LinkNet")
    assert result.exception is None, result.output
    with open(tmp_path / "results" / "table.csv") as file:
        assert next(csv.DictReader(file))["not_run"] == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": []}, "row: unknown key; did you mean 'rows'"),
        (
            {"rows": [{"name": "A", "recipe": "linknet-lite"}]},
            "the row 'A': unknown recipe 'linknet-lite'; did you mean",
        ),
        (
            {"rows": [{"name": "A", "recipe": "svm", "changes": ["gama=[1]"]}]},
            "gama: unknown key; did you mean 'gamma'",
        ),
        ({"rows": [{"name": "A", "recipe": "svm"}] * 2}, "rows: 'A' is given twice"),
        ({"rows": [{"name": "A", "recipe": "classify-lenet5"}]}, "the row 'A': classify-lenet5 classifies whole"),
        ({"metric": "f2"}, "unknown score 'f2'"),
        ({"budget": {"steps": 5, "epochs": 2}}, "5 steps cannot be cut into 2 equal epochs"),
        (
            {"budget": {"steps": 5, "epochs": 1}, "rows": [{"name": "A", "recipe": "pspnet-resnet50"}]},
            "the row 'A': a budget of 1 epochs cannot be dealt out to the 2 phases",
        ),
        (
            {"rows": [{"name": "A", "recipe": "classify-lenet5"}], "changes": ["network.half_skip=true"]},
            "the row 'A': classify-lenet5 classifies whole images, and the data are chips",
        ),
        ({"train_chips": [0]}, "train_chips: 0 is too few"),
        ({"train_chips": ["all", "all"]}, "train_chips: 'all' is given twice"),
        (
            {"rows": [{"name": "A", "recipe": "svm", "published": [{"measured_on": "x", "scores": {"f1": 170}}]}]},
            "f1 is 170; expected per cent",
        ),
        (
            {
                "rows": [
                    {"name": "A", "recipe": "svm", "published": [{"measured_on": "x", "scores": {"parameters": 0}}]}
                ]
            },
            "parameters is 0; expected a positive number",
        ),
        (
            {"rows": [{"name": "A", "recipe": "svm", "published": [{"measured_on": "x", "scores": {"f": 17}}]}]},
            "unknown score 'f'",
        ),
        (
            {
                "rows": [
                    {
                        "name": "A",
                        "recipe": "svm",
                        "published": [{"measured_on": "x", "data": "b", "scores": {"f1": 1}}],
                    }
                ]
            },
            "unknown data set 'b'",
        ),
    ],
)
def test_mistakes_have_a_sentence(experiment, tmp_path, changes, message):
    result = run(experiment(**changes), "-o", tmp_path / "results")
    assert isinstance(result.exception, ConfigError), result.output
    assert message in str(result.exception)
    assert not (tmp_path / "results").exists()


def test_mistakes_on_the_command_line(experiment, made, tmp_path):
    path, output = experiment(), tmp_path / "results"
    for arguments, error, message in (
        (["--chips", "mad=x"], ConfigError, "unknown data set 'mad'; did you mean 'made'"),
        (["--chips", "made"], ConfigError, "expected NAME=FOLDER, for instance made=chips"),
        (["--chips", f"made={tmp_path}"], LabelError, "is no folder of chips"),
        (["--set", "data=5", "--chips", "made=x"], ConfigError, "data is 5; expected data sets by name"),
        (["--set", "data=5"], ConfigError, "data: "),
        (["--only", "Link"], ConfigError, "unknown row 'Link'; did you mean 'LinkNet'"),
        (["--set", "budget"], ConfigError, "expected key=value"),
    ):
        result = run(path, "-o", output, *arguments)
        assert isinstance(result.exception, error)
        assert message in str(result.exception)
    listed = run(path, "-o", output, "--plan", "--only", "SVM").output
    assert "SVM on made" in listed
    assert "LinkNet" not in listed
    (tmp_path / "file").write_text("precious")
    assert "is a file; expected a folder" in str(run(path, "-o", tmp_path / "file", "--plan").exception)
    output.mkdir()
    (output / "mine.txt").write_text("precious")
    assert isinstance(run(path, "-o", output).exception, OutputExistsError)
