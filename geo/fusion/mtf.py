"""The blur of a coarser sensor: low-pass filters that give PAN the sharpness and the grid of MSS.

The modulation transfer function (MTF) of MSS is taken as Gaussian, with a given gain at MSS's Nyquist
frequency. For a ratio ``r`` of pixel sizes that frequency is ``1 / (2 r)`` cycles per PAN pixel, and the
filter ``exp(-2 pi^2 sigma^2 f^2)`` has the gain ``G`` there for ``sigma = r sqrt(-2 ln G) / pi``.
"""

from __future__ import annotations

import cv2
import numpy as np

from geo import kernels

#: Gain at Nyquist where none is published for the sensor.
GAIN = 0.3
#: Weight of nodata up to which a filtered pixel is still good.
TOLERANCE = 0.05
_REACH = 4.0


def sigma_px(ratio: float, gain: float = GAIN) -> float:
    """Compute the standard deviation of the Gaussian, in PAN pixels.

    Parameters
    ----------
    ratio : float
        Size of an MSS pixel in PAN pixels.
    gain : float
        MTF of MSS at its Nyquist frequency, between 0 and 1.
    """
    if not 0 < gain < 1:
        raise ValueError(f"the MTF's gain at Nyquist must lie between 0 and 1, got {gain}")
    return float(ratio * np.sqrt(-2 * np.log(gain)) / np.pi)


def reach_px(sigma: float) -> int:
    """Pixels that the filter looks at on each side."""
    return int(np.ceil(_REACH * sigma))


def lowpass(values: np.ndarray, valid: np.ndarray, sigma: float) -> np.ndarray:
    """Blur an image on its own grid.

    Parameters
    ----------
    values : ndarray of float32, shape (height, width)
    valid : ndarray of bool, same shape
        Nodata has no weight; the weights of good pixels are scaled to sum to 1.
    sigma : float
        Standard deviation in pixels.

    Returns
    -------
    ndarray of float32, same shape
        NaN where not valid.
    """
    if valid.all():
        rows, cols = (np.ones(shape, np.float32) for shape in ((len(valid), 1), (1, valid.shape[1])))
        return _blur(values.astype(np.float32, copy=False), sigma) / (_blur(rows, sigma) * _blur(cols, sigma))
    total, weight = _blur(np.where(valid, values, np.float32(0)), sigma), _blur(valid.astype(np.float32), sigma)
    result = np.full_like(total, np.nan)
    np.divide(total, weight, out=result, where=valid)
    return result


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; at the edge nothing is made up: what lies outside is 0."""
    # an axis of one pixel is not blurred
    down, across = (2 * reach_px(sigma) + 1 if side > 1 else 1 for side in image.shape)
    return cv2.GaussianBlur(image, ksize=(across, down), sigmaX=sigma, sigmaY=sigma, borderType=cv2.BORDER_CONSTANT)


def degrade(
    values: np.ndarray,
    valid: np.ndarray,
    col: np.ndarray,
    row: np.ndarray,
    sigma: float,
    *,
    least: float = 1 - TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Blur an image and sample it on a coarser grid, in one step and at any positions.

    Parameters
    ----------
    values : ndarray of float32, shape (height, width)
    valid : ndarray of bool, same shape
    col, row : ndarray of float64, shapes (cols,) and (rows,)
        Where the columns and rows of the coarser grid lie, in GDAL pixel coordinates.
    sigma : float
        Standard deviation in pixels of ``values``.
    least : float
        Weight that good pixels must have together; they count as if they had all of it.

    Returns
    -------
    values : ndarray of float32, shape (rows, cols)
        NaN where not good.
    good : ndarray of bool
        False where good pixels have less weight.
    """
    shape = len(row), len(col)
    total, weight = np.empty(shape, np.float32), np.empty(shape, np.float32)
    kernels.degrade(
        np.ascontiguousarray(values, np.float32),
        np.ascontiguousarray(valid),
        bool(valid.all()),
        *_taps(col, sigma),
        *_taps(row, sigma),
        total,
        weight,
    )
    good = weight >= least
    if good.all():
        return total / weight, good
    return np.where(good, total / np.where(good, weight, 1), np.float32(np.nan)), good


def _taps(positions: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """First of the pixels that the filter looks at, int64 (n,), and the pixels' weights, float32 (n, taps)."""
    reach = reach_px(sigma)
    first = np.floor(positions).astype(np.int64) - reach
    centres = first[:, None] + np.arange(2 * reach + 1) + 0.5
    weights = np.exp(-0.5 * ((centres - positions[:, None]) / sigma) ** 2)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
