"""Several processes take the same steps as one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_chips import write_chips
from test_train import tiny, weights_of
from torch import nn

import models
from geo.errors import ConfigError, ModelError
from models import distributed, loop
from models.distributed import Team
from models.losses import loss
from models.recipe import Loss
from models.train import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Six training chips; one has no label at all, which must not shift the mean over the others."""

    def unlabelled(number, image, label):
        return image, np.full_like(label, 255) if number == 2 else label

    return write_chips(tmp_path_factory.mktemp("made") / "chips", change=unlabelled)


def plain(reduction="mean", **change):
    """Without batch statistics, Dice over batches, or chance in the network."""
    settings = {
        "schedule": "constant",
        "loss": {"name": "bce+dice", "dice": "image", "reduction": reduction},
        "optimizer": {"name": "sgd", "momentum": 0.9, "clip": 1.0},
        "phases": [
            {"epochs": 1, "learning_rate": 0.02, "batch": 3, "accumulate": 2, "freeze": "encoder"},
            {"epochs": 1, "learning_rate": 0.01, "batch": 4, "freeze": "encoder"},
        ],
    }
    return tiny("albunet", **settings, **change)


def test_two_processes_come_to_the_weights_of_one(chips, tmp_path):
    alone = train(plain(), [chips], tmp_path / "alone.pt", threads=1)
    both = train(plain(), [chips], tmp_path / "both.pt", threads=2, devices=2, device="cpu")
    one, two = weights_of(tmp_path / "alone.pt"), weights_of(tmp_path / "both.pt")
    start = loop.start(plain(), ("blue", "green", "red", "nir"), 0).state_dict()
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    assert moved > 1e-3
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert both["threshold"] == alone["threshold"]
    assert [row["loss"] for row in both["history"]] == pytest.approx(
        [row["loss"] for row in alone["history"]], abs=1e-5
    )
    assert (tmp_path / "both.images.csv").read_text() == (tmp_path / "alone.images.csv").read_text()


@pytest.mark.slow
def test_torchrun_is_joined(chips, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    settings = plain("sum").model_dump(mode="json", exclude_none=True)
    recipe.write_text(__import__("yaml").safe_dump(settings))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29531"]
    command += ["-m", "pipeline.cli", "train", str(recipe), "--chips", str(chips), "-o", str(tmp_path / "both.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stderr.count("trained in") == 1
    train(plain("sum"), [chips], tmp_path / "alone.pt", threads=1, device="cpu")
    one, two = weights_of(tmp_path / "alone.pt"), weights_of(tmp_path / "both.pt")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def test_an_error_of_one_process_is_told_and_ends_all(chips, tmp_path):
    settings = plain().model_copy(update={"phases": [p.model_copy(update={"freeze": 99}) for p in plain().phases]})
    with pytest.raises(ModelError, match="freezes 99 stages of the encoder"):
        train(settings, [chips], tmp_path / "model.pt", devices=2, device="cpu")
    assert not (tmp_path / "model.pt").exists()


def test_more_processes_than_chips_of_a_batch_are_told(chips, tmp_path):
    with pytest.raises(ConfigError, match="a batch of 3 cannot be shared out to 4 processes; give fewer --devices"):
        train(plain(), [chips], tmp_path / "model.pt", devices=4, device="cpu")


def test_more_devices_than_gpus_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="--devices 2: this machine has 1 GPU; give at most 1"):
        distributed.check_devices(2, None)
    distributed.check_devices(2, "cpu")


def test_shares_are_the_batch():
    numbers = [5, 3, 8, 1, 2]
    shares = [Team(rank, 3).share(numbers) for rank in range(3)]
    assert sorted(n for share in shares for n in share) == sorted(numbers)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighed_losses_of_uneven_shares_have_the_mean_of_the_whole(monkeypatch, reduction):
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, 1, 8, 8, generator=rng), torch.randint(0, 2, (5, 8, 8), generator=rng)
    labels = labels.to(torch.uint8)
    labels[1], labels[3] = 255, 255
    settings = Loss(reduction=reduction)
    whole = loss(logits, labels, settings)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.fill_(3))  # labelled images in all
    parts = []
    for rank in range(2):
        mine = Team(rank, 2).share(range(5))
        parts.append(Team(rank, 2).weigh(loss(logits[mine], labels[mine], settings), labels[mine], settings))
    assert float(sum(parts) / 2) == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("name", [n for n in models.names() if hasattr(models.architecture(n), "encoder_stages")])
def test_every_weight_gets_a_gradient(name):
    """Else processes would wait for each other's gradients forever."""
    torch.manual_seed(0)
    network = loop.start(tiny(name), ("red", "green", "blue"), 0).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []


def test_shared_statistics_keep_weights_and_activations():
    network = loop.start(tiny(), ("red", "green", "blue"), 0).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = network(images)
    names = set(network.state_dict())
    shared = distributed.with_shared_statistics(network)
    assert not any(type(part) is nn.BatchNorm2d for part in shared.modules())
    assert any(isinstance(part, nn.SyncBatchNorm) for part in shared.modules())
    assert set(shared.state_dict()) == names
    assert torch.allclose(shared.eval()(images), expected, atol=1e-6)
