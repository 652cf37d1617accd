import os
import subprocess
import sys
import textwrap
from contextlib import suppress

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.windows import Window
from rio_cogeo import cog_validate

from geo.errors import OutputError, OutputExistsError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.raster import (
    PROBABILITY,
    PROBABILITY_FLOAT,
    REFLECTANCE,
    Encoding,
    band_numbers,
    geobox_of,
    open_raster,
    overview,
    read,
)

SHAPE = (700, 600)


@pytest.fixture
def grid():
    return GeoBox(SHAPE, rasterio.Affine(2, 0, 400000, 0, -2, 3460000), "EPSG:32648")


@pytest.fixture
def values():
    """Each pixel holds its place: 1e-4 x column in the first band, 1e-4 x row in the second; a hole is NaN."""
    rows, cols = np.indices(SHAPE).astype("float32") * 1e-4
    values = np.stack([cols, rows])
    values[:, 100:150, 200:300] = np.nan
    return values


def write(path, grid, values, encoding=REFLECTANCE, bands=("red", "nir"), **more):
    with GeoTiffWriter(path, grid, bands, encoding, **more) as dst:
        for row in range(0, grid.shape[0], 256):
            height = min(256, grid.shape[0] - row)
            dst.write(values[:, row : row + height], Window(0, row, grid.shape[1], height))
    return path


def plain(path, array, **profile):
    """Raster written with rasterio alone."""
    array = np.atleast_3d(array) if array.ndim == 3 else array[None]
    profile = {"crs": "EPSG:32648", "transform": rasterio.Affine(2, 0, 0, 0, -2, 0)} | profile
    count, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype, **profile
    ) as dst:
        dst.write(array)
    return path


floats = hnp.arrays("float32", (2, 5, 6), elements=st.floats(-2, 8, width=32) | st.just(np.float32("nan")))


@given(floats)
@settings(deadline=None)  # the first call compiles
def test_reflectance_comes_back_within_half_a_step_and_beyond_its_range_is_clipped(values):
    stored = REFLECTANCE.encode(values)
    back = np.where(stored == 0, np.nan, stored * REFLECTANCE.scale + REFLECTANCE.offset)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(values))
    np.testing.assert_allclose(back, np.clip(values, 1e-4 - 0.1, 6.4535), atol=0.51e-4)


@settings(deadline=None)
@given(hnp.arrays("float32", (3, 4), elements=st.floats(0, 1, width=32)))
def test_probability_comes_back_within_half_a_step(values):
    np.testing.assert_allclose(PROBABILITY.encode(values) * 0.004, values, atol=0.0021)
    np.testing.assert_array_equal(PROBABILITY_FLOAT.encode(values), values)


def test_worked_by_hand():
    assert REFLECTANCE.encode(np.array([0.25, -0.05, -9, 99, np.nan, np.inf])).tolist() == [3500, 500, 1, 65535, 0, 0]
    assert PROBABILITY.encode(np.array([0, 0.5, 1, 2, np.nan])).tolist() == [0, 125, 250, 254, 255]
    assert Encoding("uint8", nodata=None).encode(np.array([0.0, 255, 256, np.nan])).tolist() == [0, 255, 255, 0]
    assert Encoding("float32", nodata=-9999).encode(np.array([1.5, np.nan])).tolist() == [1.5, -9999]


def test_valid_holds_for_all_bands():
    values, valid = np.ones((2, 1, 2), "float32"), np.array([[True, False]])
    assert REFLECTANCE.encode(values, valid).tolist() == [[[11000, 0]], [[11000, 0]]]


@pytest.mark.parametrize("encoding", [REFLECTANCE, Encoding("float32", nodata=float("nan"))], ids=["uint16", "float32"])
def test_written_is_what_is_read(tmp_path, grid, values, encoding):
    path = write(tmp_path / "fused.tif", grid, values, encoding, tags={"GEOCRACK_SCENE": "a"})
    with open_raster(path) as src:
        got, valid = read(src)
        assert geobox_of(src) == grid
        assert src.descriptions == ("red", "nir")
        assert src.tags()["GEOCRACK_SCENE"] == "a"
    np.testing.assert_allclose(got, values, atol=1e-6)
    np.testing.assert_array_equal(valid, np.isfinite(values[0]))


