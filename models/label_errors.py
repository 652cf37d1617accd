"""How much of the error lies in the labels: errors of the worst chips as a table that a person judges.

A false alarm may be a landslide that nobody drew, and a miss may be ground that was drawn as one and is none. Only
a person can tell, error by error; what the answers are worth in pixels is computed here.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from geo.errors import LabelError
from models import metrics, model_file
from models.chips import IGNORE
from models.evaluation import maps
from models.panels import FALSE_ALARM, MISS, picture_of
from models.scoring import chips_for, looking

KINDS = ("false alarm", "miss")
#: What may be said of the label under an error; empty where nobody has looked.
ANSWERS = ("yes", "no", "unsure")
#: Smaller errors are seams of outlines, which nobody can judge one by one.
LEAST_PX = 16
TABLE = "errors.csv"


@dataclass(frozen=True)
class ChipError:
    """Connected pixels of one chip that are all false alarm, or all missed.

    Attributes
    ----------
    chip : str
    number : int
        In the chip, the largest first; it stands in the picture too.
    kind : {"false alarm", "miss"}
    pixels : int
    left, top, width, height : int
        Box in pixels of the chip.
    label_wrong : {"yes", "no", "unsure", ""}
        Whether the label is wrong there, as a person judged.
    note : str
    """

    chip: str
    number: int
    kind: str
    pixels: int
    left: int
    top: int
    width: int
    height: int
    label_wrong: str = ""
    note: str = ""


def errors_of(chip: str, found: np.ndarray, label: np.ndarray, *, least_px: int = LEAST_PX) -> list[ChipError]:
    """Errors of a chip, the largest first.

    Parameters
    ----------
    chip : str
    found : ndarray of bool, shape (h, w)
    label : ndarray of uint8, shape (h, w)
        1 landslide, 0 background, 255 not known, where nothing is wrong.
    least_px : int
        Smaller ones are left out.
    """
    parts: list[tuple[int, str, int, int, int, int]] = []
    for kind, wrong in zip(KINDS, (found & (label == 0), ~found & (label == 1)), strict=True):
        number, _, boxes, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        for left, top, width, height, pixels in boxes[1:number].tolist():
            if pixels >= least_px:
                parts.append((-pixels, kind, left, top, width, height))
    return [
        ChipError(chip, place, kind, -pixels, left, top, width, height)
        for place, (pixels, kind, left, top, width, height) in enumerate(sorted(parts), 1)
    ]


def write_errors(
    folder: Path,
    model: str | os.PathLike,
    folders: Sequence[str | os.PathLike],
    numbers: Sequence[int],
    *,
    split: str,
    threshold: float,
    augment: str = "none",
) -> list[ChipError]:
    """Write ``errors.csv`` with a column to fill in, and a picture of each chip with its errors numbered.

    Parameters
    ----------
    folder : path
        An existing one.
    model : path
    folders : sequence of path
        Of chips.
    numbers : sequence of int
        Places of the chips in their split.
    split : str
    threshold : float
        One of the steps of ``metrics``.
    augment : str
        As of ``scoring.score_model``.
    """
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = model_file.load(model, device=place)
    chips = chips_for(loaded, folders, split)
    chips.records = [chips.records[number] for number in numbers]
    listed: list[ChipError] = []
    for at, fitted, probability in maps(looking(loaded, augment), chips, place):
        name, label = chips.records[at].id, fitted.own_label
        found = np.rint(fitted.at_own_size(probability) * metrics.STEPS) >= np.ceil(threshold * metrics.STEPS)
        errors = errors_of(name, found, label)
        shown = picture_of(fitted.image[fitted.inside], loaded.bands)
        shown = cv2.resize(shown, label.shape[::-1], interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(
            str(folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.png"), _picture(shown, found, label, errors)
        )
        listed += errors
    with open(folder / TABLE, "w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(ChipError)], lineterminator="\n")
        rows.writeheader()
        rows.writerows(asdict(error) for error in listed)
    return listed


def _picture(shown: np.ndarray, found: np.ndarray, label: np.ndarray, errors: Iterable[ChipError]) -> np.ndarray:
    """Plain picture beside one with outlines of false alarms and misses and the numbers of the table, blue first."""
    scale = max(1, round(600 / max(label.shape)))
    size = (label.shape[1] * scale, label.shape[0] * scale)
    plain = cv2.resize((255 * shown[..., ::-1]).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    marked = plain.copy()
    for colour, wrong in ((FALSE_ALARM, found & (label == 0)), (MISS, ~found & (label == 1))):
        large = cv2.resize(wrong.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(marked, outlines, -1, _bgr(colour), 2)
    marked[cv2.resize((label == IGNORE).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) == 1] //= 2
    for error in errors:
        at = (error.left * scale, max(12, error.top * scale - 3))
        for bgr, width in (((0, 0, 0), 4), (_bgr(FALSE_ALARM if error.kind == KINDS[0] else MISS), 1)):
            cv2.putText(marked, str(error.number), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, bgr, width, cv2.LINE_AA)
    return np.concatenate([plain, np.full((size[1], 6, 3), 255, np.uint8), marked], axis=1)


def _bgr(colour: str) -> tuple[int, int, int]:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)


def read_verdicts(path: str | os.PathLike) -> list[ChipError]:
    """Read a table of errors that a person has judged.

    Raises
    ------
    LabelError
        No such table, an error of no pixels, or another answer than yes, no, unsure or none.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        errors = [_error(row) for row in rows]
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise LabelError(
            f"{Path(path)} is no table of errors ({type(error).__name__}: {error}); expected {TABLE} as "
            "`geocrack evaluate --errors` writes it, with the column label_wrong filled in"
        ) from None
    for line, given in enumerate(errors, 2):
        if given.pixels < 1:
            raise LabelError(
                f"{Path(path)}, line {line}: pixels is {given.pixels}; expected 1 or more, as `geocrack evaluate "
                "--errors` wrote it"
            )
        if given.label_wrong not in (*ANSWERS, ""):
            raise LabelError(
                f"{Path(path)}, line {line}: label_wrong is '{given.label_wrong}'; expected yes, no, unsure, or "
                "nothing where nobody has looked"
            )
    if not any(given.label_wrong for given in errors):
        raise LabelError(f"{Path(path)} holds no answer; fill in the column label_wrong with yes, no or unsure")
    return errors


