"""PSPNet: every encoder stage runs, dilated to output stride 8; any input size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from geo.errors import ModelError


@pytest.mark.parametrize("encoder", ["resnet18", "tu-tf_efficientnet_lite0"])
def test_output_stride_is_eight(encoder):
    network = models.build("pspnet", bands=4, encoder=encoder, channels=64).eval()
    with torch.inference_mode():
        maps = network.encoder(torch.randn(1, 4, 64, 96))
    assert [tuple(m.shape[2:]) for m in maps] == [(64, 96), (32, 48), (16, 24), (8, 12), (8, 12), (8, 12)]
    dilations = {m.dilation for m in network.encoder.modules() if isinstance(m, nn.Conv2d)}
    assert {(1, 1), (2, 2), (4, 4)} <= dilations


@pytest.mark.parametrize("encoder", ["resnet18", "tu-tf_efficientnet_lite0", "mobilenet_v2"])
@pytest.mark.parametrize(("depth", "stride"), [(3, 8), (4, 8), (4, 16), (5, 8), (5, 16), (5, 32)])
def test_the_stride_that_is_asked_for_is_built(encoder, depth, stride):
    settings = {"encoder": encoder, "depth": depth, "output_stride": stride, "channels": 16}
    network = models.build("pspnet", bands=3, **settings).eval()
    with torch.inference_mode():
        *_, deepest = network.encoder(torch.randn(1, 3, 128, 64))
    assert tuple(deepest.shape[2:]) == (128 // stride, 64 // stride)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"output_stride": stride}, r"output_stride: input should be 8, 16 or 32") for stride in (1, 4, 5, 7, 64)),
        ({"output_stride": 16, "depth": 3}, "output_stride: 3 stages come to 8; give that, or a greater depth"),
        ({"output_stride": 32, "depth": 4}, "output_stride: 4 stages come to 16"),
        ({"output_stride": 16, "depth": 9}, "depth: input should be less than or equal to 5"),
        ({"channels": 0}, "channels: input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, message):
    with pytest.raises(ModelError, match=f"model 'pspnet': {message}"):
        models.check("pspnet", settings)


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
