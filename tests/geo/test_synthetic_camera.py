import numpy as np
import pytest
import rasterio
from pyproj import Geod, Transformer
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

from geo.synthetic import camera as cam
from geo.synthetic.rpc import fit_rpc
from geo.synthetic.world import CENTRE, PASSES

SHAPES = {"MSS": ((625, 750), 8.0), "PAN": ((2492, 3000), 2.0)}
TARGET = (*CENTRE, 1300.0)


def camera_of(this, kind):
    shape, gsd = SHAPES[kind]
    angles = {"roll_deg": this.roll_deg, "pitch_deg": this.pitch_deg, "yaw_deg": this.yaw_deg}
    return cam.aim(shape, gsd, target=TARGET, **angles)


@pytest.fixture(params=[(p, k) for p in PASSES for k in SHAPES], ids=lambda v: f"{v[0].year}-{v[1]}")
def camera(request):
    return camera_of(*request.param)


def test_middle_pixel_sees_the_target(camera):
    lon, lat = camera.ground(*((n - 1) / 2 for n in camera.shape), 1300.0)
    assert Geod(ellps="WGS84").inv(lon, lat, *CENTRE)[2] < 1e-3


def test_pixels_on_the_ground_have_their_size(camera):
    lines, samples = camera.shape
    gsd = dict(SHAPES.values())[camera.shape]
    line, sample = np.array([0, lines - 1, 0]), np.array([0, 0, samples - 1])
    lon, lat = camera.ground(line, sample, 1300.0)
    geod = Geod(ellps="WGS84")
    down, across = (geod.inv(lon[0], lat[0], lon[k], lat[k]) for k in (1, 2))
    assert down[2] / (lines - 1) == pytest.approx(gsd, rel=0.01)
    assert across[2] / (samples - 1) == pytest.approx(gsd, rel=0.015)
    # flying south-south-west, columns to the east-south-east
    assert down[0] % 360 == pytest.approx(192.6, abs=1.5)
    assert across[0] == pytest.approx(102.6, abs=1.5)


@pytest.mark.parametrize("this", PASSES, ids=lambda p: str(p.year))
def test_view_angle_follows_from_the_roll(this):
    zenith, azimuth = camera_of(this, "PAN").view_angles()
    # sine rule: sin(view zenith) = (R + H) / (R + h) * sin(roll)
    radius, height = 6_372_000.0, 1300.0
    expected = np.degrees(
        np.arcsin((radius + cam.ALTITUDE_M) / (radius + height) * np.sin(np.radians(abs(this.roll_deg))))
    )
    assert zenith == pytest.approx(expected, abs=0.06)
    # rolled to higher samples (east), the satellite stands in the west
    assert (180 < azimuth < 360) == (this.roll_deg > 0)


def test_satellite_is_at_its_altitude(camera):
    back = Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)
    start, direction = camera.rays(np.array([0.0, camera.shape[0] - 1.0]), np.array([10.0, 20.0]))
    assert back.transform(*start[0])[2] == pytest.approx(cam.ALTITUDE_M, abs=100)
    np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1)


def test_ground_is_on_the_ray_at_the_height(camera):
    line, sample, height = 100.3, 44.7, 1777.0
    lon, lat = camera.ground(line, sample, height)
    point = np.array(Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True).transform(lon, lat, height))
    start, direction = camera.rays(np.array(line), np.array(sample))
    away = np.cross(point - start, direction)
    assert np.linalg.norm(away) < 1e-3


def test_rpc_is_the_camera(camera):
    rpc = fit_rpc(camera, heights=(600.0, 2100.0))
    rng = np.random.default_rng(1)
    line, sample = (rng.uniform(-2, n + 1, 3000) for n in camera.shape)
    height = rng.uniform(650, 2050, 3000)
    got = rpc.project(*camera.ground(line, sample, height), height)
    assert np.abs(got[0] - line).max() < 0.05
    assert np.abs(got[1] - sample).max() < 0.05
    for table in (rpc.line_den, rpc.samp_den):
        assert table[0] == 1
        assert np.abs(table[1:]).max() < 0.1


def test_rpc_does_not_know_the_offset():
    camera = camera_of(PASSES[0], "MSS")
    moved = camera.shifted((0.8, -0.6))
    one, other = (fit_rpc(c, heights=(600.0, 2100.0)) for c in (camera, moved))
    np.testing.assert_array_equal(one.line_num, other.line_num)
    line, sample = np.array([300.0]), np.array([200.0])
    got = other.project(*moved.ground(line, sample, 1200.0), np.array([1200.0]))
    assert got[0][0] - 300 == pytest.approx(0.8, abs=0.01)
    assert got[1][0] - 200 == pytest.approx(-0.6, abs=0.01)


