"""Whole-scene prediction with models whose answer is known: nothing is added, lost, shifted or seen."""

import os
import subprocess
import sys
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import scipy.ndimage
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.env import get_gdal_config, set_gdal_config
from rio_cogeo.cogeo import cog_validate

from geo.errors import GridError, ModelError, OutputExistsError, RasterError
from geo.masks import Quality
from models.predict import Windows, blending, predict
from models.predict.grid import mirrored as _mirrored
from models.predict.grid import weight_sums

PLACE = Affine(2, 0, 357_240, 0, -2, 3_464_000)


@dataclass
class Fake:
    """A model that computes a known function of its bands; by default the first band itself."""

    bands: tuple = ("red", "nir")
    chip_size: int = 64
    reach: int = 8
    stride: int = 16
    mean: tuple = (0.5, 0.5)
    std: tuple = (0.3, 0.3)
    function: object = lambda values: values[:, 0]
    calls: list = field(default_factory=list, repr=False)

    def probability(self, images):
        self.calls.append(images.shape)
        return np.nan_to_num(self.function(images), nan=0.5).astype(np.float32)


def mean_filter(images):
    """5 x 5 mean with zeros past the window, as convolutions have them."""
    return np.stack([scipy.ndimage.uniform_filter(x[0], 5, mode="constant") for x in images])


def ramp(shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return ((rows * 3 + columns * 2) / (3 * shape[0] + 2 * shape[1])).astype(np.float32)


def write(path, red, *, invalid=None, transform=PLACE, crs="EPSG:32648", names=("nir", "red"), tags=None):
    """Two float bands with NaN as nodata; nir is red turned around."""
    stack = np.stack([1 - red, red]).astype(np.float32)
    if invalid is not None:
        stack[:, invalid] = np.nan
    height, width = red.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=2, height=height, width=width, dtype="float32", nodata=np.nan, crs=crs,
        transform=transform, tiled=True, blockxsize=64, blockysize=64,
    ) as dst:  # fmt: skip
        dst.write(stack)
        if names:
            dst.descriptions = names
        dst.update_tags(**tags or {})
    return path


def run(path, model, output, **options):
    settings = {"overlap": 16, "batch": 3, "dtype": "float32", **options}
    found = predict(path, model, output, **settings)
    with rasterio.open(output) as dst:
        return dst.read(1), found


