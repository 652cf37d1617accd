"""What all models of this package are: networks that give each pixel a logit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Labeller(nn.Module):
    """Base of the registered models: ``(n, bands, h, w)`` normalised -> logits ``(n, 1, h, w)``.

    Attributes
    ----------
    stride : int
        Windows whose sides are multiples of it go through without padding.
    reach : int
        Pixels of context that a window needs on each side, a multiple of ``stride``; 0 where each pixel
        stands alone.
    global_context : bool
        Whether it pools over its whole input, so that an answer depends on the size of the window.
    """

    stride: int
    reach: int
    global_context: bool = False

    @classmethod
    def settings_of(cls, state: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Read settings that only the training decided off the tensors of a model file."""
        return {}

    def flaw(self) -> str | None:
        """Say what is wrong with values that were read from a file; None where they can be computed with."""
        return None


class Encoding(Labeller):
    """A network with an encoder that may start from pre-trained weights."""

    encoder: nn.Module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)`` of any size.

        Sides are padded below and right to multiples of ``stride`` with 0, the mean of the training, and cut again.
        """
        height, width = images.shape[-2:]
        down, right = -height % self.stride, -width % self.stride
        if not (down or right):
            return self.logits(images)
        return self.logits(functional.pad(images, (0, right, 0, down)))[..., :height, :width]

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images whose sides are multiples of ``stride``."""
        raise NotImplementedError

    def encoder_stages(self) -> list[tuple[str, nn.Module]]:
        """Parts of the encoder that hold weights, by name, from the image to its deepest map."""
        return stages_of(self.encoder)


def stages_of(encoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """Parts of an encoder that hold weights, by name, in their order; sequences are taken apart."""
    inner = getattr(encoder, "model", encoder)  # timm's networks lie inside a wrapper
    parts = list(inner.named_children())
    spread = [
        (f"{name}.{number}", stage)
        for name, part in parts
        for number, stage in (enumerate(part) if isinstance(part, nn.Sequential | nn.ModuleList) else [("", part)])
    ]
    return [(name.rstrip("."), part) for name, part in spread if any(True for _ in part.parameters())]
