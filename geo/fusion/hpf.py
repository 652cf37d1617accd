"""High-pass filtering: what a mean filter takes away from PAN is added to every band.

With interpolated bands ``M_b``, PAN ``P`` and its mean ``P_L`` in a square of about 1.75 MSS pixels::

    F_b = M_b + g_b (P - P_L)                           (1)
    g_b = sd(M_b) / sd(P_L)                             (2)

References
----------
Chavez, Sides & Anderson 1991, Comparison of three different methods to merge multiresolution and multispectral data:
Landsat TM and SPOT panchromatic, Photogrammetric Engineering and Remote Sensing 57(3), 295-303: the addition, with
5 x 5 pixels for a ratio of 3, from which the size for other ratios follows (``geo.fusion.low.box_side``). Gangkofner,
Pradhan & Holcomb 2008, Optimizing the high-pass filter addition technique for image fusion, Photogrammetric Engineering
and Remote Sensing 74(9), 1107-1118: the weight (2), their modulation factor left at 1, which gives the detail the
contrast of the band; without it reflectance of one band would get the contrast of another. Equations are numbered as
above.
"""

from __future__ import annotations

import numpy as np

from geo.fusion import low, register_injection
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics


@register_injection("hpf", low=low.box, reach=low.box_reach)
def hpf(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    return Injection(gains=contrasts(statistics))  # (1), (2)


def contrasts(statistics: Statistics) -> np.ndarray:
    """Deviations of the bands by that of blurred PAN, shape (bands,); 0 for a PAN without contrast."""
    deviations = np.sqrt(np.maximum(np.diagonal(statistics.mss_covariance), 0))
    variance = statistics.pan_variance
    return deviations / np.sqrt(variance) if variance > 0 else np.zeros_like(deviations)
