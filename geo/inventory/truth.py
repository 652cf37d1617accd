"""What is taken for true: landslides of a vector file or of a raster, mended and brought to one CRS."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from pyproj.exceptions import ProjError
from rasterio.features import rasterize
from rasterio.windows import Window

from geo.errors import LabelError, RasterError, unknown_name
from geo.geobox import GeoBox
from geo.inventory.geopackage import LANDSLIDES, polygon_layers, read_layer
from geo.mosaic import Placed, place
from geo.raster import geobox_of, open_raster
from geo.windows import slices

log = logging.getLogger(__name__)

#: Two polygons that share more than this of what they cover together are one landslide, drawn or saved twice.
COPY_IOU = 0.99
_RASTERS = {".tif", ".tiff", ".vrt", ".img", ".png", ".jp2"}


@dataclass(frozen=True)
class Polygons:
    """Valid polygons in one CRS, and what had to be done to them.

    Attributes
    ----------
    geometry : ndarray of shapely geometries
        Polygons and MultiPolygons, one per feature.
    features : int
        Features that the file holds.
    repaired : int
        Those that were not valid.
    dropped : int
        Those that have no area: empty, points, lines, and what is no plane polygon (TIN, polyhedral surface).
    copies : int
        Those that another one before them draws already; they are left out.
    multi : int
        Those of several parts; one of them stays one landslide, as it was drawn.
    crs : str
        Of the file.
    """

    geometry: np.ndarray
    features: int
    repaired: int
    dropped: int
    copies: int
    multi: int
    crs: str


def read_polygons(path: str | os.PathLike, crs: object, *, layer: str | None = None) -> Polygons:
    """Read polygons of any vector file, valid and in a CRS.

    Parameters
    ----------
    path : path
        Where it has several layers of polygons, the one named ``landslides`` is taken.
    crs : CRS
        Anything that pyproj understands.
    layer : str, optional
        Layer to read.

    Raises
    ------
    RasterError
        The file cannot be read.
    LabelError
        It has no CRS, no polygons, no such layer, or several of which none is named ``landslides``.
    """
    file = Path(path)
    names = polygon_layers(file)
    if not names:
        raise LabelError(f"{file} has no layer of polygons; expected landslides drawn as polygons")
    if layer is not None and layer not in names:
        raise LabelError(f"{file}: {unknown_name('layer', layer, names)}")
    if layer is None and len(names) > 1 and LANDSLIDES not in names:
        raise LabelError(
            f"{file} has the layers {', '.join(names)}; expected one, or one named '{LANDSLIDES}': "
            "save the right one in a file of its own"
        )
    chosen = layer or (LANDSLIDES if LANDSLIDES in names else names[0])
    frame = read_layer(file, chosen, columns=[])
    if frame.crs is None:
        raise LabelError(f"{file} has no CRS, so nobody knows where its polygons lie; set the CRS in QGIS and save it")
    geometry, repaired, dropped = mended(np.asarray(frame.geometry))
    if repaired:
        log.info("%s: %d of %d geometries were not valid and are repaired", file, repaired, len(frame))
    target = pyproj.CRS.from_user_input(crs)
    if frame.crs != target:
        try:
            moved = np.asarray(gpd.GeoSeries(geometry, crs=frame.crs).to_crs(target))
        except ProjError as error:
            raise LabelError(f"{file} cannot be brought from {frame.crs.name} to {target.name} ({error})") from error
        geometry, again, lost = mended(moved)
        if lost:
            raise LabelError(
                f"{file} has {lost} polygons that do not exist in {target.name}; give the truth of this place"
            )
        repaired += again
    geometry, copies = without_copies(geometry, file)
    return Polygons(geometry, len(frame), repaired, dropped, copies, in_parts(geometry), frame.crs.to_string())


def mended(geometry: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Make geometries valid polygons; tell how many were not valid and how many have no area.

    Parameters
    ----------
    geometry : ndarray of shapely geometries
        None is allowed.

    Returns
    -------
    geometry : ndarray
        Polygons and MultiPolygons.
    repaired : int
    dropped : int
        Left out.
    """
    flat = shapely.force_2d(geometry)
    empty = shapely.is_missing(flat) | shapely.is_empty(flat)
    coordinates, owner = shapely.get_coordinates(flat, return_index=True)
    empty[owner[~np.isfinite(coordinates).all(axis=1)]] = True  # beyond what a projection can hold
    broken = ~empty & ~shapely.is_valid(flat)
    flat[broken] = shapely.make_valid(flat[broken], method="structure", keep_collapsed=False)
    flat = polygonal(flat[~empty])
    kept = shapely.area(flat) > 0
    return flat[kept], int(broken.sum()), int(empty.sum() + (~kept).sum())


