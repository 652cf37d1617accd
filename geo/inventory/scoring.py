"""An inventory against the truth: by pixel and by landslide, on the ground that was searched and nowhere else.

Pixels are counted on the grid that the inventory was made of (a pixel is inside a polygon where its centre
is), over all of it together: counts first, then one division. Intervals come from blocks of ground that are drawn
anew (``geo.inventory.bootstrap``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import rasterio.crs
import shapely
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import windows
from geo.errors import GridError
from geo.inventory import geopackage, truth
from geo.inventory.attributes import pixel_area
from geo.inventory.baseline import Histogram, ThresholdBaseline
from geo.inventory.bootstrap import Blocks, Bootstrap, Interval, Resampling
from geo.inventory.matching import compare
from geo.inventory.objects import score_objects
from geo.mosaic import Placed, check_metres, place
from geo.raster import crs_name, geobox_of, open_raster
from geo.vectorize import Polygonizer, measure

_BLOCK_PIXELS = 2_000_000
#: Steps of probability that the curve distinguishes: those of its form on disk.
_STEPS = 250


def pixel_scores(tp: int, fp: int, fn: int, tn: int) -> dict[str, float | int | None]:
    """Scores of a confusion matrix pooled over all pixels.

    Parameters
    ----------
    tp, fp, fn, tn : int
        Landslide found, other ground taken for landslide, landslide not found, other ground left alone.

    Returns
    -------
    dict
        The counts; ``precision, recall, f1, iou`` of landslide, ``iou_background``, ``miou`` (mean of both
        classes) and ``accuracy``; None where the denominator is 0. ``iou = f1 / (2 - f1)`` always holds.
    """

    def share(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    iou, iou_background = share(tp, tp + fp + fn), share(tn, tn + fp + fn)
    both = None if iou is None or iou_background is None else (iou + iou_background) / 2
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "precision": share(tp, tp + fp),
        "recall": share(tp, tp + fn),
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "iou": iou,
        "iou_background": iou_background,
        "miou": both,
        "accuracy": share(tp + tn, tp + fp + fn + tn),
    }


def score(
    inventory: str | os.PathLike,
    true: str | os.PathLike,
    *,
    area: str | os.PathLike | None = None,
    image: str | os.PathLike | None = None,
    probability: str | os.PathLike | None = None,
    resampling: Resampling | None = None,
    progress: Callable[[Iterable[Window], int], Iterable[Window]] | None = None,
) -> dict[str, Any]:
    """Compare an inventory with the truth.

    Parameters
    ----------
    inventory : path
        GeoPackage as ``geocrack vectorize`` writes it, or other polygons (then ``probability`` gives the
        grid and the searched ground, or ``area`` the latter).
    true : path
        True landslides: polygons of any CRS, or a raster of 0 and 1 (or 255), nodata where not known.
    area : path, optional
        Polygons to which the comparison is confined.
    image : path, optional
        Image for the best single threshold on NDVI and brightness.
    probability : path, optional
        Probability raster for the precision-recall curve.
    resampling : Resampling, optional
        How intervals are made.
    progress : callable, optional
        Gets the windows and their number, and passes them on.

    Returns
    -------
    dict
        ``pixels``, ``objects``, ``searched_km2``, ``true_km2``, ``mapped_km2``, ``pixel_m``, ``crs``,
        ``truth``, ``inventory``, ``bootstrap``; ``threshold_baseline`` and ``probability`` where asked for.

    Raises
    ------
    RasterError, LabelError
        A file cannot be used.
    GridError
        The truth lies elsewhere, or where was searched is not known.
    """
    true, how = Path(true), resampling or Resampling()
    found = geopackage.read(inventory)
    with ExitStack() as stack:
        opened = {
            n: stack.enter_context(open_raster(p)) for n, p in (("image", image), ("probability", probability)) if p
        }
        grid = _grid(found, inventory, opened.get("probability"), true)
        placed = {n: place(src, grid, stack) for n, src in opened.items()}
        mapped, repaired, dropped = truth.mended(np.asarray(_in_crs(found.landslides, grid).geometry))
        ground = _Ground(found, inventory, area, placed.get("probability"), grid)
        reference = _Reference(true, grid, stack)
        reference.check_place(ground)

        blocks = Blocks(grid, how.block_m)
        confusion = np.zeros((blocks.number, 4), np.int64)
        baseline = ThresholdBaseline(opened["image"]) if image else None
        curve = Histogram(-0.5 / _STEPS, 1 + 0.5 / _STEPS, _STEPS + 1) if probability else None
        drawn = truth.Drawn(mapped, grid)
        height, width = grid.shape
        cut = list(windows.blocks((height, width), (max(1, min(height, _BLOCK_PIXELS // width)), width)))
        for window in progress(cut, len(cut)) if progress else cut:
            seen = ground.read(window)
            landslide = reference.read(window, seen)
            if not seen.any():
                continue
            block = blocks.of_window(window)
            first, last = int(block.min()), int(block.max()) + 1
            kind = 4 * (block - first) + 2 * landslide + drawn.read(window)
            confusion[first:last] += np.bincount(kind[seen], minlength=4 * (last - first)).reshape(-1, 4)
            if baseline:
                values, valid = placed["image"].read(window, bands=baseline.bands)
                baseline.add(values[:, seen & valid], landslide[seen & valid])
            if curve:
                values, valid = placed["probability"].read(window, bands=[1])
                curve.add(values[0][seen & valid], landslide[seen & valid])

    tn, fp, fn, tp = (int(n) for n in confusion.sum(axis=0))
    if not confusion.sum():
        raise reference.elsewhere(ground)
    km2 = pixel_area(grid) / 1e6
    smallest = max(pixel_area(grid), 1e-9)
    least = float(found.settings.get("min_area_m2", 0.0))
    present = np.flatnonzero(confusion.any(axis=1))
    bootstrap = Bootstrap(present, how)
    result: dict[str, Any] = {
        "pixels": {**pixel_scores(tp, fp, fn, tn), "interval": _pixel_intervals(confusion[present], bootstrap)},
        "objects": score_objects(
            compare(ground.cut(mapped, smallest), ground.cut(reference.objects(), smallest)),
            pixel_m=math.sqrt(pixel_area(grid)),
            min_area_m2=least,
            blocks=blocks,
            bootstrap=bootstrap,
            border=ground.border,
        ),
        "bootstrap": how.facts(len(present)),
        "searched_km2": (tp + fp + fn + tn) * km2,
        "true_km2": (tp + fn) * km2,
        "mapped_km2": (tp + fp) * km2,
        "pixel_m": [abs(grid.resolution.x), abs(grid.resolution.y)],
        "crs": str(grid.crs),
        "truth": reference.facts(),
        "inventory": {
            "path": str(inventory),
            "features": len(found.landslides),
            "repaired": repaired,
            "dropped": dropped,
            "multi": truth.in_parts(mapped),
        },
        "settings": dict(found.settings),
    }
    if baseline:
        result["threshold_baseline"] = baseline.result()
    if curve:
        best = curve.best()
        best["threshold"] = None if best["threshold"] is None else round(best["threshold"] + 0.5 / _STEPS, 6)
        steps = curve.curve(_STEPS + 1)
        steps["threshold"] = [round(t + 0.5 / _STEPS, 6) for t in steps["threshold"] if t is not None]
        result["probability"] = {"average_precision": curve.average_precision(), "best": best, "curve": steps}
    return result


def _pixel_intervals(confusion: np.ndarray, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Intervals of the scores of pixels; the confusion by block, shape (blocks, 4): tn, fp, fn, tp."""
    scores: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "precision": lambda s: s[:, 3] / (s[:, 3] + s[:, 1]),
        "recall": lambda s: s[:, 3] / (s[:, 3] + s[:, 2]),
        "f1": lambda s: 2 * s[:, 3] / (2 * s[:, 3] + s[:, 1] + s[:, 2]),
        "iou": lambda s: s[:, 3] / (s[:, 3] + s[:, 1] + s[:, 2]),
        "miou": lambda s: (s[:, 3] / (s[:, 3] + s[:, 1] + s[:, 2]) + s[:, 0] / (s[:, 0] + s[:, 1] + s[:, 2])) / 2,
        "accuracy": lambda s: (s[:, 0] + s[:, 3]) / s.sum(axis=1),
    }
    return {name: bootstrap.interval(score, *confusion.T) for name, score in scores.items()}


