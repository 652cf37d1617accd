"""How large and how long polygons are: on the ellipsoid, along their longer side, and within what error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely

from geo.geobox import GeoBox

#: Steps from the centroid, in units of the CRS, with which the projection's scale is measured.
_STEP = 100.0
#: Polygons that reach farther than this (in metres of the CRS) are followed corner by corner on the ellipsoid.
_WIDE = 5000.0
#: A map whose areas are wrong by less is taken as it is.
_TRUE_TO_SCALE = 0.01
#: Polygons whose corners, rectangles and borders are held at once, lest a million specks take gigabytes.
_TOGETHER = 4000


@dataclass(frozen=True)
class OnEllipsoid:
    """Area in square metres and perimeter in metres on the ellipsoid of the CRS, holes taken off and counted."""

    area_m2: np.ndarray
    perimeter_m: np.ndarray


def on_ellipsoid(geometry: np.ndarray, crs: Any) -> OnEllipsoid:
    """Measure polygons of a projected CRS on its ellipsoid.

    The scale of the projection along both axes, and the angle between them, are measured at each polygon's centroid
    with ``pyproj.Geod`` and applied to all of it. For landslides up to 5 km this differs from following every edge
    by less than 1e-6 of the area and 1e-5 of the perimeter; larger ones are followed edge by edge.

    Parameters
    ----------
    geometry : ndarray of shapely polygons, shape (n,)
    crs : CRS
        Projected, in metres.

    Returns
    -------
    OnEllipsoid
    """
    if not len(geometry):
        return OnEllipsoid(np.zeros(0), np.zeros(0))
    known = pyproj.CRS.from_user_input(crs)
    geographic = known.geodetic_crs
    geod = known.get_geod()
    if geographic is None or geod is None:  # a local CRS without a place on Earth
        return OnEllipsoid(np.full(len(geometry), np.nan), np.full(len(geometry), np.nan))
    to_degrees = pyproj.Transformer.from_crs(known, geographic.to_2d(), always_xy=True)
    centre = shapely.get_coordinates(shapely.centroid(geometry))
    x, y = centre.T
    lon, lat = to_degrees.transform(
        np.concatenate([x - _STEP, x + _STEP, x, x]), np.concatenate([y, y, y - _STEP, y + _STEP])
    )
    (west, east, south, north) = np.split(np.column_stack([lon, lat]), 4)
    azimuth_x, _, length_x = geod.inv(*west.T, *east.T)
    azimuth_y, _, length_y = geod.inv(*south.T, *north.T)
    scale_x, scale_y = np.asarray(length_x) / (2 * _STEP), np.asarray(length_y) / (2 * _STEP)
    between = np.radians(np.asarray(azimuth_x) - np.asarray(azimuth_y))
    area = shapely.area(geometry) * scale_x * scale_y * np.abs(np.sin(between))
    perimeter = _length(geometry, scale_x, scale_y, np.cos(between))
    left, bottom, right, top = shapely.bounds(geometry).T
    for number in np.flatnonzero(np.maximum(right - left, top - bottom) > _WIDE):
        degrees = shapely.transform(geometry[number], lambda xy: np.column_stack(to_degrees.transform(*xy.T)))
        area[number] = abs(geod.geometry_area_perimeter(shapely.orient_polygons(degrees))[0])
        perimeter[number] = geod.geometry_length(shapely.boundary(degrees))  # the other's leaves holes out
    return OnEllipsoid(area, perimeter)


def _length(geometry: np.ndarray, scale_x: np.ndarray, scale_y: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Length of all rings, where the axes of the map have these scales and this angle."""
    result = np.zeros(len(geometry))
    for some in _blocks(len(geometry)):
        rings, owner = _rings(geometry[some])
        xy, ring = shapely.get_coordinates(rings, return_index=True)
        inside = np.flatnonzero(ring[1:] == ring[:-1])
        who = owner[ring[inside]]
        dx = (xy[inside + 1, 0] - xy[inside, 0]) * scale_x[some][who]
        dy = (xy[inside + 1, 1] - xy[inside, 1]) * scale_y[some][who]
        length = np.sqrt(dx**2 + dy**2 + 2 * dx * dy * cosine[some][who])
        result[some] = np.bincount(who, length, minlength=len(geometry[some]))
    return result


