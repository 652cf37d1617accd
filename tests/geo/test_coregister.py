import os
import re
from pathlib import Path

import numpy as np
import pytest
from rasterio.windows import Window

from geo.coregister import phase_shift, register
from geo.coregister.bright import find_bright
from geo.coregister.estimate import Estimate
from geo.displacement import evaluate
from geo.errors import GridError, RegistrationError
from geo.fusion.pansharpen import pansharpen
from geo.geotiff import GeoTiffWriter
from geo.masks import QUALITY, Quality, quality_path
from geo.ortho import orthorectify
from geo.raster import geobox_of, open_raster, read
from geo.windows import spread_windows
from tests.geo.pair_scene import MSS_M, PAN_M, write_pair
from tests.geo.terrain import landscape, map_grid, write_image

REAL = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))


def error_px(registration, shift_px):
    """How far the measured shift is from the true one, MSS pixels; rows run against y."""
    dx, dy = registration.coefficients[:, 0] / MSS_M
    return np.hypot(dx - shift_px[0], -dy - shift_px[1])


@pytest.mark.parametrize(
    "shift_px", [(0, 0), (0.3, -0.2), (-0.5, 0.5), (2.37, 1.81), (-9.6, 5.3), (21.4, -21.1), (30, 0)]
)
def test_injected_shifts_are_found_to_a_tenth_of_a_pixel(tmp_path, shift_px):
    pan, mss, _ = write_pair(tmp_path, shift_px=shift_px)
    registration = register(pan, mss)
    assert registration.model == "shift"
    assert error_px(registration, shift_px) < 0.05
    assert registration.held_out_rmse_m < 0.1 * MSS_M


@pytest.mark.parametrize("shift_px", [(0.4, -0.7), (-12.25, 8.5)])
def test_under_noise_and_clouds(tmp_path, shift_px):
    pan, mss, _ = write_pair(tmp_path, size=256, shift_px=shift_px, noise=0.01, cloud=0.3)
    registration = register(pan, mss)
    assert error_px(registration, shift_px) < 0.1


@pytest.mark.parametrize(
    ("shift_px", "parallax_px", "seed"),
    [((0.4, -0.7), (0.3, 0.4), 1), ((-12.25, 8.5), (-2.5, 3.1), 2), ((-3.98, 21.29), (-1.05, 6.92), 19)],
)
def test_clouds_that_look_the_same_in_both_are_not_the_ground(tmp_path, shift_px, parallax_px, seed):
    """Clouds are what PAN and MSS have most in common, but from another height: without care they decide."""
    pan, mss, _ = write_pair(
        tmp_path, size=256, shift_px=shift_px, noise=0.01, cloud=0.3, parallax_px=parallax_px, seed=seed
    )
    registration = register(pan, mss)
    assert error_px(registration, shift_px) < 0.1
    assert registration.held_out_rmse_m < 0.1 * MSS_M


def test_clouds_that_are_followed_for_want_of_ground_are_told(tmp_path, monkeypatch, caplog):
    told = {
        "size": 256,
        "shift_px": (-12.25, 8.5),
        "noise": 0.01,
        "cloud": 0.3,
        "parallax_px": (-1.05, 6.92),
        "seed": 4,
    }
    pan, mss, _ = write_pair(tmp_path, **told)
    whole = Estimate.through_tie_points

    def few(self):
        if self.bright is not None:
            raise self.failed("no tie point lies on clear ground with texture")
        return whole(self)

    monkeypatch.setattr(Estimate, "through_tie_points", few)
    registration = register(pan, mss)
    assert error_px(registration, told["shift_px"]) > 3
    assert "if the bright part is cloud, the displacement is that of the cloud" in caplog.text


def patches_of(dark, light, cover):
    """One patch of a reference and two bands that fall into parts of these values, with some texture."""
    rng = np.random.default_rng(0)
    texture = 1 + 0.1 * rng.normal(size=cover.shape)
    bands = np.stack([np.where(cover, b, a) * texture for a, b in zip(dark, light, strict=True)])
    return [(bands.mean(axis=0), bands, np.ones(cover.shape, bool))]


