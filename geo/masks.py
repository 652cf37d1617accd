"""Quality: which pixels are good, and why others are not.

Every product of the chain may have a quality raster beside it, ``<name>.quality.tif``: one band of bit flags
on the same grid. ``valid`` is always True where data is good.
"""

from __future__ import annotations

import os
from enum import IntFlag
from pathlib import Path

import numpy as np

from geo.raster import Encoding


class Quality(IntFlag):
    """Bits of the quality band; 0 is a pixel without blemish."""

    NODATA = 1
    SATURATED = 2
    CLOUD = 4
    SHADOW = 8
    NEGATIVE = 16


#: Ground that these flags cover was not seen. Saturated and negative pixels are seen, with a doubt.
UNSEEN = Quality.NODATA | Quality.CLOUD | Quality.SHADOW
#: What tells nothing of where the ground lies or how bright it is: also the flat tops of saturated pixels.
UNMEASURED = UNSEEN | Quality.SATURATED

QUALITY = Encoding("uint8", nodata=None)


def quality_path(path: str | os.PathLike) -> Path:
    """Where the quality raster of a product lies: ``fused.tif`` -> ``fused.quality.tif``."""
    file = Path(path)
    return file.with_name(f"{file.stem}.quality.tif")


def seen(quality: np.ndarray) -> np.ndarray:
    """Tell where the ground was seen.

    Parameters
    ----------
    quality : ndarray of uint8
        Bit flags.

    Returns
    -------
    ndarray of bool, same shape
        True where none of the flags in ``UNSEEN`` is set.
    """
    return (quality & int(UNSEEN)) == 0


def measured(quality: np.ndarray) -> np.ndarray:
    """Tell where the ground was seen and its brightness measured, as tie points and statistics need it.

    Parameters
    ----------
    quality : ndarray of uint8
        Bit flags.

    Returns
    -------
    ndarray of bool, same shape
        True where none of the flags in ``UNMEASURED`` is set.
    """
    return (quality & int(UNMEASURED)) == 0
