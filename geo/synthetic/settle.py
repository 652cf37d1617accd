"""Where people live: villages on gentle ground, roads that keep their grade, fields in terraces.

All places are (u, v) metres of the ground grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geo.synthetic.fields import CELL_M, Fields
from geo.synthetic.world import World

#: Roads are planned on these cells, metres.
PLAN_M = 20


@dataclass(frozen=True)
class Road:
    """Centre line, shape (n, 2), with its width and surface (``"paved"`` or ``"dirt"``)."""

    line: np.ndarray
    width_m: float
    surface: str


@dataclass(frozen=True)
class House:
    """Corners of a roof, shape (4, 2), its material 0..3 and its height."""

    corners: np.ndarray
    roof: int
    height_m: float


@dataclass(frozen=True)
class Settlement:
    """Roads, houses, village centres (n, 2), and the direction of the contours at each village in radians."""

    roads: list[Road]
    houses: list[House]
    villages: np.ndarray
    contour: np.ndarray


def settle(world: World, fields: Fields) -> Settlement:
    """Villages, roads and houses of a world, in its western and its eastern half alike."""
    rng = world.rng("settle")
    villages = _villages(rng, world, fields)
    contour = np.empty(len(villages))
    for k, (u, v) in enumerate(villages):
        i, j = int(v / CELL_M), int(u / CELL_M)
        box = slice(max(i - 12, 0), i + 13), slice(max(j - 12, 0), j + 13)
        contour[k] = np.arctan2(fields.down_u[box].mean(), -fields.down_v[box].mean())
    roads = _roads(rng, world, fields, villages)
    houses = []
    for (u, v), turn in zip(villages, contour, strict=True):
        houses += _houses(rng, fields, u, v, turn)
    return Settlement(roads, houses, villages, contour)


def _villages(rng: np.random.Generator, world: World, fields: Fields) -> np.ndarray:
    rows, cols = fields.heights.shape
    gentle = cv2.GaussianBlur((fields.slope < 0.3).astype(np.float32), (0, 0), 8)
    weight = np.where((gentle > 0.7) & (fields.bed > 25), gentle**2 * np.exp(-np.maximum(fields.bed, 0) / 700), 0)
    edge = round(world.margin_m / CELL_M)
    weight[:edge] = weight[-edge:] = 0
    weight[:, :edge] = weight[:, -edge:] = 0
    weight = weight.astype(np.float64) * rng.uniform(0.6, 1, weight.shape)
    each = max(1, round(np.prod(world.size_km) / 6))
    centres: list[tuple[float, float]] = []
    v, u = np.mgrid[0:rows, 0:cols] * CELL_M
    for half in (slice(0, cols // 2), slice(cols // 2, cols)):
        mine = np.zeros_like(weight)
        mine[:, half] = weight[:, half]
        for _ in range(each):
            if mine.max() <= 0:
                break
            i, j = np.unravel_index(int(np.argmax(mine)), mine.shape)
            centres.append((float(j * CELL_M), float(i * CELL_M)))
            mine *= np.hypot(u - j * CELL_M, v - i * CELL_M) > 450
    return np.array(centres).reshape(-1, 2)


def _houses(rng: np.random.Generator, fields: Fields, u: float, v: float, turn: float) -> list[House]:
    houses: list[House] = []
    taken: list[tuple[float, float]] = []
    height, width = fields.ground.shape
    for _ in range(int(rng.integers(30, 75))):
        along, up = rng.normal(0, 62), rng.normal(0, 30)
        x = u + along * np.cos(turn) - up * np.sin(turn)
        y = v + along * np.sin(turn) + up * np.cos(turn)
        if not (20 < x < width - 20 and 20 < y < height - 20):
            continue
        i, j = int(y / CELL_M), int(x / CELL_M)
        if fields.slope[i, j] > 0.4 or fields.bed[i, j] < 12:
            continue
        if any(np.hypot(x - a, y - b) < 15 for a, b in taken):
            continue
        taken.append((x, y))
        half = np.array([rng.uniform(4.5, 9), rng.uniform(3.5, 5.5)])
        angle = turn + rng.normal(0, 0.12) + (np.pi / 2 if rng.uniform() < 0.2 else 0)
        axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ axes + (x, y)
        houses.append(House(corners, int(rng.choice(4, p=[0.5, 0.2, 0.12, 0.18])), float(rng.uniform(4, 9))))
    return houses


def _roads(rng: np.random.Generator, world: World, fields: Fields, villages: np.ndarray) -> list[Road]:
    step = PLAN_M // CELL_M
    rows, cols = fields.heights.shape[0] // step, fields.heights.shape[1] // step

    def plan(field: np.ndarray) -> np.ndarray:
        return cv2.resize(field[: rows * step, : cols * step], (cols, rows), interpolation=cv2.INTER_AREA)

    heights, bed, slope = plan(fields.heights), plan(fields.bed), plan(fields.slope)
    lateral = plan(fields.lateral)
    common = 1 + (slope / 0.55) ** 2 + np.where(bed < 14, 40, 0)
    bank = rng.choice([-1, 1])
    valley = common + np.abs(bed - 35) / 45 + np.where(np.sign(lateral) != bank, 25, 0)

    roads: list[Road] = []
    graph = _graph(heights, valley, grade=0.08)
    west = int(np.argmin(valley[:, 0])) * cols
    east = int(np.argmin(valley[:, -1])) * cols + cols - 1
    _, before = dijkstra(graph, indices=west, return_predecessors=True)
    main = _walk(before, east)
    roads.append(Road(_line(main, cols, 1.6), 7.0, "paved"))
    net = set(main)
    graph = _graph(heights, common, grade=0.12)
    goals = [(int(v / PLAN_M) * cols + int(u / PLAN_M), 5.0, "paved") for u, v in villages]
    high = np.flatnonzero((slope.ravel() < 0.75) & (bed.ravel() > 500))
    tracks = max(1, round(np.prod(world.size_km) / 5))
    if len(high):
        goals += [(int(g), 3.6, "dirt") for g in rng.choice(high, tracks)]
    for goal, width, surface in goals:
        if goal in net:
            continue
        _, before, _ = dijkstra(graph, indices=sorted(net), min_only=True, return_predecessors=True)
        way = _walk(before, goal)
        if len(way) > 2:
            roads.append(Road(_line(way, cols, 1.2), width, surface))
            net.update(way)
    return roads


def _graph(heights: np.ndarray, cost: np.ndarray, *, grade: float) -> csr_matrix:
    """Graph of sixteen neighbours; steep legs cost the more, the further they exceed the grade."""
    rows, cols = heights.shape
    number = np.arange(rows * cols).reshape(rows, cols)
    tails, heads, costs = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (1, -2), (2, 1), (2, -1)):
        a = (slice(0, rows - dy), slice(max(0, -dx), cols - max(0, dx)))
        b = (slice(dy, rows), slice(max(0, dx), cols + min(0, dx)))
        length = PLAN_M * np.hypot(dx, dy)
        steep = np.abs(heights[a] - heights[b]) / length / grade
        price = length * 0.5 * (cost[a] + cost[b]) * (1 + steep**3)
        for tail, head in ((a, b), (b, a)):
            tails.append(number[tail].ravel())
            heads.append(number[head].ravel())
            costs.append(price.ravel())
    return csr_matrix((np.concatenate(costs), (np.concatenate(tails), np.concatenate(heads))), shape=(number.size,) * 2)


def _walk(before: np.ndarray, goal: int) -> list[int]:
    way = [goal]
    while before[way[-1]] >= 0:
        way.append(int(before[way[-1]]))
    return way


def _line(way: list[int], cols: int, smoothing: float) -> np.ndarray:
    """Smooth centre line through planned cells, points about every 4 m."""
    from scipy.ndimage import gaussian_filter1d

    cells = np.array(way)
    points = np.column_stack([cells % cols, cells // cols]) * float(PLAN_M) + PLAN_M / 2
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    dense = np.arange(0, length[-1], 4.0)
    line = np.column_stack([np.interp(dense, length, c) for c in points.T])
    return np.column_stack([gaussian_filter1d(c, smoothing * PLAN_M / 4, mode="nearest") for c in line.T])
