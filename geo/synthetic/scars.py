"""Landslide scars: where they start, how they run, how they look along their flow, and how they heal.

A scar is a tongue, or a few that share a body: it starts on ground steeper than 30 degrees, follows the
fall line with some momentum and ends on gentle ground, in the river, or when its power is spent. Sizes follow
a power law (Malamud et al. 2004, Earth Surf. Process. Landforms 29: 687), births a great earthquake and the
storms after it, and plants come back from the sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import cv2
import numpy as np

from geo.synthetic.fields import CELL_M, Fields
from geo.synthetic.noise import fractal, take, tile
from geo.synthetic.world import World

#: Ground whose vegetation covers more than this is no landslide any more: it is not in the truth.
VEGETATION_LIMIT = 0.6
START_SLOPE = math.tan(math.radians(31))
STOP_SLOPE = math.tan(math.radians(13))
#: Free ground between scars that do not touch, metres: neighbours are either one body or well apart.
CLEARANCE_M = 14

#: Earthquake of 12 May 2008, the storm of 10 July 2013, and those of the summers after; share of scars.
EVENTS = (
    (date(2008, 5, 12), 0.56),
    (date(2013, 7, 10), 0.22),
    (date(2014, 7, 20), 0.12),
    (date(2015, 6, 26), 0.10),
)


@dataclass(frozen=True)
class Scar:
    """One landslide.

    Attributes
    ----------
    number : int
        From 1.
    born : date
    recovery_years : float
        Time in which the bare share falls to 1/e.
    top, left : int
        First row and column of the window in 1 m cells of the ground grid.
    mask : ndarray of bool
        The body in its window.
    streak : ndarray of int8
        Brightness along the flow, 32 is one standard deviation.
    rank : ndarray of uint8
        Order in which cells are overgrown: a cell is green when its rank is below 255 times the fraction.
    tone : float
        Brightness of this scar's debris relative to its rock's.
    length_m, width_m : float
    """

    number: int
    born: date
    recovery_years: float
    top: int
    left: int
    mask: np.ndarray
    streak: np.ndarray
    rank: np.ndarray
    tone: float
    length_m: float
    width_m: float

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the ground grid."""
        return slice(self.top, self.top + self.mask.shape[0]), slice(self.left, self.left + self.mask.shape[1])

    def vegetation(self, day: date) -> float:
        """Fraction of the scar under plants on a day; 0 at its birth."""
        years = max((day - self.born).days / 365.25, 0.0)
        return 1 - math.exp(-years / self.recovery_years)


def make_scars(world: World, fields: Fields, *, share: float = 0.115) -> list[Scar]:
    """All scars that are born up to the last pass, oldest first.

    Parameters
    ----------
    world : World
    fields : Fields
    share : float
        Of the ground that ever slid; reached in the western and the eastern half alike.

    Returns
    -------
    list of Scar
    """
    rng = world.rng("scars")
    rows, cols = fields.heights.shape
    smooth = cv2.GaussianBlur(fields.heights, (0, 0), 2.5)
    gv, gu = np.gradient(smooth, CELL_M)
    slope = np.hypot(gu, gv)
    clusters = fractal(rng, (rows, cols), largest=150, smallest=12)
    undercut = np.exp(-np.maximum(fields.bed, 0) / 250.0)
    weight = np.where(slope > START_SLOPE, (slope - START_SLOPE + 0.05) * np.exp(0.9 * clusters + undercut), 0)
    edge = round(0.6 * world.margin_m / CELL_M)
    weight[:edge] = weight[-edge:] = 0
    weight[:, :edge] = weight[:, -edge:] = 0
    cumulative = np.cumsum(weight.ravel())

    textures = (tile(rng, 512, sigma=(1.6, 28)), tile(rng, 512, sigma=(0.9, 2.2)), tile(rng, 512, sigma=(4, 9)))
    occupied = np.zeros((rows, cols), np.uint8)
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(CLEARANCE_M / CELL_M) + 1,) * 2)
    goal = share * rows * cols / 2
    filled = [0.0, 0.0]
    scars: list[Scar] = []
    for _ in range(6000):
        half = int(filled[1] < filled[0])
        if filled[half] >= goal:
            break
        start = int(np.searchsorted(cumulative, rng.uniform(0, cumulative[-1])))
        row, col = divmod(start, cols)
        length, width = _size(rng, world)
        seeds = rng.integers(0, 2**31, 2)
        if int(col >= cols / 2) != half:
            continue
        scar = _grow(len(scars) + 1, rng, fields, gu, gv, (col, row), length, width, textures, seeds)
        if scar is None:
            continue
        window, body = _coarse(scar, occupied.shape)
        around = _grown(window, 8, occupied.shape)
        there = occupied[around]
        here = np.zeros_like(there)
        here[tuple(slice(w.start - a.start, w.stop - a.start) for w, a in zip(window, around, strict=True))] = body
        overlap = int((here & there).sum())
        if (cv2.dilate(here, reach) & there).any() and overlap < 0.06 * body.sum():
            continue
        if overlap > 0.5 * body.sum():
            continue
        occupied[around] |= here
        filled[half] += float(body.sum()) - overlap
        scars.append(scar)
    return sorted(scars, key=lambda s: s.born)


