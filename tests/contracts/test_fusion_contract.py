"""What every registered pan-sharpening method must do; a new one is tested by being there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from geo.errors import ConfigError
from geo.fusion import method, names, register
from geo.fusion.mtf import degrade, lowpass, sigma_px
from geo.fusion.pansharpen import pansharpen
from geo.fusion.statistics import Statistics
from geo.masks import Quality, quality_path
from geo.raster import open_raster, read
from tests.geo.pair_scene import MSS_M, PAN_M, RATIO, write_pair
from tests.geo.terrain import map_grid, write_image

SIZE = 96


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"), size=SIZE, noise=0.001)


@pytest.fixture(scope="module")
def fused(scene, tmp_path_factory):
    """Fused image and where it is valid, by name of the method."""
    pan, mss, _ = scene
    folder = tmp_path_factory.mktemp("fused")
    found = {}
    for name in names():
        pansharpen(mss, pan, folder / f"{name}.tif", name=name)
        with open_raster(folder / f"{name}.tif") as src:
            found[name] = read(src)
    return found


@pytest.fixture(scope="module")
def interpolated(scene):
    """MSS on the PAN grid without sharpening: what a method must beat."""
    with open_raster(scene[1]) as src:
        values, _ = read(src)
    at = (np.arange(SIZE * RATIO) + 0.5) / RATIO - 0.5
    grid = np.stack(np.meshgrid(at, at, indexing="ij"))
    return np.stack([ndimage.map_coordinates(band, grid, order=3, mode="nearest") for band in values])


def detail(image):
    return ndimage.laplace(image)


@pytest.mark.parametrize("name", names())
def test_a_constant_scene_stays_constant(name):
    mss = np.broadcast_to(np.array([0.11, 0.09, 0.07, 0.3], np.float32)[:, None, None], (4, 40, 40))
    pan = np.full((40, 40), 0.12, np.float32)
    valid = np.ones((40, 40), bool)
    statistics = Statistics.gather([(pan, mss, valid)])
    np.testing.assert_allclose(method(name).fuse(mss, pan, lowpass(pan, valid, 2.0), statistics), mss, atol=1e-5)


@pytest.mark.parametrize("name", names())
def test_degrading_it_gives_mss_back(name, fused, scene):
    """To 12 % of each band's contrast, and nearly without bias."""
    with open_raster(scene[1]) as src:
        mss, _ = read(src)
    values, valid = fused[name]
    at = (np.arange(SIZE) + 0.5) * RATIO
    for band, original in zip(values, mss, strict=True):
        seen, good = degrade(band, valid, at, at, sigma_px(RATIO))
        difference = (seen - original)[good]
        assert good.mean() > 0.9
        assert np.sqrt(np.mean(difference**2)) < 0.12 * original.std()
        assert abs(difference.mean()) < 0.01 * original.mean()


@pytest.mark.parametrize("name", names())
def test_it_is_sharper_than_interpolation(name, fused, scene, interpolated):
    """The fine detail is that of PAN, and nearer to that of the true bands."""
    with open_raster(scene[0]) as src:
        pan = read(src)[0][0]
    inside = (slice(20, -20), slice(20, -20))
    for band, (sharp, plain, true) in enumerate(zip(fused[name][0], interpolated, scene[2], strict=True)):

        def likeness(image, reference):
            return np.corrcoef(detail(image)[inside].ravel(), detail(reference)[inside].ravel())[0, 1]

        assert likeness(sharp, pan) > 0.8
        assert likeness(sharp, pan) > likeness(plain, pan) + 0.3
        if band < 3:  # what infrared shows alone, no PAN can tell
            assert likeness(sharp, true) > likeness(plain, true) + 0.3
            assert np.std((sharp - true)[inside]) < np.std((plain - true)[inside])


