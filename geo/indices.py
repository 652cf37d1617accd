"""Spectral indices of named bands, one truth for attributes of polygons and for bands of a stack."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

#: Bands ``(a, b)`` of ``(a - b) / (a + b)``: vegetation (Rouse 1973) and open water (McFeeters 1996).
DIFFERENCES = {"ndvi": ("nir", "red"), "ndwi": ("green", "nir")}
VISIBLE = ("blue", "green", "red")


def normalised_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Normalised difference ``(a - b) / (a + b)``; NaN where their sum is not positive, as in dark and negative pixels.

    Parameters
    ----------
    a, b : ndarray of float
        Reflectance.

    Returns
    -------
    ndarray, same shape and dtype
    """
    total = a + b
    with np.errstate(invalid="ignore"):
        good = total > 0
        return np.where(good, (a - b) / np.where(good, total, 1), np.nan)


def brightness(bands: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean of those visible bands that are there.

    Parameters
    ----------
    bands : mapping of str to ndarray
        One of ``VISIBLE`` at least.
    """
    visible = [bands[name] for name in VISIBLE if name in bands]
    return np.stack(visible).mean(axis=0, dtype=np.float64)
