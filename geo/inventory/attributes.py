"""What is known of each polygon: columns of the layers from regions, views and the rasters beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import shapely

from geo.geobox import GeoBox
from geo.inventory import plausibility, review, shape
from geo.inventory.ground.burnt import border
from geo.inventory.ground.unseen import REASONS
from geo.inventory.ground.zonal import Zones
from geo.inventory.schema import layers
from geo.mosaic import View
from geo.vectorize import Regions

if TYPE_CHECKING:
    from geo.inventory.merged import Apart

#: Decimals of probabilities and other ratios in the attributes: rounding in float32 begins at the seventh.
_DECIMALS = 4
#: Decimals of metres and degrees from the DEM.
_TERRAIN_DECIMALS = 2
_WORKERS = 2
#: Share of a landslide's pixels that must have heights: crown or toe may lie on the others.
HEIGHTS_KNOWN = 0.95


def pixel_area(grid: GeoBox) -> float:
    """Area of a pixel in square units of the CRS (m2 in UTM), as shapely measures polygons."""
    return abs(grid.affine.determinant)


def pixel_ground(grid: GeoBox) -> float:
    """Square metres of ground in a pixel: on the ellipsoid where the CRS shows areas wrong by more than 1 %."""
    return pixel_area(grid) * shape.areal_scale(grid)


def landslides(
    regions: Regions,
    views: Sequence[View],
    thresholds: Sequence[float],
    grid: GeoBox,
    *,
    outline: np.ndarray | None = None,
    zones: Zones | None = None,
    apart: Apart | None = None,
    parents: Regions | None = None,
    not_searched: Mapping[int, Regions] | None = None,
    position_error_m: Mapping[int, float] | None = None,
    version: str,
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
    outline : ndarray of shapely.MultiPolygon, shape (n,), optional
        Simplified polygons; those of the regions by default.
    zones : Zones, optional
        What rasters tell.
    apart : Apart, optional
        Which regions were cut from which.
    parents : Regions, optional
        The regions before they were cut.
    not_searched : mapping of int to Regions, optional
        By reason.
    position_error_m : mapping of int to float, optional
        By number of the view.
    version : str
        Of the program.

    Returns
    -------
    GeoDataFrame
        With the attributes of ``schema.yaml``.
    """
    drawn = regions.geometry if outline is None else outline
    seen_by = [views[n] for n in regions.source]
    area, pixel_m = regions.pixels * pixel_ground(grid), float(np.sqrt(pixel_area(grid)))
    with ThreadPoolExecutor(_WORKERS) as pool:  # shapely lets other threads work
        sides = pool.submit(shape.length_and_width, drawn)
        measured = pool.submit(shape.on_ellipsoid, drawn, grid.crs)
        seen_beyond = pool.submit(_valid_share, regions, grid, not_searched or {})
        length, width = sides.result()
        ellipsoid, valid_share = measured.result(), seen_beyond.result()
    errors = position_error_m or {}
    error = np.array([errors.get(int(n), np.nan) for n in regions.source], dtype=float)
    known = zones or Zones(len(regions))
    terrain = _terrain(known, regions.pixels, grid)
    ndvi, brightness = known.mean("ndvi", "ndvi pixels"), known.mean("brightness", "brightness pixels")
    flags, reasons = plausibility.judge(
        {
            "area_m2": area,
            "length_m": length,
            "slope_mean_deg": terrain["slope_mean_deg"],
            "relief_m": terrain["relief_m"],
            "near_water": known.mean("near water", "near water pixels"),
            "near_cloud": known.mean("near cloud", "near cloud pixels"),
        },
        len(regions),
    )
    columns: dict[str, Any] = {
        "id": _identifiers(regions, seen_by, grid),
        "area_m2": area,
        "perimeter_m": np.round(shapely.length(drawn), 3),
        "mean_probability": np.round(regions.mean, _DECIMALS),
        "max_probability": np.round(regions.highest, _DECIMALS),
        "scene": [v.scene for v in seen_by],
        "sensor": [v.sensor for v in seen_by],
        "acquired": [v.acquired for v in seen_by],
        "model": [v.model for v in seen_by],
        "threshold": [thresholds[n] for n in regions.source],
        "version": [version] * len(regions),
        "area_ellipsoid_m2": np.round(ellipsoid.area_m2, 3),
        "perimeter_ellipsoid_m": np.round(ellipsoid.perimeter_m, 3),
        "length_m": np.round(length, 3),
        "width_m": np.round(width, 3),
        "elongation": np.round(length / np.maximum(width, 1e-9), _DECIMALS),
        "uncertainty": np.round(known.mean("spread", "spread pixels"), _DECIMALS),
        "valid_share": np.round(valid_share, _DECIMALS),
        **{name: np.round(values, _TERRAIN_DECIMALS) for name, values in terrain.items()},
        "ndvi_mean": np.round(ndvi, _DECIMALS),
        "brightness_mean": np.round(brightness, _DECIMALS),
        "plausibility": flags,
        "plausibility_reason": reasons,
        "position_error_m": np.round(error, 3),
        "edge_band_m2": np.round(shape.edge_band(drawn, error, pixel_m), 1),
        "split_from": None,
        "split_confidence": None,
        "merge_suspicion": None,
    }
    if apart is not None and parents is not None:
        names = np.array(_identifiers(parents, [views[n] for n in parents.source], grid), dtype=object)
        columns["split_from"] = np.where(apart.was_cut, names[apart.parent] if len(names) else None, None)
        columns["split_confidence"] = np.round(apart.confidence, _DECIMALS)
        suspicion = np.where(np.isfinite(terrain["relief_m"]), apart.suspicion, np.nan)
        columns["merge_suspicion"] = np.round(suspicion, _DECIMALS)
    return layers()["landslides"].frame(columns, drawn, grid.crs)


