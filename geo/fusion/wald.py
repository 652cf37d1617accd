"""Wald's protocol: a pair degraded by its own ratio, so that the MSS there was is the truth for the fused image.

References
----------
Wald, Ranchin & Mangolini 1997, Fusion of satellite images of different spatial resolutions: assessing the quality of
resulting images, Photogrammetric Engineering and Remote Sensing 63(6), 691-699.
Aiazzi et al. 2006, MTF-tailored multiscale fusion of high-resolution MS and Pan imagery, Photogrammetric Engineering
and Remote Sensing 72(5), 591-596: the degradation by a filter that has the sensor's gain at Nyquist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geo.fusion import mtf

#: Gain of the MTF of PAN at the Nyquist frequency of MSS, where none is published for the sensor.
PAN_GAIN = 0.15


def good_pixels(valid: np.ndarray | None, *images: np.ndarray) -> np.ndarray:
    """Mark pixels that are valid, and finite in all bands of all images."""
    good = np.logical_and.reduce([np.isfinite(image).all(axis=0) for image in images])
    return good if valid is None else good & valid


def margin_px(ratio: int, gain: float | Sequence[float] = mtf.GAIN) -> int:
    """Give the pixels that a window needs on each side to be degraded as the scene is, a multiple of ``ratio``."""
    return -(-mtf.reach_px(mtf.sigma_px(ratio, float(np.min(gain)))) // ratio) * ratio


def degrade(
    image: np.ndarray,
    valid: np.ndarray | None = None,
    *,
    ratio: int,
    gain: float | Sequence[float] = mtf.GAIN,
    margin: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """See an image as a sensor with pixels ``ratio`` times as large would: blurred by its MTF and sampled.

    The grids share their upper left corner, so a large pixel's centre is that of the small ones it covers.

    Parameters
    ----------
    image : ndarray of float, shape (bands, height, width)
        What is left over at the bottom and the right is not seen.
    valid : ndarray of bool, shape (height, width), optional
    ratio : int
    gain : float or sequence of float
        MTF of the coarser sensor at its Nyquist frequency, of all bands or of each.
    margin : int
        Pixels on each side that are looked at only, see ``margin_px``.

    Returns
    -------
    image : ndarray of float32, shape (bands, height // ratio, width // ratio) without the margin
        NaN where not good.
    good : ndarray of bool, shape (height // ratio, width // ratio)
        False where nodata or the outside has a weight over ``mtf.TOLERANCE``, which is so along a scene's edges.
    """
    good = good_pixels(valid, image)
    rows, cols = (margin + (np.arange((side - 2 * margin) // ratio) + 0.5) * ratio for side in good.shape)
    gains = np.broadcast_to(np.asarray(gain, float), len(image))
    seen = [
        mtf.degrade(band.astype(np.float32), good, cols, rows, mtf.sigma_px(ratio, float(g)))
        for band, g in zip(image, gains, strict=True)
    ]
    everywhere = np.logical_and.reduce([there for _, there in seen])
    return np.where(everywhere, np.stack([band for band, _ in seen]), np.float32(np.nan)), everywhere


@dataclass(frozen=True)
class Wald:
    """A reduced pair and its reference.

    Attributes
    ----------
    mss, pan : ndarray of float32, shapes (bands, h / ratio, w / ratio) and (h, w)
        To be fused.
    mss_valid, pan_valid : ndarray of bool
    reference : ndarray of float, shape (bands, h, w)
        The MSS there was, on the reduced PAN's grid.
    valid : ndarray of bool, shape (h, w)
        Where a fusion can be compared with it.
    """

    mss: np.ndarray
    mss_valid: np.ndarray
    pan: np.ndarray
    pan_valid: np.ndarray
    reference: np.ndarray
    valid: np.ndarray


def wald(
    mss: np.ndarray,
    pan: np.ndarray,
    *,
    ratio: int,
    gain: float | Sequence[float] = mtf.GAIN,
    pan_gain: float = PAN_GAIN,
    mss_valid: np.ndarray | None = None,
    pan_valid: np.ndarray | None = None,
) -> Wald:
    """Reduce a pair by its ratio, so that the MSS there was is the truth for the fused image.

    Parameters
    ----------
    mss : ndarray of float, shape (bands, h, w)
        Rows and columns that do not fill a larger pixel are cut off.
    pan : ndarray of float, shape (h * ratio, w * ratio)
    ratio : int
    gain : float or sequence of float
        MTF of MSS at its Nyquist frequency, of all bands or of each.
    pan_gain : float
        MTF of PAN at the Nyquist frequency of MSS.
    mss_valid, pan_valid : ndarray of bool, optional
        Good pixels of either grid.
    """
    if pan.shape != tuple(side * ratio for side in mss.shape[1:]):
        raise ValueError(f"PAN {pan.shape} is not {ratio} times MSS {mss.shape[1:]}; cut them to the same ground")
    height, width = (side // ratio * ratio for side in mss.shape[1:])
    mss, pan = mss[:, :height, :width], pan[: height * ratio, : width * ratio]
    good = good_pixels(None if mss_valid is None else mss_valid[:height, :width], mss)
    fine = None if pan_valid is None else pan_valid[: height * ratio, : width * ratio]
    low, low_good = degrade(mss, good, ratio=ratio, gain=gain)
    pan_low, pan_good = degrade(pan[None], fine, ratio=ratio, gain=pan_gain)
    there = np.kron(low_good, np.ones((ratio, ratio), bool))
    return Wald(low, low_good, pan_low[0], pan_good, mss, good & pan_good & there)
