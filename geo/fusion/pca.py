"""Principal components: PAN takes the place of the first component of the bands.

With interpolated bands ``M_b`` of means ``m_b``, the first eigenvector ``v`` of their covariance, its sign so that
the component rises with PAN, and PAN ``P`` of mean ``m_P``, blurred to the sharpness of MSS ``P_L``::

    PC1 = sum_b v_b (M_b - m_b)                         (1)
    P'  = (P - m_P) sd(PC1) / sd(P_L)                   (2)
    F_b = M_b + v_b (P' - PC1)                          (3)

References
----------
Chavez & Kwarteng 1989, Extracting spectral contrast in Landsat Thematic Mapper image data using selective principal
component analysis, Photogrammetric Engineering and Remote Sensing 55(3), 339-348: the substitution, whose inverse
transform is (3), as ``v`` has length 1. PAN is matched in mean and deviation, the latter taken of blurred PAN as in
Vivone et al. 2015, A critical comparison among pansharpening algorithms, IEEE Transactions on Geoscience and Remote
Sensing 53(5), 2565-2586. Equations are numbered as above.
"""

from __future__ import annotations

import numpy as np

from geo.fusion import register_injection
from geo.fusion.gram_schmidt import matched
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics


@register_injection("pca")
def pca(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    vector, scale = first_component(statistics)
    return matched(vector, float(vector @ statistics.mss_mean), scale, statistics.pan_mean, vector)  # (1) to (3)


def first_component(statistics: Statistics) -> tuple[np.ndarray, float]:
    """Eigenvector ``v``, shape (bands,), and the factor of (2).

    A scene without contrast has none: then both are 0, and nothing is injected.
    """
    values, vectors = np.linalg.eigh(statistics.mss_covariance)
    vector, variance = vectors[:, -1], statistics.pan_variance
    if not (values[-1] > 0 and variance > 0):
        return np.zeros_like(vector), 0.0
    if vector @ statistics.pan_covariance < 0:
        vector = -vector
    return vector, float(np.sqrt(values[-1] / variance))
