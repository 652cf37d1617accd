"""What a training stops at: spoilt weights, answers that are no numbers, batches of one."""

from __future__ import annotations

import pytest
import torch
from made_chips import BANDS, write_chips
from made_pictures import TINY, write_set
from test_train import tiny, train
from torch import nn

from geo.errors import ModelError
from models import guards, loop, recipe
from models.classification import loop as classifying
from models.classification.train import train as train_classifier

#: A network whose decoder normalises the mean of each map: one pixel.
POOLED = {"name": "deeplabv3plus", "encoder": "tu-test_efficientnet", "channels": 16}


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("made") / "chips")


@pytest.fixture(scope="module")
def walls(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "walls")


def test_names_of_many_are_counted():
    assert guards.told(["a", "b"]) == "a, b"
    assert guards.told([str(i) for i in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_only_what_is_no_number_is_named():
    logits = torch.zeros(3, 2, 2)
    guards.check_answers(logits, "chips", ["a", "b", "c"])
    logits[1, 0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"answers are no numbers on the chips b; look .*: they must have the units"):
        guards.check_answers(logits, "chips", ["a", "b", "c"])
    state = {"good": torch.zeros(2), "counter": torch.tensor(3), "bad": torch.tensor([1.0, torch.inf])}
    assert guards.not_finite(state) == ["bad"]


def spoiling(module):
    """An optimiser whose step leaves no number, as one of a far too high learning rate does."""

    class Spoil(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.fill_(torch.nan)

    return Spoil([{"params": list(module.parameters()), "factor": 1.0}], lr=0.5)


def test_weights_spoilt_by_the_last_step_of_an_epoch_are_told(chips, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "make_optimizer", lambda module, *_: spoiling(module))
    settings = tiny(steps_per_epoch=1, schedule="constant", phases=[{"epochs": 1, "learning_rate": 0.5, "batch": 3}])
    with pytest.raises(
        ModelError, match=r"no longer numbers after epoch 1 at a learning rate of 0\.5, on the chips c00\d, c00\d"
    ):
        train(settings, [chips], tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()
    assert not (tmp_path / "model.checkpoints" / "best.pt").exists()


def test_spoilt_weights_of_a_classifier_are_told(walls, tmp_path, monkeypatch):
    monkeypatch.setattr(classifying, "make_optimizer", lambda module, *_: spoiling(module))
    settings = recipe.parse({**TINY, "steps_per_epoch": 1})
    with pytest.raises(ModelError, match=r"no longer numbers after epoch 1 at a learning rate of 0\.01, on the images"):
        train_classifier(settings, [walls], tmp_path / "model.pt", threads=1)
    assert not (tmp_path / "model.pt").exists()


def test_a_batch_of_one_that_cannot_be_normalised_is_refused_before_the_first_phase(chips, tmp_path):
    phases = [{"epochs": 1, "learning_rate": 0.01, "batch": 3}, {"epochs": 1, "learning_rate": 0.01, "batch": 1}]
    steps = []
    with pytest.raises(
        ModelError,
        match=r"phases\.1\.batch is 1, but this network normalises maps of a single pixel, for which it needs 2 images "
        r"or more at a time; set phases\.1\.batch to 2 or more, or take a larger size",
    ):
        train(
            tiny(network=POOLED, phases=phases),
            [chips],
            tmp_path / "model.pt",
            progress=lambda items, *_: steps.extend(items) or steps,
        )
    assert not steps


def earlier(tmp_path):
    """Remains of an earlier training, which a mistake must not cost."""
    last, events = tmp_path / "model.checkpoints/last.pt", tmp_path / "model.tensorboard/events.out.tfevents.1"
    for file in (last, events):
        file.parent.mkdir()
        file.write_bytes(b"precious")
    return last, events


def test_a_later_phase_that_freezes_too_much_is_told_before_the_first_phase(chips, tmp_path, caplog):
    kept, phase = earlier(tmp_path), {"epochs": 1, "learning_rate": 0.01, "batch": 3}
    with pytest.raises(ModelError, match=r"freezes 99 stages of the encoder, which has \d+ \(conv_stem"):
        train(tiny(phases=[phase, {**phase, "freeze": 99}]), [chips], tmp_path / "model.pt")
    assert [file.read_bytes() for file in kept] == [b"precious"] * 2
    assert "is replaced" not in caplog.text


@pytest.mark.parametrize("what", ["freeze", "freeze_layers"])
def test_so_it_is_of_a_classifier(walls, tmp_path, caplog, what):
    kept, phase = earlier(tmp_path), {"epochs": 1, "learning_rate": 0.01, "batch": 4}
    network = {"name": "timm", "encoder": "test_efficientnet"}
    settings = recipe.parse({**TINY, "network": network, "phases": [phase, {**phase, what: 999}]})
    with pytest.raises(ModelError, match=r"freezes 999 (stages|layers) of the encoder, which has \d+ \("):
        train_classifier(settings, [walls], tmp_path / "model.pt", threads=1)
    assert [file.read_bytes() for file in kept] == [b"precious"] * 2
    assert "is replaced" not in caplog.text


def test_a_batch_of_one_that_can_be_normalised_is_learnt_from(chips, tmp_path):
    settings = tiny(size=64, phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 1}])
    assert train(settings, [chips], tmp_path / "a.pt")["history"]


def test_shares_of_one_are_refused_where_they_are_normalised_apart():
    settings = tiny(network=POOLED, phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 2}])
    module, image = loop.start(settings, BANDS, 0), torch.zeros(1, len(BANDS), 64, 64)
    guards.check_batches(settings, module, loop._set_mode, [image])
    with pytest.raises(ModelError, match=r"batch is 2 shared by 2 processes, .* set phases\.0\.batch to 4 or more"):
        guards.check_batches(settings, module, loop._set_mode, [image], processes=2)


def test_the_look_ahead_leaves_the_network_and_chance_as_they_are():
    settings = tiny(phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 1}])
    module = loop.start(settings, BANDS, 0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    guards.check_batches(settings, module, loop._set_mode, [torch.randn(1, len(BANDS), 64, 64)])
    torch.manual_seed(3)
    torch.randn(1, len(BANDS), 64, 64)
    expected = torch.rand(1)
    torch.manual_seed(3)
    guards.check_batches(settings, module, loop._set_mode, [torch.randn(1, len(BANDS), 64, 64)])
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_another_error_of_the_look_ahead_stays_what_it_is():
    class Broken(nn.Module):
        def forward(self, _):
            raise ValueError("other")

    settings = tiny(phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 1}])
    with pytest.raises(ValueError, match="other"):
        guards.check_batches(settings, Broken(), lambda *_: None, [torch.zeros(1)])


def test_a_classifier_tells_a_batch_of_one_too(walls, tmp_path):
    settings = recipe.parse(
        {
            **TINY,
            "network": {"name": "timm", "encoder": "test_resnet"},
            "phases": [{"epochs": 1, "learning_rate": 0.01, "batch": 1}],
        }
    )
    with pytest.raises(ModelError, match=r"phases\.0\.batch is 1, but this network normalises maps of a single pixel"):
        train_classifier(settings, [walls], tmp_path / "model.pt", threads=1)
