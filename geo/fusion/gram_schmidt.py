"""Gram-Schmidt: what PAN shows beyond the mean of the bands is added to every band by its gain.

With interpolated bands ``M_b``, their number ``N``, PAN ``P`` of mean ``m_P``, blurred to the sharpness of MSS
``P_L``::

    I   = (1 / N) sum_b M_b                             (1)
    P'  = (P - m_P) sd(I) / sd(P_L) + mean(I)           (2)
    g_b = cov(M_b, I) / var(I)                          (3)
    F_b = M_b + g_b (P' - I)                            (4)

References
----------
Laben & Brower 2000, Process for enhancing the spatial resolution of multispectral imagery using pan-sharpening, US
patent 6,011,875: mode 1, in which the low resolution PAN is the mean of the bands. That its transform amounts to the
gains (3) is shown by Aiazzi, Baronti & Selva 2007, IEEE Transactions on Geoscience and Remote Sensing 45(10),
3230-3239. Equations are numbered as above.
"""

from __future__ import annotations

import numpy as np

from geo.fusion import register_injection
from geo.fusion.gsa import injection_gains
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics


@register_injection("gs")
def gram_schmidt(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    weights = np.full(len(statistics.mss_mean), 1 / len(statistics.mss_mean))  # (1)
    variance = float(weights @ statistics.mss_covariance @ weights)
    scale = np.sqrt(variance / statistics.pan_variance) if statistics.pan_variance > 0 else 0.0
    gains = injection_gains(statistics, weights)  # (3)
    return matched(weights, float(weights @ statistics.mss_mean), scale, statistics.pan_mean, gains)  # (2), (4)


def matched(weights: np.ndarray, mean: float, scale: float, pan_mean: float, gains: np.ndarray) -> Injection:
    """Injection of a component ``I = w . M`` with PAN matched to it, ``F_b = M_b + g_b ((P - mP) s + mean - I)``.

    Divided by ``s``, it is PAN that the component is matched to. A PAN without contrast (``s = 0``) gives nothing.
    """
    if not scale:
        return Injection(weights, 0.0, np.zeros_like(gains))
    return Injection(weights / scale, pan_mean - mean / scale, gains * scale)
