"""U-Net: every map of an encoder is handed to the decoder block of its size.

Ronneberger, Fischer and Brox 2015, "U-Net: convolutional networks for biomedical image segmentation", with any
encoder, as segmentation-models-pytorch builds it. With VGG16 or ResNet50 these are rows of Yang et al. 2022, Applied
Sciences 12: 8153; with ResNet101 and bilinear upsampling it is CrackNet, whose decoder is bilinear upsampling and
convolution with every scale of the encoder concatenated.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from models.labeller import Encoding
from models.segmentation.attention import Kind
from models.segmentation.encoders import channels_of, start
from models.segmentation.encoders import encoder as build_encoder


class UNet(Encoding):
    """U-Net over any encoder.

    Parameters
    ----------
    bands : int
        Input bands.
    encoder : str
        A name of segmentation-models-pytorch, or ``tu-`` and a name of timm.
    channels : int
        Channels of the finest decoder block; each coarser one has twice as many.
    upsampling : {"nearest", "bilinear"}
        How a decoder block doubles the size before its two 3x3 convolutions.
    attention : {"none", "scse"}
        Concurrent spatial and channel squeeze and excitation in each block (Roy, Navab and Wachinger 2018).
    """

    stride = 32
    reach = 64

    def __init__(
        self,
        *,
        bands: int,
        encoder: str = "resnet50",
        channels: Annotated[int, Field(ge=4)] = 16,
        upsampling: Literal["nearest", "bilinear"] = "nearest",
        attention: Kind = "none",
    ) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        self.encoder = build_encoder(encoder, bands=bands)
        self.decoder = UnetDecoder(
            encoder_channels=channels_of(self.encoder),
            decoder_channels=[channels * 2**power for power in range(4, -1, -1)],
            attention_type=None if attention == "none" else attention,
            interpolation_mode=upsampling,
        )
        # the last block takes no map of the encoder, so its first attention never runs
        self.decoder.blocks[-1].attention1 = nn.Identity()
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        start(self.decoder, self.last)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)``; sides are multiples of ``stride``."""
        return self.last(self.decoder(self.encoder(images)))
