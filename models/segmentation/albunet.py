"""AlbuNet: a ResNet34 encoder and a U-Net decoder of transposed convolutions.

Shvets, Iglovikov, Rakhlin and Kalinin 2018, "Angiodysplasia detection and localization using deep convolutional
neural networks". Blocks are a 3x3 convolution and a 4x4 transposed convolution, each followed by ReLU, without
normalisation; the deepest map is pooled once more before the way up. The stem's map is not handed over.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from models.labeller import Encoding
from models.segmentation.attention import Kind
from models.segmentation.attention import attention as build_attention
from models.segmentation.encoders import channels_of, start
from models.segmentation.encoders import encoder as build_encoder


class AlbuBlock(nn.Sequential):
    """3x3 convolution, ReLU, 4x4 transposed convolution /2, ReLU."""

    def __init__(self, channels_in: int, middle: int, channels_out: int):
        super().__init__(
            nn.Conv2d(channels_in, middle, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(middle, channels_out, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
        )


class AlbuNet(Encoding):
    """AlbuNet; the paper's is on ResNet34.

    Parameters
    ----------
    bands : int
        Input bands.
    encoder : str
        A name of segmentation-models-pytorch, or ``tu-`` and a name of timm.
    channels : int
        Channels of the finest block.
    attention : {"none", "scse"}
        Concurrent spatial and channel squeeze and excitation after each block (Roy, Navab and Wachinger 2018).
    """

    stride = 64  # the deepest map is pooled once more
    reach = 128

    def __init__(
        self,
        *,
        bands: int,
        encoder: str = "resnet34",
        channels: Annotated[int, Field(ge=4)] = 32,
        attention: Kind = "none",
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, bands=bands)
        quarter, eighth, sixteenth, deepest = channels_of(self.encoder)[2:]
        n = channels
        self.centre = AlbuBlock(deepest, 16 * n, 8 * n)
        self.decoder = nn.ModuleList(
            [
                AlbuBlock(deepest + 8 * n, 16 * n, 8 * n),
                AlbuBlock(sixteenth + 8 * n, 16 * n, 8 * n),
                AlbuBlock(eighth + 8 * n, 8 * n, 2 * n),
                AlbuBlock(quarter + 2 * n, 4 * n, 4 * n),
                AlbuBlock(4 * n, 4 * n, n),
            ]
        )
        self.attention = nn.ModuleList(build_attention(attention, wide * n) for wide in (8, 8, 2, 4, 1))
        self.last = nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(n, 1, 1))
        start(self.centre, self.decoder, self.last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)``; sides are multiples of ``stride``."""
        *_, quarter, eighth, sixteenth, deepest = self.encoder(images)
        seen = self.centre(functional.max_pool2d(deepest, 2))
        skips = (deepest, sixteenth, eighth, quarter, None)
        for block, attention, skip in zip(self.decoder, self.attention, skips, strict=True):
            seen = attention(block(seen if skip is None else torch.cat([seen, skip], dim=1)))
        return self.last(seen)
