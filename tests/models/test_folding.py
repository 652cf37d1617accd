"""Folded networks say what the networks say."""

from __future__ import annotations

import pytest
import torch
from test_train import tiny
from torch import nn

import models
from models import loop
from models.folding import lean

SEGMENTERS = [n for n in models.names() if hasattr(models.architecture(n), "encoder_stages")]


def trained(network: nn.Module) -> nn.Module:
    """Give every normalisation statistics and factors that no fresh network has."""
    rng = torch.Generator().manual_seed(1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low in (
                (part.running_mean, -0.2),
                (part.running_var, 0.6),
                (part.weight, 0.8),
                (part.bias, -0.2),
            ):
                values.data.copy_(low + 0.4 * torch.rand(values.shape, generator=rng))
    return network.eval()


def normalisations(network: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_lean_network_says_the_same(name):
    torch.manual_seed(0)
    network = trained(loop.start(tiny(name), ("red", "green", "blue"), 0))
    folded = lean(network, 3, 64)
    if normalisations(network):
        assert normalisations(folded) < normalisations(network) / 2
    images = torch.randn(2, 3, 128, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = network(images)
        assert torch.allclose(folded(images), expected, atol=1e-4 * max(1.0, float(expected.std())))


class Between(nn.Module):
    """A normalisation that takes a convolution's output after something was done to it in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(torch.relu_(self.conv(x)))


class Twice(Between):
    """A convolution whose output goes on beside the normalisation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


@pytest.mark.parametrize("kind", [Between, Twice])
def test_what_cannot_be_folded_stays(kind):
    torch.manual_seed(0)
    network = trained(kind())
    assert lean(network, 3, 1) is network


def test_a_convolution_that_is_used_twice_stays():
    conv, norms = nn.Conv2d(3, 3, 1), [nn.BatchNorm2d(3), nn.BatchNorm2d(3)]
    network = trained(nn.Sequential(conv, norms[0], conv, norms[1]))
    assert lean(network, 3, 1) is network


def test_a_network_without_convolutions_is_not_run():
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    network = Never()
    assert lean(network, 3, 1) is network
