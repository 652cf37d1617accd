"""PSPNet: pyramid pooling over an encoder's last map.

Zhao et al. 2017, "Pyramid scene parsing network". The decoder is that of segmentation-models-pytorch; its
own PSPNet stops at the encoder's third stage, while here every stage runs and the later ones are dilated,
so that the map keeps 1/8 of the size as published. Logits are resized to the input, so that sizes such as
473 need no padding.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field, ValidationInfo
from torch import nn

from models.segmentation.attention import Kind
from models.segmentation.attention import attention as build_attention
from models.segmentation.dilated import Dilated
from models.segmentation.encoders import channels_of, start
from models.segmentation.encoders import encoder as build_encoder


def _reached(output_stride: int, given: ValidationInfo) -> int:
    """Refuse what the stages do not come to: the network would be built finer than recipe and card say."""
    depth = given.data.get("depth", 5)  # absent where it is itself wrong
    if output_stride > 2**depth:
        raise ValueError(f"{depth} stages come to {2**depth}; give that, or a greater depth")
    return output_stride


class PSPNet(Dilated):
    """PSPNet over any encoder that can be dilated.

    Parameters
    ----------
    bands : int
        Input bands.
    encoder : str
        A name of segmentation-models-pytorch, or ``tu-`` and a name of timm.
    depth : int
        Encoder stages to use, 3 to 5.
    output_stride : {8, 16, 32}
        Size of the input over that of the pooled map, at most ``2**depth``; 8 as published.
    channels : int
        Channels after the pyramid.
    dropout : float
        Share of channels dropped in training.
    attention : {"none", "scse"}
        Concurrent spatial and channel squeeze and excitation after the pyramid (Roy, Navab and Wachinger 2018).
    """

    def __init__(
        self,
        *,
        bands: int,
        encoder: str = "resnet50",
        depth: Annotated[int, Field(ge=3, le=5)] = 5,
        output_stride: Annotated[Literal[8, 16, 32], AfterValidator(_reached)] = 8,
        channels: Annotated[int, Field(ge=1)] = 512,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        attention: Kind = "none",
    ) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder

        self.encoder = build_encoder(encoder, bands=bands, depth=depth, output_stride=output_stride)
        self.decoder = PSPDecoder(channels_of(self.encoder), out_channels=channels, dropout=dropout)
        self.attention = build_attention(attention, channels)
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        start(self.decoder, self.last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)``."""
        return self.resized(images)
