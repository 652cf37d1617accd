"""Dark-object subtraction against the equations in radiance, worked by hand, and the histogram against NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geo.atmosphere import Histogram, Transmittance, path_reflectance, subtract_haze, transmittance
from geo.errors import ConfigError, ProductError, RasterError
from geo.windows import blocks, slices


def chavez(radiance, dark, *, esun, distance_au, sun_zenith, t_sun, t_view, e_down=0.0):
    """Equations (1) and (2) as Chavez writes them, in radiance."""
    e = esun * math.cos(math.radians(sun_zenith))
    haze = dark - 0.01 * (e * t_sun + e_down) * t_view / (math.pi * distance_au**2)
    return math.pi * distance_au**2 * (radiance - haze) / (t_view * (e * t_sun + e_down))


@pytest.mark.parametrize(
    ("method", "view_zenith", "t_sun", "t_view"),
    [
        ("dos1", None, 1.0, 1.0),
        ("dos1", 20.0, 1.0, 1.0),
        ("cost", None, math.cos(math.radians(30)), 1.0),
        ("cost", 20.0, math.cos(math.radians(30)), math.cos(math.radians(20))),
    ],
)
def test_agrees_with_the_equations_in_radiance(method, view_zenith, t_sun, t_view):
    # blue band of GF-1 PMS1 in July 2015: dark lake 62, forest 70, bare soil 110 W m-2 sr-1 um-1
    sun = {"esun": 1945.29, "distance_au": 1.0165, "sun_zenith": 30.0}
    radiance = np.array([62.0, 70.0, 110.0])
    to_toa = math.pi * sun["distance_au"] ** 2 / (sun["esun"] * math.cos(math.radians(30)))
    through = transmittance(method, sun_zenith=30.0, view_zenith=view_zenith)
    haze = path_reflectance([62.0 * to_toa], through)
    surface = subtract_haze((radiance * to_toa).reshape(1, 1, 3), haze, through)
    expected = chavez(radiance, 62.0, t_sun=t_sun, t_view=t_view, **sun)
    np.testing.assert_allclose(surface[0, 0], expected, rtol=1e-5)
    assert surface[0, 0, 0] == pytest.approx(0.01, abs=1e-6)
    assert surface.dtype == np.float32


def test_a_value_worked_by_hand():
    # COST at 60 degrees: T_z = 0.5; haze 0.08 - 0.01 * 0.5 = 0.075; (0.275 - 0.075) / 0.5 = 0.4
    through = transmittance("cost", sun_zenith=60.0)
    haze = path_reflectance([0.08], through)
    np.testing.assert_allclose(haze, [0.075])
    np.testing.assert_allclose(subtract_haze(np.full((1, 1, 1), 0.275), haze, through), 0.4, rtol=1e-6)


def test_light_of_the_sky_adds_to_the_sun():
    esun, sun_zenith, e_down = 1945.29, 40.0, 250.0
    e = esun * math.cos(math.radians(sun_zenith))
    through = Transmittance(sun=0.8, view=0.9, sky=e_down / e)
    to_toa = math.pi / e
    surface = subtract_haze(np.full((1, 1, 1), 90.0 * to_toa), path_reflectance([60.0 * to_toa], through), through)
    expected = chavez(
        90.0, 60.0, esun=esun, distance_au=1.0, sun_zenith=sun_zenith, t_sun=0.8, t_view=0.9, e_down=e_down
    )
    np.testing.assert_allclose(surface, expected, rtol=1e-5)


def test_the_path_of_a_clear_scene_is_not_negative():
    # negative radiance of the 2013 biases must not brighten all ground
    np.testing.assert_array_equal(path_reflectance([-0.05, 0.004, 0.01], transmittance("dos1", sun_zenith=30)), 0)


def test_nodata_stays_and_ground_darker_than_the_dark_object_is_negative():
    toa = np.array([[[np.nan, 0.05, 0.2]]], np.float32)
    surface = subtract_haze(toa, [0.1], transmittance("dos1", sun_zenith=30))
    np.testing.assert_allclose(surface, [[[np.nan, -0.05, 0.1]]], rtol=1e-5)


@given(st.floats(0, 89), st.floats(0, 89), st.floats(0.011, 0.3), st.sampled_from(["dos1", "cost"]))
def test_the_dark_object_is_one_percent_whatever_the_angles(sun_zenith, view_zenith, dark, method):
    through = transmittance(method, sun_zenith=sun_zenith, view_zenith=view_zenith)
    surface = subtract_haze(np.full((1, 1, 1), dark, np.float64), path_reflectance([dark], through), through)
    assert float(surface[0, 0, 0]) == pytest.approx(0.01, abs=1e-4 / through.whole)


def test_an_unknown_method_and_impossible_angles_are_named():
    with pytest.raises(ConfigError, match="unknown dark-object method 'dos'; did you mean 'dos1'\\? known: cost, dos1"):
        transmittance("dos", sun_zenith=30)
    with pytest.raises(ProductError, match=r"the sun's zenith angle is 95\.00 degrees; expected 0 to 90"):
        transmittance("dos1", sun_zenith=95)
    with pytest.raises(ProductError, match=r"the view's zenith angle is -1\.00 degrees"):
        transmittance("cost", sun_zenith=30, view_zenith=-1)
    with pytest.raises(ProductError, match=r"the sun's zenith angle is nan degrees"):
        transmittance("cost", sun_zenith=math.nan)


# --- the histogram ---------------------------------------------------------------------------------------------------

values = arrays(np.int16, (2, 7, 9), elements=st.integers(-1000, 15000)).map(lambda steps: steps * 1e-4)


@given(values, st.floats(0, 100))
def test_percentiles_are_those_of_numpy(scene, percent):
    histogram = Histogram(2)
    histogram.add(scene.astype(np.float32))
    expected = np.percentile(scene.reshape(2, -1), percent, axis=1, method="inverted_cdf")
    np.testing.assert_allclose(histogram.percentile(percent), expected, atol=0.6e-4)


@given(values, st.integers(2, 5))
@settings(max_examples=25)
def test_windows_add_up_to_the_scene(scene, size):
    whole, parts = Histogram(2), []
    whole.add(scene)
    for window in blocks(scene.shape[1:], size):
        part = Histogram(2)
        part.add(scene[:, *slices(window)])
        parts.append(part)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    np.testing.assert_array_equal(total.counts, whole.counts)


def test_only_good_pixels_are_counted_and_far_ones_at_the_ends():
    scene = np.array([[[np.nan, 0.1, 0.2, -5.0, 9.0]], [[0.3, 0.4, 0.5, 0.6, 0.7]]])
    histogram = Histogram(2)
    histogram.add(scene, valid=np.array([[True, True, False, True, True]]))
    assert histogram.counts.sum(axis=1).tolist() == [3, 3]
    np.testing.assert_allclose(histogram.percentile(0), [-0.1, 0.4])
    np.testing.assert_allclose(histogram.percentile(50), [0.1, 0.6])
    np.testing.assert_allclose(histogram.percentile(100), [1.5, 0.7])


def test_a_low_percentile_passes_over_a_few_black_pixels():
    rng = np.random.default_rng(0)
    scene = rng.uniform(0.08, 0.3, (1, 100, 100))
    scene[0, 0, :9] = 0.0
    histogram = Histogram(1)
    histogram.add(scene)
    assert histogram.percentile(0) == pytest.approx(0.0, abs=1e-4)
    assert histogram.percentile(0.1) == pytest.approx(0.08, abs=1e-3)


def test_a_scene_without_good_pixels_has_no_dark_object():
    histogram = Histogram(1)
    histogram.add(np.full((1, 4, 4), np.nan))
    with pytest.raises(RasterError, match="no pixel of the scene is good"):
        histogram.percentile(0.1)


def test_other_bins_do_not_add_up():
    with pytest.raises(ValueError, match="other bins"):
        Histogram(1) + Histogram(2)