def without_copies(geometry: np.ndarray, source: object) -> tuple[np.ndarray, int]:
    """Leave out polygons that one before them draws already: the same landslide would count twice.

    Parameters
    ----------
    geometry : ndarray of valid polygons
    source : object
        What is told to hold the copies, such as a path.

    Returns
    -------
    geometry : ndarray
    copies : int
        Left out: their IoU with one that is kept is above ``COPY_IOU``.
    """
    area = shapely.area(geometry)
    first, second = shapely.STRtree(geometry).query(geometry)
    smaller, larger = np.minimum(area[first], area[second]), np.maximum(area[first], area[second])
    alike = (first < second) & (smaller > COPY_IOU * larger)
    first, second = first[alike], second[alike]
    shared = shapely.area(shapely.intersection(geometry[first], geometry[second]))
    same = shared > COPY_IOU * (area[first] + area[second] - shared)
    kept = np.ones(len(geometry), bool)
    for one, other in sorted(zip(first[same].tolist(), second[same].tolist(), strict=True)):
        kept[other] &= not kept[one]
    copies = int((~kept).sum())
    if copies:
        log.warning("%s: %d of %d polygons are copies of others and are left out", source, copies, len(geometry))
    return geometry[kept], copies


def in_parts(geometry: np.ndarray) -> int:
    """Count the geometries of several parts."""
    return int((shapely.get_num_geometries(geometry) > 1).sum()) if len(geometry) else 0


def polygonal(geometry: np.ndarray) -> np.ndarray:
    """Polygons of geometries without their points and lines, as an array of objects."""
    return np.array([*map(_polygonal, geometry), None], dtype=object)[:-1]


def _polygonal(geometry: shapely.Geometry) -> shapely.Geometry:
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


class Drawn:
    """Polygons burnt window by window into a grid: a pixel is inside where its centre is.

    Parameters
    ----------
    geometry : ndarray of shapely geometries
        In the CRS of the grid.
    grid : GeoBox
    """

    def __init__(self, geometry: np.ndarray, grid: GeoBox):
        self._grid, self._geometry = grid, geometry
        self._tree = shapely.STRtree(geometry)

    def read(self, window: Window) -> np.ndarray:
        """Burn a window: True inside the polygons, shape (height, width) of the window."""
        here = self._grid[slices(window)]
        touched = self._tree.query(shapely.box(*here.extent.boundingbox.bbox))
        if not len(touched):
            return np.zeros(here.shape, bool)
        return rasterize(self._geometry[np.sort(touched)], here.shape, transform=here.affine, dtype="uint8").view(bool)


class Marked:
    """Landslides marked in a raster, read on the pixels of a grid; made by ``open_marked``.

    Attributes
    ----------
    bounds : sequence of float
        Left, bottom, right, top of the raster in the CRS of the grid.
    """

    def __init__(self, placed: Placed, path: Path, bounds: Sequence[float], footprint: Drawn | None):
        self._placed, self._path, self._footprint = placed, path, footprint
        self.bounds = bounds
        self._values: set[float] = set()

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Landslide and known ground of a window.

        Returns
        -------
        landslide, known : ndarray of bool, shape (height, width)
        """
        values, valid = self._placed.read(window, bands=[1])
        found = set(np.unique(values[0][valid]).tolist())
        if not found <= {0, 1, 255} or {1, 255} <= (self._values | found):
            shown = ", ".join(f"{v:g}" for v in sorted(self._values | found)[:8])
            raise LabelError(
                f"{self._path} holds the values {shown}; expected 0 for ground and 1 or 255 for landslide "
                "(a value for unknown ground must be the file's nodata)"
            )
        self._values |= found
        known = valid if self._footprint is None else self._footprint.read(window)
        return valid & (values[0] > 0), known


@contextmanager
def open_marked(path: str | os.PathLike, grid: GeoBox) -> Iterator[Marked]:
    """Open a raster of true landslides: 0 is ground, 1 or 255 landslide, nodata not known.

    Where 0 itself is marked as nodata, as drawing programs do, it is ground.

    Raises
    ------
    RasterError
        The raster cannot be read or has several bands.
    LabelError
        It has no CRS; or, when read, other values.
    """
    file = Path(path)
    with open_raster(file) as src, ExitStack() as stack:
        if src.crs is None:
            raise LabelError(f"{file} has no CRS, so nobody knows where its landslides lie; give it that of its image")
        if src.count != 1:
            raise RasterError(f"{file} has {src.count} bands; expected one band of 0 and 1, or 0 and 255")
        extent = geobox_of(src).extent.to_crs(str(grid.crs))
        footprint = Drawn(np.array([extent.geom], dtype=object), grid) if src.nodata == 0 else None
        yield Marked(place(src, grid, stack), file, extent.boundingbox.bbox, footprint)


def is_raster(path: str | os.PathLike) -> bool:
    """Whether a file is a raster, by its name; a GeoPackage is taken for vectors."""
    return Path(path).suffix.lower() in _RASTERS