def _rings(geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts, owner = shapely.get_parts(geometry, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    return rings, owner[part]


def areal_scale(grid: GeoBox) -> float:
    """Square metres of ground in a square metre of the map, in the middle of a grid.

    Returns
    -------
    float
        1 where the two differ by less than 1 %, as in UTM, so that areas are counts of whole pixels there; also
        for a local CRS. In Web Mercator, whose metres are those of the equator, 0.73 at 31 degrees and 0.25 at 60.
    """
    height, width = grid.shape
    middle = shapely.Point(grid.affine @ (width / 2, height / 2)).buffer(_STEP, quad_segs=1)
    area = on_ellipsoid(np.array([middle], dtype=object), grid.crs).area_m2[0]
    found = float(area / shapely.area(middle))
    return found if np.isfinite(found) and abs(found - 1) > _TRUE_TO_SCALE else 1.0


def length_and_width(geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sides of the smallest rectangle, turned as it may be, around each polygon; the longer first.

    Parameters
    ----------
    geometry : ndarray of shapely polygons, shape (n,)

    Returns
    -------
    length, width : ndarray of float64, shape (n,)
        In the units of the coordinates.
    """
    if not len(geometry):
        return np.zeros(0), np.zeros(0)
    length, width = np.zeros(len(geometry)), np.zeros(len(geometry))
    for some in _blocks(len(geometry)):
        corners = shapely.get_coordinates(shapely.oriented_envelope(geometry[some])).reshape(-1, 5, 2)
        sides = np.hypot(*np.moveaxis(np.diff(corners[:, :3], axis=1), -1, 0))
        length[some], width[some] = sides.max(axis=1), sides.min(axis=1)
    return length, width


def widened(geometry: np.ndarray, by_m: float | np.ndarray, quad_segs: int = 16) -> np.ndarray:
    """Polygons with all ground within a distance of them, valid.

    Where a ring all but touches itself, as two pixels do that meet in a corner of a turned grid, GEOS leaves a loop in
    what it widens, and what is computed with that is wrong without a word.

    Parameters
    ----------
    geometry : ndarray of shapely polygons, shape (n,)
    by_m : float or ndarray of float, shape (n,)
    quad_segs : int
        Segments of a quarter circle around corners.
    """
    wide = shapely.buffer(geometry, by_m, quad_segs=quad_segs)
    broken = ~shapely.is_valid(wide)
    wide[broken] = shapely.make_valid(wide[broken], method="structure", keep_collapsed=False)
    return wide


def edge_band(geometry: np.ndarray, error_m: np.ndarray, pixel_m: float) -> np.ndarray:
    """Area within the positional error of each polygon's border, on both sides of it.

    The staircase of pixels is straightened first (Douglas-Peucker, one pixel): it would count the same ground
    twice in its corners.

    Parameters
    ----------
    geometry : ndarray of shapely polygons, shape (n,)
    error_m : ndarray of float, shape (n,)
        NaN where not known.
    pixel_m : float

    Returns
    -------
    ndarray of float64, shape (n,)
        Square metres; NaN where the error is not known.
    """
    known = np.flatnonzero(np.isfinite(error_m))
    result = np.full(len(geometry), np.nan)
    for block in _blocks(len(known)):
        some = known[block]
        plain = shapely.simplify(geometry[some], pixel_m)
        wide = shapely.area(shapely.buffer(plain, error_m[some], quad_segs=4))
        narrow = shapely.area(shapely.buffer(plain, -error_m[some], quad_segs=4))
        result[some] = wide - narrow
    return result


def _blocks(number: int) -> Iterator[slice]:
    """Cut numbers into blocks of polygons that are held at once."""
    return (slice(first, min(first + _TOGETHER, number)) for first in range(0, number, _TOGETHER))
