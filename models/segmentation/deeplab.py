"""DeepLabV3+: atrous convolutions at several rates over a dilated encoder, refined by one finer map.

Chen et al. 2018, "Encoder-decoder with atrous separable convolution for semantic image segmentation", with the
decoder of segmentation-models-pytorch. The paper's Xception is ``tu-xception65`` here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from models.segmentation.attention import Kind
from models.segmentation.attention import attention as build_attention
from models.segmentation.dilated import Dilated
from models.segmentation.encoders import channels_of, start
from models.segmentation.encoders import encoder as build_encoder

#: Rates of the atrous convolutions at an output stride of 16; twice as large at 8, as published.
_RATES = (6, 12, 18)


class DeepLabV3Plus(Dilated):
    """DeepLabV3+ over any encoder that can be dilated.

    Parameters
    ----------
    bands : int
        Input bands.
    encoder : str
        A name of segmentation-models-pytorch, or ``tu-`` and a name of timm.
    output_stride : {8, 16}
        Size of the input over that of the deepest map.
    channels : int
        Channels of the decoder.
    attention : {"none", "scse"}
        Concurrent spatial and channel squeeze and excitation after the decoder (Roy, Navab and Wachinger 2018).
    """

    def __init__(
        self,
        *,
        bands: int,
        encoder: str = "tu-xception65",
        output_stride: Literal[8, 16] = 16,
        channels: Annotated[int, Field(ge=8)] = 256,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        attention: Kind = "none",
    ) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        self.encoder = build_encoder(encoder, bands=bands, output_stride=output_stride)
        self.decoder = DeepLabV3PlusDecoder(
            encoder_channels=channels_of(self.encoder),
            encoder_depth=5,
            out_channels=channels,
            atrous_rates=[rate * 16 // output_stride for rate in _RATES],
            output_stride=output_stride,
            aspp_separable=True,
            aspp_dropout=dropout,
        )
        self.attention = build_attention(attention, channels)
        self.last = nn.Conv2d(channels, 1, 1)
        start(self.decoder, self.last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)``; sides are multiples of ``stride``."""
        return self.resized(images)
