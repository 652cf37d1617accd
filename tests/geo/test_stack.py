"""Stacks: terrain against gdaldem, indices by hand, another date on the grid, nodata and quality."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.errors import ConfigError, GridError, OutputExistsError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.image import open_image
from geo.indices import normalised_difference
from geo.masks import QUALITY, Quality, quality_path
from geo.raster import REFLECTANCE, open_raster, read
from geo.stack import chosen, ground_bands, stack
from geo.terrain import Relief
from tests.geo.terrain import UTM, map_grid, mountains, write_dem, write_image

REAL = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data")) / "dem_jiuzhaigou"
SHAPE = (150, 170)
GRID = map_grid(SHAPE, 10.0)
FLOAT = {"dtype": "float32", "crs": UTM}


def colours(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).uniform(0.05, 0.5, (4, *shape)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    write_image(folder / "image.tif", colours(), grid=GRID, tags={"GEOCRACK_SCENE": "now"}, cog=True)
    heights = mountains(200)
    # 10 m pixels that are the image's, and reach beyond it
    write_dem(folder / "dem.tif", heights=heights, transform=GRID.affine @ Affine.translation(-15, -25), crs=UTM)
    return folder


def bands_of(path):
    with open_image(path) as image:
        values, valid = image.read(Window(0, 0, image.shape[1], image.shape[0]))
        return dict(zip(image.bands, values, strict=True)), valid


def gdaldem(folder, what, *options):
    made = folder / f"{what}.tif"
    if shutil.which("gdaldem") is None:
        pytest.skip("gdaldem is not installed (Debian: apt-get install gdal-bin)")
    subprocess.run(["gdaldem", what, folder / "dem.tif", made, "-q", *options], check=True)
    with rasterio.open(made) as src:
        return src.read(1, window=Window(15, 25, SHAPE[1], SHAPE[0]))


def test_slope_and_aspect_are_those_of_gdaldem(folder, tmp_path):
    stack(folder / "image.tif", tmp_path / "s.tif", dem=folder / "dem.tif")
    found, valid = bands_of(tmp_path / "s.tif")
    assert list(found) == ["blue", "green", "red", "nir", "elevation", "slope", "aspect_sin", "aspect_cos"]
    assert valid.all()
    assert found["slope"] == pytest.approx(gdaldem(folder, "slope"), abs=2e-3)
    aspect = np.radians(gdaldem(folder, "aspect"))
    assert found["aspect_sin"] == pytest.approx(np.sin(aspect), abs=2e-3)
    assert found["aspect_cos"] == pytest.approx(np.cos(aspect), abs=2e-3)
    with rasterio.open(folder / "dem.tif") as src:
        assert found["elevation"] == pytest.approx(src.read(1, window=Window(15, 25, *SHAPE[::-1])), abs=1e-3)


def test_relief_is_the_range_of_heights_in_the_square(folder, tmp_path):
    stack(folder / "image.tif", tmp_path / "s.tif", dem=folder / "dem.tif", add=["relief"], relief_m=100, window=64)
    found, _ = bands_of(tmp_path / "s.tif")
    with rasterio.open(folder / "dem.tif") as src:
        heights = src.read(1)
    for row, col in ((0, 0), (77, 64), (149, 169)):
        square = heights[row + 25 - 5 : row + 25 + 6, col + 15 - 5 : col + 15 + 6]
        assert found["relief"][row, col] == pytest.approx(np.ptp(square), abs=1e-3)


def test_indices_by_hand(folder, tmp_path):
    stack(folder / "image.tif", tmp_path / "s.tif", add=["ndvi", "NDWI", "brightness", "ndvi"])
    found, _ = bands_of(tmp_path / "s.tif")
    image, _ = bands_of(folder / "image.tif")
    b, g, r, n = image.values()
    assert list(found)[4:] == ["ndvi", "ndwi", "brightness"]
    assert found["ndvi"] == pytest.approx((n - r) / (n + r), abs=1e-5)
    assert found["ndwi"] == pytest.approx((g - n) / (g + n), abs=1e-5)
    assert found["brightness"] == pytest.approx((b + g + r) / 3, abs=1e-5)
    for name, band in image.items():
        assert np.array_equal(found[name], band), name


def test_shade_without_light_has_an_index_of_zero(tmp_path):
    values = colours()
    values[2:, 0, 0] = -0.02, -0.01  # dark ground under a bright atmosphere that was taken away
    values[2:, 0, 1] = -0.02, 0.03
    write_image(tmp_path / "a.tif", values, grid=GRID)
    stack(tmp_path / "a.tif", tmp_path / "s.tif", add=["ndvi"])
    found, valid = bands_of(tmp_path / "s.tif")
    assert valid.all()
    assert found["ndvi"][0, :2].tolist() == [0, 1]


@given(st.floats(-0.1, 2), st.floats(-0.1, 2))
def test_a_normalised_difference_turns_with_its_bands(a, b):
    one, other = (
        normalised_difference(np.array([a]), np.array([b])),
        normalised_difference(np.array([b]), np.array([a])),
    )
    assert np.array_equal(one, -other, equal_nan=True)
    assert np.isnan(one[0]) == (a + b <= 0)


@given(st.floats(0, 360), st.floats(0.01, 2))
def test_aspect_is_where_the_ground_falls(aspect, steepness):
    east, north = -steepness * np.sin(np.radians(aspect)), -steepness * np.cos(np.radians(aspect))
    plane = Relief(np.zeros((1, 1), np.float32), np.full((1, 1), east), np.full((1, 1), north))
    found = ground_bands(plane, ["slope", "aspect_sin", "aspect_cos"])
    assert found["aspect_sin"][0, 0] == pytest.approx(np.sin(np.radians(aspect)), abs=1e-6)
    assert found["aspect_cos"][0, 0] == pytest.approx(np.cos(np.radians(aspect)), abs=1e-6)
    assert found["slope"][0, 0] == pytest.approx(np.degrees(np.arctan(steepness)), abs=1e-4)


def test_flat_ground_has_no_aspect():
    flat = Relief(*np.zeros((3, 2, 2), np.float32))
    found = ground_bands(flat, ["aspect_sin", "aspect_cos", "slope"])
    assert not any(band.any() for band in found.values())


def test_another_date_keeps_its_pixels_on_the_same_grid(folder, tmp_path):
    write_image(tmp_path / "b.tif", colours(1), grid=GRID, tags={"GEOCRACK_SCENE": "then"})
    stack(folder / "image.tif", tmp_path / "s.tif", before=tmp_path / "b.tif", add=["ndvi"])
    found, _ = bands_of(tmp_path / "s.tif")
    other, _ = bands_of(tmp_path / "b.tif")
    names = ["blue_before", "green_before", "red_before", "nir_before", "ndvi_before"]
    assert list(found) == ["blue", "green", "red", "nir", "ndvi", *names]
    for name, band in other.items():
        assert np.array_equal(found[f"{name}_before"], band)
    assert found["ndvi_before"] == pytest.approx(
        (other["nir"] - other["red"]) / (other["nir"] + other["red"]), abs=1e-5
    )
    with open_raster(tmp_path / "s.tif") as src:
        assert src.tags()["GEOCRACK_SCENE"] == "now"
        assert src.tags()["GEOCRACK_BEFORE"] == "then"


@pytest.mark.parametrize(
    "grid",
    [map_grid((120, 130), 15.0, 355_980.0, 3_464_030.0), map_grid((400, 420), 5.0, 355_900.0, 3_464_090.0)],
    ids=["coarser", "finer"],
)
def test_another_date_is_resampled_to_where_the_ground_is(folder, tmp_path, grid):
    height, width = grid.shape
    t = grid.affine
    x, y = t.c + t.a * (np.arange(width) + 0.5), t.f + t.e * (np.arange(height) + 0.5)
    ramp = 0.2 + (x[None] - 356_000) / 10_000 + (y[:, None] - 3_464_000) / 20_000
    write_image(tmp_path / "b.tif", ramp[None], bands=["red"], grid=grid)
    stack(folder / "image.tif", tmp_path / "s.tif", before=tmp_path / "b.tif")
    found, valid = bands_of(tmp_path / "s.tif")
    col, row = np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5
    wanted = 0.2 + col[None] * 10 / 10_000 - row[:, None] * 10 / 20_000
    assert valid.mean() > 0.9
    assert found["red_before"][valid] == pytest.approx(wanted[valid], abs=2e-4)


def test_a_pixel_is_valid_where_all_is_and_flags_are_joined(folder, tmp_path):
    now, then = colours(), colours(1)
    now[:, :10] = np.nan
    then[:, :, :20] = np.nan
    for name, values, flag, at in (
        ("a", now, Quality.CLOUD, np.s_[50:60]),
        ("b", then, Quality.SHADOW, np.s_[55:70]),
    ):
        path = write_image(tmp_path / f"{name}.tif", values, grid=GRID)
        flags = np.zeros(SHAPE, np.uint8)
        flags[at] = int(flag)
        with GeoTiffWriter(quality_path(path), GRID, ["quality"], QUALITY, cog=False) as dst:
            dst.write_stored(flags, Window(0, 0, *SHAPE[::-1]))
    heights = mountains(200)
    heights[100:105, 100:105] = -9999
    write_dem(
        tmp_path / "dem.tif",
        heights=heights,
        transform=GRID.affine @ Affine.translation(-15, -25),
        crs=UTM,
        nodata=-9999,
    )
    made = stack(tmp_path / "a.tif", tmp_path / "s.tif", before=tmp_path / "b.tif", dem=tmp_path / "dem.tif", window=64)
    _, valid = bands_of(tmp_path / "s.tif")
    wanted = np.ones(SHAPE, bool)
    wanted[:10] = wanted[:, :20] = False
    wanted[74:81, 84:91] = False  # the void, and a pixel about it, which has no slope
    assert np.array_equal(valid, wanted)
    assert made.valid_share == pytest.approx(wanted.mean())
    with open_raster(quality_path(tmp_path / "s.tif")) as src:
        flags = src.read(1)
    assert np.array_equal((flags & Quality.NODATA) > 0, ~wanted)
    assert np.array_equal(np.flatnonzero((flags & Quality.CLOUD).all(axis=1)), np.arange(50, 60))
    assert ((flags & Quality.CLOUD) > 0).sum() == 10 * SHAPE[1]
    assert ((flags & Quality.SHADOW) > 0)[55:70, 30:].all()


def test_a_stack_does_not_depend_on_windows_or_threads(folder, tmp_path):
    write_dem(tmp_path / "dem.tif", size=80)  # in degrees, 30 m
    for name, window, threads in (("a", 1024, 1), ("b", 48, 2)):
        stack(
            folder / "image.tif",
            tmp_path / f"{name}.tif",
            dem=tmp_path / "dem.tif",
            add=["slope", "relief", "elevation", "ndvi"],
            window=window,
            threads=threads,
        )
    one, _ = bands_of(tmp_path / "a.tif")
    other, _ = bands_of(tmp_path / "b.tif")
    for name, band in one.items():
        assert band == pytest.approx(other[name], abs=1e-3, nan_ok=True), name


def test_a_stack_is_a_cog_with_named_bands(folder, tmp_path):
    stack(folder / "image.tif", tmp_path / "s.tif", dem=folder / "dem.tif", add=["slope"])
    with open_raster(tmp_path / "s.tif") as src:
        assert src.descriptions == ("blue", "green", "red", "nir", "slope")
        assert src.dtypes == ("float32",) * 5
        assert np.isnan(src.nodata)
        assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert src.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "ZSTD"
        assert src.transform == GRID.affine
        values, valid = read(src)
    assert valid.all()
    assert values.dtype == np.float32


def test_names_may_be_given(tmp_path):
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=30, width=40, count=2, transform=GRID.affine, **FLOAT
    ) as dst:
        dst.write(np.random.default_rng(0).uniform(0.1, 0.5, (2, 30, 40)).astype(np.float32))
    with pytest.raises(RasterError, match="bands are found by name: give --bands"):
        stack(tmp_path / "a.tif", tmp_path / "s.tif", add=["ndvi"])
    made = stack(tmp_path / "a.tif", tmp_path / "s.tif", add=["ndvi"], names=["red", "nir"])
    assert made.bands == ("red", "nir", "ndvi")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"add": ["slop"], "dem": True, "before": False}, r"unknown band 'slop'; did you mean 'slope'\?"),
        ({"add": ["slope"], "dem": False, "before": False}, "slope is made from a DEM, and there is none; give --dem"),
        ({"add": ["ndvi"], "dem": True, "before": False}, "nothing of it is added .ndvi.; add one of elevation"),
        ({"add": [], "dem": False, "before": False}, "nothing to add to the image; give --add, --dem or --before"),
    ],
)  # fmt: skip
def test_wishes_that_cannot_be_met(settings, said):
    with pytest.raises(ConfigError, match=said):
        chosen(**settings)


def test_what_is_wrong_is_said_and_nothing_is_left(folder, tmp_path):
    write_image(tmp_path / "rgb.tif", colours()[:3], bands=["blue", "green", "red"], grid=GRID)
    write_image(tmp_path / "raw.tif", colours())
    degrees = GeoBox(SHAPE, Affine(1e-4, 0, 103, 0, -1e-4, 31), "EPSG:4326")
    write_image(tmp_path / "degrees.tif", colours(), grid=degrees)
    write_image(tmp_path / "far.tif", colours(), grid=map_grid(SHAPE, 10.0, left=500_000))
    write_image(tmp_path / "again.tif", colours()[:2], bands=["red", "ndwi"], grid=GRID)
    write_image(tmp_path / "indexed.tif", colours()[:3], bands=["green", "nir", "ndwi"], grid=GRID)
    out = tmp_path / "s.tif"
    for error, said, image, settings in (
        (RasterError, "has the bands blue, green, red; ndvi needs nir: leave it out", "rgb.tif", {"add": ["ndvi"]}),
        (GridError, "has no place on a map; expected an ortho", "raw.tif", {"add": ["ndvi"]}),
        (GridError, "units are not metres, so heights have no slope", "degrees.tif", {"dem": folder / "dem.tif"}),
        (GridError, "has no place on a map", "rgb.tif", {"before": tmp_path / "raw.tif"}),
        (GridError, "no pixel of .* is valid in all of", "rgb.tif", {"before": tmp_path / "far.tif"}),
        (GridError, "the DEM .* lies elsewhere", "far.tif", {"dem": folder / "dem.tif"}),
        (ConfigError, "has a band ndwi already", "indexed.tif", {"add": ["ndwi"]}),
        (ConfigError, "would look at .* pixels; expected at most 2048", "rgb.tif",
         {"dem": folder / "dem.tif", "add": ["relief"], "relief_m": 1e6}),
    ):  # fmt: skip
        with pytest.raises(error, match=said):
            stack(tmp_path / image, out, **settings)
        assert not out.exists()
        assert not quality_path(out).exists()
    out.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"s\.tif is already there"):
        stack(tmp_path / "rgb.tif", out, add=["brightness"])


def test_an_index_that_only_one_date_has(tmp_path):
    write_image(tmp_path / "a.tif", colours(), grid=GRID)
    write_image(tmp_path / "b.tif", colours()[:1], bands=["pan"], grid=GRID)
    made = stack(tmp_path / "a.tif", tmp_path / "s.tif", before=tmp_path / "b.tif", add=["ndvi"])
    assert made.bands == ("blue", "green", "red", "nir", "ndvi", "pan_before")


def test_scaled_bands_are_read_in_their_units(tmp_path):
    values = colours()
    write_image(tmp_path / "a.tif", values, grid=GRID, encoding=REFLECTANCE)
    stack(tmp_path / "a.tif", tmp_path / "s.tif", add=["brightness"])
    found, _ = bands_of(tmp_path / "s.tif")
    assert found["red"] == pytest.approx(values[2], abs=6e-5)


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no DEM in {REAL} (GEOCRACK_REALDATA)")
def test_real_slopes_are_those_that_came_with_the_dem(tmp_path):
    with rasterio.open(REAL / "DEM_030.tif") as src:
        grid = GeoBox(src.shape, src.transform, src.crs.to_wkt())
    write_image(tmp_path / "a.tif", colours(shape=src.shape)[:1], bands=["red"], grid=grid)
    stack(tmp_path / "a.tif", tmp_path / "s.tif", dem=REAL / "DEM_030.tif", add=["slope"])
    found, valid = bands_of(tmp_path / "s.tif")
    with open_raster(REAL / "DEM_030_SLOPE.tif") as src:
        told, known = read(src)
    both = valid & known
    assert both.mean() > 0.5
    assert found["slope"][both] == pytest.approx(told[0][both], abs=1e-3)
