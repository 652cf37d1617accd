"""What a training writes for TensorBoard: numbers of each epoch, curves of precision and recall, a few pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from models.chips import IGNORE
from models.dataset import Data
from models.metrics import STEPS

#: Images whose pictures are kept.
SHOWN = 4
#: TensorBoard reads at most 127 thresholds: every second step of the histogram is one.
_EVERY = 2
#: Side of a classified image's picture, and height of the words under it.
_SIDE, _WORDS = 192, 26
#: Colours in which right and wrong answers are framed.
_RIGHT, _WRONG = (59, 110, 165), (194, 69, 45)


def add_curve(board: SummaryWriter, pooled: np.ndarray, epoch: int) -> None:
    """Write precision and recall at evenly spaced thresholds.

    Parameters
    ----------
    board : SummaryWriter
    pooled : ndarray of int, shape (2, STEPS + 1)
        Negative and positive pixels or images of the validation by probability (``metrics.histogram``).
    epoch : int
    """
    above = np.cumsum(pooled[:, ::-1], axis=1)[:, ::-1][:, ::_EVERY].astype(float)  # found at each threshold
    fp, tp = above
    fn, tn = pooled[1].sum() - tp, pooled[0].sum() - fp
    precision, recall = tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1)
    board.add_pr_curve_raw(
        "precision_recall", tp, fp, tn, fn, precision, recall, global_step=epoch, num_thresholds=STEPS // _EVERY + 1
    )


@torch.inference_mode()
def record_chips(
    board: SummaryWriter,
    row: dict[str, Any],
    module: nn.Module,
    data: Data,
    device: torch.device,
    pooled: np.ndarray | None,
) -> None:
    """Write an epoch of a segmenter.

    Parameters
    ----------
    board : SummaryWriter
    row : dict
        Of the history.
    module : nn.Module
    data : Data
    device : torch.device
    pooled : ndarray or None
        Validation pixels by class and probability where this epoch is the best so far: only then its curve and a few
        validation chips, beside truth and probability, are written too.
    """
    for name in ("loss", "learning_rate", "f1", "precision", "recall", "threshold", "seconds"):
        if row[name] is not None:  # there is no precision where nothing was found
            board.add_scalar(name, row[name], row["epoch"])
    if pooled is None:
        return
    add_curve(board, pooled, row["epoch"])
    for number in range(min(SHOWN, len(data.val))):
        chip = data.val[number]
        image = torch.from_numpy(chip.image).float().permute(2, 0, 1)[None]
        probability = torch.sigmoid(module(image.to(device))[0, 0].float()).cpu().numpy()
        truth = np.where(chip.label == IGNORE, 0.5, chip.label)
        panels = [_colours(chip.image, data.bands)]
        panels += [np.repeat(layer[:, :, None], 3, axis=2) for layer in (truth, probability)]
        board.add_image(f"validation/{data.val.records[number].id}", np.hstack(panels), row["epoch"], dataformats="HWC")
    board.flush()


def shown(number: int) -> list[int]:
    """Numbers of a few of so many images, evenly spread, so that several classes are among them."""
    return sorted({int(i) for i in np.linspace(0, number - 1, min(SHOWN, number))}) if number else []


def record_images(
    board: SummaryWriter,
    epoch: int,
    pooled: np.ndarray,
    images: np.ndarray,
    bands: Sequence[str],
    named: Sequence[tuple[str, str, str, float]],
) -> None:
    """Write the curve of a classifier's best validation so far, and a few images with its answers.

    Parameters
    ----------
    board : SummaryWriter
    epoch : int
    pooled : ndarray of int, shape (2, STEPS + 1)
        Validation images by whether they show what is sought, and by its probability.
    images : ndarray of float32, shape (n, size, size, bands)
        Normalised.
    bands : sequence of str
    named : sequence of (str, str, str, float)
        Of each image: its id, its class, the class that was answered, and how probable that is.
    """
    add_curve(board, pooled, epoch)
    for image, (name, truth, answer, sure) in zip(images, named, strict=True):
        picture = np.rint(255 * _colours(image, bands)).astype(np.uint8)
        picture = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
        right = truth == answer
        cv2.rectangle(picture, (0, 0), (_SIDE - 1, _SIDE - 1), _RIGHT if right else _WRONG, 4)
        words = f"{truth} {100 * sure:.0f} %" if right else f"{truth} as {answer} {100 * sure:.0f} %"
        strip = np.full((_WORDS, _SIDE, 3), 255, np.uint8)
        cv2.putText(strip, words, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        board.add_image(f"validation/{name}", np.vstack([picture, strip]), epoch, dataformats="HWC")
    board.flush()


def _colours(image: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """Picture from 0 to 1 of a normalised image (h, w, bands): its colours, or its first band where it has none."""
    at = [bands.index(band) if band in bands else 0 for band in ("red", "green", "blue")]
    return np.clip(image[:, :, at].astype(np.float32) / 5 + 0.4, 0, 1)
