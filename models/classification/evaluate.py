"""How a classifier does on images that it has not learnt from, each set by itself, and where it looks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from geo.errors import LabelError, ModelError
from geo.progress import Progress, silent
from models.classification.classifier_file import LoadedClassifier
from models.classification.loop import SCORED
from models.classification.pictures import Picture, open_sets
from models.classification.reading import FittedPictures
from models.classification.scores import summary
from models.classification.tags import read_tags
from models.classification.train import probabilities
from models.dataset import Memory
from models.explain import Corners, class_maps, corner_share, enlarged, shown

Split = Literal["test", "all"]


@dataclass(frozen=True)
class Judged:
    """Images and what a classifier said of them.

    Attributes
    ----------
    pictures : FittedPictures
    probability : ndarray of float32, shape (n, classes)
    left_out : dict of str to int
        Images of each set that the classifier had learnt from or was chosen by.
    """

    pictures: FittedPictures
    probability: np.ndarray
    left_out: dict[str, int]

    @property
    def correct(self) -> np.ndarray:
        """Where the answer was right, bool of shape (n,)."""
        return self.probability.argmax(axis=1) == self.pictures.labels


def judge(
    model: LoadedClassifier,
    folders: Sequence[str | os.PathLike],
    *,
    split: Split = "test",
    bands: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Judged:
    """Let a classifier answer on images that it has not learnt from.

    Parameters
    ----------
    model : LoadedClassifier
    folders : sequence of path
        Sets; of those with splits of their own the test is taken, of others all images.
    split : {"test", "all"}
        ``"all"`` takes the other splits too.
    bands : sequence of str, optional
    threads : int, optional
    progress : callable

    Raises
    ------
    LabelError
        A set has no image left, or other classes.
    """
    sets = open_sets(
        folders,
        val_fraction=0.0,
        test_fraction=1.0,
        seed=0,
        bands=bands,
        positive_share=model.recipe.positive_share,
        threads=threads,
        progress=progress,
    )
    if sets.classes != model.classes:
        raise ModelError(
            f"{model.path} knows the classes {', '.join(model.classes)}, the images show {', '.join(sets.classes)}; "
            "give images of the same classes"
        )
    wanted = [p for p in sets.pictures if split == "all" or p.split == "test"]
    known = model.seen["train"] | model.seen["val"]
    fresh = [p for p in wanted if p.content not in known and p.group not in known]
    left_out = {name: sum(p.set == name for p in wanted) - sum(p.set == name for p in fresh) for name in sets.folders}
    for name, folder in sets.folders.items():
        if not any(p.set == name for p in fresh):
            raise LabelError(
                f"{folder} has no image to test on: {left_out[name]} were learnt from or chosen by, the rest is "
                "of other splits; give images that the classifier has not seen"
            )
    tags = None
    if model.tags is not None:
        rows = read_tags(fresh, sets.folders, [*model.tags.numbers, *model.tags.categories])
        tags = {p.id: model.tags.encode(rows[p.id]) for p in fresh}
    pictures = FittedPictures(fresh, model.scale, Memory(model.recipe.cache_mb), tags=tags, given=bands)
    return Judged(pictures, probabilities(model.module, pictures, next(model.module.parameters()).device), left_out)


def scores_of(model: LoadedClassifier, judged: Judged, *, replicates: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Scores with intervals of each set by itself, with the images that were answered wrong."""
    sought = model.classes.index(model.positive)
    found = {}
    for name, left_out in judged.left_out.items():
        at = np.flatnonzero([p.set == name for p in judged.pictures.pictures])
        here = [judged.pictures.pictures[i] for i in at]
        scored = summary(
            judged.pictures.labels[at],
            judged.probability[at],
            [p.group for p in here],
            model.classes,
            sought,
            replicates=replicates,
            seed=seed,
        )
        wrong = [
            {"image": here[j].id, "class": model.classes[here[j].label], "probability": round(float(p), 4)}
            for j, p in enumerate(judged.probability[at][:, sought])
            if not judged.correct[at[j]]
        ]
        found[name] = {**scored, "left_out": left_out, "wrong": wrong}
    return found


@dataclass(frozen=True)
class Explained:
    """One image with where the classifier looked.

    Attributes
    ----------
    number : int
        Of the image among those judged.
    picture : Picture
    image : ndarray of float, shape (size, size, 3)
        As it is shown, between 0 and 1.
    attention : ndarray of float32, shape (size, size)
        For the class that was answered.
    cells : (int, int)
        Rows and columns of the map that it was enlarged from.
    """

    number: int
    picture: Picture
    image: np.ndarray
    attention: np.ndarray
    cells: tuple[int, int]


def explained(model: LoadedClassifier, judged: Judged, progress: Progress = silent) -> Iterator[Explained]:
    """Where the classifier looked for its answer, image by image."""
    answers = judged.probability.argmax(axis=1)
    numbers = list(range(len(judged.pictures)))
    batches = [numbers[i : i + SCORED] for i in range(0, len(numbers), SCORED)]
    mean, std = np.asarray(model.scale.mean), np.asarray(model.scale.std)
    for batch in progress(batches, "Explaining", len(batches)):
        images, _, tags = judged.pictures.batch(batch)
        maps = class_maps(model, images, answers[batch].tolist(), tags)
        found = enlarged(maps, images.shape[1:3])
        rows, columns = maps.shape[1:]
        for place, number in enumerate(batch):
            picture = shown(images[place] * std + mean, model.scale.bands)
            yield Explained(number, judged.pictures.pictures[number], picture, found[place], (rows, columns))


def corners_of(judged: Judged, found: Iterable[Explained]) -> Corners:
    """Attention in corners over all images."""
    shares = np.full(len(judged.pictures), np.nan)
    cells = (0, 0)
    for item in found:
        shares[item.number], cells = corner_share(item.attention), item.cells
    return Corners.of(shares, judged.correct, cells)
