"""From digital numbers to top-of-atmosphere reflectance.

DN -> radiance (the sensor's gain and bias) -> reflectance (sun's irradiance, distance and zenith angle). The
functions on arrays are pure; ``write_reflectance`` at the end streams a whole scene through them.

A pixel is **nodata** where all bands of an image are 0, which is how products mark ground outside the scan, whatever
else the file names; a single band may rightly be 0. A raster that names another nodata value is nodata where any band
has it, too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from geo.errors import ProductError
from geo.masks import Quality


def radiance(dn: np.ndarray, gain: Sequence[float], bias: Sequence[float]) -> np.ndarray:
    """At-sensor spectral radiance of digital numbers: ``L = gain * DN + bias``.

    Negative radiance (the biases of some years make it over dark ground) is kept.

    Parameters
    ----------
    dn : ndarray, shape (bands, height, width)
        Digital numbers.
    gain, bias : sequence of float
        One of each for a band, W m-2 sr-1 um-1 (per DN).

    Returns
    -------
    ndarray of float32, same shape
        W m-2 sr-1 um-1. Nodata is not treated.
    """
    return dn.astype(np.float32) * _per_band(gain) + _per_band(bias)


def toa_reflectance(
    radiance: np.ndarray, esun: Sequence[float], *, distance_au: float, sun_zenith: float
) -> np.ndarray:
    """Top-of-atmosphere reflectance: ``rho = pi * L * d**2 / (ESUN * cos(sun_zenith))``.

    Parameters
    ----------
    radiance : ndarray of float, shape (bands, height, width)
        W m-2 sr-1 um-1.
    esun : sequence of float
        Solar irradiance at 1 AU of each band, W m-2 um-1.
    distance_au : float
        Earth-Sun distance.
    sun_zenith : float
        Degrees.

    Returns
    -------
    ndarray of float32, same shape

    Raises
    ------
    ProductError
        The sun stands at or below the horizon.
    """
    if not 0 <= sun_zenith < 90:
        raise ProductError(
            f"the sun's zenith angle is {sun_zenith:.2f} degrees; expected 0 to 90 (sun above the horizon): "
            "check the acquisition time and the angle in the product's metadata"
        )
    illumination = np.asarray(esun, dtype=np.float64) * math.cos(math.radians(sun_zenith))
    return radiance * _per_band(math.pi * distance_au**2 / illumination)


def _per_band(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)[:, None, None]


def earth_sun_distance(time: datetime) -> float:
    """Distance of the Earth from the Sun in astronomical units.

    Low-precision series of the Astronomical Almanac, good to 1e-4 AU (reflectance: 0.02 %).

    Parameters
    ----------
    time : datetime
        Aware.
    """
    days = (time - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    anomaly = math.radians(357.528 + 0.9856003 * days)
    return 1.00014 - 0.01671 * math.cos(anomaly) - 0.00014 * math.cos(2 * anomaly)


@functools.lru_cache(maxsize=256)  # the images of a product share it, and each look costs some milliseconds
def sun_position(time: datetime, longitude: float, latitude: float) -> tuple[float, float]:
    """Where the sun stands, by NREL's solar position algorithm (Reda and Andreas 2004), without refraction.

    Parameters
    ----------
    time : datetime
        Aware.
    longitude, latitude : float
        Degrees.

    Returns
    -------
    zenith, azimuth : float
        Degrees; azimuth clockwise from north.
    """
    import pandas as pd
    from pvlib.solarposition import spa_python

    position = spa_python(pd.DatetimeIndex([time]), latitude, longitude)
    return float(position["zenith"].iloc[0]), float(position["azimuth"].iloc[0])


def valid_dn(dn: np.ndarray, nodata: Sequence[float | None] = (), *, as_given: bool = False) -> np.ndarray:
    """Mark pixels that hold data with True.

    Parameters
    ----------
    dn : ndarray, shape (bands, height, width)
        Digital numbers; NaN is never valid.
    nodata : sequence of float or None, optional
        Value that the file names for each band. A pixel is nodata where any band has its own; 0 is one only where all
        bands have it.
    as_given : bool
        The numbers are reflectance already: floats of 0 in all bands are ground then, unless the file names 0.

    Returns
    -------
    ndarray of bool, shape (height, width)
    """
    integers = np.issubdtype(dn.dtype, np.integer)
    valid = np.ones(dn.shape[1:], bool) if integers else np.isfinite(dn).all(axis=0)
    for band, number in zip(dn, nodata, strict=False):
        if number and not math.isnan(number):
            # beside a float, NumPy would turn all integers into floats first
            valid &= band != (int(number) if integers and float(number).is_integer() else number)
    if integers or not as_given or 0 in nodata:
        valid &= (dn != 0).any(axis=0)
    return valid


def saturated(dn: np.ndarray, bit_depth: int | None, tops: Sequence[float | None] = ()) -> np.ndarray:
    """Mark pixels where any band holds the highest digital number, ``DN >= 2**bit_depth - 1``.

    Parameters
    ----------
    dn : ndarray, shape (bands, height, width)
    bit_depth : int or None
        None: not known.
    tops : sequence of float or None, optional
        Highest number of each band where the bits are not known; of bands without one nothing is saturated.

    Returns
    -------
    ndarray of bool, shape (height, width)
    """
    if bit_depth is not None:
        return (dn >= 2**bit_depth - 1).any(axis=0)
    marked = np.zeros(dn.shape[1:], dtype=bool)
    for band, top in zip(dn, tops, strict=False):
        if top is not None:
            marked |= band >= top
    return marked


def quality_flags(
    dn: np.ndarray,
    values: np.ndarray,
    valid: np.ndarray,
    *,
    bit_depth: int | None,
    tops: Sequence[float | None] = (),
) -> np.ndarray:
    """Bit flags of ``geo.masks.Quality``: nodata, saturated, negative.

    Parameters
    ----------
    dn : ndarray, shape (bands, height, width)
        Digital numbers.
    values : ndarray of float, same shape
        Radiance or reflectance; below 0 is flagged.
    valid : ndarray of bool, shape (height, width)
        Pixels that are not valid are nodata and nothing else.
    bit_depth : int or None
    tops : sequence of float or None, optional
        See ``saturated``.

    Returns
    -------
    ndarray of uint8, shape (height, width)
    """
    flags = np.where(saturated(dn, bit_depth, tops), int(Quality.SATURATED), 0)
    flags |= np.where((values < 0).any(axis=0), int(Quality.NEGATIVE), 0)
    return np.where(valid, flags, int(Quality.NODATA)).astype(np.uint8)
