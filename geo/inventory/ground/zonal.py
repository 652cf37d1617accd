"""Numbers of polygons from the rasters below them, tile by tile, so that thousands of polygons cost one reading.

All sums are over pixels of the polygon (before its outline is simplified). Each tile gives the sums of its own
pixels; adding them does not depend on how the grid is cut, but for rounding in the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely
from rasterio.windows import Window

from geo import windows
from geo.geobox import GeoBox
from geo.indices import VISIBLE, normalised_difference
from geo.inventory.ground.burnt import Burnt
from geo.inventory.ground.evidence import Evidence
from geo.masks import Quality
from geo.stream import cpus, stream
from geo.terrain import Terrain
from geo.vectorize import Regions
from geo.windows import grow, slices

_TILE = 1024
_WORKERS = 4
#: Within this distance of water a polygon may be a river bar, of cloud or its shadow their edge.
NEAR_WATER_M = 20.0
NEAR_CLOUD_M = 30.0
#: Water: more green than near infrared (McFeeters 1996, NDWI above 0), and dark there.
_WATER_NDWI, _WATER_NIR = 0.0, 0.15
#: Pixels of water that are smaller than this across are shadows and noise.
_LEAST_WATER_M = 6.0


@dataclass
class Zones:
    """Sums over the pixels of each polygon; all arrays have one entry per polygon."""

    count: int
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    crown: np.ndarray = field(init=False)  # height, column, row of the highest pixel
    toe: np.ndarray = field(init=False)
    steepest: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.crown = np.full((self.count, 3), np.nan)
        self.toe = np.full((self.count, 3), np.nan)
        self.steepest = np.full(self.count, np.nan)

    def mean(self, what: str, pixels: str) -> np.ndarray:
        """Mean of a sum over the pixels where it is known; NaN where there are none."""
        total, number = (self.sums.get(name, np.zeros(self.count)) for name in (what, pixels))
        return np.where(number > 0, total / np.where(number > 0, number, 1), np.nan)


@dataclass(frozen=True)
class _Part:
    """What one tile adds: polygons, their sums, and the extremes of terrain in it."""

    who: np.ndarray
    sums: dict[str, np.ndarray]
    crown: np.ndarray | None = None
    toe: np.ndarray | None = None
    steepest: np.ndarray | None = None


def zones(
    regions: Regions,
    evidence: Evidence,
    grid: GeoBox,
    *,
    workers: int | None = None,
) -> Zones:
    """Sum up what rasters tell below polygons.

    Parameters
    ----------
    regions : Regions
        Along the pixels of the grid; image and spread are those of the view that is their ``source``.
    evidence : Evidence
    grid : GeoBox
    workers : int, optional
        Threads, at most 4.

    Returns
    -------
    Zones
    """
    found = Zones(len(regions))
    if not len(regions) or not (evidence.images or evidence.spreads or evidence.terrain):
        return found
    work = _Tile(regions, evidence, grid)
    height, width = grid.shape
    cut = [w for w in windows.blocks((height, width), _TILE) if work.holds_any(w)]
    for _, part in stream(work, cut, workers=min(_WORKERS, cpus(workers))):
        if part is not None:
            _add(found, part)
    return found


def _add(found: Zones, part: _Part) -> None:
    for name, values in part.sums.items():
        found.sums.setdefault(name, np.zeros(found.count))[part.who] += values
    if part.crown is not None and part.toe is not None and part.steepest is not None:
        who = part.who
        higher = ~(part.crown[:, 0] <= found.crown[who, 0])  # also where nothing is known yet
        found.crown[who[higher]] = part.crown[higher]
        lower = ~(part.toe[:, 0] >= found.toe[who, 0])
        found.toe[who[lower]] = part.toe[lower]
        found.steepest[who] = np.fmax(found.steepest[who], part.steepest)


class _Tile:
    """What is done with one tile."""

    def __init__(self, regions: Regions, evidence: Evidence, grid: GeoBox):
        self._burnt = Burnt(regions.geometry, grid.affine)
        self._source, self._evidence = regions.source, evidence
        self._pixel_m = float(np.sqrt(abs(grid.affine.determinant)))
        self._tree = shapely.STRtree(regions.geometry)
        self._affine = grid.affine

    def holds_any(self, window: Window) -> bool:
        """Whether a polygon's extent meets a window."""
        t, w = self._affine, window
        corner = [(w.col_off, w.row_off), (w.col_off + w.width, w.row_off)]
        corner += [(w.col_off + w.width, w.row_off + w.height), (w.col_off, w.row_off + w.height)]
        return len(self._tree.query(shapely.Polygon([t @ at for at in corner]))) > 0

    def __call__(self, window: Window) -> _Part | None:
        labels = self._burnt.read(window)
        at = np.flatnonzero(labels)
        if not len(at):
            return None
        who, of = np.unique(labels.ravel()[at] - 1, return_inverse=True)
        part = _Part(who, {})
        for number in np.unique(self._source[who]):
            mine = self._source[who][of] == number
            self._of_view(int(number), window, at[mine], of[mine], part)
        terrain = self._evidence.terrain
        return part if terrain is None else _of_terrain(terrain, window, at, of, part)

    def _of_view(self, number: int, window: Window, at: np.ndarray, of: np.ndarray, part: _Part) -> None:
        """Add what the image and the spread of one view tell."""
        size = len(part.who)

        def add(name: str, values: np.ndarray) -> None:
            known = np.isfinite(values)
            for key, weights in ((name, np.where(known, values, 0)), (f"{name} pixels", known)):
                total = np.bincount(of, weights, minlength=size)
                part.sums[key] = part.sums.get(key, np.zeros(size)) + total

        spread = self._evidence.spreads.get(number)
        if spread is not None:
            add("spread", spread.read(window).ravel()[at])
        image = self._evidence.images.get(number)
        if image is None:
            return
        reach = max(1, round(max(NEAR_WATER_M, NEAR_CLOUD_M) / self._pixel_m))
        wide = grow(window, reach)
        bands, _ = image.read(wide)
        inner = slices(window, wide)

        def inside(values: np.ndarray) -> np.ndarray:
            return values[inner].ravel()[at]

        visible = [inside(bands[name]) for name in VISIBLE if name in bands]
        if visible:
            add("brightness", np.stack(visible).mean(axis=0, dtype=np.float64))
        if {"red", "nir"} <= set(bands):
            add("ndvi", normalised_difference(inside(bands["nir"]), inside(bands["red"])))
        if {"green", "nir"} <= set(bands):
            water = (normalised_difference(bands["green"], bands["nir"]) > _WATER_NDWI) & (bands["nir"] < _WATER_NIR)
            open_water = cv2.morphologyEx(water.view(np.uint8), cv2.MORPH_OPEN, self._disc(_LEAST_WATER_M / 2))
            add("near water", inside(self._near(open_water, NEAR_WATER_M)).astype(np.float64))
        if not image.tells_quality:  # nobody knows where clouds are
            return
        hidden = image.flags(wide) & int(Quality.CLOUD | Quality.SHADOW) > 0
        add("near cloud", inside(self._near(hidden.view(np.uint8), NEAR_CLOUD_M)).astype(np.float64))

    def _near(self, mask: np.ndarray, distance_m: float) -> np.ndarray:
        return cv2.dilate(mask, self._disc(distance_m)) if mask.any() else mask

    def _disc(self, radius_m: float) -> np.ndarray:
        radius = max(1, round(radius_m / self._pixel_m))
        rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        return (rows**2 + columns**2 <= radius**2).astype(np.uint8)


