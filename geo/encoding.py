"""How physical values lie on disk: scaled integers with a number for nodata, or floating point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Integers that the compiled loops know; others go through NumPy, with the same result.
COMPILED = ("uint8", "uint16", "int16")


@dataclass(frozen=True)
class Encoding:
    """How physical values lie on disk: ``value = stored * scale + offset``, ``nodata`` where not valid."""

    dtype: str
    nodata: float | None
    scale: float = 1.0
    offset: float = 0.0

    def encode(self, values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Turn values into the numbers on disk; values beyond the range are clipped, not wrapped.

        Parameters
        ----------
        values : ndarray of float
            Physical values; NaN is not valid.
        valid : ndarray of bool, optional
            Broadcast to ``values``.

        Returns
        -------
        ndarray of ``dtype``
        """
        if values.dtype == np.float32 and self.dtype in COMPILED and values.ndim >= 2:
            return self._encode_compiled(values, valid)
        good = np.isfinite(values)
        if valid is not None:
            good &= valid
        if np.issubdtype(self.dtype, np.floating):
            fill = np.nan if self.nodata is None else self.nodata
            return np.where(good, values, fill).astype(self.dtype)
        low, high = self.limits
        stored = np.rint((np.where(good, values, 0.0) - self.offset) / self.scale)
        stored = np.clip(stored, low, high)
        return np.where(good, stored, 0 if self.nodata is None else self.nodata).astype(self.dtype)

    def decode(self, stored: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Turn numbers on disk into physical values, float32; NaN where nodata in any band, or not valid.

        Parameters
        ----------
        stored : ndarray of ``dtype``, shape (bands, height, width)
        valid : ndarray of bool, shape (height, width), optional
        """
        good = np.isfinite(stored).all(axis=0) if np.issubdtype(self.dtype, np.floating) else None
        if good is None:
            good = np.ones(stored.shape[1:], bool)
            if self.nodata is not None:
                for layer in stored:
                    good &= layer != self.nodata
        if valid is not None:
            good &= valid
        return physical(stored, good, [self.scale] * len(stored), [self.offset] * len(stored))

    @property
    def limits(self) -> tuple[int, int]:
        """Lowest and highest number that stand for values."""
        limits = np.iinfo(self.dtype)
        low, high = int(limits.min), int(limits.max)
        return low + (self.nodata == low), high - (self.nodata == high)

    def _encode_compiled(self, values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        from geo import kernels

        low, high = self.limits
        bands = values.reshape(-1, *values.shape[-2:])
        stored = np.empty(bands.shape, self.dtype)
        where = np.ones(1, bool) if valid is None else np.broadcast_to(valid, bands.shape[1:])
        kernels.encode(
            np.ascontiguousarray(bands).reshape(len(bands), -1),
            np.ascontiguousarray(where).ravel(),
            valid is None,
            np.float32(self.scale),
            np.float32(self.offset),
            np.float32(low),
            np.float32(high),
            np.dtype(self.dtype).type(0 if self.nodata is None else self.nodata),
            stored.reshape(len(bands), -1),
        )
        return stored.reshape(values.shape)


def physical(stored: np.ndarray, good: np.ndarray, scale: Sequence[float], offset: Sequence[float]) -> np.ndarray:
    """Compute ``stored * scale + offset`` of each band, float32; NaN where not good.

    Parameters
    ----------
    stored : ndarray, shape (bands, height, width)
    good : ndarray of bool, shape (height, width)
    scale, offset : sequence of float
        Of each band.
    """
    a, b = (np.array(numbers, np.float32) for numbers in (scale, offset))
    if stored.dtype.name not in COMPILED:
        return np.where(good, stored.astype(np.float32) * a[:, None, None] + b[:, None, None], np.float32(np.nan))
    from geo import kernels

    values = np.empty(stored.shape, np.float32)
    flat = np.ascontiguousarray(stored).reshape(len(stored), -1)
    kernels.decode(flat, np.ascontiguousarray(good).ravel(), a, b, values.reshape(len(stored), -1))
    return values


#: Reflectance as 1e-4 steps from -0.1: the negative values of dark ground stay, 0 is nodata.
REFLECTANCE = Encoding("uint16", nodata=0, scale=1e-4, offset=-0.1)
#: Probability in steps of 0.004: 0 is 0, 250 is 1, 255 is nodata.
PROBABILITY = Encoding("uint8", nodata=255, scale=0.004)
#: Probability without rounding.
PROBABILITY_FLOAT = Encoding("float32", nodata=float("nan"))
