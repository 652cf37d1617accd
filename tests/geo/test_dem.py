from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.windows import Window

from geo.errors import GridError, RasterError
from geo.geoid import undulation
from geo.geotiff import GeoTiffWriter
from geo.ortho.dem import open_dem, transform
from geo.raster import Encoding
from tests.geo.terrain import LAT, LON, UTM, mountains, write_dem

UTM_CRS = CRS.from_user_input(UTM)


def plane(size=64):
    """Heights that rise 3 m eastwards and fall 2 m southwards per pixel."""
    row, col = np.mgrid[:size, :size]
    return (1000 + 3 * col - 2 * row).astype(np.float32)


def places(*col_row, size=64):
    """Longitudes and latitudes of pixel coordinates of the plane."""
    step = 1 / 3600
    col, row = np.array(col_row, float).T
    return LON + (col - size / 2) * step, LAT - (row - size / 2) * step


def test_heights_hold_at_the_centres_of_pixels(tmp_path):
    with open_dem(write_dem(tmp_path / "dem.tif", heights=plane())) as dem:
        np.testing.assert_allclose(dem.heights(*places((0.5, 0.5), (10.5, 20.5))), [1000, 990], atol=1e-2)


@given(col=st.floats(0.5, 63.5), row=st.floats(0.5, 63.5))
@settings(max_examples=30, deadline=None)
def test_a_plane_is_reproduced(tmp_path_factory, col, row):
    path = tmp_path_factory.getbasetemp() / "plane.tif"
    if not path.exists():
        write_dem(path, heights=plane())
    with open_dem(path) as dem:
        expected = 1000 + 3 * (col - 0.5) - 2 * (row - 0.5)
        assert dem.heights(*places((col, row)))[0] == pytest.approx(expected, abs=1e-2)


def test_the_outer_half_pixel_has_the_nearest_height_and_the_outside_none(tmp_path):
    with open_dem(write_dem(tmp_path / "dem.tif", heights=plane())) as dem:
        found = dem.heights(*places((0.1, 0.5), (63.9, 63.9), (-0.1, 5), (5, 64.1), (1e5, 1e5)))
    np.testing.assert_allclose(found[:2], [1000, 1000 + 63], atol=0.1)
    assert np.isnan(found[2:]).all()


def test_points_in_another_crs(tmp_path):
    lon, lat = places((10.5, 20.5), (33.3, 44.4))
    x, y = transform(CRS.from_epsg(4326), UTM_CRS, lon, lat)
    with open_dem(write_dem(tmp_path / "dem.tif", heights=plane())) as dem:
        np.testing.assert_allclose(dem.heights(x, y, UTM_CRS), dem.heights(lon, lat), atol=1e-2)


def test_a_dem_in_utm(tmp_path):
    x, y = transform(CRS.from_epsg(4326), UTM_CRS, np.array([LON]), np.array([LAT]))
    grid = Affine(30, 0, x[0] - 960, 0, -30, y[0] + 960)
    path = write_dem(tmp_path / "dem.tif", heights=plane(), crs=UTM, transform=grid)
    with open_dem(path) as dem:
        expected = 1000 + 3 * (32 - 0.5) - 2 * (32 - 0.5)
        assert dem.heights(np.array([LON]), np.array([LAT]))[0] == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("crs", ["EPSG:4326+5773", "EPSG:4979"])
def test_vertical_parts_of_a_crs_are_left_aside(tmp_path, crs):
    with open_dem(write_dem(tmp_path / "dem.tif", heights=plane(), crs=crs), geoid="none") as dem:
        assert dem.heights(*places((10.5, 20.5)))[0] == pytest.approx(990, abs=1e-2)


def test_the_geoid_is_added_once(tmp_path):
    with open_dem(write_dem(tmp_path / "dem.tif", heights=plane()), geoid_height_m=-40.5) as dem:
        assert dem.heights(*places((10.5, 20.5)))[0] == pytest.approx(949.5, abs=1e-2)
        assert dem.typical_height == pytest.approx(1000 + 31.5 - 40.5, abs=2)