def test_gdal_agrees_with_the_rpb_file(camera, tmp_path):
    rpc = fit_rpc(camera, heights=(600.0, 2100.0))
    lines, samples = camera.shape
    with rasterio.open(tmp_path / "x.tiff", "w", driver="GTiff", width=samples, height=lines, count=1, dtype="uint8"):
        pass
    (tmp_path / "x.rpb").write_text(rpc.text())
    with rasterio.open(tmp_path / "x.tiff") as src:
        read = src.rpcs
        assert src.crs is None
    assert isinstance(read, RPC)
    line, sample = np.array([0.0, 200.25, lines - 1]), np.array([0.0, 311.5, samples - 1])
    lon, lat = camera.ground(line, sample, 1450.0)
    with RPCTransformer(read) as transformer:
        row, col = transformer.rowcol(lon, lat, [1450.0] * 3, op=lambda v: v)
    # GDAL counts from the corner of the first pixel, RPC00B from its centre
    np.testing.assert_allclose(np.array(row) - 0.5, line, atol=0.05)
    np.testing.assert_allclose(np.array(col) - 0.5, sample, atol=0.05)


def test_rays_meet_the_terrain_where_marching_meets_it():
    """Each pixel's ground is found by small steps down its ray, with other code and other interpolation."""
    camera = cam.aim((40, 50), 8.0, target=TARGET, roll_deg=6.0, pitch_deg=0.0, yaw_deg=0.3)
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32648", always_xy=True)
    east0, north0 = to_utm.transform(*CENTRE)
    rows, cols = 240, 240

    def height_at(row, col):  # a 40 degree slope with waves
        return 1100 + 4.2 * col + 25 * np.sin(row / 9.0) + 15 * np.cos(col / 7.0)

    r, c = np.mgrid[0:rows, 0:cols].astype(np.float32)
    surface = height_at(r, c).astype(np.float32)

    def to_cells(lon, lat):
        east, north = to_utm.transform(lon, lat)
        return rows / 2 - (north - north0) / 5, cols / 2 + (east - east0) / 5

    heights = float(surface.min()) - 10, float(surface.max()) + 10
    row, col, height = cam.footprint_grid(camera, surface, to_cells, heights=heights)
    for line, sample in ((0, 0), (39, 49), (20, 10), (5, 44)):
        level = np.arange(heights[1], heights[0], -0.05)
        lon, lat = camera.ground(np.full(level.shape, float(line)), np.full(level.shape, float(sample)), level)
        at_row, at_col = to_cells(lon, lat)
        first = int(np.argmax(level <= height_at(at_row, at_col)))
        assert height[line, sample] == pytest.approx(level[first], abs=0.6)
        assert row[line, sample] == pytest.approx(at_row[first], abs=0.05)
        assert col[line, sample] == pytest.approx(at_col[first], abs=0.05)
    # rays lean: neighbouring pixels at other heights are displaced sideways
    _, flat_col, _ = cam.footprint_grid(camera, np.full_like(surface, 1100), to_cells, heights=heights)
    assert np.abs(flat_col - col).max() > 2


def test_coarse_grid_is_the_fine_one_thinned():
    camera = cam.aim((60, 70), 8.0, target=TARGET, roll_deg=3.0, pitch_deg=0.0, yaw_deg=0.0)
    surface = np.full((300, 300), 1300, np.float32)
    to_utm = Transformer.from_crs("EPSG:4326", "EPSG:32648", always_xy=True)
    east0, north0 = to_utm.transform(*CENTRE)

    def to_cells(lon, lat):
        east, north = to_utm.transform(lon, lat)
        return 150 - (north - north0) / 5, 150 + (east - east0) / 5

    fine = cam.footprint_grid(camera, surface, to_cells, heights=(1000.0, 1500.0))
    coarse = cam.footprint_grid(camera, surface, to_cells, heights=(1000.0, 1500.0), step=25)
    pick = np.ix_([0, 25, 50, 59], [0, 25, 50, 69])
    for a, b in zip(fine, coarse, strict=True):
        np.testing.assert_allclose(a[pick], b, atol=1e-3)
