"""What a training stops at, said in one sentence: numbers that are none, and batches that are too small."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from geo.errors import ModelError

#: Names that are told of many.
_TOLD = 8


def told(names: Sequence[str]) -> str:
    """Names in a sentence; of many the first."""
    return ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")


def after(epoch: int, rate: float) -> str:
    """Say when answers were asked for, for ``check_answers``."""
    return f" after epoch {epoch} at a learning rate of {rate:g}"


def check_loss(value: float, epoch: int, step: int, rate: float, what: str, names: Sequence[str]) -> None:
    """Raise where a loss is no number.

    Parameters
    ----------
    value : float
    epoch, step : int
        From 1.
    rate : float
        The learning rate.
    what : str
        ``"chips"`` or ``"images"``.
    names : sequence of str
        Those of the batch.

    Raises
    ------
    ModelError
    """
    if not math.isfinite(value):
        raise ModelError(
            f"the loss is no longer a number ({value}) at epoch {epoch}, step {step}, on the {what} {', '.join(names)}"
            f"; look at the values of these {what}, or lower the learning rate (now {rate:g})"
        )


def check_answers(logits: torch.Tensor, what: str, names: Sequence[str], when: str = "") -> None:
    """Raise where a network's answers are no numbers.

    In training its last step may have spoilt weights that no loss saw; later the units of the input are others.

    Parameters
    ----------
    logits : tensor, shape (n, ...)
    what : str
        ``"chips"`` or ``"images"``.
    names : sequence of str, length n
    when : str
        Of a training, see ``after``; empty where a finished model is asked.

    Raises
    ------
    ModelError
    """
    good = torch.isfinite(logits).flatten(1).all(dim=1).tolist()
    wrong = [name for name, fine in zip(names, good, strict=True) if not fine]
    if wrong and when:
        raise ModelError(
            f"the model's answers are no longer numbers{when}, on the {what} {told(wrong)}; lower the learning rate, "
            f"or look at the values of these {what}"
        )
    if wrong:
        raise ModelError(
            f"the model's answers are no numbers on the {what} {told(wrong)}; look at the values of these {what}: they "
            "must have the units of those that the model was trained on"
        )


def not_finite(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that hold something else than finite numbers."""
    return [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]


def check_batches(
    recipe: Any,
    module: nn.Module,
    set_mode: Callable[[Any, Any, Any], None],
    inputs: Sequence[torch.Tensor | None],
    *,
    processes: int = 1,
) -> None:
    """Raise where a network cannot learn from one image at a time and a phase of its recipe shows it just one.

    Batch normalisation of maps of one pixel has a single value there, which has no deviation. Said before the first
    phase begins, since a later one may be the first with so small a batch. Steps take whole batches, so no last one is
    smaller.

    Parameters
    ----------
    recipe : Segmenter or ImageClassifier
    module : nn.Module
        Stays as it is.
    set_mode : callable
        ``set_mode(module, recipe, phase)`` as training does.
    inputs : sequence
        Of one image.
    processes : int
        That share a batch and normalise their shares apart.

    Raises
    ------
    ModelError
    """
    for number, phase in enumerate(recipe.phases):
        if phase.batch // processes != 1:
            continue
        trial = copy.deepcopy(module)  # a look in training mode moves the statistics
        set_mode(trial, recipe, phase)
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                trial(*inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            key, shared = f"phases.{number}.batch", f" shared by {processes} processes" if processes > 1 else ""
            raise ModelError(
                f"{key} is {phase.batch}{shared}, but this network normalises maps of a single pixel, for which it "
                f"needs 2 images or more at a time; set {key} to {2 * processes} or more, or take a larger size"
            ) from None
