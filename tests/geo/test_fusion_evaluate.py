"""Methods judged on pairs whose truth is known, and the check of a product, against what was put in."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy import ndimage
from scipy.special import erf

from geo.coregister import register
from geo.errors import GridError
from geo.fusion import names
from geo.fusion.check import MAX_SPECTRAL, check, edge_profiles, edge_width
from geo.fusion.evaluate import evaluate
from geo.fusion.pair import Pair
from geo.fusion.pansharpen import pansharpen
from geo.fusion.samples import pan_to_mss, pan_window, sample, windows
from geo.fusion.wald import degrade, wald
from geo.raster import open_raster, read
from tests.geo.pair_scene import MSS_M, PAN_M, RATIO, write_pair
from tests.geo.terrain import map_grid, write_image

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """MSS lies 0.6 and -0.3 MSS pixels from PAN."""
    return write_pair(tmp_path_factory.mktemp("pair"), size=128, shift_px=(0.6, -0.3), noise=0.001)


@pytest.fixture(scope="module")
def registration(scene):
    return register(scene[0], scene[1])


@pytest.fixture(scope="module")
def judged(scene, registration):
    return evaluate(scene[1], scene[0], registration=registration, threads=1)


@pytest.fixture
def pair(scene):
    from contextlib import ExitStack

    with ExitStack() as opened:
        yield Pair(scene[0], scene[1], opened)


# --- samples ---------------------------------------------------------------------------------------------------------


def test_windows_cover_a_small_scene_and_are_spread_over_a_large_one(pair):
    pair.overlap = Window(7, 9, 128, 128)
    assert [w.flatten() for w in windows(pair)] == [(7, 9, 128, 128)]
    assert len(windows(pair, side=50)) == 9
    pair.overlap = Window(0, 0, 4000, 700)
    found = windows(pair, multiple=4)
    assert {(w.width, w.height) for w in found} == {(320, 232)}
    assert sorted({w.col_off for w in found}) == [0, 1840, 3680]
    assert len(found) == 9
    pair.overlap = Window(0, 0, 3, 100)
    with pytest.raises(GridError, match="overlap by less than 4 pixels"):
        windows(pair, multiple=4)


def test_a_sample_is_the_same_ground_at_both_scales(scene, registration, pair):
    """The true bands at PAN's resolution, seen by MSS, are MSS: so positions and displacement are right."""
    pair.displacement = registration.displacement
    here = sample(pair, Window(40, 30, 32, 24), margin=0)
    fine, col, row = pan_window(pair, Window(40, 30, 32, 24), here.rim)
    assert (fine.width - 2 * here.rim, fine.height - 2 * here.rim) == (128, 96)
    truth = scene[2][:, fine.row_off : fine.row_off + fine.height, fine.col_off : fine.col_off + fine.width]
    seen, good = here.degraded(truth.astype(np.float32), np.ones(truth.shape[1:], bool))
    assert good.all()
    np.testing.assert_allclose(seen, here.mss, atol=0.006)
    np.testing.assert_array_equal(here.col, col)
    np.testing.assert_array_equal(here.row, row)
    to_mss = pan_to_mss(pair, Window(40, 30, 32, 24))
    assert to_mss.a == pytest.approx(0.25, rel=1e-3)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_every_method_has_its_row_and_interpolation_is_the_first(judged):
    assert judged.rows[0].name == "exp"
    assert sorted(row.name for row in judged.rows[1:]) == names()
    quality = [row.reduced.q2n for row in judged.rows[1:]]
    assert quality == sorted(quality, reverse=True)
    assert (judged.ratio, judged.windows, judged.window_px, judged.share) == (4, 1, 128, 1.0)
    assert (judged.full_windows, judged.full_window_px) == (1, 128)
    table = judged.table()
    assert table["best"] == judged.rows[1].name
    assert set(table["rows"][0]["full"]) == {"d_lambda", "d_s", "qnr", "d_lambda_k", "hqnr"}


def test_methods_beat_interpolation_where_there_is_a_truth_and_not_by_qnr(judged):
    """What the documentation says of QNR: an image without detail leads it."""
    exp, scores = judged.rows[0], {row.name: row for row in judged.rows}
    for name in ("gsa", "mtf-glp-cbd"):
        assert scores[name].reduced.ergas < 0.8 * exp.reduced.ergas
        assert scores[name].reduced.q2n > exp.reduced.q2n + 0.05
        assert scores[name].reduced.scc > exp.reduced.scc + 0.3
        assert scores[name].full.qnr < exp.full.qnr


