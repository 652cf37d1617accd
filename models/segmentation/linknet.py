"""LinkNet: an encoder, and a light decoder whose outputs are added to the encoder's maps of the same size.

Chaurasia and Culurciello 2017, "LinkNet: exploiting encoder representations for efficient semantic
segmentation", in the form of Li, Li and Ge 2023, National Remote Sensing Bulletin 27(8): 1866-1875, whose
table prints 3x3 transposed convolutions in the decoder blocks and 1024, 512, 256, 64 output channels over a
ResNet50. On another encoder the decoder's channels are that encoder's.
"""

from __future__ import annotations

from itertools import pairwise
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


class DecoderBlock(nn.Sequential):
    """1x1 convolution to a quarter of the channels, 3x3 transposed convolution /2, 1x1 convolution.

    Each is followed by batch normalisation and ReLU, as in LinkNet.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels of the map that comes and of the one, twice as large, that goes.
    narrowest : int
        Least channels of the middle, for encoders whose maps are narrow.
    """

    def __init__(self, channels_in: int, channels_out: int, narrowest: int = 1):
        middle = max(channels_in // 4, narrowest)
        super().__init__(
            *_normalised(nn.Conv2d(channels_in, middle, 1, bias=False)),
            *_normalised(nn.ConvTranspose2d(middle, middle, 3, stride=2, padding=1, output_padding=1, bias=False)),
            *_normalised(nn.Conv2d(middle, channels_out, 1, bias=False)),
        )


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)


class LinkNet(Encoding):
    """LinkNet over any encoder.

    Parameters
    ----------
    bands : int
        Input bands.
    encoder : str
        A name of segmentation-models-pytorch, or ``tu-`` and a name of timm.
    half_skip : bool
        Add the encoder's map of half the size to the last decoder block too. The paper's has nothing to be
        added to; light encoders, whose stem keeps full detail there, gain from it.
    narrowest : int
        Least channels in the middle of a decoder block (1: a quarter of what comes, as printed).
    pool : int
        The network looks at means of ``pool`` x ``pool`` pixels and its logits are interpolated back: a step
        costs ``pool**2`` times less and sees as much more ground, borders are as much coarser (1: as printed).
    normalised_skips : bool
        Normalise the encoder's maps before they are added. The paper's ResNets need it not; the ImageNet maps of
        encoders that end a stage without an activation (EfficientNet, MobileNetV2) are ten times larger than the
        decoder's, which else needs hundreds of steps to be heard beside them.
    attention : {"none", "scse"}
        Concurrent spatial and channel squeeze and excitation after each decoder block (Roy, Navab and Wachinger
        2018); none as printed.
    """

    def __init__(
        self,
        *,
        bands: int,
        encoder: str = "resnet50",
        half_skip: bool = False,
        narrowest: Annotated[int, Field(ge=1)] = 1,
        pool: Annotated[int, Field(ge=1)] = 1,
        normalised_skips: bool = False,
        attention: Kind = "none",
    ) -> None:
        super().__init__()
        self.pool = pool
        self.stride = 32 * pool
        #: Context on each side after which the centre's probability hardly changes any more.
        self.reach = 64 * pool
        self.encoder = build_encoder(encoder, bands=bands)
        channels = channels_of(self.encoder)[:0:-1]  # from 1/32 to 1/2 of the size
        self.decoder = nn.ModuleList(DecoderBlock(a, b, narrowest) for a, b in pairwise(channels))
        self.attention = nn.ModuleList(build_attention(attention, width) for width in channels[1:])
        self.half_skip = half_skip
        added = channels[1:] if half_skip else channels[1:-1]
        self.skips = nn.ModuleList(nn.BatchNorm2d(width) if normalised_skips else nn.Identity() for width in added)
        self.last = nn.Sequential(
            nn.ConvTranspose2d(channels[-1], 32, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 1, 3, padding=1),
        )
        start(self.decoder, self.last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)``; sides are multiples of ``stride``."""
        if self.pool > 1:
            images = functional.avg_pool2d(images, self.pool)
        _, half, *maps = self.encoder(images)
        added = [*maps[-2::-1], half][: len(self.skips)]
        decoded = maps[-1]
        for number, (block, attention) in enumerate(zip(self.decoder, self.attention, strict=True)):
            decoded = attention(block(decoded))
            if number < len(added):
                decoded = decoded + self.skips[number](added[number])
        logits = self.last(decoded)
        if self.pool > 1:
            logits = functional.interpolate(logits, scale_factor=self.pool, mode="bilinear", align_corners=False)
        return logits
