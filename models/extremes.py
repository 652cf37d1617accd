"""Pixels that no image of the ground holds: one of 1e30 takes a band's mean and deviation with it, and so the band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geo.errors import RasterError

#: Quantiles between which most values of a band lie.
MOST = (0.02, 0.98)
#: A value further from them than so many times their distance is no measurement: 16 bits hardly reach a tenth of it.
_FAR = 1e4
#: Where most values are one, as in rare masks, only values beyond this are absurd.
_HUGE = 1e9


class Extremes:
    """Lowest and highest value of each band, with the image that holds it."""

    def __init__(self) -> None:
        self._low: list[tuple[float, str]] = []
        self._high: list[tuple[float, str]] = []

    def add(self, values: np.ndarray, good: np.ndarray, name: str) -> None:
        """Look at the good pixels (height, width) of values (bands, height, width) of an image."""
        pixels = values[:, good]
        if not pixels.shape[1]:
            return
        low = [(float(value), name) for value in pixels.min(axis=1)]
        high = [(float(value), name) for value in pixels.max(axis=1)]
        self._low = [min(pair) for pair in zip(self._low, low, strict=True)] if self._low else low
        self._high = [max(pair) for pair in zip(self._high, high, strict=True)] if self._high else high

    def check(self, bands: Sequence[str], low: np.ndarray, high: np.ndarray) -> None:
        """Raise where a band holds a value far beyond those between which most of it lies.

        Parameters
        ----------
        bands : sequence of str
        low, high : ndarray, shape (bands,)
            The quantiles ``MOST``.

        Raises
        ------
        RasterError
            With the image that holds it.
        """
        for band, least, most, lowest, highest in zip(bands, low, high, self._low, self._high, strict=True):
            reach = _FAR * (most - least) if most > least else _HUGE
            for beyond, (value, name) in ((least - lowest[0], lowest), (highest[0] - most, highest)):
                if beyond > reach:
                    raise RasterError(
                        f"{name} holds the value {value:g} in the band {band}, of which most lie between {least:.4g} "
                        f"and {most:.4g}; one such pixel hides the whole band: declare it as nodata, or mend the image"
                    )
