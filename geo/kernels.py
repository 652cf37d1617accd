"""Loops over pixels, compiled, where NumPy would pass over the arrays many times.

They release the interpreter lock, so that threads run them side by side, and are compiled once per machine: numba
keeps them beside this file, or in the user's cache folder where that cannot be written to.
"""

from __future__ import annotations

import sys

import numpy as np
from numba import njit


def _start_without_blas() -> None:
    """Let numba make its functions of arrays known without looking for SciPy's linear algebra.

    To see whether matrix products can be compiled it would import that, which takes longer than all its other work at
    the start, and no kernel has any.
    """
    name = "scipy.linalg.cython_blas"
    known = sys.modules.get(name)
    if known is None:
        sys.modules[name] = None  # type: ignore[assignment]  # an import then fails at once
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        if known is None:
            del sys.modules[name]


_start_without_blas()

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

    Positions count from the centre of the first pixel.
    """
    first = np.floor(positions).astype(np.int64)
    t = np.asarray(positions, float) - first
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
    top = row.min()
    wide = np.empty((row.max() + 4 - top, col.size), np.float32)
    for band in range(values.shape[0]):
        _along_rows(values[band], top, col, col_weights, wide)
        for j in range(row.size):
            first = row[j] - top
            a, b, c, d = wide[first], wide[first + 1], wide[first + 2], wide[first + 3]
            p, q, r, s = row_weights[j, 0], row_weights[j, 1], row_weights[j, 2], row_weights[j, 3]
            target = result[band, j]
            for i in range(col.size):
                target[i] = a[i] * p + b[i] * q + c[i] * r + d[i] * s


@njit(cache=True, nogil=True)
def _along_rows(image, top, col, weights, wide):  # pragma: no cover - compiled
    """Interpolate rows of an image, from ``top`` on, at columns; edges are repeated outwards."""
    height, width = image.shape
    for j in range(wide.shape[0]):
        source = image[min(max(top + j, 0), height - 1)]
        target = wide[j]
        for i in range(col.size):
            c = col[i]
            if c >= 0 and c + 3 < width:
                target[i] = (
                    source[c] * weights[i, 0]
                    + source[c + 1] * weights[i, 1]
                    + source[c + 2] * weights[i, 2]
                    + source[c + 3] * weights[i, 3]
                )
            else:
                total = np.float32(0)
                for k in range(4):
                    total += source[min(max(c + k, 0), width - 1)] * weights[i, k]
                target[i] = total


@njit(cache=True, nogil=True)
def inject(
    mss, col, col_weights, row, row_weights, pan, pan_low, weights, constant, gains, floor,
    scale, offset, low, high, nodata, stored,
):  # pragma: no cover - compiled  # fmt: skip
    """Interpolate MSS as ``cubic`` does, sharpen it as ``geo.fusion.injection`` says, and encode it as ``encode`` does.

    A row at a time, so that what is made between stays in the CPU's nearest cache.

    Parameters
    ----------
    mss : float32 (bands, rows, columns)
        All of it good.
    col, row : int64 (width,), (height,)
        First of the four pixels; ascending rows.
    col_weights, row_weights : float32 (width, 4), (height, 4)
    pan : float32 (height, width)
        NaN where not valid.
    pan_low : float32 (height, width)
        Not looked at where there are weights.
    weights, gains : float32 (bands,)
        Empty where there are none.
    constant, floor, scale, offset, low, high : float32
    nodata : same type as ``stored``
    stored : integers (bands, height, width)
        The result.
    """
    bands = mss.shape[0]
    height, width = pan.shape
    top = row.min()
    wide = np.empty((bands, row.max() + 4 - top, width), np.float32)
    for band in range(bands):
        _along_rows(mss[band], top, col, col_weights, wide[band])
    fine = np.empty((bands, width), np.float32)
    coarse, detail = np.empty(width, np.float32), np.empty(width, np.float32)
    one, zero, largest = np.float32(1), np.float32(0), np.float32(np.finfo(np.float32).max)
    for j in range(height):
        p, q, r, s = row_weights[j, 0], row_weights[j, 1], row_weights[j, 2], row_weights[j, 3]
        first = row[j] - top
        for band in range(bands):
            a, b, c, d = wide[band, first], wide[band, first + 1], wide[band, first + 2], wide[band, first + 3]
            target = fine[band]
            for i in range(width):
                target[i] = a[i] * p + b[i] * q + c[i] * r + d[i] * s
        if weights.size:
            for i in range(width):
                coarse[i] = constant
            for band in range(bands):
                weight, source = weights[band], fine[band]
                for i in range(width):
                    coarse[i] += source[i] * weight
        else:
            for i in range(width):
                coarse[i] = pan_low[j, i]
        if gains.size:
            for i in range(width):
                detail[i] = pan[j, i] - coarse[i]
        else:
            for i in range(width):
                under = floor if coarse[i] < floor else coarse[i]  # so written, NaN stays NaN
                ratio = one + (pan[j, i] - coarse[i]) / under
                detail[i] = zero if ratio < zero else ratio
        for band in range(bands):
            source, target = fine[band], stored[band, j]
            gain = gains[band] if gains.size else zero
            for i in range(width):
                value = source[i] + gain * detail[i] if gains.size else source[i] * detail[i]
                number = np.rint((value - offset) / scale)
                number = min(max(number, low), high)
                target[i] = np.int32(number) if abs(value) <= largest else nodata


@njit(cache=True, nogil=True)
def degrade(
    values, valid, everywhere, col, col_weights, row, row_weights, total, weight
):  # pragma: no cover - compiled
    """Sum good values, and their weights, about the columns and rows of a coarser grid.

    Parameters
    ----------
    values : float32 (height, width)
        Not looked at where not valid.
    valid : bool (height, width)
    everywhere : bool
        Whether all are.
    col, row : int64 (columns,), (rows,)
        First pixels that are looked at; what lies outside has no weight.
    col_weights, row_weights : float32 (columns, taps), (rows, taps)
    total, weight : float32 (rows, columns)
        The results.
    """
    height, width = values.shape
    line, known = np.empty(width, np.float32), np.empty(width, np.float32)
    for j in range(row.size):
        for i in range(width):
            line[i] = np.float32(0)
            known[i] = np.float32(0)
        for k in range(row_weights.shape[1]):
            y = row[j] + k
            if 0 <= y < height:
                w, source = row_weights[j, k], values[y]
                if everywhere:
                    for i in range(width):
                        line[i] += w * source[i]
                        known[i] += w
                else:
                    there = valid[y]
                    for i in range(width):
                        line[i] += w * source[i] if there[i] else np.float32(0)
                        known[i] += w if there[i] else np.float32(0)
        for i in range(col.size):
            value, trust = np.float32(0), np.float32(0)
            for k in range(col_weights.shape[1]):
                x = col[i] + k
                if 0 <= x < width:
                    value += col_weights[i, k] * line[x]
                    trust += col_weights[i, k] * known[x]
            total[j, i] = value
            weight[j, i] = trust
