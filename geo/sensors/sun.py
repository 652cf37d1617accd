"""Time zone and sun angles: decided by where the sun really stood.

Products give the time of the image without a zone (China's, as a rule) and a ``SolarZenith`` that some files
fill with the sun's elevation. Both are settled against the computed position of the sun.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from geo.radiometry import sun_position

CHINA = timezone(timedelta(hours=8))
#: The zone is believed when its azimuth lies within this many degrees.
AZIMUTH_TOLERANCE = 5.0
#: The product's angle is believed when it lies within this many degrees.
ZENITH_TOLERANCE = 3.0


@dataclass(frozen=True)
class Sun:
    """Time in UTC and the sun's angles in degrees, with what was found odd on the way."""

    acquired: datetime
    zenith: float
    azimuth: float
    warnings: tuple[str, ...] = ()


def settle(
    time: datetime, centre: tuple[float, float], *, azimuth: float | None = None, zenith: float | None = None
) -> Sun:
    """Settle zone and angles of a product.

    A time without zone is read as UTC+8, and as UTC where only that gives the product's azimuth. The product's
    zenith angle is taken as it is or as an elevation, whichever is nearer to the computed zenith.

    Parameters
    ----------
    time : datetime
        Time of the image; naive where the product names no zone.
    centre : (float, float)
        Longitude and latitude in degrees.
    azimuth, zenith : float, optional
        The product's ``SolarAzimuth`` and ``SolarZenith`` in degrees.

    Returns
    -------
    Sun
        Computed angles stand in for those that are absent or fit neither way.
    """
    warnings: list[str] = []
    zones = (CHINA, UTC) if time.tzinfo is None else (time.tzinfo,)
    readings = [time.replace(tzinfo=zone).astimezone(UTC) for zone in zones]
    positions = [sun_position(reading, *centre) for reading in readings]
    chosen, fits = 0, False
    if azimuth is not None:
        apart = [_turn(azimuth, position[1]) for position in positions]
        chosen = apart.index(min(apart))
        fits = apart[chosen] <= AZIMUTH_TOLERANCE
        if not fits:
            chosen = 0
            warnings.append(
                f"SolarAzimuth {azimuth:g} fits the computed sun neither in UTC+8 nor in UTC "
                f"({', '.join(f'{p[1]:.1f}' for p in positions)}); the time is read as "
                f"{'UTC+8' if time.tzinfo is None else 'given'} and the computed azimuth is used"
            )
        elif chosen == 1:
            warnings.append("CenterTime is read as UTC, because SolarAzimuth does not fit UTC+8")
    computed_zenith, computed_azimuth = positions[chosen]
    settled = _zenith(zenith, computed_zenith, warnings)
    return Sun(
        acquired=readings[chosen],
        zenith=settled,
        azimuth=azimuth if azimuth is not None and fits else computed_azimuth,
        warnings=tuple(warnings),
    )


def _zenith(given: float | None, computed: float, warnings: list[str]) -> float:
    if given is None:
        warnings.append(f"there is no SolarZenith; the computed {computed:.2f} degrees are used")
        return computed
    as_zenith, as_elevation = abs(given - computed), abs(90 - given - computed)
    if min(as_zenith, as_elevation) > ZENITH_TOLERANCE:
        warnings.append(
            f"SolarZenith {given:g} fits the computed sun (zenith {computed:.2f} degrees) neither as zenith nor "
            "as elevation; the computed angle is used"
        )
        return computed
    if as_elevation < as_zenith:
        warnings.append(
            f"SolarZenith {given:g} is the sun's elevation (computed zenith {computed:.2f} degrees); "
            f"{90 - given:g} is used"
        )
        return 90 - given
    return given


def _turn(a: float, b: float) -> float:
    """Angle between two directions in degrees, 0 to 180."""
    return abs((a - b + 180) % 360 - 180)
