"""Trainings in MLflow, which a stand-in plays: what it is told, and what happens where it does not answer."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from made_chips import write_chips
from made_pictures import TINY, write_set

from geo.errors import ConfigError, LabelError
from pipeline.cli import geocrack
from pipeline.mlflow_log import Run, flat

RECIPE = {
    "network": {"name": "linknet", "encoder": "tu-test_efficientnet"},
    "weights": "none",
    "size": 64,
    "optimizer": {"name": "adamw"},
    "phases": [{"epochs": 2, "learning_rate": 0.01, "batch": 3}],
}


class Server:
    """Plays MLflow: keeps what it is told."""

    def __init__(self):
        self.address, self.status, self.fails_at = None, None, "never"
        self.params, self.metrics, self.artifacts = {}, {}, []

    def client(self, tracking_uri):
        self.address = tracking_uri
        return self

    def get_experiment_by_name(self, name):
        if self.fails_at == "start":
            raise OSError("connection refused\nand more")

    def create_experiment(self, name):
        self.experiment = name
        return "7"

    def create_run(self, experiment, run_name):
        assert experiment == "7"
        self.name = run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    def log_param(self, run, key, value):
        assert (run, len(value) <= 500) == ("abc", True)
        assert key not in self.params  # MLflow refuses a second value
        self.params[key] = value

    def log_metric(self, run, key, value, step=None):
        if step == self.fails_at:
            raise OSError("connection lost")
        self.metrics.setdefault(key, {})[step] = value

    def log_artifact(self, run, path):
        assert Path(path).is_file()
        self.artifacts.append(Path(path).name)

    def set_terminated(self, run, status):
        self.status = status


@pytest.fixture
def server(monkeypatch):
    played = Server()
    module = ModuleType("mlflow")
    module.MlflowClient = played.client
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return played


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("made") / "chips")


@pytest.fixture
def train(tmp_path, chips):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    fixed = ["train", tmp_path / "tiny.yaml", "--chips", chips, "-o", tmp_path / "model.pt", "--threads", 1]
    return lambda *more: CliRunner().invoke(geocrack, [str(a) for a in (*fixed, *more)])


def test_a_training_tells_parameters_epochs_scores_and_files(server, train):
    result = train("--mlflow", "http://there:5000", "--seed", 4)
    assert result.exception is None, result.output
    assert (server.address, server.experiment, server.name) == ("http://there:5000", "geocrack", "model")
    assert server.params["seed"] == "4"
    assert server.params["recipe.network.name"] == "linknet"
    assert server.params["recipe.phases.0.epochs"] == "2"
    assert list(server.metrics["loss"]) == [1, 2]
    assert list(server.metrics["f1"]) == [1, 2]
    assert list(server.metrics["test/f1"]) == [None]
    assert server.artifacts == ["model.pt", "model.card.md"]
    assert server.status == "FINISHED"


def test_the_address_may_come_from_the_environment(server, train, monkeypatch, tmp_path):
    result = train("--mlflow")
    assert isinstance(result.exception, ConfigError)
    assert "MLFLOW_TRACKING_URI is not set; give --mlflow URI" in str(result.exception)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "wenchuan")
    assert train().exception is None
    assert server.address is None  # the variable alone does nothing
    assert train("--overwrite", "--mlflow").exception is None
    assert (server.address, server.experiment) == ("http://here:1", "wenchuan")


def test_without_the_package_one_sentence(train, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    result = train("--mlflow", "http://there:5000")
    assert isinstance(result.exception, ConfigError)
    assert 'install it with `pip install "geocrack[mlflow]"`, or leave out --mlflow' in str(result.exception)
    assert not (tmp_path / "model.pt").exists()


def test_a_server_that_does_not_answer_is_told_before_the_training(server, train, tmp_path):
    server.fails_at = "start"
    result = train("--mlflow", "http://there:5000")
    assert isinstance(result.exception, ConfigError)
    assert "MLflow at http://there:5000 cannot be used (connection refused); check" in str(result.exception)
    assert not (tmp_path / "model.checkpoints").exists()


def test_a_server_that_fails_later_does_not_end_the_training(server, train, tmp_path):
    server.fails_at = 2
    result = train("--mlflow", "http://there:5000")
    assert result.exception is None
    assert (tmp_path / "model.pt").is_file()
    assert result.stderr.count("does not answer (connection lost); the training goes on without it") == 1
    assert server.status is None


def test_a_training_that_fails_is_closed_as_failed(server, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    arguments = ["train", tmp_path / "tiny.yaml", "--chips", tmp_path, "-o", tmp_path / "m.pt", "--mlflow", "http://x"]
    assert isinstance(CliRunner().invoke(geocrack, list(map(str, arguments))).exception, LabelError)
    assert server.status == "FAILED"


def test_a_classifier_tells_the_same(server, tmp_path):
    walls = write_set(tmp_path / "walls (2)", 12)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    arguments = ["classify", "train", tmp_path / "tiny.yaml", "--data", walls, "-o", tmp_path / "m.pt", "--threads", 1]
    result = CliRunner().invoke(geocrack, [*map(str, arguments), "--mlflow", "http://there:5000"])
    assert result.exception is None, result.output
    assert list(server.metrics["validation_accuracy"]) == [1]
    assert list(server.metrics["test/walls _2_/accuracy"]) == [None]  # MLflow takes no brackets in names
    assert server.artifacts == ["m.pt", "m.card.md"]


def test_a_run_goes_to_other_processes():
    run = pickle.loads(pickle.dumps(Run("http://there", "abc")))
    assert (run.uri, run.run_id) == ("http://there", "abc")


def test_nested_settings_get_dots():
    nested = {"a": {"b": [{"c": 1}, {"c": 2}], "bands": ["red", "nir"], "none": None}, "seed": 0}
    assert flat(nested) == {"a.b.0.c": 1, "a.b.1.c": 2, "a.bands": ["red", "nir"], "seed": 0}