class _Ground:
    """Ground that was searched, and is asked for."""

    def __init__(
        self,
        found: geopackage.Inventory,
        inventory: str | os.PathLike,
        area: str | os.PathLike | None,
        probability: Placed | None,
        grid: GeoBox,
    ):
        kept = []
        if found.searched is not None:
            kept.append(truth.mended(np.asarray(_in_crs(found.searched, grid).geometry))[0])
        if area is not None:
            kept.append(truth.read_polygons(area, grid.crs).geometry)
        self._probability = None if found.searched is not None else probability
        if not kept and self._probability is None:
            raise GridError(
                f"{inventory} does not tell where landslides were searched (it has no layer 'searched'); "
                "give --area with polygons of that ground, or --probability"
            )
        self._drawn = [truth.Drawn(polygons, grid) for polygons in kept]
        self.polygons = [shapely.union_all(polygons) for polygons in kept]
        for polygons in self.polygons:
            shapely.prepare(polygons)

    def read(self, window: Window) -> np.ndarray:
        seen = np.ones((window.height, window.width), bool)
        for drawn in self._drawn:
            seen &= drawn.read(window)
        if self._probability is not None:
            seen &= self._probability.read(window, bands=[1])[1]
        return seen

    def cut(self, geometry: np.ndarray, smallest_m2: float) -> np.ndarray:
        """Polygons inside this ground; what is left of them with less than a pixel is dropped."""
        for ground in self.polygons:
            partly = ~shapely.covers(ground, geometry)
            geometry = geometry.copy()
            geometry[partly] = shapely.intersection(geometry[partly], ground)
            geometry = geometry[~partly | (shapely.area(geometry) >= smallest_m2)]
        return geometry

    @property
    def border(self) -> shapely.Geometry | None:
        """Edge of the searched ground, prepared for questions of nearness; None where only a raster tells it."""
        if not self.polygons:
            return None
        border = shapely.boundary(shapely.intersection_all(self.polygons))
        shapely.prepare(border)
        return border

    @property
    def bounds(self) -> np.ndarray | None:
        """Bounds of the polygons of this ground; None where only a raster tells it."""
        return shapely.bounds(shapely.intersection_all(self.polygons)) if self.polygons else None


