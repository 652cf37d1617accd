"""Which landslides were found: mapped polygons against true ones, as objects.

One scar may be mapped in pieces and several scars as one polygon. Each true scar and each mapped polygon gets one
relation, after Hoover et al. (1996), IEEE Trans. Pattern Anal. Mach. Intell. 18: 673, with the threshold 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
RELATION_RULE = (
    f"one to one as above, before all others; split: two or more mapped polygons, each with at least {OVERLAP:.0%} of "
    f"its area in the same true landslide, together cover at least {OVERLAP:.0%} of it; merged: two or more true "
    f"landslides, each with at least {OVERLAP:.0%} of its area in the same mapped polygon, together cover at least "
    f"{OVERLAP:.0%} of it; partly: hit, or no false alarm, in another way"
)
TRUE_RELATIONS = ("one_to_one", "split", "merged", "partly", "missed")
MAPPED_RELATIONS = ("one_to_one", "piece", "merger", "partly", "false_alarm")


@dataclass(frozen=True)
class Matches:
    """Mapped and true polygons and where they overlap; made by ``compare``.

    Attributes
    ----------
    mapped, true : ndarray of geometries
    m, t : ndarray of int
        Overlapping pairs.
    shared : ndarray of geometries
        Overlap of each pair.
    """

    mapped: np.ndarray
    true: np.ndarray
    m: np.ndarray
    t: np.ndarray
    shared: np.ndarray

    @cached_property
    def mapped_area(self) -> np.ndarray:
        """Square metres."""
        return shapely.area(self.mapped)

    @cached_property
    def true_area(self) -> np.ndarray:
        """Square metres."""
        return shapely.area(self.true)

    @cached_property
    def shared_area(self) -> np.ndarray:
        """Square metres of each overlapping pair."""
        return shapely.area(self.shared)

    @cached_property
    def found_area(self) -> np.ndarray:
        """Of each true landslide, the area that is mapped."""
        return _covered(self.shared, self.t, len(self.true))

    @cached_property
    def right_area(self) -> np.ndarray:
        """Of each mapped polygon, the area that is true landslide."""
        return _covered(self.shared, self.m, len(self.mapped))

    @cached_property
    def hit(self) -> np.ndarray:
        """Which true landslides are hit."""
        return self.found_area / np.maximum(self.true_area, 1e-9) >= OVERLAP

    @cached_property
    def false_alarm(self) -> np.ndarray:
        """Which mapped polygons are false alarms."""
        return self.right_area / np.maximum(self.mapped_area, 1e-9) < OVERLAP

    @cached_property
    def iou(self) -> np.ndarray:
        """Of each overlapping pair."""
        union = self.mapped_area[self.m] + self.true_area[self.t] - self.shared_area
        return self.shared_area / np.maximum(union, 1e-9)

    @cached_property
    def pairs(self) -> np.ndarray:
        """Overlapping pairs that are one to one: each polygon in one pair at most, the best first."""
        pairs: list[int] = []
        used_m, used_t = set(), set()
        for pair in np.argsort(-self.iou, kind="stable"):
            if self.iou[pair] < IOU:
                break
            if self.m[pair] not in used_m and self.t[pair] not in used_t:
                used_m.add(self.m[pair])
                used_t.add(self.t[pair])
                pairs.append(pair)
        return np.array(pairs, int)

    @cached_property
    def relations(self) -> tuple[np.ndarray, np.ndarray]:
        """Relation of each true landslide and of each mapped polygon: numbers into the names above."""
        true = np.where(self.hit, TRUE_RELATIONS.index("partly"), TRUE_RELATIONS.index("missed"))
        mapped = np.where(self.false_alarm, MAPPED_RELATIONS.index("false_alarm"), MAPPED_RELATIONS.index("partly"))
        inside = self.shared_area / np.maximum(self.mapped_area[self.m], 1e-9) >= OVERLAP  # a piece of a scar
        holds = self.shared_area / np.maximum(self.true_area[self.t], 1e-9) >= OVERLAP  # a scar in a merger
        split, piece = self._gathered(inside, self.t, self.m, self.true_area)
        merger, merged = self._gathered(holds, self.m, self.t, self.mapped_area)
        true[merged], true[split] = TRUE_RELATIONS.index("merged"), TRUE_RELATIONS.index("split")
        mapped[piece], mapped[merger] = MAPPED_RELATIONS.index("piece"), MAPPED_RELATIONS.index("merger")
        true[self.t[self.pairs]] = mapped[self.m[self.pairs]] = 0
        return true, mapped

    def _gathered(
        self, belongs: np.ndarray, one: np.ndarray, many: np.ndarray, area: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which polygons are made of several of the other kind, and which those are.

        The one-to-one pairs stand apart: a scar that one polygon maps well is not split by a speck inside it.
        """
        alone = np.zeros(len(area), bool)
        alone[one[self.pairs]] = True
        belongs = belongs & ~alone[one]
        number = np.bincount(one[belongs], minlength=len(area))
        covered = _covered(self.shared[belongs], one[belongs], len(area))
        whole = (number >= 2) & (covered >= OVERLAP * area)
        return np.flatnonzero(whole), np.unique(many[belongs & whole[one]])


