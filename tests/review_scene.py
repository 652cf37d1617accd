"""An inventory of two dates whose layer ``review`` can be edited as a person would."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import inventory
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory
from geo.raster import PROBABILITY, REFLECTANCE

CRS = "EPSG:32648"
X, Y, PIXEL = 402_000.0, 3_456_000.0, 2
SHAPE = (240, 320)
GRID = GeoBox(SHAPE, Affine(PIXEL, 0, X, 0, -PIXEL, Y), CRS)
#: First pixel (row, column) of scars of 30 x 20 pixels in the newer scene, which decides left of column 200.
SCARS = ((20, 20), (20, 80), (20, 140), (100, 20), (100, 80), (100, 140))
#: Of one in the older scene.
OLD = (100, 250)
NEWER, OLDER = "GF1 2015", "GF1 2013"


def box(row, column, height=30, width=20):
    """Outline of some pixels."""
    (left, top), (right, bottom) = (GRID.affine @ p for p in ((column, row), (column + width, row + height)))
    return shapely.box(left, bottom, right, top)


def write(path, values, bands, encoding, **tags):
    with GeoTiffWriter(path, GRID, bands, encoding, tags=tags) as dst:
        dst.write(np.asarray(values, np.float32), Window(0, 0, *SHAPE[::-1]))
    return path


def image(path, scene=NEWER):
    """Reflectance: scars bright in all of the newer scene's places, a river bar that looks alike."""
    random = np.random.default_rng(3)
    values = np.array([0.05, 0.08, 0.06, 0.3])[:, None, None] * (1 + 0.1 * random.standard_normal(SHAPE))
    for row, column in SCARS:
        values[:, row : row + 30, column : column + 20] = np.array([0.13, 0.17, 0.2, 0.25])[:, None, None]
    tags = {"GEOCRACK_SCENE": scene} if scene else {}
    return write(path, values, ["blue", "green", "red", "nir"], REFLECTANCE, **tags)


def make(folder, name="inventory.gpkg"):
    """Write the inventory."""
    older, newer = np.full((2, *SHAPE), 0.1)
    for number, (row, column) in enumerate(SCARS):
        newer[row : row + 30, column : column + 20] = 0.9 - 0.05 * number
    older[OLD[0] : OLD[0] + 30, OLD[1] : OLD[1] + 20] = 0.9
    newer[:, 200:] = np.nan
    paths = [
        write(
            folder / f"p{year}.tif", values, ["probability"], PROBABILITY,
            GEOCRACK_SCENE=scene, GEOCRACK_ACQUIRED=f"{year}-08-05T03:50:00+00:00", GEOCRACK_THRESHOLD="0.5",
        )
        for year, scene, values in ((2013, OLDER, older), (2015, NEWER, newer))
    ]  # fmt: skip
    inventory.write(folder / name, make_inventory(paths), overwrite=True)
    return folder / name


class Edited:
    """The layer ``review`` of an inventory in the hands of a person."""

    def __init__(self, path):
        self.path = path
        self.frame = gpd.read_file(path, layer="review")
        self.frame = self.frame.astype(dict.fromkeys(("id", "status", "scene", "note", "reviewer"), object))

    def at(self, row, column):
        """Row of the table whose polygon covers a pixel."""
        point = shapely.Point(GRID.affine @ (column + 0.5, row + 0.5))
        return int(np.flatnonzero(self.frame.geometry.contains(point))[0])

    def judge(self, number, status, geometry=None, **more):
        """Set the status of the scar of a number in ``SCARS``, and perhaps its outline."""
        place = self.at(*SCARS[number])
        self.frame.loc[place, "status"] = status
        for name, value in more.items():
            self.frame.loc[place, name] = value
        if geometry is not None:
            self.frame.loc[place, "geometry"] = shapely.MultiPolygon([geometry])
        return self

    def draw(self, geometry, **columns):
        """Add a polygon without an identifier."""
        row = gpd.GeoDataFrame([columns], geometry=[shapely.MultiPolygon([geometry])], crs=self.frame.crs)
        self.frame = pd.concat(
            [self.frame, row.astype(object).set_geometry("geometry", crs=row.crs)], ignore_index=True
        )
        return self

    def delete(self, number):
        self.frame = self.frame.drop(index=self.at(*SCARS[number])).reset_index(drop=True)
        return self

    def save(self, crs=None):
        frame = self.frame if crs is None else self.frame.to_crs(crs)
        pyogrio.write_dataframe(frame, self.path, layer="review", driver="GPKG")
        return self.path
