"""Chips come back as they were written, from one folder or several, and their statistics are those of all pixels."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox

from geo.errors import LabelError, RasterError
from geo.raster import REFLECTANCE, Encoding
from models.chip_writer import ChipsWriter, NewChip
from models.chips import BandStatistics, open_chips, read_chip

BANDS = ("blue", "green", "red", "nir")
UTM = "EPSG:32648"


def chip(name, split="train", *, seed=0, size=32, bands=4, at=(0, 0), invalid=None, unseen=None, encoding=REFLECTANCE):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 5000, (bands, size, size)).astype(np.float32) * np.float32(1e-4)
    if encoding.dtype == "uint8":
        values = rng.integers(0, 256, (bands, size, size)).astype(np.float32)
    good = np.ones((size, size), bool)
    if invalid is not None:
        good[invalid] = False
        values[:, ~good] = np.nan
    if unseen is not None:
        good[unseen] = False
    label = np.zeros((size, size), np.uint8)
    label[4:10, 4:10] = 1
    affine = Affine(2, 0, 357_240 + 2 * size * at[1], 0, -2, 3_464_000 - 2 * size * at[0])
    return NewChip(name, split, "scene", values, label, good, GeoBox((size, size), affine, UTM), encoding)


def make(folder, chips, *, bands=BANDS, crs=UTM, **facts):
    folder.mkdir()
    writer = ChipsWriter(folder, bands, crs)
    writer.write(chips)
    return writer.finish(**facts)


def test_a_chip_comes_back_with_its_values_label_and_what_is_valid(tmp_path):
    invalid = np.s_[:3, :5]
    unseen = np.s_[20:, :]
    new = chip("a", invalid=invalid, unseen=unseen)
    make(tmp_path / "chips", [new])
    chips = open_chips([tmp_path / "chips"])
    assert (chips.bands, chips.size) == (BANDS, 32)
    (record,) = chips.records
    assert (record.id, record.split, record.source) == ("a", "train", "scene")
    assert record.valid_share == pytest.approx((32 * 32 - 15 - 12 * 32) / 1024, abs=1e-6)
    assert record.landslide_share == pytest.approx(36 / (1024 - 15 - 12 * 32), abs=1e-6)
    image, label, valid = read_chip(record)
    np.testing.assert_allclose(image, new.values, atol=5.1e-5)  # half a step of the encoding
    assert image.dtype == np.float32
    expected = new.label.copy()
    expected[invalid] = expected[unseen] = 255
    np.testing.assert_array_equal(label, expected)
    assert not valid[invalid].any()
    assert valid.sum() == 1024 - 15, "what was not seen keeps its values"
    with rasterio.open(record.image) as src, rasterio.open(record.label) as labels:
        assert src.crs == labels.crs == rasterio.crs.CRS.from_string(UTM)
        assert src.transform == labels.transform == new.geobox.affine
        assert (src.dtypes[0], src.nodata, src.scales[0], src.descriptions) == ("uint16", 0, 1e-4, BANDS)
        assert labels.nodata == 255


def test_bytes_stay_bytes_and_get_a_nodata_value_only_where_they_need_one(tmp_path):
    plain = Encoding("uint8", nodata=None)
    whole, holed = chip("a", bands=3, encoding=plain), chip("b", bands=3, encoding=plain, invalid=np.s_[:9, :9], seed=1)
    make(tmp_path / "chips", [whole, holed], bands=BANDS[:3])
    first, second = open_chips([tmp_path / "chips"]).records
    image, _, valid = read_chip(first)
    assert valid.all()
    np.testing.assert_array_equal(image, whole.values)
    image, _, valid = read_chip(second)
    np.testing.assert_array_equal(valid, holed.good)
    np.testing.assert_array_equal(image[:, valid], np.maximum(holed.values[:, valid], 1))  # 0 means nodata there


@settings(max_examples=50, deadline=None)
@given(
    pixels=arrays(np.float64, (2, 60), elements=st.floats(-1e3, 1e3)),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_statistics_in_pieces_are_those_of_the_whole(pixels, cuts):
    gathered = BandStatistics()
    for part in np.split(pixels, sorted(cuts), axis=1):
        gathered.add(part[:, None, :], np.ones((1, part.shape[1]), bool))
    assert gathered.count == 60
    np.testing.assert_allclose(gathered.mean, pixels.mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(gathered.std, pixels.std(axis=1), atol=1e-7)


def test_statistics_hold_far_from_zero():
    """A sum of squares would lose all digits here."""
    values = 1e8 + np.random.default_rng(0).normal(0, 1, (1, 100, 100))
    gathered = BandStatistics()
    for row in values[0]:
        gathered.add(row[None, None], np.ones((1, 100), bool))
    np.testing.assert_allclose(gathered.std, values.std(), rtol=1e-6)


def test_statistics_and_counts_are_of_good_training_pixels_only(tmp_path):
    train = [chip("a", seed=1, invalid=np.s_[:3]), chip("b", seed=2, unseen=np.s_[:, 20:])]
    other = [chip("c", "val", seed=3), chip("d", "test", seed=4)]
    content = make(tmp_path / "chips", [*train, *other], resolution_m=2.0)
    pixels = np.concatenate([c.values[:, c.good] for c in train], axis=1).astype(np.float64)
    found = content["statistics"]
    np.testing.assert_allclose(found["mean"], pixels.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found["std"], pixels.std(axis=1), rtol=1e-9)
    assert found["pixels"] == pixels.shape[1]
    np.testing.assert_allclose(found["quantiles"]["0.5"], np.median(pixels, axis=1), rtol=0.05)
    assert content["counts"]["train"] == {
        "chips": 2,
        "with_landslide": 2,
        "valid_pixels": pixels.shape[1],
        "landslide_pixels": 72,
        "background_pixels": pixels.shape[1] - 72,
    }
    assert content["counts"]["test"]["chips"] == 1
    assert json.loads((tmp_path / "chips" / "chips.json").read_text()) == content
    assert content["resolution_m"] == 2.0


def test_folders_are_joined_by_band_names_with_pooled_statistics(tmp_path):
    one, two = [chip("a", seed=1)], [chip("a", seed=2, size=48), chip("b", seed=3, size=48, at=(0, 9))]
    make(tmp_path / "one", one)
    turned = [NewChip(**{**vars(c), "values": c.values[::-1]}) for c in two]
    make(tmp_path / "two", turned, bands=BANDS[::-1])
    chips = open_chips([tmp_path / "one", tmp_path / "two"])
    assert (chips.bands, chips.size) == (BANDS, None)
    assert [r.id for r in chips.records] == ["0/a", "1/a", "1/b"]
    for record, new in zip(chips.records, [*one, *two], strict=True):
        np.testing.assert_allclose(read_chip(record)[0], new.values, atol=5.1e-5)
    pixels = np.concatenate([c.values.reshape(4, -1) for c in [*one, *two]], axis=1).astype(np.float64)
    np.testing.assert_allclose(chips.statistics.mean, pixels.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(chips.statistics.std, pixels.std(axis=1), rtol=1e-9)
    assert len(chips.split("train")) == 3


def test_folders_of_other_bands_are_not_joined(tmp_path):
    make(tmp_path / "one", [chip("a")])
    make(tmp_path / "two", [chip("a", bands=3)], bands=BANDS[:3])
    with pytest.raises(LabelError, match=r"two has chips of the bands blue, green, red, .*one of blue, .*, nir"):
        open_chips([tmp_path / "one", tmp_path / "two"])


def test_ground_that_trains_here_and_tests_there_is_told(tmp_path, caplog):
    make(tmp_path / "one", [chip("a", "train"), chip("b", "train", at=(0, 1))])
    make(tmp_path / "two", [chip("a", "train"), chip("b", "test", at=(0, 2))])
    make(tmp_path / "three", [chip("a", "test")])
    open_chips([tmp_path / "one", tmp_path / "two"])
    assert not caplog.records, "chips that only touch share no ground"
    open_chips([tmp_path / "one", tmp_path / "two", tmp_path / "three"])
    assert caplog.text.count("lie on the same ground") == 2


def test_the_same_chips_make_the_same_files(tmp_path):
    for name in ("one", "two"):
        make(tmp_path / name, [chip("a"), chip("b", seed=1)])
    for path in (p for p in (tmp_path / "one").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path
    index = (tmp_path / "one" / "index.gpkg").read_bytes()
    assert int.from_bytes(index[60:64], "big") == 10300  # GeoPackage 1.3, which QGIS 3.22 reads without a warning


@pytest.mark.parametrize("spoil", ["nothing", "no json", "torn json", "foreign json", "no index", "torn index"])
def test_a_folder_that_holds_no_chips_is_told(tmp_path, spoil):
    folder = tmp_path / "chips"
    if spoil != "nothing":
        make(folder, [chip("a")])
    if spoil in ("no json", "no index"):
        (folder / ("chips.json" if spoil == "no json" else "index.gpkg")).unlink()
    elif spoil == "torn json":
        (folder / "chips.json").write_text('{"bands": ["red"')
    elif spoil == "foreign json":
        (folder / "chips.json").write_text("[1, 2]")
    elif spoil == "torn index":
        (folder / "index.gpkg").write_bytes(b"")
    with pytest.raises(LabelError, match="geocrack"):
        open_chips([folder])


def test_damaged_chips_are_told_by_name(tmp_path):
    make(tmp_path / "chips", [chip("a"), chip("b"), chip("c")])
    a, b, c = open_chips([tmp_path / "chips"]).records
    a.image.unlink()
    b.label.write_bytes(b"")
    make(tmp_path / "small", [chip("a", size=16)])
    c.label.write_bytes((tmp_path / "small" / "labels" / "a.tif").read_bytes())
    with pytest.raises(RasterError, match=r"images/a\.tif does not exist"):
        read_chip(a)
    with pytest.raises(RasterError, match=r"labels/b\.tif is empty"):
        read_chip(b)
    with pytest.raises(RasterError, match=r"labels/c\.tif has 16 x 16 pixels, its image 32 x 32"):
        read_chip(c)


def test_a_folder_without_chips_is_told_in_words(tmp_path):
    with pytest.raises(LabelError, match=r"is no folder of chips \(there is no chips\.json\); expected"):
        open_chips([tmp_path])
    (tmp_path / "chips.json").write_text("[" * 200_000)
    with pytest.raises(LabelError, match=r"is no folder of chips \(maximum recursion depth exceeded"):
        open_chips([tmp_path])
