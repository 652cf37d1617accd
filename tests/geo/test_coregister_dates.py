"""Registration of two dates: other light, new scars, clouds, warps, resolutions; and what must not be registered."""

import os
from pathlib import Path

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from geo.coregister import phase_shift, register
from geo.errors import GridError, RegistrationError
from geo.masks import QUALITY, Quality, quality_path
from geo.ortho import orthorectify
from geo.raster import open_raster, read
from tests.geo.date_scene import FINE, PIXEL_M, seen, write_dates
from tests.geo.pair_scene import MSS_M, PAN_M, PAN_MIX, displaced, write_pair
from tests.geo.terrain import FLOAT, landscape, map_grid, write_image

LEFT, TOP = 356000.0, 3464000.0


def shifted(dx, dy):
    return lambda col, row: (dx + 0 * col, dy + 0 * row)


def errors_px(registration, warp, size, rim=20):
    """How far the displacement is from the true one on a lattice of the reference, pixels of ``PIXEL_M``."""
    at = np.linspace(rim, size - rim, 12)
    col, row = np.meshgrid(at, at)
    dx, dy = registration.displacement(LEFT + PIXEL_M * col, TOP - PIXEL_M * row)
    true_x, true_y = warp(col, row)
    return np.hypot(dx / PIXEL_M - true_x, -dy / PIXEL_M - true_y)


def seeded_shift(seed):
    """Shift of up to 30 pixels in any direction."""
    rng = np.random.default_rng(seed)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0, 30)
    return length * np.cos(angle), length * np.sin(angle)


@pytest.mark.parametrize("seed", range(8))
def test_dates_under_noise_and_clouds(tmp_path, seed):
    """Clouds over 30 % of each image, elsewhere in each, and not flagged."""
    warp = shifted(*seeded_shift(seed))
    reference, moving = write_dates(tmp_path, size=320, warp=warp, cloud=0.3, noise=0.01, seed=seed, bands=1 + seed % 2)
    assert errors_px(register(reference, moving), warp, 320).max() < 0.1


@pytest.mark.parametrize("seed", range(10, 22))
def test_pan_and_mss_under_noise_and_clouds(tmp_path, seed):
    """To a tenth of an MSS pixel, however far apart they lie."""
    shift = seeded_shift(seed)
    pan, mss, _ = write_pair(tmp_path, size=256, shift_px=shift, noise=0.01, cloud=0.3, seed=seed)
    dx, dy = register(pan, mss).coefficients[:, 0] / MSS_M
    assert np.hypot(dx - shift[0], -dy - shift[1]) < 0.1


def test_equal_pixels_have_no_bias(tmp_path):
    """An interpolation by a narrow Gaussian would move things by some hundredths of a pixel."""
    for number, shift in enumerate([(0.25, 0.25), (3.37, -11.2), (0.0, 0.0)]):
        warp = shifted(*shift)
        images = write_dates(tmp_path, size=256, warp=warp, seed=number, noise=0.0, scars=0.0)
        assert errors_px(register(*images), warp, 256).max() < 0.02


@pytest.mark.parametrize("turn", [1e-4, -1e-3])
def test_a_small_rotation(tmp_path, turn):
    def warp(col, row):
        return 3.2 - turn * (row - 256), -1.4 + turn * (col - 256)

    registration = register(*write_dates(tmp_path, size=512, warp=warp, cloud=0.1))
    assert registration.model in ("affine", "shift" if abs(turn) < 5e-4 else "affine")
    assert errors_px(registration, warp, 512).max() < 0.1


def wave(col, row):
    return 5.3 + 2 * np.sin(2 * np.pi * row / 1024), -4.1 + 1.5 * np.cos(2 * np.pi * col / 1024)


@pytest.fixture(scope="module")
def warped(tmp_path_factory):
    """Images warped against each other, with clouds, and their registration."""
    images = write_dates(tmp_path_factory.mktemp("warped"), size=768, warp=wave, cloud=0.15, bands=2, seed=3)
    return *images, register(*images)


