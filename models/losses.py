"""Losses of a landslide map: a term of each pixel plus 1 - Dice, blind to pixels without a label.

Li, Li and Ge 2023 print binary cross-entropy (without its minus sign, which is put back here) plus
``1 - Dice`` summed over the images; Yang et al. 2022 take the focal loss in place of the cross-entropy; networks for
cracks take cross-entropy alone.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from models.chips import IGNORE
from models.recipe import Loss


def loss(logits: torch.Tensor, labels: torch.Tensor, settings: Loss) -> torch.Tensor:
    """Compute the loss of a batch.

    Parameters
    ----------
    logits : tensor of float, shape (n, 1, h, w)
    labels : tensor of uint8, shape (n, h, w)
        1 landslide, 0 background, 255 ignored.
    settings : Loss

    Returns
    -------
    tensor, scalar
        0 (with a gradient of 0) where no pixel has a label.
    """
    logits = logits[:, 0].float()
    known = (labels != IGNORE).float()
    truth = (labels == 1).float()
    # what lies under ignored pixels must not reach the sums, not even as NaN x 0
    logits = torch.where(known > 0, logits, torch.zeros_like(logits))
    pixels = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if settings.name == "focal+dice":
        pixels = (1 - torch.exp(-pixels)) ** settings.focus * pixels
    pixels = pixels * (settings.landslide_weight * truth + settings.background_weight * (1 - truth))
    term = (pixels * known).sum((1, 2)) / known.sum((1, 2)).clamp(min=1)
    labelled = known.amax((1, 2))
    if settings.name != "cross-entropy":
        term = term + 1 - dice(torch.sigmoid(logits) * known, truth, over_batch=settings.dice == "batch")
    each = term * labelled
    return each.sum() if settings.reduction == "sum" else each.sum() / labelled.sum().clamp(min=1)


def dice(probability: torch.Tensor, truth: torch.Tensor, *, over_batch: bool = False) -> torch.Tensor:
    """Dice coefficient 2 |X n Y| / (|X| + |Y|) of soft masks, with 1 added above and below.

    The added 1 makes an image without landslide, in which none is found, a perfect one.

    Parameters
    ----------
    probability, truth : tensor, shape (n, h, w)
        0 where the pixel is ignored.
    over_batch : bool
        Sum over all images together.

    Returns
    -------
    tensor, shape (n,)
    """
    overlap = (probability * truth).sum((1, 2))
    total = probability.sum((1, 2)) + truth.sum((1, 2))
    if over_batch:
        overlap, total = overlap.sum().expand_as(overlap), total.sum().expand_as(total)
    return (2 * overlap + 1) / (total + 1)
