"""Sun, shadow, haze and clouds: from surface reflectance to radiance at the sensor.

Radiances in W m-2 sr-1 um-1. The constants of GF-1 are written out here on purpose: the synthetic sensor
shares nothing with the code that will calibrate its images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np

from geo.synthetic.fields import CELL_M, Fields
from geo.synthetic.noise import fractal
from geo.synthetic.world import CENTRE, Pass

BANDS = ("blue", "green", "red", "nir")

#: Solar irradiance at 1 au, W m-2 um-1: pan, blue, green, red, nir
#: (GenghisYoung233/Gaofen-Batch data/AtmosphericCorrectionParameter.yaml; ENVI's sensor attributes agree).
ESUN = {
    "PMS1": (1371.79, 1945.29, 1854.10, 1542.90, 1080.77),
    "PMS2": (1376.37, 1945.63, 1853.83, 1543.90, 1081.89),
}

#: Reflectance of the clear air's path at 900 m, and its scale height: more in blue, gone higher up.
PATH = {"blue": 0.062, "green": 0.036, "red": 0.021, "nir": 0.009}
PATH_HEIGHT_M = 3200.0
#: Two-way transmittance, and diffuse share of the light on flat ground, on a clear day.
TRANSMITTANCE = {"blue": 0.80, "green": 0.86, "red": 0.90, "nir": 0.94}
DIFFUSE = {"blue": 0.30, "green": 0.22, "red": 0.17, "nir": 0.11}
CLOUD = {"blue": 0.62, "green": 0.62, "red": 0.63, "nir": 0.64}
CLOUD_BASE_M = 2500.0


@dataclass(frozen=True)
class Sun:
    """Place of the sun in degrees (azimuth clockwise from north), and its distance in au."""

    zenith: float
    azimuth: float
    distance_au: float


def sun_at(moment: datetime, lon: float, lat: float) -> Sun:
    """Place of the sun, good to 0.02 deg (Astronomical Almanac, low-precision formulas).

    Parameters
    ----------
    moment : datetime
        UTC.
    lon, lat : float
        Degrees.

    Returns
    -------
    Sun
    """
    days = moment.timestamp() / 86400 + 2440587.5 - 2451545.0
    anomaly = math.radians((357.528 + 0.9856003 * days) % 360)
    mean = 280.460 + 0.9856474 * days
    ecliptic = math.radians(mean + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
    tilt = math.radians(23.439 - 4e-7 * days)
    declination = math.asin(math.sin(tilt) * math.sin(ecliptic))
    ascension = math.atan2(math.cos(tilt) * math.sin(ecliptic), math.cos(ecliptic))
    sidereal = math.radians((280.46062 + 360.98564737 * days + lon) % 360)
    hour = sidereal - ascension
    phi = math.radians(lat)
    up = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(hour)
    east = -math.cos(declination) * math.sin(hour)
    north = math.cos(phi) * math.sin(declination) - math.sin(phi) * math.cos(declination) * math.cos(hour)
    distance = 1.00014 - 0.01671 * math.cos(anomaly) - 0.00014 * math.cos(2 * anomaly)
    return Sun(math.degrees(math.acos(up)), math.degrees(math.atan2(east, north)) % 360, distance)


def sun_on_grid(sun: Sun, fields: Fields) -> tuple[float, float, float]:
    """Turn the place of the sun to a unit vector along u, v (down the image) and up."""
    # meridian convergence in zone 48: the grid's north is not true north
    convergence = (CENTRE[0] - 105.0) * math.sin(math.radians(CENTRE[1]))
    azimuth = math.radians(sun.azimuth - convergence)
    east, north = math.sin(azimuth), math.cos(azimuth)
    t = fields.ground.transform()
    flat = math.sin(math.radians(sun.zenith))
    return (t.a * east + t.d * north) * flat, (t.b * east + t.e * north) * flat, math.cos(math.radians(sun.zenith))


@dataclass(frozen=True)
class Illumination:
    """Light on 5 m cells relative to flat open ground.

    Attributes
    ----------
    direct : ndarray of float32
        Cosine of incidence over cosine of the zenith, 0 in cast shadow.
    sky : ndarray of float32
        Share of the sky that is seen.
    cloud, cloud_shadow : ndarray of float32
        Opacity of clouds seen here, and of clouds between here and the sun.
    """

    direct: np.ndarray
    sky: np.ndarray
    cloud: np.ndarray
    cloud_shadow: np.ndarray


def illuminate(
    fields: Fields, sun: Sun, this: Pass, rng: np.random.Generator, view: tuple[float, float]
) -> Illumination:
    """Light on the ground at an overflight.

    Parameters
    ----------
    fields : Fields
    sun : Sun
    this : Pass
    rng : numpy Generator
        Of the clouds.
    view : (float, float)
        Horizontal way of the ray to the satellite along u and v per metre of height.
    """
    su, sv, sz = sun_on_grid(sun, fields)
    norm = np.sqrt(1 + fields.slope**2)
    incidence = (fields.down_u * su + fields.down_v * sv + sz) / norm
    direct = np.maximum(incidence, 0) / sz
    direct *= 1 - cast_shadow(fields.heights, su, sv, sz)
    sky = (1 + 1 / norm) / 2
    hollow = np.clip(-fields.ridge / 120.0, 0, 0.35)
    cloud, shadow = _clouds(fields, this, rng, (su / sz, sv / sz), view)
    return Illumination(direct.astype(np.float32), (sky * (1 - hollow)).astype(np.float32), cloud, shadow)


def cast_shadow(heights: np.ndarray, su: float, sv: float, sz: float) -> np.ndarray:
    """1 where higher ground hides the sun, soft over a cell.

    Parameters
    ----------
    heights : ndarray of float32
        On 5 m cells.
    su, sv, sz : float
        Unit vector to the sun.

    Returns
    -------
    ndarray of float32
    """
    flat = math.hypot(su, sv)
    rise = sz / flat
    shadow = np.zeros_like(heights)
    span = float(heights.max() - heights.min())
    step = 1.5 * CELL_M
    rows, cols = heights.shape
    for k in range(1, int(min(span / rise, 900) / step) + 1):
        move = np.array([[1, 0, su / flat * k * step / CELL_M], [0, 1, sv / flat * k * step / CELL_M]])
        seen = cv2.warpAffine(
            heights, move, (cols, rows), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        np.maximum(shadow, np.clip((seen - heights - k * step * rise) / 1.5, 0, 1), out=shadow)
    return shadow


def canopy_shadow(canopy: np.ndarray, su: float, sv: float, sz: float) -> np.ndarray:
    """1 where trees and houses shade what stands beside them; crowns shade each other in their texture.

    Parameters
    ----------
    canopy : ndarray of uint8
        Heights in quarters of a metre, 1 m cells.
    su, sv, sz : float
        Unit vector to the sun.

    Returns
    -------
    ndarray of uint8
    """
    flat = math.hypot(su, sv)
    rise = 4 * sz / flat  # quarters of a metre per metre
    shade = np.zeros(canopy.shape, np.uint8)
    rows, cols = canopy.shape
    for k in range(1, int(int(canopy.max()) / rise) + 1):
        du, dv = round(su / flat * k), round(sv / flat * k)
        here = slice(max(0, -dv), rows - max(0, dv)), slice(max(0, -du), cols - max(0, du))
        there = slice(max(0, dv), rows + min(0, dv)), slice(max(0, du), cols + min(0, du))
        # saturating: what is not higher gives 0; a crown must be 0.75 m above the ray
        over = np.maximum(canopy[there], canopy[here]) - canopy[here]
        np.maximum(shade[here], over > 3 + rise * k, out=shade[here])
    return shade


def _clouds(
    fields: Fields,
    this: Pass,
    rng: np.random.Generator,
    to_sun: tuple[float, float],
    to_satellite: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Opacity of small cumulus where the camera sees it, and of its shadow on the ground."""
    shape = fields.heights.shape
    opacity = np.zeros(shape, np.float32)
    v, u = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32) * CELL_M
    extent = np.array([shape[1], shape[0]]) * CELL_M
    lumps = fractal(rng, shape, largest=24, smallest=2, persistence=0.6)
    scale = min(1.0, float(extent.min()) / 5000)
    for _ in range(this.clouds):
        centre = rng.uniform(0.1, 0.9, 2) * extent
        radius = rng.uniform(70, 170) * scale
        stretch, turn = rng.uniform(1.1, 1.8), rng.uniform(0, math.pi)
        a, b = u - centre[0], v - centre[1]
        x = (a * math.cos(turn) + b * math.sin(turn)) / stretch
        y = -a * math.sin(turn) + b * math.cos(turn)
        body = 1.15 - np.hypot(x, y) / radius + 0.33 * lumps
        opacity = np.maximum(opacity, np.clip(body * 1.3, 0, 1) ** 1.5)
    above = CLOUD_BASE_M - fields.heights

    def moved(way: tuple[float, float]) -> np.ndarray:
        map_u = (u / CELL_M + way[0] * above / CELL_M).astype(np.float32)
        map_v = (v / CELL_M + way[1] * above / CELL_M).astype(np.float32)
        return cv2.remap(opacity, map_u, map_v, cv2.INTER_LINEAR, borderValue=0)

    return moved(to_satellite), cv2.GaussianBlur(moved(to_sun), (0, 0), 2)


