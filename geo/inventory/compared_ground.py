"""Where an inventory and the truth can be compared: ground that was searched, and of which the truth is known.

Pixels are confined to it window by window; objects of both sides are cut by the same ground, also where a raster
tells it (its extent and nodata), so that neither is missed or a false alarm where nobody looked at the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from rasterio.windows import Window

from geo.errors import GridError
from geo.geobox import GeoBox
from geo.inventory import geopackage, truth
from geo.mosaic import Placed
from geo.raster import crs_name
from geo.vectorize import Polygonizer, measure


class Ground:
    """Ground that was searched, and is asked for."""

    def __init__(
        self,
        found: geopackage.Inventory,
        inventory: str | os.PathLike,
        area: str | os.PathLike | None,
        probability: Placed | None,
        grid: GeoBox,
        *,
        marked: bool,
    ):
        kept: list[np.ndarray] = []
        if found.searched is not None:
            kept.append(truth.mended(np.asarray(in_crs(found.searched, grid).geometry))[0])
        if area is not None:
            kept.append(truth.read_polygons(area, grid.crs).geometry)
        self._probability = None if found.searched is not None else probability
        if not kept and self._probability is None:
            raise GridError(
                f"{inventory} does not tell where landslides were searched (it has no layer 'searched'); "
                "give --area with polygons of that ground, or --probability"
            )
        self._drawn = [truth.Drawn(polygons, grid) for polygons in kept]
        self.polygons = [shapely.union_all(polygons) for polygons in kept]
        self._shown = Polygonizer(grid.shape[1], grid.affine) if self._probability is not None or marked else None
        if area is not None and found.searched is not None and not shapely.intersects(*self.polygons):
            searched, asked = (shapely.bounds(polygons) for polygons in self.polygons)
            raise GridError(
                f"{area} lies elsewhere: its extent is {_extent(asked)} and that of the ground searched in {inventory} "
                f"{_extent(searched)}, both in {crs_name(grid.crs)}; give an --area of this place"
            )
        for polygons in self.polygons:
            shapely.prepare(polygons)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Give the ground of a window that was searched, and what of the window the rasters that tell it show."""
        shown = np.ones((window.height, window.width), bool)
        if self._probability is not None:
            shown &= self._probability.read(window, bands=[1])[1]
        seen = shown.copy()
        for drawn in self._drawn:
            seen &= drawn.read(window)
        return seen, shown

    def add(self, shown: np.ndarray) -> None:
        """Note what rasters show of the next window, so that objects are cut by it as pixels are."""
        if self._shown is not None:
            self._shown.add(measure(shown))

    def close(self) -> None:
        """Take the ground that rasters show for polygons too, after the last window."""
        if self._shown is None:
            return
        regions = self._shown.finish().geometry
        # its parts touch in points at most, so no union is needed
        self.polygons.append(shapely.multipolygons(shapely.get_parts(regions)))
        shapely.prepare(self.polygons[-1])

    def cut(self, geometry: np.ndarray, smallest_m2: float) -> np.ndarray:
        """Polygons inside this ground; what is left of them with less than a pixel is dropped."""
        for ground in self.polygons:
            partly = ~shapely.covers(ground, geometry)
            geometry = geometry.copy()
            geometry[partly] = truth.polygonal(shapely.intersection(geometry[partly], ground))
            geometry = geometry[~partly | (shapely.area(geometry) >= smallest_m2)]
        return geometry

    @property
    def border(self) -> shapely.Geometry | None:
        """Edge of the searched ground, prepared for questions of nearness; None where only a raster tells it."""
        if not self.polygons:
            return None
        border = shapely.boundary(shapely.intersection_all(self.polygons))
        shapely.prepare(border)
        return border

    @property
    def bounds(self) -> np.ndarray | None:
        """Bounds of the polygons of this ground; None where only a raster tells it."""
        return shapely.bounds(shapely.intersection_all(self.polygons)) if self.polygons else None


class Reference:
    """The truth, of a vector file or a raster, window by window and as objects."""

    def __init__(self, path: Path, grid: GeoBox, stack: ExitStack):
        self.path, self._grid = path, grid
        self._marked: truth.Marked | None = None
        if truth.is_raster(path):
            self._marked = stack.enter_context(truth.open_marked(path, grid))
            self._polygonizer = Polygonizer(grid.shape[1], grid.affine, connectivity=8)
        else:
            self._polygons = truth.read_polygons(path, grid.crs)
            self._drawn = truth.Drawn(self._polygons.geometry, grid)
        self._objects: np.ndarray | None = None

    def check_place(self, ground: Ground) -> None:
        """Raise ``GridError`` where no true landslide of a vector file lies on the ground."""
        if self._marked is not None or not len(self._polygons.geometry):
            return
        if not all(shapely.intersects(p, self._polygons.geometry).any() for p in ground.polygons):
            raise self.elsewhere(ground)

    def elsewhere(self, ground: Ground) -> GridError:
        bounds = shapely.total_bounds(self._polygons.geometry) if self._marked is None else self._marked.bounds
        where = ground.bounds
        searched = self._grid.extent.boundingbox.bbox if where is None else where
        return GridError(
            f"{self.path} lies elsewhere: its extent is {_extent(bounds)} and that of the searched ground "
            f"{_extent(searched)}, both in {crs_name(self._grid.crs)}; give the truth of this place"
        )

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Landslides of a window, and the ground of which the truth is known."""
        if self._marked is None:
            return self._drawn.read(window), np.ones((window.height, window.width), bool)
        return self._marked.read(window)

    def add(self, landslide: np.ndarray) -> None:
        """Note the landslides on searched ground of the next window, of which a raster's objects are made."""
        if self._marked is not None:
            self._polygonizer.add(measure(landslide))

    def objects(self) -> np.ndarray:
        """Give the true landslides; of a raster, regions joined by edges or corners."""
        if self._marked is None:
            return self._polygons.geometry
        if self._objects is None:
            self._objects = self._polygonizer.finish().geometry
        return self._objects

    def facts(self) -> dict[str, Any]:
        if self._marked is not None:
            return {"path": str(self.path), "kind": "raster", "objects": len(self.objects())}
        p = self._polygons
        return {
            "path": str(self.path),
            "kind": "vector",
            "features": p.features,
            "repaired": p.repaired,
            "dropped": p.dropped,
            "copies": p.copies,
            "multi": p.multi,
            "crs": p.crs,
        }


def in_crs(frame: gpd.GeoDataFrame, grid: GeoBox) -> gpd.GeoDataFrame:
    """Bring a layer to the CRS of a grid."""
    target = pyproj.CRS.from_user_input(grid.crs)
    return frame if frame.crs == target else frame.to_crs(target)


def _extent(bounds: Iterable[float]) -> str:
    left, bottom, right, top = bounds
    return f"{left:.0f} {bottom:.0f} {right:.0f} {top:.0f}"