def test_a_warp_needs_a_local_model(warped):
    registration = warped[2]
    assert registration.model == "local"
    assert np.sqrt(np.mean(errors_px(registration, wave, 768, rim=40) ** 2)) < 0.2  # also in the clouds' holes
    points = registration.points
    dx, dy = registration.displacement(points.x, points.y)
    true_x, true_y = wave((points.x - LEFT) / PIXEL_M, (TOP - points.y) / PIXEL_M)
    error = np.hypot(dx / PIXEL_M - true_x, -dy / PIXEL_M - true_y)[points.good]
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert error.max() < 0.2
    assert registration.held_out_rmse_m < 0.1 * PIXEL_M
    left_out = registration.left_out_m
    assert left_out["local"] < 0.2 * left_out["affine"] < 0.2 * left_out["shift"]


def test_a_local_model_is_reported_whole(warped):
    """From the report alone the displacement can be had again."""
    from geo.displacement import Displacement, Field

    registration = warped[2]
    summary = registration.summary()
    assert summary["model"] == "local"
    field = Field(tuple(summary["field"]["bounds"]), np.array(summary["field"]["weights"]))
    again = Displacement(tuple(summary["origin"]), np.array(summary["coefficients"]), field)
    x, y = LEFT + np.array([100.0, 900.0]), TOP - np.array([300.0, 1200.0])
    np.testing.assert_allclose(again(x, y), registration.displacement(x, y), atol=1e-9)
    assert summary["shift_x_m"] == pytest.approx(float(registration.displacement(*registration.origin)[0]))


def test_no_warp_no_local_model(tmp_path):
    warp = shifted(1.6, 0.7)
    registration = register(*write_dates(tmp_path, size=640, warp=warp, cloud=0.2, noise=0.01))
    assert registration.model == "shift"
    assert set(registration.left_out_m) <= {"shift", "affine", "local"}


@pytest.mark.parametrize(("bands", "coarser"), [(2, 2), (1, 4)])
def test_a_reference_of_coarser_pixels(tmp_path, bands, coarser):
    warp = shifted(-7.4, 5.2)
    images = write_dates(tmp_path, size=512, warp=warp, bands=bands, coarser=coarser)
    registration = register(*images)
    assert registration.pixel_m == PIXEL_M * coarser
    assert errors_px(registration, warp, 512).max() < 0.1 * coarser


def test_what_lies_farther_is_found_on_coarser_pixels(tmp_path):
    warp = shifted(80.4, -51.2)
    images = write_dates(tmp_path, size=512, warp=warp)
    with pytest.raises(RegistrationError, match="no large part of them matches within 64 m"):
        register(*images)
    assert errors_px(register(*images, max_shift_m=200), warp, 512).max() < 0.1


@pytest.mark.parametrize("flag", [Quality.CLOUD, Quality.SHADOW, Quality.SATURATED, Quality.NODATA])
@pytest.mark.parametrize("image", ["reference", "moving"])
def test_flagged_ground_has_no_tie_points(tmp_path, flag, image):
    """A part that moved by itself would count, were it not flagged, in whichever image."""
    warp = shifted(1.5, 0.5)
    reference, moving = write_dates(tmp_path, size=192, warp=warp, scars=0.0)
    path = reference if image == "reference" else moving
    with open_raster(path) as src:
        values, _ = read(src)
    values[:, :, :70] = np.roll(values[:, :, :70], 3, axis=1)
    flags = np.zeros((1, 192, 192))
    flags[0, :, :70] = flag
    write_image(path, values, grid=map_grid((192, 192), PIXEL_M))
    write_image(quality_path(path), flags, grid=map_grid((192, 192), PIXEL_M), bands=["quality"], encoding=QUALITY)
    registration = register(reference, moving)
    assert errors_px(registration, warp, 192).max() < 0.05
    points = registration.points
    assert not points.good[points.x < LEFT + 50 * PIXEL_M].any()


