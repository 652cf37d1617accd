"""What is written beside the GeoPackage: other formats, a QGIS project, a STAC catalogue."""

from __future__ import annotations

import hashlib
import json
import zipfile
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import inventory, masks
from geo.errors import OutputExistsError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory, schema
from geo.inventory.ground.evidence import Sources
from geo.inventory.outputs.formats import SUFFIXES, path_of, write_also
from geo.inventory.outputs.project import write_project
from geo.inventory.outputs.stac import offline_validator, write_catalog
from geo.raster import PROBABILITY, REFLECTANCE

X, Y = 402_000.0, 3_456_000.0
SHAPE = (60, 80)
GRID = GeoBox(SHAPE, Affine(2, 0, X, 0, -2, Y), "EPSG:32648")


def write(path, values, bands, encoding, **tags):
    named = {f"GEOCRACK_{k.upper()}": str(v) for k, v in tags.items()}
    with GeoTiffWriter(path, GRID, bands, encoding, tags=named) as dst:
        dst.write(np.asarray(values, np.float32), Window(0, 0, *SHAPE[::-1]))
    return path


@pytest.fixture
def made(tmp_path):
    """An inventory of two scenes with images, in folders as a run has them."""
    probability = np.full(SHAPE, 0.1)
    probability[10:30, 10:40], probability[40:45, 50:60] = 0.9, 0.7
    probability[12:15, 12:15] = 0.1
    names = []
    for number, date in enumerate(("2013-08-12T03:50:21+00:00", "2015-08-05T03:47:44+00:00")):
        tags = {
            "scene": f"S{number}",
            "sensor": "GF1 PMS1",
            "acquired": date,
            "model": "0123456789ab",
            "threshold": 0.5,
        }
        folder = tmp_path / "scenes" / f"s{number}"
        folder.mkdir(parents=True)
        write(folder / "p.tif", probability, ["probability"], PROBABILITY, **tags)
        write(folder / "fused.tif", np.full((4, *SHAPE), 0.2), ["blue", "green", "red", "nir"], REFLECTANCE, **tags)
        write(masks.quality_path(folder / "fused.tif"), np.zeros(SHAPE), ["quality"], masks.QUALITY)
        names.append(folder)
    found = make_inventory(
        [n / "p.tif" for n in names], sources=Sources(images=[n / "fused.tif" for n in names]), version="1.2.3"
    )
    inventory.write(tmp_path / "i.gpkg", found)
    return tmp_path, found, names


# ---------------------------------------------------------------------------------------------------------- formats
@pytest.mark.parametrize("name", SUFFIXES)
def test_the_same_landslides_in_every_format(made, name):
    folder, found, _ = made
    (path,) = write_also(folder / "i.gpkg", found.landslides, [name])
    assert path == path_of(folder / "i.gpkg", name)
    again = gpd.read_parquet(path) if name == "geoparquet" else pyogrio.read_dataframe(path)
    assert len(again) == 2
    again = again.to_crs(32648)
    order = [again.geometry.intersects(g).to_numpy().argmax() for g in found.landslides.representative_point()]
    again = again.iloc[order]
    ours = found.landslides
    difference = shapely.area(shapely.symmetric_difference(np.asarray(ours.geometry), np.asarray(again.geometry)))
    assert difference.max() < (1.0 if name == "geojson" else 1e-6)
    short = {a.name: a.short for a in schema.layers()["landslides"].attributes if a.short and name == "shapefile"}
    for column in ("id", "area_m2", "mean_probability", "sensor", "plausibility_reason", "elongation"):
        assert again[short.get(column, column)].tolist() == pytest.approx(ours[column].tolist()), column
    acquired = pd.to_datetime(again["acquired"], utc=True)
    assert (acquired.to_numpy() == ours["acquired"].to_numpy()).all()
    assert set(again.columns) >= {short.get(c, c) for c in ours.columns}
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_also(folder / "i.gpkg", found.landslides, [name])
    write_also(folder / "i.gpkg", found.landslides, [name], overwrite=True)


@pytest.mark.parametrize("name", SUFFIXES)
def test_an_inventory_without_landslides_in_every_format(made, name):
    folder, found, _ = made
    (path,) = write_also(folder / "i.gpkg", found.landslides.iloc[:0], [name])
    again = gpd.read_parquet(path) if name == "geoparquet" else pyogrio.read_dataframe(path)
    assert len(again) == 0


def test_geojson_is_in_degrees_as_its_standard_demands(made):
    folder, found, _ = made
    (path,) = write_also(folder / "i.gpkg", found.landslides, ["geojson"])
    document = json.loads(path.read_text())
    west, south, east, north = found.landslides.to_crs(4326).total_bounds
    first = shapely.geometry.shape(document["features"][0]["geometry"])
    assert west - 1e-6 <= first.bounds[0] <= first.bounds[2] <= east + 1e-6
    assert south - 1e-6 <= first.bounds[1] <= first.bounds[3] <= north + 1e-6


def test_short_names_are_unique_and_short():
    attributes = schema.layers()["landslides"].attributes
    names = [a.short or a.name for a in attributes]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 10


