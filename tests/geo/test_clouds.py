"""Clouds: the map and its way to PAN by geometry worked out by hand; the network over real and painted pictures."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import clouds
from geo.clouds import Alignment, CloudMap, align, check, coarsening, find_clouds
from geo.errors import ConfigError
from geo.masks import Quality
from geo.sensors import rpb
from geo.synthetic.noise import fractal
from tests.handmade import RPB

REAL = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
NO_GRID = GeoBox((5, 7), Affine.identity(), None)

needs_network = pytest.mark.skipif(
    not (importlib.util.find_spec("ukis_csmask") and importlib.util.find_spec("onnxruntime")),
    reason='the cloud mask is not installed (pip install "geocrack[clouds]")',
)


def random_map(seed, shape=(9, 11), factor=2):
    flags = np.random.default_rng(seed).choice(np.array([0, 4, 8], np.uint8), shape, p=[0.7, 0.15, 0.15])
    return CloudMap(flags, factor)


def network(monkeypatch, classes):
    """Put a function of the image (bands, height, width) in the network's place."""
    monkeypatch.setattr(clouds, "_classes", lambda image, threads: classes(image))


# --- the map ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.integers(0, 12), st.integers(0, 15), st.integers(1, 6), st.integers(1, 7))
def test_on_the_mss_itself_each_pixel_has_the_flags_of_its_block(seed, row, col, height, width):
    found = random_map(seed)
    whole = found.flags.repeat(2, 0).repeat(2, 1)
    window = Window(col, row, min(width, 22 - col), min(height, 18 - row))
    expected = whole[row : row + window.height, col : col + window.width]
    np.testing.assert_array_equal(found.at(window, Affine.identity()), expected)