def _terrain(zones: Zones, pixels: np.ndarray, grid: GeoBox) -> dict[str, np.ndarray]:
    """Columns from the DEM; NaN where it tells nothing, or too little to know crown and toe."""
    heights = zones.sums.get("height pixels", np.zeros(zones.count))
    covered = (heights >= HEIGHTS_KNOWN * pixels)[:, None]
    crown, toe = np.where(covered, zones.crown, np.nan), np.where(covered, zones.toe, np.nan)
    relief = crown[:, 0] - toe[:, 0]
    step = (crown - toe)[:, 1:]
    t = grid.affine
    run = np.hypot(t.a * step[:, 0] + t.b * step[:, 1], t.d * step[:, 0] + t.e * step[:, 1])
    steepness = np.where(run > 0, relief / np.where(run > 0, run, 1), np.nan)
    east, north = (zones.sums.get(f"downhill {to}", np.zeros(zones.count)) for to in ("east", "north"))
    falls = np.hypot(east, north) > 1e-9
    return {
        "slope_mean_deg": zones.mean("slope", "slope pixels"),
        "slope_max_deg": zones.steepest,
        "aspect_deg": np.where(falls, np.degrees(np.arctan2(east, north)) % 360, np.nan),
        "crown_m": crown[:, 0],
        "toe_m": toe[:, 0],
        "relief_m": relief,
        "run_m": run,
        "h_over_l": steepness,
        "travel_angle_deg": np.degrees(np.arctan(steepness)),
    }


def _valid_share(regions: Regions, grid: GeoBox, not_searched: Mapping[int, Regions]) -> np.ndarray:
    """Share of each border beyond which the ground was searched."""
    if not len(regions):
        return np.zeros(0)
    height, width = grid.shape
    tree = shapely.STRtree(regions.geometry)
    blinds = [found.geometry for found in not_searched.values() if len(found)]
    frame = shapely.boundary(
        shapely.Polygon([grid.affine @ at for at in ((0, 0), (width, 0), (width, height), (0, height))])
    )
    at_edge = tree.query(shapely.buffer(frame, 0.5 * np.sqrt(pixel_area(grid))), predicate="intersects")
    beside = [tree.query(geometry, predicate="intersects")[1] for geometry in blinds]
    near = np.unique(np.concatenate([at_edge, *beside]))
    piece, owner = border(regions.geometry[near], grid.affine)
    flat, place = piece & 1 > 0, piece >> 1
    row, column = place >> 32, place & 0xFFFFFFFF
    blind = np.where(flat, (row == 0) | (row == height), (column == 0) | (column == width))
    for geometry in blinds:
        blind |= np.isin(piece, border(geometry, grid.affine)[0])
    total = np.bincount(owner, minlength=len(near))
    share = np.ones(len(regions))
    share[near] = 1 - np.bincount(owner, blind, minlength=len(near)) / np.maximum(total, 1)
    return share


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
    columns = {
        **_of_views(used),
        "threshold": [thresholds[n] for n in found],
        "area_km2": [int(r.pixels.sum()) * pixel_ground(grid) / 1e6 for r in found.values()],
    }
    return layers()["searched"].frame(columns, _joined(found), grid.crs)


