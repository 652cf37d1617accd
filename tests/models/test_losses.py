"""The loss against numbers worked by hand, and its blindness to ignored pixels."""

from __future__ import annotations

import math

import pytest
import torch

from models.losses import dice, loss
from models.recipe import Loss


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_bce_and_dice_by_hand():
    logits = torch.tensor([[[[logit(0.8), logit(0.3)]]]])
    labels = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    bce = -(math.log(0.8) + math.log(0.7)) / 2
    overlap = (2 * 0.8 + 1) / (0.8 + 0.3 + 1 + 1)
    assert loss(logits, labels, Loss()).item() == pytest.approx(bce + 1 - overlap, rel=1e-5)


def test_focal_by_hand():
    logits = torch.tensor([[[[logit(0.8), logit(0.3)]]]])
    labels = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    settings = Loss(name="focal+dice", landslide_weight=2, focus=2)
    focal = -(2 * 0.2**2 * math.log(0.8) + 0.3**2 * math.log(0.7)) / 2
    overlap = (2 * 0.8 + 1) / (0.8 + 0.3 + 1 + 1)
    assert loss(logits, labels, settings).item() == pytest.approx(focal + 1 - overlap, rel=1e-5)


@pytest.mark.parametrize("name", ["bce+dice", "focal+dice"])
def test_better_maps_have_less_loss(name):
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    labels[0, 2:5, 2:5] = 1
    truth = labels[:, None].float() * 2 - 1
    values = [loss(scale * truth, labels, Loss(name=name)).item() for scale in (-3.0, 0.0, 3.0, 9.0)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < 0.01


@pytest.mark.parametrize("name", ["bce+dice", "focal+dice"])
@pytest.mark.parametrize("over", ["image", "batch"])
def test_ignored_pixels_do_not_matter(name, over):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 6, 6)
    labels = (torch.rand(2, 6, 6) > 0.6).to(torch.uint8)
    labels[:, :, 3:] = 255
    wild = logits.clone()
    wild[:, :, :, 3:] = float("nan")
    wild.requires_grad_(True)
    settings = Loss(name=name, dice=over)
    value = loss(wild, labels, settings)
    assert value.item() == pytest.approx(loss(logits, labels, settings).item())
    assert value.item() == pytest.approx(loss(logits[..., :3], labels[..., :3], settings).item())
    value.backward()
    assert torch.isfinite(wild.grad).all()
    assert (wild.grad[..., 3:] == 0).all()


def test_batch_without_labels_has_no_loss():
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 4), 255, dtype=torch.uint8), Loss())
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


def test_sum_is_over_images():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 1, 4, 4), (torch.rand(3, 4, 4) > 0.5).to(torch.uint8)
    whole = loss(logits, labels, Loss(reduction="sum")).item()
    assert whole == pytest.approx(3 * loss(logits, labels, Loss(reduction="mean")).item())
    assert whole == pytest.approx(sum(loss(logits[i : i + 1], labels[i : i + 1], Loss()).item() for i in range(3)))


def test_dice_of_an_empty_image_is_one():
    assert dice(torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)).item() == 1
