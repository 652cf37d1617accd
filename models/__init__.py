"""Tensors and windows: networks, baselines, training and prediction.

An architecture is a class under a name. Its constructor's keyword arguments, with their types and defaults,
are its settings; a network takes ``(n, bands, h, w)`` normalised values and gives ``(n, 1, h, w)`` logits.
Importing this package loads no torch: the class is imported when it is built.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from geo.errors import ModelError, unknown_name

if TYPE_CHECKING:
    from models.labeller import Labeller

_PLACES: dict[str, str] = {}


def register(name: str, place: str) -> None:
    """Put a class under a name.

    Parameters
    ----------
    name : str
        As recipes write it.
    place : str
        ``"module:Class"``, imported when it is first built.

    Raises
    ------
    ValueError
        The name is taken.
    """
    if name in _PLACES:
        raise ValueError(f"the model name '{name}' is taken by {_PLACES[name]}")
    _PLACES[name] = place


register("linknet", "models.segmentation.linknet:LinkNet")
register("pspnet", "models.segmentation.pspnet:PSPNet")
register("unet", "models.segmentation.unet:UNet")
register("resunet", "models.segmentation.resunet:ResUNet")
register("albunet", "models.segmentation.albunet:AlbuNet")
register("deeplabv3plus", "models.segmentation.deeplab:DeepLabV3Plus")
register("fcn", "models.segmentation.fcn:FCN")
register("svm", "models.svm:SupportVectors")
register("forest", "models.forest:Forest")


def names() -> list[str]:
    """Names of all architectures."""
    return list(_PLACES)


def architecture(name: str) -> type[Labeller]:
    """Class of an architecture.

    Raises
    ------
    ModelError
        Unknown name; the message shows the known ones.
    """
    if name not in _PLACES:
        raise ModelError(unknown_name("model", name, names()))
    module, attribute = _PLACES[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def check(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Check settings of an architecture against its constructor and fill in the defaults.

    Parameters
    ----------
    name : str
        Name of the architecture.
    settings : dict
        Keyword arguments but ``bands``, which the data gives.

    Returns
    -------
    dict
        All settings, converted to the declared types.

    Raises
    ------
    ModelError
        Unknown name or setting (the nearest known one is named), or a value of another type.
    """
    return checked_settings(name, architecture(name), settings, given=("bands",))


def checked_settings(name: str, kind: type, settings: dict[str, Any], *, given: Sequence[str]) -> dict[str, Any]:
    """Check settings against the constructor of a class, but for the arguments that the data gives.

    Raises
    ------
    ModelError
        Unknown setting (the nearest known one is named), or a value of another type.
    """
    from pydantic import ConfigDict, ValidationError, create_model

    from geo.settings import explain

    hints = typing.get_type_hints(kind.__init__, include_extras=True)  # type: ignore[misc]
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is p.empty else p.default)
        for p in inspect.signature(kind).parameters.values()
        if p.name not in given
    }
    schema = create_model(kind.__name__, __config__=ConfigDict(extra="forbid"), **fields)
    try:
        return schema.model_validate(settings).model_dump()
    except ValidationError as error:
        raise ModelError(f"model '{name}': " + "; ".join(explain(error, schema))) from None


def build(name: str, *, bands: int, **settings: Any) -> Labeller:
    """Build an architecture with random weights (seed torch before).

    Parameters
    ----------
    name : str
        Name of the architecture.
    bands : int
        Number of input bands.
    **settings
        Of the architecture, see its class.

    Returns
    -------
    Labeller
        ``(n, bands, h, w)`` float32 -> logits ``(n, 1, h, w)``, with attributes ``stride`` (windows whose
        sides are multiples of it need no padding) and ``reach`` (pixels of context on each side).

    Raises
    ------
    ModelError
        Unknown name, unknown or unfit setting.
    """
    return architecture(name)(bands=bands, **check(name, settings))
