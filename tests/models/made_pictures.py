"""Small sets of images with known truth: a dark line on rough ground is a crack."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

TINY = {
    "kind": "classifier",
    "network": {"name": "timm", "encoder": "test_efficientnet"},
    "weights": "none",
    "size": 32,
    "optimizer": {"name": "adamw"},
    "phases": [{"epochs": 1, "learning_rate": 0.01, "batch": 4}],
}


def picture(number: int, crack: bool, size: tuple[int, int] = (40, 40)) -> np.ndarray:
    """Colours (h, w, 3) of uint8, blue first."""
    rng = np.random.default_rng(number)
    ground = np.clip(rng.normal((150, 140, 130), 12, (*size, 3)), 0, 255).astype(np.uint8)
    if crack:
        ends = [tuple(int(v) for v in rng.integers(0, size[0], 2)) for _ in range(2)]
        ends[1] = (size[1] - 1 - ends[0][0], size[0] - 1 - ends[0][1])
        cv2.line(ground, ends[0], ends[1], (20, 20, 20), 4)
    return ground


def write_set(folder: Path, each: int = 10, *, classes=("crack", "sound"), first: int = 0, size=(40, 40)) -> Path:
    """Write folders of classes; those whose class is 'crack' show one."""
    for kind in classes:
        (folder / kind).mkdir(parents=True)
        for number in range(each):
            place = first + number + 1000 * classes.index(kind)
            cv2.imwrite(str(folder / kind / f"{number:03d}.png"), picture(place, kind == "crack", size))
    return folder