def _size(rng: np.random.Generator, world: World) -> tuple[float, float]:
    """Length and width in metres: a truncated power law of lengths, widths that grow with them."""
    low, high, power = 70.0, min(720.0, 420 * min(world.size_km)), 1.25
    u = rng.uniform()
    length = (low**-power + u * (high**-power - low**-power)) ** (-1 / power)
    width = float(np.clip(1.75 * length**0.57 * np.exp(0.3 * rng.standard_normal()), 10, 80))
    return length, min(width, 0.55 * length)


def _birth(rng: np.random.Generator) -> tuple[date, float]:
    event = EVENTS[int(rng.choice(len(EVENTS), p=[share for _, share in EVENTS]))][0]
    years = float(np.clip(rng.lognormal(math.log(16), 0.75), 4.2, 80))
    return event, years


def _path(gu: np.ndarray, gv: np.ndarray, bed: np.ndarray, start: tuple[float, float], length: float) -> np.ndarray:
    """Fall line with momentum, points every 5 m in cells (col, row)."""
    rows, cols = gu.shape
    x, y = start
    points = [(x, y)]
    du = dv = 0.0
    slow = wet = 0
    for _ in range(int(length / CELL_M)):
        i, j = int(y), int(x)
        fall_u, fall_v = -float(gu[i, j]), -float(gv[i, j])
        steep = math.hypot(fall_u, fall_v)
        if steep > 1e-6:
            du, dv = 0.72 * du + 0.28 * fall_u / steep, 0.72 * dv + 0.28 * fall_v / steep
        norm = math.hypot(du, dv)
        if norm < 1e-6:
            break
        du, dv = du / norm, dv / norm
        x, y = x + du, y + dv
        if not (2 <= x < cols - 3 and 2 <= y < rows - 3):
            break
        points.append((x, y))
        slow = slow + 1 if steep < STOP_SLOPE else 0
        wet = wet + 1 if bed[int(y), int(x)] < 0 else 0
        if slow > 7 or wet > 4:
            break
    return np.array(points)


def _grow(number, rng, fields, gu, gv, start, length, width, textures, seeds) -> Scar | None:
    """Body of a scar that starts in a cell, or None where it would be too short."""
    path = _path(gu, gv, fields.bed, (start[0] + 0.5, start[1] + 0.5), length)
    run = CELL_M * (len(path) - 1)
    if run < max(55.0, 1.6 * width):
        return None
    born, years = _birth(rng)
    tongues = [(path, width)]
    if width > 24 and rng.uniform() < 0.55:  # a second head, a third
        for _ in range(int(rng.integers(1, 3))):
            at = path[int(rng.uniform(0.05, 0.3) * len(path))]
            side = rng.choice([-1, 1]) * rng.uniform(0.45, 0.95) * width / CELL_M
            direction = path[min(8, len(path) - 1)] - path[0]
            direction /= np.linalg.norm(direction) + 1e-9
            head = at + side * np.array([-direction[1], direction[0]]) - direction * rng.uniform(0, 0.5) * width / CELL_M
            if 3 <= head[0] < gu.shape[1] - 4 and 3 <= head[1] < gu.shape[0] - 4:
                branch = _path(gu, gv, fields.bed, (float(head[0]), float(head[1])), run * rng.uniform(0.4, 0.8))
                if len(branch) > 8:
                    tongues.append((branch, width * rng.uniform(0.45, 0.75)))

    every = np.vstack([p for p, _ in tongues]) * CELL_M
    pad = int(width) + 8
    height, wide = fields.ground.shape
    left, top = max(int(every[:, 0].min()) - pad, 0), max(int(every[:, 1].min()) - pad, 0)
    right, bottom = min(int(every[:, 0].max()) + pad, wide), min(int(every[:, 1].max()) + pad, height)
    shape = (bottom - top, right - left)
    mask = np.zeros(shape, bool)
    streak = np.zeros(shape, np.float32)
    rank = np.full(shape, 9.0, np.float32)
    own = np.random.default_rng(int(seeds[0]))
    rough = take(textures[1], *np.ogrid[seeds[1] % 512 : seeds[1] % 512 + shape[0], left : left + shape[1]])
    patch = take(textures[2], *np.ogrid[top : top + shape[0], left : left + shape[1]])
    for points, breadth in tongues:
        _lay(points * CELL_M - (left, top), breadth, own, textures[0], rough, patch, mask, streak, rank)
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)).astype(bool)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:
        return None
    mask = parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if mask.sum() < 450:
        return None
    order = np.zeros(shape, np.uint8)
    order[mask] = (np.argsort(np.argsort(rank[mask])) * (255.0 / mask.sum())).astype(np.uint8)
    return Scar(
        number, born, years, top, left, mask, np.clip(32 * streak, -127, 127).astype(np.int8), order,
        float(np.exp(0.14 * own.standard_normal())), run, width,
    )  # fmt: skip


