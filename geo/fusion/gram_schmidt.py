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

from geo.fusion import register
from geo.fusion.gsa import injection_gains
from geo.fusion.statistics import Statistics


@register("gs")
def gram_schmidt(mss: np.ndarray, pan: np.ndarray, pan_low: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Sharpen a window; see ``geo.fusion.Fuse``."""
    weights = np.full(len(mss), 1 / len(mss))
    intensity = np.tensordot(weights.astype(np.float32), mss, 1)  # (1)
    variance = float(weights @ statistics.mss_covariance @ weights)
    scale = np.sqrt(variance / statistics.pan_variance) if statistics.pan_variance > 0 else 0.0
    level = weights @ statistics.mss_mean - scale * statistics.pan_mean
    matched = pan * np.float32(scale) + np.float32(level)  # (2)
    gains = injection_gains(statistics, weights).astype(np.float32)  # (3)
    return mss + gains[:, None, None] * (matched - intensity)  # (4)
