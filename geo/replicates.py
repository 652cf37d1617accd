"""Intervals from the replicates of a bootstrap, of blocks of ground as of whole images."""

from __future__ import annotations

import numpy as np

#: Numbers that are held at once while replicates are computed.
CHUNK = 4_000_000
#: Replicates in which a score has no denominator are passed over, unless they are more than this share.
_UNDEFINED = 0.1

Interval = list[float] | None


def percentile_interval(replicates: np.ndarray, level: float) -> Interval:
    """Percentile interval of replicates; None where the score is often not defined.

    Parameters
    ----------
    replicates : ndarray, shape (n,)
        NaN where the score has no denominator.
    level : float
        Share of the replicates inside.
    """
    good = replicates[np.isfinite(replicates)]
    if len(good) < (1 - _UNDEFINED) * max(1, len(replicates)):
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(good, [tail, 1 - tail])
    return [float(low), float(high)]