class _Reference:
    """The truth, of a vector file or a raster, window by window and as objects."""

    def __init__(self, path: Path, grid: GeoBox, stack: ExitStack):
        self.path, self._grid = path, grid
        self._marked: truth.Marked | None = None
        if truth.is_raster(path):
            self._marked = stack.enter_context(truth.open_marked(path, grid))
            self._polygonizer = Polygonizer(grid.shape[1], grid.affine, connectivity=8)
        else:
            self._polygons = truth.read_polygons(path, grid.crs)
            self._drawn = truth.Drawn(self._polygons.geometry, grid)
        self._objects: np.ndarray | None = None

    def check_place(self, ground: _Ground) -> None:
        """Raise ``GridError`` where no true landslide of a vector file lies on the ground."""
        if self._marked is not None or not len(self._polygons.geometry):
            return
        if not all(shapely.intersects(p, self._polygons.geometry).any() for p in ground.polygons):
            raise self.elsewhere(ground)

    def elsewhere(self, ground: _Ground) -> GridError:
        bounds = shapely.total_bounds(self._polygons.geometry) if self._marked is None else self._marked.bounds
        where = ground.bounds
        searched = self._grid.extent.boundingbox.bbox if where is None else where
        return GridError(
            f"{self.path} lies elsewhere: its extent is {_extent(bounds)} and that of the searched ground "
            f"{_extent(searched)}, both in {crs_name(self._grid.crs)}; give the truth of this place"
        )

    def read(self, window: Window, seen: np.ndarray) -> np.ndarray:
        """Landslides of a window; ground of which the truth is not known is taken out of ``seen``."""
        if self._marked is None:
            return self._drawn.read(window)
        landslide, known = self._marked.read(window)
        seen &= known
        self._polygonizer.add(measure(landslide & seen))
        return landslide

    def objects(self) -> np.ndarray:
        """Give the true landslides; of a raster, regions joined by edges or corners."""
        if self._marked is None:
            return self._polygons.geometry
        if self._objects is None:
            self._objects = self._polygonizer.finish().geometry
        return self._objects

    def facts(self) -> dict[str, Any]:
        if self._marked is not None:
            return {"path": str(self.path), "kind": "raster", "objects": len(self.objects())}
        p = self._polygons
        return {
            "path": str(self.path),
            "kind": "vector",
            "features": p.features,
            "repaired": p.repaired,
            "dropped": p.dropped,
            "multi": p.multi,
            "crs": p.crs,
        }


def _grid(found: geopackage.Inventory, inventory: str | os.PathLike, probability: Any, true: Path) -> GeoBox:
    """Grid of the inventory; of one that has none, that of the probability or of the truth raster."""
    if found.landslides.crs is None:
        raise GridError(f"{inventory} has no CRS, so its polygons lie nowhere; set the CRS in QGIS and save it")
    if found.grid is not None:
        return found.grid
    if probability is not None:
        grid = geobox_of(probability)
    elif truth.is_raster(true):
        with open_raster(true) as src:
            grid = geobox_of(src)
    else:
        raise GridError(f"{inventory} does not tell the pixels it was made of; give --probability to compare on")
    if grid.crs is None:
        raise GridError(f"{true if probability is None else probability.name} has no CRS; give a georeferenced raster")
    check_metres(rasterio.crs.CRS.from_wkt(grid.crs.to_wkt()), str(true if probability is None else probability.name))
    return grid


def _in_crs(frame: gpd.GeoDataFrame, grid: GeoBox) -> gpd.GeoDataFrame:
    target = pyproj.CRS.from_user_input(grid.crs)
    return frame if frame.crs == target else frame.to_crs(target)


def _extent(bounds: Iterable[float]) -> str:
    left, bottom, right, top = bounds
    return f"{left:.0f} {bottom:.0f} {right:.0f} {top:.0f}"
