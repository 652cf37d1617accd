"""Universal image quality of blocks of an image, of one band (Q) and of all as hypercomplex numbers (Q2n).

Both follow from the means and covariances of the bands in each block, which are taken once::

    Q   = 2 cov(x, y) / (var x + var y)  *  2 mx my / (mx^2 + my^2)                                (1)
    Q2n = 2 |cov(z, w)| / (var z + var w)  *  2 |mz| |mw| / (|mz|^2 + |mw|^2)                      (2)

with hypercomplex ``z`` and ``w`` whose components are the bands, and ``cov(z, w) = mean(z w*) - mz mw*``.

References
----------
(1) Wang & Bovik 2002, A universal image quality index, IEEE Signal Processing Letters 9(3), 81-84. (2) Alparone et
al. 2004, A global quality measurement of pan-sharpened multispectral imagery, IEEE Geoscience and Remote Sensing
Letters 1(4), 313-317; Garzelli & Nencini 2009, Hypercomplex quality assessment of multi/hyperspectral images, IEEE
Geoscience and Remote Sensing Letters 6(4), 662-665.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np

#: Share of a block's pixels that must be good.
_SHARE = 0.5
#: A channel whose deviation in a block is less than this part of its mean is flat; what is left is rounding.
_FLAT = 1e-9


@dataclass(frozen=True)
class Tally:
    """A sum and what it is a sum of; tallies of windows add up to that of the scene."""

    total: np.ndarray | float = 0.0
    count: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> np.ndarray:
        """Total by count; NaN where nothing was counted."""
        return np.asarray(self.total, float) / self.count if self.count else np.full(np.shape(self.total), np.nan)


@dataclass(frozen=True)
class Blocks:
    """Moments of channels in blocks: mean (blocks, channels), covariance (blocks, channels, channels)."""

    count: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, channels: np.ndarray, good: np.ndarray, size: int) -> Self:
        """Take the moments of blocks of this side; ragged and holey ones count where half of their pixels are good.

        Parameters
        ----------
        channels : ndarray of float, shape (channels, height, width)
        good : ndarray of bool, shape (height, width)
        size : int
        """
        height, width = (-(-side // size) * size for side in good.shape)
        whole = np.zeros((len(channels) + 1, height, width))
        at = (slice(None), slice(good.shape[0]), slice(good.shape[1]))
        whole[at] = np.where(good, np.concatenate([channels, np.ones((1, *good.shape))]), 0)
        cut = whole.reshape(-1, height // size, size, width // size, size).transpose(1, 3, 0, 2, 4)
        cut = cut.reshape(-1, len(channels) + 1, size * size)
        count = cut[:, -1].sum(axis=1)
        enough = count >= max(_SHARE * size * size, 2)
        cut, count = cut[enough], count[enough]
        mean = cut[:, :-1].sum(axis=2) / count[:, None]
        centred = (cut[:, :-1] - mean[:, :, None]) * cut[:, -1:]
        covariance = centred @ centred.transpose(0, 2, 1) / count[:, None, None]
        flat = np.diagonal(covariance, axis1=1, axis2=2) <= (_FLAT * mean) ** 2
        covariance[flat[:, :, None] | flat[:, None, :]] = 0
        return cls(count, mean, covariance)

    def quality(self, first: Sequence[int], second: Sequence[int]) -> Tally:
        """Sum (1) over blocks for pairs of channels, shape (pairs,)."""
        i, j = list(first), list(second)
        variances = self.covariance[:, i, i] + self.covariance[:, j, j]
        x, y = self.mean[:, i], self.mean[:, j]
        # where both are flat only their means are compared, where both means are 0 only their structure
        structure = _ratio(2 * self.covariance[:, i, j], variances)
        return Tally((structure * _ratio(2 * x * y, x * x + y * y)).sum(axis=0), float(len(self.count)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.ones_like(above), where=below > 0)


def hypercomplex(blocks: Blocks, bands: int, normalise: bool) -> Tally:
    """Sum (2) over blocks.

    The product of hypercomplex numbers is linear in both, so its mean follows from the covariances of the bands.

    Parameters
    ----------
    blocks : Blocks
        Channels are the reference's bands, then as many of the fused image.
    bands : int
    normalise : bool
        First put each band on one scale: by the reference's mean and sample deviation in the block, moved to 1.
    """
    mean, covariance = blocks.mean, blocks.covariance
    if normalise:
        variance = np.diagonal(covariance, axis1=1, axis2=2)[:, :bands]
        spread = np.sqrt(variance * (blocks.count / (blocks.count - 1))[:, None])
        spread = np.tile(np.where(spread > 0, spread, 1), 2)
        mean = (mean - np.tile(mean[:, :bands], 2)) / spread + 1
        covariance = covariance / spread[:, :, None] / spread[:, None, :]
    cross = covariance[:, :bands, bands:]
    table = _conjugate_product(1 << (bands - 1).bit_length())[:, :bands, :bands]
    together = np.linalg.norm(np.einsum("kij,nij->nk", table, cross), axis=1)
    apart = np.trace(covariance, axis1=1, axis2=2)
    x, y = np.linalg.norm(mean[:, :bands], axis=1), np.linalg.norm(mean[:, bands:], axis=1)
    return Tally(float((_ratio(2 * together, apart) * _ratio(2 * x * y, x * x + y * y)).sum()), float(len(x)))


@cache
def _conjugate_product(size: int) -> np.ndarray:
    """Table ``t`` of ``(z w*)_k = sum_ij t_kij z_i w_j`` for complex numbers, quaternions, octonions and so on."""
    unit = np.eye(size)
    conjugate = np.concatenate([unit[:, :1], -unit[:, 1:]], axis=1)
    return np.array([[_multiply(z, w) for w in conjugate] for z in unit]).transpose(2, 0, 1)


def _multiply(z: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Product by the doubling of Cayley and Dickson: ``(a, b) (c, d) = (a c - d* b, d a + b c*)``."""
    if len(z) == 1:
        return z * w
    (a, b), (c, d) = np.split(z, 2), np.split(w, 2)
    return np.concatenate([_multiply(a, c) - _multiply(_star(d), b), _multiply(d, a) + _multiply(b, _star(c))])


def _star(z: np.ndarray) -> np.ndarray:
    return np.concatenate([z[:1], -z[1:]])
