"""Surface reflectance of the covers and the scars: means, spread and texture.

Means follow field spectra as they are commonly tabulated (ECOSTRESS/ASTER and USGS libraries) integrated
over the bands. What matters here: bare debris, river gravel, bare fields, road cuts and rock are the same
minerals, so their spectra overlap in mean and spread, and plants on old scars are the plants beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import cv2
import numpy as np
from scipy.spatial import cKDTree

from geo.synthetic.cover import Cover, Land
from geo.synthetic.fields import CELL_M, Fields, finer
from geo.synthetic.noise import blocks, fractal, take, tile
from geo.synthetic.scars import Scar
from geo.synthetic.world import Pass, World

#: Debris of the three kinds of rock (grey granite and limestone, dark phyllite, brown sandstone), dry.
DEBRIS = np.array(
    [[0.165, 0.190, 0.210, 0.250], [0.095, 0.115, 0.140, 0.190], [0.095, 0.130, 0.180, 0.255]], np.float32
)

#: Mean reflectance in blue, green, red, nir; spread by fine texture; spread by soil and site; rock's share.
TABLE: dict[Cover, tuple[tuple[float, float, float, float], float, float, float]] = {
    Cover.BROADLEAF: ((0.026, 0.050, 0.032, 0.370), 0.30, 0.10, 0),
    Cover.CONIFER: ((0.022, 0.036, 0.026, 0.240), 0.34, 0.10, 0),
    Cover.SHRUB: ((0.036, 0.062, 0.046, 0.310), 0.20, 0.12, 0),
    Cover.GRASS: ((0.046, 0.078, 0.066, 0.310), 0.09, 0.14, 0),
    Cover.DRY_GRASS: ((0.070, 0.105, 0.125, 0.245), 0.11, 0.16, 0.15),
    Cover.ROCK: ((0.150, 0.165, 0.180, 0.215), 0.30, 0.12, 0.75),
    Cover.GRAVEL: ((0.150, 0.172, 0.192, 0.225), 0.13, 0.16, 0.35),
    Cover.WATER: ((0.062, 0.090, 0.078, 0.034), 0.05, 0.08, 0),
    Cover.CROP: ((0.038, 0.075, 0.050, 0.360), 0.07, 0.12, 0),
    Cover.BARE_FIELD: ((0.095, 0.128, 0.168, 0.240), 0.08, 0.15, 0.45),
    Cover.STUBBLE: ((0.085, 0.125, 0.155, 0.265), 0.08, 0.12, 0.1),
    Cover.PAVED: ((0.130, 0.145, 0.155, 0.175), 0.05, 0.10, 0),
    Cover.DIRT: ((0.150, 0.185, 0.220, 0.275), 0.08, 0.14, 0.5),
    Cover.CUT: ((0.130, 0.160, 0.185, 0.235), 0.18, 0.15, 0.8),
    Cover.TILE_ROOF: ((0.085, 0.090, 0.095, 0.115), 0.10, 0.15, 0),
    Cover.BLUE_ROOF: ((0.330, 0.270, 0.170, 0.300), 0.06, 0.10, 0),
    Cover.RED_ROOF: ((0.080, 0.100, 0.220, 0.310), 0.08, 0.10, 0),
    Cover.CONCRETE: ((0.270, 0.295, 0.310, 0.335), 0.06, 0.10, 0),
    Cover.YARD: ((0.150, 0.175, 0.200, 0.240), 0.12, 0.15, 0.2),
    Cover.BOULDERS: ((0.120, 0.140, 0.155, 0.190), 0.25, 0.15, 0.6),
    Cover.BANK: ((0.042, 0.072, 0.060, 0.290), 0.15, 0.12, 0),
}  # fmt: skip
#: Covers that are plants: how much of their green goes in autumn.
_SEASON = {
    Cover.BROADLEAF: 0.12, Cover.CONIFER: 0.0, Cover.SHRUB: 0.25, Cover.GRASS: 0.55, Cover.DRY_GRASS: 0.8,
    Cover.CROP: 0.25, Cover.BANK: 0.4,
}  # fmt: skip
#: Share of the light that follows the slope; leaves of a canopy hang level on any slope.
_RELIEF = {Cover.BROADLEAF: 0.8, Cover.CONIFER: 0.8, Cover.SHRUB: 0.9}
_AUTUMN = np.array([0.075, 0.110, 0.135, 0.250], np.float32)


@dataclass(frozen=True)
class Textures:
    """Periodic tiles and smooth fields that modulate reflectance; the same at every date."""

    crowns: np.ndarray
    grain: np.ndarray
    mottle: np.ndarray
    face: np.ndarray
    joint: np.ndarray
    site: np.ndarray
    vigour: np.ndarray


def make_textures(world: World, fields: Fields) -> Textures:
    """Textures of a world."""
    rng = world.rng("textures")
    face, joint = blocks(rng, 512)
    shape = fields.heights.shape
    return Textures(
        crowns=_crowns(rng, 1024), grain=tile(rng, 1024, sigma=0.8), mottle=tile(rng, 1024, sigma=4.0),
        face=face, joint=joint, site=fractal(rng, shape, largest=60, smallest=4, persistence=0.6),
        vigour=fractal(rng, shape, largest=80, smallest=3, persistence=0.6),
    )  # fmt: skip


def _crowns(rng: np.random.Generator, size: int) -> np.ndarray:
    """Periodic tile of tree crowns: heights of rounded domes, 0..1."""
    spacing = 5.2
    n = int(size / spacing)
    grid = (np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) + 0.5) * (size / n)
    seeds = np.mod(grid + rng.uniform(-0.45, 0.45, grid.shape) * spacing, size)
    radius = rng.uniform(2.0, 4.2, len(seeds))
    rows, cols = np.mgrid[0:size, 0:size] + 0.5
    points = np.column_stack([cols.ravel(), rows.ravel()])
    distance, owner = cKDTree(seeds, boxsize=size).query(points, k=3)
    dome = np.sqrt(np.clip(1 - (distance / radius[owner]) ** 2, 0, 1)) * (radius[owner] / 4.2) ** 0.5
    return dome.max(axis=1).reshape(size, size).astype(np.float32)


def crown_light(crowns: np.ndarray, sun: tuple[float, float, float]) -> np.ndarray:
    """Texture of a sunlit canopy: mean 0, standard deviation 1.

    Parameters
    ----------
    crowns : ndarray
        Tile of heights.
    sun : (su, sv, sz)
        Unit vector to the sun.
    """
    height = 4.0 * crowns
    gv, gu = (np.roll(height, -1, a) - np.roll(height, 1, a) for a in (0, 1))
    gv, gu = gv / 2, gu / 2
    lit = np.maximum((-gu * sun[0] - gv * sun[1] + sun[2]) / np.sqrt(1 + gu**2 + gv**2), 0)
    shade = np.zeros_like(lit)
    flat = np.hypot(sun[0], sun[1])
    for k in range(1, 7):
        move = round(sun[1] / flat * k), round(sun[0] / flat * k)
        shade = np.maximum(shade, np.roll(height, (-move[0], -move[1]), (0, 1)) - height - k * sun[2] / flat > 0)
    texture = lit * (1 - 0.75 * shade) * (0.35 + 0.65 * np.minimum(crowns * 2, 1))
    texture = texture - texture.mean()
    return (texture / texture.std()).astype(np.float32)


def covers_at(land: Land, this: Pass) -> np.ndarray:
    """Cover on the day of a pass: the river at its stage, each parcel with its crop."""
    cover = land.cover.copy()
    cover[land.channel < 100 * this.water] = Cover.WATER
    field = (cover == Cover.CROP) & (land.parcel > 0)
    dice = np.arange(65536, dtype=np.uint64)
    dice = ((dice * np.uint64(2654435761) + np.uint64(this.year * 97)) ^ (dice << np.uint64(7))) % np.uint64(1000)
    bare, stubble = (0.30, 0.14) if this.green > 0.9 else (0.46, 0.30)
    kind = np.full(len(dice), int(Cover.CROP), np.uint8)
    kind[dice < 1000 * (bare + stubble)] = Cover.STUBBLE
    kind[dice < 1000 * bare] = Cover.BARE_FIELD
    cover[field] = kind[land.parcel[field]]
    return cover


@dataclass(frozen=True)
class Scarred:
    """Scars of a day in 1 m cells: number (0: none), streak, rank of overgrowth; and per number their state."""

    number: np.ndarray
    streak: np.ndarray
    rank: np.ndarray
    vegetation: np.ndarray
    tone: np.ndarray


def lay_scars(scars: list[Scar], shape: tuple[int, int], day: date) -> Scarred:
    """Scars that are there on a day, the younger over the older.

    Parameters
    ----------
    scars : list of Scar
        Oldest first.
    shape : (rows, cols)
        Of the ground grid in 1 m cells.
    day : date
    """
    number = np.zeros(shape, np.uint16)
    streak = np.zeros(shape, np.int8)
    rank = np.zeros(shape, np.uint8)
    vegetation = np.zeros(len(scars) + 1, np.float32)
    tone = np.ones(len(scars) + 1, np.float32)
    for scar in scars:
        if scar.born > day:
            continue
        window, mask = scar.window, scar.mask
        number[window][mask] = scar.number
        streak[window][mask] = scar.streak[mask]
        rank[window][mask] = scar.rank[mask]
        vegetation[scar.number] = scar.vegetation(day)
        tone[scar.number] = scar.tone
    return Scarred(number, streak, rank, vegetation, tone)


def _tables(this: Pass) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per class and kind of rock: means (4, n), fine and site spread, greenness, relief."""
    n = len(Cover) * 3
    mean = np.zeros((4, n), np.float32)
    fine, site, green, relief = (np.zeros(n, np.float32) for _ in range(4))
    for kind, (colour, texture, spread, share) in TABLE.items():
        fade = _SEASON.get(kind, 0.0) * (1 - this.green) / 0.2 * 0.5
        base = np.array(colour, np.float32) * (1 - fade) + _AUTUMN * fade
        for rock in range(3):
            debris = DEBRIS[rock] / DEBRIS.mean() * base.mean()
            mean[:, 3 * kind + rock] = (1 - share) * base + share * (0.5 * debris + 0.5 * DEBRIS[rock])
        at = slice(3 * kind, 3 * kind + 3)
        fine[at], site[at], green[at] = texture, spread, kind in _SEASON
        relief[at] = _RELIEF.get(kind, 1.0)
    return mean, fine, site, green, relief


