"""The blur of a coarser sensor: low-pass filters that give PAN the sharpness and the grid of MSS.

The modulation transfer function (MTF) of MSS is taken as Gaussian, with a given gain at MSS's Nyquist
frequency. For a ratio ``r`` of pixel sizes that frequency is ``1 / (2 r)`` cycles per PAN pixel, and the
filter ``exp(-2 pi^2 sigma^2 f^2)`` has the gain ``G`` there for ``sigma = r sqrt(-2 ln G) / pi``.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse

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
    size = 2 * reach_px(sigma) + 1
    # at the window's edge nothing is made up: what lies outside has no weight
    total, weight = (
        cv2.GaussianBlur(a, ksize=(size, size), sigmaX=sigma, borderType=cv2.BORDER_CONSTANT)
        for a in (np.where(valid, values, np.float32(0)), valid.astype(np.float32))
    )
    result = np.full_like(total, np.nan)
    np.divide(total, weight, out=result, where=valid)
    return result


def degrade(
    values: np.ndarray, valid: np.ndarray, col: np.ndarray, row: np.ndarray, sigma: float
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

    Returns
    -------
    values : ndarray of float32, shape (rows, cols)
        NaN where not good.
    good : ndarray of bool
        False where nodata or the outside has a weight over ``TOLERANCE``.
    """
    across, down = _weights(col, valid.shape[1], sigma), _weights(row, valid.shape[0], sigma)
    total = (across @ (down @ np.where(valid, values, np.float32(0))).T).T
    weight = (across @ (down @ valid.astype(np.float32)).T).T
    good = weight >= 1 - TOLERANCE
    return np.where(good, total / np.where(good, weight, 1), np.nan).astype(np.float32), good


def _weights(positions: np.ndarray, length: int, sigma: float) -> scipy.sparse.csr_matrix:
    """Matrix (positions, length) of Gaussian weights; those that fall outside are missing from the sum of 1."""
    reach = reach_px(sigma)
    index = np.floor(positions).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * ((index + 0.5 - positions[:, None]) / sigma) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    inside = (index >= 0) & (index < length)
    rows = np.broadcast_to(np.arange(len(positions))[:, None], index.shape)
    shape = (len(positions), length)
    return scipy.sparse.csr_matrix((weights[inside].astype(np.float32), (rows[inside], index[inside])), shape=shape)
