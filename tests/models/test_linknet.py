"""LinkNet against the table of Li, Li and Ge 2023, and the same decoder on another encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models


def shapes(network: nn.Module, parts: dict[str, nn.Module], size: int = 64) -> dict[str, tuple[int, ...]]:
    """Output shapes (channels, height, width) of parts of a network in one pass."""
    seen: dict[str, tuple[int, ...]] = {}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, tuple(out.shape[1:])))
    with torch.inference_mode():
        network.eval()(torch.randn(1, 4, size, size))
    return seen


@pytest.fixture(scope="module")
def resnet50() -> nn.Module:
    return models.build("linknet", bands=4, encoder="resnet50")


def test_shapes_are_those_of_the_printed_table(resnet50):
    encoder, decoder, last = resnet50.encoder, resnet50.decoder, resnet50.last
    parts = {"stem": encoder.conv1, "pool": encoder.maxpool}
    parts |= {f"stage{i}": getattr(encoder, f"layer{i}") for i in (1, 2, 3, 4)}
    parts |= {f"decoder{i}": decoder[i - 1] for i in (1, 2, 3, 4)}
    parts |= {"transposed": last[0], "classifier": last[2]}
    assert shapes(resnet50, parts, 256) == {
        "stem": (64, 128, 128),
        "pool": (64, 64, 64),
        "stage1": (256, 64, 64),
        "stage2": (512, 32, 32),
        "stage3": (1024, 16, 16),
        "stage4": (2048, 8, 8),
        "decoder1": (1024, 16, 16),
        "decoder2": (512, 32, 32),
        "decoder3": (256, 64, 64),
        "decoder4": (64, 128, 128),
        "transposed": (32, 256, 256),
        "classifier": (1, 256, 256),
    }


def test_kernels_are_those_of_the_printed_table(resnet50):
    assert resnet50.encoder.conv1.kernel_size == (7, 7)
    assert resnet50.encoder.conv1.in_channels == 4
    assert [len(getattr(resnet50.encoder, f"layer{i}")) for i in (1, 2, 3, 4)] == [3, 4, 6, 3]
    for block, (into, out) in zip(resnet50.decoder, [(2048, 1024), (1024, 512), (512, 256), (256, 64)], strict=True):
        reduce, widen, restore = (m for m in block if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
        assert isinstance(widen, nn.ConvTranspose2d)
        assert [m.kernel_size for m in (reduce, widen, restore)] == [(1, 1), (3, 3), (1, 1)]
        assert widen.stride == (2, 2)
        assert [m.out_channels for m in (reduce, widen, restore)] == [into // 4, into // 4, out]
    assert isinstance(resnet50.last[0], nn.ConvTranspose2d)
    assert (resnet50.last[0].kernel_size, resnet50.last[0].stride) == ((4, 4), (2, 2))
    assert resnet50.last[2].kernel_size == (3, 3)


def test_skips_are_added(resnet50):
    """Decoder 1 to 3 get the encoder's map of their size added, decoder 4 has none to add."""
    inputs: dict[int, torch.Tensor] = {}
    outputs: dict[int, torch.Tensor] = {}
    hooks = []
    for number, block in enumerate(resnet50.decoder, 1):
        hooks.append(block.register_forward_pre_hook(lambda _, args, n=number: inputs.__setitem__(n, args[0])))
        hooks.append(block.register_forward_hook(lambda _, __, out, n=number: outputs.__setitem__(n, out)))
    hooks.append(resnet50.last.register_forward_pre_hook(lambda _, args: inputs.__setitem__(5, args[0])))
    image = torch.randn(1, 4, 64, 64)
    with torch.inference_mode():
        resnet50.eval()(image)
        maps = resnet50.encoder(image)
    for hook in hooks:
        hook.remove()
    assert torch.equal(inputs[1], maps[5])
    for number, skip in ((2, 4), (3, 3), (4, 2)):
        assert torch.allclose(inputs[number], outputs[number - 1] + maps[skip], atol=1e-5)
    assert torch.equal(inputs[5], outputs[4])


def test_decoder_takes_the_channels_of_any_encoder():
    network = models.build("linknet", bands=4, encoder="tu-tf_efficientnet_lite0", half_skip=True, narrowest=16)
    found = shapes(network, {str(i): block for i, block in enumerate(network.decoder)})
    assert list(found.values()) == [(112, 4, 4), (40, 8, 8), (24, 16, 16), (16, 32, 32)]
    assert [block[0].out_channels for block in network.decoder] == [80, 28, 16, 16]


def test_every_stage_gets_a_gradient():
    network = models.build("linknet", bands=3, encoder="resnet18", half_skip=True)
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_pool_sees_means_and_gives_logits_of_the_full_size():
    """The pooled network on an image is the plain one on the image's 2 x 2 means, interpolated back."""
    torch.manual_seed(0)
    pooled = models.build("linknet", bands=4, encoder="resnet18", pool=2).eval()
    plain = models.build("linknet", bands=4, encoder="resnet18").eval()
    plain.load_state_dict(pooled.state_dict())
    image = torch.rand(1, 4, 128, 192)
    means = image.reshape(1, 4, 64, 2, 96, 2).mean((3, 5))
    with torch.inference_mode():
        expected = torch.nn.functional.interpolate(plain(means), scale_factor=2, mode="bilinear")
        assert torch.allclose(pooled(image), expected, atol=1e-5)
    assert (pooled.stride, pooled.reach) == (64, 128)


@pytest.mark.parametrize("normalised", [True, False])
def test_normalised_skips_make_the_size_of_the_encoders_maps_irrelevant(normalised):
    """ImageNet maps of EfficientNet are ten times the decoder's: without normalisation they drown it."""
    torch.manual_seed(0)
    network = models.build(
        "linknet",
        bands=3,
        encoder="tu-tf_efficientnet_lite0",
        half_skip=True,
        narrowest=16,
        normalised_skips=normalised,
    ).train()
    encode, size = network.encoder.forward, 1.0
    network.encoder.forward = lambda images: [size * level for level in encode(images)]
    image = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        once = network(image)
        size = 10.0
        louder = network(image)
    assert torch.allclose(once, louder, atol=1e-3) == normalised
