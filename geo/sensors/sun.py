"""Time zone and sun angles: decided by where the sun really stood.

Products give the time of the image without a zone (China's, as a rule) and a ``SolarZenith`` that some files
fill with the sun's elevation. Both are settled against the computed position of the sun.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from geo.errors import ProductError
from geo.radiometry import sun_position

CHINA = timezone(timedelta(hours=8))
#: Zones of times that name none, by the name that sensor tables use.
ZONES: dict[str, tzinfo] = {"UTC+8": CHINA, "UTC": UTC}
#: The zone is believed when its azimuth lies within this many degrees.
AZIMUTH_TOLERANCE = 5.0
#: The product's angle is believed when it lies within this many degrees.
ZENITH_TOLERANCE = 3.0
#: Where the sun stands higher than this (zenith angle in degrees), its azimuth turns too fast to tell anything.
_OVERHEAD = 5.0
#: Zenith angle of a sun that sets.
_HORIZON = 90.0


@dataclass(frozen=True)
class Fields:
    """What a product's metadata calls the things that are settled, for messages."""

    time: str = "CenterTime"
    azimuth: str = "SolarAzimuth"
    zenith: str = "SolarZenith"
    elevation: str = "SUN_ELEVATION"


@dataclass(frozen=True)
class Sun:
    """Time in UTC and the sun's angles in degrees, with how they were decided and what was found odd on the way."""

    acquired: datetime
    zenith: float
    azimuth: float
    warnings: tuple[str, ...] = ()
    #: How the time was read: ``"UTC+8"``, ``"UTC"`` or ``"as written"``; and why.
    zone: str = "as written"
    zone_reason: str = ""
    #: What the product gives, as it stands there; an elevation as one.
    given_zenith: float | None = None
    given_elevation: float | None = None
    given_azimuth: float | None = None
    computed_zenith: float | None = None
    computed_azimuth: float | None = None
    #: What the product's angle was taken as: ``"zenith"``, ``"elevation"`` or, where it was not, ``"computed"``.
    reading: str = "computed"

    def as_dict(self) -> dict[str, Any]:
        """How time and angles were decided, as plain values for JSON."""
        return {
            "zone": self.zone,
            "zone_reason": self.zone_reason,
            "given": {"zenith": self.given_zenith, "elevation": self.given_elevation, "azimuth": self.given_azimuth},
            "computed": {"zenith": self.computed_zenith, "azimuth": self.computed_azimuth},
            "reading": self.reading,
        }


def settle(
    time: datetime,
    centre: tuple[float, float],
    *,
    azimuth: float | None = None,
    zenith: float | None = None,
    elevation: float | None = None,
    clock: str = "UTC+8",
    fields: Fields = Fields(),
) -> Sun:
    """Settle zone and angles of a product.

    A time without zone is read in the zone of ``clock``, and in the other one (UTC or UTC+8) where only that gives
    the product's azimuth; without an azimuth, where only that gives its zenith angle. The
    product's angle is taken as it is or as its complement, whichever is nearer to the computed zenith.

    Parameters
    ----------
    time : datetime
        Time of the image; naive where the product names no zone.
    centre : (float, float)
        Longitude and latitude in degrees.
    azimuth, zenith, elevation : float, optional
        The product's angles in degrees; one of zenith and elevation.
    clock : str
        Zone that is tried first: ``"UTC+8"`` or ``"UTC"``.
    fields : Fields
        The product's names of these, for messages.

    Returns
    -------
    Sun
        Computed angles stand in for those that are absent or fit neither way.

    Raises
    ------
    ProductError
        The time lies at the end of what a calendar holds.
    """
    warnings: list[str] = []
    names = [clock, *(name for name in ZONES if name != clock)] if time.tzinfo is None else ["as written"]
    try:
        readings = [
            (time.replace(tzinfo=ZONES[name]) if time.tzinfo is None else time).astimezone(UTC) for name in names
        ]
    except OverflowError as error:
        raise ProductError(f"{fields.time} is {time}; expected the time of a satellite image") from error
    positions = [sun_position(reading, *centre) for reading in readings]
    given = zenith if elevation is None else 90 - elevation
    chosen, reason, fits = _zone(names, positions, azimuth, given, fields, warnings)
    computed_zenith, computed_azimuth = positions[chosen]
    settled, reading = _zenith(given, elevation is not None, computed_zenith, fields, warnings)
    if settled >= _HORIZON:
        warnings.append(
            f"the sun is down ({settled:.1f} degrees from the zenith), so there is no reflectance; check {fields.time} "
            "and the scene's place"
        )
    return Sun(
        acquired=readings[chosen],
        zenith=settled,
        azimuth=azimuth % 360 if azimuth is not None and fits else computed_azimuth,
        warnings=tuple(warnings),
        zone=names[chosen],
        zone_reason=reason,
        given_zenith=zenith,
        given_elevation=elevation,
        given_azimuth=azimuth,
        computed_zenith=computed_zenith,
        computed_azimuth=computed_azimuth,
        reading=reading,
    )