def _lay(points, width, rng, grain, rough, patch, mask, streak, rank) -> None:
    """Add a tongue along points (u, v in metres of the window) to the body and its textures."""
    dense_s = np.arange(0, CELL_M * (len(points) - 1) + 0.1, 1.0)
    line = np.column_stack([np.interp(dense_s, CELL_M * np.arange(len(points)), c) for c in points.T])
    shape = mask.shape
    off = np.ones(shape, np.uint8)
    at = np.clip(np.rint(line).astype(int), 0, (shape[1] - 1, shape[0] - 1))
    off[at[:, 1], at[:, 0]] = 0
    distance, nearest = cv2.distanceTransformWithLabels(off, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    station = np.zeros(int(nearest.max()) + 1, np.float32)
    station[nearest[at[:, 1], at[:, 0]]] = dense_s
    s = station[nearest]
    index = s.astype(int)
    tangent = np.gradient(line, axis=0)
    v, u = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    side = np.sign(tangent[index, 0] * (v - line[index, 1]) - tangent[index, 1] * (u - line[index, 0]))
    across = distance * side

    x = dense_s / dense_s[-1]
    bulge, neck, fan = rng.uniform(0.05, 0.3), rng.uniform(0.25, 0.6), rng.uniform(0, 0.5)
    profile = 0.45 + 0.55 * _step(x, 0, 0.08 + bulge) - neck * _step(x, 0.3, 0.75) + fan * neck * _step(x, 0.75, 1)
    half = np.stack([0.5 * width * profile * np.exp(0.2 * _wander(rng, len(x), 28) + 0.1 * _wander(rng, len(x), 8)) for _ in range(2)])
    limit = np.where(across >= 0, half[0][index], half[1][index])
    # the toe and the crown are rounded by distance itself; edges fray along the flow
    inside = distance < limit + 1.1 * rough
    near = distance / np.maximum(limit, 1)
    flow = take(grain, np.rint(across).astype(int) + int(rng.integers(512)), np.rint(s).astype(int) + int(rng.integers(512)))
    new = inside & ~mask
    streak[new] = flow[new]
    # plants come from the sides and from above; patches differ
    rank[inside] = np.minimum(rank[inside], (1.1 * patch - 1.3 * near - 0.5 * (1 - s / dense_s[-1]) + 0.35 * flow)[inside])
    mask |= inside


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _wander(rng: np.random.Generator, count: int, spacing: float) -> np.ndarray:
    knots = rng.standard_normal(int(count / spacing) + 3)
    return np.interp(np.arange(count) / spacing, np.arange(len(knots)), knots)


def _coarse(scar: Scar, shape: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Body in 5 m cells and its window there."""
    rows, cols = np.nonzero(scar.mask)
    r, c = (rows + scar.top) // CELL_M, (cols + scar.left) // CELL_M
    window = slice(int(r.min()), int(r.max()) + 1), slice(int(c.min()), int(c.max()) + 1)
    body = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
    body[r - window[0].start, c - window[1].start] = 1
    return window, body


def _grown(window: tuple[slice, slice], by: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    a, b = (slice(max(w.start - by, 0), min(w.stop + by, n)) for w, n in zip(window, shape, strict=True))
    return a, b
