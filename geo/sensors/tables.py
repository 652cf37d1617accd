"""The tables of the sensors: one YAML file each, read into values, found by name.

A table holds bands with their wavelengths, pixel size, bit depth, solar irradiance and, for each year, the
gains and biases with their source and how sure they are. A new sensor of a known file format is a new table.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from geo.errors import ConfigError, ProductError, unknown_name

CONFIDENCE = ("verified", "one source", "doubtful")


@dataclass(frozen=True)
class Coefficients:
    """Gain and bias of one year, a value for each band: ``radiance = gain * DN + bias`` [W m-2 sr-1 um-1]."""

    gain: tuple[float, ...]
    bias: tuple[float, ...]
    confidence: str
    source: str


@dataclass(frozen=True)
class ImageTable:
    """One image of a sensor, e.g. the four bands of the multispectral camera."""

    #: End of its file names: ``MSS1`` in ``<id>-MSS1.tiff``.
    suffix: str
    bands: tuple[str, ...]
    wavelengths_um: tuple[tuple[float, float], ...]
    gsd_m: float
    #: Solar irradiance at 1 AU, W m-2 um-1.
    esun: tuple[float, ...]
    esun_source: str
    calibration: Mapping[int, Coefficients]

    def coefficients(self, year: int) -> tuple[int, Coefficients]:
        """Coefficients of a year, else of the nearest earlier year; nothing is interpolated.

        Sensors are calibrated once a year, and the values jump (GF-1 by 38 % between 2016 and 2017).

        Returns
        -------
        year : int
            The year of the row that is used.
        coefficients : Coefficients

        Raises
        ------
        ProductError
            The year lies before the first row.
        """
        earlier = [y for y in self.calibration if y <= year]
        if not earlier:
            first = min(self.calibration)
            raise ProductError(
                f"there are no calibration coefficients of {self.suffix} for {year} or before; "
                f"the table begins in {first}: check the product's CenterTime"
            )
        return max(earlier), self.calibration[max(earlier)]


@dataclass(frozen=True)
class Sensor:
    """One camera of a satellite."""

    satellite: str
    camera: str
    #: Name of the reader of its files.
    format: str
    bit_depth: int | None
    #: Element of the product's XML that holds gains, trusted before the table.
    gain_element: str
    images: Mapping[str, ImageTable] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in the registry, as product names begin: ``"GF1_PMS1"``."""
        return f"{self.satellite}_{self.camera}"


def parse(table: Mapping[str, Any], *, source: str) -> list[Sensor]:
    """Sensors of one table, one for each camera.

    Raises
    ------
    ConfigError
        An entry is missing, or a list does not have one value for each band.
    """
    try:
        sensors = []
        for camera, images in table["cameras"].items():
            read = {
                key: _image(f"{source}: {camera} {key}", table["images"][key], entry) for key, entry in images.items()
            }
            sensors.append(
                Sensor(
                    satellite=table["satellite"],
                    camera=camera,
                    format=table["format"],
                    bit_depth=table["bit_depth"],
                    gain_element=table["gain_element"],
                    images=read,
                )
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{source} is no sensor table: {error} is missing or of the wrong kind") from None
    return sensors


def _image(where: str, common: Mapping[str, Any], entry: Mapping[str, Any]) -> ImageTable:
    bands = tuple(common["bands"])

    def values(name: str, given: Any) -> tuple[float, ...]:
        if not isinstance(given, list) or len(given) != len(bands):
            raise ConfigError(f"{where}: {name} is {given!r}; expected one value for each of {', '.join(bands)}")
        return tuple(float(v) for v in given)

    calibration = {}
    for year, row in entry["calibration"].items():
        if row["confidence"] not in CONFIDENCE:
            raise ConfigError(f"{where} {year}: {unknown_name('confidence', row['confidence'], CONFIDENCE)}")
        calibration[int(year)] = Coefficients(
            gain=values(f"gain of {year}", row["gain"]),
            bias=values(f"bias of {year}", row.get("bias", [0.0] * len(bands))),
            confidence=row["confidence"],
            source=row["source"],
        )
    return ImageTable(
        suffix=entry["suffix"],
        bands=bands,
        wavelengths_um=tuple((float(low), float(high)) for low, high in common["bands"].values()),
        gsd_m=float(common["gsd_m"]),
        esun=values("esun", entry["esun"]),
        esun_source=entry["esun_source"],
        calibration=calibration,
    )


@functools.cache
def _registry() -> dict[str, Sensor]:
    known: dict[str, Sensor] = {}
    for file in sorted(Path(__file__).parent.glob("*.yaml")):
        for sensor in parse(yaml.safe_load(file.read_text(encoding="utf-8")), source=file.name):
            _add(known, sensor)
    return known


def _add(known: dict[str, Sensor], sensor: Sensor) -> None:
    if sensor.name in known:
        raise ConfigError(f"the sensor {sensor.name} is registered twice; each satellite and camera has one table")
    known[sensor.name] = sensor


def register(sensor: Sensor) -> None:
    """Add a sensor to the registry.

    Raises
    ------
    ConfigError
        There is one of this name.
    """
    _add(_registry(), sensor)


def names() -> tuple[str, ...]:
    """Names of the known sensors, e.g. ``"GF1_PMS1"``."""
    return tuple(sorted(_registry()))


def sensor(name: str) -> Sensor:
    """Sensor of a name.

    Raises
    ------
    ProductError
        There is none; the message shows the known ones.
    """
    try:
        return _registry()[name]
    except KeyError:
        raise ProductError(unknown_name("sensor", name, names())) from None