def test_a_scene_is_divided_where_a_part_is_brighter_in_every_band():
    cover = np.zeros((100, 100), bool)
    cover[20:60, 30:90] = True
    found = find_bright(patches_of((0.1, 0.2), (0.6, 0.65), cover))
    assert 0.2 < found.reference < 0.55
    assert 0.2 < found.moving < 0.55
    (patch,) = patches_of((0.1, 0.2), (0.6, 0.65), cover)
    clear = found.without(*patch)
    assert not clear[15:65, 25:95].any()  # with a rim
    assert clear[:14].all()
    assert find_bright(patches_of((0.1, 0.03), (0.12, 0.5), cover)) is None  # water and forest
    assert find_bright(patches_of((0.1, 0.2), (0.1, 0.2), cover)) is None
    assert find_bright([(np.zeros((40, 40)), np.zeros((1, 40, 40)), np.zeros((40, 40), bool))]) is None


def test_a_stretch_needs_an_affine(tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=320, shift_px=(1.0, -0.5), stretch=2.0)
    registration = register(pan, mss)
    assert registration.model == "affine"
    x = 356000 + MSS_M * np.array([20.0, 160.0, 300.0])
    dx, dy = registration.displacement(x, np.full(3, 3464000 - MSS_M * 160))
    # what MSS shows at u is at u - 1 - stretch / size * u
    expected = (1 + 2 / 320 * np.array([20.0, 160.0, 300.0])) / (1 - 2 / 320)
    np.testing.assert_allclose(dx / MSS_M, expected, atol=0.1)
    np.testing.assert_allclose(-dy / MSS_M, -0.5, atol=0.1)
    assert registration.held_out_rmse_m < 0.1 * MSS_M


def test_the_report_says_what_was_measured(tmp_path):
    pan, mss, _ = write_pair(tmp_path, shift_px=(0.75, -1.0))
    registration = register(pan, mss)
    summary = registration.summary()
    assert summary["status"] == "measured"
    assert summary["shift_x_m"] == pytest.approx(6, abs=0.4)
    assert summary["shift_y_m"] == pytest.approx(8, abs=0.4)
    assert summary["shift_px"] == pytest.approx(1.25, abs=0.05)
    assert summary["held_out_before_m"] == pytest.approx(10, abs=0.5)
    assert summary["held_out_rmse_m"] < 0.5
    points = registration.points
    assert summary["tie_points_used"] == (points.good & ~points.held_out).sum()
    assert summary["tie_points_held_out"] == (points.good & points.held_out).sum()
    assert summary["tie_points_used"] + summary["tie_points_held_out"] + summary["tie_points_rejected"] == len(points.x)


def test_held_out_points_have_no_part_in_the_estimate(tmp_path):
    """The model is that of the other points, whatever was measured at these."""
    pan, mss, _ = write_pair(tmp_path, size=256, shift_px=(1.5, 0.5), noise=0.02)
    registration = register(pan, mss)
    points = registration.points
    assert 0.2 < points.held_out.mean() < 0.45
    used = points.good & ~points.held_out
    mean = np.array([points.dx[used].mean(), points.dy[used].mean()])
    np.testing.assert_allclose(registration.coefficients[:, 0], mean, atol=0.05 * MSS_M)


def test_flagged_clouds_are_left_out(tmp_path):
    """A patch that moved by itself would count, were it not flagged."""
    pan, mss, _ = write_pair(tmp_path, size=160, shift_px=(0.5, 0.5))
    with open_raster(mss) as src:
        values, _ = read(src)
        grid = map_grid(src.shape, MSS_M)
    flags = np.zeros((1, 160, 160))
    flags[0, :, :60] = Quality.CLOUD
    values[:, :, :60] = np.roll(values[:, :, :60], 3, axis=1)
    write_image(mss, values, grid=grid)
    write_image(quality_path(mss), flags, grid=grid, bands=["quality"], encoding=QUALITY)
    registration = register(pan, mss)
    assert error_px(registration, (0.5, 0.5)) < 0.05
    left = registration.points.x < 356000 + 40 * MSS_M
    assert not registration.points.good[left].any()


def test_other_ground_is_a_failure_not_a_zero_shift(tmp_path):
    pan, _, _ = write_pair(tmp_path, seed=0)
    (tmp_path / "other").mkdir()
    _, mss, _ = write_pair(tmp_path / "other", seed=7)
    with pytest.raises(
        RegistrationError, match=r"could not be registered: .*; look at both images, or fuse with --no-coreg"
    ):
        register(pan, mss)