def _zone(
    names: list[str],
    positions: list[tuple[float, float]],
    azimuth: float | None,
    zenith: float | None,
    fields: Fields,
    warnings: list[str],
) -> tuple[int, str, bool]:
    """Which reading of the time is taken, why, and whether the product's azimuth fits it."""
    only = len(names) == 1
    if azimuth is not None:
        apart = [_turn(azimuth, p[1]) for p in positions]
        # a sun overhead may stand anywhere on the compass
        apart = [min(a, AZIMUTH_TOLERANCE) if p[0] < _OVERHEAD else a for a, p in zip(apart, positions, strict=True)]
        chosen = apart.index(min(apart))
        if apart[chosen] <= AZIMUTH_TOLERANCE:
            if chosen and not only:
                warnings.append(
                    f"{fields.time} is read as {names[chosen]}, because {fields.azimuth} does not fit {names[0]}"
                )
            how = (
                "the product names the zone"
                if only
                else f"{fields.azimuth} fits the sun within {apart[chosen]:.1f} degrees"
            )
            return chosen, how, True
        shown = ", ".join(f"{p[1]:.1f}" for p in positions)
        warnings.append(
            f"{fields.azimuth} {azimuth:g} fits the computed sun "
            + (f"neither in {names[0]} nor in {names[1]}" if not only else "not")
            + f" ({shown}); the time is read as {'given' if only else names[0]} and the computed azimuth is used"
        )
        return 0, "the product names the zone" if only else f"no zone fits {fields.azimuth}", False
    if only:
        return 0, "the product names the zone", False
    if zenith is not None:
        can = [min(abs(zenith - p[0]), abs(90 - zenith - p[0])) <= ZENITH_TOLERANCE for p in positions]
        if can == [False, True]:
            why = f"the product's sun angle does not fit {names[0]}"
            warnings.append(f"{fields.time} is read as {names[1]}, because {why}")
            return 1, why, False
    if positions[0][0] >= _HORIZON > positions[1][0]:
        why = f"the sun is down in {names[0]}"
        warnings.append(f"{fields.time} is read as {names[1]}, because {why}")
        return 1, why, False
    return 0, "as this sensor's products are written", False


def _zenith(
    given: float | None, as_elevation: bool, computed: float, fields: Fields, warnings: list[str]
) -> tuple[float, str]:
    """Settle the zenith angle, and tell what the product's was taken as; ``given`` as a zenith angle."""
    name = fields.elevation if as_elevation else fields.zenith
    if given is None:
        warnings.append(f"there is no {name}; the computed {computed:.2f} degrees are used")
        return computed, "computed"
    written = 90 - given if as_elevation else given
    straight, complement = abs(given - computed), abs(90 - given - computed)
    if min(straight, complement) > ZENITH_TOLERANCE:
        warnings.append(
            f"{name} {written:g} fits the computed sun (zenith {computed:.2f} degrees) neither as zenith nor "
            "as elevation; the computed angle is used"
        )
        return computed, "computed"
    taken, other = ("elevation", "zenith") if as_elevation else ("zenith", "elevation")
    if complement < straight:
        warnings.append(
            f"{name} {written:g} is the sun's {other} (computed zenith {computed:.2f} degrees); "
            f"a zenith of {90 - given:g} is used"
        )
        return round(90 - given, 6), other
    return round(given, 6), taken


def _turn(a: float, b: float) -> float:
    """Angle between two directions in degrees, 0 to 180."""
    return abs((a - b + 180) % 360 - 180)
