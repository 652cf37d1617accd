"""Black borders of images that mark no nodata: found whole, and nothing that is ground."""

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from geo.borders import black_borders
from models.photographs import wedges


def write(path, values, **profile):
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, photometric="RGB",
        **profile,
    ) as dst:  # fmt: skip
        dst.write(values)
    return path


def photograph(shape=(300, 260), seed=0):
    return np.random.default_rng(seed).integers(2, 255, (3, *shape)).astype(np.uint8)


def mask_of(borders, values):
    return borders.mask(values.astype(np.float32), Window(0, 0, *values.shape[:0:-1]))


def turned(shape=(300, 260)):
    """A picture that was turned: four black corners, whose edges follow no cells."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    across, down = columns * 0.9 + rows * 0.43, rows * 0.9 - columns * 0.43
    return (across < 60) | (across > 320) | (down < -60) | (down > 210)


def test_corners_of_a_turned_picture_are_found_to_the_pixel(tmp_path):
    values, empty = photograph(), turned()
    values[:, empty] = 0
    values[:, 120:150, 100:140] = 0  # a black roof, inside
    values[:, 150:153, -1] = 0  # a few black pixels at the border
    values[0, 200:220, 0:40] = 0  # no red there
    borders = black_borders(write(tmp_path / "a.tif", values), 100)
    found = mask_of(borders, values)
    assert not (found & ~empty).any()
    assert (empty & ~found).sum() <= 20  # where a corner ends in less than a pixel's height
    assert borders.pixels == found.sum()
    assert borders.share == pytest.approx(empty.mean(), abs=3e-4)
    window = Window(13, 27, 101, 90)
    at = np.s_[27:117, 13:114]
    np.testing.assert_array_equal(borders.mask(values[:, *at].astype(np.float32), window), found[at])


@pytest.mark.parametrize("one", [0, 1])
def test_ones_count_as_black_where_tools_keep_zero_for_nodata(tmp_path, one):
    values = photograph()
    values[:, :40] = one
    assert black_borders(write(tmp_path / "a.tif", values), 100).share == pytest.approx(40 / 300)


def test_images_of_floats_are_black_only_where_they_are_zero(tmp_path):
    values = photograph().astype(np.float32) / 255
    values[:, :, :50] = 0
    values[:, -50:, 50:] = 1  # snow, clipped
    borders = black_borders(write(tmp_path / "a.tif", values), 100)
    assert borders.share == pytest.approx(50 / 260)


def test_scaled_integers_are_black_where_they_hold_zero(tmp_path):
    values = photograph().astype(np.uint16) * 30
    values[:, :40] = 0
    path = write(tmp_path / "a.tif", values)
    with rasterio.open(path, "r+") as dst:
        dst.scales, dst.offsets = (1e-4,) * 3, (-0.1,) * 3
    borders = black_borders(path, 100)
    stored = values.astype(np.float32) * np.float32(1e-4) + np.float32(-0.1)
    np.testing.assert_array_equal(mask_of(borders, stored), (values == 0).all(axis=0))


def test_images_that_mark_nodata_and_small_areas_are_left_alone(tmp_path):
    values = photograph()
    values[:, :9, :11] = 0
    assert black_borders(write(tmp_path / "a.tif", values), 100) is None
    assert black_borders(write(tmp_path / "a.tif", values), 0) is None
    values[:, :100] = 0
    assert black_borders(write(tmp_path / "tagged.tif", values, nodata=7), 100) is None
    alpha = np.concatenate([values, np.full((1, 300, 260), 255, np.uint8)])
    assert black_borders(write(tmp_path / "alpha.tif", alpha, alpha="YES"), 100) is None
    assert black_borders(write(tmp_path / "b.tif", values), 100).share == pytest.approx(100 / 300)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (7, 9), (1025, 3), (1024, 16)])
def test_any_shape(tmp_path, shape):
    values = photograph(shape)
    assert black_borders(write(tmp_path / "lit.tif", values), 1) is None
    dark = write(tmp_path / "dark.tif", np.zeros_like(values))
    assert black_borders(dark, 1).share == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), side=st.integers(20, 90), least=st.integers(65, 400))
def test_areas_are_those_that_connected_pixels_make(tmp_path_factory, seed, side, least):
    """Against all pixels of the image at once: nothing lit, all large areas, and others only through a narrow gap."""
    rng = np.random.default_rng(seed)
    values = photograph((side, side + 7), seed)
    for _ in range(3):
        height, width = rng.integers(16, 40, 2)
        row, column = rng.integers(-10, side, 2)
        values[:, max(0, row) : max(0, row + height), max(0, column) : max(0, column + width)] = 0
    borders = black_borders(write(tmp_path_factory.mktemp("b") / "a.tif", values), least)
    found = mask_of(borders, values) if borders else np.zeros(values.shape[1:], bool)
    assert not (found & ~(values == 0).all(axis=0)).any()
    assert not (wedges(values, max(least, 16 * 16)) & ~found).any()
