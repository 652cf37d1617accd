"""A small map with two landslides, to be scored."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from shapely import box

from geo import inventory
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory
from geo.raster import PROBABILITY

X, Y = 402_000.0, 3_456_000.0
SHAPE = (50, 70)
GRID = GeoBox(SHAPE, Affine(2, 0, X, 0, -2, Y), "EPSG:32648")


def rectangle(row, column, height, width):
    """Polygon of pixels."""
    return box(X + 2 * column, Y - 2 * (row + height), X + 2 * (column + width), Y - 2 * row)


def write(path, values, bands=("probability",), encoding=PROBABILITY, grid=GRID, **tags):
    values = np.asarray(values, np.float32)
    with GeoTiffWriter(path, grid, bands, encoding, cog=False, tags=tags) as dst:
        dst.write(values, Window(0, 0, *grid.shape[::-1]))
    return path


def vector(path, polygons, crs="EPSG:32648", layer="landslides"):
    gpd.GeoDataFrame(geometry=list(polygons), crs=crs).to_file(path, layer=layer, driver="GPKG")
    return path


def write_inventory(folder):
    """Inventory of two polygons; ten columns on the right were not searched."""
    values = np.full(SHAPE, 0.1)
    values[5:25, 10:20] = 0.9
    values[30:40, 40:50] = 0.8
    values[:, 60:] = np.nan
    write(folder / "p.tif", values, GEOCRACK_SCENE="S", GEOCRACK_THRESHOLD="0.5")
    inventory.write(folder / "i.gpkg", make_inventory([folder / "p.tif"], min_area_m2=100))
    return folder / "i.gpkg"
