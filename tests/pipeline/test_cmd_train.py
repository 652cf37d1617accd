"""``geocrack train``: what it writes, and one sentence for each mistake."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from geo.errors import ConfigError, LabelError, ModelError, OutputExistsError
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


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("made") / "chips")


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def run(*arguments):
    return CliRunner().invoke(geocrack, ["train", *map(str, arguments), "--threads", "1"])


def test_it_writes_model_scores_and_record(tmp_path, chips, tiny):
    output = tmp_path / "out" / "model.pt"
    result = run(
        tiny, "--chips", chips, "-o", output, "--seed", 3, "--set", "phases.0.epochs=2", "--log-dir", tmp_path / "log"
    )
    assert result.exception is None, result.output
    scores = json.loads((tmp_path / "out" / "model.metrics.json").read_text())
    assert len(scores["history"]) == 2
    record = json.loads((tmp_path / "out" / "model.pt.provenance.json").read_text())
    assert record["settings"]["seed"] == 3
    assert record["settings"]["recipe"]["phases"][0]["epochs"] == 2
    assert record["results"]["test"] == scores["test"]
    assert [Path(entry["path"]).name for entry in record["inputs"]] == ["tiny.yaml", "chips"]
    assert list((tmp_path / "log").glob("events.out.tfevents.*"))


def test_several_folders(tmp_path, chips, tiny):
    other = write_chips(tmp_path / "other", ["train", "val"], change=lambda _, image, label: (1.1 * image, label))
    result = run(tiny, "--chips", chips, "--chips", other, "-o", tmp_path / "model.pt")
    assert result.exception is None, result.output


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["linknet-lite"], ConfigError, "unknown recipe 'linknet-lite'; did you mean 'linknet-lite0'"),
        (["svm", "--set", "gama=[1]"], ConfigError, "gama: unknown key; did you mean 'gamma'"),
        (["svm", "--set", "bands=[red, swir]"], ModelError, "asks for the bands red, swir"),
    ],
)
def test_mistakes_have_a_sentence(tmp_path, chips, arguments, error, message):
    result = run(*arguments, "--chips", chips, "-o", tmp_path / "model.pt")
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert not (tmp_path / "model.pt").exists()


def test_a_folder_without_chips(tmp_path):
    result = run("svm", "--chips", tmp_path, "-o", tmp_path / "model.pt")
    assert isinstance(result.exception, LabelError)
    assert "is no folder of chips" in str(result.exception)


def test_a_model_does_not_go_among_chips(chips, tiny):
    result = run(tiny, "--chips", chips, "-o", chips / "model.pt")
    assert isinstance(result.exception, OutputExistsError)
    assert "lies in the folder of chips" in str(result.exception)
    assert not list(chips.glob("model*"))


def test_an_existing_model_needs_overwrite(tmp_path, chips, tiny):
    output = tmp_path / "model.pt"
    output.write_bytes(b"precious")
    assert isinstance(run(tiny, "--chips", chips, "-o", output).exception, OutputExistsError)
    assert run(tiny, "--chips", chips, "-o", output, "--overwrite").exception is None
    assert output.stat().st_size > 1000
