"""Scars of several inventories linked into histories: which are new, reactivated, unchanged, recovering or gone.

A *track* is a scar through time; its *observations* are what each inventory says of it. Dates are worked through in
order, so a later inventory never changes the identifiers or what was said before. Ground that nobody could look at
says nothing: a scar under a cloud has not recovered.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import shapely

from geo.inventory.dated import Dated
from geo.inventory.shape import widened

#: Least tolerance that is taken where none is given, and how many errors of position between two dates it is at least:
#: an outline lies within two standard errors of its place in 95 % of cases.
LEAST_TOLERANCE_M, ERRORS = 8.0, 2.0
#: What an observation may say.
STATUSES = {
    "first": "there when this ground was looked at for the first time",
    "new": "not there at the look before",
    "reactivated": "grown by more than the limit, or there again",
    "unchanged": "neither grown nor shrunk by more than the limit",
    "recovering": "shrunk by more than the limit",
    "gone": "searched, and not there any more",
    "merged": "part of another track's polygon from here on",
    "not seen": "not searched",
}
#: Columns of the table of dates that count them.
COLUMNS = {status: status.replace(" ", "_") for status in STATUSES}


@dataclass(frozen=True)
class Rules:
    """Limits of linking and judging.

    Attributes
    ----------
    tolerance_m : float or None
        How far outlines of one landslide on two dates may lie apart by error of position alone; None: as far as the
        errors that both inventories state allow.
    overlap : float
        A polygon continues a track where at least this share of one of them lies on the other, widened by the
        tolerance.
    change : float
        Share of the earlier area; growth and loss count only beyond the tolerance.
    seen : float
        Share of a scar that must have been searched to judge it.
    """

    tolerance_m: float | None = None
    overlap: float = 0.5
    change: float = 0.2
    seen: float = 0.5

    def tolerance(self, one: Dated, other: Dated) -> float:
        """Tolerance in metres between two dates; of these two alone, so that a later one changes nothing."""
        if self.tolerance_m is not None:
            return self.tolerance_m
        return max(LEAST_TOLERANCE_M, ERRORS * error_between(one, other))


@dataclass
class Observation:
    """What one inventory says of one track.

    Attributes
    ----------
    day : date
    status : str
        One of ``STATUSES``.
    geometry : geometry or None
        None where the scar was not seen, or was not there.
    polygons : int
        Polygons of the inventory that make it up.
    ids : tuple of str
        Their identifiers.
    seen_share : float
        Share of the scar, as it was known before, that was searched.
    grown_m2, lost_m2 : float
        Beyond the tolerance, on ground searched both times.
    split, joined : bool
        In more polygons than before; or other tracks are part of it from here on.
    """

    day: date
    status: str
    geometry: shapely.Geometry | None = None
    polygons: int = 0
    ids: tuple[str, ...] = ()
    seen_share: float = 1.0
    grown_m2: float = 0.0
    lost_m2: float = 0.0
    split: bool = False
    joined: bool = False

    @property
    def area_m2(self) -> float | None:
        """None where the scar was not seen; 0 where it is gone."""
        if self.geometry is not None:
            return float(self.geometry.area)
        return 0.0 if self.status == "gone" else None


@dataclass
class Track:
    """One scar through time.

    Attributes
    ----------
    id : str
        Made from the first date and place, so it is the same each time.
    observations : list of Observation
        One for each date from its first on, until it is part of another.
    not_before : date or None
        Last look at this ground before, without the scar; None where nobody looked.
    merged_into : str
        Track that it is part of in the end, empty where it is none.
    """

    id: str
    observations: list[Observation] = field(default_factory=list)
    not_before: date | None = None
    merged_into: str = ""

    @property
    def last(self) -> Observation:
        """Latest observation with an outline."""
        return next(o for o in reversed(self.observations) if o.geometry is not None)

    @property
    def status(self) -> str:
        """What was said last by those who looked."""
        return next((o.status for o in reversed(self.observations) if o.status != "not seen"), "not seen")

    @property
    def there(self) -> list[Observation]:
        """Observations with an outline."""
        return [o for o in self.observations if o.geometry is not None]


def error_between(one: Dated, other: Dated) -> float:
    """Give the standard error in metres of one date's position to another's: independent errors, added in squares."""
    return math.hypot(one.position_error_m or 0.0, other.position_error_m or 0.0)


def track(inventories: Sequence[Dated], rules: Rules) -> list[Track]:
    """Link the landslides of several dates.

    Parameters
    ----------
    inventories : sequence of Dated
        In one CRS in metres, in the order of time.
    rules : Rules

    Returns
    -------
    list of Track
        In the order of their first date.
    """
    tracks: list[Track] = []
    for number, now in enumerate(inventories):
        open_tracks = [t for t in tracks if not t.merged_into]
        looks = _Look(now)
        earlier = {other.day: _Look(other) for other in inventories[:number]}
        footprints = np.array([t.last.geometry for t in open_tracks], dtype=object)
        apart = {other.day: rules.tolerance(other, now) for other in inventories[:number]}
        tolerance = np.array([apart[t.last.day] for t in open_tracks])
        owner = _continue(footprints, tolerance, now.geometry, rules.overlap)
        for index, one in enumerate(open_tracks):
            mine = np.flatnonzero(owner.of == index)
            joined = owner.swallowed.get(index, [])
            reach = float(tolerance[[index, *joined]].max())
            one.observations.append(_observe(one, now, looks, earlier, mine, footprints[joined], reach, rules))
        for index, into in owner.merged.items():
            lost = open_tracks[index]
            lost.merged_into = open_tracks[into].id
            share = looks.share(lost.last.geometry)
            lost.observations[-1] = Observation(now.day, "merged", seen_share=share)
        for polygon in np.flatnonzero(owner.of < 0):
            tracks.append(_begin(int(polygon), now, looks, earlier, rules))
    return tracks


class _Look:
    """Ground that an inventory searched."""

    def __init__(self, inventory: Dated):
        self.ground = inventory.seen
        if self.ground is not None:
            shapely.prepare(self.ground)

    def share(self, geometry: shapely.Geometry) -> float:
        """Share of a geometry that was searched."""
        if self.ground is None or self.ground.covers(geometry):
            return 1.0
        return float(shapely.intersection(geometry, self.ground).area / max(geometry.area, 1e-9))

    def part(self, geometry: shapely.Geometry) -> shapely.Geometry:
        """Part of a geometry that was searched."""
        if self.ground is None or self.ground.covers(geometry):
            return geometry
        return shapely.intersection(geometry, self.ground)


@dataclass(frozen=True)
class _Owners:
    """Which track each polygon continues (-1: none), and which tracks go up in which."""

    of: np.ndarray
    merged: dict[int, int]
    swallowed: dict[int, list[int]]


def _continue(footprints: np.ndarray, tolerance: np.ndarray, polygons: np.ndarray, overlap: float) -> _Owners:
    """Give each polygon to the track that it shares most ground with; the tolerance is that of each track, in metres.

    A track that shares ground with a polygon but gets none goes up in that polygon's track.
    """
    of = np.full(len(polygons), -1)
    if not len(footprints) or not len(polygons):
        return _Owners(of, {}, {})
    wider = widened(footprints, tolerance)
    p, t = shapely.STRtree(wider).query(polygons, predicate="intersects")
    # how much of each lies on the other, when that is widened by what position alone can do; a large outline that meets
    # many takes half a second, so each is widened once
    different, again = np.unique(np.column_stack((p, tolerance[t])), axis=0, return_inverse=True)
    wide = widened(polygons[different[:, 0].astype(int)], different[:, 1])[again.ravel()]
    mine = shapely.area(shapely.intersection(footprints[t], wide)) / np.maximum(shapely.area(footprints[t]), 1e-9)
    theirs = shapely.area(shapely.intersection(polygons[p], wider[t])) / np.maximum(shapely.area(polygons[p]), 1e-9)
    linked = np.maximum(mine, theirs) >= overlap
    p, t, mine, theirs = p[linked], t[linked], mine[linked], theirs[linked]
    shared = shapely.area(shapely.intersection(polygons[p], footprints[t]))
    # by ground truly shared; where outlines only come near, by how much of them does
    order = np.lexsort((t, -np.maximum(mine, theirs), -shared))
    for k in order:
        if of[p[k]] < 0:
            of[p[k]] = t[k]
    merged: dict[int, int] = {}
    swallowed: dict[int, list[int]] = {}
    for k in order:
        track_index = int(t[k])
        # it must lie in that polygon itself: a polygon that merely touches it has not swallowed it
        if track_index not in of and track_index not in merged and mine[k] >= overlap:
            merged[track_index] = int(of[p[k]])
            swallowed.setdefault(int(of[p[k]]), []).append(track_index)
    return _Owners(of, merged, swallowed)


def _observe(
    one: Track,
    now: Dated,
    look: _Look,
    earlier: dict[date, _Look],
    mine: np.ndarray,
    joined: np.ndarray,
    tolerance: float,
    rules: Rules,
) -> Observation:
    """Judge a track at a date by the polygons that continue it and the tracks that go up in it."""
    before = one.last
    footprint = shapely.union_all([before.geometry, *joined])
    if not len(mine):
        share = look.share(footprint)
        return Observation(now.day, "gone" if share >= rules.seen else "not seen", seen_share=share)
    geometry = shapely.union_all(now.geometry[mine])
    share = look.share(footprint)
    # what was hidden before may have been there, and what is hidden now may still be
    was, is_now = widened(np.array([footprint, geometry], dtype=object), tolerance)
    grown = earlier[before.day].part(shapely.difference(geometry, was)).area
    lost = look.part(shapely.difference(footprint, is_now)).area
    limit = rules.change * footprint.area
    if one.observations[-1].status == "gone" or (grown > limit and grown >= lost):
        status = "reactivated"
    elif lost > limit:
        status = "recovering"
    else:
        status = "unchanged"
    return Observation(
        now.day,
        status,
        geometry=geometry,
        polygons=len(mine),
        ids=tuple(str(i) for i in now.ids[mine] if i),
        seen_share=share,
        grown_m2=float(grown),
        lost_m2=float(lost),
        split=len(mine) > before.polygons,
        joined=len(joined) > 0,
    )


def _begin(polygon: int, now: Dated, look: _Look, earlier: dict[date, _Look], rules: Rules) -> Track:
    """Begin a track; it is new only where somebody looked before and saw nothing."""
    geometry = now.geometry[polygon]
    point = shapely.point_on_surface(geometry)
    text = f"{now.crs.to_string()} {now.day.isoformat()} {point.x:.1f} {point.y:.1f} {geometry.area:.1f}"
    looked = [day for day, other in earlier.items() if other.share(geometry) >= rules.seen]
    name = str(now.ids[polygon])
    observation = Observation(
        now.day,
        "new" if looked else "first",
        geometry=geometry,
        polygons=1,
        ids=(name,) if name else (),
        seen_share=look.share(geometry),
    )
    identifier = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Track(identifier, [observation], max(looked) if looked else None)
