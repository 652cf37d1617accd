"""What every registered pan-sharpening method must do; a new one is tested by being there."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.windows import Window
from scipy import ndimage

from geo.errors import ConfigError
from geo.fusion import method, names, register
from geo.fusion.mtf import degrade, sigma_px
from geo.fusion.pansharpen import pansharpen
from geo.fusion.statistics import Statistics
from geo.fusion.wald import degrade as seen_coarser
from geo.fusion.window import aligned, sharpen
from geo.masks import Quality, quality_path
from geo.raster import open_raster, read
from geo.windows import slices
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


def sharpened(name, mss, pan, window=None):
    """Sharpen arrays whose grids share their corner, with the statistics of all of them."""
    chosen, sigma = method(name), sigma_px(RATIO)
    pan_low, there = seen_coarser(pan[None], ratio=RATIO)
    statistics = Statistics.gather([(pan_low[0], mss, there & np.isfinite(mss).all(axis=0))])
    margin = chosen.reach_px(RATIO, sigma)
    return sharpen(chosen, aligned(mss, pan, ratio=RATIO, margin=margin, sigma=sigma, window=window), statistics)


#: Half an MSS pixel along the scene's edges, where there is nothing to interpolate between, is left out.
INNER = (slice(2, -2), slice(2, -2))


def small_pair(seed=0, size=24):
    """Rough ground: PAN, and MSS that is not its blurred image."""
    rng = np.random.default_rng(seed)
    pan = ndimage.gaussian_filter(rng.normal(size=(RATIO * size, RATIO * size)), 1.5).astype(np.float32)
    mss = ndimage.zoom(pan, 1 / RATIO, order=1) * np.array([0.4, 0.5, 0.6, -0.3])[:, None, None]
    mss = 0.2 + 0.1 * (mss + 0.05 * rng.normal(size=mss.shape))
    return mss.astype(np.float32), 0.2 + 0.1 * pan


@pytest.mark.parametrize("name", names())
def test_a_constant_scene_stays_constant(name):
    levels = np.array([0.11, 0.09, 0.07, 0.3], np.float32)[:, None, None]
    found, good = sharpened(name, np.broadcast_to(levels, (4, 20, 20)), np.full((80, 80), 0.12, np.float32))
    assert good[INNER].all()
    np.testing.assert_allclose(found[:, *INNER], np.broadcast_to(levels, (4, 76, 76)), atol=1e-5)


@pytest.mark.parametrize("name", names())
def test_a_window_is_part_of_the_whole(name):
    """To the last bits: what a method sees around a window is enough."""
    mss, pan = small_pair()
    whole, good = sharpened(name, mss, pan)
    for window in (Window(32, 28, 40, 24), Window(0, 60, 31, 36), Window(50, 0, 46, 96)):
        part, there = sharpened(name, mss, pan, window)
        rows, cols = slices(window)
        np.testing.assert_allclose(part, whole[:, rows, cols], atol=2e-6)
        np.testing.assert_array_equal(there, good[rows, cols])


@pytest.mark.parametrize("name", names())
def test_the_unit_does_not_matter(name):
    """Reflectance, or digital numbers a thousand times as large."""
    mss, pan = small_pair(1)
    np.testing.assert_allclose(
        sharpened(name, 1000 * mss, 1000 * pan)[0], 1000 * sharpened(name, mss, pan)[0], rtol=1e-3, atol=0.05
    )


#: Root mean square error, by the band's contrast, within which a degraded fused image is MSS again. Methods that put
#: PAN in the place of a fixed mixture of the bands change them by what this mixture misses of PAN.
BACK = {"gs": 0.2, "pca": 0.6}


@pytest.mark.parametrize("name", names())
def test_degrading_it_gives_mss_back(name, fused, scene):
    """To 12 % of each band's contrast for most methods, and nearly without bias."""
    with open_raster(scene[1]) as src:
        mss, _ = read(src)
    values, valid = fused[name]
    at = (np.arange(SIZE) + 0.5) * RATIO
    for band, original in zip(values, mss, strict=True):
        seen, good = degrade(band, valid, at, at, sigma_px(RATIO))
        difference = (seen - original)[good]
        assert good.mean() > 0.9
        assert np.sqrt(np.mean(difference**2)) < BACK.get(name, 0.12) * original.std()
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
    mss = rng.uniform(0.05, 0.3, (4, 24, 24)).astype(np.float32)
    mss[:, 8:16, 8:16] = rng.uniform(-0.02, 0.001, (4, 8, 8))
    pan = ndimage.zoom(mss.mean(axis=0), RATIO, order=1) + rng.normal(0, 0.01, (96, 96)).astype(np.float32)
    found, good = sharpened(name, mss, pan)
    assert good[INNER].all()
    assert np.isfinite(found[:, *INNER]).all()
    assert np.abs(found[:, 40:56, 40:56]).max() < 0.5


@pytest.mark.parametrize("name", names())
def test_no_number_comes_from_nothing(name):
    """NaN in PAN makes NaN there alone, NaN in MSS where it would be interpolated from."""
    mss, pan = small_pair()
    mss[2, 6, 7] = np.nan
    pan[50, 61] = np.nan
    found, good = sharpened(name, mss, pan)
    missing = np.isnan(found).any(axis=0)
    np.testing.assert_array_equal(missing, np.isnan(found).all(axis=0))
    np.testing.assert_array_equal(missing, ~good)
    missing = missing[INNER]
    assert missing[48, 59]
    assert missing[22:26, 26:30].all()
    missing[48, 59] = missing[20:28, 24:32] = False
    assert not missing.any()


@pytest.mark.parametrize("name", names())
def test_without_contrast_in_pan_nothing_is_injected(name):
    mss, _ = small_pair()
    found, _ = sharpened(name, mss, np.full((96, 96), 0.2, np.float32))
    found = found[:, *INNER]
    assert np.isfinite(found).all()
    if name not in ("brovey", "nndiffuse"):  # these give PAN's level to the bands, whatever it is
        assert np.abs(found.mean(axis=(1, 2)) - mss.mean(axis=(1, 2))).max() < 0.01


def test_names_are_unique_and_unknown_ones_are_answered():
    assert names() == [
        *("brovey", "gs", "gsa", "hpf", "mtf-glp", "mtf-glp-cbd", "mtf-glp-hpm", "nndiffuse", "pca", "sfim")
    ]
    with pytest.raises(
        ConfigError, match=r"unknown fusion method 'gsaa'; did you mean 'gsa'\? known: brovey, gs, gsa, hpf, mtf-glp"
    ):
        method("gsaa")
    with pytest.raises(ValueError, match="the fusion method 'gsa' is registered twice"):
        register("gsa")(method("gsa").fuse)


def test_the_default_is_one():
    """The configuration's method is that of whoever calls the functions."""
    import inspect

    from geo.fusion.pansharpen import pansharpen
    from geo.preprocess import Settings
    from pipeline.config import Fusion

    default = Fusion().method
    assert default in names()
    assert inspect.signature(pansharpen).parameters["name"].default == default
    assert Settings().method == default
