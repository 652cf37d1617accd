"""Inventories of any origin for tracking and size curves: valid polygons in metres, ground that was seen, a date."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from affine import Affine

from geo.errors import GridError, LabelError, RasterError, unknown_name
from geo.geobox import GeoBox
from geo.inventory import geopackage, truth
from geo.inventory.bootstrap import Blocks
from geo.inventory.geopackage import LANDSLIDES, SEARCHED
from geo.inventory.shape import areal_scale

log = logging.getLogger(__name__)

NOT_SEARCHED, FOOTPRINTS = "not_searched", "footprints"
#: Where an error of position stands; the second is its name in a Shapefile.
_POSITION_ERROR = ("position_error_m", "pos_err_m")
#: Scenes of one inventory may lie so many days apart; farther, it has no date of its own.
_ONE_DATE_DAYS = 31


@dataclass(frozen=True)
class Dated:
    """The landslides of one date.

    Attributes
    ----------
    name : str
        File, and layer where it was named.
    day : date
        When the ground was seen; of several scenes the last.
    geometry : ndarray of valid polygons
    ids : ndarray of str
        Identifiers in the inventory, empty where it has none.
    seen : geometry or None
        Ground that was searched; None where the inventory does not tell, which means everywhere.
    crs : pyproj.CRS
        In metres.
    repaired, dropped : int
        Geometries that were not valid, and those that had no area.
    position_error_m : float or None
        The largest standard error of position that its landslides or footprints state; None where none does.
    """

    name: str
    day: date
    geometry: np.ndarray
    ids: np.ndarray
    seen: shapely.Geometry | None
    crs: pyproj.CRS
    repaired: int
    dropped: int
    position_error_m: float | None = None


def split_layer(text: str | os.PathLike) -> tuple[Path, str | None]:
    """``file.gpkg:layer`` as file and layer; a file whose own name has a colon stays whole."""
    path = Path(text)
    if path.exists() or ":" not in path.name:
        return path, None
    file, layer = str(path).rsplit(":", 1)
    return Path(file), layer


def read_dated(text: str | os.PathLike, crs: pyproj.CRS | None = None, day: date | None = None) -> Dated:
    """Read the inventory of one date.

    Parameters
    ----------
    text : path
        Vector file, or ``file.gpkg:layer`` where it has several.
    crs : pyproj.CRS, optional
        CRS to bring it to; by default its own, or the UTM zone of its middle where that is not in metres.
    day : date, optional
        Its date, where it does not tell one itself (attribute ``acquired``) or another is meant.

    Raises
    ------
    RasterError
        The file cannot be read, or which layer holds the landslides is not clear.
    GridError
        It has no CRS.
    LabelError
        It tells no date, or several.
    """
    file, layer = split_layer(text)
    frame, (searched, hidden, footprints) = _layers(file, layer)
    if frame.crs is None:
        raise GridError(f"{text} has no CRS, so its polygons lie nowhere; set the CRS in QGIS and save it")
    target = crs or _in_metres(frame)
    geometry = np.asarray(frame.to_crs(target).geometry)
    valid, repaired, dropped = truth.mended(geometry)
    # an inventory's identifiers stay with their polygons when those without area are left out
    kept = np.array([truth.mended(np.array([g], dtype=object))[2] == 0 for g in geometry]) if dropped else slice(None)
    ids = frame["id"].astype(str).to_numpy() if "id" in frame else np.full(len(frame), "", dtype=object)
    if repaired or dropped:
        log.info("%s: %d of %d geometries repaired, %d without area left out", text, repaired, len(frame), dropped)
    seen = _union(searched, target)
    blind = _union(hidden, target)
    if seen is not None and blind is not None:
        seen = shapely.difference(seen, blind)
    elif blind is not None:
        everywhere = shapely.box(*shapely.total_bounds(np.append(valid, blind))).buffer(1e5)
        seen = shapely.difference(everywhere, blind)
    elif seen is None:
        log.warning("%s does not tell where landslides were searched: everywhere is taken", text)
    return Dated(
        name=str(text),
        day=day or _day(text, frame, searched),
        geometry=valid,
        ids=np.asarray(ids, dtype=object)[kept],
        seen=seen,
        crs=target,
        repaired=repaired,
        dropped=dropped,
        position_error_m=_position_error(frame, footprints),
    )


def read_all(paths: Sequence[str | os.PathLike], days: Sequence[date] | None = None) -> list[Dated]:
    """Read the inventories of several dates, in the CRS of the first, in the order of time.

    Raises
    ------
    LabelError
        Two have the same date, or they do not touch at all; else as ``read_dated``.
    """
    found: list[Dated] = []
    for number, path in enumerate(paths):
        found.append(read_dated(path, found[0].crs if found else None, days[number] if days else None))
    first, *rest = found
    place = _bounds(first)
    for other in rest:
        if place is not None and _bounds(other) is not None and not place.intersects(_bounds(other)):
            raise GridError(f"{other.name} lies elsewhere than {first.name}; give inventories of one place")
    found.sort(key=lambda d: d.day)
    for one, two in pairwise(found):
        if one.day == two.day:
            raise LabelError(
                f"{one.name} and {two.name} are both of {one.day}; merge them with `geocrack vectorize`, or give --date"
            )
    return found


def sized(
    text: str | os.PathLike, *, layer: str | None, block_m: float
) -> tuple[np.ndarray, np.ndarray, float, float | None]:
    """Areas of an inventory's landslides, the block of ground of each, the smallest area it may hold, ground searched.

    Returns
    -------
    areas : ndarray of float, shape (n,)
        Square metres in the projection.
    blocks : ndarray of int, shape (n,)
    least_m2 : float
        0 where the inventory does not tell.
    searched_km2 : float or None
        None where it does not tell.
    """
    file, named = (Path(text), layer) if layer else split_layer(text)
    frame, (searched, *_) = _layers(file, named)
    if frame.crs is None:
        raise GridError(f"{text} has no CRS, so its polygons have no area; set the CRS in QGIS and save it")
    crs = _in_metres(frame if len(frame) or searched is None else searched)
    searched_km2 = _searched_km2(searched, crs)
    geometry, repaired, dropped = truth.mended(np.asarray(frame.to_crs(crs).geometry))
    if repaired or dropped:
        log.info("%s: %d geometries repaired, %d without area left out", text, repaired, dropped)
    if not len(geometry):
        return np.empty(0), np.empty(0, int), 0.0, searched_km2
    left, bottom, right, top = shapely.total_bounds(geometry)
    cell = min(10.0, block_m / 10)
    shape = (max(1, int(np.ceil((top - bottom) / cell))), max(1, int(np.ceil((right - left) / cell))))
    blocks = Blocks(GeoBox(shape, Affine(cell, 0, left, 0, -cell, top), None), block_m)
    centre = shapely.centroid(geometry)
    least = float(geopackage.read(file).settings.get("min_area_m2", 0.0)) if named in (None, LANDSLIDES) else 0.0
    return shapely.area(geometry), blocks.of_points(shapely.get_x(centre), shapely.get_y(centre)), least, searched_km2


def _layers(file: Path, layer: str | None) -> tuple[gpd.GeoDataFrame, list[gpd.GeoDataFrame | None]]:
    """Landslides of a file; its searched and not searched ground, and its footprints."""
    names = geopackage.polygon_layers(file)
    if layer is not None and layer not in names:
        raise RasterError(f"{file}: {unknown_name('layer', layer, names)}")
    landslides = [n for n in names if n not in (SEARCHED, NOT_SEARCHED)]
    if layer is None and LANDSLIDES not in names and len(landslides) != 1:
        found = f"the polygon layers {', '.join(names)}" if names else "no layer of polygons"
        raise RasterError(
            f"{file} has {found}; expected a layer 'landslides', or its name behind a colon, as in {file.name}:"
            f"{names[0] if names else 'layer'}"
        )
    chosen = layer or (LANDSLIDES if LANDSLIDES in names else landslides[0])
    with geopackage.without_side_files():
        frames = [
            geopackage.read_layer(file, name) if name in names and name != chosen and chosen == LANDSLIDES else None
            for name in (SEARCHED, NOT_SEARCHED, FOOTPRINTS)
        ]
        return geopackage.read_layer(file, chosen), frames


def _in_metres(frame: gpd.GeoDataFrame) -> pyproj.CRS:
    """CRS of a layer, or the UTM zone of its middle where that is not in metres of the ground (as Web Mercator)."""
    crs = pyproj.CRS.from_user_input(frame.crs)
    if crs.is_projected and all(axis.unit_conversion_factor == 1 for axis in crs.axis_info):
        if not len(frame):
            return crs
        left, bottom, right, top = frame.total_bounds
        place = GeoBox((1, 1), Affine((right - left) or 1, 0, left, 0, (bottom - top) or -1, top), crs.to_wkt())
        if areal_scale(place) == 1:
            return crs
    return pyproj.CRS.from_user_input(frame.estimate_utm_crs()) if len(frame) else pyproj.CRS.from_epsg(32631)


def _union(frame: gpd.GeoDataFrame | None, crs: pyproj.CRS) -> shapely.Geometry | None:
    if frame is None:
        return None
    return shapely.union_all(truth.mended(np.asarray(frame.to_crs(crs).geometry))[0])


def _searched_km2(searched: gpd.GeoDataFrame | None, crs: pyproj.CRS) -> float | None:
    """Ground searched: by the pixels that the layer tells, else by its outlines."""
    if searched is not None and "area_km2" in searched:
        return float(searched["area_km2"].sum())
    ground = _union(searched, crs)
    return None if ground is None else float(ground.area) / 1e6


def _position_error(*frames: gpd.GeoDataFrame | None) -> float | None:
    """Largest error of position that any feature states."""
    stated = [frame[name] for frame in frames if frame is not None for name in _POSITION_ERROR if name in frame]
    known = pd.to_numeric(pd.concat(stated), errors="coerce").dropna() if stated else pd.Series(dtype=float)
    return None if known.empty else float(known.max())


def _day(text: str | os.PathLike, frame: gpd.GeoDataFrame, searched: gpd.GeoDataFrame | None) -> date:
    """Date that an inventory tells: of its scenes, the last."""
    times = [f["acquired"] for f in (searched, frame) if f is not None and "acquired" in f]
    known = pd.to_datetime(pd.concat(times), utc=True).dropna() if times else pd.Series(dtype="datetime64[ns, UTC]")
    if known.empty:
        raise LabelError(f"{text} does not tell when it was seen (no attribute 'acquired'); give --date for each file")
    if (known.max() - known.min()).days > _ONE_DATE_DAYS:
        raise LabelError(
            f"{text} holds scenes from {known.min():%Y-%m-%d} to {known.max():%Y-%m-%d}; "
            "give an inventory for each date, as `geocrack vectorize` makes of one scene"
        )
    return known.max().date()


def _bounds(found: Dated) -> shapely.Geometry | None:
    everything = found.geometry if found.seen is None else np.append(found.geometry, found.seen)
    if not len(everything):
        return None
    return shapely.box(*shapely.total_bounds(everything))
