"""What all classifiers are: an encoder that makes a vector of an image, and a head that makes logits of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from geo.errors import ModelError
from models.labeller import stages_of


class Maps(NamedTuple):
    """Where maps are found while a network runs: at a layer, behind it or before it."""

    layer: nn.Module
    before: bool = False


class Classifier(nn.Module):
    """Base of the registered classifiers: ``(n, bands, size, size)`` normalised -> logits ``(n, classes)``.

    Attributes
    ----------
    encoder : nn.Module
        From the image to a vector; the part that may start from pre-trained weights.
    head : nn.Module
        From the vector to logits.
    takes_tags : bool
        Whether it also looks at numbers that come with the image.
    """

    encoder: nn.Module
    head: nn.Module
    takes_tags: bool = False

    def forward(self, images: torch.Tensor, tags: torch.Tensor | None = None) -> torch.Tensor:
        """Logits ``(n, classes)``; ``tags`` are ``(n, tags)`` where the classifier takes them."""
        return self.head(self.encoder(images))

    @property
    def encoder_name(self) -> str:
        """Name by which pre-trained weights of the encoder are known."""
        return type(self).__name__.lower()

    def maps(self) -> Maps:
        """Where the last maps are that still know where things lie; Grad-CAM looks at them."""
        raise NotImplementedError

    def as_maps(self, output: torch.Tensor) -> torch.Tensor:
        """Give what is found there as ``(n, channels, h, w)``."""
        return output

    def encoder_stages(self) -> list[tuple[str, nn.Module]]:
        """Parts of the encoder that hold weights, by name, from the image on."""
        return stages_of(self.encoder)

    def encoder_layers(self) -> list[tuple[str, nn.Module]]:
        """Layers of the encoder that hold weights of their own (convolutions, normalisations), from the image on."""
        return [
            (name, part)
            for name, part in self.encoder.named_modules()
            if any(True for _ in part.parameters(recurse=False))
        ]


def check_tags(tags: int, what: str) -> None:
    """Raise where tags are given to a network that only looks at images."""
    if tags:
        raise ModelError(f"{what} looks at images only, the recipe gives tags; take the network multimodal, or no tags")