def test_gdal_alone_finds_scale_offset_and_nodata(tmp_path, grid, values):
    with rasterio.open(write(tmp_path / "a.tif", grid, values)) as src:
        assert (src.scales, src.offsets, src.nodata) == ((1e-4, 1e-4), (-0.1, -0.1), 0)


@pytest.mark.parametrize("resampling", ["average", "nearest", "mode"])
def test_it_is_a_cloud_optimized_geotiff(tmp_path, grid, values, resampling):
    valid, errors, warnings = cog_validate(
        write(tmp_path / "a.tif", grid, values, resampling=resampling), strict=True, quiet=True
    )
    assert (valid, errors, warnings) == (True, [], [])


def test_viewers_open_it_in_true_colours_and_no_band_is_taken_for_alpha(tmp_path, grid):
    ones = np.ones((4, *SHAPE), "float32")
    byte = Encoding("uint8", nodata=0)
    path = write(tmp_path / "a.tif", grid, ones, byte, bands=("blue", "green", "red", "nir"))
    with open_raster(path) as src:
        shown = src.colorinterp
        assert read(src)[0].shape[0] == 4
    assert shown == (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)


def test_sensor_geometry_keeps_its_camera(tmp_path, values):
    rpcs = RPC(
        height_off=1500, height_scale=500, lat_off=31.3, lat_scale=0.1, long_off=103.5, long_scale=0.1,
        line_off=350, line_scale=350, samp_off=300, samp_scale=300, err_bias=1, err_rand=0,
        line_num_coeff=[0.0, 0, -1] + [0.0] * 17, line_den_coeff=[1.0] + [0.0] * 19,
        samp_num_coeff=[0.0, 1] + [0.0] * 18, samp_den_coeff=[1.0] + [0.0] * 19,
    )  # fmt: skip
    path = write(tmp_path / "pan.tif", GeoBox(SHAPE, rasterio.Affine.identity(), None), values, cog=False, rpcs=rpcs)
    with open_raster(path) as src:
        assert src.crs is None
        assert src.rpcs is not None
        assert src.rpcs.lat_off == pytest.approx(31.3)
        np.testing.assert_allclose(read(src)[0], values, atol=1e-6)


windows = st.tuples(*[st.integers(-60, 120)] * 2, *[st.integers(1, 90)] * 2)


@given(windows)
def test_a_window_may_reach_past_the_raster(tmp_path_factory, window):
    col, row, width, height = window
    path = tmp_path_factory.getbasetemp() / "place.tif"
    scene = np.arange(1, 80 * 70 + 1, dtype="uint16").reshape(80, 70)
    if not path.exists():
        plain(path, scene, nodata=0)
    with open_raster(path) as src:
        got, valid = read(src, Window(col, row, width, height))
    padded = np.zeros((400, 400), "float32")
    padded[150:230, 150:220] = scene
    expected = padded[150 + row : 150 + row + height, 150 + col : 150 + col + width]
    np.testing.assert_array_equal(valid, expected > 0)
    np.testing.assert_array_equal(np.nan_to_num(got[0]), expected)


@pytest.mark.parametrize(
    ("stored", "nodata", "expected"),
    [
        (np.array([[1, 0, 3]], "uint8"), 0, [True, False, True]),
        (np.array([[1, 0, 3]], "uint8"), None, [True, True, True]),
        (np.array([[1, -9999, 3]], "float32"), -9999, [True, False, True]),
        (np.array([[1, np.nan, np.inf]], "float32"), None, [True, False, False]),
        (np.array([[1, np.nan, 3]], "float32"), np.nan, [True, False, True]),
        (np.array([[1, -3.4028234663852886e38, 3]], "float32"), -3.4028234663852886e38, [True, False, True]),
    ],
)
def test_nodata_in_its_forms(tmp_path, stored, nodata, expected):
    with open_raster(plain(tmp_path / "a.tif", stored, nodata=nodata)) as src:
        values, valid = read(src)
    assert valid[0].tolist() == expected
    assert np.isnan(values[0][~valid]).all()


