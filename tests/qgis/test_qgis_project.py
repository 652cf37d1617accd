"""The QGIS project in real QGIS: its layers open with their styles, and review has a form to fill in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import inventory
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory, schema
from geo.inventory.ground.evidence import Sources
from geo.inventory.outputs.project import write_project
from geo.inventory.review import STATUSES
from geo.raster import PROBABILITY, REFLECTANCE

HERE = Path(__file__).parent
PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "GDAL_", "PROJ_"))}
GRID = GeoBox((120, 160), Affine(2, 0, 402_000, 0, -2, 3_456_000), "EPSG:32648")


def has_qgis() -> bool:
    try:
        done = subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True, env=ENVIRONMENT, timeout=60)
    except OSError:
        return False
    return done.returncode == 0


pytestmark = pytest.mark.skipif(
    not has_qgis(), reason=f"{PYTHON} has no QGIS (Debian: apt-get install qgis python3-qgis, or set QGIS_PYTHON)"
)


def write(path, values, bands, encoding):
    tags = {"GEOCRACK_SCENE": "S", "GEOCRACK_THRESHOLD": "0.5"}
    path.parent.mkdir(exist_ok=True)
    with GeoTiffWriter(path, GRID, bands, encoding, tags=tags) as dst:
        dst.write(np.asarray(values, np.float32), Window(0, 0, 160, 120))
    return path


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A project that was moved with all its files, as QGIS sees it."""
    folder = tmp_path_factory.mktemp("made") / "run"
    folder.mkdir()
    probability = np.full((120, 160), 0.1)
    probability[20:100, 20:60], probability[20:100, 90:110] = 0.95, 0.6
    probability[:, 140:] = np.nan
    image = np.broadcast_to(np.array([0.05, 0.09, 0.05, 0.35])[:, None, None], (4, 120, 160)).copy()
    image[:, probability > 0.5] = np.array([0.14, 0.17, 0.2, 0.24])[:, None]
    image += 0.01 * np.random.default_rng(0).random((1, 120, 160))
    p = write(folder / "scene" / "p.tif", probability, ["probability"], PROBABILITY)
    fused = write(folder / "scene" / "fused.tif", image, ["blue", "green", "red", "nir"], REFLECTANCE)
    found = make_inventory([p], sources=Sources(images=[fused]))
    inventory.write(folder / "i.gpkg", found)
    write_project(folder / "i.gpkg", found.landslides.crs, found.searched.total_bounds, images=[fused])
    moved = tmp_path_factory.mktemp("moved") / "elsewhere"
    shutil.move(folder, moved)
    picture = moved / "map.png"
    command = [PYTHON, str(HERE / "open_project.py"), str(moved / "i.qgz"), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    with rasterio.open(picture) as src:
        return json.loads(done.stdout), src.read([1, 2, 3]).astype(int)


def test_every_layer_is_found_from_where_the_project_lies(opened):
    facts, _ = opened
    assert facts["crs"] == "EPSG:32648"
    assert facts["errors"] == []
    layers = facts["layers"]
    assert list(layers) == ["review", "landslides", "not searched", "searched", "footprints", "S"]
    assert all(layer["valid"] for layer in layers.values())
    assert [name for name, layer in layers.items() if layer["shown"]] == ["landslides", "not searched", "searched", "S"]
    assert layers["landslides"]["features"] == layers["review"]["features"] == 2
    assert layers["not searched"]["features"] == 1
    kinds = {name: layer["renderer"] for name, layer in layers.items()}
    assert kinds == {
        "review": "categorizedSymbol",
        "landslides": "graduatedSymbol",
        "not searched": "categorizedSymbol",
        "searched": "singleSymbol",
        "footprints": "singleSymbol",
        "S": "multibandcolor",
    }


def test_review_is_a_form_with_a_list_of_values(opened):
    review = opened[0]["layers"]["review"]
    assert review["widgets"]["status"] == "ValueMap"
    assert [next(iter(v.values())) for v in review["status"]["map"]] == list(STATUSES)
    assert review["widgets"]["reviewed"] == "DateTime"
    assert "look_first" in review["read_only"]
    assert "status" not in review["read_only"]
    titles = {a.name: a.title for a in schema.layers()["review"].attributes}
    assert review["titles"]["status"] == titles["status"]


def test_the_map_shows_image_and_polygons(opened):
    picture = opened[1]
    height, width = picture.shape[1:]
    # the more probable landslide is redder than the other; forest is green
    sure, unsure, forest = (
        picture[:, height // 2 - 5 : height // 2 + 5, round(x * width) - 5 : round(x * width) + 5].mean(axis=(1, 2))
        for x in (40 / 140, 100 / 140, 75 / 140)
    )
    assert sure[0] > forest[0] + 30
    assert unsure[0] > forest[0] + 30
    assert unsure[1] > sure[1] + 15