def test_nodata_without_a_number(tmp_path):
    """NaN as nodata, also where whole windows hold nothing else."""
    warp = shifted(2.2, -1.7)
    images = write_dates(tmp_path, size=256, warp=warp)
    for number, path in enumerate(images):
        with open_raster(path) as src:
            values, _ = read(src)
        values[:, 90 + 10 * number : 190, : 130 + 20 * number] = np.nan
        write_image(path, values, grid=map_grid((256, 256), PIXEL_M), encoding=FLOAT)
    registration = register(*images)
    assert errors_px(registration, warp, 256).max() < 0.05
    assert np.isfinite(registration.points.dx).all()


def test_nothing_but_nodata(tmp_path):
    images = write_dates(tmp_path, size=96)
    write_image(images[1], np.full((1, 96, 96), np.nan), grid=map_grid((96, 96), PIXEL_M), encoding=FLOAT)
    with pytest.raises(RegistrationError, match="no large part of them matches"):
        register(*images)


@pytest.mark.parametrize("size", [64, 96, 160, 256])
def test_other_ground_is_a_failure(tmp_path, size):
    for seed in range(3):
        (tmp_path / f"{seed}a").mkdir()
        (tmp_path / f"{seed}b").mkdir()
        reference, _ = write_dates(tmp_path / f"{seed}a", size=size, seed=seed)
        _, moving = write_dates(tmp_path / f"{seed}b", size=size, seed=seed + 40)
        with pytest.raises(RegistrationError, match="could not be registered"):
            register(reference, moving)


