from itertools import pairwise

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_cogeo import cog_validate

from geo.coregister import register
from geo.errors import ConfigError, GridError, OutputExistsError, RasterError
from geo.fusion import modulate
from geo.fusion.brovey import intensity_weights
from geo.fusion.gsa import injection_gains, regression
from geo.fusion.mtf import degrade, lowpass, sigma_px
from geo.fusion.pansharpen import pansharpen
from geo.fusion.statistics import Statistics
from geo.masks import QUALITY, Quality, quality_path
from geo.raster import REFLECTANCE, open_raster, read
from tests.geo.pair_scene import BAND_MIX, MSS_M, PAN_M, PAN_MIX, RATIO, write_pair
from tests.geo.terrain import landscape, map_grid, write_image


def read_all(path):
    with open_raster(path) as src:
        return read(src)


# --- low-pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.15, 0.3])
def test_a_wave_at_mss_nyquist_is_damped_to_the_mtf(gain):
    """One period of it is two MSS pixels, eight PAN pixels."""
    wave = np.cos(2 * np.pi * np.arange(200) / 8)[None, :].repeat(200, axis=0).astype(np.float32)
    valid = np.ones(wave.shape, bool)
    seen = lowpass(wave, valid, sigma_px(4, gain))[60:140, 60:140]
    assert (seen.max() - seen.min()) / 2 == pytest.approx(gain, rel=0.02)
    at = np.arange(40, 160) + 0.5
    sampled, _ = degrade(wave, valid, at, at, sigma_px(4, gain))
    np.testing.assert_allclose(sampled, lowpass(wave, valid, sigma_px(4, gain))[40:160, 40:160], atol=2e-3)


def test_a_gain_must_be_a_share():
    with pytest.raises(ValueError, match="must lie between 0 and 1, got 1"):
        sigma_px(4, 1)


@given(seed=st.integers(0, 100), at=st.floats(20, 40))
@settings(max_examples=20, deadline=None)
def test_degrading_keeps_planes_and_leaves_out_nodata(seed, at):
    row, col = np.mgrid[:60, :60].astype(np.float32) + 0.5
    valid = np.ones((60, 60), bool)
    found, good = degrade(0.1 + 0.01 * col - 0.002 * row, valid, np.array([at]), np.array([30.3]), 2.0)
    assert good.all()
    assert found[0, 0] == pytest.approx(0.1 + 0.01 * at - 0.002 * 30.3, abs=1e-4)
    holes = np.random.default_rng(seed).random((60, 60)) > 0.02
    found, good = degrade(np.where(holes, 0.4, 9e9).astype(np.float32), holes, np.array([at]), np.array([30.3]), 2.0)
    assert not good.any() or found[0, 0] == pytest.approx(0.4, abs=1e-5)


def test_degrading_outside_is_not_good():
    at = np.array([-5.0, 0.0, 20.0, 45.0])
    _, good = degrade(np.ones((40, 40), np.float32), np.ones((40, 40), bool), at, np.array([20.0]), 2.0)
    assert good[0].tolist() == [False, False, True, False]


# --- statistics ---------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 100), cuts=st.lists(st.integers(0, 30), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_statistics_of_windows_are_those_of_the_scene(seed, cuts):
    rng = np.random.default_rng(seed)
    mss = rng.normal(100, 1e-3, (3, 30, 20)) + rng.normal(size=(3, 1, 1))
    pan, valid = rng.normal(100, 1e-3, (30, 20)), rng.random((30, 20)) > 0.2
    edges = [0, *sorted(cuts), 30]
    parts = [(pan[a:b], mss[:, a:b], valid[a:b]) for a, b in pairwise(edges)]
    together = Statistics.gather(parts)
    samples = np.vstack([mss[:, valid], pan[valid]])
    assert together.count == valid.sum()
    np.testing.assert_allclose(together.mean, samples.mean(axis=1))
    np.testing.assert_allclose(together.covariance, np.cov(samples, bias=True), rtol=1e-6, atol=1e-15)


def test_no_good_pixel_gives_no_statistics():
    nothing = np.zeros((5, 5), bool)
    assert Statistics.gather([(np.zeros((5, 5)), np.zeros((4, 5, 5)), nothing)]).count == 0


# --- methods, by hand ---------------------------------------------------------------------------------------


def statistics_of(mss, pan):
    return Statistics.gather([(pan, mss, np.ones(pan.shape, bool))])


def test_gsa_finds_the_bands_that_make_pan():
    mss = np.random.default_rng(0).uniform(0, 1, (3, 50, 50))
    weights, constant = regression(statistics_of(mss, 0.2 * mss[0] + 0.5 * mss[1] + 0.03))
    np.testing.assert_allclose(weights, [0.2, 0.5, 0], atol=1e-9)
    assert constant == pytest.approx(0.03)


