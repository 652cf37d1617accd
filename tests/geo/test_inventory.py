"""The inventory: attributes, searched ground counted once, a GeoPackage that is the same each time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio.features
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import inventory
from geo.errors import OutputExistsError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.inventory import make, make_inventory, schema, style
from geo.raster import PROBABILITY, PROBABILITY_FLOAT

X, Y = 402_000.0, 3_456_000.0
TAGS = {
    "scene": "GF1_2013",
    "sensor": "GF-1 PMS1",
    "acquired": "2013-08-12T03:40:00+00:00",
    "view_zenith": 3.5,
    "model": "0123456789ab",
    "threshold": 0.5,
}


def write(path, values, *, left=X, top=Y, pixel=2.0, encoding=PROBABILITY, **tags):
    values = np.asarray(values, np.float32)
    box = GeoBox(values.shape, Affine(pixel, 0, left, 0, -pixel, top), "EPSG:32648")
    named = {f"GEOCRACK_{k.upper()}": str(v) for k, v in tags.items() if v is not None}
    with GeoTiffWriter(path, box, ["probability"], encoding, cog=False, tags=named) as dst:
        dst.write(values, Window(0, 0, *values.shape[::-1]))
    return path


def scar(shape=(40, 60)):
    """Probability 0.1 with a scar of 0.8 that has a hole, a small one of 0.6, and a corner without data."""
    values = np.full(shape, 0.1, np.float32)
    values[5:25, 10:20] = 0.8
    values[10:12, 13:15] = 0.1
    values[30:32, 40:43] = 0.6
    values[30, 40] = 1.0
    values[-8:, :5] = np.nan
    return values


def test_attributes_of_every_polygon(tmp_path):
    found = make_inventory([write(tmp_path / "p.tif", scar(), **TAGS)], version="1.2.3")
    frame = found.landslides
    assert list(frame.columns) == [a.name for a in schema.layers()["landslides"].attributes] + ["geometry"]
    assert frame.crs.to_epsg() == 32648
    big, small = frame.itertuples()
    assert (big.area_m2, small.area_m2) == (196 * 4.0, 6 * 4.0)
    assert (big.perimeter_m, small.perimeter_m) == (2 * (20 + 40) + 4 * 4, 2 * (4 + 6))
    assert big.mean_probability == 0.8
    assert small.mean_probability == pytest.approx((5 * 0.6 + 1) / 6, abs=1e-4)
    assert (big.max_probability, small.max_probability) == (0.8, 1.0)
    assert big.scene == "GF1_2013"
    assert big.sensor == "GF-1 PMS1"
    assert big.acquired == pd.Timestamp("2013-08-12T03:40:00Z")
    assert big.model == "0123456789ab"
    assert big.threshold == 0.5
    assert big.version == "1.2.3"
    assert len(big.geometry.geoms[0].interiors) == 1
    (ground,) = found.searched.itertuples()
    assert ground.area_km2 == (40 * 60 - 40) * 4 / 1e6
    assert ground.geometry.area == ground.area_km2 * 1e6
    assert ground.view_zenith == 3.5


def test_small_polygons_are_left_out_by_area(tmp_path):
    path = write(tmp_path / "p.tif", scar(), **TAGS)
    assert len(make_inventory([path], min_area_m2=24).landslides) == 2
    assert len(make_inventory([path], min_area_m2=24.1).landslides) == 1


def test_threshold_of_the_user_then_of_the_model_then_a_half(tmp_path, caplog):
    path = write(tmp_path / "p.tif", scar(), **{**TAGS, "threshold": 0.7})
    assert make_inventory([path]).landslides["threshold"].tolist() == [
        0.7,
        0.7,
    ]  # a single pixel of 1.0 in the small one
    assert len(make_inventory([path], threshold=0.6).landslides) == 2
    assert make_inventory([path], threshold=0.6).landslides["area_m2"].sum() == 202 * 4
    bare = write(tmp_path / "bare.tif", scar())
    assert not caplog.text
    assert make_inventory([bare]).landslides["threshold"].tolist() == [0.5, 0.5]
    assert "bare.tif does not tell its model's threshold (tag GEOCRACK_THRESHOLD): 0.5 is taken" in caplog.text


@pytest.mark.parametrize("step", [1, 87, 113, 175, 225])
def test_a_threshold_that_is_a_step_on_disk_includes_it(tmp_path, step):
    values = np.array([[step - 1, step, step + 1]]) * 0.004
    path = write(tmp_path / "p.tif", values)
    assert make_inventory([path], threshold=round(step * 0.004, 3)).landslides["area_m2"].sum() == 2 * 4


def test_a_scar_across_two_scenes_is_one_polygon_and_ground_counts_once(tmp_path):
    world = np.full((30, 100), 0.1, np.float32)
    world[10:20, 35:65] = 0.9
    first, second = world[:, :60].copy(), world[:, 40:].copy()
    second[0:4, 0:4] = np.nan
    old = write(tmp_path / "a.tif", first, **{**TAGS, "scene": "A"})
    new = write(tmp_path / "b.tif", second, left=X + 80, **{**TAGS, "scene": "B", "acquired": "2015-01-01T00:00:00Z"})
    found = make_inventory([old, new])
    (only,) = found.landslides.itertuples()
    assert only.area_m2 == 300 * 4
    assert only.scene == "B"  # 25 of its 30 columns
    assert found.searched_km2 == {"A": (40 * 30 + 16) * 4 / 1e6, "B": (60 * 30 - 16) * 4 / 1e6}
    assert found.searched.geometry.iloc[0].intersection(found.searched.geometry.iloc[1]).area == 0
    assert sum(found.searched_km2.values()) == pytest.approx(world.size * 4 / 1e6)
    # the order of the files decides the grid only
    again = make_inventory([new, old])
    assert shapely.equals(again.landslides.geometry.iloc[0], only.geometry)
    assert again.landslides["id"].tolist() == [only.id]


def test_newer_scene_that_sees_no_scar_takes_it_out(tmp_path):
    old = write(tmp_path / "a.tif", scar(), **TAGS)
    later = np.full((40, 60), 0.1)
    new = write(tmp_path / "b.tif", later, **{**TAGS, "acquired": "2014-08-12T00:00:00Z", "view_zenith": 20})
    assert len(make_inventory([old, new]).landslides) == 0
    assert len(make_inventory([old, new], prefer="nadir").landslides) == 2


@pytest.mark.parametrize("connectivity", [4, 8])
def test_blocks_do_not_show(tmp_path, monkeypatch, connectivity):
    random = np.random.default_rng(3)
    values = (random.random((64, 50)) * 250).round() * 0.004
    values[random.random(values.shape) < 0.1] = np.nan
    path = write(tmp_path / "p.tif", values, **TAGS)
    whole = make_inventory([path], connectivity=connectivity)
    monkeypatch.setattr(make, "_BLOCK_PIXELS", 150)
    parts = make_inventory([path], connectivity=connectivity, workers=2)
    pd.testing.assert_frame_equal(pd.DataFrame(whole.landslides), pd.DataFrame(parts.landslides))
    pd.testing.assert_frame_equal(pd.DataFrame(whole.searched), pd.DataFrame(parts.searched))
    mask = np.nan_to_num(values) >= 0.5
    assert whole.landslides["area_m2"].sum() == mask.sum() * 4
    burnt = rasterio.features.rasterize(whole.landslides.geometry, mask.shape, transform=whole.grid.affine)
    np.testing.assert_array_equal(burnt.astype(bool), mask)


def test_float_probability(tmp_path):
    path = write(tmp_path / "p.tif", scar(), encoding=PROBABILITY_FLOAT, **TAGS)
    assert len(make_inventory([path]).landslides) == 2


def test_nothing_valid_is_an_error(tmp_path):
    path = write(tmp_path / "p.tif", np.full((5, 5), np.nan), **TAGS)
    with pytest.raises(RasterError, match=r"p\.tif holds no valid pixel \(all nodata\), so nothing was searched"):
        make_inventory([path])


def test_a_scene_that_decides_nowhere_is_told(tmp_path, caplog):
    good = write(tmp_path / "good.tif", scar(), **TAGS)
    blind = write(tmp_path / "blind.tif", np.full((5, 5), np.nan), **{**TAGS, "acquired": "2020-01-01T00:00:00Z"})
    assert len(make_inventory([good, blind]).landslides) == 2
    assert "blind.tif decides nowhere" in caplog.text


def test_written_and_read_again(tmp_path):
    found = make_inventory([write(tmp_path / "p.tif", scar(), **TAGS)], min_area_m2=10, version="1")
    inventory.write(tmp_path / "i.gpkg", found)
    again = inventory.read(tmp_path / "i.gpkg")
    for name in ("landslides", "searched"):
        ours, theirs = getattr(found, name), getattr(again, name)
        pd.testing.assert_frame_equal(
            pd.DataFrame(ours.drop(columns="geometry")),
            pd.DataFrame(theirs.drop(columns="geometry")),
            check_dtype=False,
        )
        assert shapely.equals(ours.geometry, theirs.geometry).all()
    assert again.grid == found.grid
    assert again.settings == found.settings
    assert again.settings["min_area_m2"] == 10
    assert again.not_searched_km2 == found.not_searched_km2 == {"nodata": 160 / 1e6}
    assert len(again.footprints) == 1
    assert again.review["id"].tolist() == again.landslides["id"].tolist()
    info = pyogrio.read_info(tmp_path / "i.gpkg", layer="landslides")
    assert info["geometry_type"] == "MultiPolygon"
    with pytest.raises(OutputExistsError, match="--overwrite"):
        inventory.write(tmp_path / "i.gpkg", found)


def test_the_same_each_time_bit_for_bit(tmp_path):
    path = write(tmp_path / "p.tif", scar(), **TAGS)
    hashes = set()
    for name in ("a", "b"):
        inventory.write(tmp_path / f"{name}.gpkg", make_inventory([path]))
        hashes.add(hashlib.sha256((tmp_path / f"{name}.gpkg").read_bytes()).hexdigest())
    assert len(hashes) == 1
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_an_inventory_without_landslides_has_its_layers_all_the_same(tmp_path):
    path = write(tmp_path / "p.tif", np.full((5, 5), 0.2), **TAGS)
    inventory.write(tmp_path / "i.gpkg", make_inventory([path]))
    info = pyogrio.read_info(tmp_path / "i.gpkg", layer="landslides")
    assert info["features"] == 0
    assert info["geometry_type"] == "MultiPolygon"
    assert info["crs"] == "EPSG:32648"
    types = dict(zip(info["fields"], info["dtypes"], strict=True))
    assert types["area_m2"] == "float64"
    assert types["id"] == "object"
    assert types["acquired"].startswith("datetime64")
    again = inventory.read(tmp_path / "i.gpkg")
    assert len(again.landslides) == 0
    assert again.searched_km2 == {"GF1_2013": 1e-4}


def test_unknown_time_and_angle_stay_unknown(tmp_path):
    inventory.write(tmp_path / "i.gpkg", make_inventory([write(tmp_path / "p.tif", scar())], threshold=0.5))
    again = inventory.read(tmp_path / "i.gpkg")
    assert again.landslides["acquired"].isna().all()
    assert again.searched["view_zenith"].isna().all()
    assert again.landslides["scene"].tolist() == ["p", "p"]


def test_styles_are_inside(tmp_path):
    inventory.write(tmp_path / "i.gpkg", make_inventory([write(tmp_path / "p.tif", scar(), **TAGS)]))
    layers = dict(pyogrio.list_layers(tmp_path / "i.gpkg"))
    names = ["landslides", "searched", "not_searched", "footprints", "review"]
    assert list(layers) == [*names, "layer_styles"]
    assert layers["layer_styles"] is None
    styles = pyogrio.read_dataframe(tmp_path / "i.gpkg", layer="layer_styles")
    assert styles["f_table_name"].tolist() == names
    assert styles["useAsDefault"].all()
    assert (styles["f_geometry_column"] == "geom").all()
    assert pyogrio.read_info(tmp_path / "i.gpkg", layer="landslides")["geometry_name"] == "geom"
    assert styles["styleQML"].str.startswith("<!DOCTYPE qgis").all()


@pytest.mark.parametrize("layer", list(schema.layers()))
def test_style_names_the_attributes_of_the_schema(layer):
    root = ElementTree.fromstring(style.qml(layer))
    names = [a.name for a in schema.layers()[layer].attributes]
    assert [a.get("field") for a in root.iter("alias")] == names
    used = root.find("renderer-v2").get("attr")
    assert used is None or used in names
    ranges = [(float(r.get("lower")), float(r.get("upper"))) for r in root.iter("range")]
    assert all(a[1] == b[0] for a, b in pairwise(ranges))


def test_schema_says_what_each_attribute_means():
    for layer in schema.layers().values():
        assert layer.description
        for attribute in layer.attributes:
            assert attribute.description.endswith(".")
            assert attribute.type in ("text", "integer", "real", "time")
            assert attribute.unit or attribute.type == "text"
            assert len(attribute.short or attribute.name) <= 10 or layer.name != "landslides"


def test_columns_that_are_not_in_the_schema_are_a_mistake():
    with pytest.raises(ValueError, match="has the attributes"):
        schema.layers()["landslides"].frame({"width": []}, np.empty(0, object), "EPSG:32648")


def test_files_that_are_no_inventory(tmp_path):
    with pytest.raises(RasterError, match=r"none\.gpkg does not exist"):
        inventory.read(tmp_path / "none.gpkg")
    (tmp_path / "bad.gpkg").write_bytes(b"not a GeoPackage")
    with pytest.raises(RasterError, match=r"bad\.gpkg cannot be read as a vector file"):
        inventory.read(tmp_path / "bad.gpkg")
    (tmp_path / "points.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, '
        '"geometry": {"type": "Point", "coordinates": [0, 0]}}]}'
    )
    with pytest.raises(RasterError, match="no layer of polygons; expected a layer 'landslides'"):
        inventory.read(tmp_path / "points.geojson")


@pytest.mark.skipif(not shutil.which("gdal_polygonize.py"), reason="gdal_polygonize.py (gdal-bin) is not installed")
@pytest.mark.parametrize("connectivity", [4, 8])
def test_like_gdal_polygonize(tmp_path, connectivity):
    random = np.random.default_rng(5)
    mask = random.random((60, 70)) < 0.45
    write(tmp_path / "p.tif", np.where(mask, 0.9, 0.1), **TAGS)
    found = make_inventory([tmp_path / "p.tif"], connectivity=connectivity)
    with rasterio.open(
        tmp_path / "m.tif", "w", driver="GTiff", width=70, height=60, count=1, dtype="uint8", nodata=0,
        crs="EPSG:32648", transform=found.grid.affine,
    ) as dst:  # fmt: skip
        dst.write(mask.astype(np.uint8), 1)
    eight = ["-8"] if connectivity == 8 else []
    out = tmp_path / "gdal.gpkg"
    command = ["gdal_polygonize.py", *eight, str(tmp_path / "m.tif"), "-f", "GPKG", str(out), "out", "v"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    theirs = pyogrio.read_dataframe(out)
    assert len(theirs) == len(found.landslides)
    tree = shapely.STRtree(shapely.make_valid(np.asarray(theirs.geometry)))
    for ours in found.landslides.geometry:
        candidates = tree.geometries[tree.query(ours, predicate="intersects")]
        assert any(shapely.equals(ours, g) for g in candidates)


MEASURED = """
import sys
from geo import inventory

