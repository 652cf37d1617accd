"""The file of a trained classifier: as safe as that of a segmenter, and of the same format, of kind ``classifier``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geo.atomic import atomic
from geo.errors import ModelError, out_of_memory
from models import classification
from models.classification.classifier import Classifier
from models.classification.reading import Scale
from models.classification.recipe import ImageClassifier
from models.classification.tags import TagTable
from models.file_content import ClassifierContent, fill, unfit
from models.model_file import FORMAT, VERSION, checked, read_safely

EXPECTED = "a classifier written by 'geocrack classify train'"


@dataclass(frozen=True)
class LoadedClassifier:
    """A trained classifier.

    Attributes
    ----------
    recipe : ImageClassifier
    classes : tuple of str
    positive : str
        The class that is sought.
    scale : Scale
        Bands, their means and deviations, and the size of the input.
    window : int
        Side in pixels of the images that it was trained on; windows of a scene of that size are seen alike.
    tags : TagTable or None
    validation : ndarray, shape (2, STEPS + 1)
        Negative and positive validation images by probability.
    seen : dict of str to frozenset of str
        Hashes of the pixels, and groups, of the images of ``train`` and ``val``.
    metrics, history, trained_on : dict, list, dict
    module : Classifier
        In evaluation mode.
    path : Path
    """

    recipe: ImageClassifier
    classes: tuple[str, ...]
    positive: str
    scale: Scale
    window: int
    tags: TagTable | None
    validation: np.ndarray
    seen: Mapping[str, frozenset[str]]
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    trained_on: dict[str, Any]
    module: Classifier
    path: Path

    @property
    def name(self) -> str:
        """Network and encoder, in short."""
        settings = self.recipe.network.settings
        return " ".join(str(p) for p in (self.recipe.network.name, settings.get("encoder")) if p)

    @torch.inference_mode()
    def probability(self, images: np.ndarray, tags: np.ndarray | None = None) -> np.ndarray:
        """Probabilities ``(n, classes)`` of normalised images ``(n, size, size, bands)``, see ``Scale.fit``."""
        device = next(self.module.parameters()).device
        values = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).permute(0, 3, 1, 2).to(device)
        more = None if tags is None else torch.from_numpy(tags).to(device)
        return torch.softmax(self.module(values, more).float(), dim=1).cpu().numpy()


def save(
    path: str | os.PathLike,
    module: nn.Module,
    recipe: ImageClassifier,
    *,
    classes: Sequence[str],
    positive: str,
    scale: Scale,
    window: int,
    tags: TagTable | None,
    validation: np.ndarray,
    seen: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    trained_on: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a classifier, whole or not at all.

    Raises
    ------
    OutputExistsError, OutputError
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "kind": "classifier",
        "recipe": recipe.model_dump(mode="json"),
        "classes": list(classes),
        "positive": positive,
        "bands": list(scale.bands),
        "mean": [float(v) for v in scale.mean],
        "std": [float(v) for v in scale.std],
        "window": int(window),
        "tags": tags.plain() if tags else None,
        "state": {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()},
        "validation": validation.tolist(),
        "seen": {split: sorted(names) for split, names in seen.items()},
        "metrics": dict(metrics),
        "history": [dict(row) for row in history],
        "trained_on": dict(trained_on),
    }
    with atomic(path, overwrite=overwrite) as part:
        torch.save(content, part)


def load(path: str | os.PathLike, *, device: str | torch.device = "cpu") -> LoadedClassifier:
    """Read a classifier; nothing in it is run.

    Raises
    ------
    ModelError
        No such file, a damaged one, a model that labels pixels, content that no training writes, weights that are no
        numbers or of another architecture.
    """
    file = Path(path)
    content = read_safely(file, FORMAT, EXPECTED)
    if content.get("kind") != "classifier":
        raise ModelError(f"{file} is a model of kind {content.get('kind')!r}, which labels pixels; expected {EXPECTED}")
    recipe = checked(file, content, ClassifierContent)
    assert isinstance(recipe, ImageClassifier)  # which is the kind that both say
    tags = TagTable.from_plain(content["tags"]) if content.get("tags") else None
    try:
        module = classification.build(
            recipe.network.name,
            bands=len(content["bands"]),
            classes=len(content["classes"]),
            size=recipe.size,
            tags=tags.width if tags else 0,
            **recipe.network.settings,
        )
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    except RuntimeError as error:  # a network without end
        if out_of_memory(error):
            raise
        raise unfit(file, recipe.network.name, error) from None
    fill(module, content["state"], file, recipe.network.name)
    return LoadedClassifier(
        recipe=recipe,
        classes=tuple(content["classes"]),
        positive=content["positive"],
        scale=Scale(tuple(content["bands"]), tuple(content["mean"]), tuple(content["std"]), recipe.size),
        window=content["window"],
        tags=tags,
        validation=np.asarray(content["validation"], dtype=np.int64),
        seen={split: frozenset(names) for split, names in content["seen"].items()},
        metrics=content["metrics"],
        history=content["history"],
        trained_on=content["trained_on"],
        module=module.to(device).eval().requires_grad_(False),
        path=file,
    )
