"""Networks computed in bfloat16, for GPUs and processors that multiply its matrices.

Weights stay float32; convolutions and products are computed in bfloat16, which has the range of float32 and three
digits, and everything that needs more stays float32 (PyTorch's autocast).
"""

from __future__ import annotations

import torch

from models.labeller import Labeller


class Bfloat16(Labeller):
    """A network whose layers are computed in bfloat16 wherever it stands.

    Parameters
    ----------
    network : Labeller
        Given as it is to the device that the whole is moved to.
    """

    def __init__(self, network: Labeller):
        super().__init__()
        self.network = network
        self.stride, self.reach, self.global_context = network.stride, network.reach, network.global_context

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` in float32 of ``(n, bands, h, w)``."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            return self.network(images).float()
