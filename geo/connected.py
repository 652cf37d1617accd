"""What belongs together when only neighbours are known."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def united(number: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Set to which each of ``number`` items belongs when the pairs ``(a, b)`` are united; sets count from 0."""
    if not number:
        return np.empty(0, np.int64)
    pairs = coo_array((np.ones(len(a), bool), (a, b)), shape=(number, number))
    return connected_components(pairs, directed=False)[1].astype(np.int64)