def test_a_pixel_is_good_where_every_band_is(tmp_path):
    bands = np.array([[[1, 0, 3]], [[1, 2, 0]]], "uint8")
    path = plain(tmp_path / "a.tif", bands, nodata=0)
    with open_raster(path) as src:
        assert read(src)[1][0].tolist() == [True, False, False]
        assert read(src, bands=[2])[1][0].tolist() == [True, True, False]


def test_alpha_is_a_mask_and_no_band(tmp_path):
    rgba = np.array([[[9, 9]], [[9, 9]], [[9, 9]], [[255, 0]]], "uint8")
    with open_raster(plain(tmp_path / "a.tif", rgba, photometric="RGB", alpha="YES")) as src:
        values, valid = read(src)
        assert overview(src, 2)[1].tolist() == [[True, False]]
    assert values.shape[0] == 3
    assert valid.tolist() == [[True, False]]


def test_an_internal_mask_is_honoured(tmp_path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        plain(tmp_path / "a.tif", np.ones((1, 2), "uint8"))
        with rasterio.open(tmp_path / "a.tif", "r+") as dst:
            dst.write_mask(np.array([[True, False]]))
    with open_raster(tmp_path / "a.tif") as src:
        assert read(src)[1].tolist() == [[True, False]]


def test_an_overview_keeps_place_means_and_holes(tmp_path, grid, values):
    with open_raster(write(tmp_path / "a.tif", grid, values)) as src:
        small, valid, transform = overview(src, 70)
    assert small.shape == (2, 70, 60)
    assert transform == grid.affine @ rasterio.Affine.scale(10)
    assert not valid[10:15, 20:30].any()
    assert valid.sum() == 70 * 60 - 5 * 10
    expected = values[:, ::10, ::10] + 4.5e-4  # the mean of ten places is the place of their middle
    np.testing.assert_allclose(small[:, valid], expected[:, valid], atol=1.1e-4)


def test_an_overview_of_a_window(tmp_path, grid, values):
    with open_raster(write(tmp_path / "a.tif", grid, values)) as src:
        small, valid, transform = overview(src, 100, Window(100, 200, 400, 300))
    assert small.shape == (2, 75, 100)
    assert transform == grid.affine @ rasterio.Affine.translation(100, 200) @ rasterio.Affine.scale(4)
    np.testing.assert_allclose(small, values[:, 200:500:4, 100:500:4] + 1.5e-4, atol=1.1e-4)
    assert valid.all()


def test_an_overview_of_a_small_raster_is_the_raster(tmp_path, grid, values):
    with open_raster(write(tmp_path / "a.tif", grid, values)) as src:
        small, _, transform = overview(src, 5000, bands=[2], resampling="nearest")
    assert transform == grid.affine
    np.testing.assert_allclose(small[0], values[1], atol=1e-6)


def test_bands_are_found_by_name_in_any_case(tmp_path, grid, values):
    with open_raster(write(tmp_path / "a.tif", grid, values, bands=("Red", "NIR"))) as src:
        assert band_numbers(src, ["nir", "red"]) == [2, 1]
        with pytest.raises(RasterError, match=r"a\.tif has the bands red, nir; expected blue, nir: name its bands"):
            band_numbers(src, ["blue", "nir"])
    with (
        open_raster(plain(tmp_path / "b.tif", np.ones((1, 1), "uint8"))) as src,
        pytest.raises(RasterError, match=r"has the bands \(unnamed\); expected pan"),
    ):
        band_numbers(src, ["pan"])


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.tif").touch()
    (tmp_path / "letter.tif").write_text("Dear colleague, the image is on its way.")
    for name, message in [
        ("missing.tif", r"missing\.tif does not exist; expected a raster"),
        ("empty.tif", r"empty\.tif is empty \(0 bytes\); expected a raster: copy or download it again"),
        ("letter.tif", r"letter\.tif cannot be read as a raster \(.*\); expected a GeoTIFF"),
        (".", r"cannot be read as a raster"),
    ]:
        with pytest.raises(RasterError, match=message), open_raster(tmp_path / name):
            pass


@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_a_truncated_file_is_named_when_its_end_is_read(tmp_path, compress):
    noise = np.random.default_rng(0).integers(1, 255, (400, 400)).astype("uint8")
    path = plain(tmp_path / "cut.tif", noise, compress=compress, tiled=True, blockxsize=64, blockysize=64)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    message = r"cut\.tif (is truncated or damaged|cannot be read as a raster) \(.*; (copy|expected)"
    with pytest.raises(RasterError, match=message), open_raster(path) as src:
        read(src)


def test_nothing_is_left_of_a_raster_that_failed(tmp_path, grid):
    def predict():
        with GeoTiffWriter(tmp_path / "a.tif", grid, ["pan"], REFLECTANCE) as dst:
            dst.write(np.zeros((10, 600)), Window(0, 0, 600, 10))
            raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        predict()
    assert list(tmp_path.iterdir()) == []


def test_a_raster_is_not_replaced_unasked(tmp_path, grid, values):
    path = write(tmp_path / "a.tif", grid, values)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"a\.tif is already there; give --overwrite"):
        write(path, grid, values)
    assert path.read_bytes() == before
    write(path, grid, np.zeros_like(values), overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize("cog", [True, False])
def test_a_full_disk_leaves_one_sentence_and_no_file(tmp_path, cog):
    """Three sizes of disk: too small for the first pixels, for the last ones, and for the overviews."""
    script = textwrap.dedent(f"""
        import resource, sys
        import numpy as np
        from affine import Affine
        from odc.geo.geobox import GeoBox
        from rasterio.windows import Window
        from geo.errors import OutputError
        from geo.geotiff import GeoTiffWriter
        from geo.raster import REFLECTANCE
        noise = np.random.default_rng(0).uniform(0, 1, (1024, 1024)).astype("float32")
        grid = GeoBox(noise.shape, Affine(2, 0, 0, 0, -2, 0), "EPSG:32648")
        for limit in (50_000, 1_950_000, 2_300_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                with GeoTiffWriter("scene.tif", grid, ["pan"], REFLECTANCE, cog={cog}) as dst:
                    for row in range(0, 1024, 256):
                        dst.write(noise[row : row + 256], Window(0, row, 1024, 256))
                print(limit, "written")
            except OutputError as error:
                print(limit, error.exit_code, error)
    """)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    failures = lines if cog else lines[:2]  # without overviews the third disk is large enough
    assert len(lines) == 3
    for line in failures:
        assert " 1 scene.tif could not be written whole: its disk is full or failed" in line
    assert [p.name for p in tmp_path.iterdir()] == ([] if cog else ["scene.tif"])


def test_a_place_that_is_no_folder(tmp_path, grid, values):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "a.tif", grid, values)


