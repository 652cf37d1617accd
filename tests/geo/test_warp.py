import logging
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.windows import Window
from rio_cogeo import cog_validate

from geo.errors import GridError, OutputExistsError, RasterError
from geo.masks import QUALITY, Quality, quality_path
from geo.ortho import centre_of, orthorectify
from geo.ortho.dem import LON_LAT, apply, open_dem, transform
from geo.ortho.geometry import RpcGeometry, ground_cover
from geo.ortho.grid import metric_crs, snapped_grid, utm_crs
from geo.ortho.rpc import CameraModel
from geo.ortho.warp import KERNELS, TOLERANCE, filled, resample, resample_flags, shrink, shrink_flags, spread, whole
from geo.raster import REFLECTANCE, Encoding, open_raster, read
from geo.source import encoding_of
from tests.geo.terrain import FLOAT, LON, UTM, camera_rpcs, landscape, look, map_grid, mountains, write_dem, write_image

SHAPE = (150, 180)
UTM_CRS = CRS.from_user_input(UTM)


def grid_of_positions(shape):
    """Positions of the pixels of an array themselves."""
    col, row = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return col.astype(np.float32), row.astype(np.float32)


# --- resampling ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    top=st.integers(0, 6),
    left=st.integers(0, 6),
    bottom=st.integers(0, 6),
    right=st.integers(0, 6),
    hole=st.booleans(),
    shift=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    ratio=st.sampled_from([0.25, 0.3, 1.0, 2.0]),
)
def test_parallel_grids_are_good_where_any_are(top, left, bottom, right, hole, shift, ratio):
    """Where a rectangle is good its weights come from columns and rows alone; the general way is the truth."""
    valid = np.zeros((12, 15), bool)
    valid[top : 12 - bottom, left : 15 - right] = True
    if hole:
        valid[6, 7] = False
    values = np.random.default_rng(0).random((2, 12, 15), np.float32)
    col = (np.arange(int(15 / ratio)) * ratio + shift[0]).astype(np.float32)[None, :]
    row = (np.arange(int(12 / ratio)) * ratio + shift[1]).astype(np.float32)[:, None]
    found, good = filled(values, valid, col, row)
    everywhere = whole(col, row)
    expected, expected_good = filled(values, valid, *everywhere)
    x, y = (a - np.float32(0.5) for a in everywhere)
    weight = cv2.remap(valid.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    decided = np.abs(weight - (1 - TOLERANCE)) > 1e-5  # a product of rounded numbers decides nothing beside the limit
    np.testing.assert_array_equal(good[decided], expected_good[decided])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_resampling_at_the_pixels_is_identity(kernel):
    values = landscape(64).astype(np.float32)
    found, good = resample(values, np.ones((64, 64), bool), *grid_of_positions((64, 64)), kernel)
    np.testing.assert_allclose(found, values, atol=1e-6)
    assert good.all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_resampling_a_smooth_field_is_right_to_a_twentieth_of_a_pixel(kernel):
    row, col = np.mgrid[:60, :60].astype(np.float32) + 0.5
    x, y = np.random.default_rng(0).uniform(6, 54, (2, 40, 40)).astype(np.float32)
    found, _ = resample(np.stack([col, row]), np.ones((60, 60), bool), x, y, kernel)
    np.testing.assert_allclose(found, [x, y], atol=0.05)


@given(seed=st.integers(0, 1000), kernel=st.sampled_from(sorted(KERNELS)))
@settings(max_examples=30, deadline=None)
def test_nodata_never_bleeds(seed, kernel):
    """Around holes of any shape a constant stays that constant, whatever lies in the holes."""
    rng = np.random.default_rng(seed)
    valid = cv2.GaussianBlur(rng.normal(size=(40, 40)), (0, 0), 1.5) > -0.1
    values = np.where(valid, 0.3, rng.choice([0, np.nan, 9e9], (40, 40))).astype(np.float32)
    x, y = rng.uniform(0, 40, (2, 50, 50)).astype(np.float32)
    found, good = resample(values[None], valid, x, y, kernel)
    np.testing.assert_allclose(found[0][good], 0.3, atol=1e-5)
    assert np.isnan(found[0][~good]).all()
    at_hole = ~valid[np.clip(y.astype(int), 0, 39), np.clip(x.astype(int), 0, 39)]
    assert not good[at_hole].any()


def test_a_pixel_deep_in_good_ground_is_good():
    valid = np.ones((20, 20), bool)
    valid[:, :5] = False
    x = np.array([[5.4, 5.5, 5.53, 19.4, 19.6, np.nan]], np.float32)
    _, good = resample(np.ones((1, 20, 20), np.float32), valid, x, np.full_like(x, 10), "cubic")
    assert good.tolist() == [[False, True, True, True, False, False]]


def test_spread_keeps_good_values_and_fills_their_neighbours():
    valid = np.zeros((7, 7), bool)
    valid[3, 3] = True
    bands = np.stack([np.full((7, 7), value, np.float32) for value in (5, 7)])
    for grown, value in zip(spread(bands, valid, 2), (5, 7), strict=True):
        assert (grown[1:6, 1:6] == value).all()
        assert (grown[0] == 0).all()


def test_flags_join_where_pixels_join_and_stay_where_they_lie():
    flags = np.zeros((10, 10), np.uint8)
    flags[4, 4], flags[4, 5] = Quality.CLOUD, Quality.SATURATED
    good = np.ones((10, 10), bool)
    np.testing.assert_array_equal(resample_flags(flags, *grid_of_positions((10, 10)), good), flags)
    between = resample_flags(flags, np.array([[5.0]], np.float32), np.array([[4.5]], np.float32), good[:1, :1])
    assert between == Quality.CLOUD | Quality.SATURATED
    outside = resample_flags(flags, np.array([[np.nan]], np.float32), np.array([[4.5]], np.float32), ~good[:1, :1])
    assert outside == Quality.NODATA


def test_shrinking_averages_blocks_and_keeps_holes():
    values = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    valid = np.ones((4, 4), bool)
    valid[0, 0] = False
    means, good = shrink(values, valid, 2)
    np.testing.assert_array_equal(means[0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(good, [[False, True], [True, True]])
    np.testing.assert_array_equal(shrink_flags(np.eye(4, dtype=np.uint8), 2), [[1, 0], [0, 1]])


# --- geometry -----------------------------------------------------------------------------------------------


def test_positions_are_exact_to_a_tenth_of_a_pixel_on_steep_ground(tmp_path):
    """Here to a hundredth, against the camera model at each pixel's own height."""
    rpcs = camera_rpcs((600, 600), tilt=0.6)
    with open_dem(write_dem(tmp_path / "dem.tif", heights=mountains(128, relief=400)), geoid_height_m=-40) as dem:
        geometry = RpcGeometry(CameraModel.from_rpcs(rpcs), dem, UTM_CRS)
        lon, lat, _ = ground_cover(geometry, (600, 600))
        geobox = snapped_grid(lon, lat, UTM_CRS, 2.0)
        window = Window(37, 11, 500, 481)
        found = geometry.positions(geobox, window)
        col, row = np.meshgrid(np.arange(37, 537) + 0.5, np.arange(11, 492) + 0.5)
        x, y = apply(geobox.affine, col, row)
        heights = dem.heights(x, y, UTM_CRS).astype(float)
    exact = geometry.camera.to_image(*transform(UTM_CRS, LON_LAT, x, y), heights)
    assert np.ptp(heights) > 1000
    assert np.isfinite(heights).all()
    np.testing.assert_allclose(found.col + found.origin[0], exact[0], atol=0.01)
    np.testing.assert_allclose(found.row + found.origin[1], exact[1], atol=0.01)


def test_positions_do_not_depend_on_the_window(tmp_path):
    rpcs = camera_rpcs((300, 300))
    with open_dem(write_dem(tmp_path / "dem.tif")) as dem:
        geometry = RpcGeometry(CameraModel.from_rpcs(rpcs), dem, UTM_CRS)
        geobox = snapped_grid(*ground_cover(geometry, (300, 300))[:2], UTM_CRS, 2.0)
        whole = geometry.positions(geobox, Window(0, 0, 300, 300))
        part = geometry.positions(geobox, Window(101, 77, 120, 90))
    cut = whole.col[77:167, 101:221] + whole.origin[0]
    np.testing.assert_allclose(part.col + part.origin[0], cut, atol=1e-3)


def test_grids_are_snapped_so_that_pan_nests_in_mss():
    lon, lat = np.array([103.49, 103.51]), np.array([31.29, 31.31])
    fine, coarse = (snapped_grid(lon, lat, UTM_CRS, r) for r in (2.0, 8.0))
    for grid, step in ((fine, 2), (coarse, 8)):
        assert grid.affine.c % step == 0
        assert grid.affine.f % step == 0
    assert abs(fine.affine.c - coarse.affine.c) < 16


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [(103.5, 31.3, 32648), (-70, -33, 32719), (180, 1, 32601), (-180, 1, 32601), (5.2, 44, 32631)],
)
def test_utm_zones(lon, lat, code):
    assert utm_crs(lon, lat).to_epsg() == code


def test_a_crs_must_be_in_metres():
    assert metric_crs("EPSG:32648") == UTM_CRS
    with pytest.raises(GridError, match=r"'EPSG:4326' \(WGS 84\) is not in metres; expected a projected CRS"):
        metric_crs("EPSG:4326")
    with pytest.raises(GridError, match=r"'EPSG:2263' .* is not in metres"):
        metric_crs("EPSG:2263")
    with pytest.raises(GridError, match="'utm' is not understood; expected auto or a code such as EPSG:32648"):
        metric_crs("utm")


# --- whole orthos -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Image whose bands are the easting and northing that each pixel sees, from 356000, 3464000."""
    folder = tmp_path_factory.mktemp("scene")
    rpcs = camera_rpcs(SHAPE)
    dem = write_dem(folder / "dem.tif")
    with open_dem(dem) as heights:
        x, y = look(rpcs, SHAPE, lambda lon, lat: heights.heights(lon, lat).astype(float))
    values = np.stack([x - 356000, y - 3464000])
    image = write_image(folder / "image.tif", values, rpcs=rpcs, bands=["x", "y"], encoding=FLOAT)
    return image, dem


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "lanczos"])
def test_every_pixel_lies_where_it_looked(scene, tmp_path, resampling):
    image, dem = scene
    made = orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2, resampling=resampling, threads=2)
    with open_raster(tmp_path / "ortho.tif") as src:
        values, valid = read(src)
        row, col = np.mgrid[: src.height, : src.width] + 0.5
        x, y = apply(src.transform, col, row)
        assert src.crs.to_epsg() == 32648
        assert src.descriptions == ("x", "y")
    assert made.dem_share == 1
    assert made.valid_share == pytest.approx(valid.mean())
    assert valid.sum() > 0.8 * SHAPE[0] * SHAPE[1]
    error = np.hypot(values[0] - (x - 356000), values[1] - (y - 3464000))[valid]
    assert np.median(error) < 0.12  # OpenCV's cubic makes waves of a twentieth of a pixel on a ramp
    assert np.quantile(error, 0.99) < 0.5  # a quarter of a pixel, where ridges bend the image
    assert cog_validate(tmp_path / "ortho.tif", quiet=True)[0]