def compare(mapped: np.ndarray, true: np.ndarray) -> Matches:
    """Find where mapped and true polygons overlap.

    Parameters
    ----------
    mapped, true : ndarray of valid polygons
        In one CRS in metres; the true ones cut to the ground that was searched.
    """
    m, t = shapely.STRtree(true).query(mapped, predicate="intersects")
    return Matches(mapped, true, m, t, shapely.intersection(mapped[m], true[t]))


def summary(matches: Matches, *, min_area_m2: float = 0.0) -> dict[str, Any]:
    """Count and share what a comparison of landslides as objects found.

    Parameters
    ----------
    matches : Matches
        Of ``compare``.
    min_area_m2 : float
        Smallest polygon that the inventory may hold; misses that are smaller are counted apart too.

    Returns
    -------
    dict
        Counts, shares (None where nothing is there to share), and distances of centroids in metres.
    """
    hit, small = matches.hit, matches.true_area < min_area_m2
    hits, alarms = int(hit.sum()), int(matches.false_alarm.sum())
    true, mapped = matches.relations
    return {
        "rule": RULE,
        "true": len(hit),
        "mapped": len(matches.mapped),
        "hits": hits,
        "misses": len(hit) - hits,
        "misses_below_min_area": int((~hit & small).sum()),
        "false_alarms": alarms,
        "hit_rate": hits / len(hit) if len(hit) else None,
        "false_alarm_rate": alarms / len(matches.mapped) if len(matches.mapped) else None,
        "one_to_one": _one_to_one(matches),
        "relations": {
            "rule": RELATION_RULE,
            "true": {name: int((true == n).sum()) for n, name in enumerate(TRUE_RELATIONS)},
            "mapped": {name: int((mapped == n).sum()) for n, name in enumerate(MAPPED_RELATIONS)},
        },
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
    matches = compare(mapped, true)
    return matches.hit, matches.false_alarm


def _covered(overlap: np.ndarray, owner: np.ndarray, number: int) -> np.ndarray:
    """Area of each owner that its overlaps cover; where those overlap each other it counts once."""
    area = np.bincount(owner, shapely.area(overlap), minlength=number)
    order = np.argsort(owner, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []
    for group in groups:
        if len(group) > 1:
            area[owner[group[0]]] = shapely.area(shapely.union_all(overlap[group]))
    return area


def _one_to_one(matches: Matches) -> dict:
    """How alike the pairs are, and how far apart their centroids lie."""
    pairs = matches.pairs
    ours = shapely.centroid(matches.mapped[matches.m[pairs]])
    theirs = shapely.centroid(matches.true[matches.t[pairs]])
    distance = shapely.distance(ours, theirs)
    # single centroids also move when a toe is missed; their median shows whether the map as a whole lies aside
    east, north = (np.median(of(ours) - of(theirs)) if len(pairs) else 0.0 for of in (shapely.get_x, shapely.get_y))
    some = len(pairs) > 0
    return {
        "matches": len(pairs),
        "mean_iou": float(matches.iou[pairs].mean()) if some else None,
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
