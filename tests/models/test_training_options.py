"""What a recipe may choose of the course of a training."""

import numpy as np
import pytest
import torch
from made_chips import write_chips
from test_train import Killed, dies_at, same, tiny, train, weights_of
from torch.nn import functional

import models
from geo.errors import ConfigError, ModelError
from models import loop
from models.augment import augment
from models.dataset import FittedChips, gather
from models.losses import loss
from models.optimizer import fallen
from models.recipe import Augmentation, Loss, Phase


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Six training chips, four of them without landslide."""

    def only_two(number, image, label):
        if number in (0, 1, 2, 3):
            label = np.where(label == 1, 0, label).astype(np.uint8)
        return image, label

    return write_chips(tmp_path_factory.mktemp("made") / "chips", change=only_two)


def test_cross_entropy_is_that_of_torch_over_known_pixels():
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 1, 8, 8, generator=rng), torch.randint(0, 2, (3, 8, 8), generator=rng)
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert loss(logits, labels.to(torch.uint8), Loss(name="cross-entropy")).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    labels[:, :4] = 255
    known = functional.binary_cross_entropy_with_logits(logits[:, 0, 4:], labels[:, 4:].float())
    assert loss(logits, labels.to(torch.uint8), Loss(name="cross-entropy")).item() == pytest.approx(
        known.item(), rel=1e-5
    )


def test_the_learning_rate_falls_by_steps():
    settings = tiny(schedule="step", step_epochs=2, step_factor=0.5)
    assert [fallen(settings, epoch, []) for epoch in range(5)] == [1, 1, 0.5, 0.5, 0.25]


def test_the_learning_rate_falls_on_a_plateau():
    settings = tiny(schedule="plateau", plateau_epochs=2, step_factor=0.1)
    found = [fallen(settings, 0, scores) for scores in ([], [0.5], [0.5, 0.4], [0.5, 0.4, 0.5])]
    assert found == [1, 1, 1, 0.1]
    assert fallen(settings, 0, [0.5, 0.4, 0.3, 0.6, 0.5, 0.5]) == pytest.approx(0.01)
    assert fallen(tiny(), 0, [0.5, 0.4, 0.3]) == 1


def test_a_training_follows_its_steps(chips, tmp_path):
    phases = [{"epochs": 3, "learning_rate": 0.01, "batch": 3}]
    told = train(tiny(schedule="step", step_epochs=1, phases=phases), [chips], tmp_path / "a.pt")
    assert [row["learning_rate"] for row in told["history"]] == pytest.approx([0.01, 0.001, 0.0001])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("most", [2, 4])
def test_summed_gradients_are_those_of_a_larger_batch(chips, tmp_path, reduction, most):
    """Without batch statistics, two batches of three are one of six, even where four were to be summed up."""
    data = gather(tiny(), [chips])
    assert len(data.train) == 6
    plain = {"augmentation": {}, "optimizer": {"name": "sgd", "momentum": 0.0}}
    plain["loss"] = {"name": "cross-entropy", "reduction": reduction}
    frozen = {"epochs": 1, "learning_rate": 0.1}
    results = []
    for name, batch, accumulate in (("whole", 6, 1), ("parts", 3, most)):
        settings = tiny(
            "albunet",
            schedule="constant",
            phases=[{**frozen, "batch": batch, "accumulate": accumulate, "freeze": "encoder"}],
            **plain,
        )
        train(settings, [chips], tmp_path / f"{name}.pt")
        results.append(weights_of(tmp_path / f"{name}.pt"))
    for name, value in results[0].items():
        assert torch.allclose(value, results[1][name], atol=1e-5), name


def test_stages_are_frozen_by_depth(chips, tmp_path):
    settings = tiny(phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 3, "freeze": 3}])
    before = loop.start(settings, ("blue", "green", "red", "nir"), 0)
    names = [name for name, _ in before.encoder_stages()]
    train(settings, [chips], tmp_path / "a.pt")
    after = weights_of(tmp_path / "a.pt")
    moved = {
        name
        for name in names
        for key, value in before.state_dict().items()
        if key.startswith(f"encoder.model.{name}.") and not torch.equal(value, after[key])
    }
    assert moved == set(names[3:])


def test_more_frozen_stages_than_there_are_is_told(chips, tmp_path):
    settings = tiny(phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 3, "freeze": 99}])
    with pytest.raises(ModelError, match=r"freezes 99 stages of the encoder, which has \d+ \(conv_stem"):
        train(settings, [chips], tmp_path / "a.pt")


def test_balanced_sampling_shows_as_many_chips_with_landslide_as_without(chips):
    settings = tiny(sampling="balanced")
    data = gather(settings, [chips])
    phase = Phase(epochs=1, learning_rate=1, batch=2)
    steps = loop._batches(settings, phase, data, 0, 0)
    holds = [[data.train.records[n].landslide_share > 0 for n in step] for step in steps]
    assert all(sum(step) == 1 for step in holds)
    later = [n for total in range(4) for step in loop._batches(settings, phase, data, 0, total) for n in step]
    assert set(later) == set(range(6))
    plain = loop._batches(tiny(), phase, data, 0, 0)
    assert sorted(n for step in plain for n in step) == list(range(6))


def test_zoom_changes_both_axes_alike():
    label = np.zeros((65, 65), np.uint8)
    label[22:43, 22:43] = 1
    image, valid = label[:, :, None].astype(np.float32), np.ones(label.shape, bool)
    sides = set()
    for seed in range(12):
        _, moved, _ = augment(image, label, valid, Augmentation(zoom=0.4), np.random.default_rng(seed))
        rows, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
        assert abs(len(rows) - len(columns)) <= 1
        sides.add(len(rows))
    assert min(sides) < 19
    assert max(sides) > 24


def test_mixed_precision_changes_nothing_on_a_cpu(chips, tmp_path):
    one, two = (
        tiny(precision=p, phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 3}]) for p in ("float32", "mixed")
    )
    train(one, [chips], tmp_path / "a.pt")
    train(two, [chips], tmp_path / "b.pt")
    a, b = weights_of(tmp_path / "a.pt"), weights_of(tmp_path / "b.pt")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_one_scale_of_losses_is_found_for_all_epochs(chips, tmp_path, monkeypatch):
    """In mixed precision each loss of a scale costs steps that overflow; here it doubles after each step."""
    made = []

    def scaler(*_):
        made.append(torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1))
        return made[-1]

    monkeypatch.setattr(loop, "make_scaler", scaler)
    phases = [{"epochs": epochs, "learning_rate": 0.01, "batch": 3} for epochs in (1, 2)]  # of two steps each
    train(tiny(phases=phases), [chips], tmp_path / "whole.pt")
    with pytest.raises(Killed):
        train(tiny(phases=phases), [chips], tmp_path / "broken.pt", progress=dies_at(3))
    train(tiny(phases=phases), [chips], tmp_path / "broken.pt", resume=True)
    assert [scaler.get_scale() for scaler in (made[0], made[-1])] == [4.0 * 2**6] * 2
    assert same(weights_of(tmp_path / "whole.pt"), weights_of(tmp_path / "broken.pt"))


def test_stages_of_every_encoder_hold_all_its_weights():
    for name in ("resnet18", "mobilenet_v2", "vgg16", "tu-test_efficientnet"):
        network = models.build("unet", bands=3, encoder=name)
        inside = sum(p.numel() for _, part in network.encoder_stages() for p in part.parameters())
        assert inside == sum(p.numel() for p in network.encoder.parameters()), name


def fixed(expand, **change):
    return {"augmentation": {"expand": expand, "rotation_deg": 30, "flips": ["vertical"], "noise": 0.1}, **change}


def test_expansion_makes_a_fixed_set_of_variants(chips):
    settings = tiny(**fixed(5)).augmentation
    train = gather(tiny(), [chips]).train
    wide = train.expanded(5)
    assert len(wide) == 5 * len(train) == len(wide.records)
    assert [record.id for record in wide.records[: 2 * len(train)]] == 2 * [record.id for record in train.records]
    numbers = list(range(len(wide)))
    once, _ = wide.batch(numbers, settings, seed=(3, 0, 1))
    again, _ = wide.batch(numbers[::-1], settings, seed=(3, 7, 20))  # another epoch and step, another order
    assert np.array_equal(once, again[::-1])
    assert len({image.tobytes() for image in once}) == len(wide)  # no two alike
    other, _ = wide.batch(numbers, settings, seed=(4, 0, 1))
    assert not np.array_equal(once, other)
    plain, _ = wide.batch(numbers[-1:])
    assert np.array_equal(plain, train.batch([len(train) - 1])[0])  # chips come in turn


def test_an_epoch_sees_each_variant_once(chips, tmp_path, monkeypatch):
    seen = []
    real = FittedChips.batch

    def noted(self, numbers, augmentation=None, *, seed=(0,)):
        if augmentation is not None:
            seen.append((seed[1], list(numbers)))
        return real(self, numbers, augmentation, seed=seed)

    monkeypatch.setattr(FittedChips, "batch", noted)
    settings = tiny(**fixed(4, phases=[{"epochs": 2, "learning_rate": 0.01, "batch": 3}]))
    train(settings, [chips], tmp_path / "a.pt")
    total = 4 * 6  # of 6 training chips
    orders = [[n for epoch, numbers in seen if epoch == e for n in numbers] for e in (0, 1)]
    assert [sorted(order) for order in orders] == [list(range(total))] * 2
    assert orders[0] != orders[1]
    train(settings, [chips], tmp_path / "b.pt")
    assert same(weights_of(tmp_path / "a.pt"), weights_of(tmp_path / "b.pt"))


def test_variants_need_something_to_vary():
    with pytest.raises(ConfigError, match="expand: 144 variants of a chip would be alike; name changes, such as flips"):
        tiny(augmentation={"expand": 144})
    assert "expand" not in tiny().model_dump()["augmentation"]  # earlier models and cells are known by their recipe
    assert tiny(**fixed(144)).model_dump(mode="json")["augmentation"]["expand"] == 144
