"""GDAL's cache of blocks, no larger than what reading an image in windows needs.

GDAL fills its cache to the limit, whether any block of it is ever asked for again. Its blocks come from the heap that
a network's layers are taken from and given back to, so that they also keep holes between them: together they cost
more than the limit.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rasterio
from rasterio.env import get_gdal_config, set_gdal_config

from geo import GDAL_CACHE_MB

#: Below this nothing is won.
_LEAST = 16 * 2**20
#: The cache may grow to this where a single window would not fit in it, as in wide images stored in strips.
_MOST = 512 * 2**20
#: Blocks of other formats cannot be told from the outside (VRT), or are dear to decode (JPEG 2000).
_DRIVERS = ("GTiff",)

_lock = threading.Lock()
_needs: list[int] = []
_before = 0


def touched_bytes(src: rasterio.DatasetReader, height: int, width: int) -> int | None:
    """Bytes of the decoded blocks that one window lies in, at most.

    Parameters
    ----------
    src : rasterio dataset
    height, width : int
        Of the window.

    Returns
    -------
    int or None
        None where the format does not tell.
    """
    if src.driver not in _DRIVERS:
        return None
    total = 0
    for (rows, columns), dtype in zip(src.block_shapes, src.dtypes, strict=True):
        down, across = _most(height, rows, src.height), _most(width, columns, src.width)
        total += down * rows * across * columns * np.dtype(dtype).itemsize
    return total


def _most(side: int, block: int, length: int) -> int:
    """Blocks that a side of a window lies in, where it begins at the last pixel of one; no more than there are."""
    return min((side + block - 2) // block + 1, math.ceil(length / block))


def worth_caching(one: int | None, row: int | None) -> int | None:
    """Bytes that are worth caching while windows are read from the left to the right and from the top down.

    Blocks that were not asked for the longest are given up first. So a cache that holds less than a whole row of
    windows holds none of its blocks any more when the next row comes to them: either all of it, or no more than what
    neighbours share. In an image stored in strips these are the same, and with less every window would decode its rows
    anew.

    Parameters
    ----------
    one, row : int or None
        Bytes of the blocks that one window and a whole row of windows lie in; None where it is not known.

    Returns
    -------
    int or None
        None: keep the cache as it is.
    """
    if one is None or row is None:
        return None
    whole = row + row // 8  # masks and overviews have blocks too
    return whole if whole <= get_gdal_config("GDAL_CACHEMAX") or one > row // 2 else 2 * one


@contextmanager
def block_cache(need: int | None) -> Iterator[None]:
    """Limit GDAL's cache while windows are read one after the other.

    It grows only where it is as large as ``geo`` makes it, not as the user does, and then to 512 MiB at most. Where
    several limit it at once the largest need counts. Afterwards it is as before.

    Parameters
    ----------
    need : int, optional
        Bytes of the blocks that are wanted at one time; None leaves the cache as it is.
    """
    global _before
    if need is None:
        yield
        return
    with _lock:
        if not _needs:
            _before = get_gdal_config("GDAL_CACHEMAX")
        _needs.append(need)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _needs.remove(need)
            _apply()


def _apply() -> None:
    most = _MOST if _before == GDAL_CACHE_MB * 2**20 else _before
    set_gdal_config("GDAL_CACHEMAX", min(most, max(*_needs, _LEAST)) if _needs else _before)
