"""From probability rasters to an inventory, by blocks of rows."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.windows import Window

from geo import windows
from geo.errors import ConfigError, RasterError
from geo.geobox import GeoBox
from geo.inventory import attributes
from geo.inventory.footprint import footprint
from geo.inventory.geopackage import Inventory
from geo.inventory.ground.burnt import corners
from geo.inventory.ground.evidence import Evidence, Sources, open_evidence
from geo.inventory.ground.unseen import NODATA, SEARCHED, Unseen
from geo.inventory.ground.zonal import zones
from geo.inventory.shape import areal_scale
from geo.mosaic import Mosaic, View, check_probability, open_mosaic
from geo.progress import Counted
from geo.raster import crs_name
from geo.stream import cpus, stream
from geo.vectorize import Block, Polygonizer, Regions, measure
from geo.vectorize.simplify import Simplified, simplify

if TYPE_CHECKING:
    import geopandas as gpd

    from geo.inventory.merged import Apart
    from geo.terrain import Terrain

log = logging.getLogger(__name__)

#: Where neither a user nor the raster's tag tells one.
DEFAULT_THRESHOLD = 0.5
#: Probability on disk is a step of 0.004 in float32; a threshold on a step must include it.
_ROUNDING = 1e-6
#: Pixels of a block; about 25 bytes each are held while it is worked on.
_BLOCK_PIXELS = 500_000
_WORKERS = 4


@dataclass(frozen=True)
class Outline:
    """How polygons are drawn.

    Attributes
    ----------
    simplify_m : float
        Square root of the largest triangle that is cut off an outline, in metres; 0 leaves pixel edges.
    smooth : int
        Rounds of corner cutting afterwards.
    """

    simplify_m: float = 0.0
    smooth: int = 0


def make_inventory(
    paths: Sequence[str | os.PathLike],
    *,
    threshold: float | None = None,
    grow_threshold: float | None = None,
    min_area_m2: float = 0.0,
    connectivity: int = 4,
    prefer: str = "newest",
    sources: Sources = Sources(),  # noqa: B008 - a constant
    split: float | None = None,
    outline: Outline = Outline(),
    steep_stretch: float = 2.0,
    version: str = "",
    workers: int | None = None,
    progress: Counted | None = None,
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
    grow_threshold : float, optional
        Probability down to which a landslide grows from where it reaches the threshold (hysteresis).
    min_area_m2 : float
        Smaller polygons are left out.
    connectivity : {4, 8}
        Pixels joined by their edges, or by their corners too.
    prefer : {"newest", "nadir"}
        Which view decides where several are valid.
    sources : Sources
        Images, DEM and spreads to look at beside the probability.
    split : float, optional
        Merged scars are cut apart where a cut is at least this sure; needs a DEM.
    outline : Outline
        Simpler outlines.
    steep_stretch : float
        Ground where a pixel of the image shows more than this many times the ground that it shows in the plain
        does not count as searched (needs a DEM).
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
        A raster cannot be read or holds no probabilities, or none holds a valid pixel.
    GridError
        A raster has no CRS, the first's is not in metres, or one that is beside it lies elsewhere.
    ConfigError
        Landslides shall grow to a threshold that is not lower, or be cut apart without a DEM.
    """
    if split is not None and sources.dem is None:
        raise ConfigError("merged scars are cut apart along the terrain, and no DEM is given; give --dem too")
    with open_mosaic(paths, prefer=prefer) as mosaic, open_evidence(sources, mosaic.views, mosaic.geobox) as evidence:
        grid, views = mosaic.geobox, mosaic.views
        thresholds = [_threshold(view, threshold) for view in views]
        _check_growth(grow_threshold, thresholds)
        _tell_distortion(grid, paths[0])
        smallest = math.ceil(min_area_m2 / attributes.pixel_ground(grid) - 1e-9)
        work = _Work(mosaic, thresholds, grow_threshold, Unseen(mosaic, evidence, steep_stretch))
        found = _search(work, smallest, connectivity, workers, progress)
        regions, apart = found.scars, None
        if split is not None and evidence.terrain is not None:
            from geo.inventory.merged import take_apart  # brings scikit-image, which nothing else here needs

            apart = take_apart(regions, mosaic, evidence.terrain, least=split, min_pixels=smallest, workers=workers)
            regions = apart.regions
        simple = _drawn(regions, outline, apart, mosaic)
        frame = attributes.landslides(
            regions,
            views,
            thresholds,
            grid,
            outline=None if simple is None else simple.geometry,
            zones=zones(regions, evidence, grid, workers=workers),
            apart=apart,
            parents=found.scars,
            not_searched=found.unseen,
            position_error_m=evidence.position_error_m,
            version=version,
        )
        searched = attributes.searched(found.searched, views, thresholds, grid)
        if evidence.terrain is not None:
            _tell_gaps(evidence.terrain, frame, searched)
        hidden, hidden_pixels = _inside(found, evidence, mosaic)
        settings: dict[str, Any] = {
            "thresholds": {v.scene: t for v, t in zip(views, thresholds, strict=True)},
            "min_area_m2": min_area_m2,
            "connectivity": connectivity,
            "prefer": prefer,
            "version": version,
        }
        settings |= _of_outline(simple, outline) | ({"split": split} if split is not None else {})
        settings |= {"grow_threshold": grow_threshold} if grow_threshold is not None else {}
        return Inventory(
            landslides=frame,
            searched=searched,
            grid=grid,
            settings=settings,
            not_searched=attributes.not_searched(hidden, hidden_pixels, grid),
            footprints=attributes.footprints(
                _outlines(views, evidence, mosaic), views, thresholds, evidence.position_error_m, grid
            ),
            review=attributes.to_review(frame),
        )


