"""Several views of the same window: turned and mirrored, by one model or several, as a mean and a spread."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from geo.errors import ModelError
from models.predict.grid import Model

Augment = Literal["none", "d4"]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Models that answer together; one alone, seen one way, answers for itself.

    Attributes
    ----------
    models : tuple of Model
        Of the same bands; windows suit all of them.
    augment : {"none", "d4"}
        ``"d4"``: each model sees a window in the eight ways that a square can be turned and mirrored.
    """

    models: tuple[Model, ...]
    augment: Augment = "none"

    def __post_init__(self) -> None:
        first = self.models[0]
        for other in self.models[1:]:
            if list(other.bands) != list(first.bands):
                raise ModelError(
                    f"{_name(other)} was trained on the bands {', '.join(other.bands)}, {_name(first)} on "
                    f"{', '.join(first.bands)}; models that answer together need the same, in the same order"
                )
        side = -(-self.chip_size // self.stride) * self.stride
        for model in self.models:
            own = -(-model.chip_size // model.stride) * model.stride
            if getattr(model, "global_context", False) and own != side:
                raise ModelError(
                    f"{_name(model)} pools over windows of {own} pixels, but the models together need those of {side}; "
                    "models that answer together with it need chips of its size"
                )

    @property
    def bands(self) -> Sequence[str]:
        """Names of the input bands."""
        return self.models[0].bands

    @cached_property
    def chip_size(self) -> int:
        """The largest of the models' chips."""
        return max(model.chip_size for model in self.models)

    @cached_property
    def reach(self) -> int:
        """The widest context of the models."""
        return max(model.reach for model in self.models)

    @cached_property
    def stride(self) -> int:
        """Windows at its multiples are seen alike by all models."""
        return int(np.lcm.reduce([model.stride for model in self.models]))

    @property
    def global_context(self) -> bool:
        """Whether one of the models pools over its whole window."""
        return any(getattr(model, "global_context", False) for model in self.models)

    @property
    def parallel(self) -> bool:
        """Whether several windows beside each other, with a share of the threads each, take less time than in turn."""
        return all(getattr(model, "parallel", False) for model in self.models)

    @property
    def size(self) -> int:
        """How many answers a window gets."""
        return len(self.models) * self._looks

    @property
    def _looks(self) -> int:
        """Ways in which a window is seen; turning it changes nothing for models that see each pixel on its own."""
        return 8 if self.augment == "d4" and any(model.reach for model in self.models) else 1

    @property
    def path(self) -> str | os.PathLike | None:
        """Where the first model was read from."""
        return getattr(self.models[0], "path", None)

    def statistics(self) -> tuple[Any, Any] | None:
        """Mean and standard deviation of the bands that the first model was trained on, where it knows."""
        mean, std = getattr(self.models[0], "mean", None), getattr(self.models[0], "std", None)
        return None if mean is None or std is None else (mean, std)

    def answer(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean and spread of all answers.

        Parameters
        ----------
        images : ndarray of float32, shape (n, bands, size, size)

        Returns
        -------
        mean : ndarray of float32, shape (n, size, size)
        spread : ndarray of float32, shape (n, size, size), or None
            Standard deviation of the answers (over their number); None where there is only one.
        """
        if self.size == 1:
            return self.models[0].probability(images), None
        answers = self._answers(images)
        mean = next(answers).astype(np.float32)
        squares = np.zeros_like(mean)
        for number, answer in enumerate(answers, 2):  # Welford 1962: one pass, one map more
            apart = answer - mean
            mean += apart / np.float32(number)
            squares += apart * (answer - mean)
        return mean, np.sqrt(squares / np.float32(self.size))

    def _answers(self, images: np.ndarray) -> Iterator[np.ndarray]:
        for model in self.models:
            if self._looks == 1 or model.reach == 0:
                answer = model.probability(images)
                yield from [answer] * self._looks  # beside a model that looks eight times it has the same say
                continue
            for turned, back in ways(images):
                yield back(model.probability(turned))


def ways(images: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
    """Lay a square in each of its eight ways, with the way back."""
    for flip in (False, True):
        seen = images[..., ::-1] if flip else images
        for turns in range(4):

            def back(answer: np.ndarray, turns: int = turns, flip: bool = flip) -> np.ndarray:
                upright = np.rot90(answer, -turns, (-2, -1))
                return upright[..., ::-1] if flip else upright

            yield np.ascontiguousarray(np.rot90(seen, turns, (-2, -1))), back


def _name(model: Model) -> str:
    return str(getattr(model, "path", None) or "the model")
