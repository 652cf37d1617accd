"""Regions that are several scars merged, cut apart where the ground or the model says so.

Each region is looked at in its own window. Where that would be too large for memory, it is looked at in steps of
several pixels, and its pixels are read again in strips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.windows import Window
from scipy import ndimage

from geo import windows
from geo.inventory import divides
from geo.inventory.ground.burnt import Burnt, corners
from geo.mosaic import Mosaic
from geo.stream import cpus, stream
from geo.terrain import Terrain
from geo.vectorize import Regions, join, measure

#: Pixels of a window that are looked at together.
_MOST_PIXELS = 1_000_000
#: A part is at least this many nodes of the DEM, for what is smaller the DEM tells nothing.
_LEAST_NODES = 4
_WORKERS = 4


@dataclass(frozen=True)
class Apart:
    """Regions after the cuts, in the order of their first pixels.

    Attributes
    ----------
    regions : Regions
    parent : ndarray of int64, shape (n,)
        Number of the region before.
    was_cut : ndarray of bool, shape (n,)
    confidence : ndarray of float64, shape (n,)
        How sure the least sure cut is that sets a region apart; NaN where it was not cut.
    suspicion : ndarray of float64, shape (n,)
        How sure the surest cut is that was not made inside it; 0 where there was nothing to cut, NaN where a height
        is missing.
    """

    regions: Regions
    parent: np.ndarray
    was_cut: np.ndarray
    confidence: np.ndarray
    suspicion: np.ndarray


def take_apart(
    regions: Regions,
    mosaic: Mosaic,
    terrain: Terrain,
    *,
    least: float,
    min_pixels: int,
    workers: int | None = None,
) -> Apart:
    """Cut regions that are several scars.

    Parameters
    ----------
    regions : Regions
        As ``geo.vectorize`` makes them from the mosaic.
    mosaic : Mosaic
    terrain : Terrain
    least : float
        Cuts less sure than this are not made.
    min_pixels : int
        Pixels of a part at least.
    workers : int, optional
        Threads, at most 4.

    Returns
    -------
    Apart
        The pixels are the same as before.
    """
    smallest = max(min_pixels, _LEAST_NODES * terrain.step**2)
    look = np.flatnonzero(regions.pixels >= 2 * smallest)
    work = _Work(regions, mosaic, terrain, least, smallest)
    fresh: list[Regions] = []
    parents: list[np.ndarray] = []
    sure: list[np.ndarray] = []
    doubt: list[np.ndarray] = []
    kept = np.ones(len(regions), bool)
    undone = np.zeros(len(regions))
    for number, (parts, found) in stream(work, look.tolist(), workers=min(_WORKERS, cpus(workers))):
        if parts is None:
            undone[number] = found.suspicion.max(initial=0.0)
            continue
        kept[number] = False
        fresh.append(parts)
        parents.append(np.full(len(parts), number))
        sure.append(found.confidence)
        doubt.append(found.suspicion)
    rest = np.flatnonzero(kept)
    columns = [_column([regions.take(rest), *fresh], name) for name in Regions.__dataclass_fields__]
    together = Regions(*columns)
    parent = np.concatenate([rest, *parents])
    confidence = np.concatenate([np.full(len(rest), np.nan), *sure])
    suspicion = np.concatenate([undone[rest], *doubt])
    order = np.lexsort((together.first[:, 1], together.first[:, 0]))
    was_cut = np.arange(len(together)) >= len(rest)
    return Apart(together.take(order), parent[order], was_cut[order], confidence[order], suspicion[order])


def _column(several: list[Regions], name: str) -> np.ndarray:
    """One column of several sets of regions, one after the other."""
    return np.concatenate([getattr(r, name) for r in several])


class _Work:
    """What is done with one region."""

    def __init__(self, regions: Regions, mosaic: Mosaic, terrain: Terrain, least: float, smallest: int):
        self._regions, self._mosaic, self._terrain = regions, mosaic, terrain
        self._least, self._smallest = least, smallest

    def __call__(self, number: int) -> tuple[Regions | None, divides.Parts]:
        geometry, affine = self._regions.geometry[number : number + 1], self._mosaic.geobox.affine
        column, line, _, _ = corners(geometry, affine)
        window = Window(int(column.min()), int(line.min()), int(np.ptp(column)), int(np.ptp(line)))
        burnt = Burnt(geometry, affine)
        coarse = max(1, math.ceil(math.sqrt(window.width * window.height / _MOST_PIXELS)))
        ground = self._ground(window, burnt, coarse)
        if not ground.mask.any() or not np.isfinite(ground.height[ground.mask]).all():
            return None, divides.Parts(ground.mask.astype(np.int32), np.full(1, np.nan), np.full(1, np.nan))
        found = divides.part(ground, least=self._least, smallest=max(1, self._smallest // coarse**2))
        if len(found.confidence) < 2:
            return None, found
        return self._cut(window, burnt, coarse, found.labels, len(found.confidence)), found

    def _ground(self, window: Window, burnt: Burnt, coarse: int) -> divides.Ground:
        """Give the window every ``coarse``-th pixel."""
        layers: list[list[np.ndarray]] = [[], [], [], [], []]
        for strip in _strips(window, coarse):
            relief = self._terrain.read(strip)
            inside = burnt.read(strip) > 0
            probability, _ = self._mosaic.read(strip)
            for layer, values in zip(
                layers, (inside, relief.height, relief.east, relief.north, probability), strict=True
            ):
                layer.append(values[coarse // 2 :: coarse, coarse // 2 :: coarse])
        mask, height, east, north, probability = (np.concatenate(layer) for layer in layers)
        smooth = divides.smoothed(probability, mask)
        return divides.Ground(mask, height, east, north, smooth, max(1, self._terrain.step // coarse))

    def _cut(self, window: Window, burnt: Burnt, coarse: int, labels: np.ndarray, count: int) -> Regions:
        """Polygons of the parts, with the numbers of their pixels."""
        if coarse > 1:  # pixels between those that were looked at go with the nearest
            labels = labels[tuple(ndimage.distance_transform_edt(labels == 0, return_indices=True)[1])]
        grid = self._mosaic.geobox
        transform = grid.affine @ Affine.translation(window.col_off, window.row_off)
        parts = []
        for number in range(1, count + 1):
            blocks = (
                measure(of == number, probability, view, sources=len(self._mosaic.views))
                for of, probability, view in self._pixels(window, burnt, coarse, labels)
            )
            pieces = join(blocks, window.width, transform, sources=len(self._mosaic.views))
            parts.append(_as_one(pieces, window))
        return Regions(*(_column(parts, name) for name in Regions.__dataclass_fields__))

    def _pixels(
        self, window: Window, burnt: Burnt, coarse: int, labels: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Part, probability and view of all pixels, strip by strip."""
        for strip in _strips(window, coarse):
            probability, view = self._mosaic.read(strip)
            rows = np.arange(strip.row_off - window.row_off, strip.row_off - window.row_off + strip.height) // coarse
            columns = np.arange(window.width) // coarse
            height, width = labels.shape
            of = labels[np.minimum(rows, height - 1)[:, None], np.minimum(columns, width - 1)[None]]
            yield np.where(burnt.read(strip) > 0, of, 0), probability, view


def _strips(window: Window, coarse: int) -> Iterator[Window]:
    """Cut a window into strips whose heights are multiples of ``coarse``."""
    rows = max(1, _MOST_PIXELS // (window.width * coarse)) * coarse
    for block in windows.blocks((window.height, window.width), (rows, window.width)):
        yield Window(window.col_off, window.row_off + block.row_off, block.width, block.height)


def _as_one(pieces: Regions, window: Window) -> Regions:
    """Join the pieces of a part to one region."""
    largest = int(pieces.pixels.argmax())
    geometry = np.empty(1, object)
    geometry[0] = shapely.multipolygons(shapely.get_parts(pieces.geometry))
    pixels = pieces.pixels.sum(keepdims=True)
    mean = (pieces.mean * pieces.pixels).sum(keepdims=True) / pixels
    first = pieces.first[:1] + np.array([[window.row_off, window.col_off]])
    return Regions(
        geometry, pixels, first, mean, pieces.highest.max(keepdims=True), pieces.source[largest : largest + 1]
    )
