"""A table of whole images: what a classifier says of each."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geo.atomic import atomic, check_apart
from geo.errors import ModelError, RasterError
from geo.progress import Progress, silent
from models.classification.classifier_file import LoadedClassifier
from models.classification.loop import SCORED
from models.classification.pictures import images_below
from models.classification.reading import read_picture


def write_table(
    path: str | os.PathLike,
    model: LoadedClassifier,
    output: str | os.PathLike,
    *,
    bands: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, int]:
    """Write the probability of each class for an image, or for each image of a folder and those below it.

    Returns
    -------
    dict
        Number of ``images``, and of those answered with the class that is sought (``positive``).

    Raises
    ------
    RasterError
        There is no image, or one cannot be read.
    ModelError
        An image lacks bands, or the model looks at tags.
    OutputExistsError, OutputError
    """
    root = Path(path)
    if model.tags is not None:
        raise ModelError(f"{model.path} looks at tags beside the image; score it with `geocrack classify evaluate`")
    check_apart(output, [root])
    files = [root] if not root.is_dir() else images_below(root)
    if not files:
        raise RasterError(f"{root} holds no images; expected files such as .jpg, .png or .tif")
    batches = [files[i : i + SCORED] for i in range(0, len(files), SCORED)]
    positive = 0
    with atomic(output, overwrite=overwrite) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "class", *(f"probability_{name}" for name in model.classes)])
        for batch in progress(batches, "Classifying", len(batches)):
            images = np.stack([model.scale.fit(*read_picture(file, model.scale.bands, bands))[0] for file in batch])
            for file, row in zip(batch, model.probability(images), strict=True):
                answer = model.classes[int(row.argmax())]
                positive += answer == model.positive
                name = file.relative_to(root).as_posix() if root.is_dir() else file.name
                table.writerow([name, answer, *(f"{value:.6f}" for value in row)])
    return {"images": len(files), "positive": positive}
