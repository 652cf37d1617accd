"""FCN-32s and FCN-8s: a classifier turned convolutional, enlarged at once or by way of two finer maps.

Long, Shelhamer and Darrell 2015, "Fully convolutional networks for semantic segmentation", on VGG16. Transposed
convolutions start as bilinear interpolation (kernel 64 and stride 32; kernel 4 and stride 2 twice, then kernel 16 and
stride 8), scores of the pooled maps of 1/8 and 1/16 of the size start at 0, and are added. The paper pads the image by
100 pixels and crops; here the 7x7 convolution is padded instead, so that maps stay in place.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from models.labeller import Encoding
from models.segmentation.encoders import channels_of, start
from models.segmentation.encoders import encoder as build_encoder


class FCN(Encoding):
    """Fully convolutional network.

    Parameters
    ----------
    bands : int
        Input bands.
    encoder : str
        A name of segmentation-models-pytorch, or ``tu-`` and a name of timm; the paper's is ``vgg16``.
    finest : {8, 32}
        8 for FCN-8s, 32 for FCN-32s.
    channels : int
        Channels of the two convolutions that stand for the classifier's full connections.
    """

    stride = 32
    reach = 128

    def __init__(
        self,
        *,
        bands: int,
        encoder: str = "vgg16",
        finest: Literal[8, 32] = 8,
        channels: Annotated[int, Field(ge=8)] = 4096,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, bands=bands)
        #: VGG's stages end before their pooling, so its maps of 1/8 and 1/16 are the pooled ones a level up.
        self.pooled = encoder.startswith("vgg")
        widths = channels_of(self.encoder)
        self.classifier = nn.Sequential(
            nn.Conv2d(widths[5], channels, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, 1, 1),
        )
        start(self.classifier)
        if finest == 32:
            self.scores = nn.ModuleList()
            self.enlarge = nn.ModuleList([_bilinear(64, 32)])
        else:
            levels = (3, 2) if self.pooled else (4, 3)
            self.scores = nn.ModuleList(nn.Conv2d(widths[level], 1, 1) for level in levels)
            self.enlarge = nn.ModuleList([_bilinear(4, 2), _bilinear(4, 2), _bilinear(16, 8)])
            for parameter in self.scores.parameters():
                nn.init.zeros_(parameter)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of ``(n, bands, h, w)``; sides are multiples of ``stride``."""
        maps = self.encoder(images)
        scored = self.classifier(maps[5])
        for number, enlarge in enumerate(self.enlarge):
            scored = enlarge(scored)
            if number < len(self.scores):
                finer = functional.max_pool2d(maps[3 - number], 2) if self.pooled else maps[4 - number]
                scored = scored + self.scores[number](finer)
        return scored


def _bilinear(kernel: int, stride: int) -> nn.ConvTranspose2d:
    """Transposed convolution of one channel that starts as bilinear interpolation."""
    layer = nn.ConvTranspose2d(1, 1, kernel, stride=stride, padding=(kernel - stride) // 2, bias=False)
    places = torch.arange(kernel, dtype=torch.float32)
    ramp = 1 - (places - (kernel - 1) / 2).abs() / stride
    with torch.no_grad():
        layer.weight.copy_((ramp[:, None] * ramp)[None, None])
    return layer
