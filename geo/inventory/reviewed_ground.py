"""Ground that a person looked at in a review, scene by scene.

What is known of one date is not known of another, so each scene has its own ground.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geo.errors import GridError
from geo.image import open_image
from geo.inventory import geopackage
from geo.inventory.shape import widened
from geo.inventory.truth import mended, read_polygons

#: Layer in which a person may draw ground that was searched by eye as a whole.
AREA = "reviewed_area"
_QUADRANT = 4  # segments of a quarter circle around corners
#: Reach in metres of the only scene of an inventory that does not tell its searched ground.
_ANYWHERE = 1e5


def grounds(
    path: Path, mapped: gpd.GeoDataFrame, searched: gpd.GeoDataFrame | None, images: Sequence[str | os.PathLike]
) -> dict[str, shapely.Geometry]:
    """Ground of each scene of an inventory; no two overlap where it tells its searched ground.

    Parameters
    ----------
    path : path
        The inventory, for messages.
    mapped : GeoDataFrame
        Its landslides.
    searched : GeoDataFrame or None
        In the same CRS.
    images : sequence of path
        Images that were looked at.

    Raises
    ------
    GridError
        An image is of another scene, or it is not clear which scene was looked at.
    """
    outlines: dict[str, shapely.Geometry] = {}
    tagged = set()
    for file in images:
        with open_image(file) as image:
            if image.geobox.crs is None:
                raise GridError(f"{file} has no CRS; expected the image that the inventory was made of")
            outlines[image.name] = image.geobox.extent.to_crs(mapped.crs.to_wkt()).geom
            tagged |= {image.name} if "GEOCRACK_SCENE" in image.tags else set()
    if searched is not None and len(searched):
        parts = searched.assign(scene=searched["scene"].astype(str)).groupby("scene", sort=False).geometry
        found = {str(scene): shapely.union_all(mended(np.asarray(part))[0]) for scene, part in parts}
        other = sorted((tagged if len(found) == 1 else outlines.keys()) - found.keys())
        if other:
            raise GridError(
                f"the image of {other[0]} is of none of the scenes of {path} ({', '.join(found)}); give the images "
                "that the inventory was made of"
            )
        return found
    if outlines:
        return outlines
    scenes = sorted({str(s) for s in mapped["scene"] if s is not None})
    if len(scenes) != 1:
        raise GridError(
            f"{path} does not tell which image its features were seen in ({len(scenes)} scenes, no layer 'searched'); "
            "give --image"
        )
    return {scenes[0]: shapely.box(*mapped.total_bounds).buffer(_ANYWHERE)}


def scenes(rows: gpd.GeoDataFrame, grounds: Mapping[str, shapely.Geometry]) -> np.ndarray:
    """Scene that each feature was looked at in: its own, or that which shows most of it, or is nearest."""
    names = list(grounds)
    if len(names) == 1:
        return np.full(len(rows), names[0], object)
    found = rows["scene"].to_numpy(dtype=object, copy=True)
    for number in np.flatnonzero(~np.isin(found.astype(str), names)):
        geometry = rows.geometry.iloc[number]
        shared = [shapely.area(shapely.intersection(geometry, ground)) for ground in grounds.values()]
        apart = [shapely.distance(geometry, ground) for ground in grounds.values()]
        found[number] = names[int(np.lexsort((apart, -np.array(shared)))[0])]
    return found


def areas(path: Path, area: str | os.PathLike | None, crs: object) -> shapely.Geometry | None:
    """Ground that was searched by eye as a whole; None where no such ground is told."""
    drawn = [] if area is None else [read_polygons(area, crs).geometry]
    if AREA in geopackage.polygon_layers(path):
        with geopackage.without_side_files():
            drawn.append(read_polygons(path, crs, layer=AREA).geometry)
    outlines = [outline for geometry in drawn for outline in geometry]
    return shapely.union_all(outlines) if outlines else None


def known(
    grounds: Mapping[str, shapely.Geometry],
    labels: gpd.GeoDataFrame,
    negatives: gpd.GeoDataFrame,
    *,
    before: gpd.GeoDataFrame,
    unsure: pd.DataFrame,
    areas: shapely.Geometry | None,
    around_m: float,
) -> dict[str, shapely.MultiPolygon]:
    """Ground of each scene on which every landslide is known.

    Parameters
    ----------
    grounds : mapping of str to geometry
        Ground of each scene.
    labels, negatives : GeoDataFrame
        Landslides, and what is none, with their ``scene``.
    before : GeoDataFrame
        Outlines that were changed, as they were mapped.
    unsure : DataFrame
        Candidates that nobody judged.
    areas : geometry or None
        Ground that was searched as a whole.
    around_m : float
        Width of the ground around what was judged.
    """
    found = {}
    judged = [(np.asarray(f["scene"], dtype=object), np.asarray(f["geometry"])) for f in (labels, negatives, before)]
    for scene, ground in grounds.items():
        mine = [geometry[of == scene] for of, geometry in judged]
        around = shapely.union_all(widened(np.concatenate(mine), around_m, _QUADRANT))
        whole = around if areas is None else shapely.union(around, areas)
        # what nobody judged, and what was judged in the image of another date
        of, geometry = judged[0]
        out = shapely.union_all([*unsure["geometry"], *geometry[of != scene]])
        seen = shapely.difference(shapely.intersection(whole, ground), out)
        told, _, _ = mended(np.array([shapely.union_all([seen, *mine[0], *mine[1]])], dtype=object))
        if len(told):
            found[scene] = shapely.multipolygons(shapely.get_parts(told))
    return found
