"""LeNet5, plain or with Inception modules behind its two convolutions.

LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 2: C1 6@28x28 (5x5), S2 6@14x14,
C3 16@10x10 (5x5), S4 16@5x5, C5 120, F6 84. As everywhere today C3 sees all six maps (the paper's table I leaves some
out), averages carry no weights, tanh is not scaled, and the output is linear: 61 706 parameters for one band and ten
classes.

With ``inception`` a module of Inception v3 (Szegedy et al. 2016; figure 5 is A, figure 7 is E) follows each of the two
convolutions. The layout of work D is not printed: where the modules stand is ours. Convolutions and modules are those
of torchvision.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from geo.errors import ModelError
from models.classification.classifier import Classifier, Maps, check_tags

#: Height and width of its images.
SIDE = 32


class LeNet5(Classifier):
    """LeNet5 for images of 32 x 32.

    Parameters
    ----------
    bands, classes, size, tags : int
        See ``models.classification.build``.
    inception : {"none", "a", "e"}
        Modules behind the two convolutions.
    """

    def __init__(
        self, *, bands: int, classes: int, size: int, tags: int = 0, inception: Literal["none", "a", "e"] = "none"
    ) -> None:
        super().__init__()
        check_tags(tags, "lenet5")
        if size != SIDE:
            raise ModelError(
                f"lenet5 looks at images of {SIDE} x {SIDE}, the recipe has size: {size}; set it to {SIDE}"
            )
        self._plain = inception == "none"
        one, two = _after(6, inception), _after(16, inception)
        self.encoder = nn.Sequential(
            nn.Conv2d(bands, 6, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            one[0],
            nn.Conv2d(one[1], 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            two[0],
            nn.Flatten(),
            nn.Linear(two[1] * 25, 120),
            nn.Tanh(),
            nn.Linear(120, 84),
            nn.Tanh(),
        )
        self.head = nn.Linear(84, classes)

    def maps(self) -> Maps:
        # C3 at 10 x 10 where it is the last; behind it the modules see 5 x 5
        return Maps(self.encoder[5] if self._plain else self.encoder[7])  # type: ignore[index]


def _after(channels: int, inception: str) -> tuple[nn.Module, int]:
    """Build the module behind a convolution; say how many channels it gives."""
    if inception == "none":
        return nn.Identity(), channels
    from torchvision.models.inception import InceptionA, InceptionE

    if inception == "a":
        return InceptionA(channels, pool_features=32), 64 + 64 + 96 + 32
    return InceptionE(channels), 320 + 2 * 384 + 2 * 384 + 192
