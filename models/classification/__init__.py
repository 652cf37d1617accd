"""Classifiers: networks that say of a whole image what it shows.

A classifier is a class under a name, as the labellers of ``models`` are, in a registry of its own: it gives an image
one answer, not one a pixel. Importing this package loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import models
from geo.errors import ModelError, unknown_name

if TYPE_CHECKING:
    from models.classification.classifier import Classifier

#: What the data and the recipe give, so that nobody sets it in ``network``.
GIVEN = ("bands", "classes", "size", "tags")

_PLACES = {
    "lenet5": "models.classification.lenet:LeNet5",
    "alexnet": "models.classification.alexnet:AlexNet",
    "baseline": "models.classification.baseline:Baseline",
    "timm": "models.classification.pretrained:Timm",
    "multimodal": "models.classification.pretrained:Multimodal",
}


def names() -> list[str]:
    """Names of all classifiers."""
    return list(_PLACES)


def architecture(name: str) -> type[Classifier]:
    """Class of a classifier.

    Raises
    ------
    ModelError
        Unknown name; the message shows the known ones.
    """
    if name not in _PLACES:
        raise ModelError(unknown_name("classifier", name, names()))
    module, attribute = _PLACES[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def check(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Check settings of a classifier against its constructor and fill in the defaults.

    Raises
    ------
    ModelError
        Unknown name or setting (the nearest known one is named), or a value of another type.
    """
    return models.checked_settings(name, architecture(name), settings, given=GIVEN)


def build(name: str, *, bands: int, classes: int, size: int, tags: int = 0, **settings: Any) -> Classifier:
    """Build a classifier with random weights (seed torch before).

    Parameters
    ----------
    name : str
        Name of the classifier.
    bands, classes : int
        Of the images, and what they may show.
    size : int
        Height and width of the images in pixels.
    tags : int
        Numbers that come with each image; only ``multimodal`` takes some.
    **settings
        Of the classifier, see its class.

    Returns
    -------
    Classifier
        ``(n, bands, size, size)`` float32 -> logits ``(n, classes)``.

    Raises
    ------
    ModelError
        Unknown name, unknown or unfit setting, or a size that the network cannot take.
    """
    kind = architecture(name)
    return kind(bands=bands, classes=classes, size=size, tags=tags, **check(name, settings))
