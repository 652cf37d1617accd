"""What grows, lies and stands on the ground, in 1 m cells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np

from geo.synthetic.fields import CELL_M, Fields, finer, strips
from geo.synthetic.noise import blocks, fractal, take, tile
from geo.synthetic.settle import Settlement
from geo.synthetic.world import World


class Cover(IntEnum):
    """Classes of cover. Landslide scars lie on top of them."""

    BROADLEAF = 0
    CONIFER = 1
    SHRUB = 2
    GRASS = 3
    DRY_GRASS = 4
    ROCK = 5
    GRAVEL = 6
    WATER = 7
    CROP = 8
    BARE_FIELD = 9
    STUBBLE = 10
    PAVED = 11
    DIRT = 12
    CUT = 13
    TILE_ROOF = 14
    BLUE_ROOF = 15
    RED_ROOF = 16
    CONCRETE = 17
    YARD = 18
    BOULDERS = 19
    BANK = 20


@dataclass(frozen=True)
class Land:
    """Layers in 1 m cells of the ground grid.

    Attributes
    ----------
    cover : ndarray of uint8
        ``Cover``; fields are CROP here whatever grows on them in a year.
    parcel : ndarray of uint16
        Random number of a field's parcel, 0 elsewhere.
    canopy : ndarray of uint8
        Height above the ground in quarters of a metre.
    channel : ndarray of uint8
        River: the discharge, in hundredths of high water, at which a cell of the bed is flooded; 255 elsewhere.
    """

    cover: np.ndarray
    parcel: np.ndarray
    canopy: np.ndarray
    channel: np.ndarray


def make_land(world: World, fields: Fields, settlement: Settlement, streams: list[tuple[np.ndarray, float]]) -> Land:
    """Cover of a world.

    Parameters
    ----------
    world : World
    fields : Fields
    settlement : Settlement
    streams : list of (line, width)
        Side streams, (u, v) metres, and widths in metres.
    """
    rng = world.rng("cover")
    shape = fields.heights.shape[0], fields.heights.shape[1]
    drawn = _drawn(fields, settlement, streams, rng)
    noise = {
        "stands": fractal(rng, shape, largest=90, smallest=4, persistence=0.6),
        "kinds": fractal(rng, shape, largest=120, smallest=8, persistence=0.55),
        "dry": fractal(rng, shape, largest=80, smallest=4, persistence=0.6),
        "crags": fractal(rng, shape, largest=50, smallest=2, persistence=0.65),
    }
    fine = {"leaf": tile(rng, 1024, sigma=2.5), "patch": tile(rng, 1024, sigma=9), "block": blocks(rng, 512)[0]}
    scores = _scores(fields, noise, settlement)
    cover = np.empty(fields.ground.shape, np.uint8)
    parcel = np.zeros(fields.ground.shape, np.uint16)
    canopy = np.zeros(fields.ground.shape, np.uint8)
    channel = np.full(fields.ground.shape, 255, np.uint8)
    river = _channel(rng, fields)
    for rows in strips(fields.ground):
        _strip(rows, fields, scores, fine, drawn, settlement, river, cover, parcel, canopy, channel)
    return Land(cover, parcel, canopy, channel)


def _scores(fields: Fields, noise: dict[str, np.ndarray], settlement: Settlement) -> dict[str, np.ndarray]:
    """Fields whose signs decide between classes, in 5 m cells."""
    rows, cols = fields.heights.shape
    village = np.full((rows, cols), 1e4, np.float32)
    nearest = np.zeros((rows, cols), np.float32)
    v, u = np.mgrid[0:rows, 0:cols].astype(np.float32) * CELL_M
    for number, (x, y) in enumerate(settlement.villages):
        distance = np.hypot(u - x, v - y)
        nearest[distance < village] = number
        village = np.minimum(village, distance)
    height = (fields.heights - 1250) / 300
    gentle = np.clip((0.42 - cv2.GaussianBlur(fields.slope, (0, 0), 2.5)) / 0.16, -1.5, 1)
    people = np.clip(1.2 - village / 650, -0.6, 1)
    hollow = np.clip(-fields.ridge / 25, -1.5, 1.5)
    forest = (
        0.12 + 0.55 * noise["stands"] + 1.5 * fields.northness + 0.14 * fields.wet + 0.2 * hollow - 0.25 * height
        - 0.8 * np.maximum(people, 0)
    )  # fmt: skip
    # fields end where the ground steepens or the way from the village gets long, in smooth lines
    field = cv2.GaussianBlur(np.minimum(0.9 * gentle, 1.5 * people) - 0.12 + 0.12 * noise["kinds"], (0, 0), 2)
    field[fields.bed < 8] = -1
    rock = (
        1.2 * np.clip((fields.slope - 0.80) / 0.16, -2.5, 1.8) + 0.05 * np.clip(fields.ridge, -30, 45)
        + 0.65 * noise["crags"] - 1.0 + 0.25 * (fields.rock == 0)
    )  # fmt: skip
    return {
        "forest": forest.astype(np.float32), "conifer": noise["kinds"] + 0.5 * height + 0.4 * fields.northness - 0.3,
        "dry": noise["dry"] - 1.1 * fields.northness + 0.3 * height - 0.55, "field": field.astype(np.float32),
        "rock": rock.astype(np.float32), "village": nearest,
    }  # fmt: skip


def _strip(rows, fields, scores, fine, drawn, settlement, river, cover, parcel, canopy, channel) -> None:
    """Fill the layers of one strip."""
    width = fields.ground.shape[1]
    v, u = np.arange(rows.start, rows.stop)[:, None], np.arange(width)[None, :]
    leaf, patch = take(fine["leaf"], v, u), take(fine["patch"], v, u + 300)
    block = take(fine["block"], v, u)
    up = {name: finer(score, rows) for name, score in scores.items() if name != "village"}
    out, tall = cover[rows], canopy[rows]

    out[...] = Cover.GRASS
    out[up["dry"] + 0.25 * patch + 0.15 * leaf > 0] = Cover.DRY_GRASS
    edge = up["forest"] + 0.22 * patch + 0.16 * leaf
    out[edge > -0.30] = Cover.SHRUB
    trees = edge > 0.12
    out[trees] = Cover.BROADLEAF
    out[trees & (up["conifer"] + 0.2 * patch > 0.35)] = Cover.CONIFER
    out[up["rock"] + 0.5 * block + 0.2 * leaf > 0] = Cover.ROCK
    # hedges and trees stand on some banks of the fields
    _parcels(rows, fields, scores, up["field"], settlement, out, parcel[rows], leaf)

    bed = finer(fields.bed, rows)
    inside = bed + 2.5 * patch + leaf < 0
    out[inside] = Cover.GRAVEL
    out[inside & (bed > -16) & (patch > 0.9)] = Cover.SHRUB
    stage = _stage(finer(fields.lateral, rows, how=cv2.INTER_LINEAR), finer(fields.chainage, rows), river, patch)
    channel[rows] = np.where(bed < 6, stage, 255)
    parcel[rows][inside] = 0

    over = drawn[rows]
    there = over != 255
    out[there] = over[there]
    parcel[rows][there] = 0

    crowns = {Cover.BROADLEAF: 44, Cover.CONIFER: 52, Cover.SHRUB: 7}
    heights = np.zeros(256, np.uint8)
    for kind, quarters in crowns.items():
        heights[kind] = quarters
    for roof in (Cover.TILE_ROOF, Cover.BLUE_ROOF, Cover.RED_ROOF, Cover.CONCRETE):
        heights[roof] = 22
    tall[...] = heights[out]


def _parcels(rows, fields, scores, score, settlement, out, parcel, leaf) -> None:
    """Terraced fields: parcels between levels of height, cut across at random lengths."""
    field = score > 0
    if not field.any() or not len(settlement.villages):
        return
    r, c = np.nonzero(field)
    height = cv2.GaussianBlur(fields.heights, (0, 0), 2.0)
    level_field = finer(height, rows)[field]
    near = scores["village"][(r + rows.start) // CELL_M, c // CELL_M].astype(int)
    turn = settlement.contour[near]
    along = c * np.cos(turn) + (r + rows.start) * np.sin(turn)
    level = np.floor(level_field / 2.2)
    length = 42 + 37 * ((level * 0.618034 + near * 0.37) % 1)
    column = np.floor((along + 61.7 * level) / length)
    number = _mixed(level.astype(np.int64) * 7919 + column.astype(np.int64) * 104729 + near * 1299709)
    parcel[field] = number
    part = level_field / 2.2 - level
    bank = (part < 0.07) | (((along + 61.7 * level) / length - column) * length < 1.2)
    kind = np.where(bank, int(Cover.BANK), int(Cover.CROP))
    kind = np.where(bank & (leaf[field] > 1.3), int(Cover.SHRUB), kind)
    # some parcels lie fallow
    kind = np.where((number % 17 == 3) & ~bank, int(Cover.GRASS), kind)
    out[field] = kind
    parcel[field] = np.where(kind == Cover.CROP, number, 0)


def _mixed(key: np.ndarray) -> np.ndarray:
    """Scattered numbers 1..65535 of keys."""
    x = key.astype(np.uint64)
    x = (x ^ (x >> np.uint64(13))) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(29)
    return (x % np.uint64(65535) + np.uint64(1)).astype(np.uint16)


def _channel(rng: np.random.Generator, fields: Fields) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two threads of the river: lateral place of each along the chainage, and half width at high water, metres."""
    count = int(fields.chainage.max()) + 40
    s = np.arange(count)

    def bends(*waves: tuple[float, float]) -> np.ndarray:
        swing = np.zeros(count, np.float32)
        for length, swings in waves:
            swing += (swings * np.sin(2 * np.pi * s / length + rng.uniform(0, 6.3))).astype(np.float32)
        return swing

    return bends((430, 0.62), (190, 0.3), (97, 0.12)), bends((510, 0.6), (230, 0.35)), 13 + bends((260, 4), (71, 2.5))


