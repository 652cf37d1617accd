"""Positions in the image against the exact camera model, where the ground is at its worst."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.rpc import RPC
from rasterio.windows import Window

from geo.errors import GridError
from geo.ortho import geometry as module
from geo.ortho.dem import LON_LAT, apply, around, open_dem, transform
from geo.ortho.geometry import BOUND, MapGeometry, RpcGeometry, ground_cover
from geo.ortho.grid import middle, snapped_grid, utm_crs
from geo.ortho.rpc import CameraModel, outline
from tests.geo.terrain import LAT, UTM, camera_rpcs, map_grid, mountains, write_dem

UTM_CRS = CRS.from_user_input(UTM)
SHAPE = (600, 600)


def steep_rpcs(shape=SHAPE, tilt=0.9, orbit_m=645e3, gsd_m=2.0) -> RPC:
    """A camera 42 degrees off nadir whose perspective narrows with height, as that of a real satellite does."""
    plain = camera_rpcs(shape, gsd_m, tilt=tilt).to_dict()
    for part in ("samp_den_coeff", "line_den_coeff"):
        plain[part][3] -= plain["height_scale"] / orbit_m
    plain.pop("err_bias"), plain.pop("err_rand")
    return RPC(**plain)


def cliffs(size=96):
    """Mountains cut by walls of 2000 m, one pixel of the DEM wide."""
    heights = mountains(size, relief=300)
    heights[:, 40:46] += 2000
    heights[50:53] -= 1200
    heights[20, 20] += 1500
    return heights


def worst_error(path, rpcs, *, crs=UTM_CRS, resolution=2.0, window=None, shape=SHAPE):
    """Largest error of a position in pixels, and the share of pixels with one."""
    with open_dem(path, geoid="none") as dem:
        view = RpcGeometry(CameraModel.from_rpcs(rpcs), dem, crs)
        lon, lat, _ = ground_cover(view, shape)
        grid = snapped_grid(lon, lat, crs, resolution)
        window = window or Window(0, 0, min(grid.shape[1], 700), min(grid.shape[0], 700))
        found = view.positions(grid, window)
        col, row = np.meshgrid(
            np.arange(window.width) + window.col_off + 0.5, np.arange(window.height) + window.row_off + 0.5
        )
        lon, lat = transform(crs, LON_LAT, *apply(grid.affine, col, row))
        heights = dem.heights(lon, lat).astype(float)
    exact = view.camera.to_image(lon, lat, heights)
    error = np.hypot(found.col + found.origin[0] - exact[0], found.row + found.origin[1] - exact[1])
    np.testing.assert_array_equal(np.isfinite(error), np.isfinite(heights))
    return np.nanmax(error, initial=0), np.isfinite(error).mean()


def test_the_bound_holds_at_every_pixel_under_cliffs(tmp_path, monkeypatch):
    path = write_dem(tmp_path / "dem.tif", heights=cliffs())
    assert worst_error(path, steep_rpcs())[0] < BOUND
    monkeypatch.setattr(module, "BOUND", np.inf)
    assert worst_error(path, steep_rpcs())[0] > 2 * BOUND  # what is refined needs it


def test_the_bound_holds_beside_voids(tmp_path, monkeypatch):
    """At a void a node has no height of its own: that of far ground stands in."""
    heights = mountains(96, relief=100) + np.linspace(0, 3000, 96, dtype=np.float32)[:, None]
    heights[30:60:7, 30:60] = np.nan
    heights[:12] = np.nan
    path = write_dem(tmp_path / "dem.tif", heights=heights)
    error, share = worst_error(path, steep_rpcs())
    assert error < BOUND
    assert 0.3 < share < 0.95
    monkeypatch.setattr(module, "BOUND", np.inf)
    assert worst_error(path, steep_rpcs())[0] > BOUND


@pytest.mark.parametrize(("resolution", "arcsec"), [(0.5, 1.0), (8.0, 1.0), (8.0, 0.1), (2.0, 10.0)])
def test_the_bound_holds_for_finer_and_coarser_dems_and_grids(tmp_path, resolution, arcsec):
    rough = cliffs(int(np.clip(96 / arcsec, 24, 900)))
    path = write_dem(tmp_path / "dem.tif", heights=rough, arcsec=arcsec)
    rpcs = steep_rpcs((150, 150), gsd_m=resolution * 1.0)
    assert worst_error(path, rpcs, resolution=resolution, shape=(150, 150))[0] < BOUND


@given(seed=st.integers(0, 10_000), tilt=st.floats(-1, 1), wall=st.floats(-3000, 3000))
@example(seed=1728, tilt=1.0, wall=-2256.0)
@settings(max_examples=12, deadline=None)
def test_the_bound_holds_for_any_view_and_any_wall(tmp_path_factory, seed, tilt, wall):
    """The DEM reaches 4.8 km to each side: down a wall of 3 km a camera at 45 degrees sees ground that far away."""
    rng = np.random.default_rng(seed)
    heights = mountains(320, seed=seed, relief=200)
    heights[:, rng.integers(128, 192) :] += wall
    heights[rng.random(heights.shape) < 0.01] = np.nan
    path = write_dem(tmp_path_factory.mktemp("wall") / "dem.tif", heights=heights)
    size, offset = rng.integers(40, 300, 2), rng.integers(0, 200, 2)
    window = Window(int(offset[0]), int(offset[1]), int(size[0]), int(size[1]))
    assert worst_error(path, steep_rpcs(tilt=tilt), window=window)[0] < BOUND


def test_mountains_need_no_refinement(tmp_path, monkeypatch):
    """Otherwise a scene would take as long as the exact model at each pixel."""
    asked = []
    monkeypatch.setattr(RpcGeometry, "_exactly", lambda *a: asked.append(a))
    path = write_dem(tmp_path / "dem.tif", heights=mountains(96))
    assert worst_error(path, steep_rpcs(tilt=0.3))[0] < BOUND
    assert not asked


def test_a_pole_of_the_model_costs_only_its_own_pixels(tmp_path):
    """A denominator that is zero along a line of longitude."""
    rpcs = camera_rpcs(SHAPE)
    rpcs.samp_den_coeff[:] = [0.0, 1.0] + [0.0] * 18
    with open_dem(write_dem(tmp_path / "dem.tif", heights=mountains(96)), geoid="none") as dem:
        view = RpcGeometry(CameraModel.from_rpcs(rpcs), dem, UTM_CRS)
        found = view.positions(map_grid((300, 300), 2.0, left=357000 - 300, top=3464000 + 300), Window(0, 0, 300, 300))
    assert np.isfinite(found.row).mean() > 0.9


# --- antimeridian -------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-170, 170), min_size=1, max_size=5), st.floats(-540, 540), st.integers(-2, 2))
def test_longitudes_are_moved_by_whole_turns(offsets, centre, turns):
    lon = np.array(offsets) / 2 + centre + 360 * turns
    moved = around((lon + 180) % 360 - 180, centre)
    np.testing.assert_allclose((moved - lon) / 360, np.round((moved - lon) / 360), atol=1e-9)
    assert abs(moved[0] - centre) <= 180 + 1e-9
    assert np.abs(moved - moved[0]).max() <= 180 + 1e-9


def test_the_middle_of_points_across_the_antimeridian():
    assert middle(np.array([179.9, -179.9, 179.95, -179.99]), np.zeros(4)) == pytest.approx((179.98, 0), abs=0.03)
    assert middle(np.array([103.0, 104.0]), np.array([30.0, 31.0])) == (103.5, 30.5)


@pytest.mark.parametrize("left", [179.98, -180.02])
def test_a_scene_and_a_dem_on_the_antimeridian(tmp_path, left):
    """The DEM is written as 179.98 to 180.02 or as -180.02 to -179.98; both mean the same ground."""
    step = 1 / 3600
    heights = mountains(144)
    grid = (step, 0, left, 0, -step, LAT + 72 * step)
    path = write_dem(tmp_path / "dem.tif", heights=heights, transform=grid)
    rpcs = camera_rpcs((300, 300), lon=180.0)
    with open_dem(path, geoid="none") as dem:
        view = RpcGeometry(CameraModel.from_rpcs(rpcs), dem, LON_LAT)
        lon, lat, share = ground_cover(view, (300, 300))
        assert share == 1
        assert lon.min() < -179.99
        assert lon.max() > 179.99
        here = dem.heights(np.array([179.9999, -179.9999]), np.array([LAT, LAT]))
        assert abs(here[0] - here[1]) < 40
    crs = utm_crs(*middle(lon, lat))
    assert crs.to_epsg() in (32660, 32601)
    error, found = worst_error(path, rpcs, crs=crs, shape=(300, 300))
    assert error < BOUND
    assert found > 0.95


def test_a_map_across_the_antimeridian():
    """An image in longitude and latitude from 179.99 to 180.01."""
    step = 2e-5
    image = MapGeometry(module.Affine(step, 0, 179.99, 0, -step, 0.01), (1000, 1000), LON_LAT, CRS.from_epsg(32660))
    lon, lat, _ = ground_cover(image, (1000, 1000))
    grid = snapped_grid(lon, lat, CRS.from_epsg(32660), 2.0)
    assert max(grid.shape) < 1200
    found = image.positions(grid, Window(0, 0, grid.shape[1], grid.shape[0]))
    col = found.col + found.origin[0]
    assert -60 < np.nanmin(col) < 10
    assert 990 < np.nanmax(col) < 1060
    assert np.all(np.diff(col, axis=1) > 0)


def test_relief_between_the_points_of_the_edge_is_not_cut_off(tmp_path):
    """Peaks of 1500 m, one pixel of the DEM wide, reach out of the ground around them."""
    shape = (3000, 3000)
    heights = mountains(300, relief=200)
    heights[np.random.default_rng(0).random(heights.shape) < 0.03] += 1500
    path = write_dem(tmp_path / "dem.tif", heights=heights)
    with open_dem(path, geoid="none") as dem:
        view = RpcGeometry(CameraModel.from_rpcs(steep_rpcs(shape)), dem, UTM_CRS)
        lon, lat, _ = ground_cover(view, shape)
        grid = snapped_grid(lon, lat, UTM_CRS, 2.0)
        lon, lat, known = view.to_ground(*outline(shape, 1))
    x, y = transform(LON_LAT, UTM_CRS, lon[known], lat[known])
    left, bottom, right, top = grid.boundingbox.bbox
    assert np.maximum.reduce([left - x, x - right, bottom - y, y - top]).max() < 0


# --- the grid -----------------------------------------------------------------------------------------------


@given(
    lon=st.floats(102.1, 107.9),
    lat=st.floats(-75, 80),
    size=st.floats(1e-5, 0.1),
    resolution=st.sampled_from([0.5, 0.8, 1.0, 2.0, 3.2, 8.0, 16.0, 0.3]),
)
@settings(max_examples=100, deadline=None)
def test_grids_cover_their_points_and_nest(lon, lat, size, resolution):
    lons, lats = np.array([lon, lon + size, lon]), np.array([lat, lat + size / 2, lat + size])
    crs = utm_crs(lon, lat)
    fine, coarse = (snapped_grid(lons, lats, crs, step) for step in (resolution, 4 * resolution))
    for grid, step in ((fine, resolution), (coarse, 4 * resolution)):
        left, bottom, right, top = grid.boundingbox.bbox
        for edge in (left, bottom, right, top):
            assert edge / step == pytest.approx(round(edge / step), abs=1e-6)
        x, y = transform(LON_LAT, crs, lons, lats)
        assert left < x.min() <= x.max() < right
        assert bottom < y.min() <= y.max() < top
        # never more than two pixels wider than the points
        assert right - left <= np.ptp(x) + 4 * step + 1e-6
        assert top - bottom <= np.ptp(y) + 4 * step + 1e-6


def test_a_camera_without_a_place_on_the_map_is_told():
    """Of an RPC whose numbers are garbled, points beyond the poles come back."""
    with pytest.raises(GridError, match=r"lies in parts where .*UTM zone 48N shows nothing .*latitude -107 to 31"):
        snapped_grid(np.array([103.5, -154.0]), np.array([31.3, -107.0]), UTM_CRS, 8.0)