@given(
    st.integers(0, 99),
    st.floats(0.2, 0.3),
    st.floats(-0.01, 0.01),
    st.floats(-6, 6),
    st.floats(-6, 6),
    st.integers(0, 60),
)
@settings(max_examples=60)
def test_on_pan_each_pixel_has_the_flags_where_its_centre_lies(seed, scale, turn, dx, dy, start):
    found = random_map(seed)
    to_mss = Affine(scale, turn, dx, -turn, scale, dy)
    window = Window(start, start // 2, 33, 21)
    rows, cols = np.mgrid[0 : window.height, 0 : window.width]
    x = window.col_off + cols + 0.5
    y = window.row_off + rows + 0.5
    u = (to_mss.a * x + to_mss.b * y + to_mss.c) / found.factor
    v = (to_mss.d * x + to_mss.e * y + to_mss.f) / found.factor
    height, width = found.flags.shape
    expected = found.flags[
        np.clip(np.floor(v).astype(int), 0, height - 1), np.clip(np.floor(u).astype(int), 0, width - 1)
    ]
    # OpenCV counts in 1024ths of a pixel: leave out what lies on a border
    clear = (np.abs(u - np.rint(u)) > 0.004) & (np.abs(v - np.rint(v)) > 0.004)
    np.testing.assert_array_equal(found.at(window, to_mss)[clear], expected[clear])


def test_windows_do_not_change_a_pixel():
    found, to_mss = random_map(3), Affine(0.25, 0.001, 0.3, -0.001, 0.25, -0.2)
    whole = found.at(Window(0, 0, 88, 72), to_mss)
    for row, col in ((0, 0), (0, 41), (33, 0), (33, 41)):
        part = found.at(Window(col, row, 41, 33), to_mss)[: 72 - row, : 88 - col]
        assert (part == whole[row : row + part.shape[0], col : col + part.shape[1]]).mean() > 0.999


def test_widening_goes_by_pixels_of_the_mss_and_keeps_both_flags():
    flags = np.zeros((9, 9), np.uint8)
    flags[4, 2], flags[4, 6] = Quality.CLOUD, Quality.SHADOW
    found = CloudMap(flags, 2)
    assert found.widened(0) is found
    wide = found.widened(2.0).flags
    assert (wide & Quality.CLOUD).astype(bool).sum() == 9
    assert (wide & Quality.SHADOW).astype(bool).sum() == 9
    both = found.widened(4.0).flags  # 2 pixels of the map: they meet
    assert both[4, 4] == Quality.CLOUD | Quality.SHADOW
    assert found.widened(0.1).flags.astype(bool).sum() == 18


@pytest.mark.parametrize(("gsd_m", "factor"), [(8, 2), (3.2, 5), (4, 4), (2, 8), (16, 1), (30, 1), (None, 1)])
def test_the_network_sees_pixels_of_about_16_m(gsd_m, factor):
    assert coarsening(gsd_m) == factor


# --- where PAN lies ---------------------------------------------------------------------------------------------------


def pair_of_rpcs():
    mss = rpb.parse(RPB)
    pan = rpb.parse(RPB)
    # four times as fine; the RPC puts 0 at the centre of the first pixel, so the corners agree
    pan.line_scale, pan.samp_scale = 4 * mss.line_scale, 4 * mss.samp_scale
    pan.line_off, pan.samp_off = 4 * (mss.line_off + 0.5) - 0.5, 4 * (mss.samp_off + 0.5) - 0.5
    return pan, mss


def test_rpcs_tell_where_pan_lies_on_mss():
    pan, mss = pair_of_rpcs()
    found = align((19, 28), pan, NO_GRID, mss_shape=(5, 7), mss_rpcs=mss, mss_grid=NO_GRID)
    np.testing.assert_allclose(found.to_mss[:6], [0.25, 0, 0, 0, 0.25, 0], atol=1e-5)
    assert found.error_px == pytest.approx(2, abs=1e-3)


def test_a_displacement_that_depends_on_height_is_part_of_the_error():
    pan, mss = pair_of_rpcs()
    tilted = list(pan.line_num_coeff)
    tilted[3] += 4 / pan.line_scale * 5000 / 3000  # 4 PAN pixels, 1 MSS pixel, at 3000 m
    pan.line_num_coeff = tilted
    found = align((19, 28), pan, NO_GRID, mss_shape=(5, 7), mss_rpcs=mss, mss_grid=NO_GRID)
    assert found.error_px == pytest.approx(3, abs=0.05)


def test_images_on_one_crs_lie_as_their_grids_say():
    mss = GeoBox((10, 10), Affine(8, 0, 1000, 0, -8, 5000), "EPSG:32648")
    pan = GeoBox((40, 40), Affine(2, 0, 1016, 0, -2, 4992), "EPSG:32648")
    found = align((40, 40), None, pan, mss_shape=(10, 10), mss_rpcs=None, mss_grid=mss)
    np.testing.assert_allclose(found.to_mss[:6], [0.25, 0, 2, 0, 0.25, 1])


def test_without_any_geometry_both_show_the_same_ground():
    found = align((19, 28), None, NO_GRID, mss_shape=(5, 7), mss_rpcs=None, mss_grid=NO_GRID)
    assert found == Alignment(Affine.scale(7 / 28, 5 / 19), 4.0)


# --- windows ----------------------------------------------------------------------------------------------------------


def scene(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 0.3, (4, *shape)).astype(np.float32), rng.random(shape) > 0.1


def reader(values, valid):
    reads = []

    def read(window):
        reads.append(window)
        rows, cols = (
            slice(window.row_off, window.row_off + window.height),
            slice(window.col_off, window.col_off + window.width),
        )
        return np.where(valid, values, np.nan)[:, rows, cols], valid[rows, cols]

    return read, reads


@pytest.mark.parametrize("shape", [(40, 60), (41, 63), (7, 5), (1, 1)])
@pytest.mark.parametrize("gsd_m", [8, 3.2, 16])
def test_the_network_sees_means_of_the_good_pixels_of_every_block(monkeypatch, shape, gsd_m):
    values, valid = scene(shape)
    factor, shown = coarsening(gsd_m), []
    monkeypatch.setattr(clouds, "_WINDOW", 8)
    monkeypatch.setattr(clouds, "_MARGIN", 3)
    monkeypatch.setattr(clouds, "_ROWS", 7)
    monkeypatch.setattr(clouds, "_HAZE", -1)
    # a class for every block, so that all of them are seen in their places
    network(monkeypatch, lambda image: shown.append(image) or (image[3] > 0.17).astype(np.uint8))
    found = find_clouds(reader(values, valid)[0], shape, gsd_m=gsd_m)
    for row in range(0, shape[0], factor):
        for col in range(0, shape[1], factor):
            block = np.s_[row : row + factor, col : col + factor]
            good = values[3][block][valid[block]]
            cloudy = good.size > 0 and good.mean() > 0.17
            assert found.flags[row // factor, col // factor] == (Quality.CLOUD if cloudy else 0)
    assert all(np.isfinite(image).all() for image in shown)


def test_memory_holds_one_window_whatever_the_scene(monkeypatch):
    monkeypatch.setattr(clouds, "_WINDOW", 32)
    monkeypatch.setattr(clouds, "_MARGIN", 8)
    monkeypatch.setattr(clouds, "_ROWS", 16)
    network(monkeypatch, lambda image: np.zeros(image.shape[1:], np.uint8))
    values, valid = scene((300, 200))
    read, reads = reader(values, valid)
    find_clouds(read, (300, 200), gsd_m=8)
    assert max(w.height for w in reads) <= 16
    assert max(w.width for w in reads) <= 2 * (32 + 16)


def test_shadow_and_cloud_keep_apart_and_nodata_is_neither(monkeypatch):
    values, valid = scene((6, 6))
    valid[:] = True
    valid[:2, :2] = False
    monkeypatch.setattr(clouds, "_HAZE", -1)
    network(monkeypatch, lambda image: np.array([[1, 1, 2], [2, 0, 0], [0, 1, 2]], np.uint8))
    found = find_clouds(reader(values, valid)[0], (6, 6), gsd_m=8)
    c, s = int(Quality.CLOUD), int(Quality.SHADOW)
    assert found.flags.tolist() == [[0, c, s], [s, 0, 0], [0, c, s]]


def test_a_scene_without_good_pixels_is_not_shown_to_the_network(monkeypatch):
    network(monkeypatch, lambda image: pytest.fail("nothing to see"))
    values, _ = scene((20, 20))
    assert not find_clouds(reader(values, np.zeros((20, 20), bool))[0], (20, 20), gsd_m=8).flags.any()


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise ImportError("No module named 'onnxruntime'\n\nukis-csmask dependencies are not installed.")

    monkeypatch.setattr(clouds, "import_module", missing)
    with pytest.raises(
        ConfigError, match=r"not installed \(No module named 'onnxruntime'\).*`pip install \"geocrack\[clouds\]\"`"
    ):
        check(clouds.BANDS, "mss.tif")


def test_other_bands_than_the_network_knows_are_named():
    with pytest.raises(ConfigError, match=r"mss\.tif has the bands red, green; the cloud mask needs blue, green, red"):
        check(("red", "green"), "mss.tif")


def test_what_is_dark_in_blue_is_no_cloud_whatever_the_network_says(monkeypatch):
    values = np.full((4, 2, 6), 0.3, np.float32)
    values[0, 0], values[2, 0] = [0.09, 0.19, 0.15, 0.07, 0.4, 0.31], [0.06, 0.20, 0.17, 0.05, 0.5, 0.5]
    network(monkeypatch, lambda image: np.array([[1, 1, 1, 2, 1, 1], [0] * 6], np.uint8))
    found = find_clouds(reader(values, np.ones((2, 6), bool))[0], (2, 6), gsd_m=16)
    # blue - red / 2: 0.06, 0.09, 0.065, -, 0.15, 0.06
    c, s = int(Quality.CLOUD), int(Quality.SHADOW)
    assert found.flags[0].tolist() == [0, c, 0, s, c, 0]


def test_the_last_windows_are_as_large_as_the_others(monkeypatch):
    monkeypatch.setattr(clouds, "_WINDOW", 64)
    monkeypatch.setattr(clouds, "_MARGIN", 16)
    shapes = []
    network(monkeypatch, lambda image: shapes.append(image.shape[1:]) or np.zeros(image.shape[1:], np.uint8))
    values, valid = scene((130, 70))
    find_clouds(reader(values, valid)[0], (130, 70), gsd_m=16)
    assert len(shapes) == 6
    assert min(min(shape) for shape in shapes) >= 64


def test_an_image_too_small_for_the_network_is_told():
    assert CloudMap(np.zeros((256, 300), np.uint8), 2).warnings == ()
    (warning,) = CloudMap(np.zeros((255, 300), np.uint8), 2).warnings
    assert "saw an image of 300 x 255 pixels; it is made for 256 x 256" in warning


@needs_network
def test_the_network_itself_gives_three_classes_and_the_same_whatever_the_threads():
    rng = np.random.default_rng(0)
    image = rng.uniform(0.05, 0.6, (4, 70, 90)).astype(np.float32)
    before = image.copy()
    found = clouds._classes(image, 1)
    assert found.shape == (70, 90)
    assert set(np.unique(found)) <= {0, 1, 2}
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(clouds._classes(image, 2), found)


@needs_network
@pytest.mark.realdata
@pytest.mark.skipif(not (REAL / "pleiades_ventoux").is_dir(), reason="no real data: set GEOCRACK_REALDATA")
def test_a_cloud_over_real_ground_is_found_and_the_ground_is_not():
    with rasterio.open(REAL / "pleiades_ventoux" / "PHR1B_ventoux_MS.tif") as src:
        # the file has red, green, blue; mirrored, so that the network has enough to see
        ground = np.pad(src.read()[[2, 1, 0, 3]] * np.float32(1.5e-4), ((0, 0), (0, 145), (0, 145)), mode="symmetric")
    shape = ground.shape[1:]
    lumps = fractal(np.random.default_rng(1), shape, largest=24, smallest=2, persistence=0.6)
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]]
    cloud = np.clip((1.15 - np.hypot(rows - 100, cols - 110) / 22 + 0.33 * lumps) * 1.3, 0, 1) ** 1.5
    valid = np.ones(shape, bool)
    assert not find_clouds(reader(ground, valid)[0], shape, gsd_m=16).flags.any()
    found = find_clouds(reader(ground + cloud * (np.float32(0.62) - ground), valid)[0], shape, gsd_m=16).flags
    assert (found == Quality.CLOUD)[cloud > 0.8].mean() > 0.9
    assert not (found == Quality.CLOUD)[cloud == 0].any()