def _error(row: dict[str, str]) -> ChipError:
    numbers = {name: int(row[name]) for name in ("number", "pixels", "left", "top", "width", "height")}
    verdict = (row["label_wrong"] or "").strip().lower()
    return ChipError(row["chip"], kind=row["kind"], label_wrong=verdict, note=row.get("note") or "", **numbers)


def in_the_labels(verdicts: Sequence[ChipError], ids: Sequence[str], counted: np.ndarray) -> dict[str, Any]:
    """Work out what share of the error lies in wrong labels, and the scores if those were right.

    Parameters
    ----------
    verdicts : sequence of ChipError
    ids : sequence of str
        Of all chips that were scored.
    counted : ndarray, shape (chips, 4)
        tp, fp, fn, tn of each.

    Returns
    -------
    dict
        ``judged`` (errors), and of ``false_alarm`` and ``miss`` each: ``pixels`` in all chips, those ``judged``, those
        in labels judged ``wrong`` and ``unsure``, and the ``share`` of the judged ones that is wrong (``share_at_most``
        with the unsure ones). ``as_scored``, ``if_right`` and ``if_unsure_too`` are the ratios over all pixels: as
        labelled, with wrong labels put right, and with the unsure ones too. Errors that nobody judged count as the
        model's, so what is put right is the least; the worst chips say nothing of the others' labels.

    Raises
    ------
    LabelError
        The table tells of other chips, or of more error than a chip has.
    """
    place = {name: number for number, name in enumerate(ids)}
    pixels = np.zeros((len(ids), 2, len(ANSWERS)), dtype=np.int64)
    for error in (error for error in verdicts if error.label_wrong):
        if error.chip not in place or error.kind not in KINDS:
            raise LabelError(
                f"the table of errors tells of a {error.kind} on the chip '{error.chip}', which is not scored here; "
                "give the table that was written for these chips"
            )
        pixels[place[error.chip], KINDS.index(error.kind), ANSWERS.index(error.label_wrong)] += error.pixels
    over = np.flatnonzero((pixels.sum(axis=2) > counted[:, 1:3]).any(axis=1))
    if over.size:
        raise LabelError(
            f"the table of errors tells of more wrong pixels on the chip '{ids[over[0]]}' than this model has; give "
            "the table that was written for this model and threshold"
        )
    tp, fp, fn, tn = (int(v) for v in counted.sum(axis=0))
    told: dict[str, Any] = {"judged": sum(bool(error.label_wrong) for error in verdicts)}
    yes, unsure = [], []
    for kind, whole, (wrong, right, open_) in zip(KINDS, (fp, fn), pixels.sum(axis=0).tolist(), strict=True):
        judged = wrong + right + open_
        told[kind.replace(" ", "_")] = {
            "pixels": whole,
            "judged": judged,
            "wrong": wrong,
            "unsure": open_,
            "share": round(wrong / judged, 6) if judged else None,
            "share_at_most": round((wrong + open_) / judged, 6) if judged else None,
        }
        yes.append(wrong)
        unsure.append(wrong + open_)
    for name, (alarm, miss) in (("as_scored", (0, 0)), ("if_right", yes), ("if_unsure_too", unsure)):
        told[name] = metrics.plain(metrics.scores(tp + alarm, fp - alarm, fn - miss, tn + miss))
    return told
