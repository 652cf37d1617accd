"""Tracks as a GeoPackage: one layer of scars, one of what each inventory says of them, and a table of the dates."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import pandas as pd
import pyproj

from geo.inventory import styled
from geo.inventory.dated import Dated
from geo.inventory.tracking import COLUMNS, STATUSES, Observation, Rules, Track

TRACKS, OBSERVATIONS, DATES = "tracks", "observations", "dates"
_COLOURS = {
    "first": (120, 120, 120),
    "new": (215, 25, 28),
    "reactivated": (253, 141, 60),
    "unchanged": (171, 148, 122),
    "recovering": (120, 198, 121),
    "gone": (0, 104, 55),
    "merged": (117, 107, 177),
    "not seen": (70, 130, 220),
}


def write(
    path: str | os.PathLike,
    tracks: Sequence[Track],
    inventories: Sequence[Dated],
    rules: Rules,
    *,
    overwrite: bool = False,
) -> None:
    """Write tracks; they appear whole or not at all.

    Parameters
    ----------
    path : path
        GeoPackage.
    tracks : sequence of Track
    inventories : sequence of Dated
        That they were made of.
    rules : Rules
        By which they were linked.

    Raises
    ------
    OutputExistsError, OutputError
    """
    crs = inventories[0].crs
    style = styled.Style(
        field="status",
        categories=[styled.Category(name, f"{name}: {words}", _COLOURS[name]) for name, words in STATUSES.items()],
        choices={},
    )
    layers = {
        TRACKS: styled.Layer(_tracks(tracks, crs), "MultiPolygon", style),
        OBSERVATIONS: styled.Layer(_observations(tracks, crs), "MultiPolygon", style),
    }
    styled.write(path, layers, tables={DATES: pd.DataFrame(dates(tracks, inventories, rules))}, overwrite=overwrite)


def dates(tracks: Sequence[Track], inventories: Sequence[Dated], rules: Rules) -> list[dict[str, Any]]:
    """Count what was said at each date: one row per inventory with the number of tracks of each status.

    ``tolerance_m`` is the largest of those to the dates before; None for the first.
    """
    rows = []
    for number, inventory in enumerate(inventories):
        said = [o for t in tracks for o in t.observations if o.day == inventory.day]
        counts = Counter(o.status for o in said)
        rows.append(
            {
                "date": inventory.day.isoformat(),
                "inventory": inventory.name,
                "landslides": len(inventory.geometry),
                "repaired": inventory.repaired,
                "dropped": inventory.dropped,
                "position_error_m": inventory.position_error_m,
                "tolerance_m": max((rules.tolerance(other, inventory) for other in inventories[:number]), default=None),
                "searched_km2": None if inventory.seen is None else inventory.seen.area / 1e6,
                "landslide_km2": sum(o.area_m2 or 0.0 for o in said) / 1e6,
                **{column: counts.get(status, 0) for status, column in COLUMNS.items()},
                "split": sum(o.split for o in said),
                "joined": sum(o.joined for o in said),
            }
        )
    return rows


def _tracks(tracks: Sequence[Track], crs: pyproj.CRS) -> gpd.GeoDataFrame:
    texts = ("id", "status", "first_seen", "not_before", "last_seen", "last_looked", "merged_into", "history")
    rows = [
        {
            "id": t.id,
            "status": t.status,
            "first_seen": t.there[0].day.isoformat(),
            "not_before": t.not_before.isoformat() if t.not_before else None,
            "last_seen": t.last.day.isoformat(),
            "last_looked": next(o for o in reversed(t.observations) if o.status != "not seen").day.isoformat(),
            "observations": len(t.there),
            "area_first_m2": t.there[0].area_m2,
            "area_last_m2": t.observations[-1].area_m2,
            "area_largest_m2": max(o.area_m2 or 0.0 for o in t.there),
            "merged_into": t.merged_into or None,
            "history": "; ".join(_said(o) for o in t.observations),
        }
        for t in tracks
    ]
    return _frame(rows, [t.last.geometry for t in tracks], crs, texts, ("observations",))


def _observations(tracks: Sequence[Track], crs: pyproj.CRS) -> gpd.GeoDataFrame:
    texts = ("track", "date", "status", "landslides")
    said = [(t, o) for t in tracks for o in t.observations]
    rows = [
        {
            "track": t.id,
            "date": o.day.isoformat(),
            "status": o.status,
            "area_m2": o.area_m2,
            "polygons": o.polygons,
            "landslides": ",".join(o.ids) or None,
            "seen_share": o.seen_share,
            "grown_m2": o.grown_m2,
            "lost_m2": o.lost_m2,
            "split": int(o.split),
            "joined": int(o.joined),
        }
        for t, o in said
    ]
    return _frame(rows, [o.geometry for _, o in said], crs, texts, ("polygons", "split", "joined"))


def _frame(
    rows: list[dict[str, Any]],
    geometry: list,
    crs: pyproj.CRS,
    texts: Sequence[str],
    integers: Sequence[str],
) -> gpd.GeoDataFrame:
    """Columns of fixed types, also where nothing is in them."""
    if not rows:
        return gpd.GeoDataFrame({name: pd.Series(dtype="str") for name in texts}, geometry=gpd.GeoSeries([], crs=crs))
    table = pd.DataFrame(rows)
    kinds = {n: "str" if n in texts else "int64" if n in integers else "float64" for n in table.columns}
    return gpd.GeoDataFrame(table.astype(kinds), geometry=gpd.GeoSeries(geometry, crs=crs), crs=crs)


def _said(o: Observation) -> str:
    area = "" if o.area_m2 is None else f" {o.area_m2:.0f} m2"
    return f"{o.day.isoformat()} {o.status}{area}"
