"""Run a network over chips and count what it finds."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from geo.stream import stream
from models import metrics
from models.dataset import FittedChips


@torch.inference_mode()
def evaluate(module: nn.Module, chips: FittedChips, device: torch.device, *, batch: int = 8) -> np.ndarray:
    """Count pixels by class and probability, each chip at its own size.

    Parameters
    ----------
    module : nn.Module
        Normalised ``(n, bands, h, w)`` -> logits.
    chips : FittedChips
    device : torch.device
    batch : int
        Chips that go through together, where they are fitted to one size.

    Returns
    -------
    ndarray of int64, shape (chips, 2, metrics.STEPS + 1)
    """
    if chips.size is None:
        batch = 1
    groups = [range(i, min(i + batch, len(chips))) for i in range(0, len(chips), batch)]
    module.eval()
    counted = []
    for _, fitted in stream(lambda group: [chips[i] for i in group], groups, workers=1):
        images = torch.from_numpy(np.stack([chip.image for chip in fitted])).float().permute(0, 3, 1, 2)
        probability = torch.sigmoid(module(images.to(device))[:, 0].float()).cpu().numpy()
        counted += [metrics.histogram(fitted[i].at_own_size(p), fitted[i].own_label) for i, p in enumerate(probability)]
    return np.stack(counted) if counted else np.zeros((0, 2, metrics.STEPS + 1), dtype=np.int64)
