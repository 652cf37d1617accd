"""Adaptive Gram-Schmidt: what PAN shows beyond a regressed intensity is added to every band by its gain.

With interpolated bands ``M_b``, PAN ``P`` and PAN blurred to the sharpness of MSS ``P_L``::

    I   = w_0 + sum_b w_b M_b           (1)   w by regression of P_L on the bands at MSS resolution
    g_b = cov(M_b, I) / var(I)          (2)
    F_b = M_b + g_b (P - I)             (3)

References
----------
Aiazzi, Baronti & Selva 2007, Improving component substitution pansharpening through multivariate regression of
MS + Pan data, IEEE Transactions on Geoscience and Remote Sensing 45(10), 3230-3239: (1) with the gains (2) and
the injection (3) of Gram-Schmidt sharpening (Laben & Brower 2000, US patent 6,011,875). By its constant ``w_0``
the regression gives ``I`` the mean of PAN, so PAN needs no other matching. Equations are numbered as above.
"""

from __future__ import annotations

import numpy as np

from geo.fusion import register_injection
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics


@register_injection("gsa")
def gsa(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    weights, constant = regression(statistics)
    return Injection(weights, constant, injection_gains(statistics, weights))  # (1), (3)


def regression(statistics: Statistics) -> tuple[np.ndarray, float]:
    """Weights ``w_b``, shape (bands,), and constant ``w_0`` of (1).

    Bands that a scene cannot tell apart share their weight (pseudo-inverse).
    """
    inverse = np.linalg.pinv(statistics.mss_covariance, rcond=1e-6, hermitian=True)
    weights = inverse @ statistics.pan_covariance
    return weights, statistics.pan_mean - float(weights @ statistics.mss_mean)


def injection_gains(statistics: Statistics, weights: np.ndarray) -> np.ndarray:
    """Gains ``g_b`` of (2), shape (bands,); 0 where the bands or PAN have no contrast."""
    with_intensity = statistics.mss_covariance @ weights
    variance = float(weights @ with_intensity)
    contrast = variance > 0 and statistics.pan_variance > 0
    return with_intensity / variance if contrast else np.zeros_like(weights)
