"""What the numbers of a DEM mean: the geoid, the unit, and what is no height."""

import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS

from geo.errors import ConfigError, GridError
from geo.geoid import undulation
from geo.ortho.dem import LON_LAT, open_dem, transform
from geo.ortho.heights import HeightReference, usable
from tests.geo.terrain import LAT, LON, mountains, write_dem

REAL = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
HERE = np.array([LON]), np.array([LAT])
FLAT = np.full((64, 64), 1000, np.float32)


def height(path, **settings):
    with open_dem(path, **settings) as dem:
        return float(dem.heights(*HERE)[0]), dem.reference


# --- geoid --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crs", "model", "version"),
    [
        ("EPSG:4326+5773", "egm96", "1.0"),
        ("EPSG:4326+5773", "egm96", "1.1"),
        ("EPSG:4326+3855", "egm2008", "1.0"),
        ("EPSG:9707", "egm96", "1.1"),
        ("EPSG:9518", "egm2008", "1.1"),
        ("EPSG:32648+5773", "egm96", "1.0"),
        ("EPSG:4979", None, "1.1"),
    ],
)
def test_auto_takes_the_geoid_of_the_dems_own_crs(tmp_path, caplog, crs, model, version):
    settings = {"crs": crs, "geotiff_version": version}
    if crs.startswith("EPSG:32648"):
        x, y = transform(LON_LAT, CRS.from_epsg(32648), *HERE)
        settings["transform"] = Affine(30, 0, x[0] - 960, 0, -30, y[0] + 960)
    with caplog.at_level(logging.WARNING, logger="geo"):
        found, reference = height(write_dem(tmp_path / "dem.tif", heights=FLAT, **settings))
    added = float(undulation(LON, LAT, model)) if model else 0.0
    assert found == pytest.approx(1000 + added, abs=0.05)
    assert reference.geoid == (model or "none")
    assert reference.source.startswith("the DEM's CRS (")
    assert not caplog.text


def test_auto_without_a_vertical_crs_takes_the_ellipsoid_and_says_so(tmp_path, caplog):
    path = write_dem(tmp_path / "dem.tif", heights=FLAT)
    with caplog.at_level(logging.WARNING, logger="geo"):
        found, reference = height(path)
    assert found == 1000
    assert (reference.geoid, reference.source) == ("none", "assumed")
    assert "does not say what its heights stand on; they are taken as ellipsoidal (give --geoid egm96" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="geo"):
        assert height(path, geoid="none")[1].source == "given"
        assert height(path, geoid_height_m=-34)[0] == 966
    assert not caplog.text


def test_what_is_given_wins_over_the_crs_and_a_contradiction_is_told(tmp_path, caplog):
    path = write_dem(tmp_path / "dem.tif", heights=FLAT, crs="EPSG:4326+5773")
    with caplog.at_level(logging.WARNING, logger="geo"):
        found, reference = height(path, geoid="egm2008")
    assert found == pytest.approx(1000 + float(undulation(LON, LAT, "egm2008")), abs=0.05)
    assert reference.source == "given"
    assert "says that its heights stand on egm96; egm2008 is taken, as given" in caplog.text
    with caplog.at_level(logging.WARNING, logger="geo"):
        height(write_dem(tmp_path / "d3.tif", heights=FLAT, crs="EPSG:4979"), geoid="egm96")
    assert "says that its heights stand on the ellipsoid; egm96 is taken, as given" in caplog.text


def test_another_vertical_datum_is_not_guessed(tmp_path):
    path = write_dem(tmp_path / "dem.tif", heights=FLAT, crs="EPSG:4326+5703")
    with pytest.raises(GridError, match=r"has heights above 'NAVD88 height'; expected the ellipsoid, EGM96 or EGM2008"):
        height(path)
    assert height(path, geoid_height_m=-30)[0] == 970
    assert height(path, geoid="none")[0] == 1000


def test_unknown_names_answer_with_the_known_ones(tmp_path):
    path = write_dem(tmp_path / "dem.tif", heights=FLAT)
    with pytest.raises(ConfigError, match=r"unknown geoid 'egm69'; did you mean 'egm96'"):
        height(path, geoid="egm69")
    with pytest.raises(ConfigError, match=r"unknown meaning of zero heights 'nil'; known: auto, height, void"):
        height(path, zero="nil")