@pytest.mark.parametrize("shape", [(150, 211), (64, 64), (17, 17), (17, 300), (1, 1), (65, 49)])
@pytest.mark.parametrize("overlap", [0, 16, 32, 40])
def test_a_ramp_is_reproduced_without_seams_at_any_size(tmp_path, shape, overlap):
    truth = ramp(shape)
    found, _ = run(write(tmp_path / "a.tif", truth), Fake(), tmp_path / "p.tif", overlap=overlap)
    np.testing.assert_allclose(found, truth, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("lag", [0, 1, 15, 16, 17, 31])
def test_a_ramp_is_reproduced_wherever_the_first_window_begins(tmp_path, lag, dtype):
    truth = ramp((70, 41))
    path = write(tmp_path / "a.tif", truth, transform=Affine(2, 0, 640 + 2 * lag, 0, -2, 640 - 2 * lag))
    found, _ = run(path, Fake(), tmp_path / "p.tif", overlap=32, block_rows=32, dtype=dtype)
    np.testing.assert_allclose(
        found * (0.004 if dtype == "uint8" else 1), truth, atol=0.0021 if dtype == "uint8" else 1e-6
    )


def test_a_constant_stays_what_it_is(tmp_path):
    model = Fake(function=lambda x: np.full((len(x), *x.shape[2:]), 0.3, np.float32))
    found, told = run(write(tmp_path / "a.tif", ramp((150, 211))), model, tmp_path / "p.tif")
    np.testing.assert_allclose(found, 0.3, atol=1e-6, rtol=0)
    assert told["mean_probability"] == pytest.approx(0.3, abs=1e-6)
    assert {shape[1:] for shape in model.calls} == {(2, 64, 64)}
    assert max(shape[0] for shape in model.calls) == 3


def test_gdal_holds_few_blocks_while_windows_are_computed_and_many_again_afterwards(tmp_path):
    limits = []

    def looking(values):
        limits.append(get_gdal_config("GDAL_CACHEMAX"))
        return values[:, 0]

    before = get_gdal_config("GDAL_CACHEMAX")
    set_gdal_config("GDAL_CACHEMAX", 100 * 2**20)
    try:
        run(write(tmp_path / "a.tif", ramp((150, 211))), Fake(function=looking), tmp_path / "p.tif")
        assert set(limits) == {16 * 2**20}
        assert get_gdal_config("GDAL_CACHEMAX") == 100 * 2**20
    finally:
        set_gdal_config("GDAL_CACHEMAX", before)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_output_lies_on_exactly_the_grid_of_the_input(tmp_path, dtype):
    path = write(tmp_path / "a.tif", ramp((150, 211)), tags={"GEOCRACK_SCENE": "s1", "OTHER": "x"})
    run(path, Fake(), tmp_path / "p.tif", dtype=dtype, tags={"GEOCRACK_MODEL": "abc"})
    with rasterio.open(path) as src, rasterio.open(tmp_path / "p.tif") as dst:
        assert (dst.crs, dst.transform, dst.shape, dst.count) == (src.crs, src.transform, src.shape, 1)
        assert dst.descriptions == ("probability",)
        assert {k: v for k, v in dst.tags().items() if k.startswith(("GEOCRACK", "OTHER"))} == {
            "GEOCRACK_SCENE": "s1",
            "GEOCRACK_MODEL": "abc",
        }
        assert dst.dtypes[0] == dtype
        if dtype == "uint8":
            assert (dst.scales[0], dst.nodata) == (0.004, 255)
            np.testing.assert_allclose(dst.read(1) * 0.004, ramp((150, 211)), atol=0.0021)
    assert cog_validate(tmp_path / "p.tif")[0]


@pytest.mark.parametrize("turn", [13.4, 90])
def test_turned_grids_stay_turned(tmp_path, turn):
    transform = PLACE @ Affine.rotation(turn) @ Affine.scale(1, 0.5)
    truth = ramp((70, 90))
    found, _ = run(write(tmp_path / "a.tif", truth, transform=transform), Fake(), tmp_path / "p.tif")
    np.testing.assert_allclose(found, truth, atol=1e-6)
    with rasterio.open(tmp_path / "p.tif") as dst:
        assert dst.transform.almost_equals(transform, precision=1e-9)


def test_an_image_that_lies_nowhere_is_mapped_too(tmp_path):
    found, told = run(write(tmp_path / "a.tif", ramp((70, 90)), crs=None, transform=None), Fake(), tmp_path / "p.tif")
    np.testing.assert_allclose(found, ramp((70, 90)), atol=1e-6)
    assert told["searched_km2"] is None


def sees_all(images):
    """Depend on the whole window, as global pooling does: where windows lie decides everything."""
    return 0.5 * images[:, 0] + 0.5 * np.nanmean(images[:, 0], axis=(1, 2), keepdims=True)


TURNED = PLACE @ Affine.rotation(13.4) @ Affine.scale(1, 0.5)
#: Origins at halves and thirds of a pixel, where a last digit could decide.
HALF = Affine(0.8, 0, 357_240.4, 0, -0.8, 3_464_000.4)
DEGREES = Affine(1 / 54_000, 0, 103.5 + 1 / 162_000, 0, -1 / 54_000, 31.3)


@pytest.mark.parametrize(
    ("place", "offset", "function"),
    [
        (PLACE, (48, 48), mean_filter),
        (PLACE, (7, 7), sees_all),
        (PLACE, (60, 33), sees_all),
        (TURNED, (7, 13), sees_all),
        (HALF, (1, 0), sees_all),
        (HALF, (16, 47), mean_filter),
        (DEGREES, (5, 40), sees_all),
    ],
)
def test_the_result_does_not_depend_on_the_crop(tmp_path, caplog, place, offset, function):
    """Any crop has the windows of the whole; only those that reach past its edge see other neighbours."""
    red = np.random.default_rng(0).random((230, 250)).astype(np.float32)
    (row, column), model = offset, Fake(function=function)
    crs = "EPSG:4326" if place is DEGREES else "EPSG:32648"
    whole, told = run(write(tmp_path / "a.tif", red, transform=place, crs=crs), model, tmp_path / "p.tif")
    assert ("EPSG:4326, whose units are not metres; expected a projected CRS" in caplog.text) == (place is DEGREES)
    pixel_m2 = abs(place.determinant)
    assert told["searched_km2"] == (None if place is DEGREES else pytest.approx(whole.size * pixel_m2 / 1e6))
    crop = np.s_[row:-13, column:-29]
    moved = place @ Affine.translation(column, row)
    part, _ = run(write(tmp_path / "b.tif", red[crop], transform=moved, crs=crs), model, tmp_path / "q.tif")
    inside = np.s_[64:-64, 64:-64]
    assert part[inside].size > 30 * 30
    np.testing.assert_array_equal(part[inside], whole[crop][inside])


def test_an_image_without_crs_begins_with_its_first_window():
    windows = Windows.of(Fake(), overlap=16)
    assert windows.over(GeoBox((90, 90), PLACE, None)) == windows
    laid = windows.over(GeoBox((90, 90), PLACE, "EPSG:32648"))
    assert laid.lag == (-3_464_000 // 2 % 48, 357_240 // 2 % 48)
    assert all((3_464_000 // -2 + row) % 48 == 0 for row in laid.rows(90))


@pytest.mark.parametrize(
    ("function", "apart"),
    [(lambda x: x[:, 0], 0.0), (lambda x: np.full((len(x), *x.shape[2:]), 0.3, np.float32), 0.0), (sees_all, 0.03)],
)
def test_how_far_windows_differ_is_told(tmp_path, function, apart):
    path = write(tmp_path / "a.tif", ramp((200, 230)))
    _, told = run(path, Fake(function=function), tmp_path / "p.tif", overlap=32)
    assert told["window_difference"] == pytest.approx(apart, abs=0.02 if apart else 3e-4)
    _, told = run(path, Fake(function=function), tmp_path / "q.tif", overlap=0)
    assert told["window_difference"] is None


def test_the_difference_of_two_windows_is_that_of_their_means(tmp_path):
    """By hand: a model that answers 0 in one window and 1 in the next, which share a third of their columns."""
    answers = iter([0.0, 1.0])

    def function(images):
        return np.stack([np.full(images.shape[2:], next(answers), np.float32) for _ in images])

    path = write(tmp_path / "a.tif", ramp((64, 112)), crs=None, transform=None)
    model = Fake(function=function, reach=8)
    found, told = run(path, model, tmp_path / "p.tif", overlap=16, batch=1)
    p = found[0, 48:64].astype(float)
    assert 0 < p.min() < 0.01
    assert p.max() > 0.99
    assert told["window_difference"] == pytest.approx(np.sqrt(np.mean(p * (1 - p))), abs=1e-4)


def test_by_default_a_pixel_has_the_reach_of_the_model_around_it_in_one_window():
    def of(**model):
        return Windows.of(Fake(**model))

    assert of(chip_size=256, reach=64, stride=32) == Windows(512, 384, 64)  # the networks of most recipes
    assert of(chip_size=256, reach=128, stride=64) == Windows(1024, 768, 128)
    assert of(chip_size=192, reach=64, stride=32) == Windows(512, 384, 64)
    assert of(chip_size=768, reach=64, stride=32) == Windows(768, 640, 64)
    assert of(chip_size=64, reach=0, stride=1) == Windows(512, 512, 0)
    pooling = Fake(chip_size=192, reach=64, stride=32)
    pooling.global_context = True
    assert Windows.of(pooling) == Windows(192, 128, 32)
    pooling.chip_size = 96
    assert Windows.of(pooling) == Windows(96, 32, 32)  # half of it at most
    assert Windows.of(Fake(chip_size=64, reach=64, stride=32), window=96) == Windows(96, 32, 32)


@pytest.mark.parametrize(("window", "together"), [(64, 8), (96, 3), (128, 2), (192, 1), (1024, 1)])
def test_of_larger_windows_fewer_go_through_the_model_at_once(tmp_path, window, together):
    seen = []

    def function(images):
        seen.append(images.shape)
        return images[:, 0]

    path = write(tmp_path / "a.tif", ramp((400, 400)))
    run(path, Fake(chip_size=64, function=function), tmp_path / "p.tif", overlap=32, window=window, batch=8)
    assert {shape[-1] for shape in seen} == {window}
    assert max(shape[0] for shape in seen) == together


@pytest.mark.parametrize("piece", [8, 24, 64, 200])
@pytest.mark.parametrize(("overlap", "lag", "hole"), [(0, 0, 70), (16, 5, 0), (40, 31, 130), (48, 16, 70)])
def test_finished_columns_may_be_put_by_at_any_place(tmp_path, monkeypatch, piece, overlap, lag, hole):
    """Few columns at a time, where windows in between hold nothing, give the bits of all at once."""
    red = np.random.default_rng(0).random((150, 333)).astype(np.float32)
    invalid = np.zeros(red.shape, bool)
    invalid[:, 90 : 90 + hole] = True
    invalid[100:130, 200:] = True
    path = write(tmp_path / "a.tif", red, invalid=invalid, transform=PLACE @ Affine.translation(-lag, -lag))
    settings = {"overlap": overlap, "batch": 2, "dtype": "float32", "augment": "d4", "spread": tmp_path / "s.tif"}
    found = []
    for columns in (piece, 4096):
        monkeypatch.setattr(blending, "_PIECE", columns)
        mapped, told = run(path, Fake(function=mean_filter), tmp_path / "p.tif", overwrite=True, **settings)
        with rasterio.open(tmp_path / "s.tif") as src:
            found.append((mapped, src.read(1), told))
    (mapped, spread, told), (whole, whole_spread, whole_told) = found
    np.testing.assert_array_equal(mapped, whole)
    np.testing.assert_array_equal(spread, whole_spread)
    apart, whole_apart = (t.pop("window_difference") for t in (told, whole_told))
    assert apart == (pytest.approx(whole_apart, rel=1e-6) if overlap else None)
    assert told == pytest.approx(whole_told, rel=1e-9)


def test_neighbours_past_the_edge_are_mirrored(tmp_path):
    """A 5 x 5 mean near the edge is that of the mirrored image, where windows reach past it far enough."""
    red = np.random.default_rng(1).random((100, 120)).astype(np.float32)
    model = Fake(function=mean_filter)
    nowhere = {"crs": None, "transform": None}  # there the first window begins with the image
    found, _ = run(write(tmp_path / "a.tif", red, **nowhere), model, tmp_path / "p.tif", overlap=32)
    expected = scipy.ndimage.uniform_filter(red, 5, mode="mirror")
    np.testing.assert_allclose(found[:60, :60], expected[:60, :60], atol=0.02)
    np.testing.assert_allclose(found[0, 20:40], expected[0, 20:40], atol=1e-6)
    np.testing.assert_allclose(found[-1, 20:40], expected[-1, 20:40], atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 17, 64])
def test_mirrored_places_are_those_of_numpy(length):
    places = np.pad(np.arange(length), (100, 120), mode="reflect" if length > 1 else "edge")
    np.testing.assert_array_equal(_mirrored(-100, length + 220, length), places)


@pytest.mark.parametrize("chip_size", [64, 100, 473])
@pytest.mark.parametrize("overlap", [0, 7, 16, 33])
@pytest.mark.parametrize("length", [1, 40, 64, 65, 500])
def test_windows_lie_at_multiples_of_the_stride_and_cover_the_axis(chip_size, overlap, length):
    windows = Windows.of(Fake(chip_size=chip_size), overlap=overlap)
    starts = windows.rows(length)
    assert windows.size >= chip_size
    assert all(value % 16 == 0 for value in (windows.size, windows.step, *starts))
    assert windows.overlap >= overlap
    assert starts[0] <= 0
    assert starts[-1] < length <= starts[-1] + windows.size
    assert (weight_sums(starts, length, np.ones(windows.size)) >= 1).all()


def test_windows_that_do_not_fit_the_model_are_refused():
    with pytest.raises(ModelError, match="overlap of 60 pixels leaves no step between windows of 64; give 48 or less"):
        Windows.of(Fake(), overlap=60, window=64)
    with pytest.raises(ModelError, match="windows of 32 pixels are smaller than the chips of 64"):
        Windows.of(Fake(), overlap=0, window=32)
    assert Windows.of(Fake(), overlap=60) == Windows(128, 64, 32), "small chips do not forbid a large overlap"
    assert Windows.of(Fake(), overlap=16, window=100) == Windows(112, 96, 0)
    assert Windows.of(Fake(reach=0, stride=1), overlap=64) == Windows(512, 512, 0)


def test_models_of_single_pixels_see_each_pixel_once(tmp_path):
    model = Fake(reach=0, stride=1)
    truth = ramp((530, 40))
    found, _ = run(write(tmp_path / "a.tif", truth), model, tmp_path / "p.tif", window=256)
    np.testing.assert_allclose(found, truth, atol=1e-6)
    assert sum(shape[0] for shape in model.calls) == 3


def test_what_is_not_valid_or_not_seen_is_nodata_and_changes_nothing_around(tmp_path):
    truth = ramp((150, 211))
    invalid = np.zeros(truth.shape, bool)
    invalid[40:90, 100:160] = True
    path = write(tmp_path / "a.tif", truth, invalid=invalid)
    flags = np.zeros(truth.shape, np.uint8)
    flags[:20], flags[20:30], flags[30:35] = Quality.CLOUD, Quality.SATURATED, Quality.SHADOW
    with rasterio.open(
        tmp_path / "a.quality.tif", "w", driver="GTiff", count=1, height=150, width=211, dtype="uint8",
        crs="EPSG:32648", transform=PLACE,
    ) as dst:  # fmt: skip
        dst.write(flags, 1)
    found, told = run(path, Fake(), tmp_path / "p.tif")
    hidden = invalid.copy()
    hidden[:20] = hidden[30:35] = True
    np.testing.assert_array_equal(np.isnan(found), hidden)
    np.testing.assert_allclose(found[~hidden], truth[~hidden], atol=1e-6)
    assert told["valid_share"] == pytest.approx((~hidden).mean())


def test_windows_without_valid_pixels_are_passed_over(tmp_path):
    truth = ramp((300, 300))
    invalid = np.ones(truth.shape, bool)
    invalid[130:150, 140:160] = False
    model = Fake()
    found, told = run(write(tmp_path / "a.tif", truth, invalid=invalid), model, tmp_path / "p.tif")
    assert told["windows"] == sum(shape[0] for shape in model.calls) <= 4
    assert told["windows_skipped"] > 25
    np.testing.assert_array_equal(np.isnan(found), invalid)
    np.testing.assert_allclose(found[~invalid], truth[~invalid], atol=1e-6)


def area(path, *boxes, crs="EPSG:4326"):
    shapes = [shapely.transform(shapely.box(*b), lambda p: np.column_stack(PLACE @ (p[:, 0], p[:, 1]))) for b in boxes]
    gpd.GeoDataFrame(geometry=shapes, crs="EPSG:32648").to_crs(crs).to_file(path)
    return path


def test_only_the_area_is_searched(tmp_path):
    truth = ramp((300, 300))
    polygons = area(tmp_path / "area.gpkg", (10.2, 20.1, 60.4, 50.3), (200.1, 210.4, 250.2, 290.3))
    model = Fake()
    found, told = run(write(tmp_path / "a.tif", truth), model, tmp_path / "p.tif", area=polygons)
    inside = np.zeros(truth.shape, bool)
    inside[20:50, 10:60] = inside[210:290, 200:250] = True
    np.testing.assert_array_equal(np.isfinite(found), inside)
    np.testing.assert_allclose(found[inside], truth[inside], atol=1e-6)
    assert told["windows_skipped"] > 20
    assert sum(shape[0] for shape in model.calls) < 20


def test_an_area_elsewhere_or_without_valid_pixels_leaves_no_output(tmp_path):
    truth = ramp((100, 100))
    invalid = np.zeros(truth.shape, bool)
    invalid[:50] = True
    path = write(tmp_path / "a.tif", truth, invalid=invalid)
    with pytest.raises(GridError, match="lies outside the image"):
        run(path, Fake(), tmp_path / "p.tif", area=area(tmp_path / "far.gpkg", (5000, 0, 5010, 9)))
    with pytest.raises(RasterError, match=r"has no valid pixel inside .*empty\.gpkg"):
        run(path, Fake(), tmp_path / "p.tif", area=area(tmp_path / "empty.gpkg", (0, 0, 90, 40)))
    with pytest.raises(RasterError, match="has no valid pixel: all is nodata, cloud or shadow"):
        run(write(tmp_path / "b.tif", truth, invalid=truth >= 0), Fake(), tmp_path / "p.tif")
    assert not list(tmp_path.glob("*p.tif*"))


def test_bands_are_found_by_name_and_others_are_told(tmp_path):
    truth = ramp((70, 90))
    path = write(tmp_path / "a.tif", truth, names=None)
    found, _ = run(path, Fake(), tmp_path / "p.tif", bands=("NIR", "Red"))
    np.testing.assert_allclose(found, truth, atol=1e-6)
    with pytest.raises(ModelError, match=r"trained on the bands red, swir, .*a\.tif has nir, red; name .* --bands"):
        run(path, Fake(bands=("red", "swir")), tmp_path / "q.tif", bands=("nir", "red"))
    with pytest.raises(RasterError, match="give --bands"):
        run(path, Fake(), tmp_path / "q.tif")


def test_reflectance_before_a_model_of_bytes_is_told(tmp_path, caplog):
    """All of 0 to 1 lies within two deviations of the mean of bytes: the spread tells that units differ."""
    random = np.random.default_rng(0)
    path = write(tmp_path / "a.tif", np.clip(random.normal(0.1, 0.03, (70, 90)), 0, 1).astype(np.float32))
    run(path, Fake(mean=(78, 80), std=(44, 45), function=lambda x: x[:, 0]), tmp_path / "p.tif")
    assert "on average red 0.09" in caplog.text
    assert "(training 78 +- 44)" in caplog.text
    caplog.clear()
    calm = write(tmp_path / "b.tif", np.full((70, 90), 0.45, np.float32))  # one colour, but of the training's
    run(calm, Fake(), tmp_path / "q.tif")
    assert "other values" not in caplog.text


@pytest.mark.parametrize("asked", [{"overlap": 5000}, {"window": 20_000}])
def test_windows_far_beyond_the_image_are_refused(tmp_path, asked):
    path = write(tmp_path / "a.tif", ramp((70, 90)))
    with pytest.raises(ModelError, match=r"lie mostly beyond .*a\.tif, which has 90 x 70 pixels.*; give \d+ or less"):
        run(path, Fake(), tmp_path / "p.tif", **asked)
    assert not list(tmp_path.glob("*p.tif*"))


def test_values_of_another_unit_are_told(tmp_path, caplog):
    path = write(tmp_path / "a.tif", np.full((70, 90), 500, np.float32))
    run(path, Fake(function=lambda x: x[:, 0] / 1e4), tmp_path / "p.tif")
    assert "other values than the model was trained on, on average red 500 (training 0.5 +- 0.3), nir" in caplog.text
    caplog.clear()
    lopsided = ramp((330, 330)) * 1000  # ground in four windows counts no more than ground in one
    run(write(tmp_path / "b.tif", lopsided), Fake(), tmp_path / "q.tif", overlap=32)
    assert float(caplog.text.split("on average red ")[1].split()[0]) == pytest.approx(500, abs=15)
    caplog.clear()
    run(write(tmp_path / "c.tif", ramp((70, 90))), Fake(), tmp_path / "r.tif")
    assert not caplog.records


def test_a_model_that_gives_no_number_is_told(tmp_path):
    class Broken(Fake):
        def probability(self, images):
            return np.full((len(images), 64, 64), np.nan, np.float32)

    with pytest.raises(ModelError, match="gives no number"):
        run(write(tmp_path / "a.tif", ramp((70, 90))), Broken(), tmp_path / "p.tif")
    assert not (tmp_path / "p.tif").exists()


def test_a_truncated_image_leaves_no_output(tmp_path):
    whole = write(tmp_path / "whole.tif", np.random.default_rng(0).random((300, 300)))
    path = tmp_path / "a.tif"
    rasterio.shutil.copy(whole, path, driver="COG", overviews="NONE")  # its directory comes first
    path.write_bytes(path.read_bytes()[:300_000])
    whole.unlink()
    with pytest.raises(RasterError, match=r"a\.tif is truncated or damaged"):
        run(path, Fake(), tmp_path / "p.tif")
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif"}


def test_an_output_that_is_there_stays(tmp_path):
    path = write(tmp_path / "a.tif", ramp((70, 90)))
    (tmp_path / "p.tif").write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run(path, Fake(), tmp_path / "p.tif")
    assert (tmp_path / "p.tif").read_text() == "mine"
    run(path, Fake(), tmp_path / "p.tif", overwrite=True)


TALL = """
import sys
sys.path.insert(0, sys.argv[3])
from test_predict import Fake
from models.predict import predict
predict(sys.argv[1], Fake(chip_size=256, stride=32), sys.argv[2], overlap=64, batch=4)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_with_the_scene(tmp_path):
    """Four times as tall, and as many pixels wide: a layer of the scene in float32 is 60 MB more."""
    peaks = []
    for height, width in ((5_000, 1024), (20_000, 1024), (5_000, 4096)):
        path = tmp_path / f"{height}_{width}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=2, height=height, width=width, dtype="uint16", nodata=0, crs="EPSG:32648",
            transform=PLACE, tiled=True, compress="zstd",
        ) as dst:  # fmt: skip
            dst.descriptions = ("red", "nir")
            dst.scales = (1e-4, 1e-4)
            row = np.random.default_rng(0).integers(1, 9999, (2, 500, width)).astype(np.uint16)
            for top in range(0, height, 500):
                dst.write(row, window=rasterio.windows.Window(0, top, width, 500))
        command = [sys.executable, "-c", TALL, str(path), str(tmp_path / "p.tif"), os.path.dirname(__file__)]
        # GDAL's cache is capped in bytes; a small one is full in both
        environment = {**os.environ, "GDAL_CACHEMAX": "8", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
        peaks.append(int(done.stdout.split()[-1]))
        (tmp_path / "p.tif").unlink()
        path.unlink()
    assert max(peaks[1:]) < 1.05 * peaks[0], peaks