def _of_terrain(terrain: Terrain, window: Window, at: np.ndarray, of: np.ndarray, part: _Part) -> _Part:
    """Add slope, direction and the extremes of height."""
    size = len(part.who)
    relief = terrain.read(window)
    height, east, north = (a.ravel()[at].astype(np.float64) for a in (relief.height, relief.east, relief.north))
    rise = np.hypot(east, north)
    slope = np.degrees(np.arctan(rise))
    known = np.isfinite(slope)
    tilted = known & (rise > 0)
    steep = np.where(tilted, rise, 1)
    for name, values in (
        ("slope", np.where(known, slope, 0)),
        ("slope pixels", known),
        ("height pixels", np.isfinite(height)),
        # downhill, as unit vectors
        ("downhill east", np.where(tilted, -east / steep, 0)),
        ("downhill north", np.where(tilted, -north / steep, 0)),
    ):
        part.sums[name] = np.bincount(of, values, minlength=size)
    steepest = np.full(size, -np.inf)
    np.fmax.at(steepest, of, slope)
    steepest[np.isneginf(steepest)] = np.nan
    return _Part(
        part.who,
        part.sums,
        _extreme(height, at, of, size, window),
        _extreme(height, at, of, size, window, -1),
        steepest,
    )


def _extreme(
    height: np.ndarray, at: np.ndarray, of: np.ndarray, size: int, window: Window, sign: int = 1
) -> np.ndarray:
    """Height, column and row of each polygon's highest pixel (the first if equal); with sign -1 of the lowest."""
    result = np.full((size, 3), np.nan)
    known = np.flatnonzero(np.isfinite(height))
    order = known[np.lexsort((at[known], -sign * height[known], of[known]))]
    first = order[np.append(True, of[order][1:] != of[order][:-1])] if len(order) else order
    row, column = np.divmod(at[first], window.width)
    result[of[first]] = np.column_stack([height[first], column + window.col_off, row + window.row_off])
    return result
