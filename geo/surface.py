"""Levels of reflectance: top of the atmosphere, and the surface by DOS1, COST or 6S, for every image of a scene.

PAN and MSS are corrected by one method with one set of assumptions, so that fusion, which compares them, stays right:

* **DOS1, COST**: one transmittance for all bands; each band has its own dark object. PAN's is looked for among means
  of as many PAN pixels as make an MSS pixel, because finer pixels reach deeper into shadows and would put PAN's path
  under that of the bands. Reflectance of each band then is a linear map of what it was, with one slope for all.
* **6S**: one model of the air. No response of PAN is published; a box between its limits stands for it, as it does for
  bands of sensors without published ones. The report says which was used.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.warp

from geo import atmosphere, sixs
from geo.errors import ConfigError, GridError, ProductError, unknown_name
from geo.radiometry import earth_sun_distance, sun_position
from geo.raster import REFLECTANCE, open_raster
from geo.sensors.scene import AS_GIVEN, DIGITAL_NUMBERS, Image, Scene

LEVELS = ("toa", *atmosphere.METHODS, "6s")
#: Shares of ground below 0, and beyond what can be stored, that are told.
_MUCH, _CLIPPED = 0.05, 0.001


@dataclass(frozen=True)
class Surface:
    """What is told of the level and the air.

    Attributes
    ----------
    level : str
        Of ``LEVELS``.
    dark_percent : float
        DOS1, COST: percentile of a band that is its dark object.
    aot : float
        6S: aerosol optical thickness at 550 nm.
    aerosol : str
        6S: a name of ``geo.sixs.AEROSOLS``.
    altitude_m : float, optional
        6S: mean height of the ground.
    """

    level: str = "toa"
    dark_percent: float = 0.01
    aot: float = sixs.AOT550
    aerosol: str = "continental"
    altitude_m: float | None = None

    @property
    def needs_dark(self) -> bool:
        """Whether the level needs the dark objects of the scene."""
        return self.level in atmosphere.METHODS


@dataclass(frozen=True)
class Correction:
    """From top-of-atmosphere to surface reflectance for one image.

    Attributes
    ----------
    apply : callable
        Takes and gives reflectance of shape (bands, height, width).
    report : dict
        Every coefficient and where it comes from.
    """

    apply: Callable[[np.ndarray], np.ndarray]
    report: dict[str, Any]


def check(scene: Scene, surface: Surface) -> None:
    """See that a scene has what a level needs, before work is begun.

    Raises
    ------
    ConfigError
        There is no such level, or 6S is not installed.
    ProductError
        An image has no gain, so that its numbers may be anything, or for 6S bands without known wavelengths.
    """
    if surface.level not in LEVELS:
        raise ConfigError(unknown_name("level of reflectance", surface.level, LEVELS))
    if surface.level == "toa":
        return
    for image in scene.images.values():
        if image.gain is None or image.esun is None:
            raise ProductError(
                f"{image.path} has no gain ({image.calibration_source}), so its level is not known; {surface.level} "
                "corrects calibrated radiance: give gain and esun, or choose --level toa"
            )
    if surface.level == "6s":
        sixs.modules()
        for key in scene.images:
            _responses(scene, key)


def dark_object(
    scene: Scene, key: str, surface: Surface, dark: np.ndarray, *, averaged: int, distance_au: float
) -> Correction:
    """DOS1 or COST for an image.

    Parameters
    ----------
    scene : Scene
    key : str
        Of its images.
    surface : Surface
    dark : ndarray of float, shape (bands,)
        Top-of-atmosphere reflectance of its dark objects.
    averaged : int
        Pixels along a side of the means that they were found among; for the report.
    distance_au : float
        Earth-Sun distance.
    """
    image, zenith = scene.images[key], _known(scene.sun_zenith)
    view = scene.view_zenith if surface.level == "cost" else None
    through = atmosphere.transmittance(surface.level, sun_zenith=zenith, view_zenith=view)
    haze = atmosphere.path_reflectance(dark, through)
    share = math.cos(math.radians(zenith)) / (math.pi * distance_au**2)
    among = "pixels" if averaged == 1 else f"means of {averaged} x {averaged} pixels"
    report = {
        "level": surface.level,
        "source": f"darkest {surface.dark_percent:g} % of {among}, taken to reflect "
        f"{100 * atmosphere.DARK_REFLECTANCE:g} %",
        "transmittance_sun": through.sun,
        "transmittance_view": through.view,
        "bands": {
            band: {
                "dark_reflectance": round(float(d), 6),
                "path_reflectance": round(float(h), 6),
                "path_radiance": round(float(h) * esun * share, 4),
            }
            for band, d, h, esun in zip(image.bands, dark, haze, image.esun or (), strict=True)
        },
    }
    return Correction(lambda toa: atmosphere.subtract_haze(toa, haze, through), report)


def too_dark(findings: dict[str, dict[str, Any]]) -> list[str]:
    """Tell where much ground came out below 0, and what can be done about it.

    Parameters
    ----------
    findings : dict
        Of ``geo.reflectance.write_reflectance``: of each image the shares of pixels that are negative and that are
        clipped at the lowest number of the encoding, and the report of its correction.
    """
    told = []
    for key, found in findings.items():
        report, share = found["surface"], f"{100 * found['negative_share']:.0f} % of {key} is below 0"
        darkened = report["level"] in atmosphere.METHODS and any(
            b["path_reflectance"] for b in report["bands"].values()
        )
        if found["negative_share"] > _MUCH and report["level"] in (AS_GIVEN, DIGITAL_NUMBERS):
            told.append(f"{share} without any correction ({found['calibration_source']}): look at its scale and offset")
        elif found["negative_share"] > _MUCH and not darkened and report["level"] != "6s":
            told.append(
                f"{share} at the top of the atmosphere already, by its gain and bias ({found['calibration_source']}); "
                "water and shadows may be, other ground is not: see geocrack info, and give --gain and --bias where "
                "others are known"
            )
        elif found["negative_share"] > _MUCH:
            told.append(
                f"{share} at the surface: the air is taken for thicker than it was; "
                f"{'lower --aot' if report['level'] == '6s' else 'lower --dark-percent'}, or choose another --level"
            )
        if found["clipped_share"] > _CLIPPED:
            told.append(
                f"{100 * found['clipped_share']:.1f} % of {key} is below the lowest reflectance that is stored, "
                f"{REFLECTANCE.limits[0] * REFLECTANCE.scale + REFLECTANCE.offset:.4f}, and is clipped there"
            )
    return told


def too_bright(findings: dict[str, dict[str, Any]]) -> list[str]:
    """Tell where ground came out above what can be stored, without being saturated.

    Parameters
    ----------
    findings : dict
        Of ``geo.reflectance.write_reflectance``: of each image the share of pixels that are clipped at the highest
        number of the encoding, and the source of its calibration.
    """
    highest = REFLECTANCE.limits[1] * REFLECTANCE.scale + REFLECTANCE.offset
    return [
        f"{100 * found['clipped_above_share']:.1f} % of {key} is above the highest reflectance that is stored, "
        f"{highest:.4f}, and is clipped there, which no ground reflects: look at its gain or scale "
        f"({found['calibration_source']})"
        for key, found in findings.items()
        if found["clipped_above_share"] > _CLIPPED
    ]


def by_6s(scene: Scene, surface: Surface) -> tuple[dict[str, Correction], tuple[str, ...]]:
    """6S for all images of a scene.

    Returns
    -------
    corrections : dict
        One for each image.
    warnings : tuple of str
        What had to be assumed.

    Raises
    ------
    ConfigError
        6S is not installed, or an aerosol is not known.
    ProductError
        6S finds no solution, or the wavelengths of a band are not known.
    """
    warnings = []
    if scene.acquired is None:
        raise ProductError(f"the time of {scene.id} is not known; 6S needs it for the season of the air: give it")
    altitude = surface.altitude_m
    if altitude is None:
        warnings.append("the height of the ground is not given; 6S takes sea level: give --altitude-m or --dem")
    view_zenith = scene.view_zenith
    if view_zenith is None:
        warnings.append("the view's zenith angle is not known; 6S takes the nadir")
    sun_azimuth = scene.sun_azimuth
    if sun_azimuth is None:
        sun_azimuth = sun_position(scene.acquired, *scene.centre)[1]
    view_azimuth = scene.view_azimuth
    if view_azimuth is None:
        view_azimuth = 0.0
        if view_zenith:
            warnings.append("the view's azimuth is not known; 6S takes north")
    view = sixs.View(
        scene.acquired,
        sun_zenith=_known(scene.sun_zenith),
        sun_azimuth=sun_azimuth,
        view_zenith=view_zenith or 0.0,
        view_azimuth=view_azimuth,
    )
    air = sixs.Air(
        sixs.profile_of(scene.centre[1], scene.acquired.month),
        aerosol=surface.aerosol,
        aot550=surface.aot,
        terrain_m=max(0.0, altitude or 0.0),  # 6S knows no ground below the sea
    )
    distance = earth_sun_distance(scene.acquired)
    corrections = {}
    for key, image in scene.images.items():
        curves = _responses(scene, key)
        found = sixs.sixs_coefficients([curve for curve, _ in curves], view, air)
        corrections[key] = _sixs_correction(image, found, [source for _, source in curves], view, air, distance)
    return corrections, tuple(warnings)


def _sixs_correction(
    image: Image,
    found: sixs.Coefficients,
    sources: list[str],
    view: sixs.View,
    air: sixs.Air,
    distance_au: float,
) -> Correction:
    by_toa = found.for_reflectance(image.esun or (), distance_au=distance_au, sun_zenith=view.sun_zenith)
    coefficients = zip(image.bands, found.xa, found.xb, found.xc, sources, strict=True)
    report = {
        "level": "6s",
        "source": "6SV1.1, of radiance: y = xa L - xb, reflectance = y / (1 + xc y)",
        "profile": air.profile,
        "aerosol": air.aerosol,
        "aot550": air.aot550,
        "altitude_m": round(air.terrain_m, 1),
        "sun_zenith": view.sun_zenith,
        "sun_azimuth": round(view.sun_azimuth, 4),
        "view_zenith": view.view_zenith,
        "view_azimuth": view.view_azimuth,
        "bands": {
            band: {"xa": round(xa, 8), "xb": round(xb, 6), "xc": round(xc, 6), "response": source}
            for band, xa, xb, xc, source in coefficients
        },
    }
    return Correction(lambda toa: sixs.correct(toa, by_toa), report)


def _responses(scene: Scene, key: str) -> list[tuple[sixs.Response, str]]:
    """Spectral response of each band of an image, and where it comes from."""
    image = scene.images[key]
    limits = image.wavelengths_um or (None,) * len(image.bands)
    return [
        sixs.band_response(scene.satellite, scene.sensor, band, limit)
        for band, limit in zip(image.bands, limits, strict=True)
    ]


def _known(sun_zenith: float | None) -> float:
    if sun_zenith is None:
        raise ProductError("the sun's zenith angle is not known; surface reflectance needs it: give it or the time")
    return sun_zenith


def mean_height(scene: Scene, dem: str | os.PathLike) -> float:
    """Mean height of a DEM over a scene, from 33 x 33 points.

    Parameters
    ----------
    scene : Scene
    dem : path

    Returns
    -------
    float
        Metres, as the DEM gives them, whatever they stand on.

    Raises
    ------
    GridError
        The DEM has no CRS, or no height in the scene.
    """
    # only here, because most calibrations need no DEM and loading all of orthorectification takes 100 MB
    from geo.ortho.dem import open_dem
    from geo.ortho.rpc import CameraModel

    image = next(iter(scene.images.values()))
    rows, cols = (np.linspace(0, side, 33) for side in image.shape)
    col, row = (axis.ravel() for axis in np.meshgrid(cols, rows))
    # the ortho wants heights above the ellipsoid, 6S those above the sea; the two differ by 107 m at most, which change
    # GF-1's reflectance of 0.08 to 0.3 by 0.001 at most (aerosol thickness 0.2)
    with open_dem(dem, geoid=None) as heights:
        with open_raster(image.path) as src:
            t, crs = image.grid(src).affine, src.crs
            in_map = image.grid(src).crs is not None
        if image.rpcs is not None and not in_map:
            camera = CameraModel.from_rpcs(image.rpcs)
            level = heights.typical_height
            lon, lat = camera.to_ground(col, row, level if math.isfinite(level) else camera.mean_height)
        else:
            x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
            lon, lat = map(np.asarray, rasterio.warp.transform(crs, "EPSG:4326", x, y))
        found = heights.heights(lon, lat)
    if not np.isfinite(found).any():
        raise GridError(
            f"the DEM {Path(dem)} has no height in the scene {scene.id}; give one that covers it, or --altitude-m"
        )
    return float(np.nanmean(found))
