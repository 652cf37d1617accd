"""Attention that any decoder may have after its blocks."""

from __future__ import annotations

from typing import Literal

from torch import nn

#: ``scse``: concurrent spatial and channel squeeze and excitation (Roy, Navab and Wachinger 2018).
Kind = Literal["none", "scse"]


def attention(kind: Kind, channels: int) -> nn.Module:
    """Build what weighs maps of so many channels; it has no weights where there is none."""
    from segmentation_models_pytorch.base.modules import SCSEModule

    return nn.Identity() if kind == "none" else SCSEModule(channels, reduction=min(16, channels))