@pytest.mark.skipif(shutil.which("gdalwarp") is None, reason="gdalwarp (Debian's gdal-bin) is not installed")
def test_agrees_with_gdalwarp(scene, tmp_path):
    image, dem = scene
    orthorectify(image, tmp_path / "ours.tif", dem=dem, resolution_m=2, resampling="bilinear")
    with open_raster(tmp_path / "ours.tif") as src:
        ours, valid = read(src)
        bounds = [str(b) for b in src.bounds]
    options = f"-q -rpc -to RPC_DEM={dem} -to RPC_DEM_APPLY_VDATUM_SHIFT=NO -et 0 -r bilinear -tr 2 2 -t_srs {UTM}"
    subprocess.run(["gdalwarp", *options.split(), "-te", *bounds, image, tmp_path / "theirs.tif"], check=True)
    with open_raster(tmp_path / "theirs.tif") as src:
        theirs, also = read(src)
    both = valid & also
    assert both.sum() > 0.97 * also.sum()
    # the bands are metres on the ground: 0.1 px of 2 m
    assert np.abs(ours - theirs)[:, both].max() < 0.2


def test_without_the_dem_heights_it_would_lie_elsewhere(scene, tmp_path):
    """The test above is worth something: 100 m of height error move pixels by 30 m."""
    image, dem = scene
    orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2, geoid_height_m=100)
    with open_raster(tmp_path / "ortho.tif") as src:
        values, valid = read(src)
        row, col = np.mgrid[: src.height, : src.width] + 0.5
        x, _ = apply(src.transform, col, row)
    assert abs(np.median((values[0] - (x - 356000))[valid])) == pytest.approx(30, abs=5)