@pytest.mark.parametrize(("period", "size"), [(6, 160), (8, 96), (12, 256), (20, 160), (30, 96), (30, 256)])
def test_texture_that_repeats_itself_is_a_failure(tmp_path, period, size):
    """It fits at one period's distance as well; nobody can know which shift is the true one."""
    count, rng = -(-size // period), np.random.default_rng(0)
    fine = np.tile(landscape(period * 4, 3), (1, count, count))[:, : size * 4, : size * 4]
    pan = np.tensordot(PAN_MIX, fine, 1)
    mss = displaced(pan, size, lambda x, _: x - 4.8, lambda _, y: y - 2.8)
    noise = 0.005 * rng.normal(size=mss.shape)
    pan_path = write_image(tmp_path / "pan.tif", pan[None], grid=map_grid(pan.shape, PAN_M))
    mss_path = write_image(tmp_path / "mss.tif", (mss + noise)[None], grid=map_grid(mss.shape, MSS_M))
    with pytest.raises(RegistrationError, match="their texture repeats itself, so that they match at several places"):
        register(pan_path, mss_path)


def test_stripes_are_a_failure(tmp_path):
    """Along them nothing can be known."""
    rng = np.random.default_rng(1)
    line = np.cumsum(rng.normal(size=640) > 1) % 2 * 0.1 + 0.1
    pan = np.tile(line, (640, 1)) + 0.005 * rng.normal(size=(640, 640))
    mss = displaced(pan, 160, lambda x, _: x - 4.8, lambda _, y: y)
    pan_path = write_image(tmp_path / "pan.tif", pan[None], grid=map_grid(pan.shape, PAN_M))
    mss_path = write_image(tmp_path / "mss.tif", mss[None], grid=map_grid(mss.shape, MSS_M))
    with pytest.raises(RegistrationError, match="their texture repeats itself"):
        register(pan_path, mss_path)


def test_grids_that_cannot_be_compared_are_told(tmp_path):
    reference, moving = write_dates(tmp_path, size=64)
    with open_raster(moving) as src:
        values, _ = read(src)
        grid = map_grid(src.shape, PIXEL_M)
    turned = type(grid)(grid.shape, grid.affine @ type(grid.affine).rotation(3), grid.crs)
    with pytest.raises(GridError, match=r"turned\.tif is a rotated raster; expected an ortho with rows along x"):
        register(reference, write_image(tmp_path / "turned.tif", values, grid=turned))
    affine = type(grid.affine)(PIXEL_M, 0, LEFT, 0, PIXEL_M, TOP - 128)
    upside = type(grid)(grid.shape, affine, grid.crs)
    with pytest.raises(GridError, match=r"upside\.tif is a flipped raster; expected an ortho with north up"):
        register(reference, write_image(tmp_path / "upside.tif", values, grid=upside))
    fine = type(grid)(grid.shape, type(affine)(0.03, 0, LEFT, 0, -0.03, TOP), grid.crs)
    with pytest.raises(GridError, match=r"fine\.tif has pixels 0\.015 times as large as .*; expected 50 times at most"):
        register(reference, write_image(tmp_path / "fine.tif", values, grid=fine))
    degrees = type(grid)(grid.shape, type(grid.affine)(1e-5, 0, 103.5, 0, -1e-5, 31.3), "EPSG:4326")
    path = write_image(tmp_path / "degrees.tif", values, grid=degrees)
    with pytest.raises(GridError, match=r"has the CRS EPSG:4326, whose units are not metres; expected a projected CRS"):
        register(path, path)


@pytest.fixture(scope="module")
def pleiades(tmp_path_factory):
    """Orthos of one pass: MSS, and a stereo pair of PAN, over a DEM of 90 m."""
    folder = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data")) / "pleiades_ventoux"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    out, dem = tmp_path_factory.mktemp("pleiades"), folder / "SRTM_N44E005_crop.tif"
    for name, resolution in (("PAN_left", 0.5), ("PAN_right", 0.5), ("MS", 2.0)):
        image = folder / f"PHR1B_ventoux_{name}.tif"
        orthorectify(image, out / f"{name}.tif", dem=dem, geoid="egm96", resolution_m=resolution)
    return out


@pytest.mark.realdata
def test_real_images_the_other_way_round(pleiades):
    """PAN against MSS is MSS against PAN with the sign turned, though pixels are averaged instead of blurred."""
    one = register(pleiades / "PAN_left.tif", pleiades / "MS.tif")
    other = register(pleiades / "MS.tif", pleiades / "PAN_left.tif")
    np.testing.assert_allclose(other.displacement(*one.origin), -np.array(one.displacement(*one.origin)), atol=0.1)
    assert other.held_out_rmse_m < 0.25
    assert other.held_out_before_m > 0.5


@pytest.mark.realdata
def test_real_cliffs_that_the_dem_does_not_hold_are_refused(pleiades):
    """Stereo images disagree there by ten metres from one tie point to the next, which no smooth field can mend."""
    with pytest.raises(RegistrationError, match="tie points that match do not agree with each other"):
        register(pleiades / "PAN_left.tif", pleiades / "PAN_right.tif", max_shift_m=100)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -1.3), (-3.7, 2.2), (7.25, 6.5)])
def test_windows_agree_with_scikit_image(shift):
    """Clean windows, by an independent implementation on intensities."""
    scene = np.tensordot(PAN_MIX, landscape(192 * FINE, 5), 1)
    row, col = np.mgrid[:96, :96] + 30.5
    first, second = seen(scene, col, row), seen(scene, col - shift[0], row - shift[1])
    fade = np.outer(np.hanning(96), np.hanning(96))
    theirs, _, _ = phase_cross_correlation(
        (second - second.mean()) * fade, (first - first.mean()) * fade, upsample_factor=100, normalization=None
    )
    dx, dy, _, _ = phase_shift(first, second, np.ones((96, 96), bool))
    assert np.hypot(dx - theirs[1], dy - theirs[0]) < 0.1
    assert np.hypot(dx - shift[0], dy - shift[1]) < 0.1
