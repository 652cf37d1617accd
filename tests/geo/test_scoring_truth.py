"""Truths as they come: copies, broken outlines, rasters, other CRSs, elsewhere, several layers, none."""

from __future__ import annotations

import os
import struct
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from pyogrio.raw import write as write_raw
from shapely import affinity, box

from geo import inventory
from geo.errors import GridError, LabelError
from geo.inventory.bootstrap import Resampling
from geo.inventory.dated import read_dated
from geo.inventory.scoring import score
from geo.inventory.truth import mended, read_polygons, without_copies
from tests.geo.scored_scene import GRID, SHAPE, X, Y, rectangle, vector, write, write_inventory

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))


@pytest.fixture
def mapped(tmp_path):
    return write_inventory(tmp_path)


def test_truth_in_another_crs(tmp_path, mapped):
    same = score(mapped, vector(tmp_path / "a.gpkg", [rectangle(5, 12, 20, 10)]))
    moved = gpd.GeoDataFrame(geometry=[rectangle(5, 12, 20, 10)], crs="EPSG:32648").to_crs("EPSG:4326")
    moved.to_file(tmp_path / "b.geojson")
    other = score(mapped, tmp_path / "b.geojson")
    assert other["pixels"] == same["pixels"]
    assert other["truth"]["crs"] == "EPSG:4326"


def test_an_empty_truth_is_told_and_gives_f1_no_interval(tmp_path, mapped, caplog):
    s = score(mapped, vector(tmp_path / "t.gpkg", []), resampling=Resampling(16, 100, 0))
    assert "t.gpkg: there is no landslide on the ground that is compared" in caplog.text
    found = s["pixels"]["interval"]
    assert [found[name] for name in ("f1", "iou", "miou", "recall", "true_per_mapped")] == [None] * 5
    low, high = found["precision"]
    assert low == 0
    assert high > 0.05
    assert s["objects"]["interval"]["false_alarm_rate"][0] < 1


def test_a_landslide_that_is_drawn_twice_counts_once(tmp_path, mapped, caplog):
    """A truth that was merged from two files has each scar twice; scores are those of one."""
    scars = [rectangle(5, 12, 20, 10), rectangle(30, 40, 10, 10), rectangle(30, 20, 5, 5)]
    once = score(mapped, vector(tmp_path / "t.gpkg", scars))
    assert "copies" not in caplog.text
    nearly = affinity.translate(scars[0], 0.05, 0)  # IoU 0.995
    twice = score(mapped, vector(tmp_path / "u.gpkg", [*scars, scars[1], nearly, scars[2].reverse()]))
    assert (twice["truth"]["features"], twice["truth"]["copies"]) == (6, 3)
    assert "u.gpkg: 3 of 6 polygons are copies of others and are left out" in caplog.text
    assert twice["objects"] == once["objects"]
    assert twice["pixels"] == once["pixels"]


def test_a_polygon_that_is_mapped_twice_counts_once(tmp_path):
    probability = write(tmp_path / "p.tif", np.full(SHAPE, 0.1))
    other = vector(tmp_path / "other.gpkg", [rectangle(5, 10, 20, 10)] * 2)
    s = score(other, vector(tmp_path / "t.gpkg", [rectangle(30, 40, 10, 10)]), probability=probability)
    assert (s["inventory"]["copies"], s["objects"]["mapped"], s["objects"]["false_alarms"]) == (1, 1, 1)


def test_copies_are_told_from_neighbours_and_parts():
    one, whole = box(0, 0, 100, 50), box(0, 0, 100, 50.6)  # IoU 0.988: the 2014 outline of a scar of 2013, say
    polygons = np.array([one, whole, box(100, 0, 200, 50), box(0, 0, 10, 10), one, whole, one], dtype=object)
    kept, copies = without_copies(polygons, "t")
    assert copies == 3
    assert kept.tolist() == polygons[:4].tolist()
    assert without_copies(np.empty(0, object), "t")[1] == 0


def test_invalid_truth_is_repaired_and_counted(tmp_path, mapped):
    bow = shapely.Polygon([(X + 20, Y - 10), (X + 40, Y - 50), (X + 40, Y - 10), (X + 20, Y - 50)])
    truth = vector(tmp_path / "t.gpkg", [bow, rectangle(30, 40, 10, 10), shapely.Polygon()])
    s = score(mapped, truth)
    assert s["truth"] == {
        "path": str(truth), "kind": "vector", "features": 3, "repaired": 1, "dropped": 1, "copies": 0, "multi": 1,
        "crs": "EPSG:32648",
    }  # fmt: skip
    assert s["pixels"]["tp"] == pytest.approx(100 + 100, abs=10)  # half of the bow tie's box, and the second polygon


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def surface(kind, face):
    """WKB of a TIN (16) or a polyhedral surface (15) of one face."""
    ring = shapely.get_coordinates(face)
    head, points = struct.pack("<BII", 1, kind, 1), struct.pack(f"<{ring.size}d", *ring.ravel())
    return head + struct.pack("<BIII", 1, {16: 17, 15: 3}[kind], 1, len(ring)) + points