def not_searched(ground: Mapping[int, Regions], pixels: Mapping[int, int], grid: GeoBox) -> gpd.GeoDataFrame:
    """Layer ``not_searched`` of an inventory: one feature per reason that occurs.

    Parameters
    ----------
    ground : mapping of int to Regions
        By the code of the reason; without patches that are too small to be drawn.
    pixels : mapping of int to int
        All pixels of the reason.
    grid : GeoBox

    Returns
    -------
    GeoDataFrame
    """
    found = {code: ground[code] for code, number in pixels.items() if number}
    columns = {
        "reason": [REASONS[code - 1] for code in found],
        "area_km2": [pixels[code] * pixel_ground(grid) / 1e6 for code in found],
    }
    return layers()["not_searched"].frame(columns, _joined(found), grid.crs)


def footprints(
    outlines: Mapping[int, np.ndarray],
    views: Sequence[View],
    thresholds: Sequence[float],
    position_error_m: Mapping[int, float],
    grid: GeoBox,
) -> gpd.GeoDataFrame:
    """Layer ``footprints`` of an inventory: one feature per view.

    Parameters
    ----------
    outlines : mapping of int to shapely.MultiPolygon
        By the view's number.
    views, thresholds, position_error_m, grid
        As of ``landslides``.

    Returns
    -------
    GeoDataFrame
    """
    geometry = np.array(list(outlines.values()), dtype=object)
    columns = {
        **_of_views([views[n] for n in outlines]),
        "threshold": [thresholds[n] for n in outlines],
        "position_error_m": [position_error_m.get(n, np.nan) for n in outlines],
        "area_km2": np.round(shapely.area(geometry) * shape.areal_scale(grid) / 1e6, 6),
    }
    return layers()["footprints"].frame(columns, geometry, grid.crs)


def to_review(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Layer ``review`` of an inventory, from its landslides."""
    ranked = review.rank(frame)
    columns: dict[str, Any] = {
        name: frame[name] for name in ("id", "area_m2", "mean_probability", "plausibility", "scene")
    }
    columns |= {name: ranked[name] for name in ranked.columns}
    columns |= {"status": [review.STATUSES[0]] * len(frame)}
    columns |= dict.fromkeys(("thumbnail", "reviewer", "reviewed", "note"))
    return layers()["review"].frame(columns, np.asarray(frame.geometry), frame.crs)


def _of_views(used: Sequence[View]) -> dict[str, Any]:
    return {
        "scene": [v.scene for v in used],
        "sensor": [v.sensor for v in used],
        "acquired": [v.acquired for v in used],
        "view_zenith": [np.nan if v.view_zenith is None else v.view_zenith for v in used],
        "model": [v.model for v in used],
    }


def _joined(found: Mapping[int, Regions]) -> np.ndarray:
    """Join the regions of each mask to one multipolygon: they touch in points at most, so it is valid."""
    result = np.empty(len(found), object)
    for number, regions in enumerate(found.values()):
        result[number] = shapely.multipolygons(shapely.get_parts(regions.geometry))
    return result


def _identifiers(regions: Regions, seen_by: Sequence[View], grid: GeoBox) -> list[str]:
    """Names that depend on the CRS, the scene and the place of the first pixel alone."""
    t, (row, column) = grid.affine, regions.first.T + 0.5
    x, y = t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f
    crs = str(grid.crs)
    return [
        hashlib.blake2s(f"{crs} {view.scene} {east:.2f} {north:.2f}".encode(), digest_size=8).hexdigest()
        for view, east, north in zip(seen_by, x, y, strict=True)
    ]
