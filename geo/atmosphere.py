"""From top-of-atmosphere to surface reflectance by the darkest objects of a scene: DOS1 and COST.

Some pixel of every scene is nearly black: deep shadow, clear water. What the sensor still sees there is the light of
the path, ``L_haze``, and one percent of reflectance. With ``E = ESUN cos(sun zenith)``::

    L_haze = L_dark - 0.01 (E T_z + E_down) T_v / (pi d^2)              (1)
    rho    = pi d^2 (L - L_haze) / (T_v (E T_z + E_down))               (2)

DOS1 takes the air as clear: ``T_z = T_v = 1``. COST takes ``T_z = cos(sun zenith)`` and ``T_v = 1``, or the cosine of
the view zenith where that is given. Both have ``E_down = 0``. Divided by ``E / (pi d^2)`` the equations hold for
top-of-atmosphere reflectance, and so they are written here: neither irradiance nor distance is needed again.

``geo.sixs`` models the air instead.

References
----------
Chavez 1988, An improved dark-object subtraction technique for atmospheric scattering correction of multispectral
data, Remote Sensing of Environment 24, 459-479.
Chavez 1996, Image-based atmospheric corrections - revisited and improved, Photogrammetric Engineering and Remote
Sensing 62(9), 1025-1036.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geo.errors import ConfigError, ProductError, RasterError, unknown_name

#: Methods that need nothing but the scene.
METHODS = ("dos1", "cost")
#: Reflectance that the darkest object is taken to have.
DARK_REFLECTANCE = 0.01


class Histogram:
    """Counts of a scene's values in equal bins, added up window by window.

    Parameters
    ----------
    bands : int
    low, high : float
        Centres of the first and the last bin; values beyond them count there.
    step : float
        From bin to bin. The defaults fit reflectance as it is stored.

    Attributes
    ----------
    counts : ndarray of int64, shape (bands, bins)
    """

    def __init__(self, bands: int, *, low: float = -0.1, high: float = 1.5, step: float = 1e-4):
        if not (step > 0 and high > low):
            raise ValueError(f"a histogram needs low < high and a positive step, got {low}, {high} and {step}")
        self.low, self.step = low, step
        self.counts = np.zeros((bands, round((high - low) / step) + 1), dtype=np.int64)

    def add(self, values: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Count a window.

        Parameters
        ----------
        values : ndarray of float, shape (bands, height, width)
            NaN is not counted.
        valid : ndarray of bool, shape (height, width), optional
        """
        good = np.isfinite(values).all(axis=0)
        if valid is not None:
            good &= valid
        last = self.counts.shape[1] - 1
        for counts, band in zip(self.counts, values, strict=True):
            bins = np.clip(np.rint((band[good].astype(np.float64) - self.low) / self.step), 0, last)
            counts += np.bincount(bins.astype(np.int64), minlength=last + 1)

    def __add__(self, other: Histogram) -> Histogram:
        """Histogram of both parts of a scene."""
        if (self.low, self.step, self.counts.shape) != (other.low, other.step, other.counts.shape):
            raise ValueError("histograms with other bins cannot be added")
        result = Histogram.__new__(Histogram)
        result.low, result.step, result.counts = self.low, self.step, self.counts + other.counts
        return result

    def percentile(self, percent: float) -> np.ndarray:
        """Least value of each band that is not below ``percent`` of its pixels, to half a step.

        Parameters
        ----------
        percent : float
            0 to 100; 0 gives the least value there is.

        Returns
        -------
        ndarray of float64, shape (bands,)

        Raises
        ------
        RasterError
            Nothing was counted.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile lies between 0 and 100, got {percent}")
        total = self._total()
        # a relative 1e-12 less, so that 0.1 percent of 1000 is one pixel in floating point too
        rank = max(1, math.ceil(total * percent / 100 * (1 - 1e-12)))
        return self.low + (self.counts.cumsum(axis=1) >= rank).argmax(axis=1) * self.step

    def _total(self) -> int:
        total = int(self.counts[0].sum())
        if not total:
            raise RasterError("no pixel of the scene is good; expected some to find the darkest objects among")
        return total


@dataclass(frozen=True)
class Transmittance:
    """Share of light that passes the air.

    Attributes
    ----------
    sun : float
        ``T_z``, from the sun to the ground.
    view : float
        ``T_v``, from the ground to the sensor.
    sky : float
        ``E_down / (ESUN cos(sun zenith))``, what the sky adds to the sun.
    """

    sun: float = 1.0
    view: float = 1.0
    sky: float = 0.0

    @property
    def whole(self) -> float:
        """Share of the irradiance above the air that comes back from a white ground."""
        return self.view * (self.sun + self.sky)


def transmittance(method: str, *, sun_zenith: float, view_zenith: float | None = None) -> Transmittance:
    """Transmittance that a dark-object method assumes.

    Parameters
    ----------
    method : str
        ``"dos1"`` or ``"cost"``.
    sun_zenith : float
        Degrees.
    view_zenith : float, optional
        Degrees; COST takes ``T_v = 1`` without it.

    Raises
    ------
    ConfigError
        There is no such method.
    ProductError
        The sun stands at or below the horizon, or the view is no view of the ground.
    """
    if method not in METHODS:
        raise ConfigError(unknown_name("dark-object method", method, METHODS))
    check_zenith(sun_zenith, 0.0 if view_zenith is None else view_zenith)
    if method == "dos1":
        return Transmittance()
    view = 1.0 if view_zenith is None else math.cos(math.radians(view_zenith))
    return Transmittance(sun=math.cos(math.radians(sun_zenith)), view=view)


def check_zenith(sun: float, view: float) -> None:
    """See that sun and sensor stand above the horizon; zenith angles in degrees.

    Raises
    ------
    ProductError
        One does not.
    """
    for name, angle in (("sun", sun), ("view", view)):
        if not 0 <= angle < 90:
            raise ProductError(
                f"the {name}'s zenith angle is {angle:.2f} degrees; expected 0 to 90 (above the horizon): "
                "check the angle in the product's metadata"
            )


def path_reflectance(dark: np.ndarray | Sequence[float], through: Transmittance) -> np.ndarray:
    """Reflectance that the path adds, ``pi d^2 L_haze / E`` by equation (1).

    Parameters
    ----------
    dark : array_like, shape (bands,)
        Top-of-atmosphere reflectance of the darkest objects, e.g. ``Histogram.percentile(0.1)``, whose surface
        reflectance is taken to be ``DARK_REFLECTANCE``.
    through : Transmittance

    Returns
    -------
    ndarray of float64, shape (bands,)
        Not below 0: air takes no light from a black ground's path.
    """
    return np.maximum(np.asarray(dark, np.float64) - DARK_REFLECTANCE * through.whole, 0)


def subtract_haze(toa: np.ndarray, haze: np.ndarray | Sequence[float], through: Transmittance) -> np.ndarray:
    """Surface reflectance by equation (2).

    Parameters
    ----------
    toa : ndarray of float, shape (bands, height, width)
        Top-of-atmosphere reflectance.
    haze : array_like, shape (bands,)
        Of ``path_reflectance``.
    through : Transmittance

    Returns
    -------
    ndarray of float32, same shape
        NaN stays NaN; ground darker than the dark objects becomes less than their reflectance, even negative.
    """
    path = np.asarray(haze, np.float32)[:, None, None]
    return (toa.astype(np.float32) - path) * np.float32(1 / through.whole)
