"""Train a classifier from a recipe on sets of images, and write its file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geo.atomic import atomic, check_free
from geo.errors import LabelError, ModelError
from geo.progress import Progress, silent
from models import card, classification, weights
from models.classification import classifier_file, scores
from models.classification.classifier import Classifier
from models.classification.classifier_file import LoadedClassifier
from models.classification.loop import Course, answers, fit
from models.classification.pictures import Picture, Sets, check_learnable, open_sets
from models.classification.reading import FittedPictures, Scale, measure
from models.classification.recipe import ImageClassifier
from models.classification.tags import TagTable, fit_tags, read_tags, tags_fingerprint
from models.dataset import Memory
from models.loop import Checkpoints, OnEpoch
from models.threads import limited_threads

log = logging.getLogger(__name__)

#: Classes that are sought, by their usual names.
SOUGHT = ("landslide", "crack", "positive")


def train(
    recipe: ImageClassifier,
    folders: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    start_from: str | os.PathLike | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    deal_seed: int | None = None,
    bands: Sequence[str] | None = None,
    resume: bool = False,
    log_dir: str | os.PathLike | None = None,
    threads: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
) -> dict[str, Any]:
    """Train a classifier and write its file, and ``<stem>.metrics.json`` and ``<stem>.card.md`` beside it.

    ``<stem>.checkpoints/last.pt`` is there to go on from. The same seed, images and number of threads give the same
    weights on a CPU.

    Parameters
    ----------
    recipe : ImageClassifier
    folders : sequence of path
        Sets of images, see ``models.classification.pictures``; several are joined, their tests stay apart.
    output : path
        The model file.
    start_from : path, optional
        A classifier whose weights, and normalisation, the training starts from: the second stage of a transfer.
    val_fraction, test_fraction : float
        Of sets without splits of their own.
    seed : int
        Of weights, order and augmentation, and of the dealing unless ``deal_seed`` is given.
    deal_seed : int, optional
        Deals the images alike whatever the seed, so that trainings with several are tested on the same ones.
    bands : sequence of str, optional
        Names of the images' bands in the order of the files.
    resume : bool
    log_dir : path, optional
        Folder of the TensorBoard log; ``<stem>.tensorboard`` beside the model by default.
    threads : int, optional
    device : str, optional
        A device of torch; a GPU where there is one by default.
    overwrite : bool
    progress : callable
    on_epoch : callable, optional
        Called with each row of the history as it comes; of a training that goes on, with earlier ones first.

    Returns
    -------
    dict
        Scores on validation and, set by set, on test images; history, seconds.

    Raises
    ------
    LabelError
        The sets cannot be learnt from, or the first stage has seen what the second would test on.
    ModelError
        Bands, weights, start or checkpoint that do not fit; a loss that is no number.
    RasterError, OutputExistsError, OutputError
    """
    output = Path(output)
    scores_file = output.with_name(f"{output.stem}.metrics.json")
    for path in (output, scores_file, card.card_path(output)):
        check_free(path, overwrite=overwrite)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    began = time.monotonic()
    first = classifier_file.load(start_from) if start_from else None
    sets = open_sets(
        folders,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed if deal_seed is None else deal_seed,
        bands=bands,
        positive_share=recipe.positive_share,
        threads=threads,
        progress=progress,
    )
    check_learnable(sets)
    if first:
        _check_start(first, recipe, sets)
    positive = _sought(recipe, sets.classes, first)
    split = {name: sets.split(name) for name in ("train", "val", "test")}
    log.info(
        "%d training, %d validation, %d test images; classes %s, sought is %s",
        *(len(split[name]) for name in ("train", "val", "test")),
        ", ".join(sets.classes),
        positive,
    )
    tags, numbers = _tags(recipe, sets, first)
    scale = first.scale if first else _scale(recipe, split["train"], bands)
    memory = Memory(recipe.cache_mb)
    fitted = {n: FittedPictures(found, scale, memory, tags=numbers, given=bands) for n, found in split.items()}
    with limited_threads(threads), torch.random.fork_rng(devices=[]):
        module = _start(recipe, sets, scale, tags, first, seed)
        made_of = {
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
            "images": sets.fingerprint,
            "tags": tags_fingerprint(sets.folders, recipe.tags),
            "start": _hash(start_from) if start_from else None,
        }
        course = Course(
            module, fitted["train"], fitted["val"], _class_weights(recipe, fitted["train"].labels, len(sets.classes)),
            made_of, seed, place, Path(log_dir) if log_dir else output.with_name(f"{output.stem}.tensorboard"),
            sets.classes, sets.classes.index(positive),
        )  # fmt: skip
        checkpoints = Checkpoints(output.with_name(f"{output.stem}.checkpoints"), lambda *_: None)
        module, history = fit(recipe, course, checkpoints, resume=resume, progress=progress, on_epoch=on_epoch)
        judged: dict[str, Any] = {"validation": by_set(module, fitted["val"], sets.classes, positive, place)}
        if split["test"]:
            judged["test"] = by_set(module, fitted["test"], sets.classes, positive, place)
        chosen = probabilities(module, fitted["val"], place)[:, sets.classes.index(positive)]
    seconds = round(time.monotonic() - began, 1)
    seen = {name: {p.content for p in split[name]} | {p.group for p in split[name]} for name in ("train", "val")}
    for name in seen if first else ():
        seen[name] |= first.seen[name]  # type: ignore[union-attr]
    classifier_file.save(
        output,
        module,
        recipe,
        classes=sets.classes,
        positive=positive,
        scale=scale,
        window=first.window if first else int(np.median([min(p.shape) for p in split["train"]])),
        tags=tags,
        validation=scores.counted(fitted["val"].labels, chosen, sets.classes.index(positive)),
        seen={name: sorted(found) for name, found in seen.items()},
        metrics=judged,
        history=history,
        trained_on={
            "sets": [os.fspath(folder) for folder in folders],
            "start_from": os.fspath(start_from) if start_from else None,
            "counts": {name: len(found) for name, found in split.items()},
            "seed": seed,
            "val_fraction": val_fraction,
            "test_fraction": test_fraction,
            "fingerprint": sets.fingerprint,
            "copies": sets.copies,
            "data": [_described(sets, name) for name in sets.folders],
            "software": card.software(),
            "seconds": seconds,
        },
        overwrite=True,
    )
    card.write_card(output)
    found = {**judged, "seconds": seconds, "history": history}
    with atomic(scores_file, overwrite=True) as part:
        part.write_text(json.dumps(found, indent=2) + "\n")
    return found


def _described(sets: Sets, name: str) -> dict[str, Any]:
    """Gather what a card tells of one set: images of each split and class, and how they were dealt."""
    counts: dict[str, dict[str, int]] = {split: {"chips": 0} for split in ("train", "val", "test")}
    for picture in sets.pictures:
        if picture.set == name:
            of = counts[picture.split]
            of["chips"] += 1
            of[sets.classes[picture.label]] = of.get(sets.classes[picture.label], 0) + 1
    split = "by its folders or chips" if name in sets.dealt else "at random; parts and copies of a picture together"
    return {"name": name, "sources": [], "split": split, "counts": counts}


def probabilities(module: Classifier, pictures: FittedPictures, device: torch.device) -> np.ndarray:
    """Probabilities of all images of a set, float32 of shape (n, classes)."""
    return torch.softmax(torch.from_numpy(answers(module, pictures, device)), dim=1).numpy()


def by_set(
    module: Classifier,
    pictures: FittedPictures,
    classes: Sequence[str],
    positive: str,
    device: torch.device,
    **draws: int,
) -> dict[str, Any]:
    """Scores of each set by itself: a figure over a mixture tells of the larger set alone."""
    found = probabilities(module, pictures, device)
    sets = np.array([picture.set for picture in pictures.pictures])
    groups = np.array([picture.group for picture in pictures.pictures])
    sought = classes.index(positive)
    return {
        str(name): scores.summary(
            pictures.labels[sets == name], found[sets == name], groups[sets == name].tolist(), classes, sought, **draws
        )
        for name in dict.fromkeys(sets.tolist())
    }


def _check_start(first: LoadedClassifier, recipe: ImageClassifier, sets: Sets) -> None:
    """Raise where a first stage does not fit the second, or saw what the second would test on."""
    file = first.path
    if first.classes != sets.classes:
        raise ModelError(
            f"{file} knows the classes {', '.join(first.classes)}, the images show {', '.join(sets.classes)}; give "
            "sets of the same classes"
        )
    if first.recipe.network != recipe.network or first.recipe.size != recipe.size:
        raise ModelError(
            f"{file} is a {first.name} for images of {first.recipe.size} pixels, the recipe asks for "
            f"{recipe.network.name} {recipe.network.settings or ''} of {recipe.size}: another architecture; take the "
            "recipe that it was trained by"
        )
    if recipe.bands is not None and tuple(recipe.bands) != first.scale.bands:
        raise ModelError(
            f"{file} looks at the bands {', '.join(first.scale.bands)}, the recipe at {', '.join(recipe.bands)}; leave "
            "bands away from the recipe"
        )
    for name, before in (("test", ("train", "val")), ("val", ("train",))):
        known = frozenset().union(*(first.seen.get(split, frozenset()) for split in before))
        leaked = [p for p in sets.split(name) if p.content in known or p.group in known]
        if leaked:
            raise LabelError(
                f"{len(leaked)} {'test' if name == 'test' else 'validation'} images, such as {leaked[0].path}, were "
                f"learnt from by {file}; give --seed, --val-fraction and --test-fraction as then"
            )


def _sought(recipe: ImageClassifier, classes: Sequence[str], first: LoadedClassifier | None) -> str:
    """Class that is sought."""
    if recipe.positive is not None:
        if recipe.positive not in classes:
            raise ModelError(
                f"the recipe seeks the class '{recipe.positive}', the images show {', '.join(classes)}; take "
                "one of them"
            )
        return recipe.positive
    if first:
        return first.positive
    known = [name for name in classes if name.lower() in SOUGHT]
    if len(known) != 1:
        raise ModelError(
            f"the images show {', '.join(classes)}, and which of them is sought is not clear; say it: --set "
            + shlex.quote(f"positive={classes[-1]}")
        )
    return known[0]


def _tags(
    recipe: ImageClassifier, sets: Sets, first: LoadedClassifier | None
) -> tuple[TagTable | None, dict[str, np.ndarray] | None]:
    if recipe.tags is None or not (recipe.tags.numbers or recipe.tags.categories):
        return None, None
    rows = read_tags(sets.pictures, sets.folders, [*recipe.tags.numbers, *recipe.tags.categories])
    learnt = [rows[p.id] for p in sets.split("train")]
    table = first.tags if first else fit_tags(learnt, recipe.tags.numbers, recipe.tags.categories)
    assert table is not None  # a first stage of the same network has tags too
    return table, {picture.id: table.encode(rows[picture.id]) for picture in sets.pictures}


def _scale(recipe: ImageClassifier, pictures: Sequence[Picture], given: Sequence[str] | None) -> Scale:
    bands = tuple(recipe.bands or pictures[0].bands)
    mean, std = measure(pictures, bands, given)
    return Scale(bands, tuple(mean), tuple(std), recipe.size)


def _start(
    recipe: ImageClassifier,
    sets: Sets,
    scale: Scale,
    tags: TagTable | None,
    first: LoadedClassifier | None,
    seed: int,
) -> Classifier:
    """Network with the weights that it starts from."""
    if first:
        return first.module.requires_grad_(True)
    torch.manual_seed(seed)
    module = classification.build(
        recipe.network.name,
        bands=len(scale.bands),
        classes=len(sets.classes),
        size=recipe.size,
        tags=tags.width if tags else 0,
        **recipe.network.settings,
    )
    given = recipe.weights if isinstance(recipe.weights, str) else recipe.weights.model_dump()
    weights.initialise(module.encoder, module.encoder_name, scale.bands, given, extra_bands=recipe.extra_bands)
    return module


def _class_weights(recipe: ImageClassifier, labels: np.ndarray, classes: int) -> tuple[float, ...]:
    if recipe.class_weights == "none":
        return (1.0,) * classes
    counts = np.bincount(labels, minlength=classes)
    return tuple((len(labels) / (classes * counts)).tolist())


def _hash(path: str | os.PathLike) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
