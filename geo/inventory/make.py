"""From probability rasters to an inventory, by blocks of rows."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from rasterio.windows import Window

from geo import windows
from geo.errors import RasterError
from geo.inventory import attributes
from geo.inventory.geopackage import Inventory
from geo.mosaic import Mosaic, View, open_mosaic
from geo.stream import cpus, stream
from geo.vectorize import Block, Polygonizer, measure

log = logging.getLogger(__name__)

#: Where neither a user nor the raster's tag tells one.
DEFAULT_THRESHOLD = 0.5
#: Probability on disk is a step of 0.004 in float32; a threshold on a step must include it.
_ROUNDING = 1e-6
#: Pixels of a block; about 25 bytes each are held while it is worked on.
_BLOCK_PIXELS = 2_000_000
_WORKERS = 4


def make_inventory(
    paths: Sequence[str | os.PathLike],
    *,
    threshold: float | None = None,
    min_area_m2: float = 0.0,
    connectivity: int = 4,
    prefer: str = "newest",
    version: str = "",
    workers: int | None = None,
    progress: Callable[[Iterable[Window], int], Iterable[Window]] | None = None,
) -> Inventory:
    """Turn the probability of one or more scenes into landslide polygons.

    Each pixel is decided by the best view that is valid there, so that a scar across two scenes is one
    polygon and ground seen twice counts once.

    Parameters
    ----------
    paths : sequence of path
        Probability rasters, one band each, any grid; the first gives the CRS (in metres) and the grid.
    threshold : float, optional
        Probability from which ground is landslide; by default each raster's tag ``GEOCRACK_THRESHOLD``.
    min_area_m2 : float
        Smaller polygons are left out.
    connectivity : {4, 8}
        Pixels joined by their edges, or by their corners too.
    prefer : {"newest", "nadir"}
        Which view decides where several are valid.
    version : str
        Of the program, for the attributes.
    workers : int, optional
        Threads, at most 4.
    progress : callable, optional
        Gets the windows and their number, and passes them on.

    Returns
    -------
    Inventory

    Raises
    ------
    RasterError
        A raster cannot be read, or none holds a valid pixel.
    GridError
        A raster has no CRS, or the first's is not in metres.
    """
    with open_mosaic(paths, prefer=prefer) as mosaic:
        grid, views = mosaic.geobox, mosaic.views
        thresholds = [_threshold(view, threshold) for view in views]
        height, width = grid.shape
        smallest = math.ceil(min_area_m2 / attributes.pixel_area(grid) - 1e-9)
        scars = Polygonizer(width, grid.affine, connectivity=connectivity, min_pixels=smallest, sources=len(views))
        ground = {n: Polygonizer(width, grid.affine) for n in range(len(views))}

        rows = max(1, min(height, _BLOCK_PIXELS // width))
        cut = list(windows.blocks((height, width), (rows, width)))
        todo = progress(cut, len(cut)) if progress else cut
        work = _Work(mosaic, thresholds)
        for _, (found, seen) in stream(work, todo, workers=min(_WORKERS, cpus(workers))):
            scars.add(found)
            for number, polygonizer in ground.items():
                polygonizer.add(seen[number])

        regions = {n: p.finish() for n, p in ground.items()}
        if not any(len(r) for r in regions.values()):
            names = ", ".join(str(v.path) for v in views)
            raise RasterError(
                f"{names} holds no valid pixel (all nodata), so nothing was searched; "
                "check that the image and the area searched overlap, and predict again"
            )
        for number, view in enumerate(views):
            if not len(regions[number]):
                log.warning("%s decides nowhere: it is all nodata, or better views cover it", view.path)
        return Inventory(
            landslides=attributes.landslides(scars.finish(), views, thresholds, grid, version=version),
            searched=attributes.searched(regions, views, thresholds, grid),
            grid=grid,
            settings={
                "thresholds": {v.scene: t for v, t in zip(views, thresholds, strict=True)},
                "min_area_m2": min_area_m2,
                "connectivity": connectivity,
                "prefer": prefer,
                "version": version,
            },
        )


class _Work:
    """What is done with one window, apart from its neighbours."""

    def __init__(self, mosaic: Mosaic, thresholds: Sequence[float]):
        self._mosaic = mosaic
        self._least = np.array([*thresholds, np.inf], np.float32) - np.float32(_ROUNDING)  # -1, no view, is the last

    def __call__(self, window: Window) -> tuple[Block, list[Block]]:
        probability, view = self._mosaic.read(window)
        views = len(self._mosaic.views)
        least = self._least[0] if views == 1 else self._least[view]
        landslide = probability >= least  # NaN is not
        found = measure(landslide, probability, view, sources=views)
        return found, [measure(view == number) for number in range(views)]


def _threshold(view: View, given: float | None) -> float:
    if given is not None:
        return given
    if view.threshold is not None:
        return view.threshold
    log.warning(
        "%s does not tell its model's threshold (tag GEOCRACK_THRESHOLD): %g is taken; give --threshold for another",
        view.path,
        DEFAULT_THRESHOLD,
    )
    return DEFAULT_THRESHOLD