def test_scores_are_those_of_arrays_at_hand(scene):
    """Reduced scale, once more by ``wald`` on whole arrays, without a displacement."""
    with open_raster(scene[0]) as pan, open_raster(scene[1]) as mss:
        fine, coarse = read(pan)[0][0], read(mss)[0]
    here = wald(coarse, fine, ratio=RATIO)
    from geo.fusion import method
    from geo.fusion.mtf import sigma_px
    from geo.fusion.quality import ReducedScale
    from geo.fusion.statistics import Statistics
    from geo.fusion.window import aligned, sharpen

    low, there = degrade(here.pan[None], here.pan_valid, ratio=RATIO)
    known = Statistics.gather([(low[0], here.mss, there & here.mss_valid)])
    around = aligned(here.mss, np.where(here.pan_valid, here.pan, np.nan), ratio=4, margin=0, sigma=sigma_px(4))
    fused, good = sharpen(method("gsa"), around, known)
    expected = ReducedScale(4).seen(fused, here.reference, good & here.valid).scores()
    found = evaluate(scene[1], scene[0], methods=["gsa"], threads=1).rows[1].reduced
    assert found.q2n == pytest.approx(expected.q2n, abs=0.01)
    assert found.ergas == pytest.approx(expected.ergas, rel=0.03)
    assert found.sam_deg == pytest.approx(expected.sam_deg, rel=0.03)


def test_a_misregistered_pair_scores_worse(scene, judged):
    without = evaluate(scene[1], scene[0], methods=["gsa"], threads=1).rows[1]
    known = next(row for row in judged.rows if row.name == "gsa")
    assert without.full.d_lambda_k > 1.5 * known.full.d_lambda_k


def test_clouds_and_nodata_do_not_count(scene, tmp_path):
    """Pixels that are spoiled where they are flagged or missing change no score by much."""
    with open_raster(scene[1]) as src:
        mss, _ = read(src)
    clean = evaluate(scene[1], scene[0], methods=["gsa"], threads=1).rows[1].reduced
    mss[:, :20, :30] = np.nan
    holed = write_image(tmp_path / "mss.tif", mss, grid=map_grid(mss.shape[1:], MSS_M))
    found = evaluate(holed, scene[0], methods=["gsa"], threads=1).rows[1].reduced
    assert found.ergas == pytest.approx(clean.ergas, rel=0.15)
    assert np.isfinite([found.sam_deg, found.q2n, found.scc]).all()


def test_a_broken_ratio_has_no_full_scale(tmp_path):
    rng = np.random.default_rng(0)
    pan = ndimage.gaussian_filter(rng.uniform(0.1, 0.4, (320, 320)), 2)
    mss = np.stack([ndimage.zoom(pan, 100 / 320, order=1) + 0.01 * b for b in range(4)])
    pan_path = write_image(tmp_path / "pan.tif", pan[None], grid=map_grid(pan.shape, 2.5))
    mss_path = write_image(tmp_path / "mss.tif", mss, grid=map_grid(mss.shape[1:], 8.0))
    found = evaluate(mss_path, pan_path, methods=["gsa", "nndiffuse"], threads=1)
    assert found.ratio == pytest.approx(3.2)
    assert found.table()["rows"][1]["full"]["qnr"] is None
    assert np.isfinite(found.rows[1].reduced.q2n)


def test_images_too_small_to_be_degraded_are_told(tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=26)
    with open_raster(mss) as src:
        values, _ = read(src)
    values[:, 8:] = np.nan
    mss = write_image(tmp_path / "holed.tif", values, grid=map_grid(values.shape[1:], MSS_M))
    with pytest.raises(GridError, match=r"have \d+ good pixels in common when both are degraded by 4"):
        evaluate(mss, pan, methods=["gsa"], threads=1)


