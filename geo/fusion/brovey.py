"""Weighted Brovey transform: every band is scaled by PAN over a weighted intensity of the bands.

With interpolated bands ``M_b`` and PAN ``P``::

    I   = sum_b w_b M_b                 (1)
    F_b = M_b P / I                     (2)

References
----------
Gillespie, Kahle & Walker 1987, Color enhancement of highly correlated images II: channel ratio and
"chromaticity" transformation techniques, Remote Sensing of Environment 22, 343-365: the ratio. The weights are
those with which the bands give PAN best in the least squares sense, none negative, so that bands outside PAN's
spectral range have no say and ``I`` has PAN's unit and level. Equations are numbered as above.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from geo.fusion import floor_of, modulate, register, weighted
from geo.fusion.statistics import Statistics


@register("brovey")
def brovey(mss: np.ndarray, pan: np.ndarray, pan_low: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Sharpen a window; see ``geo.fusion.Fuse``."""
    weights = intensity_weights(statistics)
    intensity = weighted(mss, weights)  # (1)
    return modulate(mss, pan, intensity, floor_of(weights @ statistics.mss_mean))  # (2)


def intensity_weights(statistics: Statistics) -> np.ndarray:
    """Weights ``w_b >= 0`` of (1), by least squares without a constant.

    Parameters
    ----------
    statistics : Statistics

    Returns
    -------
    ndarray of float64, shape (bands,)
        All equal, and so that the means agree, where no positive combination gives PAN.
    """
    # a square root R of the moments, R'R = S, has the same least squares problem as all the pixels
    values, vectors = np.linalg.eigh(statistics.second_moments)
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    weights, _ = nnls(root[:, :-1], root[:, -1])
    if weights @ statistics.mss_mean > 0:
        return weights
    total = statistics.mss_mean.sum()
    return np.full(len(weights), statistics.pan_mean / total if total else 1 / len(weights))
