"""A mountain valley: relief with a drainage network, in the manner of the Longmen Shan.

Heights are the cost distance from the streams, where each step costs its length times the slope that a
stream of that catchment area keeps (Flint's law, S = ks A^-theta; Whipple & Tucker 1999, J. Geophys. Res.
104(B8): 17661) but never more than the slope at which the rock fails. Heights give catchments, catchments
give slopes: a few rounds and the landscape is in balance, with dendritic valleys, straight threshold slopes
and sharp ridges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from affine import Affine
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from geo.synthetic.noise import fractal
from geo.synthetic.world import CENTRE_EN, World, moved

#: Cell of the drainage network and of the finished surface, metres.
NETWORK_M = 20.0
SURFACE_M = 5.0

_STEEPNESS = 100.0  # ks for theta = 0.45 and areas in m2: 0.2 at 1 km2
_CONCAVITY = 0.45


@dataclass(frozen=True)
class Terrain:
    """The surface on the north-up map grid.

    Attributes
    ----------
    transform : Affine
        From (col, row) of 5 m cells to easting and northing.
    heights : ndarray of float32
        Ellipsoidal heights in metres.
    area : ndarray of float32
        Catchment above each cell in m2.
    bed : ndarray of float32
        Distance to the edge of the river's bed in metres, negative inside.
    bench : ndarray of float32
        0..1, where ground is gentle: terraces, fans and old slide deposits.
    river : ndarray, shape (n, 2)
        Easting and northing of the river's centre line.
    streams : list of (line, area)
        Side streams: easting and northing of points downstream, and the catchment at the mouth in m2.
    """

    transform: Affine
    heights: np.ndarray
    area: np.ndarray
    bed: np.ndarray
    bench: np.ndarray
    river: np.ndarray
    streams: list[tuple[np.ndarray, float]]


def make_terrain(world: World) -> Terrain:
    """Surface of a world.

    Returns
    -------
    Terrain
    """
    rng = world.rng("terrain")
    half_w, half_h = world.map_half_m
    west, north = CENTRE_EN[0] - half_w, CENTRE_EN[1] + half_h
    rows, cols = int(2 * half_h / NETWORK_M), int(2 * half_w / NETWORK_M)

    river = _river(rng, world)
    x = west + (np.arange(cols) + 0.5) * NETWORK_M
    y = north - (np.arange(rows) + 0.5) * NETWORK_M
    bed_edge, along = _bed(rng, river, x, y)
    river_height = (905.0 + 0.011 * (along.max() - along)).astype(np.float32)

    # Valley sides stand at different angles; benches and terraces interrupt them.
    limit = 0.78 + 0.13 * fractal(rng, (rows, cols), largest=60, smallest=2, persistence=0.75)
    near_river = np.exp(-((np.maximum(bed_edge, 0) / 170.0) ** 2))
    bench = fractal(rng, (rows, cols), largest=24, smallest=6) + 1.3 * near_river - 0.25
    bench = _smoothstep(bench, 0.75, 1.35)
    limit = np.clip(limit, 0.5, 1.15) * (1 - bench) + 0.13 * bench
    limit = np.where(bed_edge < 0, 0.012, limit).astype(np.float32)

    area = np.full((rows, cols), 4e4, np.float32)
    heights = river_height
    base = np.where(bed_edge < 0.6 * NETWORK_M, river_height, np.inf)
    # a neighbouring valley north of the divide, so that ridges lie inside the picture
    base[0] = np.minimum(base[0], 1240.0 + 60 * fractal(rng, (1, cols), largest=50, smallest=12)[0])
    jitter = np.exp(0.35 * rng.standard_normal((rows, cols))).astype(np.float32)
    for _ in range(6):
        slope = np.minimum(limit, _STEEPNESS * area**-_CONCAVITY)
        heights, parent = _cost_heights(slope * jitter, base)
        area = _catchments(parent, heights.shape)
    heights = cv2.GaussianBlur(heights.astype(np.float32), (0, 0), 0.8)

    place = Affine(SURFACE_M, 0, west, 0, -SURFACE_M, north)
    return _refine(rng, heights, area, parent, bed_edge, bench, river_height, place, river)


def _river(rng: np.random.Generator, world: World) -> np.ndarray:
    """Centre line of the main river, west to east, wandering south of the middle of the world."""
    half_w, half_h = world.map_half_m
    t = np.linspace(-1.15, 1.15, 400)
    reach = min(half_h - 720, 2700)
    phase = rng.uniform(0, 2 * np.pi, 4)
    bends = [0.20, 0.11, 0.06, 0.025]
    north = np.zeros_like(t)
    for bend, waves, start in zip(bends, (1.0, 2.1, 3.9, 7.3), phase, strict=True):
        north += bend * reach * np.sin(waves * np.pi * t * half_w / 2300 + start)
    north = north - north[len(t) // 2] - min(324.0, 330.0 * world.size_km[1])
    return np.column_stack([CENTRE_EN[0] + t * half_w, CENTRE_EN[1] + north])


def _bed(rng: np.random.Generator, river: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the edge of the river's bed (negative inside) and chainage along the river, in metres."""
    from scipy.spatial import cKDTree

    dense = np.column_stack([np.interp(np.linspace(0, 1, 4000), np.linspace(0, 1, len(river)), c) for c in river.T])
    chainage = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(dense, axis=0).T))])
    half_width = 52 + 30 * fractal(rng, (1, 4000), largest=300, smallest=60)[0]
    half_width = np.clip(half_width, 24, 115)
    xx, yy = np.meshgrid(x, y)
    distance, nearest = cKDTree(dense).query(np.column_stack([xx.ravel(), yy.ravel()]))
    edge = distance - half_width[nearest]
    return edge.reshape(xx.shape).astype(np.float32), chainage[nearest].reshape(xx.shape).astype(np.float32)