def test_windows_leave_no_seams(scene, tmp_path, monkeypatch):
    image, dem = scene
    orthorectify(image, tmp_path / "one.tif", dem=dem, resolution_m=2)
    monkeypatch.setattr("geo.ortho.WINDOW", 64)
    orthorectify(image, tmp_path / "many.tif", dem=dem, resolution_m=2, threads=2)
    with open_raster(tmp_path / "one.tif") as one, open_raster(tmp_path / "many.tif") as many:
        (first, good), (second, also) = read(one), read(many)
    np.testing.assert_array_equal(good, also)
    # OpenCV rounds positions to 1/32 pixel, 0.06 m here
    np.testing.assert_allclose(first[:, good], second[:, good], atol=0.13)
    assert (np.abs(first - second)[:, good] > 1e-3).mean() < 0.01


def test_holes_flags_and_tags_are_kept(tmp_path):
    rpcs = camera_rpcs(SHAPE)
    values = np.full((1, *SHAPE), 0.25)
    values[0, 40:60, 50:80] = np.nan
    image = write_image(tmp_path / "pan.tif", values, rpcs=rpcs, tags={"GEOCRACK_SCENE": "s1", "OTHER": "x"})
    flags = np.where(np.isnan(values), Quality.NODATA, 0)
    flags[0, 90:100, 100:120] = Quality.CLOUD
    flags[0, 120:124, 20:25] = Quality.NODATA  # known to be bad, though the image holds a value
    write_image(quality_path(image), flags, rpcs=rpcs, bands=["quality"], encoding=QUALITY)
    dem = write_dem(tmp_path / "dem.tif", heights=np.full((64, 64), 1500, np.float32))
    orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2)
    with open_raster(tmp_path / "ortho.tif") as src, open_raster(quality_path(tmp_path / "ortho.tif")) as quality:
        found, valid = read(src)
        flags = quality.read(1)
        assert src.tags()["GEOCRACK_SCENE"] == "s1"
        assert "OTHER" not in src.tags()
        assert encoding_of(src) == REFLECTANCE
        assert (quality.transform, quality.shape, quality.nodata) == (src.transform, src.shape, None)
    np.testing.assert_allclose(found[0][valid], 0.25, atol=1e-4)
    np.testing.assert_array_equal((flags & Quality.NODATA) == 0, valid)
    assert ((flags & Quality.CLOUD) > 0).sum() == pytest.approx(10.5 * 20.5, abs=20)
    # a hole takes with it the pixels that touch it
    assert (valid_without_holes(tmp_path) & ~valid).sum() == pytest.approx(21 * 31 + 5 * 6, abs=40)


