"""Encoders: what turns an image into feature maps of 1/2, 1/4, ... of its size."""

from __future__ import annotations

import difflib
import warnings

from torch import nn

from geo.errors import ModelError, out_of_memory


def encoder(name: str, *, bands: int, depth: int = 5, output_stride: int = 32) -> nn.Module:
    """Build an encoder of segmentation-models-pytorch or timm with random weights.

    Parameters
    ----------
    name : str
        A name of segmentation-models-pytorch (``resnet50``), or ``tu-`` and a name of timm
        (``tu-tf_efficientnet_lite0``); no other, since a model file from anywhere may name it.
    bands : int
        Input bands.
    depth : int
        Stages to use; each halves the size until ``output_stride`` is reached.
    output_stride : int
        8, 16 or 32; later stages are dilated instead of strided.

    Returns
    -------
    nn.Module
        Called with ``(n, bands, h, w)`` it gives ``depth + 1`` maps, the first of them its input; their
        channels are its ``out_channels``.

    Raises
    ------
    ModelError
        Unknown encoder; the nearest known names are given.
    """
    from segmentation_models_pytorch.encoders import get_encoder

    known = names()
    if name not in known:  # timm would look for hf_hub:user/repo on the hub, for local-dir: on this disk
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "expected for instance resnet50"
        raise ModelError(
            f"unknown encoder '{name}'; {hint} (names of segmentation-models-pytorch, or tu- and a name of timm)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return get_encoder(name, in_channels=bands, depth=depth, weights=None, output_stride=output_stride)
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"encoder '{name}' cannot be built with depth {depth} and output stride {output_stride} ({reason})"
        ) from None


def names() -> list[str]:
    """Names that segmentation-models-pytorch and timm list, timm's also with the tag of their weights."""
    import timm
    from segmentation_models_pytorch.encoders import encoders

    return [*encoders, *(f"tu-{name}" for name in (*timm.list_models(), *timm.list_models(pretrained=True)))]


def start(*parts: nn.Module) -> None:
    """Give the convolutions of decoders their first random weights (He et al. 2015), and no bias."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def channels_of(built: nn.Module) -> list[int]:
    """Channels of an encoder's maps, from its input to its deepest."""
    return [int(channels) for channels in built.out_channels]  # type: ignore[union-attr]
