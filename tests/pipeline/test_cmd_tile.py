"""``geocrack tile``: chips lie where they say, keep what the image has, and no ground is in two splits."""

import itertools
import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from affine import Affine
from click.testing import CliRunner
from rasterio.features import rasterize
from rasterio.windows import from_bounds

from geo.errors import GridError, LabelError, OutputExistsError, RasterError
from geo.masks import Quality
from models.chips import open_chips, read_chip
from pipeline.cli import geocrack

UTM = "EPSG:32648"
PLACE = Affine(2, 0, 357_240, 0, -2, 3_464_000)
BANDS = ("blue", "green", "red", "nir")
SMALL = ("--size", 64, "--gap-m", 16, "--block-chips", 1)


def run(*arguments):
    result = CliRunner().invoke(geocrack, [str(a) for a in ("tile", *arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def write(path, stored, *, names=BANDS, scale=1.0, offset=0.0, tags=None, transform=PLACE, crs=UTM, **profile):
    count, height, width = stored.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=stored.dtype, crs=crs,
        transform=transform, **profile,
    ) as dst:  # fmt: skip
        dst.write(stored)
        if names:
            dst.descriptions = names
        dst.scales, dst.offsets = (scale,) * count, (offset,) * count
        dst.update_tags(**tags or {})
    return path


@pytest.fixture
def scene(tmp_path):
    """Reflectance as the chain writes it, with a nodata corner, and a cloud in its quality raster."""
    stored = np.random.default_rng(0).integers(1, 9000, (4, 400, 500)).astype(np.uint16)
    stored[:, :90, :120] = 0
    tags = {"GEOCRACK_SCENE": "GF1 2015/08", "GEOCRACK_ACQUIRED": "2015-08-05T03:50:02+00:00"}
    path = write(tmp_path / "fused.tif", stored, scale=1e-4, offset=-0.1, tags=tags, nodata=0)
    flags = np.zeros((1, 400, 500), np.uint8)
    flags[0, 200:260, 300:400] = Quality.CLOUD
    write(tmp_path / "fused.quality.tif", flags, names=None)
    return path


def polygons(path, *boxes, crs="EPSG:4326", **options):
    """Boxes in pixels of the scene: left, top, right, bottom."""
    shapes = [shapely.transform(shapely.box(*b), lambda p: np.column_stack(PLACE @ (p[:, 0], p[:, 1]))) for b in boxes]
    gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_crs(crs).to_file(path, **options)
    return path


def scars(tmp_path):
    return polygons(
        tmp_path / "scars.gpkg",
        *((60 * i + 5.3, 40 * j + 4.2, 60 * i + 30.1, 40 * j + 20.4) for i in range(8) for j in range(10)),
    )


def test_chips_lie_where_they_say_and_keep_what_the_image_has(tmp_path, scene):
    run(scene, "--labels", scars(tmp_path), "-o", tmp_path / "chips", *SMALL)
    with rasterio.open(scene) as src, rasterio.open(tmp_path / "fused.quality.tif") as quality:
        whole, clouds = src.read(), quality.read(1) == Quality.CLOUD
        marks = gpd.read_file(tmp_path / "scars.gpkg").to_crs(UTM).geometry
        truth = rasterize(marks, src.shape, transform=src.transform)
        index = gpd.read_file(tmp_path / "chips" / "index.gpkg")
        assert index.crs == src.crs
        assert len(index) > 30
        for row in index.itertuples():
            window = from_bounds(*row.geometry.bounds, src.transform).round_offsets().round_lengths()
            assert (window.width, window.height) == (64, 64)
            with (
                rasterio.open(tmp_path / "chips" / row.image) as chip,
                rasterio.open(tmp_path / "chips" / row.label) as label,
            ):
                expected = src.read(window=window, boundless=True, fill_value=0)
                np.testing.assert_array_equal(chip.read(), expected)
                assert (chip.dtypes[0], chip.nodata, chip.scales[0], chip.offsets[0]) == ("uint16", 0, 1e-4, -0.1)
                assert chip.descriptions == BANDS
                assert chip.crs == src.crs
                assert chip.tags()["GEOCRACK_ACQUIRED"] == "2015-08-05T03:50:02+00:00"
                assert chip.bounds == pytest.approx(row.geometry.bounds)
                rows, columns = window.toranges()
                inside = np.ix_([0 <= r < 400 for r in range(*rows)], [0 <= c < 500 for c in range(*columns)])
                part = np.s_[max(0, rows[0]) : rows[1], max(0, columns[0]) : columns[1]]
                hidden = clouds[part] | (whole[0][part] == 0)
                wanted = np.full((64, 64), 255)
                wanted[inside] = np.where(hidden, 255, truth[part])
                np.testing.assert_array_equal(label.read(1), wanted)
            assert row.valid_share == pytest.approx((wanted != 255).mean(), abs=1e-6)
            assert row.valid_share >= 0.5
            assert row.landslide_share == pytest.approx((wanted == 1).sum() / (wanted != 255).sum(), abs=1e-6)
            assert row.source == "GF1 2015/08"
            assert row.id.startswith("GF1_2015_08_r")
    assert index.id.is_unique


def test_statistics_are_those_of_valid_training_pixels(tmp_path, scene):
    run(scene, "--labels", scars(tmp_path), "-o", tmp_path / "chips", *SMALL)
    facts = json.loads((tmp_path / "chips" / "chips.json").read_text())
    chips = open_chips([tmp_path / "chips"])
    pixels = np.concatenate(
        [image[:, label != 255] for image, label, _ in map(read_chip, chips.split("train"))], axis=1
    ).astype(np.float64)
    np.testing.assert_allclose(facts["statistics"]["mean"], pixels.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(facts["statistics"]["std"], pixels.std(axis=1), rtol=1e-9)
    assert (facts["bands"], facts["size"], facts["crs"], facts["resolution_m"]) == (list(BANDS), 64, UTM, 2.0)
    assert facts["tiling"]["gap_m"] == 16
    assert facts["labels"] == {"features": 80, "repaired": 0, "dropped": 0}
    landslide = sum(int((read_chip(r)[1] == 1).sum()) for r in chips.records)
    assert sum(c["landslide_pixels"] for c in facts["counts"].values()) == landslide > 0
    assert {name: c["chips"] > 0 for name, c in facts["counts"].items()} == dict.fromkeys(
        ("train", "val", "test"), True
    )
    record = json.loads((tmp_path / "chips" / "provenance.json").read_text())
    assert [p["path"].rsplit("/", 1)[1] for p in record["inputs"]] == ["fused.tif", "fused.quality.tif", "scars.gpkg"]


@pytest.mark.parametrize("block_chips", [1, 2])
def test_no_two_splits_come_nearer_than_the_gap_within_and_between_scenes(tmp_path, scene, block_chips):
    """Two dates with other extents, shifted by half a pixel."""
    other = write(
        tmp_path / "other.tif", np.ones((4, 350, 450), np.uint16),
        transform=Affine(2, 0, 357_240 + 151, 0, -2, 3_464_000 - 87),
    )  # fmt: skip
    frames = []
    for path, name in ((scene, "one"), (other, "two")):
        options = ("--size", 32, "--overlap", 8, "--gap-m", 16, "--block-chips", block_chips, "--min-valid", 0.1)
        run(path, "-o", tmp_path / name, *options)
        frames.append(gpd.read_file(tmp_path / name / "index.gpkg"))
    splits = {
        split: shapely.union_all(np.concatenate([np.asarray(f.geometry[f.split == split]) for f in frames]))
        for split in ("train", "val", "test")
    }
    assert not any(s.is_empty for s in splits.values())
    for one, two in itertools.combinations(splits.values(), 2):
        assert one.distance(two) >= 16 - 1e-6
    shares = [(f.split == "train").mean() for f in frames]
    assert all(0.5 < s < 0.9 for s in shares)


def test_colour_images_stay_bytes_and_need_no_band_descriptions(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (3, 200, 200)).astype(np.uint8)
    path = write(tmp_path / "rgb.tif", stored, names=None, photometric="RGB")
    run(path, "-o", tmp_path / "chips", *SMALL, "--min-valid", 1)
    chips = open_chips([tmp_path / "chips"])
    assert chips.bands == ("red", "green", "blue")
    assert all((read_chip(r)[1] == 255).all() for r in chips.records), "nothing is labelled"
    with rasterio.open(chips.records[0].image) as chip:
        assert (chip.dtypes[0], chip.nodata) == ("uint8", None)
        window = from_bounds(*chip.bounds, PLACE).round_offsets()
        np.testing.assert_array_equal(chip.read(), stored[:, *window.toslices()])
    undescribed = write(tmp_path / "four.tif", np.ones((4, 200, 200), np.uint16), names=None)
    with pytest.raises(RasterError, match="give --bands"):
        run(undescribed, "-o", tmp_path / "other", *SMALL)
    run(undescribed, "-o", tmp_path / "other", *SMALL, "--bands", "blue,green,red,nir")
    assert open_chips([tmp_path / "other"]).bands == BANDS


def test_only_chips_wholly_inside_the_areas_are_cut(tmp_path, scene):
    areas = polygons(tmp_path / "areas.gpkg", (130, 100, 330, 390), layer="train")
    polygons(areas, (0, 0, 9, 9), layer="map")
    with pytest.raises(LabelError, match="has the layers train, map"):
        run(scene, "-o", tmp_path / "chips", *SMALL, "--areas", areas)
    run(scene, "-o", tmp_path / "chips", *SMALL, "--areas", areas, "--areas-layer", "train")
    run(scene, "-o", tmp_path / "all", *SMALL)
    area = gpd.read_file(areas, layer="train").to_crs(UTM).geometry.iloc[0]
    chosen, everything = (gpd.read_file(tmp_path / name / "index.gpkg") for name in ("chips", "all"))
    assert chosen.geometry.within(area.buffer(1e-6)).all()
    inside = everything[everything.geometry.within(area.buffer(1e-6))]
    assert set(zip(chosen.id, chosen.split, strict=True)) == set(zip(inside.id, inside.split, strict=True))
    assert 0 < len(chosen) < len(everything)
    with pytest.raises(GridError, match=r"no chip of 64 x 64 pixels lies wholly inside .*areas\.gpkg"):
        run(scene, "-o", tmp_path / "none", *SMALL, "--areas", areas, "--areas-layer", "map")


def test_the_same_input_makes_the_same_chips(tmp_path, scene):
    for name in ("one", "two"):
        run(scene, "--labels", scars(tmp_path), "-o", tmp_path / name, *SMALL, "--threads", 1 if name == "one" else 2)
    for path in (p for p in (tmp_path / "one").rglob("*") if p.is_file() and p.name != "provenance.json"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


def test_what_makes_a_training_fail_is_told(tmp_path, scene):
    away = polygons(tmp_path / "away.gpkg", (10, 10, 60, 60))  # in the nodata corner
    told = run(scene, "--labels", away, "-o", tmp_path / "chips", *SMALL).output
    assert "no training chip shows a landslide" in told
    told = run(scene, "-o", tmp_path / "few", "--size", 256, "--min-valid", 0.2).output
    assert "no chip is of the split" in told
    assert "smaller --size, --block-chips 1" in told
    assert "no labels were given" in told


@pytest.mark.parametrize("case", ["all nodata", "all cloud", "too little"])
def test_a_scene_without_enough_valid_pixels(tmp_path, case):
    stored = np.zeros((4, 200, 200), np.uint16)
    if case != "all nodata":
        stored[:, 50:60] = 7
    path = write(tmp_path / "a.tif", stored, nodata=0)
    if case == "all cloud":
        write(tmp_path / "a.quality.tif", np.full((1, 200, 200), Quality.CLOUD, np.uint8), names=None)
    message = (
        "of which 50 % is valid .*--min-valid" if case == "too little" else "has no valid pixel: all is nodata, cloud"
    )
    with pytest.raises(RasterError, match=rf"a\.tif has no .*{message}|a\.tif {message}"):
        run(path, "-o", tmp_path / "chips", *SMALL)
    assert not (tmp_path / "chips").exists()
    assert not list(tmp_path.glob(".part*"))


def test_labels_that_cannot_be_used_leave_nothing(tmp_path, scene):
    far = polygons(tmp_path / "far.gpkg", (9000, 0, 9010, 9))
    with pytest.raises(LabelError, match="lies outside the image"):
        run(scene, "--labels", far, "-o", tmp_path / "chips", *SMALL)
    grey = write(tmp_path / "grey.tif", np.arange(200_000).reshape(1, 400, 500).astype(np.uint8), names=None)
    with pytest.raises(LabelError, match="expected 0 for ground and 1 or 255"):
        run(scene, "--labels", grey, "-o", tmp_path / "chips", *SMALL)
    assert not (tmp_path / "chips").exists()


def test_an_image_that_lies_nowhere_or_in_degrees(tmp_path):
    plain = write(tmp_path / "a.tif", np.ones((4, 99, 99), np.uint8), crs=None, transform=None)
    with pytest.raises(GridError, match="has no CRS"):
        run(plain, "-o", tmp_path / "chips")
    degrees = Affine(1e-5, 0, 103.5, 0, -1e-5, 31.3)
    plain = write(tmp_path / "b.tif", np.ones((4, 99, 99), np.uint8), crs="EPSG:4326", transform=degrees)
    with pytest.raises(GridError, match="in degrees; expected a projected CRS"):
        run(plain, "-o", tmp_path / "chips")


def test_a_truncated_image_leaves_nothing(tmp_path, scene):
    path = tmp_path / "torn.tif"
    rasterio.shutil.copy(scene, path, driver="COG", overviews="NONE", blocksize=128)
    path.write_bytes(path.read_bytes()[:800_000])
    with pytest.raises(RasterError, match=r"torn\.tif is truncated or damaged"):
        run(path, "-o", tmp_path / "chips", *SMALL)
    assert not (tmp_path / "chips").exists()


def test_mistakes_in_options_are_told(tmp_path, scene):
    for options, message in (
        (("--overlap", 64), "64 pixels; expected less than --size 64"),
        (("--fractions", 0.5, 0.2, 0.2), "0.5 0.2 0.2; expected shares that sum to 1"),
        (("--fractions", 1.5, -0.5, 0), "expected shares that sum to 1"),
    ):
        result = run(scene, "-o", tmp_path / "chips", *SMALL, *options)
        assert result.exit_code == 2
        assert message in result.output
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "mine.txt").write_text("x")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run(scene, "-o", tmp_path / "chips", *SMALL)
    with pytest.raises(OutputExistsError, match=r"folder of other files \(there is no chips.json in it\)"):
        run(scene, "-o", tmp_path / "chips", *SMALL, "--overwrite")
    assert (tmp_path / "chips" / "mine.txt").read_text() == "x"
    (tmp_path / "chips" / "mine.txt").unlink()
    run(scene, "-o", tmp_path / "chips", *SMALL)
    (tmp_path / "chips" / "old.txt").write_text("of an earlier run")
    run(scene, "-o", tmp_path / "chips", *SMALL, "--overwrite")
    assert not (tmp_path / "chips" / "old.txt").exists()


def test_windows_of_chips_reach_past_the_edge(tmp_path, scene):
    """A scene that begins inside a block still gets the chips of that block, padded with nodata."""
    run(scene, "-o", tmp_path / "chips", *SMALL, "--min-valid", 0.05)
    index = gpd.read_file(tmp_path / "chips" / "index.gpkg")
    with rasterio.open(scene) as src:
        ground = shapely.box(*src.bounds)
    past = index[~index.geometry.within(ground.buffer(1e-6))]
    assert len(past)
    assert (past.valid_share < 1).all()
