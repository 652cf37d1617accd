"""PSPNet: every encoder stage runs, dilated to output stride 8; any input size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models


@pytest.mark.parametrize("encoder", ["resnet18", "tu-tf_efficientnet_lite0"])
def test_output_stride_is_eight(encoder):
    network = models.build("pspnet", bands=4, encoder=encoder, channels=64).eval()
    with torch.inference_mode():
        maps = network.encoder(torch.randn(1, 4, 64, 96))
    assert [tuple(m.shape[2:]) for m in maps] == [(64, 96), (32, 48), (16, 24), (8, 12), (8, 12), (8, 12)]
    dilations = {m.dilation for m in network.encoder.modules() if isinstance(m, nn.Conv2d)}
    assert {(1, 1), (2, 2), (4, 4)} <= dilations


def test_every_stage_gets_a_gradient():
    network = models.build("pspnet", bands=3, encoder="resnet18", channels=64, dropout=0)
    network(torch.randn(4, 3, 64, 64)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_pyramid_pools_as_published():
    network = models.build("pspnet", bands=3, encoder="resnet18")
    pools = [m.output_size for m in network.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
    assert pools == [(1, 1), (2, 2), (3, 3), (6, 6)]


def test_sizes_that_no_power_of_two_divides():
    network = models.build("pspnet", bands=3, encoder="resnet18", channels=32).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 3, 119, 473)).shape == (1, 1, 119, 473)
