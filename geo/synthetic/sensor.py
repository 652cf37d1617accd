"""The instrument: spectral mix of PAN, blur, sampling through the footprint grid, noise, quantisation.

``DN = round((L - bias) / gain)``, 10 bits, 0 where nothing was imaged.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

#: Absolute calibration of GF-1 PMS: gain and bias of pan, blue, green, red, nir, W m-2 sr-1 um-1 (per DN),
#: L = gain * DN + bias. As CRESDA published them, in desertstsung/Snowy-Dove (2013, with biases) and
#: Zhaoguanhua/AtmosphericCorrection (2014, 2015; the biases are 0).
CALIBRATION: dict[tuple[str, int], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ("PMS1", 2013): ((0.1886, 0.2082, 0.1672, 0.1748, 0.1883), (-13.127, 4.6186, 4.8768, 4.8924, -9.4771)),
    ("PMS2", 2014): ((0.2147, 0.2419, 0.2047, 0.2009, 0.2058), (0.0, 0.0, 0.0, 0.0, 0.0)),
    ("PMS1", 2015): ((0.1956, 0.2110, 0.1802, 0.1806, 0.1870), (0.0, 0.0, 0.0, 0.0, 0.0)),
}
MAX_DN = 1023
#: Modulation at half the sampling frequency (the usual assumption where none is published; Vivone et al. 2015,
#: IEEE TGRS 53(5): 2565).
MTF_NYQUIST = {"pan": 0.15, "mss": 0.30}
#: Standard deviation in DN without light, and share of the signal that adds to the variance.
READ_DN, SHOT = 0.8, 0.006
#: Standard deviation of a detector's gain error that the ground processing leaves.
STRIPE = 0.0012
#: Detectors at the left edge that saw nothing: 0 in the image.
DARK_SAMPLES = {"PAN": 6, "MSS": 2}


def pan_mix(blue: np.ndarray, green: np.ndarray, red: np.ndarray, nir: np.ndarray) -> np.ndarray:
    """Reflectance in 0.45-0.90 um: the bands and, between red and NIR, what neither of them sees.

    The red edge is taken as the geometric mean of its sides, so PAN is no linear mix of the four bands.
    """
    edge = np.sqrt(np.maximum(red, 0) * np.maximum(nir, 0))
    return 0.15 * blue + 0.23 * green + 0.24 * red + 0.13 * edge + 0.25 * nir


def blur_sigma(gsd_m: float, nyquist: float) -> float:
    """Find the standard deviation in metres of the Gaussian whose modulation at 1 / (2 gsd) is ``nyquist``."""
    return gsd_m * math.sqrt(-2 * math.log(nyquist)) / math.pi


def sample(
    ground: np.ndarray, cell_m: float, row: np.ndarray, col: np.ndarray, *, gsd_m: float, nyquist: float
) -> np.ndarray:
    """Blur the ground as the optics do and take its values at the pixels.

    Parameters
    ----------
    ground : ndarray of float32
    cell_m : float
        Its cell.
    row, col : ndarray of float32
        Footprint grid in cells of ``ground``, 0 at the centre of the first.
    gsd_m, nyquist : float
        Pixel on the ground and modulation there.

    Returns
    -------
    ndarray of float32, shape of ``row``
    """
    sigma = blur_sigma(gsd_m, nyquist) / cell_m
    size = 2 * math.ceil(3.2 * sigma) + 1
    soft = cv2.GaussianBlur(ground, (size, size), sigma, borderType=cv2.BORDER_REFLECT)
    return cv2.remap(soft, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def quantise(radiance: np.ndarray, gain: float, bias: float, rng: np.random.Generator | None) -> np.ndarray:
    """Digital numbers of radiances.

    Parameters
    ----------
    radiance : ndarray of float32
        W m-2 sr-1 um-1.
    gain, bias : float
        ``L = gain * DN + bias``.
    rng : numpy Generator or None
        Of the noise; None for none.

    Returns
    -------
    ndarray of uint16
        1..1023; the brightest are saturated.
    """
    number = (radiance - np.float32(bias)) / np.float32(gain)
    if rng is not None:
        stripe = 1 + np.float32(STRIPE) * rng.standard_normal((radiance.shape[1],), np.float32)
        noise = rng.standard_normal(radiance.shape, np.float32)
        number = number * stripe + noise * np.sqrt(READ_DN**2 + SHOT * np.maximum(number, 0))
    return np.clip(np.rint(number), 1, MAX_DN).astype(np.uint16)
