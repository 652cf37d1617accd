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
from geo.synthetic.noise import fractal
from geo.synthetic.tongue import START_SLOPE, Canvas, Grain, fall_line, lay, make_grain
from geo.synthetic.world import World

#: Ground whose vegetation covers more than this is no landslide any more: it is not in the truth.
VEGETATION_LIMIT = 0.6
#: Free ground between scars that do not touch, metres: neighbours are either one body or well apart.
CLEARANCE_M = 25

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
    path : ndarray, shape (n, 2)
        Fall line of its main tongue, (u, v) in metres.
    width_m : float
        Where the main tongue is widest.
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
    path: np.ndarray
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
    weight = np.where(slope > START_SLOPE, (slope - START_SLOPE + 0.05) * np.exp(0.7 * clusters + undercut), 0)
    edge = round(0.6 * world.margin_m / CELL_M)
    weight[:edge] = weight[-edge:] = 0
    weight[:, :edge] = weight[:, -edge:] = 0
    cumulative = np.cumsum(weight.ravel(), dtype=np.float64)

    grain = make_grain(rng)
    occupied = np.zeros((rows, cols), np.uint8)
    goal = share * rows * cols / 2
    filled = [0.0, 0.0]
    scars: list[Scar] = []
    for _ in range(12000):
        half = int(filled[1] < filled[0])
        if filled[half] >= goal:
            break
        row, col = divmod(int(np.searchsorted(cumulative, rng.uniform(0, cumulative[-1]))), cols)
        length, width = _size(rng, world)
        if int(col >= cols / 2) != half or occupied[row, col]:
            continue
        path = fall_line(gu, gv, fields.bed, (col + 0.5, row + 0.5), length)
        if CELL_M * (len(path) - 1) < max(55.0, 1.6 * width):
            continue
        if not _fits(*_band(path, width, occupied.shape), occupied):
            continue
        tongues = [(path, width), *_branches(rng, gu, gv, fields.bed, path, width)]
        scar = _scar(len(scars) + 1, rng, fields.ground.shape, tongues, grain)
        if scar is None:
            continue
        window, body = _coarse(scar)
        if not _fits(window, body, occupied):
            continue
        filled[half] += float(body.sum()) - float((occupied[window] & body).sum())
        occupied[window] |= body
        scars.append(scar)
    return sorted(scars, key=lambda s: s.born)


def _fits(window: tuple[slice, slice], body: np.ndarray, occupied: np.ndarray) -> bool:
    """Tell whether a body either keeps clear of the others or clearly runs into one."""
    around = _grown(window, 8, occupied.shape)
    there = occupied[around]
    here = np.zeros_like(there)
    here[tuple(slice(w.start - a.start, w.stop - a.start) for w, a in zip(window, around, strict=True))] = body
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(CLEARANCE_M / CELL_M) + 1,) * 2)
    if not (cv2.dilate(here, reach) & there).any():
        return True
    return bool(0.06 <= (here & there).sum() / body.sum() <= 0.4)


def _size(rng: np.random.Generator, world: World) -> tuple[float, float]:
    """Length and width in metres: a truncated power law of lengths, widths that grow with them."""
    low, high, power = 75.0, min(720.0, 420 * min(world.size_km)), 1.0
    u = rng.uniform()
    length = (low**-power + u * (high**-power - low**-power)) ** (-1 / power)
    width = float(np.clip(2.1 * length**0.57 * np.exp(0.3 * rng.standard_normal()), 10, 80))
    return length, min(width, 0.55 * length)


def _birth(rng: np.random.Generator) -> tuple[date, float]:
    event = EVENTS[int(rng.choice(len(EVENTS), p=[share for _, share in EVENTS]))][0]
    years = float(np.clip(rng.lognormal(math.log(16), 0.75), 4.2, 80))
    return event, years


def _band(path: np.ndarray, width: float, shape: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """First guess of a tongue's body in 5 m cells: a band along its path."""
    pad = int(width / CELL_M) + 1
    low = np.maximum(path.min(axis=0).astype(int) - pad, 0)
    high = np.minimum(path.max(axis=0).astype(int) + pad, shape[::-1])
    band = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    points = np.rint(path - low).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(band, [points], False, 1, max(1, round(0.7 * width / CELL_M)))
    return (slice(low[1], high[1]), slice(low[0], high[0])), band


def _branches(rng, gu, gv, bed, path: np.ndarray, width: float) -> list[tuple[np.ndarray, float]]:
    """Grow a second head or a third beside the crown of a wide scar."""
    found: list[tuple[np.ndarray, float]] = []
    if width < 24 or rng.uniform() > 0.4:
        return found
    for _ in range(int(rng.integers(1, 3))):
        at = path[int(rng.uniform(0.05, 0.3) * len(path))]
        direction = path[min(8, len(path) - 1)] - path[0]
        direction = direction / (np.linalg.norm(direction) + 1e-9) * width / CELL_M
        side = rng.choice([-1, 1]) * rng.uniform(0.45, 0.95)
        col, row = at + side * np.array([-direction[1], direction[0]]) - rng.uniform(0, 0.5) * direction
        if 3 <= col < gu.shape[1] - 4 and 3 <= row < gu.shape[0] - 4:
            branch = fall_line(gu, gv, bed, (float(col), float(row)), CELL_M * len(path) * rng.uniform(0.4, 0.8))
            if len(branch) > 8:
                found.append((branch, width * rng.uniform(0.45, 0.75)))
    return found


def _scar(
    number: int,
    rng: np.random.Generator,
    shape: tuple[int, int],
    tongues: list[tuple[np.ndarray, float]],
    grain: Grain,
) -> Scar | None:
    """Make one body of some tongues; None where hardly anything is left of it."""
    born, years = _birth(rng)
    path, width = tongues[0]
    canvas = Canvas.around(np.vstack([p for p, _ in tongues]) * CELL_M, int(width) + 8, shape)
    for points, breadth in tongues:
        lay(canvas, points * CELL_M, breadth, rng, grain)
    whole = cv2.morphologyEx(canvas.mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(whole, connectivity=4)
    if count < 2 or stats[1:, cv2.CC_STAT_AREA].max() < 450:
        return None
    mask = parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    order = np.zeros(mask.shape, np.uint8)
    order[mask] = (np.argsort(np.argsort(canvas.rank[mask])) * (255.0 / mask.sum())).astype(np.uint8)
    streak = np.clip(32 * canvas.streak, -127, 127).astype(np.int8)
    tone = float(np.exp(0.14 * rng.standard_normal()))
    return Scar(number, born, years, canvas.top, canvas.left, mask, streak, order, tone, path * CELL_M, width)


def _coarse(scar: Scar) -> tuple[tuple[slice, slice], np.ndarray]:
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
