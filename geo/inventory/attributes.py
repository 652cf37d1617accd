"""What is known of each polygon: columns of the layers from regions and views."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geo.inventory.schema import layers
from geo.mosaic import View
from geo.vectorize import Regions

#: Decimals of probabilities in the attributes: rounding in float32 begins at the seventh.
_DECIMALS = 4


def pixel_area(grid: GeoBox) -> float:
    """Area of a pixel in square units of the CRS (m2 in UTM)."""
    return abs(grid.affine.determinant)


def landslides(
    regions: Regions, views: Sequence[View], thresholds: Sequence[float], grid: GeoBox, *, version: str
) -> gpd.GeoDataFrame:
    """Layer ``landslides`` of an inventory.

    Parameters
    ----------
    regions : Regions
        Their ``source`` is the number of a view.
    views : sequence of View
    thresholds : sequence of float
        What was applied to each view.
    grid : GeoBox
        Of the mask the regions come from.
    version : str
        Of the program.

    Returns
    -------
    GeoDataFrame
        With the attributes of ``schema.yaml``.
    """
    seen_by = [views[n] for n in regions.source]
    columns = {
        "id": _identifiers(regions, seen_by, grid),
        "area_m2": regions.pixels * pixel_area(grid),
        "perimeter_m": np.round(shapely.length(regions.geometry), 3),
        "mean_probability": np.round(regions.mean, _DECIMALS),
        "max_probability": np.round(regions.highest, _DECIMALS),
        "scene": [v.scene for v in seen_by],
        "sensor": [v.sensor for v in seen_by],
        "acquired": [v.acquired for v in seen_by],
        "model": [v.model for v in seen_by],
        "threshold": [thresholds[n] for n in regions.source],
        "version": [version] * len(regions),
    }
    return layers()["landslides"].frame(columns, regions.geometry, grid.crs)


def searched(
    ground: Mapping[int, Regions], views: Sequence[View], thresholds: Sequence[float], grid: GeoBox
) -> gpd.GeoDataFrame:
    """Layer ``searched`` of an inventory: one feature per view that decides somewhere.

    Parameters
    ----------
    ground : mapping of int to Regions
        Where each view decides, by the view's number.
    views, thresholds, grid
        As of ``landslides``.

    Returns
    -------
    GeoDataFrame
    """
    found = {n: r for n, r in ground.items() if len(r)}
    used = [views[n] for n in found]
    # regions of one mask touch in points at most, so together they are one valid multipolygon
    geometry = np.array([shapely.multipolygons(shapely.get_parts(r.geometry)) for r in found.values()], dtype=object)
    columns = {
        "scene": [v.scene for v in used],
        "sensor": [v.sensor for v in used],
        "acquired": [v.acquired for v in used],
        "view_zenith": [np.nan if v.view_zenith is None else v.view_zenith for v in used],
        "model": [v.model for v in used],
        "threshold": [thresholds[n] for n in found],
        "area_km2": [int(r.pixels.sum()) * pixel_area(grid) / 1e6 for r in found.values()],
    }
    return layers()["searched"].frame(columns, geometry, grid.crs)


def _identifiers(regions: Regions, seen_by: Sequence[View], grid: GeoBox) -> list[str]:
    """Names that depend on the CRS, the scene and the place of the first pixel alone."""
    t, (row, column) = grid.affine, regions.first.T + 0.5
    x, y = t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f
    crs = str(grid.crs)
    return [
        hashlib.blake2s(f"{crs} {view.scene} {east:.2f} {north:.2f}".encode(), digest_size=8).hexdigest()
        for view, east, north in zip(seen_by, x, y, strict=True)
    ]
