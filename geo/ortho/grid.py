"""The grid of an ortho: a CRS in metres, and edges that are whole multiples of the resolution."""

from __future__ import annotations

import numpy as np
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from geo.errors import GridError
from geo.geobox import GeoBox
from geo.ortho.dem import LON_LAT, around, horizontal, transform


def utm_crs(lon: float, lat: float) -> CRS:
    """UTM zone of a point on WGS 84 (without the exceptions of Norway and Svalbard)."""
    zone = int((lon + 180) // 6) % 60 + 1
    return CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)


def middle(lon: np.ndarray, lat: np.ndarray) -> tuple[float, float]:
    """Median longitude and latitude of points, which may lie on both sides of the antimeridian."""
    east = float(np.median(around(lon, float(lon.flat[0]))))
    return (east + 180) % 360 - 180, float(np.median(lat))


def metric_crs(name: str) -> CRS:
    """Projected CRS in metres from its name, such as ``EPSG:32648``.

    Raises
    ------
    GridError
        The name is not understood, or the CRS is not projected in metres.
    """
    try:
        crs = horizontal(CRS.from_user_input(name))
    except CRSError as error:
        raise GridError(f"the CRS '{name}' is not understood; expected auto or a code such as EPSG:32648") from error
    if not crs.is_projected or abs(crs.axis_info[0].unit_conversion_factor - 1) > 1e-9:
        raise GridError(f"the CRS '{name}' ({crs.name}) is not in metres; expected a projected CRS such as EPSG:32648")
    return crs


def snapped_grid(lon: np.ndarray, lat: np.ndarray, crs: CRS, resolution_m: float) -> GeoBox:
    """Grid over points whose edges are whole multiples of the resolution.

    Grids of one CRS whose resolutions are multiples of each other thus share their pixel edges.

    Parameters
    ----------
    lon, lat : ndarray of float
        Degrees.
    crs : pyproj CRS
        In metres.
    resolution_m : float
        Side of a pixel.

    Returns
    -------
    GeoBox
        One pixel wider than the points on each side.

    Raises
    ------
    GridError
        A point has no place in the CRS.
    """
    x, y = transform(LON_LAT, crs, lon, lat)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise GridError(
            f"the image lies in parts where {crs.name} shows nothing (longitude {np.min(lon):.5g} to "
            f"{np.max(lon):.5g}, latitude {np.min(lat):.5g} to {np.max(lat):.5g}); expected a scene of some tens of "
            "kilometres: get its RPC again, or give a --crs for that place"
        )
    left, bottom = (int(np.floor(np.min(v) / resolution_m)) - 1 for v in (x, y))
    right, top = (int(np.ceil(np.max(v) / resolution_m)) + 1 for v in (x, y))
    affine = Affine(resolution_m, 0, left * resolution_m, 0, -resolution_m, top * resolution_m)
    return GeoBox((top - bottom, right - left), affine, crs)