def test_gsa_gains_are_slopes_on_the_intensity():
    rng = np.random.default_rng(0)
    intensity = rng.normal(size=(80, 80))
    mss = np.stack([2 * intensity, 0.5 * intensity + 1])
    gains = injection_gains(statistics_of(mss, intensity), np.array([0.5, 0.0]))
    np.testing.assert_allclose(gains, [2, 0.5])


def test_brovey_gives_no_say_to_a_band_outside_pan():
    """TripleSat's PAN ends before the infrared: vegetation must not darken where it is bright there."""
    mss = np.random.default_rng(0).uniform(0.05, 1, (4, 50, 50))
    pan = np.tensordot([0.3, 0.4, 0.3, 0], mss, 1)
    np.testing.assert_allclose(intensity_weights(statistics_of(mss, pan)), [0.3, 0.4, 0.3, 0], atol=1e-6)
    against = 1 - mss[3]
    assert (intensity_weights(statistics_of(mss, against)) >= 0).all()


def test_modulation_is_a_ratio_and_its_denominator_is_guarded():
    mss = np.full((1, 1, 4), 0.2, np.float32)
    pan = np.array([[0.3, 0.05, -0.5, 0.001]], np.float32)
    low = np.array([[0.1, 0.05, 0.1, -0.001]], np.float32)
    np.testing.assert_allclose(modulate(mss, pan, low, 0.01)[0, 0], [0.6, 0.2, 0.0, 0.24], atol=1e-6)


# --- whole scenes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """MSS lies 0.6 and -1.3 MSS pixels from PAN."""
    visible = np.array([1.0, 0.0])
    return write_pair(tmp_path_factory.mktemp("pair"), size=128, shift_px=(0.6, -1.3), pan_mix=visible)


def test_the_registration_is_part_of_the_interpolation(scene, tmp_path):
    """With it the fused bands are the true ones; with twice or without it they are not."""
    pan, mss, true = scene
    registration = register(pan, mss)
    errors = {}
    for asked in (registration, None):
        pansharpen(mss, pan, tmp_path / "fused.tif", registration=asked, overwrite=True)
        values, valid = read_all(tmp_path / "fused.tif")
        inside = valid & (np.indices(valid.shape).min(axis=0) > 20)
        errors[asked is None] = np.sqrt(np.mean((values - true)[:3, inside] ** 2))
    assert errors[False] < 0.003
    assert errors[False] < 0.4 * errors[True]


def test_the_product_is_complete(scene, tmp_path):
    pan, mss, _ = scene
    made = pansharpen(mss, pan, tmp_path / "fused.tif", name="sfim")
    with open_raster(tmp_path / "fused.tif") as src, open_raster(pan) as grid:
        assert (src.transform, src.crs, src.shape) == (grid.transform, grid.crs, grid.shape)
        assert src.descriptions == ("blue", "green", "red", "nir") == made.bands
        assert set(src.scales) == {REFLECTANCE.scale}
        assert src.tags()["GEOCRACK_FUSION"] == "sfim"
    assert cog_validate(tmp_path / "fused.tif", quiet=True)[0]


def test_flags_of_both_are_joined_and_tags_copied(tmp_path):
    rng = np.random.default_rng(0)
    pan = rng.uniform(0.1, 0.3, (1, 160, 160))
    mss = rng.uniform(0.1, 0.3, (4, 40, 40))
    pan_path = write_image(tmp_path / "pan.tif", pan, grid=map_grid((160, 160), PAN_M), tags={"GEOCRACK_SCENE": "a"})
    mss_path = write_image(tmp_path / "mss.tif", mss, grid=map_grid((40, 40), MSS_M), tags={"GEOCRACK_SENSOR": "b"})
    for path, size, part, flag in (
        (pan_path, 160, slice(40, 60), Quality.SATURATED),
        (mss_path, 40, slice(10, 20), Quality.CLOUD),
    ):
        flags = np.zeros((1, size, size))
        flags[0, part, part] = flag
        grid = map_grid((size, size), PAN_M if size == 160 else MSS_M)
        write_image(quality_path(path), flags, grid=grid, bands=["quality"], encoding=QUALITY)
    pansharpen(mss_path, pan_path, tmp_path / "fused.tif")
    with open_raster(quality_path(tmp_path / "fused.tif")) as src, open_raster(tmp_path / "fused.tif") as fused:
        flags = src.read(1)
        assert fused.tags()["GEOCRACK_SCENE"] == "a"
        assert fused.tags()["GEOCRACK_SENSOR"] == "b"
    assert flags[50, 50] == Quality.SATURATED | Quality.CLOUD
    assert flags[70, 70] == Quality.CLOUD
    assert flags[100, 100] == 0
    assert ((flags & Quality.SATURATED) > 0).sum() == 400


