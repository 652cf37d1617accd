"""A stratified random sample of pixels to be looked at by eye.

Strata are made of what was mapped: landslide (by size where asked for), ground near it, where outlines err, and the
rest, where whole scars are missed (a buffer keeps single omissions from blowing up the error: Olofsson et al. 2020,
Remote Sens. Environ. 236: 111492). Inside a stratum each pixel is as likely as any other, without replacement.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.crs
import shapely
from rasterio.windows import Window

from geo import windows
from geo.errors import GridError, LabelError
from geo.geobox import GeoBox
from geo.inventory import geopackage, truth
from geo.inventory.attributes import pixel_ground
from geo.mosaic import Placed, check_metres, place
from geo.progress import Counted
from geo.raster import geobox_of, open_raster

LANDSLIDE, OTHER, CANNOT_TELL = "landslide", "not landslide", "cannot tell"
LABELS = (LANDSLIDE, OTHER, CANNOT_TELL)
#: Limits between small, medium and large mapped landslides, m2.
SIZES_M2 = (1000.0, 10_000.0)
VERSION = 1
#: A stratum cannot do with fewer points, as its variance could not be told.
LEAST_POINTS = 2
_BLOCK_PIXELS = 2_000_000


@dataclass(frozen=True)
class Stratum:
    """One stratum: its name, whether the map says landslide there, its pixels, and how many were drawn."""

    name: str
    mapped: bool
    pixels: int
    drawn: int


@dataclass(frozen=True)
class Design:
    """How a sample was drawn.

    Attributes
    ----------
    seed : int
    near_m : float
        Width of the stratum around mapped landslides.
    by_size : bool
    pixel_m2 : float
    crs : str
    strata : tuple of Stratum
    inventory : str
        Name of the file.
    inventory_sha256 : str
        Of its polygons, as QGIS changes a GeoPackage by opening it.
    image_sha256, area_sha256 : str
        Of what confined the ground, empty where nothing did.
    version : int
    """

    seed: int
    near_m: float
    by_size: bool
    pixel_m2: float
    crs: str
    strata: tuple[Stratum, ...]
    inventory: str
    inventory_sha256: str
    image_sha256: str = ""
    area_sha256: str = ""
    version: int = VERSION

    @property
    def number(self) -> int:
        """Points of the sample."""
        return sum(s.drawn for s in self.strata)


@dataclass(frozen=True)
class Sample:
    """A sample as it is in the file: its points and its design."""

    points: gpd.GeoDataFrame
    design: Design


def draw(
    inventory: str | os.PathLike,
    *,
    number: int,
    seed: int,
    near_m: float = 30.0,
    by_size: bool = False,
    image: str | os.PathLike | None = None,
    area: str | os.PathLike | None = None,
    progress: Counted | None = None,
) -> Sample:
    """Draw a stratified random sample of the pixels that were searched.

    Half of the points are shared equally among the strata and half by area: the rare stratum of landslides gets
    enough for its own accuracy, the large one enough for the omissions that decide the error of the area.

    Parameters
    ----------
    inventory : path
        GeoPackage with the layers ``landslides`` and ``searched``.
    number : int
        Points in all; where the ground has fewer pixels, each of them is a point.
    seed : int
    near_m : float
        Width of the stratum around mapped landslides, in metres.
    by_size : bool
        Three strata of mapped landslides, by size.
    image : path, optional
        Image that will be looked at: points fall on its valid pixels only. It also gives the pixels of an
        inventory that does not tell its own.
    area : path, optional
        Polygons inside which points fall.
    progress : callable, optional
        Gets the windows and their number, and passes them on.

    Returns
    -------
    Sample
        Points in random order, so that a person who labels them learns nothing from their order.

    Raises
    ------
    GridError
        What was searched, or the pixels, are not known.
    LabelError
        Too few points for the strata, or nothing was searched.
    """
    found = geopackage.read(inventory)
    if found.landslides.crs is None:
        raise GridError(f"{inventory} has no CRS, so its polygons lie nowhere; set the CRS in QGIS and save it")
    with ExitStack() as stack:
        src = stack.enter_context(open_raster(image)) if image else None
        grid = found.grid
        if grid is None and src is not None:
            grid = geobox_of(src)
        if grid is None or grid.crs is None:
            raise GridError(
                f"{inventory} does not tell the pixels it was made of; give --image with the image that was mapped"
            )
        check_metres(rasterio.crs.CRS.from_wkt(grid.crs.to_wkt()), str(image if found.grid is None else inventory))
        placed = place(src, grid, stack) if src is not None else None
        strata = _Strata(found, inventory, grid, near_m=near_m, by_size=by_size, area=area, placed=placed)
        height, width = grid.shape
        cut = list(windows.blocks((height, width), (max(1, min(height, _BLOCK_PIXELS // width)), width)))
        counts = np.zeros((len(cut), len(strata.names)), np.int64)
        for n, window in enumerate(progress(cut, len(cut)) if progress else cut):
            counts[n] = np.bincount(strata.read(window).ravel(), minlength=len(strata.names) + 1)[1:]
        pixels = counts.sum(axis=0)
        if not pixels.sum():
            raise LabelError(
                f"{inventory}: no pixel was searched where --image or --area allow; check that they overlap"
            )
        drawn = allocate(pixels, number)
        random = np.random.default_rng(seed)
        rows, columns, of = _locate(cut, counts, drawn, strata, random)
    order = random.permutation(len(of))
    rows, columns, of = rows[order], columns[order], of[order]
    t = grid.affine
    x, y = t.a * (columns + 0.5) + t.b * (rows + 0.5) + t.c, t.d * (columns + 0.5) + t.e * (rows + 0.5) + t.f
    names = np.array(strata.names, dtype=object)
    frame = gpd.GeoDataFrame(
        {
            "id": np.arange(1, len(of) + 1),
            "reference": pd.Series([None] * len(of), dtype="str"),
            "remark": pd.Series([None] * len(of), dtype="str"),
            "stratum": pd.Series(names[of], dtype="str"),
            "inclusion_probability": drawn[of] / pixels[of],
        },
        geometry=gpd.points_from_xy(x, y),
        crs=grid.crs.to_wkt(),
    )
    kept = [
        Stratum(name, name.startswith(LANDSLIDE), int(n), int(d))
        for name, n, d in zip(strata.names, pixels, drawn, strict=True)
        if n
    ]
    design = Design(
        seed=seed,
        near_m=near_m,
        by_size=by_size,
        pixel_m2=pixel_ground(grid),
        crs=frame.crs.to_string(),
        strata=tuple(kept),
        inventory=Path(inventory).name,
        inventory_sha256=content_of(found),
        image_sha256=_sha256(image),
        area_sha256=_sha256(area),
    )
    return Sample(frame, design)


def allocate(pixels: np.ndarray, number: int) -> np.ndarray:
    """Share points among strata: half of them equally, half by area.

    What a stratum has no pixels for goes to the others, so that fewer points are drawn only where the ground has fewer
    pixels, and the same number asked for again gives the same shares.

    Raises
    ------
    LabelError
        Some stratum would get fewer than two points.
    """
    some = pixels > 0
    number = min(number, int(pixels.sum()))
    full = np.zeros(len(pixels), bool)
    while True:
        free = some & ~full
        left = number - pixels[full].sum()
        wanted = np.where(full, pixels, 0.0)
        if left:
            wanted[free] = left / 2 / free.sum() + left / 2 * pixels[free] / pixels[free].sum()
        if not (wanted > pixels).any():
            break
        full |= wanted > pixels
    drawn = np.floor(wanted).astype(np.int64)
    rest = np.argsort(-(wanted - drawn), kind="stable")[: number - drawn.sum()]
    drawn[rest] += 1
    drawn = np.minimum(drawn, pixels)
    if (drawn[some] < np.minimum(LEAST_POINTS, pixels[some])).any():
        raise LabelError(
            f"{number} points are too few for {some.sum()} strata; give -n of at least {2 * LEAST_POINTS * some.sum()}"
        )
    return drawn


class _Strata:
    """Number of the stratum of each pixel; 0 where nothing was searched."""

    def __init__(
        self,
        found: geopackage.Inventory,
        inventory: str | os.PathLike,
        grid: GeoBox,
        *,
        near_m: float,
        by_size: bool,
        area: str | os.PathLike | None,
        placed: Placed | None,
    ):
        if found.searched is None and area is None:
            raise GridError(
                f"{inventory} does not tell where landslides were searched (it has no layer 'searched'); "
                "give --area with polygons of that ground"
            )
        if grid.crs is None:
            raise ValueError("strata lie on a grid with a CRS")
        crs = grid.crs.to_wkt()
        grounds = [] if area is None else [truth.read_polygons(area, crs).geometry]
        if found.searched is not None:
            grounds.append(truth.mended(np.asarray(found.searched.to_crs(crs).geometry))[0])
        self._grounds = [truth.Drawn(ground, grid) for ground in grounds]
        self._placed = placed
        mapped, _, _ = truth.mended(np.asarray(found.landslides.to_crs(crs).geometry))
        size = shapely.area(mapped)
        limits = [0.0, *SIZES_M2, np.inf] if by_size else [0.0, np.inf]
        labels = ["small", "medium", "large"] if by_size else [""]
        self.names = [f"{LANDSLIDE} {label}".strip() for label in labels] + ["near", "rest"]
        self._mapped = [truth.Drawn(mapped[(size >= low) & (size < high)], grid) for low, high in pairwise(limits)]
        self._near = truth.Drawn(shapely.buffer(mapped, near_m), grid)

    def read(self, window: Window) -> np.ndarray:
        """Strata of a window: uint8, shape (height, width)."""
        seen = np.ones((window.height, window.width), bool)
        for ground in self._grounds:
            seen &= ground.read(window)
        if self._placed is not None and seen.any():
            seen &= self._placed.read(window, bands=[1])[1]
        stratum = np.full(seen.shape, len(self.names), np.uint8)
        stratum[self._near.read(window)] = len(self.names) - 1
        for number, drawn in enumerate(self._mapped):
            stratum[drawn.read(window)] = number + 1
        return stratum * seen


def _locate(
    cut: list[Window], counts: np.ndarray, drawn: np.ndarray, strata: _Strata, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw ranks in each stratum and find their pixels: rows, columns and strata of the sample."""
    pixels = counts.sum(axis=0)
    ranks = [np.sort(random.choice(n, size=d, replace=False)) for n, d in zip(pixels, drawn, strict=True)]
    before = np.vstack([np.zeros(counts.shape[1], np.int64), np.cumsum(counts, axis=0)])
    rows, columns, of = [], [], []
    for n, window in enumerate(cut):
        mine = [r[(r >= before[n, s]) & (r < before[n + 1, s])] - before[n, s] for s, r in enumerate(ranks)]
        if not any(len(r) for r in mine):
            continue
        stratum = strata.read(window).ravel()
        for s, rank in enumerate(mine):
            at = np.flatnonzero(stratum == s + 1)[rank]
            rows.append(at // window.width + window.row_off)
            columns.append(at % window.width + window.col_off)
            of.append(np.full(len(at), s))
    found = np.concatenate(rows), np.concatenate(columns), np.concatenate(of)
    order = np.lexsort((found[1], found[0], found[2]))  # the same whatever the windows were
    return found[0][order], found[1][order], found[2][order]


def content_of(found: geopackage.Inventory) -> str:
    """Hash of the polygons of an inventory, in their order."""
    whole = hashlib.sha256()
    for frame in (found.landslides, found.searched):
        for wkb in shapely.to_wkb([] if frame is None else np.asarray(frame.geometry)):
            whole.update(wkb or b"")
        whole.update(b"\n")
    return whole.hexdigest()


def _sha256(path: str | os.PathLike | None) -> str:
    if path is None:
        return ""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