def valid_without_holes(tmp_path):
    image = write_image(tmp_path / "whole.tif", np.full((1, *SHAPE), 0.25), rpcs=camera_rpcs(SHAPE))
    orthorectify(image, tmp_path / "whole_ortho.tif", dem=tmp_path / "dem.tif", resolution_m=2)
    with open_raster(tmp_path / "whole_ortho.tif") as src:
        return read(src)[1]


def test_an_image_on_a_map_is_warped_without_a_dem(tmp_path):
    """Easting and northing of each pixel, from another zone and another grid."""
    other = CRS.from_epsg(32647)
    x0, y0 = transform(UTM_CRS, other, np.array([356000.0]), np.array([3464000.0]))
    grid = map_grid((120, 140), 3.0, left=x0[0] + 0.7, top=y0[0])
    grid = type(grid)(grid.shape, grid.affine, other)
    row, col = np.mgrid[:120, :140] + 0.5
    x, y = transform(other, UTM_CRS, *apply(grid.affine, col, row))
    image = write_image(tmp_path / "map.tif", np.stack([x - 356000, y - 3464000]), encoding=FLOAT, grid=grid)
    orthorectify(image, tmp_path / "ortho.tif", resolution_m=3, crs=UTM, resampling="bilinear")
    with open_raster(tmp_path / "ortho.tif") as src:
        values, valid = read(src)
        row, col = np.mgrid[: src.height, : src.width] + 0.5
        x, y = apply(src.transform, col, row)
    assert valid.sum() > 0.95 * 118 * 138
    error = np.hypot(values[0] - (x - 356000), values[1] - (y - 3464000))[valid]
    assert np.quantile(error, 0.99) < 0.01
    assert error.max() < 3 * 2 * TOLERANCE  # where the outermost pixels stand in for what lies beyond


