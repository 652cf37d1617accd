"""Which polygons look like something else, and why, in words.

Rules say what speaks against a landslide; they take nothing away. The first that holds is told.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from geo.inventory.ground.zonal import NEAR_CLOUD_M, NEAR_WATER_M

PLAUSIBLE = "plausible"
#: Share of the polygon near cloud or shadow, or near water, from which the rule holds.
CLOUD_SHARE, WATER_SHARE = 0.3, 0.4
#: Degrees of mean slope below which ground is as flat as a bar of gravel, or as a field.
BAR_SLOPE, FLAT_SLOPE = 10.0, 8.0
#: A road: so many times longer than it is wide on average, no wider than this, and no steeper from end to end.
ROAD_ELONGATION, ROAD_WIDTH_M, ROAD_GRADE = 6.0, 14.0, 0.15

Columns = Mapping[str, np.ndarray]


def judge(columns: Columns, count: int) -> tuple[list[str | None], list[str | None]]:
    """Flag and reason of each polygon.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (n,)
        ``slope_mean_deg``, ``relief_m``, ``length_m``, ``area_m2``, ``near_water`` and ``near_cloud`` (shares); NaN
        where not known. Terrain counts as known where both slope and relief are.
    count : int

    Returns
    -------
    flag, reason : list of str or None
        None where no rule can be tried: no terrain, no near infrared and no quality raster.
    """
    flags: list[str | None] = []
    reasons: list[str | None] = []
    for number in range(count):
        told = {name: float(values[number]) for name, values in columns.items()}
        flag, reason = _judge(told)
        flags.append(flag)
        reasons.append(reason)
    return flags, reasons


def _judge(it: Mapping[str, float]) -> tuple[str | None, str | None]:
    slope, relief = it["slope_mean_deg"], it["relief_m"]
    cloud, water = it["near_cloud"], it["near_water"]
    has_terrain = np.isfinite(slope) and np.isfinite(relief)  # relief is not known where the DEM covers a part only
    has_image = np.isfinite(cloud) or np.isfinite(water)
    if not (has_terrain or has_image):
        return None, None
    if cloud >= CLOUD_SHARE:
        return "cloud edge", f"{cloud:.0%} of it lies within {NEAR_CLOUD_M:.0f} m of cloud or its shadow"
    if water >= WATER_SHARE and not slope >= BAR_SLOPE:
        steep = f" and its mean slope is {slope:.0f} degrees" if has_terrain else ""
        return "river bar", f"{water:.0%} of it lies within {NEAR_WATER_M:.0f} m of water{steep}"
    width = it["area_m2"] / it["length_m"]
    long = it["length_m"] / width
    if has_terrain and long >= ROAD_ELONGATION and width <= ROAD_WIDTH_M and relief / it["length_m"] < ROAD_GRADE:
        return "road-like", (
            f"{it['length_m']:.0f} m long and {width:.0f} m wide on average, and rises by {relief:.0f} m only"
        )
    if has_terrain and slope < FLAT_SLOPE:
        return "flat bare ground", f"its mean slope is {slope:.0f} degrees, its relief {relief:.0f} m"
    known = " and ".join(name for name, there in (("terrain", has_terrain), ("image", has_image)) if there)
    return PLAUSIBLE, f"nothing in {known} speaks against it"
