"""The inventory in real QGIS: it opens styled, and the map shows polygons where they are."""

from __future__ import annotations

import json
import os
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
from geo.raster import PROBABILITY, REFLECTANCE

HERE = Path(__file__).parent
PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "GDAL_", "PROJ_"))}
X, Y = 402_000.0, 3_456_000.0
SHAPE = (180, 240)
GRID = GeoBox(SHAPE, Affine(2, 0, X, 0, -2, Y), "EPSG:32648")


def has_qgis() -> bool:
    try:
        done = subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True, env=ENVIRONMENT, timeout=60)
    except OSError:
        return False
    return done.returncode == 0


pytestmark = pytest.mark.skipif(
    not has_qgis(), reason=f"{PYTHON} has no QGIS (Debian: apt-get install qgis python3-qgis, or set QGIS_PYTHON)"
)


def write(path, values, bands, encoding, **tags):
    with GeoTiffWriter(path, GRID, bands, encoding, tags=tags) as dst:
        dst.write(np.asarray(values, np.float32), Window(0, 0, *SHAPE[::-1]))
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Forest with three scars of different probability, and a corner that was not searched."""
    folder = tmp_path_factory.mktemp("qgis")
    random = np.random.default_rng(7)
    texture = 1 + 0.1 * random.standard_normal(SHAPE)
    forest = np.array([0.05, 0.09, 0.05, 0.35])[:, None, None] * texture
    image = forest.copy()
    probability = np.full(SHAPE, 0.1)
    for (row, column), value in (((30, 30), 0.6), ((30, 100), 0.8), ((30, 170), 0.95)):
        scar = np.s_[row : row + 110, column : column + 40]
        image[:, *scar] = np.array([0.14, 0.17, 0.2, 0.24])[:, None, None] * texture[scar]
        probability[scar] = value
        island = np.s_[row + 40 : row + 60, column + 10 : column + 25]
        image[:, *island], probability[island] = forest[:, *island], 0.1
    probability[-20:, :40] = np.nan
    fused = write(folder / "fused.tif", image, ["blue", "green", "red", "nir"], REFLECTANCE)
    p = write(folder / "p.tif", probability, ["probability"], PROBABILITY, GEOCRACK_SCENE="S", GEOCRACK_THRESHOLD="0.5")
    inventory.write(folder / "inventory.gpkg", make_inventory([p]))
    return folder / "inventory.gpkg", fused


@pytest.fixture(scope="module")
def drawn(scene, tmp_path_factory):
    picture = tmp_path_factory.mktemp("map") / "map.png"
    command = [PYTHON, str(HERE / "render.py"), *map(str, scene), str(picture), "--longest", "960"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    with rasterio.open(picture) as src:
        return json.loads(done.stdout), src.read([1, 2, 3]).astype(int)


def colour(drawn, row, column):
    """Mean colour on the map around the middle of a pixel of the grid."""
    facts, picture = drawn
    left, bottom, right, top = facts["extent"]
    width, height = facts["picture"]
    x, y = GRID.affine @ (column + 0.5, row + 0.5)
    i, j = round((top - y) / (top - bottom) * height), round((x - left) / (right - left) * width)
    return picture[:, i - 3 : i + 4, j - 3 : j + 4].mean(axis=(1, 2))


def test_layers_open_with_the_styles_inside(drawn):
    layers = drawn[0]["layers"]
    assert layers["landslides"]["renderer"] == "graduatedSymbol"  # QGIS itself would take singleSymbol
    assert layers["landslides"]["default_style"] is True
    assert layers["searched"]["default_style"] is True
    assert layers["landslides"]["crs"] == "EPSG:32648"
    assert layers["landslides"]["features"] == 3
    titles = layers["landslides"]["titles"]
    assert {a.name for a in schema.layers()["landslides"].attributes} < set(titles)
    assert titles["mean_probability"] == "Mean probability"
    assert titles["area_m2"] == "Area (m2)"


def test_map_shows_polygons_where_they_are(drawn):
    forest = colour(drawn, 10, 10)
    for column in (35, 105, 175):
        red, green, blue = colour(drawn, 120, column + 15)
        assert red > max(green, blue) + 20, "a fill of yellow to red over bare ground"
        assert red > forest[0] + 60
        island = colour(drawn, 80, column + 12)
        assert np.abs(island - colour(drawn, 80, 5)).max() < 80, "holes are not filled"
    # the more probable, the redder
    greens = [colour(drawn, 120, column)[1] for column in (50, 120, 190)]
    assert greens[0] > greens[1] > greens[2]


def test_outlines_stand_out(drawn):
    facts, picture = drawn
    outline = np.array([230, 20, 30])[:, None, None]
    near = (np.abs(picture - outline) < 30).all(axis=0)
    rows, columns = np.nonzero(near)
    left, _, right, top = facts["extent"]
    metres = (right - left) / facts["picture"][0]
    x, y = left + (columns + 0.5) * metres, top - (rows + 0.5) * metres
    assert len(rows) > 500
    # all of them on the border of the third scar, or of the hole in it
    column, row = (x - X) / 2, (Y - y) / 2
    assert column.min() == pytest.approx(170, abs=2)
    assert column.max() == pytest.approx(210, abs=2)
    assert row.min() == pytest.approx(30, abs=2)
    assert row.max() == pytest.approx(140, abs=2)


def test_the_edge_of_searched_ground_is_drawn(drawn):
    picture = drawn[1]
    blue = (np.abs(picture - np.array([70, 200, 255])[:, None, None]) < 40).all(axis=0)
    assert blue.sum() > 200


def test_opening_leaves_the_inventory_as_it_was(scene, drawn):
    assert not list(scene[0].parent.glob("inventory.gpkg-*"))
    assert len(inventory.read(scene[0]).landslides) == 3


def test_what_cannot_be_opened_is_told(scene, tmp_path):
    command = [PYTHON, str(HERE / "render.py"), str(scene[0]), str(tmp_path / "none.tif"), str(tmp_path / "map.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 2
    assert "none.tif is no raster that QGIS can open" in done.stderr


def test_check_of_a_run(scene, tmp_path):
    check = str(HERE / "check.sh")
    done = subprocess.run([check, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "inventory.gpkg; make it with: make inventory" in done.stderr
    (tmp_path / "scenes" / "one").mkdir(parents=True)
    (tmp_path / "inventory.gpkg").write_bytes(scene[0].read_bytes())
    (tmp_path / "scenes" / "one" / "fused.tif").write_bytes(scene[1].read_bytes())
    done = subprocess.run([check, str(tmp_path)], capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "qgis.png").stat().st_size > 10_000