def test_a_coarser_grid_is_averaged_not_picked(tmp_path):
    """A chessboard of single pixels becomes grey, not a pattern."""
    board = np.indices((160, 160)).sum(axis=0)[None] % 2 * 0.4 + 0.1
    image = write_image(tmp_path / "board.tif", board, grid=map_grid((160, 160), 2.0))
    orthorectify(image, tmp_path / "ortho.tif", resolution_m=8)
    with open_raster(tmp_path / "ortho.tif") as src:
        values, valid = read(src)
    np.testing.assert_allclose(values[0][valid], 0.3, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [
        ("uint16", None, Encoding("uint16", 0)),
        ("uint8", 255, Encoding("uint8", 255)),
        ("int16", -9999, Encoding("int16", -32768)),
    ],
)
def test_other_encodings_get_a_nodata(tmp_path, dtype, nodata, expected):
    path = tmp_path / "image.tif"
    grid = map_grid((40, 40), 2.0)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=40,
        height=40,
        count=1,
        dtype=dtype,
        nodata=nodata,
        crs=UTM,
        transform=grid.affine,
    ) as dst:
        dst.write(np.full((1, 40, 40), 100, dtype))
    orthorectify(path, tmp_path / "ortho.tif", resolution_m=2)
    with open_raster(tmp_path / "ortho.tif") as src:
        assert encoding_of(src) == expected
        values, valid = read(src)
    assert (values[0][valid] == 100).all()
    assert 0.5 < valid.mean() < 1


def test_a_dem_over_part_of_the_scene_leaves_nodata_and_says_how_much(scene, tmp_path, caplog):
    image, _ = scene
    half = write_dem(tmp_path / "half.tif", shift_deg=32 / 3600)
    with caplog.at_level(logging.WARNING, logger="geo"):
        made = orthorectify(image, tmp_path / "ortho.tif", dem=half, resolution_m=2)
    assert 0.3 < made.dem_share < 0.7
    assert f"has no heights for {100 * (1 - made.dem_share):.1f} % of the scene" in caplog.text
    with open_raster(tmp_path / "ortho.tif") as src:
        _, valid = read(src)
        row, col = np.mgrid[: src.height, : src.width] + 0.5
        lon, _ = transform(UTM_CRS, LON_LAT, *apply(src.transform, col, row))
    assert not valid[lon < LON - 1e-5].any()
    assert valid[lon > LON + 1e-4].any()


