"""Which landslides were found: mapped polygons against true ones, as objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

#: A scar is hit, and a polygon is no false alarm, where at least this share of its area lies on the other kind.
OVERLAP = 0.5
#: A mapped and a true polygon are the same landslide where their IoU is at least this.
IOU = 0.5
#: Centroids nearer than this count as lying on the right ground.
NEAR_M = 10.0

RULE = (
    f"hit: at least {OVERLAP:.0%} of a true landslide's searched area is mapped; "
    f"false alarm: less than {OVERLAP:.0%} of a mapped polygon's area is true landslide; "
    f"one to one: IoU of at least {IOU:g}, the best pairs first"
)


def match(mapped: np.ndarray, true: np.ndarray, *, min_area_m2: float = 0.0) -> dict[str, Any]:
    """Compare landslides as objects.

    Parameters
    ----------
    mapped, true : ndarray of valid polygons
        In one CRS in metres; the true ones cut to the ground that was searched.
    min_area_m2 : float
        Smallest polygon that the inventory may hold; misses that are smaller are counted apart too.

    Returns
    -------
    dict
        Counts, shares (None where nothing is there to share), and distances of centroids in metres.
    """
    tree = shapely.STRtree(true)
    m, t = tree.query(mapped, predicate="intersects")
    overlap = shapely.intersection(mapped[m], true[t])
    hit, false_alarm = _judged(mapped, true, m, t, overlap)
    small = shapely.area(true) < min_area_m2
    hits, alarms = int(hit.sum()), int(false_alarm.sum())
    return {
        "rule": RULE,
        "true": len(true),
        "mapped": len(mapped),
        "hits": hits,
        "misses": len(true) - hits,
        "misses_below_min_area": int((~hit & small).sum()),
        "false_alarms": alarms,
        "hit_rate": hits / len(true) if len(true) else None,
        "false_alarm_rate": alarms / len(mapped) if len(mapped) else None,
        "one_to_one": _one_to_one(mapped, true, m, t, shapely.area(overlap)),
    }


def judged(mapped: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell of each landslide whether it was found, by ``RULE``.

    Parameters
    ----------
    mapped, true : ndarray of valid polygons
        As of ``match``.

    Returns
    -------
    hit : ndarray of bool, shape (true,)
    false_alarm : ndarray of bool, shape (mapped,)
    """
    m, t = shapely.STRtree(true).query(mapped, predicate="intersects")
    return _judged(mapped, true, m, t, shapely.intersection(mapped[m], true[t]))


def _judged(
    mapped: np.ndarray, true: np.ndarray, m: np.ndarray, t: np.ndarray, overlap: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    true_share = _covered(overlap, t, len(true)) / np.maximum(shapely.area(true), 1e-9)
    mapped_share = _covered(overlap, m, len(mapped)) / np.maximum(shapely.area(mapped), 1e-9)
    return true_share >= OVERLAP, mapped_share < OVERLAP


def _covered(overlap: np.ndarray, owner: np.ndarray, number: int) -> np.ndarray:
    """Area of each owner that its overlaps cover; where those overlap each other it counts once."""
    area = np.bincount(owner, shapely.area(overlap), minlength=number)
    order = np.argsort(owner, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []
    for group in groups:
        if len(group) > 1:
            area[owner[group[0]]] = shapely.area(shapely.union_all(overlap[group]))
    return area


def _one_to_one(mapped: np.ndarray, true: np.ndarray, m: np.ndarray, t: np.ndarray, overlap: np.ndarray) -> dict:
    """Pairs by IoU, each polygon in one pair at most, and how far apart their centroids lie."""
    iou = overlap / np.maximum(shapely.area(mapped)[m] + shapely.area(true)[t] - overlap, 1e-9)
    pairs: list[int] = []
    used_m, used_t = set(), set()
    for pair in np.argsort(-iou, kind="stable"):
        if iou[pair] < IOU:
            break
        if m[pair] not in used_m and t[pair] not in used_t:
            used_m.add(m[pair])
            used_t.add(t[pair])
            pairs.append(pair)
    ours, theirs = shapely.centroid(mapped[m[pairs]]), shapely.centroid(true[t[pairs]])
    distance = shapely.distance(ours, theirs)
    # single centroids also move when a toe is missed; their median shows whether the map as a whole lies aside
    east, north = (np.median(of(ours) - of(theirs)) if len(pairs) else 0.0 for of in (shapely.get_x, shapely.get_y))
    some = len(pairs) > 0
    return {
        "matches": len(pairs),
        "mean_iou": float(iou[pairs].mean()) if some else None,
        "centroid_distance_m": {
            "median": round(float(np.median(distance)), 3) if some else None,
            "max": round(float(distance.max()), 3) if some else None,
            "share_within_10_m": float((distance <= NEAR_M).mean()) if some else None,
        },
        "offset_m": {
            "east": round(float(east), 3) if some else None,
            "north": round(float(north), 3) if some else None,
        },
    }
