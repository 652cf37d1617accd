"""What fusion methods must know of the whole scene: moments of MSS and blurred PAN, gathered by window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

#: A PAN whose deviation is less than this part of its mean is flat.
_FLAT = 1e-6


@dataclass(frozen=True)
class Statistics:
    """Joint moments of the MSS bands and of PAN blurred to their sharpness, on the MSS grid.

    Attributes
    ----------
    count : int
        Pixels that were good in both.
    mean : ndarray of float64, shape (bands + 1,)
        MSS bands, then PAN.
    covariance : ndarray of float64, shape (bands + 1, bands + 1)
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def gather(cls, windows: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Self:
        """Moments of all windows, merged pairwise so that no sum loses digits.

        Parameters
        ----------
        windows : iterable of (pan_low, mss, valid)
            PAN blurred and sampled on the MSS grid, shape (height, width); MSS, shape (bands, height, width);
            bool, True where both are good.

        References
        ----------
        Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
        """
        count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
        for pan_low, mss, valid in windows:
            everywhere = bool(valid.all())  # then there is nothing to pick, which takes longer than all the rest
            samples = np.empty((len(mss) + 1, valid.size if everywhere else np.count_nonzero(valid)))
            for row, layer in zip(samples, (*mss, pan_low), strict=True):
                row[:] = layer.ravel() if everywhere else layer[valid]
            if not count:
                mean, scatter = np.zeros(len(samples)), np.zeros((len(samples), len(samples)))
            new = samples.shape[1]
            if not new:
                continue
            new_mean = samples.mean(axis=1)
            samples -= new_mean[:, None]
            step = new_mean - mean
            scatter += samples @ samples.T + np.outer(step, step) * (count * new / (count + new))
            mean = mean + step * (new / (count + new))
            count += new
        return cls(count, mean, scatter / max(count, 1))

    @property
    def mss_mean(self) -> np.ndarray:
        """Means of the MSS bands, shape (bands,)."""
        return self.mean[:-1]

    @property
    def pan_mean(self) -> float:
        """Mean of blurred PAN."""
        return float(self.mean[-1])

    @property
    def pan_variance(self) -> float:
        """Variance of blurred PAN; 0 where it is no more than rounding leaves of a constant."""
        variance = float(self.covariance[-1, -1])
        return variance if variance > (_FLAT * self.pan_mean) ** 2 else 0.0

    @property
    def mss_covariance(self) -> np.ndarray:
        """Covariance of the MSS bands, shape (bands, bands)."""
        return self.covariance[:-1, :-1]

    @property
    def pan_covariance(self) -> np.ndarray:
        """Covariance of each MSS band with blurred PAN, shape (bands,)."""
        return self.covariance[:-1, -1]

    def ordered(self, bands: Sequence[int]) -> Self:
        """Give the same with the MSS bands in this order, or with these alone."""
        index = [*bands, len(self.mean) - 1]
        return type(self)(self.count, self.mean[index], self.covariance[np.ix_(index, index)])

    @property
    def second_moments(self) -> np.ndarray:
        """Means of products of bands, shape (bands + 1, bands + 1)."""
        return self.covariance + np.outer(self.mean, self.mean)