@pytest.mark.parametrize(("given", "megabytes"), [(None, 128), ("64", 64)])
def test_gdals_cache_is_capped_unless_the_user_says_otherwise(given, megabytes):
    environment = {k: v for k, v in os.environ.items() if k != "GDAL_CACHEMAX"}
    environment |= {"GDAL_CACHEMAX": given} if given else {}
    code = "import geo.raster; from rasterio._env import get_gdal_config; print(get_gdal_config('GDAL_CACHEMAX'))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == megabytes * 2**20


@pytest.mark.parametrize("compress", ["zstd", "deflate", "none"])
@pytest.mark.parametrize("cog", [True, False])
def test_layout_and_compression_are_what_was_asked_for(tmp_path, grid, values, compress, cog):
    write(tmp_path / "a.tif", grid, values, cog=cog, compress=compress)
    with open_raster(tmp_path / "a.tif") as src:
        found = src.compression.name if src.compression else "none"
        assert found == compress
        assert (src.profile["tiled"], src.block_shapes[0]) == (True, (512, 512))
        assert bool(src.overviews(1)) is cog
        np.testing.assert_allclose(read(src)[0], np.where(np.isnan(values), np.nan, values), atol=0.6e-4)
    assert cog_validate(tmp_path / "a.tif", quiet=True)[0] or not cog