# --- the check of a product ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0])
@pytest.mark.parametrize("angle", [0.0, 0.2, 0.8, 2.5, -2.0])
def test_the_width_of_a_gaussian_edge_is_known(sigma, angle):
    """10 to 90 % of an error function are 2.563 deviations, in every direction and in any unit."""
    y, x = np.mgrid[:120, :120] - 60.3
    step = 0.5 + 0.5 * erf((x * np.cos(angle) + y * np.sin(angle)) / sigma / np.sqrt(2))
    sums = edge_profiles(step.astype(np.float32), (3 * step - 1).astype(np.float32), np.ones(step.shape, bool))
    assert sums.count >= 8
    widths = [edge_width(profile) for profile in sums.mean]
    assert widths[0] == pytest.approx(widths[1], rel=1e-3)
    assert widths[0] == pytest.approx(2.563 * sigma, rel=0.06)


def test_no_edges_have_no_width():
    flat, valid = np.full((64, 64), 0.2, np.float32), np.ones((64, 64), bool)
    assert edge_profiles(flat, flat, valid).count == 0
    assert edge_profiles(flat, flat, ~valid).count == 0
    rim = np.ones((64, 64), np.float32)
    rim[:, :2] = 0  # its only edge has no room for a profile
    assert edge_profiles(rim, rim, np.ones(rim.shape, bool)).count == 0
    assert np.isnan(edge_width(np.zeros(49)))


def test_a_good_product_passes_and_what_is_spoiled_does_not(scene, registration, tmp_path):
    pan, mss, _ = scene
    product = tmp_path / "fused.tif"
    pansharpen(mss, pan, product, name="mtf-glp-cbd", registration=registration)
    found = check(product, mss, pan, registration, threads=1)
    assert found["warnings"] == []
    assert max(found["spectral"]["relative_rmse"].values()) < MAX_SPECTRAL
    assert max(abs(b) for b in found["spectral"]["relative_bias"].values()) < 0.01
    assert 0.85 < found["spatial"]["width_ratio"] < 1.15
    with open_raster(product) as src:
        values, _ = read(src)
    grid = map_grid(values.shape[1:], PAN_M)
    brighter = values.copy()
    brighter[1] *= 1.2
    write_image(tmp_path / "brighter.tif", brighter, grid=grid)
    warned = check(tmp_path / "brighter.tif", mss, pan, registration, threads=1)["warnings"]
    assert len(warned) == 1
    assert "differs from it by green 2" in warned[0]
    blurred = np.stack([ndimage.gaussian_filter(band, 2.5) for band in np.nan_to_num(values, nan=0.2)])
    write_image(tmp_path / "blurred.tif", blurred, grid=grid)
    warned = check(tmp_path / "blurred.tif", mss, pan, registration, threads=1)
    assert warned["spatial"]["width_ratio"] > 1.5
    assert any("times as wide as those of PAN" in sentence for sentence in warned["warnings"])


def test_bands_of_a_product_are_found_by_name(tmp_path):
    """MSS comes in another order; its numbers go with the names."""
    pan, mss, _ = write_pair(tmp_path, size=64)
    with open_raster(mss) as src:
        values, _ = read(src)
    turned = write_image(
        tmp_path / "turned.tif",
        values[[2, 1, 0, 3]],
        grid=map_grid(values.shape[1:], MSS_M),
        bands=["red", "green", "blue", "nir"],
    )
    pansharpen(turned, pan, tmp_path / "fused.tif", name="mtf-glp-cbd")
    found = check(tmp_path / "fused.tif", turned, pan, threads=1)
    assert list(found["spectral"]["relative_rmse"]) == ["blue", "green", "red", "nir"]
    assert max(found["spectral"]["relative_rmse"].values()) < MAX_SPECTRAL


def test_flat_ground_cannot_tell_sharpness(tmp_path):
    grids = {n: map_grid((s, s), m) for n, s, m in (("pan", 160, PAN_M), ("mss", 40, MSS_M))}
    rng = np.random.default_rng(0)
    pan = write_image(tmp_path / "pan.tif", np.full((1, 160, 160), 0.2), grid=grids["pan"])
    mss = write_image(tmp_path / "mss.tif", 0.2 + rng.normal(0, 1e-3, (4, 40, 40)), grid=grids["mss"])
    pansharpen(mss, pan, tmp_path / "fused.tif")
    found = check(tmp_path / "fused.tif", mss, pan, threads=1)
    assert found["spatial"]["width_ratio"] is None
    assert found["warnings"] == ["the sharpness could not be measured: 0 clear edges were found in PAN"]


