"""An inventory against the truth: by pixel and by landslide, on the ground that was searched and nowhere else.

Pixels are counted on the grid that the inventory was made of (a pixel is inside a polygon where its centre
is), over all of it together: counts first, then one division. Intervals come from blocks of ground that are drawn
anew (``geo.inventory.bootstrap``).
"""

from __future__ import annotations

import logging
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.crs
import shapely
from affine import Affine
from rasterio.windows import Window

from geo import windows
from geo.errors import GridError
from geo.geobox import GeoBox
from geo.inventory import geopackage, truth
from geo.inventory.attributes import pixel_area, pixel_ground
from geo.inventory.baseline import Histogram, ThresholdBaseline
from geo.inventory.bootstrap import LEAST_BLOCKS, Blocks, Bootstrap, Resampling
from geo.inventory.compared_ground import Ground, Reference, in_crs
from geo.inventory.matching import compare
from geo.inventory.objects import score_objects
from geo.inventory.shape import areal_scale
from geo.mosaic import Placed, check_metres, check_one_band, check_probability, place
from geo.progress import Counted
from geo.raster import geobox_of, open_raster
from geo.replicates import Interval

log = logging.getLogger(__name__)

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
    progress: Counted | None = None,
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
        The truth, the area or a raster lies elsewhere, or where was searched is not known.
    ConfigError
        Blocks are too narrow for the pixels.
    """
    true, how = Path(true), resampling or Resampling()
    found = geopackage.read(inventory)
    with ExitStack() as stack:
        opened = {
            n: stack.enter_context(open_raster(p)) for n, p in (("image", image), ("probability", probability)) if p
        }
        grid = _grid(found, inventory, opened.get("probability"), true)
        placed = {n: _on_grid(src, grid, n, inventory, stack) for n, src in opened.items()}
        mapped, repaired, dropped = truth.mended(np.asarray(in_crs(found.landslides, grid).geometry))
        mapped, copies = truth.without_copies(mapped, inventory)
        ground = Ground(found, inventory, area, placed.get("probability"), grid, marked=truth.is_raster(true))
        reference = Reference(true, grid, stack)
        reference.check_place(ground)

        side = math.sqrt(areal_scale(grid))  # of a metre of the map on the ground
        blocks = Blocks(GeoBox(grid.shape, Affine.scale(side) @ grid.affine, grid.crs), how.block_m)
        confusion = np.zeros((blocks.number, 4), np.int64)
        baseline = ThresholdBaseline(opened["image"]) if image else None
        curve = Histogram(-0.5 / _STEPS, 1 + 0.5 / _STEPS, _STEPS + 1) if probability else None
        drawn = truth.Drawn(mapped, grid)
        compared = dict.fromkeys(placed, 0)
        height, width = grid.shape
        cut = list(windows.blocks((height, width), (max(1, min(height, _BLOCK_PIXELS // width)), width)))
        for window in progress(cut, len(cut)) if progress else cut:
            seen, shown = ground.read(window)
            landslide, known = reference.read(window)
            seen &= known
            reference.add(landslide & seen)
            ground.add(shown & known)
            if not seen.any():
                continue
            block = blocks.of_window(window)
            first, last = int(block.min()), int(block.max()) + 1
            kind = 4 * (block - first) + 2 * landslide + drawn.read(window)
            confusion[first:last] += np.bincount(kind[seen], minlength=4 * (last - first)).reshape(-1, 4)
            if baseline:
                values, valid = placed["image"].read(window, bands=baseline.bands)
                baseline.add(values[:, seen & valid], landslide[seen & valid])
                compared["image"] += int(np.count_nonzero(seen & valid))
            if curve:
                values, valid = placed["probability"].read(window, bands=[1])
                check_probability(values[0], [str(probability)])
                curve.add(values[0][seen & valid], landslide[seen & valid])
                compared["probability"] += int(np.count_nonzero(seen & valid))

    tn, fp, fn, tp = (int(n) for n in confusion.sum(axis=0))
    if not confusion.sum():
        raise reference.elsewhere(ground)
    for name, pixels in compared.items():
        if not pixels:
            raise GridError(
                f"{opened[name].name} has no valid pixel on the ground that is compared; give the {name} of the "
                f"scene that {inventory} was made of"
            )
    km2 = pixel_ground(grid) / 1e6
    smallest = max(pixel_area(grid), 1e-9)
    ground.close()
    least = float(found.settings.get("min_area_m2", 0.0))
    present = np.flatnonzero(confusion.any(axis=1))
    if len(present) < LEAST_BLOCKS:
        log.warning(
            "%s: the ground that is compared has %d blocks of %g m, and intervals need %d, so there are none",
            inventory,
            len(present),
            how.block_m,
            LEAST_BLOCKS,
        )
    if not tp + fn:
        log.warning(
            "%s: there is no landslide on the ground that is compared, so only false alarms can be scored: recall is "
            "not defined, and F1 has no interval",
            true,
        )
    bootstrap = Bootstrap(present, how)
    result: dict[str, Any] = {
        "pixels": {**pixel_scores(tp, fp, fn, tn), "interval": _pixel_intervals(confusion[present], bootstrap)},
        "objects": score_objects(
            compare(*(_in_ground_metres(ground.cut(g, smallest), side) for g in (mapped, reference.objects()))),
            pixel_m=math.sqrt(pixel_ground(grid)),
            min_area_m2=least,
            blocks=blocks,
            bootstrap=bootstrap,
            border=_in_ground_metres(ground.border, side),
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
            "copies": copies,
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
    """Intervals of the scores of pixels; the confusion by block, shape (blocks, 4): tn, fp, fn, tp.

    Where nothing is true, scores that weigh what was missed say nothing, and have none.
    """
    tn, fp, fn, tp = confusion.T
    true = bool((tp + fn).any())

    def miou(s: np.ndarray) -> np.ndarray:
        return (s[:, 3] / (s[:, 3] + s[:, 1] + s[:, 2]) + s[:, 0] / (s[:, 0] + s[:, 1] + s[:, 2])) / 2

    return {
        "precision": bootstrap.rate(tp, tp + fp),
        "recall": bootstrap.rate(tp, tp + fn),
        "f1": bootstrap.rate(2 * tp, 2 * tp + fp + fn) if true else None,
        "iou": bootstrap.rate(tp, tp + fp + fn) if true else None,
        "miou": bootstrap.interval(miou, tn, fp, fn, tp) if true else None,
        "accuracy": bootstrap.rate(tn + tp, confusion.sum(axis=1)),
        "true_per_mapped": bootstrap.ratio(tp + fn, tp + fp),
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


def _in_ground_metres(geometry: Any, side: float) -> Any:
    """Geometry whose coordinates, and so areas and distances, are in metres of the ground."""
    if geometry is None or side == 1:
        return geometry
    scaled = shapely.transform(geometry, lambda xy: xy * side)
    shapely.prepare(scaled)
    return scaled


def _on_grid(
    src: rasterio.DatasetReader, grid: GeoBox, what: str, inventory: str | os.PathLike, stack: ExitStack
) -> Placed:
    """Image or probability on the pixels of the comparison."""
    if what == "probability":
        check_one_band(src, "probability, as `geocrack predict` writes")
    placed = place(src, grid, stack)
    if placed.overlap(Window(0, 0, *grid.shape[::-1])) is None:
        raise GridError(
            f"{src.name} lies elsewhere than {inventory}: they share no ground; give the {what} of its scene"
        )
    return placed
