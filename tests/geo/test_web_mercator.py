"""Areas where the metres of the map are not those of the ground: Web Mercator at 31 degrees north shows 1.37 times."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import inventory
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory
from geo.inventory.dated import sized
from geo.inventory.sampling import draw
from geo.inventory.scoring import score
from geo.inventory.shape import areal_scale
from geo.raster import PROBABILITY

X, Y = 11_600_000.0, 3_630_000.0
SHAPE = (120, 160)
GRID = GeoBox(SHAPE, Affine(2, 0, X, 0, -2, Y), "EPSG:3857")
#: Square metres of ground in one of the map, by following the grid's edges on the ellipsoid.
TRUE = abs(
    pyproj.Geod(ellps="WGS84").geometry_area_perimeter(
        shapely.transform(
            shapely.box(X, Y - 240, X + 320, Y),
            lambda xy: np.column_stack(pyproj.Transformer.from_crs(3857, 4326, always_xy=True).transform(*xy.T)),
        )
    )[0]
) / (240 * 320)


def rectangle(row, column, height, width):
    return shapely.box(X + 2 * column, Y - 2 * (row + height), X + 2 * (column + width), Y - 2 * row)


@pytest.fixture
def mapped(tmp_path):
    values = np.full(SHAPE, 0.1, np.float32)
    values[20:50, 20:60] = 0.9
    values[80:88, 100:108] = 0.9  # 256 m2 of the map, 187 m2 of ground
    with GeoTiffWriter(tmp_path / "p.tif", GRID, ["probability"], PROBABILITY) as dst:
        dst.write(values, Window(0, 0, *SHAPE[::-1]))
    return tmp_path / "p.tif"


def test_scale_of_a_map():
    assert pytest.approx(0.733, abs=0.001) == TRUE
    assert areal_scale(GRID) == pytest.approx(TRUE, rel=1e-4)
    assert areal_scale(GeoBox(SHAPE, Affine(2, 0, 402_000, 0, -2, 3_456_000), "EPSG:32648")) == 1
    # the edge of a UTM zone: 0.2 % are left as they are
    assert areal_scale(GeoBox(SHAPE, Affine(2, 0, 833_000, 0, -2, 1000), "EPSG:32648")) == 1
    far = GeoBox(SHAPE, Affine(2, 0, 0, 0, -2, 8_399_737.9), "EPSG:3857")  # 60 degrees
    assert areal_scale(far) == pytest.approx(0.25, abs=0.003)


def test_areas_are_those_of_the_ground(mapped, tmp_path, caplog):
    found = make_inventory([mapped], threshold=0.5, min_area_m2=200)
    (scar,) = found.landslides.itertuples()  # the other is smaller than 200 m2 on the ground
    assert scar.area_m2 == pytest.approx(scar.area_ellipsoid_m2, rel=1e-4)
    assert scar.area_m2 == pytest.approx(TRUE * scar.geometry.area, rel=1e-3)
    whole = TRUE * 4 * SHAPE[0] * SHAPE[1] / 1e6
    assert sum(found.searched_km2.values()) == pytest.approx(whole, rel=1e-3)
    assert found.footprints["area_km2"].sum() == pytest.approx(whole, rel=1e-3)
    assert "a square metre is 0.733 m2 on the ground" in caplog.text
    inventory.write(tmp_path / "i.gpkg", found)
    areas, _, least, searched_km2 = sized(tmp_path / "i.gpkg", layer=None, block_m=500)
    assert areas == pytest.approx([scar.area_ellipsoid_m2], rel=2e-3)  # in UTM
    assert (least, searched_km2) == (200, pytest.approx(whole, rel=1e-3))
    assert draw(tmp_path / "i.gpkg", number=20, seed=0).design.pixel_m2 == pytest.approx(4 * TRUE, rel=1e-3)


def test_scores_are_those_of_the_ground(mapped, tmp_path):
    inventory.write(tmp_path / "i.gpkg", make_inventory([mapped], threshold=0.5))
    true = [rectangle(22, 20, 30, 40), rectangle(80, 100, 8, 8)]
    gpd.GeoDataFrame(geometry=true, crs="EPSG:3857").to_file(tmp_path / "t.gpkg", layer="landslides")
    found = score(tmp_path / "i.gpkg", tmp_path / "t.gpkg")
    assert found["searched_km2"] == pytest.approx(TRUE * 4 * SHAPE[0] * SHAPE[1] / 1e6, rel=1e-3)
    objects = found["objects"]
    assert objects["one_to_one"]["matches"] == 2
    assert objects["one_to_one"]["centroid_distance_m"]["max"] == pytest.approx(4 * np.sqrt(TRUE), rel=0.01)
    assert objects["missed_area"]["missed_m2"] == pytest.approx(TRUE * 2 * 40 * 4, rel=1e-3)
    assert [row["true"] for row in objects["by_size"]][:1] == [1]  # 187 m2