def test_ground_without_texture_is_a_failure(tmp_path):
    pan = write_image(tmp_path / "pan.tif", np.full((1, 400, 400), 0.3), grid=map_grid((400, 400), PAN_M))
    mss = write_image(tmp_path / "mss.tif", np.full((4, 100, 100), 0.3), grid=map_grid((100, 100), MSS_M))
    with pytest.raises(RegistrationError, match=r"no large part of them matches within 256 m \(best correlation 0\.00"):
        register(pan, mss)


def test_images_without_common_ground_are_told(tmp_path):
    pan, mss, _ = write_pair(tmp_path)
    with open_raster(mss) as src:
        values, _ = read(src)
    far = write_image(tmp_path / "far.tif", values, grid=map_grid(values.shape[1:], MSS_M, left=400000))
    with pytest.raises(
        GridError, match=r"far\.tif and .*pan\.tif overlap by 0 x 160 pixels of the former; expected 24 x 24"
    ):
        register(pan, far)
    grid = map_grid(values.shape[1:], MSS_M)
    other = write_image(tmp_path / "other.tif", values, grid=type(grid)(grid.shape, grid.affine, "EPSG:32647"))
    with pytest.raises(GridError, match=r"EPSG:32648 and .*other\.tif EPSG:32647; expected orthos in one CRS"):
        register(pan, other)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -1.3), (-3.7, 2.2)])
def test_phase_shift_of_two_arrays(shift):
    """Against a displacement made in the Fourier domain."""
    scene = landscape(96)[0]
    fy, fx = np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96)
    smooth = np.fft.fft2(scene) * np.exp(-((fx**2 + fy**2) / 0.08))
    moved = np.fft.ifft2(smooth * np.exp(-2j * np.pi * (fx * shift[0] + fy * shift[1]))).real
    part = (slice(16, 80), slice(16, 80))
    dx, dy, score, _ = phase_shift(np.fft.ifft2(smooth).real[part], moved[part], np.ones((64, 64), bool))
    assert np.hypot(dx - shift[0], dy - shift[1]) < 0.12
    assert score > 0.5


def test_windows_are_spread_over_the_area_without_overlap():
    windows = spread_windows(Window(10, 20, 200, 130), 32, 5)
    assert len(windows) == 5 * 4
    assert {w.col_off for w in windows} == {10, 52, 94, 136, 178}
    assert min(w.row_off for w in windows) == 20
    assert max(w.row_off + w.height for w in windows) == 150
    assert spread_windows(Window(0, 0, 10, 10), 32, 5) == [Window(0, 0, 10, 10)]


def test_evaluate():
    coefficients = np.array([[1.0, 0.1, 0.0], [2.0, 0.0, -0.5]])
    assert evaluate(coefficients, (100.0, 200.0), 110.0, 204.0) == (2.0, 0.0)


@pytest.mark.realdata
def test_pleiades_mss_lies_on_pan_to_half_a_pan_pixel(tmp_path):
    """Real images of one satellite: measured at tie points that the estimate did not use."""
    folder = REAL / "pleiades_ventoux"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    dem = folder / "SRTM_N44E005_crop.tif"
    for name, resolution in (("PAN_left", 0.5), ("MS", 2.0)):
        image = folder / f"PHR1B_ventoux_{name}.tif"
        orthorectify(image, tmp_path / f"{name}.tif", dem=dem, geoid_height_m=50, resolution_m=resolution)
    registration = register(tmp_path / "PAN_left.tif", tmp_path / "MS.tif")
    assert registration.points.held_out.sum() >= 6
    assert registration.held_out_before_m > 0.5
    assert registration.held_out_rmse_m < 0.25


@pytest.mark.parametrize("rows", [8, 0])
def test_a_failure_says_that_nearly_everything_is_saturated(tmp_path, rows):
    pan, mss, _ = write_pair(tmp_path, size=64)
    flags = np.full((256, 256), int(Quality.SATURATED), np.uint8)
    flags[:rows] = 0
    with open_raster(pan) as src, GeoTiffWriter(quality_path(pan), geobox_of(src), ["quality"], QUALITY) as writer:
        writer.write_stored(flags, Window(0, 0, 256, 256))
    why = f"% of {pan} is flagged as saturated and left out (is its bit depth right, or the product rescaled?)"
    with pytest.raises(RegistrationError, match=rf"could not be registered: .*; \d+ {re.escape(why)}; look at both"):
        register(pan, mss)
    if not rows:
        with pytest.raises(GridError, match=rf"have no good pixel in common; 100 {re.escape(why)}"):
            pansharpen(mss, pan, tmp_path / "fused.tif")
