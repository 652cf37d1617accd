"""Geoid undulations against published values, PROJ's grid and the sphere's own symmetries."""

import os
import sys
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from geo.errors import ConfigError, GridError
from geo.geoid import MODELS, _pad, _refine, model_of, undulation

# NIMA's test points of EGM96 (latitude, longitude, undulation), computed from all harmonics
EGM96 = [
    (38.6281550, 269.7791550, -31.628),
    (-14.6212170, 305.0211140, -2.969),
    (46.8743190, 102.4487290, -43.575),
    (-23.6174460, 133.8747120, 15.871),
    (38.6254730, 359.9995000, 50.066),
    (-0.4667440, 0.0023000, 17.329),
]
# NGA's test points of EGM2008, tide free
EGM2008 = [(37.0, -119.0, -26.151), (90.0, 0.0, 14.899), (-90.0, 0.0, -30.150)]

longitudes = st.floats(-180, 180)
latitudes = st.floats(-90, 90)


@pytest.mark.parametrize(("lat", "lon", "expected"), EGM96)
def test_published_values_of_egm96(lat, lon, expected):
    assert undulation(lon, lat, "egm96") == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(("lat", "lon", "expected"), EGM2008)
def test_published_values_of_egm2008_to_what_degree_360_holds(lat, lon, expected):
    assert undulation(lon, lat, "egm2008") == pytest.approx(expected, abs=0.3)


def test_agrees_with_the_grid_that_proj_ships():
    folders = [pyproj.datadir.get_data_dir(), pyproj.datadir.get_user_data_dir(), os.environ.get("PROJ_DATA", "")]
    folders += ["/usr/share/proj", f"{sys.prefix}/share/proj", f"{os.environ.get('CONDA_PREFIX', '')}/share/proj"]
    found = [p for folder in folders if folder and (p := Path(folder) / "egm96_15.gtx").exists()]
    if not found:
        pytest.skip("no egm96_15.gtx in PROJ's folders (Debian's proj-data has it)")
    with rasterio.open(found[0]) as src:
        theirs, transform = src.read(1), src.transform
    lon = transform.c + (np.arange(theirs.shape[1]) + 0.5) * transform.a
    lat = transform.f + (np.arange(theirs.shape[0]) + 0.5) * transform.e
    difference = undulation(lon[None, :], lat[:, None], "egm96") - theirs
    assert np.abs(difference).max() < 0.06
    assert np.sqrt(np.mean(difference**2)) < 0.01


def test_agrees_with_the_five_minute_grid_of_the_package_egm96():
    theirs = pytest.importorskip("egm96", reason="the package egm96 (Python 3.12 and newer) is not installed")
    lat, lon = np.arange(-90, 90.01, 1 / 3), np.arange(-180, 180, 1 / 3)
    expected = theirs.undulation(lat[:, None], lon[None, :])
    np.testing.assert_allclose(undulation(lon[None, :], lat[:, None]), expected, atol=0.06)


@given(longitudes, latitudes, st.sampled_from(MODELS), st.integers(-2, 2))
def test_longitude_is_periodic(lon, lat, model, turns):
    assert undulation(lon + 360 * turns, lat, model) == pytest.approx(float(undulation(lon, lat, model)), abs=1e-6)


@given(longitudes, st.sampled_from([-90.0, 90.0]), st.sampled_from(MODELS))
def test_a_pole_is_one_point(lon, pole, model):
    assert undulation(lon, pole, model) == pytest.approx(float(undulation(0, pole, model)), abs=0.03)


@given(longitudes, st.floats(-89.9999, 89.9999), st.sampled_from(MODELS))
@settings(max_examples=200)
def test_is_smooth_everywhere_over_cells_seams_and_poles(lon, lat, model):
    # the steepest geoid on earth falls by 0.35 m in a kilometre; this is 11 m along a meridian
    step = 1e-4
    over = lat + step if lat + step <= 90 else lat - step
    assert abs(undulation(lon, lat, model) - undulation(lon, over, model)) < 0.02


def test_the_date_line_is_no_seam():
    lat = np.linspace(-89, 89, 300)
    np.testing.assert_allclose(undulation(-180 + 1e-9, lat), undulation(180 - 1e-9, lat), atol=1e-5)


def test_the_models_differ_by_metres_in_the_longmen_mountains():
    lon, lat = np.meshgrid(np.arange(100, 106, 0.1), np.arange(28, 34, 0.1))
    difference = undulation(lon, lat, "egm2008") - undulation(lon, lat, "egm96")
    assert -3 < difference.min() < -2
    assert 2.5 < difference.max() < 4


def test_a_sphere_harmonic_between_the_nodes_is_found_by_the_series():
    def field(step):
        colatitude = np.radians(np.arange(0, 180 + step / 2, step))[:, None]
        longitude = np.radians(np.arange(-180, 180, step))[None, :]
        return sph_harm_y(11, 4, colatitude, longitude).real

    np.testing.assert_allclose(_refine(field(15.0), 3), field(5.0), atol=1e-12)


def test_the_series_keeps_the_nodes():
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(13, 24))
    nodes[0], nodes[-1] = 1.0, -1.0
    np.testing.assert_allclose(_refine(nodes, 2)[::2, ::2], nodes, atol=1e-12)


def test_the_padding_walks_on_over_the_pole():
    grid = np.arange(5 * 8).reshape(5, 8)
    padded = _pad(grid, 2)
    assert padded.shape == (9, 13)
    np.testing.assert_array_equal(padded[2:-2, 2:-3], grid)
    np.testing.assert_array_equal(padded[2:-2, :2], grid[:, -2:])
    np.testing.assert_array_equal(padded[2:-2, -3:], grid[:, :3])
    np.testing.assert_array_equal(padded[1, 2:-3], np.roll(grid[1], 4))
    np.testing.assert_array_equal(padded[-1, 2:-3], np.roll(grid[-3], 4))


def test_shapes_are_broadcast_and_unknown_places_stay_unknown():
    heights = undulation([10.0, np.nan, 10.0], [[50.0], [np.nan]])
    assert heights.shape == (2, 3)
    assert heights.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(heights), [[False, True, False], [True, True, True]])
    assert undulation(10, 50).shape == ()
    assert undulation(np.empty(0), np.empty(0)).shape == (0,)


def test_an_unknown_model_answers_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown geoid model 'egm69'; did you mean 'egm96'\? known: egm2008, egm96"):
        undulation(0, 0, "egm69")


def test_projected_coordinates_are_no_degrees():
    with pytest.raises(GridError, match=r"the latitude 3\.4648e\+06 lies beyond the poles"):
        undulation(357000.0, 3464800.0)


@pytest.mark.parametrize(
    ("crs", "model"),
    [
        ("EPSG:4326+5773", "egm96"),
        ("EPSG:32648+5773", "egm96"),
        ("EPSG:9707", "egm96"),
        (5773, "egm96"),
        ("EPSG:4326+3855", "egm2008"),
        ("EPSG:9518", "egm2008"),
        (rasterio.crs.CRS.from_string("EPSG:4326+3855"), "egm2008"),
        (
            'COMPD_CS["WGS 84 + EGM96 geoid height",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,'
            '298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
            'VERT_CS["EGM96_Geoid",VERT_DATUM["EGM96_Geoid",2005],UNIT["metre",1]]]',
            "egm96",
        ),
        ("EPSG:4979", None),
        ("EPSG:4326", None),
        ("EPSG:4326+5703", None),
    ],
)
def test_the_model_is_known_from_the_dems_crs(crs, model):
    assert model_of(crs) == model