@pytest.mark.filterwarnings("ignore:Registering non-standard")
@pytest.mark.parametrize("kind", [15, 16])
def test_surfaces_that_are_no_polygons_are_left_out_and_counted(tmp_path, mapped, kind):
    outlines = [rectangle(10, 10, 15, 20), rectangle(40, 40, 5, 5)]
    odd = surface(kind, shapely.Polygon([(X, Y), (X + 9, Y), (X, Y - 9)]))
    wkb = np.array([*shapely.to_wkb(outlines), odd], dtype=object)
    write_raw(
        tmp_path / "t.gpkg", wkb, [np.array(["a", "b", "c"], dtype=object)], ["id"], layer="landslides",
        geometry_type="Unknown", crs="EPSG:32648", driver="GPKG",
    )  # fmt: skip
    found = read_polygons(tmp_path / "t.gpkg", "EPSG:32648")
    assert (found.features, found.dropped, len(found.geometry)) == (3, 1, 2)
    dated = read_dated(tmp_path / "t.gpkg", day=date(2015, 8, 5))
    assert (dated.ids.tolist(), dated.dropped) == (["a", "b"], 1)
    assert inventory.read(tmp_path / "t.gpkg").landslides.geometry.isna().tolist() == [False, False, True]
    assert score(mapped, tmp_path / "t.gpkg")["truth"]["dropped"] == 1


def test_mended_keeps_polygons_only():
    spike = shapely.from_wkt("POLYGON ((0 0, 10 0, 10 10, 10 20, 10 10, 0 10, 0 0))")
    mixed = shapely.from_wkt("GEOMETRYCOLLECTION (POINT (1 1), POLYGON ((0 0, 1 0, 1 1, 0 0)))")
    flat = shapely.from_wkt("POLYGON Z ((0 0 5, 1 0 5, 1 1 5, 0 0 5))")
    line = shapely.from_wkt("LINESTRING (0 0, 1 1)")
    nan = shapely.Polygon([(0, 0), (np.nan, 1), (1, 1)])
    geometry, repaired, dropped = mended(np.array([spike, mixed, flat, None, line, nan], dtype=object))
    assert (len(geometry), repaired, dropped) == (3, 1, 3)
    assert shapely.area(geometry).tolist() == [100, 0.5, 0.5]
    assert not shapely.has_z(geometry).any()


@pytest.mark.realdata
@pytest.mark.skipif(not (REALDATA / "inventories").is_dir(), reason="the real data (GEOCRACK_REALDATA) is not here")
@pytest.mark.parametrize(("layer", "broken"), [(0, 8), (1, 2), (2, 13)])
def test_real_inventory_is_repaired(tmp_path, layer, broken):
    import pyogrio

    file = REALDATA / "inventories" / "wenchuan.gpkg"
    name = sorted(pyogrio.list_layers(file)[:, 0])[layer]
    frame = pyogrio.read_dataframe(file, layer=name)
    frame.to_file(tmp_path / "one.gpkg", layer=name, driver="GPKG")
    polygons = read_polygons(tmp_path / "one.gpkg", "EPSG:32648")
    assert polygons.features == len(frame)
    assert polygons.repaired == broken
    assert shapely.is_valid(polygons.geometry).all()


@pytest.mark.realdata
@pytest.mark.skipif(not (REALDATA / "inventories").is_dir(), reason="the real data (GEOCRACK_REALDATA) is not here")
def test_real_multipolygons_are_counted():
    """838 features of the type MultiPolygon in degrees, of which some have several parts."""
    polygons = read_polygons(REALDATA / "inventories" / "colombia_landslides.gpkg", "EPSG:32618")
    assert polygons.features == 838
    assert len(polygons.geometry) + polygons.dropped == 838
    assert polygons.multi == (shapely.get_num_geometries(polygons.geometry) > 1).sum()
    assert shapely.is_valid(polygons.geometry).all()


