"""Pictures of chips beside truth and answers, with false alarms and misses boxed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from models.chips import IGNORE

#: Colours that people with any colour vision tell apart (Okabe and Ito 2008).
FALSE_ALARM, MISS, RIGHT = "#E69F00", "#56B4E9", "#009E73"
#: Errors smaller than this are tinted but get no box, and no more than so many get one.
_LEAST_PX, _BOXES = 16, 12


@dataclass(frozen=True)
class Answer:
    """What a system says of a chip: a heading, its probability (h, w), and its threshold."""

    heading: str
    probability: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Row:
    """A chip: its name, its picture (h, w, 3) between 0 and 1, its label (h, w), and what systems say of it."""

    name: str
    picture: np.ndarray
    label: np.ndarray
    answers: tuple[Answer, ...]


def picture_of(image: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """Colours of a chip, each stretched from its 1st to its 99th percentile.

    Parameters
    ----------
    image : ndarray, shape (h, w, bands)
        0 in all bands where not valid.
    bands : sequence of str
        Red, green and blue are shown where they are there, else the first band in grey.

    Returns
    -------
    ndarray of float32, shape (h, w, 3)
        Between 0 and 1; white where not valid.
    """
    lower = [band.lower() for band in bands]
    colours = [lower.index(b) if b in lower else 0 for b in ("red", "green", "blue")]
    if not {"red", "green", "blue"} <= set(lower):
        colours = [0, 0, 0]
    shown = image[:, :, colours].astype(np.float32)
    seen = (image != 0).any(axis=2)
    if not seen.any():
        return np.ones_like(shown)
    low, high = np.percentile(shown[seen], (1, 99), axis=0)
    stretched = np.clip((shown - low) / np.maximum(high - low, 1e-6), 0, 1).astype(np.float32)
    stretched[~seen] = 1
    return stretched


def boxes(wrong: np.ndarray, *, least_px: int = _LEAST_PX, most: int = _BOXES) -> list[tuple[int, int, int, int]]:
    """Rectangles around connected errors, the largest first.

    Parameters
    ----------
    wrong : ndarray of bool, shape (h, w)
    least_px : int
        Smaller ones are left out.
    most : int
        How many at most.

    Returns
    -------
    list of (left, top, width, height)
    """
    number, _, found, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(wrong, dtype=np.uint8), connectivity=8)
    large = [row for row in found[1:number] if row[cv2.CC_STAT_AREA] >= least_px]
    large.sort(key=lambda row: -row[cv2.CC_STAT_AREA])
    return [(int(left), int(top), int(width), int(height)) for left, top, width, height, _ in large[:most]]


def draw(path: str | os.PathLike, rows: Sequence[Row], *, title: str, probability: bool) -> None:
    """Draw a row of panels for each chip: image, truth, and of each system its errors.

    Parameters
    ----------
    path : path
        PNG.
    rows : sequence of Row
        With the same systems.
    title : str
    probability : bool
        Show the probability of each system before its errors.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    wide = 2 + len(rows[0].answers) * (2 if probability else 1)
    figure = Figure(figsize=(2.5 * wide, 2.75 * len(rows) + 0.9), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for row, places in zip(rows, figure.subplots(len(rows), wide, squeeze=False), strict=True):
        remaining = iter(places)
        _show(next(remaining), row.picture, row.name)
        _show(next(remaining), _grey(np.where(row.label == IGNORE, 0.5, row.label)), "truth")
        for answer in row.answers:
            if probability:
                of = f" of {answer.heading}" if len(row.answers) > 1 else ""
                _show(
                    next(remaining), _grey(np.where(row.label == IGNORE, 0.5, answer.probability)), f"probability{of}"
                )
            _errors(next(remaining), row, answer, answer.heading if not probability else "errors")
    patches = [
        Patch(color=colour, label=label)
        for colour, label in ((RIGHT, "found"), (FALSE_ALARM, "false alarm"), (MISS, "missed"))
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, format="png")


def _errors(axes: Any, row: Row, answer: Answer, heading: str) -> None:
    """Show the chip in grey with what was found, falsely found and missed in colours, errors in boxes."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    found, known = answer.probability >= answer.threshold, row.label != IGNORE
    parts = {
        RIGHT: found & (row.label == 1),
        FALSE_ALARM: found & known & (row.label == 0),
        MISS: ~found & (row.label == 1),
    }
    ground = _grey(row.picture.mean(axis=2)) * 0.75 + 0.2
    for colour, where in parts.items():
        ground[where] = 0.45 * ground[where] + 0.55 * np.array(to_rgb(colour))
    hit = int(parts[RIGHT].sum())
    total = 2 * hit + int(parts[FALSE_ALARM].sum()) + int(parts[MISS].sum())
    _show(axes, ground, f"{heading}, F1 {2 * hit / total:.2f}" if total else heading)
    for colour in (FALSE_ALARM, MISS):
        for left, top, width, height in boxes(parts[colour]):
            # half a pixel outside of the error; at the chip's edge that is beyond its axes, which would cut it off
            box = Rectangle((left - 1, top - 1), width + 1, height + 1, fill=False, ec=colour, lw=1.4, clip_on=False)
            axes.add_patch(box)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(values, 0, 1)[:, :, None].astype(np.float32), 3, axis=2)


def _show(axes: Any, image: np.ndarray, title: str) -> None:
    axes.imshow(image, interpolation="nearest", vmin=0, vmax=1)
    axes.set_title(title if len(title) <= 34 else f"{title[:33]}…", fontsize=8)
    axes.set_axis_off()
