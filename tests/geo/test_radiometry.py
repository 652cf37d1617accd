from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.errors import ProductError
from geo.masks import Quality
from geo.radiometry import (
    earth_sun_distance,
    quality_flags,
    radiance,
    saturated,
    sun_position,
    toa_reflectance,
    valid_dn,
)


def test_radiance_is_gain_times_dn_plus_bias_for_each_band():
    dn = np.array([[[100]], [[40]]], "uint16")
    light = radiance(dn, [0.2082, 0.1883], [4.6186, -9.4771])
    # 0.2082 * 100 + 4.6186 and 0.1883 * 40 - 9.4771
    assert light.dtype == np.float32
    assert light.ravel() == pytest.approx([25.4386, -1.9451], abs=1e-5)


def test_reflectance_by_hand():
    # pi * 100 * 1 / (1000 pi * cos 60) = 0.2; at 1.1 AU 1.21 times that
    light = np.full((1, 1, 1), 100, "float32")
    assert toa_reflectance(light, [1000 * np.pi], distance_au=1, sun_zenith=60).item() == pytest.approx(0.2)
    assert toa_reflectance(light, [1000 * np.pi], distance_au=1.1, sun_zenith=60).item() == pytest.approx(0.242)


def test_saturated_gf1_lies_where_the_facts_say():
    # DN 1023 at a sun zenith of 30 degrees: 2016 .54 .44 .37 .43 .67, 2019 .37 .28 .27 .32 .42 (MS1-4 after PAN)
    dn = np.full((4, 1, 1), 1023, "uint16")
    for gain, expected in (
        ([0.232, 0.187, 0.1795, 0.196], [0.44, 0.37, 0.43, 0.67]),
        ([0.149, 0.1328, 0.1311, 0.1217], [0.28, 0.27, 0.32, 0.42]),
    ):
        values = toa_reflectance(
            radiance(dn, gain, [0] * 4), [1945.29, 1854.1, 1542.9, 1080.77], distance_au=1, sun_zenith=30
        )
        assert values.ravel() == pytest.approx(expected, abs=0.006)


@given(
    st.floats(-0.05, 1.5),
    st.floats(0.01, 0.5),
    st.floats(-15, 8),
    st.floats(1000, 2000),
    st.floats(0.983, 1.017),
    st.floats(0, 80),
)
def test_reflectance_comes_back_from_its_digital_number(rho, gain, bias, esun, distance, zenith):
    dn = (rho * esun * np.cos(np.radians(zenith)) / (np.pi * distance**2) - bias) / gain
    light = radiance(np.full((1, 1, 1), dn), [gain], [bias])
    values = toa_reflectance(light, [esun], distance_au=distance, sun_zenith=zenith)
    assert values.item() == pytest.approx(rho, abs=2e-5)


@pytest.mark.parametrize("zenith", [90, 104.5, -1, float("nan")])
def test_sun_below_the_horizon(zenith):
    with pytest.raises(ProductError, match=r"zenith angle is .* degrees; expected 0 to 90 \(sun above the horizon\)"):
        toa_reflectance(np.ones((1, 1, 1)), [1000], distance_au=1, sun_zenith=zenith)


def test_distance_at_perihelion_and_aphelion():
    # 2015: 4 January 0.9832772 AU, 6 July 1.0166820 AU
    assert earth_sun_distance(datetime(2015, 1, 4, 6, 36, tzinfo=UTC)) == pytest.approx(0.98328, abs=1e-4)
    assert earth_sun_distance(datetime(2015, 7, 6, 19, 40, tzinfo=UTC)) == pytest.approx(1.01668, abs=1e-4)


def test_distance_against_nrel():
    pd = pytest.importorskip("pandas")
    from pvlib.solarposition import nrel_earthsun_distance

    times = pd.date_range("2013-04-26", "2026-01-01", freq="17D", tz="UTC")
    ours = [earth_sun_distance(t.to_pydatetime()) for t in times]
    np.testing.assert_allclose(ours, nrel_earthsun_distance(times), atol=1e-4)


def test_sun_position_of_the_example_in_nrels_report():
    # Reda and Andreas 2003, table A5.1: elevation without refraction 39.872046, azimuth 194.34024
    time = datetime(2003, 10, 17, 12, 30, 30, tzinfo=UTC) + timedelta(hours=7)
    zenith, azimuth = sun_position(time, -105.1786, 39.742476)
    assert zenith == pytest.approx(90 - 39.872046, abs=2e-3)
    assert azimuth == pytest.approx(194.34024, abs=2e-3)


def test_a_pixel_is_nodata_where_all_bands_are_0():
    mss = np.array([[[0, 0, 5]], [[0, 7, 5]]], "uint16")
    assert valid_dn(mss).tolist() == [[False, True, True]]
    assert valid_dn(mss, [0, 0]).tolist() == [[False, True, True]]
    pan = np.array([[[0, 1, 1023]]], "uint16")
    assert valid_dn(pan).tolist() == [[False, True, True]]


def test_another_nodata_value_counts_in_any_band_and_fill_stays_fill():
    dn = np.array([[[65535, 3, 0, 0]], [[4, 3, 0, 5]]], "uint16")
    assert valid_dn(dn, [65535, 65535]).tolist() == [[False, True, False, True]]
    assert valid_dn(dn.astype("float32"), [65535, 65535]).tolist() == [[False, True, False, True]]
    assert valid_dn(dn, [None, -9999.5]).tolist() == [[True, True, False, True]]


def test_each_band_has_its_own_nodata():
    dn = np.array([[[1, 2, 1]], [[1, 1, 2]]], "uint16")
    assert valid_dn(dn, [1, 2]).tolist() == [[False, True, False]]


def test_nan_is_never_valid_and_0_is_a_value_of_reflectance():
    dn = np.array([[[np.nan, 0, 0.2]], [[0.1, 0, 0.2]]], "float32")
    assert valid_dn(dn).tolist() == [[False, False, True]]
    assert valid_dn(dn, as_given=True).tolist() == [[False, True, True]]
    assert valid_dn(dn, [np.nan, np.nan], as_given=True).tolist() == [[False, True, True]]
    assert valid_dn(dn, [0, 0], as_given=True).tolist() == [[False, False, True]]
    assert valid_dn((dn > 0).astype("uint8"), as_given=True).tolist() == [[True, False, True]]


def test_saturation_begins_at_the_highest_number():
    dn = np.array([[[1022, 1023, 1]], [[1, 1, 1024]]], "uint16")
    assert saturated(dn, 10).tolist() == [[False, True, True]]
    assert not saturated(dn, None).any()


def test_quality_flags():
    dn = np.array([[[0, 1023, 1023, 500]]], "uint16")
    values = np.array([[[-1.0, 2.0, -1.0, 0.0]]], "float32")
    flags = quality_flags(dn, values, np.array([[False, True, True, True]]), bit_depth=10)
    assert flags.dtype == np.uint8
    assert flags.tolist() == [[Quality.NODATA, Quality.SATURATED, Quality.SATURATED | Quality.NEGATIVE, 0]]