@pytest.mark.parametrize("landslide", [1, 255])
@pytest.mark.parametrize("nodata", [None, 0, 7])
def test_truth_raster(tmp_path, mapped, landslide, nodata):
    values = np.zeros(SHAPE, np.uint8)
    values[5:25, 12:22] = landslide
    if nodata == 7:
        values[40:] = 7
    with rasterio.open(
        tmp_path / "t.tif", "w", driver="GTiff", width=70, height=50, count=1, dtype="uint8", nodata=nodata,
        crs="EPSG:32648", transform=GRID.affine,
    ) as dst:  # fmt: skip
        dst.write(values, 1)
    s = score(mapped, tmp_path / "t.tif")
    rows = 40 if nodata == 7 else 50
    assert [s["pixels"][n] for n in ("tp", "fp", "fn", "tn")] == [160, 40 + 100, 40, rows * 60 - 160 - 140 - 40]
    assert s["objects"]["hits"] == 1
    assert s["truth"]["kind"] == "raster"


def test_truth_raster_on_a_coarser_grid(tmp_path, mapped):
    with rasterio.open(
        tmp_path / "t.tif", "w", driver="GTiff", width=20, height=20, count=1, dtype="uint8",
        crs="EPSG:32648", transform=Affine(4, 0, X, 0, -4, Y),
    ) as dst:  # fmt: skip
        values = np.zeros((20, 20), np.uint8)
        values[3:12, 5:10] = 1
        dst.write(values, 1)
    s = score(mapped, tmp_path / "t.tif")
    assert [s["pixels"][n] for n in ("tp", "fp", "fn", "tn")] == [180, 20, 0, 40 * 40 - 200]  # nothing beyond its edges


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 1, 255], [0, 0.5]])
def test_truth_raster_with_other_values(tmp_path, mapped, values):
    pixels = np.zeros(SHAPE, np.float32)
    pixels[0, : len(values)] = values
    with rasterio.open(
        tmp_path / "t.tif", "w", driver="GTiff", width=70, height=50, count=1, dtype="float32",
        crs="EPSG:32648", transform=GRID.affine,
    ) as dst:  # fmt: skip
        dst.write(pixels, 1)
    with pytest.raises(LabelError, match=r"t\.tif holds the values 0, .*; expected 0 for ground and 1 or 255"):
        score(mapped, tmp_path / "t.tif")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_truth_without_a_crs(tmp_path, mapped):
    vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)], crs=None)
    with pytest.raises(LabelError, match=r"t\.gpkg has no CRS"):
        score(mapped, tmp_path / "t.gpkg")
    with rasterio.open(tmp_path / "t.tif", "w", driver="GTiff", width=3, height=3, count=1, dtype="uint8") as dst:
        dst.write(np.zeros((1, 3, 3), np.uint8))
    with pytest.raises(LabelError, match=r"t\.tif has no CRS"):
        score(mapped, tmp_path / "t.tif")


def test_truth_elsewhere_names_both_extents(tmp_path, mapped):
    vector(tmp_path / "t.gpkg", [affinity.translate(rectangle(5, 12, 20, 10), 10_000)])
    with pytest.raises(
        GridError, match=r"extent is 412024 3455950 412044 3455990 and .* 402000 3455900 402120 3456000"
    ):
        score(mapped, tmp_path / "t.gpkg")
    with rasterio.open(
        tmp_path / "t.tif", "w", driver="GTiff", width=5, height=5, count=1, dtype="uint8", crs="EPSG:32648",
        transform=Affine(2, 0, X + 10_000, 0, -2, Y),
    ) as dst:  # fmt: skip
        dst.write(np.ones((1, 5, 5), np.uint8))
    with pytest.raises(
        GridError, match=r"extent is 412000 3455990 412010 3456000 and .* 402000 3455900 402120 3456000"
    ):
        score(mapped, tmp_path / "t.tif")


def test_truth_without_polygons(tmp_path, mapped):
    gpd.GeoDataFrame(geometry=[shapely.Point(X, Y)], crs="EPSG:32648").to_file(tmp_path / "t.gpkg", driver="GPKG")
    with pytest.raises(LabelError, match="no layer of polygons"):
        score(mapped, tmp_path / "t.gpkg")


def test_truth_of_several_layers(tmp_path, mapped):
    vector(tmp_path / "t.gpkg", [rectangle(0, 0, 5, 5)], layer="fields")
    vector(tmp_path / "t.gpkg", [rectangle(5, 10, 20, 10)], layer="scars")
    with pytest.raises(LabelError, match="has the layers fields, scars; expected one, or one named 'landslides'"):
        score(mapped, tmp_path / "t.gpkg")
    vector(tmp_path / "t.gpkg", [rectangle(5, 10, 20, 10)])
    assert score(mapped, tmp_path / "t.gpkg")["pixels"]["tp"] == 200


def test_an_empty_truth_makes_every_polygon_a_false_alarm(tmp_path, mapped):
    s = score(mapped, vector(tmp_path / "t.gpkg", []))
    assert s["pixels"]["fp"] == 300
    assert s["pixels"]["recall"] is None
    assert s["objects"]["false_alarms"] == 2