def at_sensor(
    surface: np.ndarray,
    band: str,
    *,
    direct: np.ndarray,
    sky: np.ndarray,
    air: np.ndarray,
    cloud: np.ndarray,
    haze: float,
) -> np.ndarray:
    """Reflectance at the top of the atmosphere of a surface under its light.

    Parameters
    ----------
    surface : ndarray of float32
        Surface reflectance.
    band : str
    direct : ndarray
        Direct light relative to flat open ground (shadows included).
    sky : ndarray
        Sky light relative to flat open ground.
    air : ndarray
        Haze above the ground relative to that above 900 m, ``air_above``.
    cloud : ndarray
        Opacity of clouds above.
    haze : float
        1 is a clear day.

    Returns
    -------
    ndarray of float32
    """
    diffuse = np.float32(DIFFUSE[band] * haze)
    light = (1 - diffuse) * direct
    light += diffuse * sky
    light *= surface
    light *= np.float32(TRANSMITTANCE[band] ** haze)
    light += np.float32(PATH[band] * haze) * air
    light += (np.float32(CLOUD[band]) - light) * cloud
    return light


def air_above(heights: np.ndarray) -> np.ndarray:
    """Haze above ground at these heights (metres) relative to that above 900 m."""
    return np.exp((np.float32(900) - heights) / np.float32(PATH_HEIGHT_M))


def radiance(reflectance: np.ndarray, esun: float, sun: Sun) -> np.ndarray:
    """Radiance at the sensor of a top-of-atmosphere reflectance, W m-2 sr-1 um-1."""
    factor = esun * math.cos(math.radians(sun.zenith)) / (math.pi * sun.distance_au**2)
    return reflectance * np.float32(factor)