def test_a_dem_elsewhere_is_told_with_both_places(scene, tmp_path):
    image, _ = scene
    far = write_dem(tmp_path / "far.tif", shift_deg=2)
    with pytest.raises(
        GridError,
        match=r"far\.tif holds no heights for the scene: it covers longitude 105\.49.* to 105\.50.*, latitude .*, "
        r"the scene lies at longitude 103\.49.* to 103\.50.*; give a DEM of that place",
    ):
        orthorectify(image, tmp_path / "ortho.tif", dem=far, resolution_m=2)
    assert not (tmp_path / "ortho.tif").exists()


def test_the_zone_may_be_decided_by_the_scene(scene, tmp_path):
    image, dem = scene
    made = orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2, centre=(101.9, 31.0))
    assert made.geobox.crs.epsg == 32647
    assert centre_of(image) == pytest.approx((103.5, 31.3), abs=0.001)


def test_what_is_missing_is_told(scene, tmp_path):
    image, dem = scene
    with pytest.raises(
        GridError, match=r"image\.tif has an RPC and no CRS, so heights are needed; give a DEM with --dem"
    ):
        orthorectify(image, tmp_path / "ortho.tif", resolution_m=2)
    bare = write_image(tmp_path / "bare.tif", np.full((1, 20, 20), 0.2))
    with pytest.raises(GridError, match=r"bare\.tif has neither an RPC nor a CRS; expected one of them"):
        orthorectify(bare, tmp_path / "ortho.tif", dem=dem, resolution_m=2)
    with pytest.raises(GridError, match="unknown resampling 'cubik'; did you mean 'cubic'"):
        orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2, resampling="cubik")
    with pytest.raises(GridError, match=r"would become .* at 0\.01 m; expected a resolution near the image's own"):
        orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=0.01)


def test_outputs_are_not_replaced_unasked(scene, tmp_path):
    image, dem = scene
    quality_path(tmp_path / "ortho.tif").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"ortho\.quality\.tif is already there"):
        orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2)
    orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2, overwrite=True)


def test_an_image_of_nodata_is_told_and_leaves_nothing(tmp_path):
    image = write_image(tmp_path / "empty.tif", np.full((1, *SHAPE), np.nan), rpcs=camera_rpcs(SHAPE))
    with pytest.raises(RasterError, match=r"empty\.tif holds no valid pixel on ground with a height"):
        orthorectify(image, tmp_path / "ortho.tif", dem=write_dem(tmp_path / "dem.tif"), resolution_m=2)
    assert not list(tmp_path.glob("*ortho*"))


def test_a_truncated_image_is_told_and_leaves_nothing(scene, tmp_path):
    image, dem = scene
    with rasterio.open(image) as src:
        rpcs = src.rpcs
    noise = np.random.default_rng(0).uniform(0, 1, (1, 600, 600))
    whole = write_image(tmp_path / "cut.tif", noise, rpcs=rpcs)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(RasterError, match=r"cut\.tif (is truncated or damaged|cannot be read)"):
        orthorectify(whole, tmp_path / "ortho.tif", dem=dem, resolution_m=2)
    assert not list(tmp_path.glob("*ortho*"))


def test_a_quality_of_another_shape_is_told(scene, tmp_path):
    _, dem = scene
    image = write_image(tmp_path / "image.tif", np.full((1, *SHAPE), 0.2), rpcs=camera_rpcs(SHAPE))
    write_image(quality_path(image), np.zeros((1, 20, 20)), bands=["quality"], encoding=QUALITY)
    with pytest.raises(GridError, match=r"image\.quality\.tif has 20 x 20 pixels and its image has 180 x 150"):
        orthorectify(image, tmp_path / "ortho.tif", dem=dem, resolution_m=2)
