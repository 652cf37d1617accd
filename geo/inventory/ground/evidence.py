"""Rasters that are looked at beside the probability: images with their quality, a DEM, the spread of answers."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from geo.errors import GridError, RasterError
from geo.geobox import GeoBox
from geo.image import band_names
from geo.masks import Quality, quality_path
from geo.mosaic import Placed, View, check_one_band, place
from geo.raster import open_raster
from geo.terrain import Terrain, open_terrain

log = logging.getLogger(__name__)

_SPREAD = "standard deviations, as `geocrack predict --spread` writes"
#: Answers half of which are 0 and half 1 deviate by 0.5; with the rounding of a probability on disk.
_WIDEST_SPREAD = 0.5 + 0.002

Paths = Sequence[str | os.PathLike]


@dataclass(frozen=True)
class Sources:
    """Files beside the probability, all optional.

    Attributes
    ----------
    images : sequence of path
        Fused images of the scenes, with their quality rasters beside them; matched to the probability by their tag
        ``GEOCRACK_SCENE``, else by their order, where no tag speaks against it.
    dem : path, optional
        Heights in metres, any CRS.
    spreads : sequence of path
        Standard deviations of the probability, matched in the same way.
    position_error_m : float, optional
        Standard error of the position of the images, in metres; that of the registration is added (in squares) where
        ``<image>.coregistration.json`` tells it.
    dem_zero : str
        Whether 0 in the DEM is a ``"height"`` or a ``"void"``; ``"auto"`` decides by the ground beside it.
    """

    images: Paths = ()
    dem: str | os.PathLike | None = None
    spreads: Paths = ()
    position_error_m: float | None = None
    dem_zero: str = "auto"


@dataclass
class Photograph:
    """An image on the grid, with its quality.

    Attributes
    ----------
    path : Path
    bands : tuple of str
    """

    path: Path
    bands: tuple[str, ...]
    _placed: Placed
    _quality: Placed | None

    @property
    def tells_quality(self) -> bool:
        """Whether there is a quality raster, or only what has no data is known."""
        return self._quality is not None

    def read(self, window: Window) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Bands by name (float32, NaN where not valid) and where all are valid."""
        inside = self._placed.overlap(window)
        if inside is None:
            shape = (window.height, window.width)
            return {name: np.full(shape, np.nan, np.float32) for name in self.bands}, np.zeros(shape, bool)
        values, valid = self._placed.read(window)
        return dict(zip(self.bands, values, strict=True)), valid

    def flags(self, window: Window) -> np.ndarray:
        """Quality bits of a window, with ``NODATA`` where the image has nothing."""
        flags = np.full((window.height, window.width), int(Quality.NODATA), np.uint8)
        if self._placed.overlap(window) is None:
            return flags
        if self._quality is None:
            return np.where(self._placed.read(window, bands=[1])[1], 0, flags).astype(np.uint8)
        values, inside = self._quality.read(window, bands=[1])
        return np.where(inside, np.nan_to_num(values[0]).astype(np.uint8), flags)


class Spread:
    """Standard deviation of the probability on the grid.

    Raises
    ------
    RasterError
        It has several bands, or is a probability by its band's name; or, when read, holds what is no deviation.
    GridError
        It lies elsewhere.
    """

    def __init__(self, path: str | os.PathLike, view: View, grid: GeoBox, stack: ExitStack):
        src = stack.enter_context(open_raster(path))
        check_one_band(src, _SPREAD)
        if src.descriptions[0] == "probability":
            raise RasterError(f"{path} is a probability by the name of its band; expected {_SPREAD}")
        self._path, self._placed = path, _here(src, grid, stack)
        seen = place(stack.enter_context(open_raster(view.path)), grid, stack).window
        if self._placed.overlap(seen) != seen:
            log.warning("%s covers a part of %s only: landslides beyond have no uncertainty", path, view.path)

    def read(self, window: Window) -> np.ndarray:
        """Deviations of a window: float32, NaN where not known."""
        if self._placed.overlap(window) is None:
            return np.full((window.height, window.width), np.nan, np.float32)
        values = self._placed.read(window, bands=[1])[0][0]
        wrong = (values < 0) | (values > _WIDEST_SPREAD)
        if wrong.any():
            raise RasterError(
                f"{self._path} holds the value {values[wrong][0]:g}, and no answers between 0 and 1 have a standard "
                f"deviation above 0.5; expected {_SPREAD}"
            )
        return values


