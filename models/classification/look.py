"""Where a model of either kind looks in one image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geo.errors import ModelError
from models import model_file
from models.classification import classifier_file
from models.classification.classifier_file import LoadedClassifier
from models.classification.reading import read_picture
from models.explain import LEVEL, class_maps, enlarged, explain_landslides, shown
from models.model_file import FORMAT, LoadedModel

#: Sides of images of a segmenter, in pixels: gradients of larger ones do not fit into memory.
LARGEST = 2048


def load_any(path: str | os.PathLike) -> LoadedClassifier | LoadedModel:
    """Read a model of either kind.

    Raises
    ------
    ModelError
        It cannot be read.
    """
    content = model_file.read_safely(Path(path), FORMAT, "a model written by 'geocrack train' or 'classify train'")
    return classifier_file.load(path) if content.get("kind") == "classifier" else model_file.load(path)


def look(
    model: LoadedClassifier | LoadedModel, path: Path, bands: Sequence[str] | None = None, *, level: int = LEVEL
) -> tuple[np.ndarray, np.ndarray, str]:
    """Where a model looks in an image; ``level`` is the map of a segmenter's encoder, see ``explain_landslides``.

    Returns
    -------
    picture : ndarray of float, shape (h, w, 3)
        Between 0 and 1.
    attention : ndarray of float32, shape (h, w)
    answer : str
        The class, or ``landslide`` and ``none``.

    Raises
    ------
    RasterError, ModelError
        The image cannot be read or lacks bands, is too large for a segmenter, or the model looks at tags.
    """
    if isinstance(model, LoadedClassifier):
        if model.tags is not None:
            raise ModelError(f"{model.path} looks at tags beside the image; use `geocrack classify evaluate --explain`")
        image, _ = model.scale.fit(*read_picture(path, model.scale.bands, bands))
        number = int(model.probability(image[None])[0].argmax())
        attention = enlarged(class_maps(model, image[None], [number]), image.shape[:2])[0]
        plain = image * np.asarray(model.scale.std) + np.asarray(model.scale.mean)
        return shown(plain, model.scale.bands), attention, model.classes[number]
    values, _ = read_picture(path, model.bands, bands)
    if max(values.shape[1:]) > LARGEST:
        raise ModelError(
            f"{path} has {values.shape[1]} x {values.shape[2]} pixels, too many to look at in one piece; give a part "
            f"of {LARGEST} pixels at most"
        )
    attention = explain_landslides(model, values, level=level)
    return shown(values.transpose(1, 2, 0), model.bands), attention, "landslide" if attention.any() else "none"