def _stage(lateral: np.ndarray, chainage: np.ndarray, river, patch: np.ndarray) -> np.ndarray:
    """Discharge at which a cell is flooded, in hundredths of high water."""
    swing, second, half = river
    at = np.clip(chainage.astype(np.int32), 0, len(swing) - 1)
    room = 36.0
    main = np.abs(lateral - room * swing[at]) / half[at]
    side = np.abs(lateral - room * second[at]) / (0.42 * half[at]) + 0.25
    dry = np.maximum(np.minimum(main, side) + 0.10 * patch, 0)
    return np.clip(100 * dry**1.6, 1, 254).astype(np.uint8)


def _drawn(fields: Fields, settlement: Settlement, streams, rng: np.random.Generator) -> np.ndarray:
    """Roads, road cuts, houses, yards and side streams; 255 where there is none."""
    canvas = np.full(fields.ground.shape, 255, np.uint8)

    def polyline(line: np.ndarray, width: float, kind: int) -> None:
        points = np.rint(line * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [points], False, int(kind), max(1, round(width)), cv2.LINE_8, 4)

    for line, width in streams:
        spread = np.interp(np.arange(len(line)) / 9, np.arange(200), rng.uniform(0.4, 2.2, 200))
        for k in range(0, len(line) - 1, 3):
            polyline(line[k : k + 4], width * spread[k] + 1, Cover.BOULDERS)
    for line, width in streams:
        polyline(line, 0.4 * width, Cover.WATER)
    for road in settlement.roads:
        cells = np.clip((road.line / CELL_M).astype(int), 0, np.array(fields.slope.shape[::-1]) - 1)
        steep = fields.slope[cells[:, 1], cells[:, 0]]
        knots = rng.uniform(-0.6, 1.5, len(cells) // 8 + 2)
        cut = np.interp(np.arange(len(cells)) / 8, np.arange(len(knots)), knots)
        for k in range(0, len(cells) - 1, 2):
            extra = 13 * np.clip(steep[k] - 0.3, 0, 0.5) * max(cut[k], 0) * (road.width_m / 5)
            if extra > 1:
                fall = np.array([fields.down_u[cells[k, 1], cells[k, 0]], fields.down_v[cells[k, 1], cells[k, 0]]])
                away = fall / (np.linalg.norm(fall) + 1e-6) * (0.35 * extra)
                polyline(road.line[k : k + 3] - away, road.width_m + extra, Cover.CUT)
    for road in settlement.roads:
        polyline(road.line, road.width_m, Cover.PAVED if road.surface == "paved" else Cover.DIRT)
    roofs = (Cover.TILE_ROOF, Cover.CONCRETE, Cover.RED_ROOF, Cover.BLUE_ROOF)
    for house in settlement.houses:
        middle = house.corners.mean(axis=0)
        yard = middle + (house.corners - middle) * 1.5
        cv2.fillPoly(canvas, [np.rint(yard * 16).astype(np.int32)], int(Cover.YARD), cv2.LINE_8, 4)
    for house in settlement.houses:
        cv2.fillPoly(canvas, [np.rint(house.corners * 16).astype(np.int32)], int(roofs[house.roof]), cv2.LINE_8, 4)
    return canvas
