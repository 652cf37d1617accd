"""The random sample: who is drawn, how often, and that nothing can be changed unnoticed."""

from __future__ import annotations

import json
import sqlite3
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely import box

from geo.errors import GridError, LabelError
from geo.inventory import sample_file, sampling
from geo.inventory.sample_file import read, write
from geo.inventory.sampling import LABELS, allocate, draw

X, Y = 402_000.0, 3_456_000.0


def make_inventory(path, polygons, searched=None, *, shape=(100, 120), crs="EPSG:32648", grid=True):
    """Inventory of 2 m pixels."""
    metadata = {"GEOCRACK_SETTINGS": json.dumps({"min_area_m2": 100.0})}
    if grid:
        metadata["GEOCRACK_GRID"] = json.dumps({"shape": shape, "transform": [2, 0, X, 0, -2, Y]})
    frame = gpd.GeoDataFrame({"id": [f"s{n}" for n in range(len(polygons))]}, geometry=list(polygons), crs=crs)
    pyogrio.write_dataframe(frame, path, layer="landslides", geometry_type="Polygon", dataset_metadata=metadata)
    if searched is not None:
        ground = gpd.GeoDataFrame({"scene": ["S"]}, geometry=[searched], crs=crs)
        pyogrio.write_dataframe(ground, path, layer="searched", append=True)
    return path


def rectangle(row, column, height, width):
    return box(X + 2 * column, Y - 2 * (row + height), X + 2 * (column + width), Y - 2 * row)


@pytest.fixture
def inventory(tmp_path):
    """Two scars on 100 x 120 pixels; twenty columns were not searched, one of the scars lies there partly."""
    polygons = [rectangle(20, 20, 20, 30), rectangle(60, 95, 10, 10)]
    return make_inventory(tmp_path / "i.gpkg", polygons, rectangle(0, 0, 100, 100))


def label(path, labels):
    """Set references as QGIS would: by SQL, without touching anything else."""
    with sqlite3.connect(path) as base:
        for (name,) in base.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            base.execute(f'drop trigger "{name}"')
        for number, value in labels.items():
            base.execute("update sample set reference = ? where id = ?", (value, number))


def change(path, statement):
    label(path, {})
    with sqlite3.connect(path) as base:
        base.execute(statement)
        base.execute("delete from gpkg_ogr_contents")  # GDAL counts the features anew


def test_strata_are_those_of_the_map(inventory):
    sample = draw(inventory, number=90, seed=1, near_m=10)
    strata = {s.name: s for s in sample.design.strata}
    assert strata["landslide"].pixels == 20 * 30 + 10 * 5  # the second is cut by the searched ground
    assert sum(s.pixels for s in strata.values()) == 100 * 100
    near = strata["near"].pixels
    assert 5 * 2 * (20 + 30) < near < (30 * 40 - 600) + (20 * 10)
    assert sample.design.number == len(sample.points) == 90
    assert [s.mapped for s in sample.design.strata] == [True, False, False]
    inside = sample.points.within(rectangle(0, 0, 100, 100))
    assert inside.all()
    mapped = sample.points.within(rectangle(20, 20, 20, 30)) | sample.points.within(rectangle(60, 95, 10, 10))
    assert (mapped == (sample.points["stratum"] == "landslide")).all()
    assert not sample.points.geometry.duplicated().any()
    offset = (sample.points.geometry.x - X) % 2
    assert np.allclose(offset, 1)  # centres of pixels
    for row in sample.points.itertuples():
        assert row.inclusion_probability == strata[row.stratum].drawn / strata[row.stratum].pixels


def test_each_pixel_is_as_likely_as_any_other(tmp_path):
    """Chi-square of how often the pixels of a small stratum are drawn, over many seeds."""
    from scipy import stats

    path = make_inventory(tmp_path / "i.gpkg", [rectangle(4, 4, 4, 5)], rectangle(0, 0, 30, 30), shape=(30, 30))
    times = np.zeros(20, int)
    for seed in range(90):
        points = draw(path, number=24, seed=seed, near_m=4).points
        points = points[points["stratum"] == "landslide"]
        column, row = (points.geometry.x - X) // 2 - 4, (Y - points.geometry.y) // 2 - 4
        np.add.at(times, (row * 5 + column).astype(int), 1)
    assert stats.chisquare(times).pvalue > 1e-3


def test_the_seed_decides_and_blocks_do_not_show(inventory, monkeypatch):
    first = draw(inventory, number=60, seed=7)
    assert draw(inventory, number=60, seed=7).points.equals(first.points)
    assert not draw(inventory, number=60, seed=8).points.equals(first.points)
    monkeypatch.setattr(sampling, "_BLOCK_PIXELS", 120 * 7)
    assert draw(inventory, number=60, seed=7).points.equals(first.points)


