"""The terrain seen on the ground grid: slope, aspect, river and rock fields in 5 m cells."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from geo.synthetic.noise import fractal
from geo.synthetic.terrain import Terrain
from geo.synthetic.world import Ground, World, moved

CELL_M = 5
#: Rows of 1 m cells that are worked on at a time; a multiple of the cell.
STRIP = 100


@dataclass(frozen=True)
class Fields:
    """Arrays of float32 on 5 m cells of the ground grid.

    Attributes
    ----------
    ground : Ground
    heights : metres above the ellipsoid
    down_u, down_v : fall of the surface per metre along u and v (v counts down the image)
    slope : tangent of the slope
    northness : -1 (faces south) .. 1 (faces north), weighted by the sine of the slope
    ridge : height above the mean of the surroundings, metres; positive on ridges
    bed : distance to the edge of the river's bed in metres, negative inside
    lateral : signed distance to the river's centre line in metres, chainage : metres along it
    bench : 0..1 gentle ground
    wet : logarithm of the catchment, standardised
    rock : 0, 1, 2 kind of rock as uint8
    """

    ground: Ground
    heights: np.ndarray
    down_u: np.ndarray
    down_v: np.ndarray
    slope: np.ndarray
    northness: np.ndarray
    ridge: np.ndarray
    bed: np.ndarray
    lateral: np.ndarray
    chainage: np.ndarray
    bench: np.ndarray
    wet: np.ndarray
    rock: np.ndarray


def make_fields(world: World, terrain: Terrain) -> Fields:
    """Fields of a world's terrain on its ground grid."""
    ground = world.ground
    rng = world.rng("fields")
    rows, cols = ground.cells(CELL_M)
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    tx, ty = moved(~terrain.transform, *ground.to_map(col * CELL_M, row * CELL_M))
    map_x, map_y = (tx - 0.5).astype(np.float32), (ty - 0.5).astype(np.float32)

    def sample(field: np.ndarray, how: int = cv2.INTER_CUBIC) -> np.ndarray:
        return cv2.remap(field, map_x, map_y, how, borderMode=cv2.BORDER_REPLICATE)

    heights = sample(terrain.heights)
    gv, gu = np.gradient(cv2.GaussianBlur(heights, (0, 0), 0.7), CELL_M)
    slope = np.hypot(gu, gv)
    transform = ground.transform()
    northness = -(gu * transform.d + gv * transform.e) / np.sqrt(1 + slope**2)
    ridge = heights - cv2.GaussianBlur(heights, (0, 0), 14)
    bed = sample(terrain.bed, cv2.INTER_LINEAR)
    lateral, chainage = _along(terrain.river, ground, (rows, cols))
    wet = np.log(sample(terrain.area, cv2.INTER_LINEAR))
    wet = (wet - wet.mean()) / wet.std()
    # beds of rock cross the country from south-west to north-east, folded a little
    strike = (col * 0.55 + row * 0.83) * CELL_M + 260 * fractal(rng, (rows, cols), largest=160, smallest=8)
    band = np.mod(strike / 900.0 + rng.uniform(), 3)
    return Fields(
        ground=ground, heights=heights, down_u=-gu.astype(np.float32), down_v=-gv.astype(np.float32),
        slope=slope.astype(np.float32), northness=northness.astype(np.float32), ridge=ridge, bed=bed,
        lateral=lateral, chainage=chainage, bench=np.clip(sample(terrain.bench, cv2.INTER_LINEAR), 0, 1),
        wet=wet, rock=band.astype(np.uint8),
    )  # fmt: skip


def _along(river: np.ndarray, ground: Ground, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to a line and chainage along it, per 5 m cell."""
    from scipy.spatial import cKDTree

    line = np.column_stack(ground.to_local(*river.T))
    chain = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    dense_s = np.arange(0, chain[-1], 4.0)
    dense = np.column_stack([np.interp(dense_s, chain, c) for c in line.T])
    tangent = np.gradient(dense, axis=0)
    v, u = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float64) * CELL_M + CELL_M / 2
    distance, nearest = cKDTree(dense).query(np.column_stack([u.ravel(), v.ravel()]), distance_upper_bound=400)
    nearest = np.minimum(nearest, len(dense) - 1)
    away = np.column_stack([u.ravel(), v.ravel()]) - dense[nearest]
    side = np.sign(tangent[nearest, 0] * away[:, 1] - tangent[nearest, 1] * away[:, 0])
    lateral = np.where(np.isfinite(distance), distance, 400) * side
    return lateral.reshape(shape).astype(np.float32), dense_s[nearest].reshape(shape).astype(np.float32)


def strips(ground: Ground) -> list[slice]:
    """Row ranges of the ground grid that are worked on one after the other."""
    rows = ground.shape[0]
    return [slice(start, min(start + STRIP, rows)) for start in range(0, rows, STRIP)]


def finer(field: np.ndarray, rows: slice, *, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    """5 m field interpolated to the 1 m cells of a strip.

    Parameters
    ----------
    field : ndarray, shape (rows / 5, cols / 5)
    rows : slice
        Rows of 1 m cells, multiples of 5.

    Returns
    -------
    ndarray, shape (rows.stop - rows.start, cols)
    """
    first, last = rows.start // CELL_M, rows.stop // CELL_M
    top, bottom = max(first - 2, 0), min(last + 2, field.shape[0])
    block = np.ascontiguousarray(field[top:bottom])
    wide = cv2.resize(block, (field.shape[1] * CELL_M, (bottom - top) * CELL_M), interpolation=how)
    start = (first - top) * CELL_M
    return wide[start : start + rows.stop - rows.start]
