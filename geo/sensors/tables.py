"""The tables of the sensors: one YAML file each, checked against a schema, found by name.

A table holds bands with their wavelengths, pixel size, bit depth, solar irradiance and, for each year, the
gains and biases with their source and how sure they are. A new sensor of a known file format is a new table,
and nothing else; docs/sensors.md describes its keys.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, PositiveFloat, ValidationError, model_validator

from geo.errors import ConfigError, ProductError, unknown_name
from geo.sensors.metadata import Metadata
from geo.settings import Section, explain, read_yaml

#: Where the tables lie.
FOLDER = Path(__file__).parent
#: File formats that have a reader.
FORMATS = ("dimap", "gaofen")

#: Times of a sensor's own pixels, as its table has them, up to which others can be meant.
LIKE = 1.6

Values = Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]


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

    #: What its file names hold: ``MSS1`` in ``<id>-MSS1.tiff``, ``MS4`` in ``VIS1_MS4_<rest>.tif``.
    suffix: str
    bands: tuple[str, ...]
    wavelengths_um: tuple[tuple[float, float], ...]
    gsd_m: float
    #: Solar irradiance at 1 AU, W m-2 um-1.
    esun: tuple[float, ...]
    esun_source: str
    #: Empty where the gains come with the product only.
    calibration: Mapping[int, Coefficients]

    def pixel_m(self, text: Metadata, *names: str) -> float:
        """Ground sampled distance, metres: the first of these elements that can be it, else the table's.

        Products tell degrees, or the other image's pixels, under the same names; the view from the side makes a
        sensor's pixels wider, but hardly by more than a half.
        """
        limits = self.gsd_m / LIKE, self.gsd_m * LIKE
        return next((v for v in (text.number(name, *limits) for name in names) if v is not None), self.gsd_m)

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
            The year lies before the first row: a later year is never used.
        """
        earlier = [y for y in self.calibration if y <= year]
        if not earlier:
            first = min(self.calibration, default=None)
            raise ProductError(
                f"there are no calibration coefficients of {self.suffix} for {year} or before; "
                + (f"the table begins in {first}: " if first else "its table has none: ")
                + "check the product's time, or give gain and bias"
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
    #: The gain in the XML is in radiance per DN (multiply) or in DN per radiance (divide).
    gain_rule: str = "multiply"
    #: Zone of times that name none, unless the sun says otherwise.
    clock: str = "UTC+8"
    #: How the names of its products begin, where not as ``name``.
    prefixes: tuple[str, ...] = ()
    images: Mapping[str, ImageTable] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in the registry, as product names begin: ``"GF1_PMS1"``."""
        return f"{self.satellite}_{self.camera}"


# the schema of the files ----------------------------------------------------------------------------------------------


class Row(Section):
    """Coefficients of one year."""

    gain: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    bias: Values | None = None
    confidence: Literal["verified", "one source", "doubtful"]
    source: Annotated[str, Field(min_length=1)]


class Bands(Section):
    """What the cameras of one satellite share of an image."""

    gsd_m: PositiveFloat
    bands: Annotated[dict[str, tuple[PositiveFloat, PositiveFloat]], Field(min_length=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Bands:
        for name, (low, high) in self.bands.items():
            if not 0.2 < low < high < 20:
                raise ValueError(f"{name} reaches from {low:g} to {high:g} um; expected the shorter wavelength first")
        return self


class CameraImage(Section):
    """What each camera has of its own."""

    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")]
    esun: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    esun_source: Annotated[str, Field(min_length=1)]
    calibration: dict[Annotated[int, Field(ge=1990, le=2100)], Row] = Field(default_factory=dict)


class Table(Section):
    """One file."""

    satellite: Annotated[str, Field(pattern=r"^[A-Z0-9]+$")]
    format: str
    bit_depth: Annotated[int, Field(ge=1, le=32)] | None
    gain_element: Annotated[str, Field(min_length=1)]
    gain_rule: Literal["multiply", "divide"] = "multiply"
    clock: Literal["UTC", "UTC+8"] = "UTC+8"
    prefixes: tuple[str, ...] = ()
    images: dict[Literal["mss", "pan"], Bands]
    cameras: Annotated[dict[str, dict[Literal["mss", "pan"], CameraImage]], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_value_for_each_band(self) -> Table:
        wrong = [] if self.format in FORMATS else [unknown_name("format", self.format, FORMATS)]
        for camera, images in self.cameras.items():
            if "mss" not in images:
                wrong.append(f"{camera} has no mss")
            for key, image in images.items():
                if key not in self.images:
                    wrong.append(f"images has no {key}, which {camera} has")
                    continue
                bands = self.images[key].bands
                lists: dict[str, tuple[float, ...] | None] = {"esun": image.esun}
                for year, row in image.calibration.items():
                    lists |= {f"gain of {year}": row.gain, f"bias of {year}": row.bias}
                wrong += [
                    f"{camera} {key}: {name} is {list(v)}; expected one value for each of {', '.join(bands)}"
                    for name, v in lists.items()
                    if v is not None and len(v) != len(bands)
                ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def parse(table: Mapping[str, Any], *, source: str) -> list[Sensor]:
    """Sensors of one table, one for each camera.

    Parameters
    ----------
    table : mapping
        Content of the file.
    source : str
        Named in messages.

    Raises
    ------
    ConfigError
        Naming all entries that are missing, unknown, or do not have one value for each band.
    """
    try:
        read = Table.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{source} is no sensor table: {'; '.join(explain(error, Table))}") from None
    return [
        Sensor(
            satellite=read.satellite,
            camera=camera,
            format=read.format,
            bit_depth=read.bit_depth,
            gain_element=read.gain_element,
            gain_rule=read.gain_rule,
            clock=read.clock,
            prefixes=read.prefixes,
            images={key: _image(read.images[key], entry) for key, entry in images.items()},
        )
        for camera, images in read.cameras.items()
    ]


def _image(common: Bands, entry: CameraImage) -> ImageTable:
    zeros = (0.0,) * len(common.bands)
    return ImageTable(
        suffix=entry.suffix,
        bands=tuple(common.bands),
        wavelengths_um=tuple(common.bands.values()),
        gsd_m=common.gsd_m,
        esun=entry.esun,
        esun_source=entry.esun_source,
        calibration={
            year: Coefficients(row.gain, zeros if row.bias is None else row.bias, row.confidence, row.source)
            for year, row in entry.calibration.items()
        },
    )


# the registry ---------------------------------------------------------------------------------------------------------


@functools.cache
def _registry() -> dict[str, Sensor]:
    known: dict[str, Sensor] = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        for sensor in parse(read_yaml(file), source=file.name):
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