def _smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def _cost_heights(slope: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cheapest climb from the base to each cell, and the cell below each (-1 at the base)."""
    rows, cols = slope.shape
    count = rows * cols
    number = np.arange(count).reshape(rows, cols)
    tails, heads, costs = [], [], []
    knights = [(0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (1, -2), (2, 1), (2, -1)]
    for dy, dx in knights:
        a = (slice(0, rows - dy), slice(max(0, -dx), cols - max(0, dx)))
        b = (slice(dy, rows), slice(max(0, dx), cols + min(0, dx)))
        length = NETWORK_M * np.hypot(dx, dy)
        for tail, head in ((a, b), (b, a)):
            tails.append(number[tail].ravel())
            heads.append(number[head].ravel())
            costs.append((length * 0.5 * (slope[tail] + slope[head])).ravel())
    sources = np.flatnonzero(np.isfinite(base.ravel()))
    tails.append(np.full(len(sources), count))
    heads.append(sources)
    costs.append(base.ravel()[sources])
    graph = csr_matrix(
        (np.concatenate(costs), (np.concatenate(tails), np.concatenate(heads))), shape=(count + 1, count + 1)
    )
    climb, parent = dijkstra(graph, indices=count, return_predecessors=True)
    parent = parent[:count]
    return climb[:count].reshape(rows, cols), np.where(parent == count, -1, parent)


def _catchments(parent: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Area that drains through each cell, m2, from the tree of cells below."""
    count = len(parent)
    root = np.where(parent < 0, np.arange(count), parent)
    depth = (parent >= 0).astype(np.int64)
    jump = root.copy()
    while True:  # pointer jumping: the hops to the base double each round
        further = depth[jump]
        if not further.any():
            break
        depth = depth + further
        jump = jump[jump]
    area = np.full(count, NETWORK_M**2)
    order = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[order], np.arange(depth.max() + 2))
    for level in range(depth.max(), 0, -1):
        cells = order[bounds[level] : bounds[level + 1]]
        np.add.at(area, parent[cells], area[cells])
    return area.reshape(shape).astype(np.float32)


