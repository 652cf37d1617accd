"""Time zone, zenith or elevation: decided by the computed sun. The scene is noon-ish over Sichuan."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from geo.sensors.sun import settle

CENTRE = (103.5, 31.3)
UTC_TIME = datetime(2015, 8, 5, 3, 50, 2, tzinfo=UTC)
AZIMUTH, ZENITH = 122.63, 23.43  # computed for that moment


def local(hours: float) -> datetime:
    """The moment as a clock without zone mark shows it."""
    return (UTC_TIME + timedelta(hours=hours)).replace(tzinfo=None)


def test_time_of_china_and_a_true_zenith():
    sun = settle(local(8), CENTRE, azimuth=122.5, zenith=23.5)
    assert (sun.acquired, sun.zenith, sun.azimuth, sun.warnings) == (UTC_TIME, 23.5, 122.5, ())


def test_time_in_utc_is_found_by_the_azimuth():
    sun = settle(local(0), CENTRE, azimuth=122.5, zenith=23.5)
    assert sun.acquired == UTC_TIME
    assert sun.zenith == 23.5
    assert sun.warnings == ("CenterTime is read as UTC, because SolarAzimuth does not fit UTC+8",)


def test_an_elevation_in_the_zenith_field():
    sun = settle(local(8), CENTRE, azimuth=122.5, zenith=66.5)
    assert sun.zenith == 23.5
    assert "SolarZenith 66.5 is the sun's elevation" in sun.warnings[0]


def test_an_elevation_and_utc():
    sun = settle(local(0), CENTRE, azimuth=122.5, zenith=66.5)
    assert (sun.acquired, sun.zenith) == (UTC_TIME, 23.5)


@pytest.mark.parametrize("zenith", [40.0, 27.0, 0.0])
def test_an_angle_that_fits_neither_way_is_computed(zenith):
    sun = settle(local(8), CENTRE, azimuth=122.5, zenith=zenith)
    assert sun.zenith == pytest.approx(ZENITH, abs=0.01)
    assert "neither as zenith nor as elevation; the computed angle is used" in sun.warnings[0]


def test_an_azimuth_that_fits_no_zone():
    sun = settle(local(8), CENTRE, azimuth=10, zenith=23.5)
    assert sun.acquired == UTC_TIME
    assert sun.azimuth == pytest.approx(AZIMUTH, abs=0.01)
    assert "fits the computed sun neither in UTC+8 nor in UTC (122.6, " in sun.warnings[0]


def test_without_angles_all_is_computed():
    sun = settle(local(8), CENTRE)
    assert (sun.zenith, sun.azimuth) == pytest.approx((ZENITH, AZIMUTH), abs=0.01)
    assert sun.warnings == (f"there is no SolarZenith; the computed {sun.zenith:.2f} degrees are used",)


def test_a_time_that_names_its_zone_keeps_it():
    time = UTC_TIME.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert settle(time, CENTRE, azimuth=122.5, zenith=23.5).acquired == UTC_TIME


def test_azimuth_is_an_angle_around_the_circle():
    # just past noon in December at 40 N the sun stands near south; 180 - 360 is the same direction
    time = datetime(2015, 12, 21, 12, 3)
    sun = settle(time, (120.0, 40.0), azimuth=-180, zenith=63.4)
    assert sun.azimuth == 180
    assert sun.acquired.hour == 4


def test_without_angles_the_sun_must_be_up():
    sun = settle(local(0), CENTRE)
    assert (sun.acquired, sun.zone) == (UTC_TIME, "UTC")
    assert "CenterTime is read as UTC, because the sun is down in UTC+8" in sun.warnings
    assert settle(local(8), CENTRE).zone == "UTC+8"


def test_a_sun_that_is_down_is_told():
    sun = settle(datetime(2015, 8, 5, 20, tzinfo=UTC), CENTRE)
    assert sun.zenith > 90
    assert any(w.startswith("the sun is down (1") and "no reflectance; check CenterTime" in w for w in sun.warnings)