@dataclass(frozen=True)
class _Found:
    """What one pass over all pixels finds."""

    scars: Regions
    searched: dict[int, Regions]  # by view
    unseen: dict[int, Regions]  # by the code of the reason
    unseen_pixels: dict[int, int]


def _search(work: _Work, smallest: int, connectivity: int, workers: int | None, progress: Counted | None) -> _Found:
    """Look at every pixel once."""
    mosaic = work.mosaic
    views, transform = mosaic.views, mosaic.geobox.affine
    height, width = mosaic.geobox.shape
    scars = Polygonizer(width, transform, connectivity=connectivity, min_pixels=smallest, sources=len(views))
    ground = {n: Polygonizer(width, transform) for n in range(len(views))}
    unseen = {code: Polygonizer(width, transform, min_pixels=smallest) for code in work.unseen.reasons}

    rows = max(1, min(height, _BLOCK_PIXELS // width))
    cut = list(windows.blocks((height, width), (rows, width)))
    todo = progress(cut, len(cut)) if progress else cut
    for _, (found, seen, hidden) in stream(work, todo, workers=min(_WORKERS, cpus(workers))):
        scars.add(found)
        for number, polygonizer in ground.items():
            polygonizer.add(seen[number])
        for code, polygonizer in unseen.items():
            polygonizer.add(hidden[code])

    regions = {n: p.finish() for n, p in ground.items()}
    if not any(len(r) for r in regions.values()) and not any(v.screened_out for v in views):
        names = ", ".join(str(v.path) for v in views)
        raise RasterError(
            f"{names} holds no valid pixel (all nodata), so nothing was searched; "
            "check that the image and the area searched overlap, and predict again"
        )
    for number, view in enumerate(views):
        if view.screened_out:
            log.warning("%s was not searched: the screening kept no ground of it", view.path)
        elif not len(regions[number]):
            log.warning("%s decides nowhere: it is all nodata, or better views cover it", view.path)
    hidden_regions = {code: p.finish() for code, p in unseen.items()}
    return _Found(scars.finish(), regions, hidden_regions, {code: p.pixels for code, p in unseen.items()})


class _Work:
    """What is done with one window, apart from its neighbours."""

    def __init__(self, mosaic: Mosaic, thresholds: Sequence[float], low: float | None, unseen: Unseen):
        self.mosaic, self.unseen, self._low = mosaic, unseen, low
        self._least = np.array([*thresholds, np.inf], np.float32) - np.float32(_ROUNDING)  # -1, no view, is the last

    def __call__(self, window: Window) -> tuple[Block, list[Block], dict[int, Block]]:
        probability, view = self.mosaic.read(window)
        views = len(self.mosaic.views)
        check_probability(probability, [v.path for v in self.mosaic.views], view)
        least = self._least[0] if views == 1 else self._least[view]
        seeds = probability >= least  # NaN is not
        landslide = seeds if self._low is None else probability >= np.float32(self._low - _ROUNDING)
        found = measure(landslide, probability, view, sources=views, seeds=None if self._low is None else seeds)
        reason = self.unseen.reason(window, view)
        seen = [measure((view == number) & (reason == SEARCHED)) for number in range(views)]
        return found, seen, {code: measure(reason == code) for code in self.unseen.reasons}


def _inside(found: _Found, evidence: Evidence, mosaic: Mosaic) -> tuple[dict[int, Regions], dict[int, int]]:
    """Leave out what lies around the images: corners of the rectangle of pixels that no scene shows.

    They are the ground without data that reaches the edge of the grid. Without an image nobody can tell them from
    ground that the scene shows, so all is kept.
    """
    regions, pixels = dict(found.unseen), dict(found.unseen_pixels)
    if not evidence.images or not len(regions[NODATA]):
        return regions, pixels
    blank = regions[NODATA]
    height, width = mosaic.geobox.shape
    column, line, owner, _ = corners(blank.geometry, mosaic.geobox.affine)
    at_edge = (column == 0) | (column == width) | (line == 0) | (line == height)
    around = np.isin(np.arange(len(blank)), owner[at_edge])
    regions[NODATA] = blank.take(~around)
    pixels[NODATA] -= int(blank.pixels[around].sum())
    return regions, pixels


def _drawn(regions: Regions, outline: Outline, apart: Apart | None, mosaic: Mosaic) -> Simplified | None:
    """Simplify outlines where that is asked for."""
    if not (outline.simplify_m or outline.smooth):
        return None
    return simplify(
        regions.geometry,
        outline.simplify_m,
        smooth=outline.smooth,
        touching=None if apart is None else apart.was_cut,
        transform=mosaic.geobox.affine,
    )


def _of_outline(simple: Simplified | None, outline: Outline) -> dict[str, Any]:
    """By how much simplified outlines differ, for the settings."""
    if simple is None:
        return {}
    error, moved = simple.area_error, simple.moved
    told = {"largest_area_error": error, "largest_shift_m": moved}
    summary = {name: float(f"{values.max(initial=0.0):.3g}") for name, values in told.items()}
    summary["mean_shift_m"] = float(f"{moved.mean():.3g}") if len(moved) else 0.0
    return {"outline": {"simplify_m": outline.simplify_m, "smooth": outline.smooth, **summary}}


def _outlines(views: Sequence[View], evidence: Evidence, mosaic: Mosaic) -> dict[int, Any]:
    """Outline of each view's image, or of its probability where no image is given."""
    return {
        number: footprint(evidence.images[number].path if number in evidence.images else view.path, mosaic.geobox)
        for number, view in enumerate(views)
    }


def _tell_gaps(terrain: Terrain, landslides: gpd.GeoDataFrame, searched: gpd.GeoDataFrame) -> None:
    """Say how many landslides have no terrain figures because the DEM has gaps or ends."""
    lacking = int(landslides["relief_m"].isna().sum())
    if lacking:
        log.warning(
            "the DEM %s has heights on %.0f %% of the ground searched: %d of %d landslides have no crown, toe, relief "
            "and travel angle, for less than %.0f %% of their pixels have heights; give a DEM that covers them",
            terrain.path,
            100 * terrain.known_share(np.asarray(searched.geometry)),
            lacking,
            len(landslides),
            100 * attributes.HEIGHTS_KNOWN,
        )


def _tell_distortion(grid: GeoBox, path: str | os.PathLike) -> None:
    scale = areal_scale(grid)
    if scale != 1:
        log.warning(
            "%s has the CRS %s, of which a square metre is %.3g m2 on the ground here: areas are measured on the "
            "ellipsoid, outlines and lengths are those of the map; for both, bring the image to UTM (`geocrack ortho`)",
            path,
            crs_name(grid.crs),
            scale,
        )


def _check_growth(low: float | None, thresholds: Sequence[float]) -> None:
    if low is not None and low > min(thresholds) + _ROUNDING:
        raise ConfigError(
            f"landslides shall grow down to a probability of {low:g}, but the threshold is {min(thresholds):g}; "
            "give a --grow-threshold below it"
        )


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