def _refine(rng, heights, area, parent, bed_edge, bench, river_height, transform, river) -> Terrain:
    """Bring the network's surface to 5 m and give it gullies, knolls and roughness where it is steep."""
    factor = int(NETWORK_M / SURFACE_M)
    shape = (heights.shape[0] * factor, heights.shape[1] * factor)

    def up(field: np.ndarray, how: int = cv2.INTER_CUBIC) -> np.ndarray:
        return cv2.resize(field.astype(np.float32), shape[::-1], interpolation=how)

    # A gentle warp takes the last trace of the network's eight directions out of ridges and gullies.
    bend_x, bend_y = (12 * fractal(rng, shape, largest=60, smallest=12) / SURFACE_M for _ in range(2))
    bed = up(bed_edge)
    calm = _smoothstep(bed, 0, 60)
    cols, rows = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    warp_x, warp_y = (cols + bend_x * calm).astype(np.float32), (rows + bend_y * calm).astype(np.float32)

    def warped(field: np.ndarray) -> np.ndarray:
        return cv2.remap(field, warp_x, warp_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    streams = _streams(area, parent, bed_edge, transform, bend_x * calm, bend_y * calm)
    surface = warped(up(heights))
    gentle = np.clip(warped(up(bench, cv2.INTER_LINEAR)), 0, 1)
    gy, gx = np.gradient(cv2.GaussianBlur(surface, (0, 0), 4), SURFACE_M)
    steep = _smoothstep(np.hypot(gx, gy), 0.15, 0.7) * calm
    rough = fractal(rng, shape, largest=32, smallest=2, persistence=0.52)
    ridged = 1 - np.abs(fractal(rng, shape, largest=24, smallest=4, persistence=0.5))
    surface = surface + steep * (3.2 * rough + 2.6 * ridged) + (1 - steep) * calm * 0.5 * rough
    bars = fractal(rng, shape, largest=16, smallest=3)
    bank = _smoothstep(bed, 2, 34)
    surface = bank * surface + (1 - bank) * (up(river_height) + 0.6 * bars)
    surface = cv2.GaussianBlur(surface.astype(np.float32), (0, 0), 0.9)
    return Terrain(transform, surface, np.exp(up(np.log(area), cv2.INTER_LINEAR)), bed, gentle, river, streams)


def _streams(
    area, parent, bed_edge, transform, bend_x, bend_y, *, least: float = 1.6e5
) -> list[tuple[np.ndarray, float]]:
    """Lines of the side streams: from each head down to a larger stream or the river."""
    from scipy.ndimage import gaussian_filter1d

    flat, edge = area.ravel(), bed_edge.ravel()
    cols = area.shape[1]
    factor = NETWORK_M / SURFACE_M
    stream = flat >= least
    fed = np.zeros(len(flat), bool)
    below = parent[stream & (parent >= 0)]
    fed[below] = True
    heads = np.flatnonzero(stream & ~fed)
    taken = np.zeros(len(flat), bool)
    lines = []
    for head in heads[np.argsort(-flat[heads], kind="stable")]:
        cell, way = int(head), []
        while cell >= 0:
            way.append(cell)
            if taken[cell] or edge[cell] < 0:
                break
            taken[cell] = True
            cell = int(parent[cell])
        if len(way) < 6:
            continue
        x = (np.array(way) % cols + 0.5) * factor - 0.5
        y = (np.array(way) // cols + 0.5) * factor - 0.5
        at = tuple(np.clip(np.rint(c).astype(int), 0, n - 1) for c, n in ((y, bend_x.shape[0]), (x, bend_x.shape[1])))
        x, y = x - bend_x[at], y - bend_y[at]
        steps = np.linspace(0, len(way) - 1, 5 * len(way))
        x, y = (gaussian_filter1d(np.interp(steps, np.arange(len(way)), c), 4, mode="nearest") for c in (x, y))
        east, north = moved(transform, x + 0.5, y + 0.5)
        lines.append((np.column_stack([east, north]), float(flat[way[-2]])))
    return lines