# ---------------------------------------------------------------------------------------------------------- project
def test_a_project_with_paths_relative_to_itself(made):
    folder, found, names = made
    images = [n / "fused.tif" for n in names]
    path = write_project(folder / "i.gpkg", found.landslides.crs, found.searched.total_bounds, images=images)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["i.qgs"]
        root = ElementTree.fromstring(archive.read("i.qgs"))
    sources = [layer.findtext("datasource") for layer in root.iter("maplayer")]
    kinds = ["review", "landslides", "not_searched", "searched", "footprints"]
    assert sources == [*(f"./i.gpkg|layername={k}" for k in kinds), "./scenes/s1/fused.tif", "./scenes/s0/fused.tif"]
    assert str(folder) not in ElementTree.tostring(root, encoding="unicode")
    ids = [layer.findtext("id") for layer in root.iter("maplayer")]
    assert [n.get("id") for n in root.iter("layer-tree-layer")] == ids
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    again = write_project(
        folder / "i.gpkg", found.landslides.crs, found.searched.total_bounds, images=images, overwrite=True
    )
    assert hashlib.sha256(again.read_bytes()).hexdigest() == before


def test_a_project_without_images_and_with_one_band(made):
    folder, found, names = made
    write_project(folder / "i.gpkg", found.landslides.crs, found.searched.total_bounds)
    path = write_project(
        folder / "i.gpkg",
        found.landslides.crs,
        found.searched.total_bounds,
        images=[names[0] / "p.tif"],
        overwrite=True,
    )
    with zipfile.ZipFile(path) as archive:
        root = ElementTree.fromstring(archive.read("i.qgs"))
    assert [r.get("type") for r in root.iter("rasterrenderer")] == ["singlebandgray"]


# ------------------------------------------------------------------------------------------------------------- STAC
def catalogue(made, **more):
    folder, found, names = made
    rasters = {f"S{n}": {"probability": p / "p.tif", "image": p / "fused.tif"} for n, p in enumerate(names)}
    return write_catalog(folder / "i.gpkg", found, rasters=rasters, **more)


def test_a_catalogue_that_pystac_reads_and_validates(made, monkeypatch):
    folder, found, _ = made
    also = write_also(folder / "i.gpkg", found.landslides, ["geoparquet"])

    def offline(*_, **__):
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    path = catalogue(made, also=also)
    catalog = pystac.Catalog.from_file(str(path / "catalog.json"))
    items = {item.id: item for item in catalog.get_items()}
    assert set(items) == {"i", "S0", "S1"}
    for item in items.values():
        assert item.get_root().id == "i"
        item.validate(validator=offline_validator())
        for asset in item.get_assets().values():
            assert (path / asset.href).resolve().exists(), asset.href
    whole = items["i"]
    assert whole.properties["geocrack:landslides"] == 2
    assert whole.properties["geocrack:searched_km2"] == pytest.approx(60 * 80 * 4 / 1e6)
    assert whole.properties["proj:code"] == "EPSG:32648"
    assert whole.properties["start_datetime"] == "2013-08-12T03:50:21Z"
    assert whole.datetime is None
    assert set(whole.assets) == {"inventory", "parquet"}
    assert sorted(link.href for link in whole.get_links("derived_from")) == ["./S0.json", "./S1.json"]
    scene = items["S1"]
    assert scene.datetime.isoformat() == "2015-08-05T03:47:44+00:00"
    assert scene.properties["platform"] == "gf1"
    assert set(scene.assets) == {"probability", "image", "quality"}
    image = scene.assets["image"].extra_fields
    assert image["proj:shape"] == [60, 80]
    assert image["proj:transform"] == [2, 0, X, 0, -2, Y]
    assert [b["name"] for b in image["bands"]] == ["blue", "green", "red", "nir"]
    footprint = shapely.geometry.shape(scene.geometry)
    assert footprint.exterior.is_ccw
    left, bottom, right, top = gpd.GeoSeries([footprint], crs=4326).to_crs(32648).total_bounds
    assert (left, bottom, right, top) == pytest.approx((X, Y - 120, X + 160, Y), abs=0.1)


@pytest.mark.parametrize(
    ("where", "value"),
    [("geocrack:landslides", -1), ("geocrack:product", "map"), ("proj:code", "32648"), ("proj:epsg", 32648)],
)
def test_our_schemas_refuse_what_is_wrong(made, where, value):
    path = catalogue(made)
    document = json.loads((path / "i.json").read_text())
    document["properties"][where] = value
    with pytest.raises(pystac.errors.STACValidationError):
        pystac.validation.validate_dict(document, validator=offline_validator())


def test_a_catalogue_is_replaced_only_on_demand_and_no_other_folder(made):
    folder, _, _ = made
    path = catalogue(made)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        catalogue(made)
    catalogue(made, overwrite=True)
    for file in path.iterdir():
        file.unlink()
    (path / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="folder of other files"):
        catalogue(made, overwrite=True)
    assert (folder / "i.stac" / "mine.txt").read_text() == "mine"


def test_stac_demands_a_time(tmp_path):
    p = write(tmp_path / "p.tif", np.full(SHAPE, 0.9), ["probability"], PROBABILITY, threshold=0.5)
    with pytest.raises(RasterError, match=r"p does not tell when it was acquired .* go without --stac"):
        write_catalog(tmp_path / "i.gpkg", make_inventory([p]), rasters={})
    assert not (tmp_path / "i.stac").exists()
