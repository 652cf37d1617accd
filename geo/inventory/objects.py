"""How well landslides were found, by their size and by their outline, with intervals.

Everything here is about objects that were compared already (``geo.inventory.matching``); what a figure means is
written beside it and in ``docs/accuracy.md``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import shapely

from geo.inventory.bootstrap import Blocks, Bootstrap
from geo.inventory.matching import MAPPED_RELATIONS, NEAR_M, TRUE_RELATIONS, Matches, summary
from geo.inventory.outlines import Nearest, Pieces, displacement, pieces
from geo.replicates import Interval

#: Limits of the size classes, m2.
SIZE_LIMITS_M2 = (0.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 50_000.0, np.inf)
#: Steps of the missed-area curve, by size, ten to a decade.
_PER_DECADE = 10
#: Of more one-to-one pairs so many are drawn at random for the figures of outlines, lest they take minutes.
MOST_OUTLINES = 2000
#: Longest displacement that is looked for.
REACH_M = 20.0
#: A displacement with a larger standard error, in pixels, is not told by its outline.
_TELLING_PX = 1.5
#: Bins of distances between outlines, for intervals.
_BINS = np.concatenate([np.arange(0, 100, 0.1), [np.inf]])


def score_objects(
    matches: Matches,
    *,
    pixel_m: float,
    min_area_m2: float,
    blocks: Blocks,
    bootstrap: Bootstrap,
    border: shapely.Geometry | None = None,
) -> dict[str, Any]:
    """Scores of landslides as objects, with intervals.

    Parameters
    ----------
    matches : Matches
        Comparison on searched ground.
    pixel_m : float
        Pixel of the inventory.
    min_area_m2 : float
        Smallest polygon that the inventory may hold.
    blocks, bootstrap : Blocks, Bootstrap
        For intervals; an object belongs to the block of its centroid.
    border : geometry, optional
        Edge of the searched ground: outlines along it were cut, not mapped.

    Returns
    -------
    dict
        What ``matching.summary`` gives, and ``interval, by_size, missed_area, boundary, position``.
    """
    true_at, mapped_at = (_at(blocks, geometry, bootstrap) for geometry in (matches.true, matches.mapped))
    result = summary(matches, min_area_m2=min_area_m2)
    hits, number = bootstrap.sums(true_at, matches.hit, np.ones(len(matches.hit)))
    alarms, drawn = bootstrap.sums(mapped_at, matches.false_alarm, np.ones(len(matches.false_alarm)))
    pair_at = true_at[matches.t[matches.pairs]]
    iou, pairs = bootstrap.sums(pair_at, matches.iou[matches.pairs], np.ones(len(matches.pairs)))
    one, other = matches.mapped[matches.m[matches.pairs]], matches.true[matches.t[matches.pairs]]
    drawn_pairs = _draw(len(one), bootstrap.how.seed)
    outlines = one[drawn_pairs], other[drawn_pairs], pair_at[drawn_pairs], pixel_m, bootstrap, border
    aside = shapely.distance(shapely.centroid(one), shapely.centroid(other))
    in_pair = np.zeros(len(mapped_at))
    in_pair[matches.m[matches.pairs]] = 1
    result["interval"] = {
        "hit_rate": bootstrap.rate(hits, number),
        "false_alarm_rate": bootstrap.rate(alarms, drawn),
        "one_to_one_of_true": bootstrap.rate(bootstrap.sums(pair_at, np.ones(len(pair_at)))[0], number),
        "one_to_one_of_mapped": bootstrap.rate(*bootstrap.sums(mapped_at, in_pair, np.ones(len(mapped_at)))),
        "true_per_mapped": bootstrap.ratio(number, drawn),
        "mean_iou": bootstrap.ratio(iou, pairs),
        "centroid_distance_median_m": bootstrap.quantile(aside, pair_at, 0.5),
    }
    result["relations"]["interval"] = {
        kind: {
            name: bootstrap.rate(*bootstrap.sums(at, relation == number, np.ones(len(at))))
            for number, name in enumerate(names)
        }
        for kind, at, relation, names in (
            ("true", true_at, matches.relations[0], TRUE_RELATIONS),
            ("mapped", mapped_at, matches.relations[1], MAPPED_RELATIONS),
        )
    }
    result["by_size"] = _by_size(matches, true_at, mapped_at, bootstrap)
    result["missed_area"] = _missed_area(matches, true_at, bootstrap)
    result["boundary"] = _boundary(*outlines)
    result["position"] = _position(*outlines)
    return result


def _draw(pairs: int, seed: int) -> np.ndarray:
    """Pairs whose outlines are compared: all, or so many drawn at random."""
    if pairs <= MOST_OUTLINES:
        return np.arange(pairs)
    return np.sort(np.random.default_rng(seed).choice(pairs, MOST_OUTLINES, replace=False))


def _at(blocks: Blocks, geometry: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Block of each object; an object whose centroid lies off the searched ground goes to the nearest such block."""
    centre = shapely.centroid(geometry)
    number = blocks.of_points(shapely.get_x(centre), shapely.get_y(centre))
    present = bootstrap.present
    off = ~np.isin(number, present)
    if off.any():
        row, column = np.divmod(number[off], blocks.across)
        rows, columns = np.divmod(present, blocks.across)
        away = np.hypot(row[:, None] - rows, column[:, None] - columns)
        number[off] = present[away.argmin(axis=1)]
    return number


