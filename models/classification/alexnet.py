"""AlexNet, in the form of one column (Krizhevsky 2014) that torchvision has: 61.1 million parameters for 1000 classes.

Krizhevsky, Sutskever and Hinton 2012 cut the network over two GPUs and normalise across channels; nobody trains that
form any more, and the literature's figures are from libraries that have this one.
"""

from __future__ import annotations

from torch import nn

from geo.errors import ModelError
from models.classification.classifier import Classifier, Maps, check_tags

#: Smaller images leave nothing to its last pooling.
SMALLEST = 63


class AlexNet(Classifier):
    """AlexNet; the pooling before its full connections takes any size from 63 on.

    Parameters
    ----------
    bands, classes, size, tags : int
        See ``models.classification.build``.
    """

    def __init__(self, *, bands: int, classes: int, size: int, tags: int = 0) -> None:
        from torchvision.models import alexnet

        super().__init__()
        check_tags(tags, "alexnet")
        if size < SMALLEST:
            raise ModelError(f"alexnet needs images of {SMALLEST} pixels or more, the recipe has size: {size}")
        network = alexnet(num_classes=classes)
        if bands != 3:
            first = network.features[0]
            network.features[0] = nn.Conv2d(bands, 64, first.kernel_size, first.stride, first.padding)
        self.head = network.classifier[6]
        network.classifier[6] = nn.Identity()
        self.encoder = network

    def encoder_stages(self) -> list[tuple[str, nn.Module]]:
        """Convolutions and full connections, one by one."""
        return self.encoder_layers()

    def maps(self) -> Maps:
        return Maps(self.encoder.features)  # type: ignore[arg-type]
