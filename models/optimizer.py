"""Optimisers of a recipe, the learning rate over the epochs of a phase, and the scale of losses in mixed precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from models.recipe import Optimizer, Phase, Trained


def make_optimizer(module: nn.Module, settings: Optimizer, phase: Phase) -> torch.optim.Optimizer:
    """Build an optimiser with groups that know the share of the learning rate they get (``factor``)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("encoder."), parameter.ndim > 1), []).append(parameter)
    rows = [
        {
            "params": parameters,
            "factor": settings.encoder_factor if inside else 1.0,
            "weight_decay": settings.weight_decay if filters else 0.0,
        }
        for (inside, filters), parameters in groups.items()
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(rows, lr=phase.learning_rate, momentum=settings.momentum)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(rows, lr=phase.learning_rate, betas=(settings.momentum, 0.999))


def fallen(recipe: Trained, epoch: int, scores: Sequence[Any]) -> float:
    """Share of the learning rate that ``step`` and ``plateau`` leave in an epoch.

    Parameters
    ----------
    recipe : Trained
    epoch : int
        Of the phase, from 0.
    scores : sequence
        What the best of the phase's finished epochs is chosen by, higher is better; of nothing else, so that a resumed
        training falls alike.
    """
    if recipe.schedule == "step":
        return recipe.step_factor ** (epoch // recipe.step_epochs)
    if recipe.schedule != "plateau":
        return 1.0
    best, stale, falls = None, 0, 0
    for score in scores:
        best, stale = (score, 0) if best is None or score > best else (best, stale + 1)
        if stale >= recipe.plateau_epochs:
            falls, stale = falls + 1, 0
    return recipe.step_factor**falls


def learning_rate(schedule: str, peak: float, share: float) -> float:
    """Learning rate at a share (0 to 1) of a phase.

    ``one-cycle`` rises over the first quarter from a 25th of the peak and falls to a thousandth of it along
    a cosine (after Smith and Topin 2019); ``cosine`` only falls.
    """
    rise = 0.25
    if schedule in ("constant", "step", "plateau"):
        return peak
    if schedule == "one-cycle" and share < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * (0.5 - 0.5 * math.cos(math.pi * share / rise)))
    past = (share - rise) / (1 - rise) if schedule == "one-cycle" else share
    return peak * (1e-3 + (1 - 1e-3) * (0.5 + 0.5 * math.cos(math.pi * past)))


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Make what scales losses in mixed precision; it does nothing elsewhere.

    One for a whole training: it finds its scale by steps that overflow, which are lost.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "mixed" and device.type == "cuda")
