"""What is known of a product before a pixel is read: a scene and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.rpc import RPC

from geo.alpha import data_numbers
from geo.errors import RasterError
from geo.geobox import GeoBox
from geo.raster import geobox_of
from geo.sensors.sun import Sun

#: What the values of an image are before the air is corrected: calibrated to the top of the atmosphere; reflectance by
#: a scale, at the level of whoever made it; or no reflectance, because nothing is known that calibrates them.
TOA, AS_GIVEN, DIGITAL_NUMBERS = "toa", "as given", "digital numbers"
#: What bands of optical images are called, where an image names its own.
BAND_NAMES = frozenset(
    ("coastal", "blue", "green", "yellow", "red", "rededge", "nir", "nir1", "nir2", "swir", "swir1", "swir2", "pan")
)


@dataclass(frozen=True)
class Image:
    """One raster of a product; its CRS and transform, where it has any, are in the file.

    With a gain, ``radiance = gain * DN + bias`` in W m-2 sr-1 um-1. Without one its values are ``scale * DN + offset``,
    and ``level`` and ``calibration_source`` say what they are.
    """

    path: Path
    bands: tuple[str, ...]
    gsd_m: float | None
    #: Height and width in pixels.
    shape: tuple[int, int]
    rpcs: RPC | None = None
    gain: tuple[float, ...] | None = None
    bias: tuple[float, ...] | None = None
    #: Solar irradiance at 1 AU of each band, W m-2 um-1.
    esun: tuple[float, ...] | None = None
    #: ``"XML AbsCeof"``, ``"table 2015"``, ``"table 2019 (nearest earlier)"``, ``"given"`` or ``"none ..."``.
    calibration_source: str = "none"
    #: Who published the coefficients and how sure they are.
    calibration_detail: str = ""
    scale: float = 1.0
    offset: float = 0.0
    level: str = TOA
    #: Where each band begins and ends, um; None where nobody says.
    wavelengths_um: tuple[tuple[float, float], ...] | None = None
    #: The RPC is to be trusted, not the place on a map that the file has as well: it was projected to a plain.
    sensor_geometry: bool = False
    #: Metadata and camera model that were read with it.
    beside: tuple[Path, ...] = ()

    def grid(self, src: rasterio.DatasetReader) -> GeoBox:
        """Grid of the opened file as later steps must see it: without a place on a map where only the RPC counts."""
        if self.sensor_geometry and self.rpcs is not None:
            return GeoBox((src.height, src.width), Affine.identity(), None)
        return geobox_of(src)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the file by its name, since an archive's folder is gone tomorrow."""
        calibrated: dict[str, Any] = {"gain": self.gain, "bias": self.bias, "esun": self.esun}
        if self.gain is None:
            calibrated = {"scale": self.scale, "offset": self.offset}
        return {
            "file": self.path.name,
            "bands": list(self.bands),
            "wavelengths_um": None if self.wavelengths_um is None else [list(w) for w in self.wavelengths_um],
            "gsd_m": self.gsd_m,
            "shape": list(self.shape),
            **{name: list(v) if isinstance(v, tuple) else v for name, v in calibrated.items()},
            "level": self.level,
            "calibration_source": self.calibration_source,
            "calibration_detail": self.calibration_detail,
        }


@dataclass(frozen=True)
class Scene:
    """A product: its images ``"mss"`` and ``"pan"``, when it was taken and under which angles (degrees)."""

    id: str
    satellite: str
    sensor: str
    #: Aware, UTC.
    acquired: datetime | None
    sun_zenith: float | None
    sun_azimuth: float | None
    view_zenith: float | None
    view_azimuth: float | None
    #: Longitude and latitude in degrees.
    centre: tuple[float, float]
    bit_depth: int | None
    images: dict[str, Image]
    warnings: tuple[str, ...] = ()
    #: How time zone and sun angles were decided; None where the user gave them.
    sun: Sun | None = None
    #: Processing level as the product names it: ``"LEVEL1A"``.
    level: str | None = None
    #: Percent of the scene that its producer saw clouded; None where it was not looked at.
    cloud_percent: float | None = None

    @property
    def instrument(self) -> str:
        """Satellite and sensor in one name: ``"GF1 PMS1"``."""
        return self.sensor if self.satellite == self.sensor else f"{self.satellite} {self.sensor}"

    @property
    def files(self) -> tuple[Path, ...]:
        """All that was read of the product: its images, and the files beside them."""
        return tuple(file for image in self.images.values() for file in (image.path, *image.beside))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "satellite": self.satellite,
            "sensor": self.sensor,
            "acquired": self.acquired.isoformat() if self.acquired else None,
            "sun_zenith": self.sun_zenith,
            "sun_azimuth": self.sun_azimuth,
            "view_zenith": self.view_zenith,
            "view_azimuth": self.view_azimuth,
            "centre": list(self.centre),
            "bit_depth": self.bit_depth,
            "level": self.level,
            "cloud_percent": self.cloud_percent,
            "sun": self.sun.as_dict() if self.sun else None,
            "images": {key: image.as_dict() for key, image in self.images.items()},
            "warnings": list(self.warnings),
        }

    def tags(self) -> dict[str, str]:
        """TIFF tags that the scene's rasters carry and all later products copy."""
        known = {
            "GEOCRACK_SCENE": self.id,
            "GEOCRACK_SENSOR": self.instrument,
            "GEOCRACK_ACQUIRED": self.acquired.isoformat() if self.acquired else None,
            "GEOCRACK_VIEW_ZENITH": _number(self.view_zenith),
            "GEOCRACK_VIEW_AZIMUTH": _number(self.view_azimuth),
            "GEOCRACK_SUN_ZENITH": _number(self.sun_zenith),
            "GEOCRACK_SUN_AZIMUTH": _number(self.sun_azimuth),
        }
        return {name: value for name, value in known.items() if value is not None}


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def own_names(src: rasterio.DatasetReader) -> tuple[str, ...] | None:
    """Names that an image gives its bands, lower case, in file order without alpha.

    None where a band has none that is a band's (of ``BAND_NAMES``), or two have the same.
    """
    names = tuple((src.descriptions[number - 1] or "").strip().lower() for number in data_numbers(src))
    return names if names and BAND_NAMES.issuperset(names) and len(set(names)) == len(names) else None


def data_bands(src: rasterio.DatasetReader, expected: Sequence[str]) -> list[int]:
    """Numbers (from 1) of the bands that hold an image's data, in file order, without alpha.

    Raises
    ------
    RasterError
        The raster has another number of bands, or complex numbers.
    """
    numbers = data_numbers(src)
    if len(numbers) != len(expected):
        alpha = " and alpha" if len(numbers) < src.count else ""
        raise RasterError(
            f"{src.name} has {len(numbers)} band{'s' * (len(numbers) != 1)}{alpha}; "
            f"expected {len(expected)}: {', '.join(expected)}"
        )
    if any(np.issubdtype(np.dtype(src.dtypes[n - 1]), np.complexfloating) for n in numbers):
        raise RasterError(f"{src.name} holds complex numbers; expected digital numbers of an optical image")
    return numbers
