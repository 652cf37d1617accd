"""Pictures of where a network looks: overlays as PNG, and the figure of attention in corners."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geo.atomic import atomic
from geo.png import png
from models.classification.evaluate import Explained, Judged
from models.explain import Corners, overlay

FIGURE = "corners.png"


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture (h, w, 3) of uint8, red first; it appears whole or not at all.

    Raises
    ------
    OutputExistsError, OutputError
    """
    with atomic(path, overwrite=True) as part:
        part.write_bytes(png(np.ascontiguousarray(picture[:, :, ::-1])))


def side_by_side(picture: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Picture, and beside it the same with attention over it, uint8."""
    plain = np.rint(255 * picture).astype(np.uint8)
    return np.concatenate([plain, np.full((len(plain), 4, 3), 255, np.uint8), overlay(picture, attention)], axis=1)


def keep_overlays(
    found: Iterable[Explained], judged: Judged, classes: Sequence[str], folder: Path, most: int
) -> Iterator[Explained]:
    """Pass explained images on and write overlays of those that are most telling.

    Of each set they are the surest of the wrong and of the right answers, up to ``most`` of each. A file's name says
    what is there, what was answered and how surely.
    """
    answers, sureness = judged.probability.argmax(axis=1), judged.probability.max(axis=1)
    wanted = set()
    for name in judged.left_out:
        for right in (True, False):
            at = [
                i for i, p in enumerate(judged.pictures.pictures) if p.set == name and bool(judged.correct[i]) == right
            ]
            wanted |= set(sorted(at, key=lambda i: -sureness[i])[:most])
    for item in found:
        if item.number in wanted:
            verdict = "right" if judged.correct[item.number] else "wrong"
            truth, answer = classes[item.picture.label], classes[answers[item.number]]
            name = f"{item.picture.path.stem}_{truth}_as_{answer}_{100 * sureness[item.number]:.0f}.png"
            write_png(folder / item.picture.set / verdict / name, side_by_side(item.image, item.attention))
        yield item


def draw_corners(path: Path, corners: Corners, summary: dict[str, Any], title: str) -> None:
    """Draw the share of attention in corners of right and wrong answers, each image a dot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    colours = {"right": "#3b6ea5", "wrong": "#c2452d"}
    labels = []
    for row, (name, shares) in enumerate((("right", corners.right), ("wrong", corners.wrong))):
        axes.scatter(shares, row + rng.uniform(-0.22, 0.22, len(shares)), s=12, alpha=0.5, color=colours[name], lw=0)
        if len(shares):
            axes.plot([shares.mean()] * 2, [row - 0.32, row + 0.32], color=colours[name], lw=2.5)
        labels.append(f"{name}\n({len(shares)} images)")
    axes.axvline(summary["even"], color="0.4", ls="--", lw=1)
    axes.text(summary["even"], 1.46, " even attention", color="0.3", fontsize=8, va="center")
    if corners.reason:
        rows, columns = corners.cells
        axes.text(0.5, 0.5, f"not known: maps of {rows} x {columns} cells", ha="center", transform=axes.transAxes)
    axes.set_yticks([0, 1], labels)
    axes.set_ylim(-0.5, 1.6)
    axes.set_xlim(0, max(0.6, *(float(v.max()) + 0.02 for v in (corners.right, corners.wrong) if len(v)), 0.0))
    axes.set_xlabel("share of attention in the four corners (a quarter of the image)")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic(path, overwrite=True) as part:
        figure.savefig(part, dpi=150, format="png")
