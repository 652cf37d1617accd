"""Values far from those that a model was trained on: often they have other units."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np

from models.chips import BandStatistics

log = logging.getLogger(__name__)

#: Bands further from what the model was trained on, in standard deviations, are told.
_FAR = 4.0
#: Bands with another mean whose spread differs by this factor have other units as well.
_OTHER_SPREAD = 20.0


def warn_of_other_values(
    statistics: BandStatistics,
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    where: str | os.PathLike,
) -> None:
    """Say which bands have values far from those that a model was trained on.

    Parameters
    ----------
    statistics : BandStatistics
        Of what the model is asked about.
    bands : sequence of str
    mean, std : sequence of float
        Of each band in training.
    where : str or path
        What the model is asked about, for the warning.
    """
    if not statistics.count:
        return
    apart, ratio = np.abs(statistics.mean - np.asarray(mean)), statistics.std / np.maximum(np.asarray(std), 1e-12)
    # reflectance lies within two deviations of digital numbers' mean, which start at 0 too: their spread tells
    other_spread = (ratio < 1 / _OTHER_SPREAD) | (ratio > _OTHER_SPREAD)
    far = (apart > _FAR * np.asarray(std)) | (other_spread & (apart > np.asarray(std)))
    if far.any():
        shown = ", ".join(
            f"{band} {here:.4g} (training {there:.4g} +- {spread:.4g})"
            for band, here, there, spread, bad in zip(bands, statistics.mean, mean, std, far, strict=True)
            if bad
        )
        log.warning(
            "%s has other values than the model was trained on, on average %s: is one in digital numbers and the other "
            "in reflectance?",
            where,
            shown,
        )
