"""Training: seeds decide everything, a broken run goes on to the same weights, trouble is named."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch
from made_chips import BANDS, GROUND, write_chips
from torch import nn

import models
from geo.errors import ModelError, OutputExistsError
from models import loop, model_file, optimizer, recipe
from models.labeller import Encoding
from models.train import train as train_on


def smallest(name: str) -> dict[str, object]:
    """Settings that make an architecture small."""
    known = inspect.signature(models.architecture(name)).parameters
    wanted = {"encoder": "tu-test_efficientnet", "channels": 16}
    return {key: value for key, value in wanted.items() if key in known}


def tiny(name: str = "linknet", **change) -> recipe.Segmenter:
    settings = {
        "network": {"name": name, **smallest(name)},
        "weights": "none",
        "size": 64,
        "optimizer": {"name": "adamw", "weight_decay": 0.01},
        "schedule": "one-cycle",
        "phases": [{"epochs": 3, "learning_rate": 0.01, "batch": 3}],
        "augmentation": {"rotation_deg": 30, "flips": ["vertical"], "noise": 0.1, "colour": 0.1},
    }
    return recipe.parse(settings | change)


def weights_of(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state"]


def same(one, two) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("made") / "chips")


@pytest.mark.parametrize("name", [n for n in models.names() if issubclass(models.architecture(n), Encoding)])
def test_same_seed_same_weights(chips, tmp_path, name):
    for output, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny(name), [chips], tmp_path / f"{output}.pt", seed=seed)
    a, b, c = (weights_of(tmp_path / f"{output}.pt") for output in "abc")
    assert same(a, b)
    assert not same(a, c)


def train(settings, folders, output, **how):
    """Train on one thread, which the machine can give at any time."""
    return train_on(settings, folders, output, threads=1, **how)


class Killed(BaseException):
    """The process is gone."""


def dies_at(step: int):
    def progress(items, *_):
        for number, item in enumerate(items):
            if number == step:
                raise Killed
            yield item

    return progress


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_killed_run_goes_on_to_the_same_weights(chips, tmp_path, step):
    """Two phases, the first with a frozen encoder; steps 0-1 are epoch 1, 2-3 epoch 2, 4-5 epoch 3."""
    phases = [
        {"epochs": 2, "learning_rate": 0.01, "batch": 3, "freeze": "encoder"},
        {"epochs": 1, "learning_rate": 0.005, "batch": 3},
    ]
    settings = tiny("pspnet", phases=phases)
    whole = train(settings, [chips], tmp_path / "whole.pt")
    with pytest.raises(Killed):
        train(settings, [chips], tmp_path / "broken.pt", progress=dies_at(step))
    assert not (tmp_path / "broken.pt").exists()
    again = train(settings, [chips], tmp_path / "broken.pt", resume=True)
    assert same(weights_of(tmp_path / "whole.pt"), weights_of(tmp_path / "broken.pt"))
    assert again["threshold"] == whole["threshold"]
    strip = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert strip(again["history"]) == strip(whole["history"])


def test_resume_without_a_checkpoint_begins(chips, tmp_path):
    train(tiny(), [chips], tmp_path / "a.pt")
    train(tiny(), [chips], tmp_path / "b.pt", resume=True)
    assert same(weights_of(tmp_path / "a.pt"), weights_of(tmp_path / "b.pt"))


def test_resume_of_another_training_is_refused(chips, tmp_path):
    train(tiny(), [chips], tmp_path / "a.pt")
    (tmp_path / "a.pt").unlink()
    (tmp_path / "a.metrics.json").unlink()
    (tmp_path / "a.card.md").unlink()
    with pytest.raises(ModelError, match="was written with another seed; give the same as then"):
        train(tiny(), [chips], tmp_path / "a.pt", seed=4, resume=True)
    with pytest.raises(ModelError, match="was written with another recipe and seed"):
        train(tiny(schedule="constant"), [chips], tmp_path / "a.pt", seed=4, resume=True)
    with pytest.raises(
        ModelError, match=r"was written with other chips \(--chips and --train-chips decide them\); give"
    ):
        train(tiny(), [chips], tmp_path / "a.pt", train_chips=2, resume=True)


def test_a_foreign_checkpoint_is_refused(chips, tmp_path):
    (tmp_path / "a.checkpoints").mkdir()
    torch.save({"some": torch.zeros(1)}, tmp_path / "a.checkpoints" / "last.pt")
    with pytest.raises(ModelError, match=r"last\.pt is a file of torch with other content; expected a checkpoint"):
        train(tiny(), [chips], tmp_path / "a.pt", resume=True)


def test_a_damaged_checkpoint_is_refused(chips, tmp_path):
    train(tiny(), [chips], tmp_path / "a.pt")
    last = tmp_path / "a.checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"last\.pt is damaged \(by its checksum its part '\S+' is not what was"):
        train(tiny(), [chips], tmp_path / "a.pt", resume=True, overwrite=True)


def test_what_is_written(chips, tmp_path):
    found = train(tiny(bands=["red", "nir"]), [chips], tmp_path / "model.pt", seed=5)
    loaded = model_file.load(tmp_path / "model.pt")
    assert loaded.bands == ("red", "nir")
    assert loaded.chip_size == 64
    assert loaded.threshold == found["threshold"] == found["validation"]["threshold"] == found["test"]["threshold"]
    assert loaded.metrics["validation"] == found["validation"]
    assert loaded.trained_on["counts"] == {"train": 6, "val": 2, "test": 2}
    assert loaded.trained_on["seed"] == 5
    assert [row["epoch"] for row in loaded.history] == [1, 2, 3]
    assert json.loads((tmp_path / "model.metrics.json").read_text()) == found
    assert list((tmp_path / "model.tensorboard").glob("events.out.tfevents.*"))
    best = model_file.load(tmp_path / "model.checkpoints" / "best.pt")
    assert same(best.module.state_dict(), loaded.module.state_dict())
    best = max(loaded.history, key=lambda row: row["f1"])
    assert (best["precision"], best["threshold"]) == (found["validation"]["pooled"]["precision"], found["threshold"])


def test_an_existing_model_is_not_replaced(chips, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"model\.pt is already there"):
        train(tiny(), [chips], tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == b"precious"


def test_scores_are_those_of_the_model_at_own_size(tmp_path):
    """Chips of many sizes; the test scores are found again by mapping each fitted chip by hand."""
    folder = write_chips(tmp_path / "chips", size=[(64, 64), (90, 50), (40, 61)])
    settings = tiny(phases=[{"epochs": 6, "learning_rate": 0.01, "batch": 3}])
    found = train(settings, [folder], tmp_path / "model.pt")
    counts = found["test"]["counts"]
    from models.chips import open_chips, read_chip

    known = sum(int((read_chip(r)[1] != 255).sum()) for r in open_chips([folder]).records if r.split == "test")
    assert sum(counts.values()) == known


def test_it_learns(tmp_path):
    folder = write_chips(tmp_path / "chips", ["train"] * 12 + ["val"] * 3 + ["test"] * 3)
    settings = tiny(phases=[{"epochs": 12, "learning_rate": 0.01, "batch": 4}])
    found = train(settings, [folder], tmp_path / "model.pt")
    assert found["test"]["pooled"]["f1"] > 0.8
    losses = [row["loss"] for row in found["history"]]
    assert losses[-1] < losses[0] / 2


def test_a_loss_that_is_no_number_names_the_chips(chips, tmp_path, monkeypatch):
    real = loop.loss
    monkeypatch.setattr(loop, "loss", lambda logits, *rest: real(logits, *rest) * float("nan"))
    with pytest.raises(
        ModelError, match=r"no longer a number \(nan\) at epoch 1, step 1, on the chips c00\d, c00\d, c00\d"
    ):
        train(tiny(), [chips], tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_patience_ends_a_phase(chips, tmp_path):
    settings = tiny(patience=1, phases=[{"epochs": 30, "learning_rate": 1e-7, "batch": 3}])
    found = train(settings, [chips], tmp_path / "model.pt")
    assert len(found["history"]) < 30


def test_steps_can_be_counted(chips, tmp_path):
    seen = []
    settings = tiny(steps_per_epoch=5, phases=[{"epochs": 2, "learning_rate": 0.01, "batch": 2}])
    train(settings, [chips], tmp_path / "model.pt", progress=lambda items, *_: seen.extend(items) or seen)
    assert len(seen) == 10


def test_the_svm_trains_by_the_same_command(chips, tmp_path):
    settings = recipe.load("svm", ["sample=300", "validation_sample=2000", "gamma=[0.25]"])
    for name in "ab":
        found = train(settings, [chips], tmp_path / f"{name}.pt", seed=2)
    assert found["test"]["pooled"]["f1"] > 0.8
    assert same(weights_of(tmp_path / "a.pt"), weights_of(tmp_path / "b.pt"))
    loaded = model_file.load(tmp_path / "a.pt")
    assert loaded.kind == "pixel"
    ground = np.array([GROUND[band] for band in BANDS], dtype=np.float32)[None, :, None, None]
    assert loaded.probability(ground)[0, 0, 0] < loaded.threshold


@pytest.mark.parametrize("freeze", ["encoder", "nothing"])
def test_a_frozen_encoder_stays_as_it_is(chips, tmp_path, freeze):
    settings = tiny(phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 3, "freeze": freeze}])
    before = {k: v.clone() for k, v in loop.start(settings, BANDS, 0).encoder.state_dict().items()}
    train(settings, [chips], tmp_path / "model.pt")
    after = model_file.load(tmp_path / "model.pt").module.encoder.state_dict()
    assert same(before, after) == (freeze == "encoder")


def test_pretrained_statistics_stay_while_weights_learn(tmp_path):
    network = loop.start(tiny(), BANDS, 0)
    settings = tiny().model_copy(update={"statistics": "pretrained"})
    loop._set_mode(network, settings, settings.phases[0])
    inside = [m.training for m in network.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    outside = [m.training for m in network.decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(inside)
    assert all(outside)


def test_schedules():
    rate = optimizer.learning_rate
    assert rate("constant", 0.1, 0.7) == 0.1
    assert rate("one-cycle", 0.1, 0.25) == pytest.approx(0.1)
    assert rate("one-cycle", 0.1, 0) == pytest.approx(0.004)
    assert rate("one-cycle", 0.1, 1) == rate("cosine", 0.1, 1) == pytest.approx(1e-4)
    assert rate("cosine", 0.1, 0) == pytest.approx(0.1)


def test_groups_of_the_optimizer():
    network = loop.start(tiny(), BANDS, 0)
    settings = recipe.Optimizer(name="adamw", weight_decay=0.1, encoder_factor=0.5)
    made = optimizer.make_optimizer(network, settings, tiny().phases[0])
    groups = {(g["factor"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in made.param_groups}
    assert set(groups) == {(0.5, 0.1), (0.5, 0.0), (1.0, 0.1), (1.0, 0.0)}
    assert sum(groups.values()) == sum(p.numel() for p in network.parameters())
