"""What networks over a dilated encoder share: one map of large context, resized to the input."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from models.labeller import Encoding


class Dilated(Encoding):
    """Encoder whose last stages are dilated, decoder, attention and last convolution, one after the other."""

    stride = 32
    reach = 64
    global_context = True  # the decoder holds a mean over the whole map

    decoder: nn.Module
    attention: nn.Module
    last: nn.Module

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)`` of any size that the decoder takes."""
        logits = self.last(self.attention(self.decoder(self.encoder(images))))
        return functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
