"""Loops over pixels, compiled, where NumPy would pass over the arrays many times.

They release the interpreter lock, so that threads run them side by side, and are compiled once per machine: numba
keeps them beside this file, or in the user's cache folder where that cannot be written to.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: Positions of a cubic kernel are rounded to this part of a pixel, as OpenCV's are.
STEPS = 32
#: Sharpness of the cubic kernel, OpenCV's.
_A = -0.75


@njit(cache=True, nogil=True)
def encode(values, valid, everywhere, scale, offset, low, high, nodata, stored):  # pragma: no cover - compiled
    """Turn physical values into integers, as ``geo.encoding.Encoding.encode`` documents.

    Parameters
    ----------
    values : float32 (bands, pixels)
    valid : bool (pixels,)
        Not looked at where ``everywhere``.
    scale, offset, low, high : float32
    nodata : same type as ``stored``
    stored : integers (bands, pixels)
        The result.
    """
    largest = np.float32(np.finfo(np.float32).max)
    for band in range(values.shape[0]):
        source, target = values[band], stored[band]
        if everywhere:
            for i in range(source.size):
                value = source[i]
                number = np.rint((value - offset) / scale)
                number = min(max(number, low), high)
                good = abs(value) <= largest
                target[i] = np.int32(number) if good else nodata
        else:
            for i in range(source.size):
                value = source[i]
                good = (abs(value) <= largest) & valid[i]
                number = np.rint((value - offset) / scale) if good else low
                number = min(max(number, low), high)
                target[i] = np.int32(number) if good else nodata


@njit(cache=True, nogil=True)
def decode(stored, valid, scale, offset, values):  # pragma: no cover - compiled
    """Turn integers into physical values, NaN where not valid.

    Parameters
    ----------
    stored : integers (bands, pixels)
    valid : bool (pixels,)
    scale, offset : float32 (bands,)
    values : float32 (bands, pixels)
        The result.
    """
    for band in range(stored.shape[0]):
        source, target, a, b = stored[band], values[band], scale[band], offset[band]
        for i in range(source.size):
            target[i] = np.float32(source[i]) * a + b if valid[i] else np.float32(np.nan)


def cubic_weights(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First of four pixels, int64 (n,), and their weights, float32 (n, 4), for positions along one axis.

    Positions count from the centre of the first pixel and are rounded to 1/32 pixel.
    """
    whole = np.rint(np.asarray(positions, float) * STEPS).astype(np.int64)
    first = whole // STEPS
    t = (whole - first * STEPS) / STEPS
    outer = ((_A * (t + 1) - 5 * _A) * (t + 1) + 8 * _A) * (t + 1) - 4 * _A
    left = ((_A + 2) * t - (_A + 3)) * t * t + 1
    right = ((_A + 2) * (1 - t) - (_A + 3)) * (1 - t) * (1 - t) + 1
    weights = np.stack([outer, left, right, 1 - outer - left - right], axis=1).astype(np.float32)
    return first - 1, weights


@njit(cache=True, nogil=True)
def cubic(values, col, col_weights, row, row_weights, result):  # pragma: no cover - compiled
    """Interpolate on a grid whose columns and rows lie along those of the image; edges are repeated outwards.

    Parameters
    ----------
    values : float32 (bands, height, width)
    col, row : int64 (columns,), (rows,)
        First of the four pixels; ascending rows.
    col_weights, row_weights : float32 (columns, 4), (rows, 4)
    result : float32 (bands, rows, columns)
    """
    bands, height, width = values.shape
    rows, cols = row.size, col.size
    top = row.min()
    wide = np.empty((row.max() + 4 - top, cols), np.float32)
    for band in range(bands):
        for j in range(wide.shape[0]):
            source = values[band, min(max(top + j, 0), height - 1)]
            target = wide[j]
            for i in range(cols):
                c = col[i]
                if c >= 0 and c + 3 < width:
                    target[i] = (
                        source[c] * col_weights[i, 0]
                        + source[c + 1] * col_weights[i, 1]
                        + source[c + 2] * col_weights[i, 2]
                        + source[c + 3] * col_weights[i, 3]
                    )
                else:
                    total = np.float32(0)
                    for k in range(4):
                        total += source[min(max(c + k, 0), width - 1)] * col_weights[i, k]
                    target[i] = total
        for j in range(rows):
            first = row[j] - top
            a, b, c, d = wide[first], wide[first + 1], wide[first + 2], wide[first + 3]
            p, q, r, s = row_weights[j, 0], row_weights[j, 1], row_weights[j, 2], row_weights[j, 3]
            target = result[band, j]
            for i in range(cols):
                target[i] = a[i] * p + b[i] * q + c[i] * r + d[i] * s


@njit(cache=True, nogil=True)
def modulate(mss, pan, low, floor, result):  # pragma: no cover - compiled
    """Multiply bands by the ratio of PAN and its low-pass, as ``geo.fusion.modulate`` documents.

    Parameters
    ----------
    mss, result : float32 (bands, height, width)
    pan, low : float32 (height, width)
    floor : float32
    """
    one, zero = np.float32(1), np.float32(0)
    ratio = np.empty(pan.shape[1], np.float32)
    for j in range(pan.shape[0]):
        for i in range(ratio.size):
            under = floor if low[j, i] < floor else low[j, i]  # so written, NaN stays NaN
            gain = one + (pan[j, i] - low[j, i]) / under
            ratio[i] = zero if gain < zero else gain
        for band in range(mss.shape[0]):
            for i in range(ratio.size):
                result[band, j, i] = mss[band, j, i] * ratio[i]
