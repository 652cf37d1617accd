"""MTF-GLP: a level of the generalised Laplacian pyramid of PAN, made with the MTF of MSS, is injected in every band.

With interpolated bands ``M_b``, PAN ``P``, and PAN blurred by the MTF of MSS, sampled at MSS's pixels and interpolated
as MSS is ``P_L``::

    mtf-glp      F_b = M_b + sd(M_b) / sd(P_L) (P - P_L)                (1)
    mtf-glp-cbd  F_b = M_b + cov(M_b, P_L) / var(P_L) (P - P_L)         (2)
    mtf-glp-hpm  F_b = M_b P / P_L                                      (3)

References
----------
Aiazzi, Alparone, Baronti & Garzelli 2002, Context-driven fusion of high spatial and spectral resolution images based
on oversampled multiresolution analysis, IEEE Transactions on Geoscience and Remote Sensing 40(10), 2300-2312: the
pyramid, and the context-based decision, whose gain over the whole scene is (2). Aiazzi, Alparone, Baronti, Garzelli &
Selva 2006, MTF-tailored multiscale fusion of high-resolution MS and Pan imagery, Photogrammetric Engineering and Remote
Sensing 72(5), 591-596: the filter. (1) matches PAN to the band in mean and deviation, as in Vivone et al. 2015, IEEE
Transactions on Geoscience and Remote Sensing 53(5), 2565-2586. Vivone, Restaino, Dalla Mura, Licciardi & Chanussot
2014, Contrast and error-based fusion schemes for multispectral image pansharpening, IEEE Geoscience and Remote Sensing
Letters 11(5), 930-934: high-pass modulation (3). Interpolation is cubic instead of their 23 coefficients, which need a
ratio of a power of two and grids without a displacement. Equations are numbered as above.
"""

from __future__ import annotations

import numpy as np

from geo.fusion import floor_of, low, register_injection
from geo.fusion.hpf import contrasts
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics


@register_injection("mtf-glp", low=low.pyramid, reach=low.pyramid_reach)
def mtf_glp(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    return Injection(gains=contrasts(statistics))  # (1)


@register_injection("mtf-glp-cbd", low=low.pyramid, reach=low.pyramid_reach)
def mtf_glp_cbd(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    return Injection(gains=slopes(statistics))  # (2)


@register_injection("mtf-glp-hpm", low=low.pyramid, reach=low.pyramid_reach)
def mtf_glp_hpm(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    return Injection(floor=floor_of(statistics.pan_mean))  # (3)


def slopes(statistics: Statistics) -> np.ndarray:
    """Slopes of the bands on blurred PAN, shape (bands,); 0 for a PAN without contrast."""
    variance = statistics.pan_variance
    return statistics.pan_covariance / variance if variance > 0 else np.zeros_like(statistics.pan_covariance)
