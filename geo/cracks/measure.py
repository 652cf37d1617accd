"""The cracks of a raster: centre lines and outlines with their lengths and widths, by tiles and with bounded memory.

Memory holds the centre pixels and the outlines, so it grows with the length of the cracks and not with the image.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from geo.cracks.graph import Graph, components, join, prune
from geo.cracks.lines import Line, Measures, line_of, mean_axis, measure, orientation
from geo.cracks.mask import CrackMask, open_mask
from geo.cracks.skeleton import POINT, TILE, thin_tile, tiles
from geo.errors import GridError
from geo.progress import Counted
from geo.raster import crs_name
from geo.stream import cpus, stream
from geo.vectorize import Polygonizer, Regions
from geo.vectorize import measure as measure_block
from geo.windows import blocks

log = logging.getLogger(__name__)

#: Cracks whose lines are shorter in all are left out, unless told otherwise: specks.
MIN_LENGTH_PX = 10.0
#: Line vertices that lie this near to a straight line, in pixels, are left out.
_SIMPLER_PX = 0.05
_ROWS = 512
_DECIMALS_PX, _DECIMALS_M = 3, 6
_MOSTLY = 0.5


@dataclass(frozen=True)
class Cracks:
    """What was found.

    Attributes
    ----------
    centre_lines : GeoDataFrame
        One LineString for each branch, with length, widths and orientation.
    cracks : GeoDataFrame
        One MultiPolygon for each connected crack, with the totals of its lines.
    settings : dict
        How it was measured.
    dropped : int
        Connected cracks that were too short.
    spurs : int
        Bulges of the border whose branches were taken away.
    """

    centre_lines: gpd.GeoDataFrame
    cracks: gpd.GeoDataFrame
    settings: dict[str, Any]
    dropped: int
    spurs: int

    @property
    def unit(self) -> str:
        """Unit of the measures that count: ``m`` where it is known, else ``px``."""
        return "m" if "length_m" in self.cracks else "px"


@dataclass(frozen=True)
class Scale:
    """From pixels to coordinates and, where that is known, to metres.

    Attributes
    ----------
    to_map : Affine
        Pixels to the coordinates of the layers.
    to_metres : Affine or None
        Pixels to metres.
    crs : str or None
        WKT of the layers.
    """

    to_map: Affine
    to_metres: Affine | None
    crs: str | None


def measure_cracks(
    path: str | os.PathLike,
    *,
    threshold: float | None = None,
    gsd_m: float | None = None,
    min_length_px: float = MIN_LENGTH_PX,
    tile: int = TILE,
    workers: int | None = None,
    progress: Counted | None = None,
) -> Cracks:
    """Measure the cracks of a mask or a probability.

    Parameters
    ----------
    path : path
        See ``geo.cracks.mask.open_mask``.
    threshold : float, optional
        Probability from which a pixel is crack.
    gsd_m : float, optional
        Side of a pixel in metres, for a raster without a CRS.
    min_length_px : float
        Connected cracks whose lines are shorter in all, in pixels, are left out.
    tile : int
        Side of the tiles; what is found does not depend on it.
    workers : int, optional
        Threads.
    progress : callable, optional
        Wraps the stream of tiles, given with their number.

    Returns
    -------
    Cracks
        Without a CRS the coordinates are pixels, x to the right and y upwards from the upper left corner, negative
        below it, as QGIS shows such an image; with a geotransform they are its own.

    Raises
    ------
    RasterError
        The raster is no mask and no probability, or what it marks is too wide for cracks.
    GridError
        Its CRS is not in a unit of length, or a pixel size was given beside a CRS that tells it.
    """
    with open_mask(path, threshold) as mask:
        scale = scale_of(mask.dataset, gsd_m)
        found = list(tiles(mask.shape, tile))
        done = stream(lambda at: thin_tile(mask.read, at), found, workers=workers)
        points = [p for _, p in (progress(done, len(found)) if progress else done) if len(p)]
        graph = join(np.concatenate(points) if points else np.empty(0, POINT))
        regions = _outlines(mask, scale.to_map, int(min_length_px / 2), workers)
        used = mask.threshold
    prune(graph)
    lines = {n: line for n, b in graph.branches.items() if (line := line_of(graph, b)) is not None}
    owner = _owners(graph, regions, scale.to_map)
    whole = _lengths(lines, owner, len(regions))
    kept = np.flatnonzero((whole > 0) & (whole >= min_length_px))
    settings = {"threshold": used, "gsd_m": gsd_m, "min_length_px": min_length_px}
    centre_lines = _centre_lines(lines, owner, kept, scale)
    cracks = _totals(centre_lines, regions.take(kept), scale)
    dropped = len(set(components(graph).values())) - len(kept)
    return Cracks(centre_lines, cracks, settings, dropped, graph.spurs)


def scale_of(src: rasterio.DatasetReader, gsd_m: float | None) -> Scale:
    """Find out how large the pixels of a raster are.

    Raises
    ------
    GridError
        As of ``measure_cracks``.
    """
    plain = src.transform.is_identity
    to_map = Affine(1, 0, 0, 0, -1, 0) if plain else src.transform
    if src.crs is None:
        return Scale(to_map, None if gsd_m is None else Affine(gsd_m, 0, 0, 0, -gsd_m, 0), None)
    crs = pyproj.CRS.from_user_input(src.crs)
    if crs.is_geographic or not crs.axis_info:
        raise GridError(
            f"{src.name} has the CRS {crs_name(crs)}, in which a pixel has no size in metres; expected a projected "
            "CRS: bring it there with `geocrack ortho` or gdalwarp"
        )
    if gsd_m is not None:
        raise GridError(
            f"{src.name} has the CRS {crs_name(crs)}, which tells the size of its pixels; leave out --gsd-m, or take "
            "the CRS away if it is wrong (gdal_edit.py -a_srs none -unsetgt)"
        )
    factor = float(crs.axis_info[0].unit_conversion_factor)
    return Scale(to_map, Affine.scale(factor) @ to_map, crs.to_wkt())


def _outlines(mask: CrackMask, transform: Affine, min_pixels: int, workers: int | None) -> Regions:
    """Polygons of the connected cracks, joined by edges and corners."""
    width = mask.shape[1]
    whole = Polygonizer(width, transform, connectivity=8, min_pixels=min_pixels)
    known = 0

    def one(window: Window) -> tuple[Any, int]:
        crack, there = mask.read(window)
        return measure_block(crack), int(there.sum())

    for _, (block, seen) in stream(one, blocks(mask.shape, (_ROWS, width)), workers=cpus(workers)):
        whole.add(block)
        known += seen
    if known and whole.pixels > _MOSTLY * known:
        log.warning("%.0f %% of the image is marked as crack; is the mask inverted?", 100 * whole.pixels / known)
    return whole.finish()


def _owners(graph: Graph, regions: Regions, to_map: Affine) -> dict[int, int]:
    """Region that each branch lies in; branches that meet lie in one."""
    if not graph.branches or not len(regions):
        return {}
    which = components(graph)
    first: dict[int, int] = {}  # a pixel of each; pixels have lower numbers than junctions
    for number, crack in which.items():
        first.setdefault(crack, int(graph.branches[number].whole.min()))
    col, row = graph.xy[list(first.values())].T
    a = to_map
    places = shapely.points(a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f)
    asked, found = shapely.STRtree(regions.geometry).query(places, predicate="intersects")
    region = dict(zip((list(first)[k] for k in asked), found.tolist(), strict=True))
    return {number: region[crack] for number, crack in which.items() if crack in region}


def _lengths(lines: Mapping[int, Line], owner: Mapping[int, int], number: int) -> np.ndarray:
    """Length of all lines in each region, in pixels."""
    total: np.ndarray = np.zeros(number)
    for n, line in lines.items():
        if n in owner:
            total[owner[n]] += measure(line, line.xy, 1.0).length
    return total


def _centre_lines(
    lines: Mapping[int, Line], owner: Mapping[int, int], kept: np.ndarray, scale: Scale
) -> gpd.GeoDataFrame:
    """Layer of the branches: by crack and, in each, from the longest to the shortest."""
    place = {int(region): number for number, region in enumerate(kept, 1)}
    mine = [(place[owner[n]], line) for n, line in lines.items() if owner.get(n) in place]
    measured = [(crack, line, measure(line, line.xy, 1.0)) for crack, line in mine]
    measured.sort(key=lambda row: (row[0], -row[2].length, *row[1].xy[0]))
    columns: dict[str, Any] = {
        "id": np.arange(1, len(measured) + 1),
        "crack": np.array([crack for crack, _, _ in measured], dtype=np.int64),
        **_columns([m for _, _, m in measured], "px", _DECIMALS_PX),
    }
    if scale.to_metres is not None:
        area, to_metres = abs(scale.to_metres.determinant), scale.to_metres
        metric = [measure(line, _through(to_metres, line.xy), area) for _, line, _ in measured]
        columns |= _columns(metric, "m", _DECIMALS_M)
    places = [_through(scale.to_map, line.xy) for _, line, _ in measured]
    columns["orientation_deg"] = np.round([orientation(*xy.T) for xy in places], 2)
    columns["free_ends"] = np.array([line.free_ends for _, line, _ in measured], dtype=np.int64)
    columns["cut"] = np.array([line.cut for _, line, _ in measured], dtype=bool)
    pixel = np.sqrt(abs(scale.to_map.determinant))
    drawn = [shapely.simplify(shapely.linestrings(xy), _SIMPLER_PX * pixel) for xy in places]
    return gpd.GeoDataFrame(columns, geometry=np.array(drawn, dtype=object), crs=scale.crs)


def _columns(measures: Sequence[Measures], unit: str, decimals: int) -> dict[str, np.ndarray]:
    return {
        f"{name}_{unit}": np.round(np.array([getattr(m, name) for m in measures], dtype=float), decimals)
        for name in ("length", "width_mean", "width_median", "width_max")
    }


def _totals(lines: gpd.GeoDataFrame, regions: Regions, scale: Scale) -> gpd.GeoDataFrame:
    """Layer of the connected cracks, from the table of their lines."""
    number = len(regions)
    at = lines["crack"].to_numpy() - 1
    columns: dict[str, Any] = {"id": np.arange(1, number + 1), "lines": np.bincount(at, minlength=number)}
    areas = {"px": (regions.pixels, "area_px", 0)}
    if scale.to_metres is not None:
        areas["m"] = (regions.pixels * abs(scale.to_metres.determinant), "area_m2", 9)
    for unit, (area, name, decimals) in areas.items():
        length = lines[f"length_{unit}"].to_numpy()
        whole = np.bincount(at, length, minlength=number)
        mean = np.bincount(at, length * lines[f"width_mean_{unit}"], minlength=number)
        widest: np.ndarray = np.zeros(number)
        np.maximum.at(widest, at, lines[f"width_max_{unit}"].to_numpy())
        columns |= {
            f"length_{unit}": np.round(whole, 6),
            f"width_mean_{unit}": np.round(mean / np.where(whole > 0, whole, np.nan), 6),
            f"width_max_{unit}": widest,
            name: np.round(area, decimals),
        }
    angle, weight = np.radians(lines["orientation_deg"].to_numpy()), lines["length_px"].to_numpy()
    # the lines are sorted by their cracks
    members = np.split(np.arange(len(at)), np.searchsorted(at, np.arange(1, number)))[:number]
    columns["orientation_deg"] = np.array([round(mean_axis(angle[m], weight[m]), 2) for m in members], dtype=float)
    columns["cut"] = np.bincount(at, lines["cut"], minlength=number) > 0
    return gpd.GeoDataFrame(columns, geometry=regions.geometry, crs=scale.crs)


def _through(affine: Affine, xy: np.ndarray) -> np.ndarray:
    """Points through an affine transform, shape (n, 2)."""
    x, y = xy.T
    return np.column_stack([affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f])
