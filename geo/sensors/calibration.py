"""Which gain and bias an image is calibrated with, and where they come from.

In the order of trust: what the user gives, the product's XML, the table's row of the year, the nearest earlier row
with a warning. Nothing is interpolated, and a later year is never used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geo.errors import ProductError
from geo.sensors.scene import Image
from geo.sensors.tables import ImageTable, Sensor

#: Reflectance at the highest digital number, sun overhead, that a sensor can be built for.
_FULL_SCALE = (0.02, 5.0)
#: The most where bits are not known and the highest of 16 is taken: real ones have 10 to 12.
_MOST_OF_16_BITS = 20.0
#: Source of gains that the user gives.
GIVEN = "given"
#: What digital numbers are multiplied with where nothing calibrates them, so that 16 bits of them can be stored.
UNCALIBRATED_SCALE = 1e-4


@dataclass(frozen=True)
class Calibrated:
    """Gain and bias, ``radiance = gain * DN + bias``; without a gain the image stays in digital numbers."""

    gain: tuple[float, ...] | None
    bias: tuple[float, ...] | None
    source: str
    detail: str = ""


def by_table(known: Sensor, table: ImageTable, year: int, warnings: list[str], *, detail: str) -> Calibrated:
    """Coefficients of the year, else of the nearest earlier one, which a warning names.

    Parameters
    ----------
    known, table : Sensor, ImageTable
    year : int
    warnings : list of str
        Receives that of an earlier year.
    detail : str
        The file of the product, named in the error.

    Raises
    ------
    ProductError
        The year lies before the table's first.
    """
    try:
        used, row = table.coefficients(year)
    except ProductError as error:
        raise ProductError(f"{detail} is of {known.name}, and {error}") from None
    source = f"table {used}"
    if used != year:
        source += " (nearest earlier)"
        warnings.append(f"{known.name} has no coefficients of {year} for {table.suffix}; those of {used} are used")
    return Calibrated(row.gain, row.bias, source, f"{row.confidence}: {row.source}")


def by_product(
    known: Sensor, table: ImageTable, gain: Sequence[float], bias: Sequence[float], *, bits: int | None, detail: str
) -> Calibrated:
    """Coefficients of the product itself, by its sensor's rule: radiance per DN, or DN per radiance.

    Parameters
    ----------
    gain, bias : sequence of float
        As the product writes them, one of each for a band; gains are positive.
    bits : int or None
        Of a digital number; with it, a rule that cannot be is found.
    detail : str
        The file.

    Raises
    ------
    ProductError
        The highest digital number would be a reflectance that no sensor is built for.
    """
    rule = "L = DN / gain + bias" if known.gain_rule == "divide" else "L = gain * DN + bias"
    factors = tuple(1 / g for g in gain) if known.gain_rule == "divide" else tuple(gain)
    for top in _full_scales(factors, bias, table.esun, bits):
        if not _built_for(top, bits):
            raise ProductError(
                f"{detail}: {known.gain_element} {', '.join(f'{g:g}' for g in gain)} by {rule} makes the highest "
                f"digital number a reflectance of {top:.3g}, which no sensor is built for"
            )
    return Calibrated(factors, tuple(bias), f"XML {known.gain_element}", f"{detail}, {rule}")


def _full_scales(gain: Sequence[float], bias: Sequence[float], esun: Sequence[float], bits: int | None) -> list[float]:
    """Reflectance of each band at the highest digital number, sun overhead."""
    highest = 2 ** (bits or 16) - 1
    return [math.pi * (g * highest + b) / e for g, b, e in zip(gain, bias, esun, strict=True)]


def _built_for(full_scale: float, bits: int | None) -> bool:
    return _FULL_SCALE[0] <= full_scale <= (_FULL_SCALE[1] if bits else _MOST_OF_16_BITS)


def gain_doubts(images: Mapping[str, Image], bits: int | None) -> list[str]:
    """Tell of gains by the user that make the highest digital number a reflectance that no sensor is built for.

    They are used all the same: the user may know of numbers that were rescaled.

    Parameters
    ----------
    images : mapping
        Of a scene, by key.
    bits : int or None
        Of a digital number.
    """
    told = []
    for key, image in images.items():
        if image.calibration_source != GIVEN or image.gain is None or image.bias is None or image.esun is None:
            continue
        tops = zip(image.bands, _full_scales(image.gain, image.bias, image.esun, bits), strict=True)
        odd = [f"{top:.3g} in {band}" for band, top in tops if not _built_for(top, bits)]
        if odd:
            told.append(
                f"the given gains of {key} make its highest digital number, {2 ** (bits or 16) - 1}, a reflectance of "
                f"{', '.join(odd)} with the sun overhead; sensors are built for {_FULL_SCALE[0]:g} to "
                f"{_FULL_SCALE[1] if bits else _MOST_OF_16_BITS:g}: give W m-2 sr-1 um-1 per digital number"
            )
    return told


def none(why: str) -> Calibrated:
    """No coefficients: the image stays in digital numbers."""
    return Calibrated(None, None, "none: digital numbers, not reflectance", why)


@dataclass(frozen=True)
class Given:
    """What the user gives instead: a value for each MSS band and then one for PAN.

    ``radiance = gain * DN + bias`` in W m-2 sr-1 um-1; bias is 0 where it is not given.
    """

    gain: Sequence[float]
    bias: Sequence[float] | None = None

    def deal(self, bands: Mapping[str, Sequence[str]], *, source: str) -> dict[str, Calibrated]:
        """Coefficients of each image.

        Parameters
        ----------
        bands : mapping
            Names of the bands of each image, ``"mss"`` and ``"pan"``.
        source : str
            Named in messages.

        Raises
        ------
        ProductError
            Another number of values than bands, or a gain that is not positive.
        """
        keys = [key for key in ("mss", "pan") if key in bands]
        order = [band for key in keys for band in bands[key]]
        gain, bias = list(self.gain), [0.0] * len(order) if self.bias is None else list(self.bias)
        wrong = [
            f"{name} has {len(values)} values, expected {len(order)} ({', '.join(order)})"
            for name, values in (("gain", gain), ("bias", bias))
            if len(values) != len(order)
        ]
        if not all(math.isfinite(g) and g > 0 for g in gain):
            wrong.append(f"gain is {', '.join(f'{g:g}' for g in gain)}, expected positive numbers")
        if not all(map(math.isfinite, bias)):
            wrong.append(f"bias is {', '.join(f'{b:g}' for b in bias)}, expected finite numbers")
        if wrong:
            raise ProductError(f"{source}: {'; '.join(wrong)}")
        dealt, at = {}, 0
        for key in keys:
            part = slice(at, at := at + len(bands[key]))
            factors, offsets = (tuple(float(v) for v in column[part]) for column in (gain, bias))
            dealt[key] = Calibrated(factors, offsets, GIVEN, "by the user")
        return dealt
