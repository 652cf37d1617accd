"""The baseline CNN of work E: five layers, 2.8 million parameters, 10.5 MB.

Only these three numbers are printed. Ours is the plainest network that has them: three convolutions of 3x3 with ReLU
and 2x2 max pooling (48, 64, 128 channels), a mean over 9 x 9 places that takes images of any size, a full connection of
256 with ReLU, and the output. For three bands and two classes it has 2 757 890 parameters, 10.5 MiB of float32.
"""

from __future__ import annotations

from torch import nn

from geo.errors import ModelError
from models.classification.classifier import Classifier, Maps, check_tags

#: Three poolings leave one pixel of it.
SMALLEST = 8


class Baseline(Classifier):
    """Three convolutions and two full connections.

    Parameters
    ----------
    bands, classes, size, tags : int
        See ``models.classification.build``.
    """

    def __init__(self, *, bands: int, classes: int, size: int, tags: int = 0) -> None:
        super().__init__()
        check_tags(tags, "baseline")
        if size < SMALLEST:
            raise ModelError(f"baseline needs images of {SMALLEST} pixels or more, the recipe has size: {size}")
        layers: list[nn.Module] = []
        for before, after in ((bands, 48), (48, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.AdaptiveAvgPool2d(9), nn.Flatten(), nn.Linear(128 * 81, 256), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(256, classes)

    def maps(self) -> Maps:
        return Maps(self.encoder[7])  # type: ignore[index]  # the last convolution's ReLU, before its pooling