def test_the_order_tells_nothing(inventory):
    strata = draw(inventory, number=90, seed=0).points["stratum"].tolist()
    assert strata != sorted(strata)
    changes = sum(a != b for a, b in pairwise(strata))
    assert changes > 25


def test_strata_by_size(tmp_path):
    polygons = [rectangle(5, 5, 5, 10), rectangle(20, 20, 30, 30), rectangle(52, 5, 46, 60)]
    path = make_inventory(tmp_path / "i.gpkg", polygons, rectangle(0, 0, 100, 120))
    strata = {s.name: s for s in draw(path, number=100, seed=0, by_size=True).design.strata}
    assert [strata[f"landslide {n}"].pixels for n in ("small", "medium", "large")] == [50, 900, 46 * 60]
    assert all(strata[f"landslide {n}"].mapped for n in ("small", "medium", "large"))


def test_no_landslide_mapped(tmp_path):
    path = make_inventory(tmp_path / "i.gpkg", [], rectangle(0, 0, 100, 120))
    sample = draw(path, number=40, seed=0)
    assert [s.name for s in sample.design.strata] == ["rest"]
    assert len(sample.points) == 40


@given(
    pixels=st.lists(st.integers(0, 10**6), min_size=1, max_size=6).filter(lambda p: sum(p) > 0),
    number=st.integers(20, 500),
)
@settings(deadline=None)
def test_allocation(pixels, number):
    pixels = np.array(pixels)
    try:
        drawn = allocate(pixels, number)
    except LabelError:
        return
    assert (drawn <= pixels).all()
    assert drawn.sum() == min(number, pixels.sum())
    np.testing.assert_array_equal(allocate(pixels, int(drawn.sum())), drawn)
    if (pixels[pixels > 0] >= number).all():
        assert drawn.sum() == number
        assert drawn[pixels > 0].min() >= np.floor(number / 2 / (pixels > 0).sum())


def test_a_stratum_that_is_used_up_leaves_its_points_to_the_others(tmp_path):
    """And the sample can be drawn anew to prove it, though one stratum has fewer pixels than its share."""
    path = make_inventory(tmp_path / "i.gpkg", [rectangle(20, 20, 3, 3)], rectangle(0, 0, 100, 100))
    sample = draw(path, number=90, seed=0, near_m=10)
    assert sample.design.strata[0].drawn == 9
    assert sample.design.number == 90
    sample_file.check_drawn_from(sample, "s.gpkg", path)


def test_too_few_points(inventory):
    with pytest.raises(LabelError, match=r"3 points are too few for 3 strata; give -n of at least 12"):
        draw(inventory, number=3, seed=0)


def test_read_gives_what_was_written(tmp_path, inventory):
    sample = draw(inventory, number=60, seed=2)
    write(tmp_path / "s.gpkg", sample)
    again = read(tmp_path / "s.gpkg")
    assert again.design == sample.design
    assert again.points["reference"].isna().all()
    label(tmp_path / "s.gpkg", {1: "landslide", 2: "cannot tell"})
    assert read(tmp_path / "s.gpkg").points["reference"].tolist()[:2] == ["landslide", "cannot tell"]
    write(tmp_path / "t.gpkg", sample)
    assert (tmp_path / "t.gpkg").read_bytes() != b""


def test_qgis_offers_the_labels_and_hides_what_the_map_says(tmp_path, inventory):
    write(tmp_path / "s.gpkg", draw(inventory, number=30, seed=2))
    qml = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="layer_styles")["styleQML"][0]
    for name in LABELS:
        assert f'value="{name}"' in qml
    assert '<field name="stratum"><editWidget type="Hidden">' in qml
    assert '<field name="reference"><editWidget type="ValueMap">' in qml


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("delete from sample where id = 3", "holds 29 points, but 30 were drawn"),
        ("insert into sample (geom, id, stratum) select geom, 31, stratum from sample where id = 1", "holds 31 points"),
        ("update sample set id = 4 where id = 3", "holds 30 points, but 30 were drawn"),
        ("update sample set geom = (select geom from sample where id = 2) where id = 3", "points were moved"),
        ("update sample set stratum = 'rest' where stratum = 'near'", "the stratum 'near' is not the one"),
        ("update sample set inclusion_probability = 0.5 where stratum = 'rest'", "the stratum 'rest' is not the one"),
        ("update design set value = replace(value, '\"seed\": 2', '\"seed\": 3')", "its design was changed"),
        ("update design set value = '{}' where key = 'design'", "not as `geocrack sample` wrote them"),
        ("update sample set geom = null where id = 5", "points without a place"),
        ("drop table design", "holds no design of a random sample"),
    ],
)
def test_a_sample_that_is_not_as_it_was_drawn(tmp_path, inventory, statement, message):
    write(tmp_path / "s.gpkg", draw(inventory, number=30, seed=2))
    change(tmp_path / "s.gpkg", statement)
    if statement.startswith("drop"):
        change(tmp_path / "s.gpkg", "delete from gpkg_contents where table_name = 'design'")
    with pytest.raises(LabelError, match=message):
        read(tmp_path / "s.gpkg")