def test_footprints_and_ratios_may_differ(tmp_path):
    """PAN has 183 x 181 pixels of 2.5 m, MSS of 8 m begins elsewhere."""
    spectra = landscape(240)
    pan = np.tensordot(PAN_MIX, spectra, 1)[:181, :183]
    mss = np.tensordot(BAND_MIX, spectra, 1)[:, ::5, ::5]
    pan_path = write_image(tmp_path / "pan.tif", pan[None], grid=map_grid(pan.shape, 2.5))
    mss_path = write_image(
        tmp_path / "mss.tif", mss, grid=map_grid(mss.shape[1:], 8.0, left=356000 + 40, top=3464000 + 16)
    )
    made = pansharpen(mss_path, pan_path, tmp_path / "fused.tif")
    values, valid = read_all(tmp_path / "fused.tif")
    assert values.shape == (4, 181, 183)
    assert not valid[:, :16].any()
    assert valid[8:140, 20:160].all()
    assert not valid[150:].any()
    assert made.valid_share == pytest.approx(valid.mean())


def test_bands_are_put_in_order_and_named(tmp_path):
    levels = {"nir": 0.4, "red": 0.3, "blue": 0.1, "green": 0.2}
    rng = np.random.default_rng(0)
    values = np.stack([np.full((40, 40), v) for v in levels.values()]) + rng.normal(0, 1e-3, (4, 40, 40))
    mss = write_image(tmp_path / "mss.tif", values, grid=map_grid((40, 40), MSS_M), bands=list(levels))
    pan = write_image(tmp_path / "pan.tif", np.full((1, 160, 160), 0.25), grid=map_grid((160, 160), PAN_M))
    pansharpen(mss, pan, tmp_path / "fused.tif")
    with open_raster(tmp_path / "fused.tif") as src:
        assert src.descriptions == ("blue", "green", "red", "nir")
        found, valid = read(src)
    np.testing.assert_allclose(found[:, valid].mean(axis=1), [0.1, 0.2, 0.3, 0.4], atol=1e-3)


def test_wrong_input_is_told(scene, tmp_path):
    pan, mss, _ = scene
    with pytest.raises(ConfigError, match="unknown fusion method 'brovy'; did you mean 'brovey'"):
        pansharpen(mss, pan, tmp_path / "fused.tif", name="brovy")
    with pytest.raises(
        RasterError, match=r"mss\.tif has 4 bands; expected one, PAN: give the images in the order MSS PAN"
    ):
        pansharpen(pan, mss, tmp_path / "fused.tif")
    values, _ = read_all(mss)
    raw = write_image(tmp_path / "raw.tif", values)
    with pytest.raises(GridError, match=r"raw\.tif has no CRS; .*: run geocrack ortho on both images first"):
        pansharpen(raw, pan, tmp_path / "fused.tif")
    flags = write_image(tmp_path / "q.tif", values[:1], bands=["quality"], grid=map_grid(values.shape[1:], MSS_M))
    with pytest.raises(RasterError, match=r"q\.tif holds quality flags; expected the image that it lies beside"):
        pansharpen(flags, pan, tmp_path / "fused.tif")
    values[:] = np.nan
    empty = write_image(tmp_path / "empty.tif", values, grid=map_grid(values.shape[1:], MSS_M))
    with pytest.raises(GridError, match=r"empty\.tif and .*pan\.tif have no good pixel in common"):
        pansharpen(empty, pan, tmp_path / "fused.tif")
    assert not list(tmp_path.glob("*fused*"))
    (tmp_path / "fused.quality.tif").touch()
    with pytest.raises(OutputExistsError, match=r"fused\.quality\.tif is already there"):
        pansharpen(mss, pan, tmp_path / "fused.tif")


def test_digital_numbers_are_values_too(tmp_path):
    """Without a scale, and without a nodata number of its own."""
    spectra = np.rint(1000 * np.tensordot(BAND_MIX, landscape(160), 1)).astype("uint16")
    for name, values, step in (("mss", spectra[:, 2::4, 2::4], MSS_M), ("pan", spectra[:1], PAN_M)):
        grid = map_grid(values.shape[1:], step)
        with rasterio.open(
            tmp_path / f"{name}.tif",
            "w",
            driver="GTiff",
            count=len(values),
            height=grid.shape[0],
            width=grid.shape[1],
            dtype="uint16",
            crs="EPSG:32648",
            transform=grid.affine,
        ) as dst:
            dst.write(values)
    pansharpen(tmp_path / "mss.tif", tmp_path / "pan.tif", tmp_path / "fused.tif", name="gsa")
    with open_raster(tmp_path / "fused.tif") as src:
        values, valid = read(src)
        assert (src.nodata, src.scales[0], src.dtypes[0]) == (0, 1.0, "uint16")
    assert np.corrcoef(values[0][valid], spectra[0][valid])[0, 1] > 0.99
    assert RATIO * values.shape[1] == 4 * 160
