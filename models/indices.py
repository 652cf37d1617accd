"""Indices of bands as further features of a pixel: ratios of weighted sums of reflectance.

Networks get normalised bands; a ratio needs the physical values, so the mean and spread of the training are kept
beside the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from geo.errors import ModelError, unknown_name
from geo.indices import DIFFERENCES

#: Weights of the bands above and below the line.
INDICES: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    **{name: ({a: 1, b: -1}, {a: 1, b: 1}) for name, (a, b) in DIFFERENCES.items()},
    "bare": ({"red": 1, "blue": -1}, {"red": 1, "blue": 1}),  # bare ground is redder than plants and water
    "excess-green": ({"green": 2, "red": -1, "blue": -1}, {"red": 1, "green": 1, "blue": 1}),
    "green-red": ({"green": 1, "red": -1}, {"green": 1, "red": 1}),
}
#: Values beyond are those of dark or negative pixels, where a ratio tells nothing.
_LIMIT = 4.0


def resolve(wanted: Sequence[str], bands: Sequence[str]) -> list[str]:
    """Names of the indices to compute; ``auto`` stands for all whose bands are there.

    Raises
    ------
    ModelError
        An unknown index, or one whose bands are missing.
    """
    there = {band.lower() for band in bands}
    found: list[str] = []
    for name in wanted:
        if name == "auto":
            found += [index for index, (_, below) in INDICES.items() if below.keys() <= there]
            continue
        if name not in INDICES:
            raise ModelError(unknown_name("index", name, ["auto", *INDICES]))
        missing = [band for band in INDICES[name][1] if band not in there]
        if missing:
            raise ModelError(
                f"the index '{name}' needs the band {missing[0]}, the chips have {', '.join(bands)}; "
                "leave it out of the recipe's indices, or take auto"
            )
        found.append(name)
    return list(dict.fromkeys(found))


class Features(nn.Module):
    """Normalised bands of pixels, and after them indices of their physical values.

    Parameters
    ----------
    bands : int
    indices : int
        Their number; what they are is set by ``of`` or read from a file.
    """

    centre: torch.Tensor
    spread: torch.Tensor
    above: torch.Tensor
    below: torch.Tensor

    def __init__(self, bands: int, indices: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(bands))
        self.register_buffer("spread", torch.ones(bands))
        self.register_buffer("above", torch.zeros(bands, indices))
        self.register_buffer("below", torch.ones(bands, indices))

    @classmethod
    def of(cls, names: Sequence[str], bands: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> Features:
        """Features of named indices of named bands, with the mean and spread by which bands are normalised."""
        made = cls(len(bands), len(names))
        made.centre.copy_(torch.tensor(mean))
        made.spread.copy_(torch.tensor(std))
        for column, name in enumerate(names):
            for target, weights in zip((made.above, made.below), INDICES[name], strict=True):
                target[:, column] = torch.tensor([weights.get(band.lower(), 0.0) for band in bands])
        return made

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(n, bands)`` normalised -> ``(n, bands + indices)``; an index of nothing by nothing is 0."""
        if not self.above.shape[1]:
            return pixels
        values = pixels * self.spread + self.centre
        above, below = values @ self.above, values @ self.below
        good = below.abs() > 1e-6
        ratio = torch.where(good, above / torch.where(good, below, torch.ones_like(below)), torch.zeros_like(above))
        return torch.cat([pixels, ratio.clamp(-_LIMIT, _LIMIT)], dim=1)