# --- unit ---------------------------------------------------------------------------------------------------


def test_feet_of_the_bands_unit(tmp_path):
    path = write_dem(tmp_path / "dem.tif", heights=FLAT)
    for unit, expected in (("ft", 304.8), ("US survey foot", 1000 * 1200 / 3937), ("m", 1000)):
        with rasterio.open(path, "r+") as dst:
            dst.units = [unit]
        assert height(path, geoid="none")[0] == pytest.approx(expected, abs=0.01)


def test_feet_of_the_vertical_crs(tmp_path):
    path = write_dem(tmp_path / "dem.tif", heights=FLAT, crs="EPSG:4326+8228")  # NAVD88 height (ft)
    assert height(path, geoid="none")[0] == pytest.approx(304.8, abs=0.01)


def test_an_unknown_unit_is_told(tmp_path, caplog):
    path = write_dem(tmp_path / "dem.tif", heights=FLAT)
    with rasterio.open(path, "r+") as dst:
        dst.units = ["furlong"]
    with caplog.at_level(logging.WARNING, logger="geo"):
        assert height(path, geoid="none")[0] == 1000
    assert "the unit 'furlong', which is not known; taken as metres" in caplog.text


# --- voids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("void", [-32768, -9999, -32767, 9999, 32767])
def test_impossible_heights_are_voids_tagged_or_not(tmp_path, void):
    heights = mountains(64).astype(np.int16)
    heights[28:36, 28:36] = void
    with open_dem(write_dem(tmp_path / "dem.tif", heights=heights), geoid="none") as dem:
        lon, lat = LON + np.linspace(-30, 30, 61) / 3600, np.full(61, LAT)
        found = dem.heights(lon, lat)
    assert np.isnan(found[27:34]).all()
    assert np.nanmin(found) > 800
    assert np.isfinite(found).sum() > 45


def test_lands_end_and_the_dead_sea_are_heights():
    values = np.array([-430.0, -0.0, 0.0, 8849.0, -700.0, 9500.0, np.nan], np.float32)
    expected = [True, True, True, True, False, False, False]
    np.testing.assert_array_equal(usable(values, np.ones(7, bool), HeightReference()), expected)


def test_zeros_cut_out_of_mountains_are_voids_with_their_rim(tmp_path, caplog):
    heights = mountains(64)
    heights[20:40, 20:40] = 0
    heights[40, 20:40] = 700  # as resampling mixes them
    with caplog.at_level(logging.WARNING, logger="geo"):
        found, reference = height(write_dem(tmp_path / "dem.tif", heights=heights), geoid="none")
    assert np.isnan(found)
    assert reference.zero_is_void
    assert "the height 0 in 9.8 % of it is taken as a void, for the ground beside it lies at" in caplog.text
    with open_dem(tmp_path / "dem.tif", geoid="none") as dem:
        along = dem.heights(np.full(40, LON), LAT - np.arange(40) / 3600 * 0.75)
    assert np.nanmin(along) > 1000
    assert height(tmp_path / "dem.tif", geoid="none", zero="height")[0] == 0


def test_zeros_of_a_sea_are_heights(tmp_path, caplog):
    rising = np.clip(np.arange(64)[None] - 36, 0, None) * 40.0 + np.zeros((64, 1))
    with caplog.at_level(logging.WARNING, logger="geo"):
        found, reference = height(write_dem(tmp_path / "dem.tif", heights=rising.astype(np.float32)), geoid="none")
    assert found == 0
    assert not reference.zero_is_void
    assert not caplog.text
    assert np.isnan(height(tmp_path / "dem.tif", geoid="none", zero="void")[0])


def test_a_dem_of_zeros_alone_is_a_sea(tmp_path):
    assert height(write_dem(tmp_path / "dem.tif", heights=np.zeros((64, 64), np.int16)), geoid="none")[0] == 0