@pytest.mark.parametrize("name", names())
def test_nodata_of_either_image_is_kept(name, scene, tmp_path):
    with open_raster(scene[0]) as src:
        pan, _ = read(src)
    with open_raster(scene[1]) as src:
        mss, _ = read(src)
    pan[:, 100:140, 200:260] = np.nan
    mss[:, 60:70, 20:30] = np.nan
    pan_path = write_image(tmp_path / "pan.tif", pan, grid=map_grid(pan.shape[1:], PAN_M))
    mss_path = write_image(tmp_path / "mss.tif", mss, grid=map_grid(mss.shape[1:], MSS_M))
    pansharpen(mss_path, pan_path, tmp_path / "fused.tif", name=name)
    with open_raster(tmp_path / "fused.tif") as src, open_raster(quality_path(tmp_path / "fused.tif")) as quality:
        values, valid = read(src)
        flags = quality.read(1)
    expected = np.isfinite(pan[0]) & np.kron(np.isfinite(mss[0]), np.ones((RATIO, RATIO), bool))
    assert not valid[~expected].any()
    assert (expected & ~valid)[8:-8, 8:-8].sum() < 4 * 2 * 4 * 10 + 16  # half an MSS pixel round its hole
    np.testing.assert_array_equal((flags & Quality.NODATA) == 0, valid)
    assert np.isnan(values[:, ~valid]).all()
    whole = tmp_path / "whole.tif"
    pansharpen(scene[1], scene[0], whole, name=name)
    with open_raster(whole) as src:
        without_holes, _ = read(src)
    # next to a hole nothing darkens or brightens: nodata is 0 on disk
    near = ndimage.binary_dilation(~valid, iterations=3) & valid
    assert np.abs(values - without_holes)[:, near].max() < 0.1


@pytest.mark.parametrize("name", names())
def test_windows_leave_no_seams(name, scene, tmp_path):
    pan, mss, _ = scene
    results = []
    for window in (1024, 100):
        pansharpen(mss, pan, tmp_path / f"{window}.tif", name=name, window=window, threads=2)
        with open_raster(tmp_path / f"{window}.tif") as src:
            results.append(src.read().astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1  # one step of 1e-4


@pytest.mark.parametrize("name", names())
def test_dark_and_negative_ground_does_not_explode(name):
    rng = np.random.default_rng(0)
    mss = rng.uniform(0.05, 0.3, (4, 60, 60)).astype(np.float32)
    mss[:, 20:40, 20:40] = rng.uniform(-0.02, 0.001, (4, 20, 20))
    pan = mss.mean(axis=0) + rng.normal(0, 0.01, (60, 60)).astype(np.float32)
    valid = np.ones((60, 60), bool)
    found = method(name).fuse(mss, pan, lowpass(pan, valid, 2.0), Statistics.gather([(pan, mss, valid)]))
    assert np.isfinite(found).all()
    assert np.abs(found[:, 20:40, 20:40]).max() < 0.5


@pytest.mark.parametrize("name", names())
def test_not_a_number_stays_where_it_is(name):
    mss = np.random.default_rng(0).uniform(0.1, 0.3, (4, 20, 20)).astype(np.float32)
    pan = mss.mean(axis=0)
    valid = np.ones((20, 20), bool)
    statistics = Statistics.gather([(pan, mss, valid)])
    mss[2, 3, 4], valid[10, 11] = np.nan, False
    low = lowpass(pan, valid, 2.0)
    pan = np.where(valid, pan, np.nan)
    missing = np.isnan(method(name).fuse(mss, pan, low, statistics)).any(axis=0)
    assert np.argwhere(missing).tolist() == [[3, 4], [10, 11]]


def test_names_are_unique_and_unknown_ones_are_answered():
    assert names() == ["brovey", "gsa", "sfim"]
    with pytest.raises(
        ConfigError, match="unknown fusion method 'gas'; did you mean 'gsa'\\? known: brovey, gsa, sfim"
    ):
        method("gas")
    with pytest.raises(ValueError, match="the fusion method 'gsa' is registered twice"):
        register("gsa", needs_low=False)(method("gsa").fuse)
