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

from geo.fusion import floor_of, register_injection
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics


@register_injection("brovey")
def brovey(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    weights = intensity_weights(statistics)
    return Injection(weights, floor=floor_of(weights @ statistics.mss_mean))  # (1), (2)


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
    moments = statistics.second_moments
    weights = nonnegative(moments[:-1, :-1], moments[:-1, -1])
    if weights @ statistics.mss_mean > 0:
        return weights
    total = statistics.mss_mean.sum()
    return np.full(len(weights), statistics.pan_mean / total if total else 1 / len(weights))


def nonnegative(products: np.ndarray, with_target: np.ndarray) -> np.ndarray:
    """Solve a least squares problem for unknowns that are not negative, from its normal equations.

    Written out because the few numbers of a scene do not repay the import of an optimiser.

    Parameters
    ----------
    products : ndarray of float64, shape (n, n)
        Of the unknowns' columns with each other.
    with_target : ndarray of float64, shape (n,)
        Of the columns with the target.

    References
    ----------
    Lawson & Hanson 1974, Solving least squares problems, chapter 23; on normal equations Bro & de Jong 1997, A fast
    non-negativity-constrained least squares algorithm, Journal of Chemometrics 11(5), 393-401.
    """
    weights, active = np.zeros(len(with_target)), np.zeros(len(with_target), bool)
    tolerance = 1e-10 * max(np.abs(with_target).max(), np.finfo(float).tiny)
    for _ in range(10 * len(weights)):
        pull = np.where(active, -np.inf, with_target - products @ weights)
        if pull.max() <= tolerance:
            break
        active[pull.argmax()] = True
        while True:
            wanted = np.zeros_like(weights)
            wanted[active] = np.linalg.pinv(products[np.ix_(active, active)], hermitian=True) @ with_target[active]
            if (wanted[active] > 0).all():
                break
            # go as far as all stay positive, and let go of those that reached zero
            falling = active & (wanted <= 0)
            step = (weights[falling] / (weights[falling] - wanted[falling])).min()
            weights = weights + step * (wanted - weights)
            active &= weights > 1e-12 * max(weights.max(), np.finfo(float).tiny)
            weights[~active] = 0
            if not active.any():
                return weights
        weights = wanted
    return weights
