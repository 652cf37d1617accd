"""The body of one flow: its fall line, its outline, its streaks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from geo.synthetic.fields import CELL_M
from geo.synthetic.noise import take, tile

START_SLOPE = math.tan(math.radians(31))
STOP_SLOPE = math.tan(math.radians(13))


@dataclass(frozen=True)
class Grain:
    """Periodic tiles in 1 m cells: streaks (rows across the flow, columns along it), frayed edges, plant patches."""

    streaks: np.ndarray
    edges: np.ndarray
    patches: np.ndarray


def make_grain(rng: np.random.Generator) -> Grain:
    """Tiles of a world."""
    return Grain(tile(rng, 512, sigma=(1.6, 28)), tile(rng, 512, sigma=(0.9, 2.2)), tile(rng, 512, sigma=(4, 9)))


def fall_line(
    gu: np.ndarray, gv: np.ndarray, bed: np.ndarray, start: tuple[float, float], length_m: float
) -> np.ndarray:
    """Steepest descent with momentum; it ends on gentle ground, in the river, or at its length.

    Parameters
    ----------
    gu, gv : ndarray
        Gradient of the heights along u and v in 5 m cells.
    bed : ndarray
        Distance to the river's bed in metres, negative inside.
    start : (col, row)
        In cells.
    length_m : float

    Returns
    -------
    ndarray, shape (n, 2)
        (col, row) every 5 m.
    """
    rows, cols = gu.shape
    x, y = start
    points = [(x, y)]
    du = dv = 0.0
    slow = wet = 0
    for _ in range(int(length_m / CELL_M)):
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


@dataclass
class Canvas:
    """Window of 1 m cells in which the tongues of one scar are laid.

    Attributes
    ----------
    top, left : int
        First row and column on the ground grid.
    mask : ndarray of bool
    streak : ndarray of float32
        Brightness along the flow, standard deviation 1.
    rank : ndarray of float32
        The lower, the sooner overgrown.
    """

    top: int
    left: int
    mask: np.ndarray
    streak: np.ndarray
    rank: np.ndarray

    @classmethod
    def around(cls, points: np.ndarray, pad: int, shape: tuple[int, int]) -> Canvas:
        """Window around points (u, v) in metres, inside the ground grid."""
        left, top = (max(int(c.min()) - pad, 0) for c in points.T)
        right, bottom = (min(int(c.max()) + pad, n) for c, n in zip(points.T, shape[::-1], strict=True))
        size = (bottom - top, right - left)
        return cls(top, left, np.zeros(size, bool), np.zeros(size, np.float32), np.full(size, 9, np.float32))


def lay(canvas: Canvas, path: np.ndarray, width_m: float, rng: np.random.Generator, grain: Grain) -> None:
    """Add a tongue to a canvas.

    It is narrow at its crown, widest below it, narrower on its way, and may fan out at its toe; both sides
    wander on their own, and streaks run along the flow.

    Parameters
    ----------
    canvas : Canvas
    path : ndarray, shape (n, 2)
        (u, v) in metres every 5 m.
    width_m : float
        Where it is widest.
    rng : numpy Generator
    grain : Grain
    """
    station = np.arange(0, CELL_M * (len(path) - 1) + 0.1, 1.0, dtype=np.float32)
    line = np.column_stack([np.interp(station, CELL_M * np.arange(len(path)), c) for c in path.T])
    line -= (canvas.left, canvas.top)
    pad = int(width_m) + 6
    box = tuple(
        slice(max(int(c.min()) - pad, 0), min(int(c.max()) + pad, n))
        for c, n in zip(line[:, ::-1].T, canvas.mask.shape, strict=True)
    )
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
    line -= (box[1].start, box[0].start)
    off = np.ones(shape, np.uint8)
    at = np.clip(np.rint(line).astype(int), 0, (shape[1] - 1, shape[0] - 1))
    off[at[:, 1], at[:, 0]] = 0
    distance, nearest = cv2.distanceTransformWithLabels(off, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    first = np.zeros(int(nearest.max()) + 1, int)
    first[nearest[at[:, 1], at[:, 0]]] = np.arange(len(station))
    v, u = np.nonzero(distance < pad)
    distance, index = distance[v, u], first[nearest[v, u]]
    tangent = np.gradient(line, axis=0)
    left_of = tangent[index, 0] * (v - line[index, 1]) - tangent[index, 1] * (u - line[index, 0]) >= 0

    half = _half_width(rng, station / station[-1], width_m)
    limit = np.where(left_of, half[0][index], half[1][index])
    row, col = v + box[0].start + canvas.top, u + box[1].start + canvas.left
    inside = distance < limit + 1.1 * take(grain.edges, row, col)
    v, u, row, col, distance, index = (a[inside] for a in (v, u, row, col, distance, index))
    limit, left_of = limit[inside], left_of[inside]
    shift = rng.integers(512, size=2)
    across = np.rint(np.where(left_of, distance, -distance)).astype(int)
    flow = take(grain.streaks, across + shift[0], index + shift[1])
    here = v + box[0].start, u + box[1].start
    canvas.streak[here] = np.where(canvas.mask[here], canvas.streak[here], flow)
    # plants come back from the sides and from above, in patches
    rank = (
        1.1 * take(grain.patches, row, col) - 1.3 * distance / np.maximum(limit, 1) - 0.5 * (1 - index / len(station))
    )
    canvas.rank[here] = np.minimum(canvas.rank[here], rank + 0.35 * flow)
    canvas.mask[here] = True


def _half_width(rng: np.random.Generator, x: np.ndarray, width_m: float) -> np.ndarray:
    """Half widths of the two sides along the tongue, x from 0 at the crown to 1 at the toe; shape (2, n)."""
    bulge, neck, fan = rng.uniform(0.05, 0.3), rng.uniform(0.25, 0.6), rng.uniform(0, 0.5)
    profile = 0.45 + 0.55 * _step(x, 0, 0.08 + bulge) - neck * _step(x, 0.3, 0.75) + fan * neck * _step(x, 0.75, 1)
    wander = [np.exp(0.2 * _wander(rng, len(x), 28) + 0.1 * _wander(rng, len(x), 8)) for _ in range(2)]
    return 0.5 * width_m * profile * np.stack(wander)


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _wander(rng: np.random.Generator, count: int, spacing: float) -> np.ndarray:
    """Random numbers every ``spacing`` cells, joined by straight lines."""
    knots = rng.standard_normal(int(count / spacing) + 3)
    return np.interp(np.arange(count) / spacing, np.arange(len(knots)), knots)