@given(
    hnp.arrays("float32", (2, 3, 4), elements=st.floats(-8, 8, width=32) | st.just(np.float32("nan"))),
    hnp.arrays(bool, (3, 4)),
    st.sampled_from([REFLECTANCE, PROBABILITY, Encoding("int16", nodata=-32768, scale=1e-3), Encoding("uint8", None)]),
)
@settings(deadline=None)
def test_the_compiled_encoding_is_numpy_s(values, valid, encoding):
    """Doubles go through NumPy; the compiled pass must round, clip and mark as it does."""
    good = np.isfinite(values) & valid
    number = np.rint((np.where(good, values, 0) - np.float32(encoding.offset)) / np.float32(encoding.scale))
    low, high = encoding.limits
    expected = np.where(good, np.clip(number, low, high), encoding.nodata or 0).astype(encoding.dtype)
    np.testing.assert_array_equal(encoding.encode(values, valid), expected)
    np.testing.assert_array_equal(encoding.encode(np.where(valid, values, np.nan)), expected)
    back = encoding.decode(encoding.encode(values, valid), valid)
    if encoding.nodata is not None:
        np.testing.assert_array_equal(np.isnan(back[0]), ~good.all(axis=0))


def test_a_truncated_png_is_refused_when_it_is_opened(tmp_path):
    # GDAL would read its lower part as black
    path = tmp_path / "cut.png"
    values = np.random.default_rng(0).integers(0, 255, (3, 64, 64), "uint8")
    with rasterio.open(path, "w", driver="PNG", width=64, height=64, count=3, dtype="uint8") as dst:
        dst.write(values)
    with open_raster(path) as src:
        assert (src.read() == values).all()
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(RasterError, match=r"cut\.png is truncated .*its end is missing"), open_raster(path):
        pass


@pytest.mark.parametrize("cog", [True, False])
@pytest.mark.parametrize(("side", "magic"), [(46_400, b"II+\0"), (700, b"II*\0")])
def test_what_may_not_fit_into_a_tiff_becomes_a_bigtiff_from_the_start(tmp_path, cog, side, magic):
    # compressed it may fit, but nobody knows before the end, when it is too late
    grid = GeoBox((side, side), rasterio.Affine(2, 0, 400000, 0, -2, 3460000), "EPSG:32648")
    with suppress(KeyboardInterrupt), GeoTiffWriter(tmp_path / "a.tif", grid, ["a"], PROBABILITY, cog=cog) as dst:
        dst.write_stored(np.ones((512, 512), "uint8"), Window(0, 0, 512, 512))
        (part,) = (file for file in tmp_path.rglob("*.tif") if file.is_file())
        with open(part, "rb") as file:
            assert file.read(4) == magic
        raise KeyboardInterrupt  # all of it would take minutes


def test_the_cloud_optimized_copy_may_become_a_bigtiff_too(tmp_path, grid, values, monkeypatch):
    asked = {}
    copy = rasterio.shutil.copy
    monkeypatch.setattr(rasterio.shutil, "copy", lambda *a, **options: (asked.update(options), copy(*a, **options)))
    write(tmp_path / "a.tif", grid, values)
    assert (asked["driver"], asked["bigtiff"]) == ("COG", "IF_SAFER")