def _padded(table: np.ndarray) -> np.ndarray:
    """Make a table of the classes long enough to be looked up with any uint8."""
    wide = np.zeros((*table.shape[:-1], 256), np.float32)
    wide[..., : table.shape[-1]] = table
    return wide


def surface(
    cover: np.ndarray,
    parcel: np.ndarray,
    fields: Fields,
    textures: Textures,
    canopy_light: np.ndarray,
    scarred: Scarred,
    this: Pass,
    rows: slice,
) -> tuple[np.ndarray, np.ndarray]:
    """Surface reflectance of a strip, and how much of its light follows the slope.

    Parameters
    ----------
    cover, parcel : ndarray
        Of the day, whole ground grid.
    canopy_light : ndarray
        Tile of ``crown_light``.
    rows : slice
        Rows of 1 m cells.

    Returns
    -------
    reflectance : ndarray of float32, shape (4, rows, cols)
    relief : ndarray of float32, shape (rows, cols)
        1 for ground, less for canopies.
    """
    mean, fine, site, green, relief = (_padded(t) for t in _tables(this))
    kind = cover[rows]
    v, u = np.arange(rows.start, rows.stop)[:, None], np.arange(kind.shape[1])[None, :]
    rock = np.repeat(fields.rock[rows.start // CELL_M : rows.stop // CELL_M], CELL_M, axis=0)
    rock = np.repeat(rock, CELL_M, axis=1)
    index = kind * np.uint8(3) + rock
    grain, mottle = take(textures.grain, v, u), take(textures.mottle, v, u)

    texture = np.float32(0.6) * grain + np.float32(0.75) * mottle
    np.copyto(texture, take(canopy_light, v, u), where=kind <= Cover.CONIFER)
    np.copyto(texture, texture + np.float32(0.7) * take(canopy_light, v, u + 517), where=kind == Cover.SHRUB)
    crag = kind == Cover.ROCK
    if crag.any():
        faces = np.float32(0.75) * take(textures.face, v, u) - np.float32(1.6) * take(textures.joint, v, u)
        np.copyto(texture, faces + np.float32(0.3) * grain, where=crag)
    place = finer(textures.site, rows)
    tone = cv2.LUT(index, fine) * texture
    tone += cv2.LUT(index, site) * place
    tone += 1
    lot = parcel[rows]
    if lot.any():
        tone *= np.where(lot > 0, np.float32(0.86) + (lot % np.uint16(251)) * np.float32(0.28 / 250), np.float32(1))
    np.maximum(tone, np.float32(0.12), out=tone)
    leafy = cv2.LUT(index, green)
    lively = finer(textures.vigour, rows)
    vigour = leafy * (np.float32(0.5) * lively + np.float32(0.25) * mottle)
    damp = 1 - np.float32(0.10 * this.wetness) * np.clip(finer(fields.wet, rows), -1, 2) * (1 - leafy)
    tone *= damp
    out = np.empty((4, *kind.shape), np.float32)
    for b, hue in enumerate((-0.05, -0.02, -0.11, 0.07)):
        np.multiply(vigour, np.float32(hue), out=out[b])
        out[b] += 1
        out[b] *= tone
        out[b] *= cv2.LUT(index, mean[b])

    number = scarred.number[rows]
    at = np.flatnonzero(number)
    if len(at):
        mine = number.ravel()[at]
        grain, mottle, place, lively, damp = (f.ravel()[at] for f in (grain, mottle, place, lively, damp))
        f = scarred.vegetation[mine]
        flow = scarred.streak[rows].ravel()[at] / np.float32(32)
        plants = np.clip((255 * f - scarred.rank[rows].ravel()[at]) / 30 + 0.5, 0, 1)
        plants = np.clip(np.maximum(plants, 0.45 * f + 0.10 * f * mottle), 0, 1)[:, None]
        light = scarred.tone[mine] * (1 + 0.17 * flow + 0.09 * grain + 0.06 * mottle + 0.12 * place)
        debris = DEBRIS[rock.ravel()[at]] * np.maximum(light * damp, 0.15)[:, None]
        lush = np.clip(0.5 + 0.3 * lively + 0.15 * mottle, 0, 1)[:, None]
        shrub, grass, dry = (mean[:, 3 * kind] for kind in (Cover.SHRUB, Cover.GRASS, Cover.DRY_GRASS))
        plant = (shrub * lush + 0.5 * (grass + dry) * (1 - lush)) * (1 + 0.15 * mottle + 0.1 * grain)[:, None]
        out.reshape(4, -1)[:, at] = (debris * (1 - plants) + plant * plants).T
    keep = cv2.LUT(index, relief)
    np.copyto(keep, np.float32(1), where=number > 0)
    return out, keep
