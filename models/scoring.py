"""Score a model file on chips: scores with intervals, curves, and the chips where the error lies."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geo.errors import LabelError
from geo.stream import stream
from models import metrics, model_file
from models.chips import BandStatistics, open_chips, read_chip
from models.copies import check_test_apart, check_unseen, digests
from models.dataset import FittedChips, Memory
from models.evaluation import ALARM_PX, TOLERANCE_PX, EightWays, Judged, judge, maps, report, worst
from models.intervals import Draws
from models.model_file import LoadedModel
from models.panels import Answer, Row, picture_of
from models.units import warn_of_other_values

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """What a model file is worth on some chips: ``judged`` by chip, and ``found`` for the file of scores."""

    judged: Judged
    found: dict[str, Any]


def chips_for(model: LoadedModel, folders: Sequence[str | os.PathLike], split: str) -> FittedChips:
    """Chips of one split as a model takes them.

    Raises
    ------
    LabelError
        No folder of chips, or none of this split.
    ModelError
        The chips lack a band of the model.
    """
    chips = open_chips(folders)
    where = ", ".join(os.fspath(folder) for folder in folders)
    records = chips.split(split)
    if not records:
        there = ", ".join(f"{len(chips.split(name))} {name}" for name in ("train", "val", "test"))
        raise LabelError(f"none of the chips in {where} is of the split '{split}' (there are {there}); name another")
    return FittedChips(
        records,
        read_chip,
        model.check_bands(chips.bands, source=where),
        size=None if model.kind == "pixel" else model.chip_size,
        mean=model.mean,
        std=model.std,
        memory=Memory(0),
    )


def looking(model: LoadedModel, augment: str) -> nn.Module:
    """Give a model's module as it is to look at chips; turning changes nothing for one that sees each pixel by itself.

    Parameters
    ----------
    model : LoadedModel
    augment : {"none", "d4"}
        ``"d4"``: in eight ways, see ``EightWays``.
    """
    return EightWays(model.module) if augment == "d4" and model.kind != "pixel" else model.module


def score_model(
    path: str | os.PathLike,
    folders: Sequence[str | os.PathLike],
    *,
    split: str = "test",
    threshold: float | None = None,
    tolerance_px: float = TOLERANCE_PX,
    worst_chips: int = 8,
    alarm_px: int = ALARM_PX,
    draws: Draws | None = None,
    augment: str = "none",
) -> Scored:
    """Score a model on the chips of one split, each at its own size.

    The threshold is the model's, which was chosen on validation chips; the split that is scored never chooses.

    Parameters
    ----------
    path : path
        Model file.
    folders : sequence of path
        Folders of chips.
    split : {"test", "val", "train"}
        ``test`` refuses pictures that the model has seen.
    threshold : float, optional
        Another one than the model's.
    tolerance_px : float
        For outlines and centre lines.
    worst_chips : int
        How many to list.
    alarm_px : int
        Pixels found on a chip without landslide from which it counts as a false alarm.
    draws : Draws, optional
    augment : {"none", "d4"}
        How the model looks at chips, see ``looking``; the threshold was chosen without.

    Raises
    ------
    LabelError
        No such chips, or test chips that the model, or the folders' own training, has seen.
    ModelError
        No model, or one of other bands.
    """
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model_file.load(path, device=place)
    chips = chips_for(model, folders, split)
    pictures = digests(chips.records)
    if split == "test":
        seen = model.trained_on.get("pictures")
        if seen is not None:
            check_unseen(chips.records, pictures, seen, model=os.fspath(path))
        else:  # a model of before the pictures were noted: at least its folders must be clean
            log.warning(
                "%s was trained before models noted their pictures, so whether it was trained on some of these chips "
                "cannot be told, only whether the folders' own training chips are among them; train it again to know",
                path,
            )
            every = open_chips(folders)
            sets = {"train": every.split("train"), "val": every.split("val"), "test": chips.records}
            found = {name: digests(records) for name, records in sets.items() if name != "test"}
            check_test_apart(sets, {**found, "test": pictures})
    where = ", ".join(os.fspath(folder) for folder in folders)
    warn_of_other_values(_statistics(chips), model.bands, model.mean, model.std, where)
    at = _step(model.threshold if threshold is None else threshold)
    judged = judge(looking(model, augment), chips, place, pictures=pictures, threshold=at, tolerance_px=tolerance_px)
    pooled = judged.histograms.sum(axis=0)
    calibration, curve = metrics.calibration(pooled), metrics.curve(pooled)
    told = {
        "model": os.fspath(path),
        "recipe": model.recipe.get("description") or model.recipe.get("network", {}).get("name"),
        "chips": [os.fspath(folder) for folder in folders],
        "split": split,
        "augment": augment,
        **report(judged, draws, alarm_px=alarm_px),
        "calibration": calibration["bins"],
        "curve": {k: v for k, v in curve.items() if k != "average_precision"},
        **metrics.plain({"average_precision": curve["average_precision"]}),
        "worst": worst(judged, worst_chips),
    }
    return Scored(judged, told)


def _statistics(chips: FittedChips) -> BandStatistics:
    """Mean and deviation of the chips' own values, in the order of the model's bands."""
    found = BandStatistics()
    for _, (image, _, valid) in stream(chips.values, range(len(chips))):
        found.add(image, valid)
    return found


def _step(threshold: float) -> float:
    """Move a threshold to the nearest one that lies half-way between two steps of probability."""
    step = min(max(round(threshold * metrics.STEPS - 0.5), 0), metrics.STEPS - 1)
    return (step + 0.5) / metrics.STEPS


def rows_of(
    paths: Sequence[tuple[str, str | os.PathLike]],
    folders: Sequence[str | os.PathLike],
    numbers: Sequence[int],
    *,
    split: str = "test",
    augment: str = "none",
) -> list[Row]:
    """Panels of some chips with what each model says of them.

    Parameters
    ----------
    paths : sequence of (str, path)
        Heading and model file of each system; the first one's size is that of the panels.
    folders : sequence of path
    numbers : sequence of int
        Places of the chips in their split.
    split, augment : str
        As of ``score_model``.
    """
    import cv2

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    answers: list[list[Answer]] = [[] for _ in numbers]
    shown: list[tuple[str, Any, Any]] = []
    for system, (heading, path) in enumerate(paths):
        model = model_file.load(path, device=place)
        chips = chips_for(model, folders, split)
        chips.records = [chips.records[number] for number in numbers]
        for number, fitted, probability in maps(looking(model, augment), chips, place):
            if system == 0:
                inside = fitted.image[fitted.inside]
                label = fitted.label[fitted.inside]
                shown.append((chips.records[number].id, picture_of(inside, model.bands), label))
            target = shown[number][2].shape
            part = probability[fitted.inside]
            if part.shape != target:
                part = cv2.resize(part, target[::-1], interpolation=cv2.INTER_LINEAR)
            answers[number].append(Answer(heading, part, _step(model.threshold)))
    return [Row(name, picture, label, tuple(of)) for (name, picture, label), of in zip(shown, answers, strict=True)]


def panels_title(path: str | os.PathLike, found: dict[str, Any]) -> str:
    """Heading of the panels of one model."""
    f1 = found["pooled"]["f1"]
    shown = "not defined" if f1 is None else f"{f1:.3f}"
    return f"{Path(path).name} on {found['images']} {found['split']} chips, F1 {shown}: where most of the error lies"