# --- real images -----------------------------------------------------------------------------------------------------


def assigned(source, target, pixel_m, window=None):
    """Copy an image that has no place on the map to one, its fourth band being no alpha."""
    with rasterio.open(source) as src:
        values = src.read(window=window)
        dtype = src.dtypes[0]
    with rasterio.open(
        target,
        "w",
        driver="GTiff",
        count=len(values),
        height=values.shape[1],
        width=values.shape[2],
        dtype=dtype,
        crs="EPSG:32633",
        transform=from_origin(500000, 5000000, pixel_m, pixel_m),
        photometric="MINISBLACK",
        alpha="NO",
    ) as dst:
        dst.write(values)
    return target


@pytest.mark.realdata
@pytest.mark.skipif(not (REALDATA / "pansharp_sensors").is_dir(), reason="no real data: set GEOCRACK_REALDATA")
def test_on_geoeye_the_regressing_methods_lead(tmp_path):
    """The table that the default rests on, and the check of its product."""
    source = REALDATA / "pansharp_sensors"
    mss = assigned(source / "GE1_MS.tif", tmp_path / "mss.tif", 2.0, Window(64, 64, 192, 192))
    pan = assigned(source / "GE1_PAN.tif", tmp_path / "pan.tif", 0.5, Window(256, 256, 768, 768))
    registration = register(pan, mss, gain=0.23)
    found = evaluate(mss, pan, registration=registration, gain=0.23, threads=1)
    exp, best, second = found.rows[:3]
    assert {best.name, second.name} == {"gsa", "mtf-glp-cbd"}
    assert best.reduced.q2n == pytest.approx(0.90, abs=0.01)
    assert best.reduced.ergas < 0.8 * exp.reduced.ergas
    assert all(row.reduced.q2n > exp.reduced.q2n + 0.05 for row in found.rows[1:-1])
    assert found.rows[-1].name == "pca"  # its first component is the infrared
    assert all(row.full.qnr < exp.full.qnr for row in found.rows[1:])
    for name in ("gsa", "mtf-glp-cbd"):
        pansharpen(mss, pan, tmp_path / f"{name}.tif", name=name, registration=registration, gain=0.23)
        checked = check(tmp_path / f"{name}.tif", mss, pan, registration, gain=0.23, threads=1)
        assert checked["warnings"] == []
        assert max(checked["spectral"]["relative_rmse"].values()) < 0.03
        assert 0.9 < checked["spatial"]["width_ratio"] < 1.15


@pytest.mark.realdata
@pytest.mark.skipif(not (REALDATA / "pleiades_ventoux").is_dir(), reason="no real data: set GEOCRACK_REALDATA")
def test_on_pleiades_every_method_beats_interpolation(tmp_path):
    """Orthorectified here; PAN and MSS lie half a pixel of MSS from each other."""
    from geo.ortho import orthorectify

    folder = REALDATA / "pleiades_ventoux"
    images = {"mss": ("PHR1B_ventoux_MS.tif", 2.0), "pan": ("PHR1B_ventoux_PAN_left.tif", 0.5)}
    for name, (file, pixel_m) in images.items():
        orthorectify(
            folder / file,
            tmp_path / f"{name}.tif",
            dem=folder / "SRTM_N44E005_crop.tif",
            crs="EPSG:32631",
            resolution_m=pixel_m,
            geoid_height_m=50.5,
        )
    mss, pan = tmp_path / "mss.tif", tmp_path / "pan.tif"
    registration = register(pan, mss)
    found = evaluate(mss, pan, registration=registration, threads=1)
    exp = found.rows[0].reduced
    for row in found.rows[1:]:
        assert row.reduced.q2n > exp.q2n + 0.2
        assert row.reduced.ergas < 0.7 * exp.ergas
    scores = {row.name: row.reduced for row in found.rows}
    assert min(scores.values(), key=lambda s: s.ergas) in (scores["gsa"], scores["mtf-glp-cbd"])
    pansharpen(mss, pan, tmp_path / "fused.tif", registration=registration)
    checked = check(tmp_path / "fused.tif", mss, pan, registration, threads=1)
    assert checked["warnings"] == []
