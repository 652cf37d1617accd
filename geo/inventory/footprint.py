"""Outlines of whole rasters, from a coarse look at where they have data."""

from __future__ import annotations

import os

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.warp import transform_geom

from geo.geobox import GeoBox
from geo.raster import open_raster
from geo.vectorize import polygonize

#: Pixels of the longer side of the coarse look.
_LONGEST = 1000


def footprint(path: str | os.PathLike, grid: GeoBox) -> shapely.MultiPolygon:
    """Outline of a raster in the CRS of a grid; holes are filled, and it is true to 1/300 of its size.

    Parameters
    ----------
    path : path
        A raster with a CRS.
    grid : GeoBox

    Returns
    -------
    shapely.MultiPolygon
        Empty where the raster has no data at all.
    """
    if grid.crs is None:
        raise ValueError("the grid has no CRS")
    wkt = grid.crs.to_wkt()
    with open_raster(path) as src:
        factor = max(1.0, max(src.shape) / _LONGEST)
        shape = tuple(max(1, round(side / factor)) for side in src.shape)
        valid = _valid(src, shape)
        transform = src.transform @ Affine.scale(src.width / shape[1], src.height / shape[0])
        found = polygonize(valid, transform).geometry
        parts = shapely.get_parts(found)
        outline = shapely.union_all(shapely.polygons(shapely.get_exterior_ring(parts)))
        outline = shapely.simplify(outline, 1.5 * factor * np.sqrt(abs(src.transform.determinant)))  # a slanted edge
        if src.crs != rasterio.crs.CRS.from_wkt(wkt) and not outline.is_empty:
            outline = shapely.geometry.shape(
                transform_geom(src.crs, wkt, shapely.segmentize(outline, factor * 10 * abs(transform.a)))
            )
    return shapely.multipolygons(shapely.get_parts(outline)) if not outline.is_empty else shapely.MultiPolygon()


def _valid(src: rasterio.DatasetReader, shape: tuple[int, ...]) -> np.ndarray:
    """Where a coarse look at the first band finds data."""
    if {MaskFlags.all_valid} == set(src.mask_flag_enums[0]):
        values = src.read(1, out_shape=shape)
        return np.isfinite(values) if np.issubdtype(values.dtype, np.floating) else np.ones(shape, bool)
    return src.read_masks(1, out_shape=shape) > 0