@pytest.mark.parametrize(
    ("dtype", "nodata", "void"), [("int16", -32768, -32768), ("float32", np.nan, np.nan), ("float32", None, np.nan)]
)
def test_a_void_takes_away_what_touches_it_and_nothing_else(tmp_path, dtype, nodata, void):
    heights = plane().astype(dtype)
    heights[20:23, 30:33] = void
    with open_dem(write_dem(tmp_path / "dem.tif", heights=heights, nodata=nodata)) as dem:
        found = dem.heights(*places((31.5, 21.5), (29.7, 21.5), (29.5, 21.5), (28, 21.5)))
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(found[2:], [1000 + 3 * 29 - 2 * 21, 1000 + 3 * 27.5 - 2 * 21], atol=1e-2)


def test_points_far_apart_are_read_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("geo.ortho.dem._LARGEST", 8)
    with open_dem(write_dem(tmp_path / "dem.tif", heights=mountains(64))) as dem:
        col, row = np.random.default_rng(0).uniform(0, 64, (2, 300))
        apart = dem.sample(col, row)
        monkeypatch.setattr("geo.ortho.dem._LARGEST", 4096)
        np.testing.assert_allclose(apart, dem.sample(col, row), atol=1e-3)


def test_threads_may_share_it(tmp_path):
    lon, lat = np.meshgrid(np.linspace(LON - 0.008, LON + 0.008, 40), np.linspace(LAT - 0.008, LAT + 0.008, 40))
    with open_dem(write_dem(tmp_path / "dem.tif", heights=mountains(64))) as dem, ThreadPoolExecutor(4) as pool:
        expected = dem.heights(lon, lat)
        for found in pool.map(lambda _: dem.heights(lon, lat), range(20)):
            np.testing.assert_array_equal(found, expected)


def test_all_void(tmp_path):
    with open_dem(write_dem(tmp_path / "dem.tif", heights=np.full((20, 20), -1, np.int16), nodata=-1)) as dem:
        assert np.isnan(dem.typical_height)
        assert np.isnan(dem.heights(np.array([LON]), np.array([LAT]))).all()


def test_a_dem_without_crs_is_told(tmp_path):
    path = write_dem(tmp_path / "dem.tif", heights=plane(), crs=None)
    with pytest.raises(GridError, match=r"dem\.tif has no CRS; expected a georeferenced raster"), open_dem(path):
        pass


def test_no_dem_is_told(tmp_path):
    with pytest.raises(RasterError, match=r"none\.tif does not exist"), open_dem(tmp_path / "none.tif"):
        pass


@pytest.mark.parametrize("geoid", ["egm96", "egm2008"])
def test_a_dem_on_a_geoid_gives_heights_above_the_ellipsoid(tmp_path, geoid):
    """Sea level everywhere: the heights are the undulation itself, which changes by metres over this DEM."""
    grid = GeoBox((400, 500), Affine(500, 0, 300_000, 0, -500, 3_500_000), "EPSG:32648")
    with GeoTiffWriter(tmp_path / "dem.tif", grid, ["height"], Encoding("float32", nodata=float("nan"))) as dst:
        dst.write(np.zeros(grid.shape), Window(0, 0, 500, 400))
    lon, lat = np.meshgrid(np.linspace(103.2, 104.9, 7), np.linspace(30.2, 31.4, 5))
    expected = undulation(lon, lat, geoid)
    with open_dem(tmp_path / "dem.tif", geoid=geoid) as dem:
        assert np.abs(dem.heights(lon, lat) - expected).max() < 0.1
    with open_dem(tmp_path / "dem.tif", geoid=geoid, geoid_height_m=5) as dem:
        assert np.abs(dem.heights(lon, lat) - expected - 5).max() < 0.1
    assert np.ptp(expected) > 2
