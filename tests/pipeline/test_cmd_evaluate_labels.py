"""``geocrack evaluate --errors`` and ``--verdicts``: how much of the error lies in the labels."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from geo.errors import LabelError
from models import recipe
from models.label_errors import errors_of
from models.train import train
from pipeline.cli import geocrack

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from made_chips import write_chips

SVM = ["sample=300", "validation_sample=2000", "gamma=[0.25]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A good model, and test chips of which one was never labelled and one has a patch too many."""
    folder = tmp_path_factory.mktemp("made")

    def spoil(number, image, label):
        if number == 6:
            label = np.where(label == 1, 0, label).astype(np.uint8)
        if number == 7:
            label = label.copy()
            label[50:62, 2:14] = 1
        return image, label

    chips = write_chips(folder / "chips", ["train"] * 4 + ["val"] * 2 + ["test"] * 12, change=spoil)
    train(recipe.load("svm", SVM), [chips], folder / "model.pt", threads=1)
    return folder


def run(made, *arguments):
    given = ["evaluate", made / "model.pt", "--chips", made / "chips", *arguments, "--threads", "1"]
    return CliRunner().invoke(geocrack, [str(a) for a in given])


def test_wrong_labels_are_found_judged_and_told(made, tmp_path):
    result = run(made, "-o", tmp_path / "s.json", "--errors", tmp_path / "errors", "--worst", 4)
    assert result.exception is None, result.output
    table = tmp_path / "errors" / "errors.csv"
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    by_chip = {row["chip"]: row for row in rows if row["number"] == "1"}
    assert by_chip["c006"]["kind"] == "false alarm"
    assert by_chip["c007"]["kind"] == "miss"
    assert (int(by_chip["c007"]["left"]), int(by_chip["c007"]["top"])) == (2, 50)
    picture = cv2.imread(str(tmp_path / "errors" / "c006.png"))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert picture[:, : picture.shape[0]].std() > 10

    for row in rows:
        row["label_wrong"] = {"c006": "Yes", "c007": "unsure"}.get(row["chip"], "no")
    with open(table, "w", newline="") as file:
        written = csv.DictWriter(file, list(rows[0]))
        written.writeheader()
        written.writerows(rows)
    result = run(made, "-o", tmp_path / "t.json", "--verdicts", table)
    assert result.exception is None, result.output
    found = json.loads((tmp_path / "t.json").read_text())
    labels, pooled = found["in_the_labels"], found["pooled"]
    assert labels["as_scored"]["f1"] == pooled["f1"] < labels["if_right"]["f1"] < labels["if_unsure_too"]["f1"]
    assert labels["if_unsure_too"]["f1"] > 0.95
    wrong = sum(int(row["pixels"]) for row in rows if row["label_wrong"] == "Yes")
    assert labels["false_alarm"]["wrong"] == wrong
    judged = sum(int(row["pixels"]) for row in rows if row["kind"] == "false alarm")
    assert labels["false_alarm"]["share"] == pytest.approx(wrong / judged, abs=1e-5)
    assert labels["miss"]["unsure"] >= 100
    assert "F1 would be" in result.output


def test_tables_that_do_not_fit(made, tmp_path):
    run(made, "-o", tmp_path / "s.json", "--errors", tmp_path / "errors", "--worst", 2)
    text = (tmp_path / "errors" / "errors.csv").read_text()
    first, line, *_ = text.splitlines()

    def given(content):
        (tmp_path / "v.csv").write_text(content)
        return str(run(made, "-o", tmp_path / "t.json", "--verdicts", tmp_path / "v.csv").exception)

    assert "holds no answer; fill in the column label_wrong" in given(text)
    assert "line 2: label_wrong is 'maybe'; expected yes" in given(f"{first}\n{line[:-2]},maybe,\n")
    assert "which is not scored here" in given(f"{first}\nx{line[:-2]},yes,\n")
    cells = line.split(",")
    cells[3], cells[8] = "4000", "yes"
    assert "tells of more wrong pixels on the chip" in given(f"{first}\n{','.join(cells)}\n")
    for pixels in ("-700", "0"):
        cells[3] = pixels
        assert f"line 2: pixels is {pixels}; expected 1 or more" in given(f"{first}\n{','.join(cells)}\n")
    assert "is no table of errors" in given("a,b\n1,2\n")
    assert not (tmp_path / "t.json").exists()
    assert isinstance(run(made, "-o", tmp_path / "t.json", "--verdicts", tmp_path / "no.csv").exception, LabelError)


def test_errors_by_hand():
    found, label = np.zeros((20, 20), bool), np.zeros((20, 20), np.uint8)
    found[:5, :5] = True
    label[10:16, 10:20] = 1
    label[15, 15:] = 255
    found[0, 19] = True
    first, second = errors_of("a", found, label)
    assert (first.kind, first.pixels, first.top, first.width) == ("miss", 55, 10, 10)
    assert (second.kind, second.pixels, second.left, second.height, second.number) == ("false alarm", 25, 0, 5, 2)