def test_two_strata_that_swap_points(tmp_path, inventory):
    """Numbers and probabilities still fit then."""
    write(tmp_path / "s.gpkg", draw(inventory, number=30, seed=2))
    change(
        tmp_path / "s.gpkg",
        "update sample set geom = case id when (select min(id) from sample where stratum = 'near') then "
        "(select geom from sample where stratum = 'rest' order by id limit 1) else geom end",
    )
    with pytest.raises(LabelError, match="points were moved"):
        read(tmp_path / "s.gpkg")


def test_points_of_another_origin(tmp_path):
    frame = gpd.GeoDataFrame({"reference": ["landslide"]}, geometry=gpd.points_from_xy([X], [Y]), crs="EPSG:32648")
    frame.to_file(tmp_path / "p.gpkg", layer="sample", driver="GPKG")
    with pytest.raises(LabelError, match=r"holds no design of a random sample.*draw a sample with `geocrack sample`"):
        read(tmp_path / "p.gpkg")
    with pytest.raises(LabelError, match="does not exist"):
        read(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("no database")
    with pytest.raises(LabelError, match="no design"):
        read(tmp_path / "text.gpkg")


def test_drawn_anew(tmp_path, inventory):
    sample = draw(inventory, number=30, seed=2)
    sample_file.check_drawn_from(sample, "s.gpkg", inventory)
    other = make_inventory(tmp_path / "o.gpkg", [rectangle(1, 1, 9, 9)], rectangle(0, 0, 100, 100))
    with pytest.raises(LabelError, match="drawn from another inventory"):
        sample_file.check_drawn_from(sample, "s.gpkg", other)
    chosen = sampling.Sample(draw(inventory, number=30, seed=3).points, sample.design)  # another seed's points
    with pytest.raises(LabelError, match=r"is not the sample that seed 2 draws"):
        sample_file.check_drawn_from(chosen, "s.gpkg", inventory)
    with pytest.raises(LabelError, match="was drawn with --image or --area"):
        sample_file.check_drawn_from(sample, "s.gpkg", inventory, area=other)


def test_image_and_area_confine(tmp_path, inventory):
    from rasterio.windows import Window

    from geo.geotiff import GeoTiffWriter
    from geo.raster import REFLECTANCE

    grid = GeoBox((100, 120), Affine(2, 0, X, 0, -2, Y), "EPSG:32648")
    values = np.full((1, 100, 120), 0.2, np.float32)
    values[:, :, :50] = np.nan
    with GeoTiffWriter(tmp_path / "image.tif", grid, ["red"], REFLECTANCE, cog=False) as dst:
        dst.write(values, Window(0, 0, 120, 100))
    area = gpd.GeoDataFrame(geometry=[rectangle(0, 0, 50, 120)], crs="EPSG:32648").to_crs("EPSG:4326")
    area.to_file(tmp_path / "a.geojson")
    sample = draw(inventory, number=30, seed=0, image=tmp_path / "image.tif", area=tmp_path / "a.geojson")
    assert sample.points.within(rectangle(0, 50, 50, 50)).all()
    sample_file.check_drawn_from(sample, "s", inventory, image=tmp_path / "image.tif", area=tmp_path / "a.geojson")


def test_inventories_that_do_not_tell(tmp_path):
    bare = make_inventory(tmp_path / "b.gpkg", [rectangle(1, 1, 9, 9)])
    with pytest.raises(GridError, match=r"no layer 'searched'\); give --area"):
        draw(bare, number=30, seed=0)
    no_grid = make_inventory(tmp_path / "g.gpkg", [rectangle(1, 1, 9, 9)], rectangle(0, 0, 50, 50), grid=False)
    with pytest.raises(GridError, match="does not tell the pixels it was made of; give --image"):
        draw(no_grid, number=30, seed=0)
    nowhere = tmp_path / "n.gpkg"
    pyogrio.write_dataframe(gpd.GeoDataFrame(geometry=[rectangle(1, 1, 9, 9)]), nowhere, layer="landslides")
    with pytest.raises(GridError, match="has no CRS"):
        draw(nowhere, number=30, seed=0)
