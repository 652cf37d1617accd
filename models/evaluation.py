"""Run a model over chips and count what it finds, image by image."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geo.atomic import atomic
from geo.errors import LabelError
from geo.stream import stream
from models import metrics
from models.dataset import Fitted, FittedChips
from models.guards import check_answers
from models.intervals import Draws, blocks_of, interval_of, intervals, wilson
from models.outlines import COLUMNS, columns_of, tolerant_counts, tolerant_ratios, tolerant_scores

#: Pixels up to which an outline or a centre line agrees, unless stated otherwise.
TOLERANCE_PX = 2.0
#: Pixels found on a chip without landslide from which it counts as a false alarm, unless stated otherwise.
ALARM_PX = 100
_FOUR = ("tp", "fp", "fn", "tn")


class EightWays(nn.Module):
    """A segmenter that sees each square in its eight ways, turned and mirrored, as ``geocrack predict --augment d4``.

    Its logits are those of the mean of the eight probabilities.

    Parameters
    ----------
    module : nn.Module
        Normalised ``(n, bands, s, s)`` -> logits ``(n, 1, s, s)``.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the logits of the mean probability."""
        from models.predict.members import ways  # which loads all that maps scenes

        answers = (
            back(torch.sigmoid(self.module(torch.from_numpy(turned).to(images.device))).cpu().numpy())
            for turned, back in ways(images.cpu().numpy())
        )
        return torch.logit(torch.from_numpy(sum(answers) / 8), eps=1e-7).to(images.device)


@torch.inference_mode()
def maps(
    module: nn.Module, chips: FittedChips, device: torch.device, *, batch: int = 8, when: str = ""
) -> Iterator[tuple[int, Fitted, np.ndarray]]:
    """Map chips one after the other.

    Parameters
    ----------
    module : nn.Module
        Normalised ``(n, bands, h, w)`` -> logits.
    chips : FittedChips
    device : torch.device
    batch : int
        Chips that go through together, where they are fitted to one size.
    when : str
        Of a training, for the error: see ``guards.after``.

    Yields
    ------
    number : int
        Of the chip.
    fitted : Fitted
    probability : ndarray of float32, shape (h, w)
        At the size to which the chip was fitted.

    Raises
    ------
    ModelError
        Answers that are no numbers.
    """
    if chips.size is None:
        batch = 1
    groups = [range(i, min(i + batch, len(chips))) for i in range(0, len(chips), batch)]
    module.eval()
    for group, fitted in stream(lambda group: [chips[i] for i in group], groups, workers=1):
        images = torch.from_numpy(np.stack([chip.image for chip in fitted])).float().permute(0, 3, 1, 2)
        logits = module(images.to(device))[:, 0].float().cpu()
        check_answers(logits, "chips", [chips.records[number].id for number in group], when)
        probability = torch.sigmoid(logits).numpy()
        yield from zip(group, fitted, probability, strict=True)


def evaluate(
    module: nn.Module, chips: FittedChips, device: torch.device, *, batch: int = 8, when: str = ""
) -> np.ndarray:
    """Count pixels by class and probability, each chip at its own size.

    Returns
    -------
    ndarray of int64, shape (chips, 2, metrics.STEPS + 1)
    """
    counted = [
        metrics.histogram(fitted.at_own_size(probability), fitted.own_label)
        for _, fitted, probability in maps(module, chips, device, batch=batch, when=when)
    ]
    return np.stack(counted) if counted else np.zeros((0, 2, metrics.STEPS + 1), dtype=np.int64)


@dataclass(frozen=True)
class Judged:
    """What a model found on some chips, at one threshold.

    Attributes
    ----------
    ids : tuple of str
    pictures : tuple of str
        Digest of each chip's picture (``copies.digest``): chips of one picture are drawn together.
    threshold, tolerance_px : float
    histograms : ndarray of int64, shape (chips, 2, metrics.STEPS + 1)
    tolerant : ndarray of int64, shape (chips, 12)
        ``outlines.tolerant_counts`` of each.
    """

    ids: tuple[str, ...]
    pictures: tuple[str, ...]
    threshold: float
    tolerance_px: float
    histograms: np.ndarray
    tolerant: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """Counts tp, fp, fn, tn of each chip: shape (chips, 4)."""
        found = metrics.counts(self.histograms, self.threshold)
        return np.stack([found[name] for name in _FOUR], axis=-1).reshape(-1, 4)

    @property
    def blocks(self) -> np.ndarray:
        """Number of the picture that each chip shows."""
        return blocks_of(picture_keys(self.ids, self.pictures))


def picture_keys(ids: Sequence[str], pictures: Sequence[str]) -> list[str]:
    """Key of each chip that its copies share: the picture's digest, or the chip's own name where it has none."""
    return [picture or f"chip {name}" for name, picture in zip(ids, pictures, strict=True)]


def judge(
    module: nn.Module,
    chips: FittedChips,
    device: torch.device,
    *,
    pictures: Sequence[str],
    threshold: float,
    tolerance_px: float = TOLERANCE_PX,
    batch: int = 8,
) -> Judged:
    """Map chips and count what is found at a threshold, each chip at its own size.

    Parameters
    ----------
    pictures : sequence of str
        Digest of each chip's picture.
    threshold : float
        One of the steps of ``metrics``.
    tolerance_px : float
        For outlines and centre lines.
    """
    histograms, tolerant = [], []
    for _, fitted, probability in maps(module, chips, device, batch=batch):
        own = fitted.at_own_size(probability)
        histograms.append(metrics.histogram(own, fitted.own_label))
        mask = np.rint(own * metrics.STEPS) >= np.ceil(threshold * metrics.STEPS)
        tolerant.append(tolerant_counts(mask, fitted.own_label, tolerance_px))
    return Judged(
        tuple(record.id for record in chips.records),
        tuple(pictures),
        threshold,
        tolerance_px,
        np.stack(histograms) if histograms else np.zeros((0, 2, metrics.STEPS + 1), dtype=np.int64),
        np.stack(tolerant) if tolerant else np.zeros((0, len(COLUMNS)), dtype=np.int64),
    )


def report(judged: Judged, draws: Draws | None = None, *, alarm_px: int = ALARM_PX) -> dict[str, Any]:
    """All scores with their intervals, for a file of scores.

    Returns
    -------
    dict
        ``metrics.summary`` and ``interval`` (of ``pooled`` and ``per_image``), ``tolerant`` (precision, recall and F1
        with the interval of F1, of outlines, centre lines and pixels within ``tolerance_px``), ``without_landslide``
        (``false_alarms`` from ``alarm_px`` pixels on; ``images`` is 0 where all show some), ``with_landslide``
        (ratios over the pixels of the others, which false alarms elsewhere do not touch) and ``resampling``.
    """
    draws = draws or Draws()
    blocks = judged.blocks
    tolerant: dict[str, dict[str, Any]] = {}
    for kind, values in tolerant_scores(judged.tolerant.sum(axis=0)).items():
        columns = columns_of(kind, judged.tolerant)
        tolerant[kind] = {**metrics.plain(values), "interval": interval_of(columns, _tolerant_f1, blocks, draws)}
    return {
        **metrics.summary(judged.histograms, judged.threshold),
        "interval": intervals(judged.counted, blocks=blocks, draws=draws),
        "tolerance_px": judged.tolerance_px,
        "tolerant": tolerant,
        "without_landslide": false_alarms(judged.counted, alarm_px) or {"images": 0, "least_px": alarm_px},
        "with_landslide": metrics.plain(metrics.scores(*_with_landslide(judged.counted))),
        "resampling": draws.facts(len(np.unique(blocks))),
    }


def false_alarms(counted: np.ndarray, least_px: int) -> dict[str, Any] | None:
    """Tell how often something is found where nothing is.

    Parameters
    ----------
    counted : ndarray, shape (chips, 4) or (seeds, chips, 4)
        tp, fp, fn, tn.
    least_px : int
        Pixels found from which a chip without landslide counts as a false alarm.

    Returns
    -------
    dict or None
        ``images`` without landslide, ``false_alarm`` (how many of them are one; the mean over seeds), ``rate`` with its
        ``interval`` (Wilson 1927, 95 %; chips are taken for independent), ``share`` of their pixels that was found, and
        ``least_px``. None where all chips show landslide.
    """
    tables = counted.reshape(-1, *counted.shape[-2:])
    empty = (tables[0, :, 0] + tables[0, :, 2] == 0) & (tables[0].sum(axis=1) > 0)
    none = tables[:, empty]
    if not empty.any():
        return None
    images, alarms = int(empty.sum()), float((none[..., 1] >= least_px).sum(axis=1).mean())
    return {
        "images": images,
        "least_px": least_px,
        "false_alarm": int(alarms) if alarms.is_integer() else round(alarms, 2),
        "rate": round(alarms / images, 6),
        "interval": wilson(alarms, images),
        "share": round(float(none[..., 1].sum() / none.sum()), 6),
    }


def _with_landslide(counted: np.ndarray) -> np.ndarray:
    return counted[counted[:, 0] + counted[:, 2] > 0].sum(axis=0)


def _tolerant_f1(sums: np.ndarray) -> np.ndarray:
    return tolerant_ratios(sums)["f1"]


def worst(judged: Judged, number: int) -> list[dict[str, Any]]:
    """Chips that hold most of the error, the worst first.

    Returns
    -------
    list of dict
        ``id, number`` (its place among the chips), ``f1, fp, fn`` and ``share_of_error``.
    """
    counted = judged.counted
    wrong = counted[:, 1] + counted[:, 2]
    f1 = metrics.ratios(counted)["f1"]
    order = [int(i) for i in np.argsort(-wrong, kind="stable")[:number] if wrong[i]]
    return [
        {
            "id": judged.ids[i],
            "number": i,
            **metrics.plain({"f1": float(f1[i])}),
            "fp": int(counted[i, 1]),
            "fn": int(counted[i, 2]),
            "share_of_error": round(float(wrong[i] / wrong.sum()), 6),
        }
        for i in order
    ]


def write_counts(path: str | os.PathLike, judged: Mapping[str, Judged | ImageCounts]) -> None:
    """Write the counts of each chip as CSV, one row a chip, by split.

    Comparisons of systems need nothing else.

    Parameters
    ----------
    path : path
        Replaced where it is there.
    judged : mapping
        By split.
    """
    with atomic(path, overwrite=True) as part, open(part, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["split", "id", "picture", *_FOUR, *COLUMNS])
        for split, of in judged.items():
            lines = zip(of.ids, of.pictures, of.counted, of.tolerant, strict=True)
            rows.writerows([split, name, picture, *four, *more] for name, picture, four, more in lines)


@dataclass(frozen=True)
class ImageCounts:
    """Counts of each chip as they were written: ``counted`` (chips, 4) and ``tolerant`` (chips, 12).

    ``tolerant`` is 0 where it was not counted: of classifiers, and in tables of earlier versions.
    """

    ids: tuple[str, ...]
    pictures: tuple[str, ...]
    counted: np.ndarray
    tolerant: np.ndarray


def read_counts(path: str | os.PathLike, split: str = "test") -> ImageCounts:
    """Read what ``write_counts`` wrote of one split.

    Raises
    ------
    LabelError
        No such file, or another kind of table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = [row for row in csv.DictReader(file) if row["split"] == split]
        values = np.array(
            [[*(int(row[name]) for name in _FOUR), *(int(row.get(name, 0)) for name in COLUMNS)] for row in table],
            dtype=np.int64,
        )
        names = [(row["id"], row["picture"]) for row in table]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LabelError(
            f"{Path(path)} is no table of counts by image ({type(error).__name__}: {error}); "
            "train or evaluate the model again"
        ) from None
    values = values.reshape(-1, 4 + len(COLUMNS))
    ids, pictures = (tuple(row[i] for row in names) for i in (0, 1))
    return ImageCounts(ids, pictures, values[:, :4], values[:, 4:])