@pytest.mark.parametrize("size", [64, 1500])
def test_small_voids_are_found_in_large_dems_too(tmp_path, size):
    heights = mountains(size)
    heights[size // 2 - 12 : size // 2 + 12, size // 2 - 12 : size // 2 + 12] = 0
    assert height(write_dem(tmp_path / "dem.tif", heights=heights), geoid="none")[1].zero_is_void


@pytest.mark.realdata
def test_the_untagged_voids_of_a_real_dem(caplog):
    path = REAL / "dem_jiuzhaigou" / "DEM_030.tif"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with caplog.at_level(logging.WARNING, logger="geo"), open_dem(path, geoid="none") as dem:
        assert dem.reference.zero_is_void
        col, row = np.meshgrid(np.arange(0.5, 453, 2), np.arange(0.5, 779, 2))
        found = dem.sample(col, row)
    assert "the height 0 in 33" in caplog.text
    # a third is void; what touches it is left out too, so that no slope to sea level is left
    assert 0.6 < np.isfinite(found).mean() < 0.67
    assert np.nanmin(found) > 1000


# --- places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "crs",
    [
        "EPSG:32647",
        "EPSG:3857",
        "EPSG:4490",
        "EPSG:2343",
        "+proj=tmerc +lat_0=0 +lon_0=104.2 +k=1 +x_0=500000 +y_0=0 +ellps=krass +towgs84=15.8,-154.4,-82.3,0,0,0,0",
        "+proj=aea +lat_1=25 +lat_2=47 +lat_0=0 +lon_0=105 +x_0=0 +y_0=0 +datum=WGS84 +units=us-ft",
        "+proj=ortho +lat_0=31 +lon_0=103 +datum=WGS84",
    ],
)
def test_a_dem_in_any_crs(tmp_path, crs):
    """Heights that are the longitude and the latitude themselves, read in another CRS."""
    own = CRS.from_user_input(crs)
    lon, lat = np.meshgrid(LON + np.linspace(-0.01, 0.01, 5), LAT + np.linspace(-0.01, 0.01, 5))
    x, y = transform(LON_LAT, own, lon, lat)
    step = max(np.ptp(x), np.ptp(y)) / 80
    grid = Affine(step, 0, x.min() - 8 * step, 0, -step, y.max() + 8 * step)
    col, row = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
    east, north = transform(own, LON_LAT, grid.a * col + grid.c, grid.e * row + grid.f)
    ramp = 1000 + (east - LON) * 1e4 + (north - LAT) * 2e4
    path = write_dem(tmp_path / "dem.tif", heights=ramp.astype(np.float32), crs=own.to_wkt(), transform=grid)
    with open_dem(path, geoid="none") as dem:
        found = dem.heights(lon, lat)
        assert "longitude" in dem.extent()
    np.testing.assert_allclose(found, 1000 + (lon - LON) * 1e4 + (lat - LAT) * 2e4, atol=0.1)


def test_a_rotated_dem(tmp_path):
    grid = Affine.translation(LON, LAT) @ Affine.rotation(30) @ Affine.scale(1 / 3600, -1 / 3600)
    grid = grid @ Affine.translation(-32, -32)
    col, row = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    lon = grid.a * col + grid.b * row + grid.c
    path = write_dem(tmp_path / "dem.tif", heights=(1000 + (lon - LON) * 1e4).astype(np.float32), transform=grid)
    with open_dem(path, geoid="none") as dem:
        np.testing.assert_allclose(dem.heights(*HERE), 1000, atol=0.05)


def test_a_dem_without_a_place_is_told(tmp_path):
    bare = write_dem(tmp_path / "bare.tif", heights=FLAT, transform=Affine.identity())
    with pytest.raises(GridError, match=r"bare\.tif has no geotransform; expected a place on the earth"):
        height(bare)
    local = write_dem(tmp_path / "local.tif", heights=FLAT, crs='LOCAL_CS["Pit",UNIT["metre",1]]')
    with pytest.raises(GridError, match=r"local\.tif has the local CRS 'Pit'; expected a place on the earth"):
        height(local)


def test_a_dem_travels_to_another_process(tmp_path):
    path = write_dem(tmp_path / "dem.tif", heights=mountains(64), crs="EPSG:4326+5773")
    with open_dem(path) as dem:
        other = pickle.loads(pickle.dumps(dem))
        np.testing.assert_array_equal(other.heights(*HERE), dem.heights(*HERE))
        assert other.reference == dem.reference
        other.src.close()