def _by_size(
    matches: Matches, true_at: np.ndarray, mapped_at: np.ndarray, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """Hit rate by the true size, false alarms by the mapped size."""
    rows = []
    for low, high in pairwise(SIZE_LIMITS_M2):
        true = (matches.true_area >= low) & (matches.true_area < high)
        mapped = (matches.mapped_area >= low) & (matches.mapped_area < high)
        hits, number = bootstrap.sums(true_at, matches.hit & true, true)
        alarms, drawn = bootstrap.sums(mapped_at, matches.false_alarm & mapped, mapped)
        rows.append(
            {
                "from_m2": low,
                "to_m2": high if np.isfinite(high) else None,
                "true": int(true.sum()),
                "hits": int((matches.hit & true).sum()),
                "hit_rate": _share((matches.hit & true).sum(), true.sum()),
                "hit_rate_interval": bootstrap.rate(hits, number),
                "mapped": int(mapped.sum()),
                "false_alarms": int((matches.false_alarm & mapped).sum()),
                "false_alarm_rate": _share((matches.false_alarm & mapped).sum(), mapped.sum()),
                "false_alarm_rate_interval": bootstrap.rate(alarms, drawn),
            }
        )
    return rows


def _missed_area(matches: Matches, true_at: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    """Tell what is missed among scars of at least a size: from which size an inventory is complete."""
    area, missed = matches.true_area, matches.true_area - np.minimum(matches.found_area, matches.true_area)
    curve: dict[str, list] = {
        name: [] for name in ("at_least_m2", "scars", "area_missed_share", "area_missed_interval", "scars_missed_share")
    }
    if len(area):
        first = np.floor(np.log10(max(area.min(), 1.0)) * _PER_DECADE)
        for size in 10 ** (np.arange(first, np.log10(area.max()) * _PER_DECADE + 1e-9) / _PER_DECADE):
            some = area >= size
            if not some.any():
                break
            part, whole = bootstrap.sums(true_at, missed * some, area * some)
            curve["at_least_m2"].append(float(size))
            curve["scars"].append(int(some.sum()))
            curve["area_missed_share"].append(_share(missed[some].sum(), area[some].sum()))
            curve["area_missed_interval"].append(bootstrap.rate(part, whole))
            curve["scars_missed_share"].append(_share((~matches.hit[some]).sum(), some.sum()))
    part, whole = bootstrap.sums(true_at, missed, area)
    return {
        "rule": "of all true landslides of at least a size, the share of area that is not mapped, and of scars not hit",
        "missed_m2": float(missed.sum()),
        "share": _share(missed.sum(), area.sum()),
        "interval": bootstrap.rate(part, whole),
        "curve": curve,
    }


def _boundary(
    one: np.ndarray,
    other: np.ndarray,
    at: np.ndarray,
    pixel_m: float,
    bootstrap: Bootstrap,
    border: shapely.Geometry | None,
) -> dict[str, Any]:
    """Distance between the outlines of one-to-one pairs, from each to the other, each metre of outline alike."""
    ours, theirs = (_inside(pieces(g, pixel_m / 2), border, pixel_m) for g in (one, other))
    everything = [pieces(g, pixel_m / 2) for g in (one, other)]
    distance, length, pair = (np.empty(0) for _ in range(3))
    for here, there in ((ours, everything[1]), (theirs, everything[0])):
        if len(here.owner) and len(there.owner):
            away, _ = Nearest(there)(here.middle, here.normal, here.owner)
            distance, length = np.append(distance, np.hypot(*away.T)), np.append(length, here.length)
            pair = np.append(pair, here.owner)
    rule = (
        "distance from each outline of a one-to-one pair to the other one, by length of outline; outlines along "
        "the edge of the searched ground are left out"
    )
    if not len(distance):
        nothing = dict.fromkeys(("mean_m", "median_m", "p95_m", "pair_median_m", "margin_m"))
        return {"rule": rule, "pairs": 0, **nothing, "interval": None}
    pair = pair.astype(int)
    per_pair, mean = np.unique(pair), np.bincount(pair, distance * length) / np.maximum(np.bincount(pair, length), 1e-9)
    grown = shapely.area(one) - shapely.area(other)
    around = (shapely.length(one) + shapely.length(other)) / 2
    where = at[pair]
    weighted, total = bootstrap.sums(where, distance * length, length)
    more, edge = bootstrap.sums(at, grown, around)
    return {
        "rule": rule,
        "pairs": len(per_pair),
        "mean_m": float((distance * length).sum() / length.sum()),
        "median_m": _quantile(distance, length, 0.5),
        "p95_m": _quantile(distance, length, 0.95),
        "pair_median_m": float(np.median(mean[per_pair])),
        "margin_m": float(grown.sum() / around.sum()),
        "interval": {
            "mean_m": bootstrap.ratio(weighted, total),
            "p95_m": _interval_of_quantile(distance, length, where, 0.95, bootstrap),
            "pair_median_m": bootstrap.quantile(mean[per_pair], at[per_pair], 0.5),
            "margin_m": bootstrap.ratio(more, edge),
        },
    }


def _position(
    one: np.ndarray,
    other: np.ndarray,
    at: np.ndarray,
    pixel_m: float,
    bootstrap: Bootstrap,
    border: shapely.Geometry | None,
) -> dict[str, Any]:
    """How far each outline lies aside from where it belongs, whatever part of the shape was missed."""
    # steps of pixels are smoothed away: they point along the axes, not out of the scar
    smooth = [shapely.simplify(g, 0.6 * pixel_m) for g in (one, other)]
    ours = _inside(pieces(smooth[0], 1.5 * pixel_m, most=150), border, pixel_m)
    theirs = pieces(smooth[1], 1.5 * pixel_m, most=300)
    found = displacement(ours, theirs, len(one), reach_m=REACH_M, tolerance_m=2 * pixel_m)
    telling = found.error_m <= _TELLING_PX * pixel_m
    far = telling & (found.length_m >= 0.99 * REACH_M)
    aside, where = found.length_m[telling], at[telling]
    some = len(aside) > 0
    return {
        "rule": (
            f"displacement, of at most {REACH_M:g} m, that lays the mapped outline of a one-to-one pair on the true "
            "one (robust closest points; parts of the outline that were missed or added do not count); pairs whose "
            f"displacement has a standard error (jackknife over stretches of the outline) above "
            f"{_TELLING_PX * pixel_m:g} m have too little outline to tell"
        ),
        "pairs": int(telling.sum()),
        "too_little_outline": int((~telling).sum()),
        "at_the_limit": int(far.sum()),
        "median_m": float(np.median(aside)) if some else None,
        "p95_m": float(np.quantile(aside, 0.95)) if some else None,
        "max_m": float(aside.max()) if some else None,
        "share_within_10_m": float((aside <= NEAR_M).mean()) if some else None,
        "east_m": float(np.median(found.east[telling])) if some else None,
        "north_m": float(np.median(found.north[telling])) if some else None,
        "standard_error_median_m": float(np.median(found.error_m[telling])) if some else None,
        "interval": {
            "median_m": bootstrap.quantile(aside, where, 0.5),
            "p95_m": bootstrap.quantile(aside, where, 0.95),
            "east_m": bootstrap.quantile(found.east[telling], where, 0.5),
            "north_m": bootstrap.quantile(found.north[telling], where, 0.5),
        },
    }


def _inside(outline: Pieces, border: shapely.Geometry | None, pixel_m: float) -> Pieces:
    """Leave out what runs along the edge of the searched ground."""
    if border is None or not len(outline.owner):
        return outline
    return outline.only(~shapely.dwithin(border, shapely.points(outline.middle), pixel_m))


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    heap = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(heap, share * heap[-1]), len(order) - 1)])


def _interval_of_quantile(
    values: np.ndarray, weights: np.ndarray, blocks: np.ndarray, share: float, bootstrap: Bootstrap
) -> Interval:
    """Interval of a quantile of very many values: counted in bins of 0.1 m."""
    of = np.digitize(values, _BINS) - 1
    used, bins = np.unique(of, return_inverse=True)
    kind = bootstrap.place(blocks) * len(used) + bins
    counts = np.bincount(kind, weights, minlength=len(bootstrap.present) * len(used))

    def quantile(sums: np.ndarray) -> np.ndarray:
        heap = np.cumsum(sums, axis=1)
        first = (heap < share * heap[:, -1:]).sum(axis=1)
        middle = _BINS[used] + 0.05
        return np.where(heap[:, -1] > 0, middle[np.minimum(first, len(used) - 1)], np.nan)

    return bootstrap.interval(quantile, *counts.reshape(-1, len(used)).T)


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