@dataclass
class Evidence:
    """What is opened, by the number of the view; made by ``open_evidence``."""

    images: dict[int, Photograph] = field(default_factory=dict)
    spreads: dict[int, Spread] = field(default_factory=dict)
    terrain: Terrain | None = None
    position_error_m: dict[int, float] = field(default_factory=dict)


@contextmanager
def open_evidence(sources: Sources, views: Sequence[View], grid: GeoBox) -> Iterator[Evidence]:
    """Open what lies beside the probability, on its grid.

    Raises
    ------
    RasterError
        A file cannot be read, or an image's bands have no names.
    GridError
        A file lies elsewhere, has no CRS, or belongs to none of the scenes.
    """
    with ExitStack() as stack:
        found = Evidence()
        for number, path in _matched(sources.images, views, "image").items():
            found.images[number] = _photograph(Path(path), grid, stack)
            error = _registration_error(Path(path))
            if error is not None:
                found.position_error_m[number] = error
        for number, path in _matched(sources.spreads, views, "spread").items():
            found.spreads[number] = Spread(path, views[number], grid, stack)
        if sources.position_error_m is not None:
            for number in range(len(views)):
                registered = found.position_error_m.get(number, 0.0)
                found.position_error_m[number] = math.hypot(sources.position_error_m, registered)
        if sources.dem is not None:
            found.terrain = open_terrain(sources.dem, grid, stack, zero=sources.dem_zero)
        yield found


def _matched(paths: Paths, views: Sequence[View], what: str) -> dict[int, str | os.PathLike]:
    """Find the view that each raster belongs to, by its number."""
    scenes = [view.scene for view in views]
    named: dict[int, str | os.PathLike] = {}
    for path in paths:
        with open_raster(path) as src:
            scene = src.tags().get("GEOCRACK_SCENE")
        if scene is None or scene not in scenes:
            if _in_their_places(paths, views):
                return dict(enumerate(paths))
            raise GridError(
                f"the {what} {path} is of the scene {scene or '(not told)'}; expected one of {', '.join(scenes)}: give "
                f"{what}s of the probability's scenes, or, where these tell none, one for each in the same order"
            )
        for number in (n for n, s in enumerate(scenes) if s == scene):
            named[number] = path
    return named


def _in_their_places(paths: Paths, views: Sequence[View]) -> bool:
    """Whether rasters may be matched by their order: in no place do two scenes contradict each other."""
    if len(paths) != len(views):
        return False
    told = [(_scene_of(path), _scene_of(view.path)) for path, view in zip(paths, views, strict=True)]
    return not any(scene in {v.scene for v in views} for scene, _ in told) and not any(a and b for a, b in told)


def _scene_of(path: str | os.PathLike) -> str | None:
    with open_raster(path) as src:
        return src.tags().get("GEOCRACK_SCENE")


def _photograph(path: Path, grid: GeoBox, stack: ExitStack) -> Photograph:
    src = stack.enter_context(open_raster(path))
    placed = _here(src, grid, stack)
    beside = quality_path(path)
    quality = place(stack.enter_context(open_raster(beside)), grid, stack) if beside.exists() else None
    if quality is None:
        log.warning("%s has no quality raster beside it (%s): clouds and shadows are not known", path, beside.name)
    return Photograph(path, band_names(src), placed, quality)


def _here(src: rasterio.DatasetReader, grid: GeoBox, stack: ExitStack) -> Placed:
    """Put a raster on the grid, and see that it reaches into it."""
    placed = place(src, grid, stack)
    height, width = grid.shape
    if placed.overlap(Window(0, 0, width, height)) is None:
        raise GridError(f"{src.name} lies elsewhere than the probability; give the raster of its scene")
    return placed


def _registration_error(path: Path) -> float | None:
    """RMSE in metres that the registration left, from the file that ``geocrack fuse`` writes beside an image."""
    beside = path.with_suffix(".coregistration.json")
    if not beside.exists():
        return None
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        value = told.get("held_out_rmse_m", told.get("rmse_m"))
        return None if value is None else float(value)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise RasterError(
            f"{beside} cannot be understood ({error}); expected what `geocrack fuse` writes: fuse again, or remove it"
        ) from None
