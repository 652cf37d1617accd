"""Cells of classifiers: trained on folders of images, each image counted as a single right or wrong answer."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from geo.errors import LabelError, ModelError
from geo.progress import Progress
from models.classification import classifier_file
from models.classification.evaluate import judge
from models.classification.pictures import open_sets
from models.classification.recipe import ImageClassifier
from models.classification.scores import four_counts
from models.classification.tags import tags_fingerprint
from models.classification.train import train as train_classifier
from models.compare.experiment import AnyRecipe, DataSet
from models.evaluation import ImageCounts, write_counts
from models.outlines import COLUMNS

#: Images are dealt by this seed whatever that of the training is, so that all seeds are tested on the same ones.
DEALT_BY = 0


def content_of(data: DataSet) -> str:
    """Hash of what training sees of sets of images: names, pixels, classes and splits."""
    val, test = (data.val_fraction, data.test_fraction) if data.train else (0.0, 1.0)
    return open_sets(data.images, val_fraction=val, test_fraction=test, seed=DEALT_BY).fingerprint


def tags_of(data: DataSet, recipe: AnyRecipe) -> str | None:
    """Hash of the tags of a data set that a recipe takes; None where it takes none, or they cannot be read.

    Training tells of the latter, so that other rows go on.
    """
    if not isinstance(recipe, ImageClassifier):
        return None
    try:
        return tags_fingerprint({folder.resolve().name: folder for folder in data.images}, recipe.tags)
    except LabelError:
        return None


def train(
    recipe: ImageClassifier,
    data: DataSet,
    model: str | os.PathLike,
    *,
    seed: int,
    threads: int | None,
    devices: int,
    progress: Progress,
) -> dict[str, Any]:
    """Train a classifier and write, beside its file, the counts of each test image.

    Raises
    ------
    ModelError
        Several processes are asked for; or as ``models.classification.train.train``.
    LabelError
    """
    if devices > 1:
        raise ModelError(f"classifiers are trained by one process, and --devices is {devices}; leave it away")
    found = train_classifier(
        recipe,
        data.images,
        model,
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        seed=seed,
        deal_seed=DEALT_BY,
        resume=True,
        threads=threads,
        overwrite=True,
        progress=progress,
    )
    if "test" in found:
        counts = os.path.splitext(os.fspath(model))[0] + ".images.csv"
        write_counts(counts, {"test": score(model, data)})
    return found


def score(model: str | os.PathLike, data: DataSet) -> ImageCounts:
    """Count the answers of a classifier on the images of a data set that test.

    Of a set without splits of its own all that the model has not learnt from are tested on: where it was trained,
    those that were kept apart. Of several classes the one that is sought is told from all others together.

    Raises
    ------
    LabelError
        A set has no image to test on.
    ModelError
        No classifier, or one of other classes.
    """
    loaded = classifier_file.load(model)
    judged = judge(loaded, data.images, split="test" if data.train else "all")
    sought = loaded.classes.index(loaded.positive)
    counted = four_counts(judged.pictures.labels == sought, judged.probability.argmax(axis=1) == sought)
    shown = judged.pictures.pictures
    none = np.zeros((len(shown), len(COLUMNS)), dtype=np.int64)
    return ImageCounts(tuple(p.id for p in shown), tuple(p.group for p in shown), counted, none)