def told(name):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name)))

start = told("VmRSS")
found = inventory.make_inventory([sys.argv[1]], threshold=0.5, min_area_m2=100)
inventory.write(sys.argv[2], found)
print(len(found.landslides), told("VmHWM") - start)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_with_the_height_of_the_scene(tmp_path):
    """The same forty scars on eight times the ground; a layer of it in uint8 is 28 MB more."""
    peaks_kb = []
    for height in (4_000, 32_000):
        path, rows = tmp_path / f"{height}.tif", height // 40
        grid = GeoBox((height, 1024), Affine(2, 0, X, 0, -2, Y), "EPSG:32648")
        random = np.random.default_rng(0)
        with GeoTiffWriter(path, grid, ["probability"], PROBABILITY, cog=False) as dst:
            for top in range(0, height, rows):
                strip = random.uniform(0, 0.3, (rows, 1024)).astype(np.float32)
                strip[10:40, 100:150] = 0.8
                dst.write(strip, Window(0, top, 1024, rows))
        command = [sys.executable, "-c", MEASURED, str(path), str(tmp_path / f"{height}.gpkg")]
        # a small cache is full in both; heaps of many threads differ by 10 MB, as chance and other work have it
        environment = {**os.environ, "GDAL_CACHEMAX": "8", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
        number, peak_kb = map(int, done.stdout.split())
        assert number == 40
        peaks_kb.append(peak_kb)
        path.unlink()
    assert peaks_kb[1] < peaks_kb[0] + 14_000, peaks_kb


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    from geo.errors import OutputError
    from geo.inventory import geopackage

    found = make_inventory([write(tmp_path / "p.tif", scar(), **TAGS)])

    def full(*_, **__):
        raise pyogrio.errors.DataSourceError("sqlite3_exec(...) failed: database or disk is full")

    monkeypatch.setattr(geopackage, "write_styles", full)
    with pytest.raises(OutputError, match=r"could not be written whole: no space is left on its disk; free"):
        inventory.write(tmp_path / "i.gpkg", found)
    assert [p.name for p in Path(tmp_path).iterdir()] == ["p.tif"]


def test_the_document_tells_the_schema():
    """Tables in docs/inventory.md hold every field with its unit, meaning and short name."""
    text = (Path(__file__).parents[2] / "docs/inventory.md").read_text(encoding="utf-8")
    for layer in schema.layers().values():
        table = text.split(f"### `{layer.name}`\n")[1].split("\n###")[0]
        assert layer.description in table
        for a in layer.attributes:
            short = f" `{a.short or a.name}` |" if layer.name == "landslides" else ""
            assert f"| `{a.name}` | {a.unit or '-'} | {a.description} |{short}" in table
