"""ResU-Net: a U-Net of residual units on both sides, without a pre-trained encoder.

The improved U-Net of Liu et al. 2020, Remote Sensing 12(5): 894, in the form of Zhang, Liu and Wang 2018, "Road
extraction by deep residual U-Net": units of two 3x3 convolutions, each after batch normalisation and ReLU, with an
identity mapping; three units go down by strided convolution, one is the bridge, three go up and take the map of their
size. Its own inputs were colours, slope, aspect and a surface model: give these as bands.
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
from models.segmentation.encoders import start


class ResidualUnit(nn.Module):
    """Normalise, ReLU, 3x3 convolution, twice; what comes is added to what goes.

    Parameters
    ----------
    channels_in, channels_out : int
    stride : int
        Of the first convolution and of the 1x1 convolution on the way past.
    first : bool
        Begin with the convolution: the image itself is neither normalised nor cut at 0.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, *, first: bool = False):
        super().__init__()
        before = [] if first else [nn.BatchNorm2d(channels_in), nn.ReLU()]
        self.unit = nn.Sequential(
            *before,
            nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        self.past = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride=stride), nn.BatchNorm2d(channels_out))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Give maps of ``channels_out``, smaller by ``stride``."""
        return self.unit(maps) + self.past(maps)


class ResUNet(Encoding):
    """ResU-Net; its encoder starts from random weights (``weights: none``).

    Parameters
    ----------
    bands : int
        Input bands.
    channels : int
        Of the finest unit; each coarser one has twice as many.
    attention : {"none", "scse"}
        Concurrent spatial and channel squeeze and excitation after each unit of the way up (Roy, Navab and Wachinger
        2018).
    """

    stride = 8
    reach = 96

    def __init__(self, *, bands: int, channels: Annotated[int, Field(ge=4)] = 64, attention: Kind = "none") -> None:
        super().__init__()
        wide = [channels * 2**power for power in range(4)]
        self.encoder = nn.ModuleList(
            ResidualUnit(a, b, stride=1 if first else 2, first=first)
            for a, b, first in zip([bands, *wide[:-1]], wide, [True, False, False, False], strict=True)
        )
        self.decoder = nn.ModuleList(ResidualUnit(wide[k + 1] + wide[k], wide[k]) for k in (2, 1, 0))
        self.attention = nn.ModuleList(build_attention(attention, wide[k]) for k in (2, 1, 0))
        self.last = nn.Conv2d(channels, 1, 1)
        start(self.encoder, self.decoder, self.last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)``; sides are multiples of ``stride``."""
        maps = []
        seen = images
        for unit in self.encoder.children():
            seen = unit(seen)
            maps.append(seen)
        for unit, attention, skip in zip(self.decoder, self.attention, maps[-2::-1], strict=True):
            larger = functional.interpolate(seen, scale_factor=2, mode="bilinear", align_corners=False)
            seen = attention(unit(torch.cat([larger, skip], dim=1)))
        return self.last(seen)
