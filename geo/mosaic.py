"""Several probability rasters seen as one: each pixel comes from the best view that is valid there.

A *view* is one raster with what its tags tell about the scene. The mosaic lies on the grid of the first
raster, extended to hold the others; a raster with another CRS or grid is put on it by its nearest pixels.
Which view is best is a fixed order of the views, so a pixel does not depend on what lies around it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from geo.errors import GridError, RasterError
from geo.geobox import GeoBox
from geo.raster import geobox_of, open_raster, read
from geo.windows import clip, slices

log = logging.getLogger(__name__)

PREFERENCES = ("newest", "nadir")
#: Whole pixels, but for rounding in the sixth decimal of a coordinate.
_ALIGNED = 1e-4
#: Rounding of a probability that was scaled.
_BEYOND = 1e-4


@dataclass(frozen=True)
class View:
    """One probability raster and what its tags tell.

    Attributes
    ----------
    path : Path
    scene, sensor : str
        The scene is the file's name where the tag is missing.
    acquired : datetime or None
        UTC.
    view_zenith : float or None
        Degrees.
    view_azimuth : float or None
        Degrees clockwise from north, from the ground to the sensor.
    model : str
        Identifier of the model file, empty where not known.
    threshold : float or None
        Probability from which ground is landslide, by the model.
    screened_out : bool
        Whether a screening left nothing of the scene to be searched.
    """

    path: Path
    scene: str
    sensor: str
    acquired: datetime | None
    view_zenith: float | None
    model: str
    threshold: float | None
    view_azimuth: float | None = None
    screened_out: bool = False


def view_of(src: rasterio.DatasetReader, path: str | os.PathLike) -> View:
    """Read what the tags of an opened raster tell.

    Raises
    ------
    RasterError
        A tag does not hold what its name says.
    """
    tags = {k.removeprefix("GEOCRACK_"): v for k, v in src.tags().items() if k.startswith("GEOCRACK_")}
    file = Path(path)
    try:
        acquired = datetime.fromisoformat(tags["ACQUIRED"]) if tags.get("ACQUIRED") else None
        zenith = float(tags["VIEW_ZENITH"]) if tags.get("VIEW_ZENITH") else None
        azimuth = float(tags["VIEW_AZIMUTH"]) if tags.get("VIEW_AZIMUTH") else None
        threshold = float(tags["THRESHOLD"]) if tags.get("THRESHOLD") else None
    except ValueError as error:
        raise RasterError(
            f"{file} has a GEOCRACK tag that cannot be understood ({error}); expected a time in ISO 8601, "
            "degrees and a threshold as numbers: mend the tag or make the raster again"
        ) from None
    if acquired is not None:
        acquired = acquired.replace(tzinfo=acquired.tzinfo or UTC).astimezone(UTC)
    scene, sensor, model = tags.get("SCENE") or file.stem, tags.get("SENSOR", ""), tags.get("MODEL", "")
    return View(file, scene, sensor, acquired, zenith, model, threshold, azimuth, "SCREENED_OUT" in tags)


def ranked(views: Sequence[View], prefer: str) -> list[int]:
    """Numbers of the views, the best first.

    Parameters
    ----------
    views : sequence of View
    prefer : {"newest", "nadir"}
        The latest time, or the smallest view zenith angle. Views that do not tell it come last; equal ones
        stay in the order given.
    """
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer must be one of {PREFERENCES}, got {prefer!r}")

    def badness(number: int) -> float:
        view = views[number]
        if prefer == "newest":
            return -view.acquired.timestamp() if view.acquired else np.inf
        return abs(view.view_zenith) if view.view_zenith is not None else np.inf

    if len(views) > 1:
        for view in (views[n] for n in range(len(views)) if badness(n) == np.inf):
            told = "when it was acquired" if prefer == "newest" else "its view zenith angle"
            log.warning("%s does not tell %s: where others overlap it, they decide", view.path, told)
    return sorted(range(len(views)), key=badness)


class Placed:
    """A raster read on the pixels of a grid, by its nearest pixels where its own lie otherwise.

    Made by ``place``.

    Attributes
    ----------
    window : Window
        Where the raster lies on the grid; it may reach past it.
    """

    def __init__(self, dataset: rasterio.DatasetReader, window: Window, path: Path, *, alpha: int | None = None):
        self._dataset, self.window, self._path, self._alpha = dataset, window, path, alpha
        self._lock = threading.Lock()  # a dataset may be read by one thread at a time
        self._table = None if alpha else _table(dataset)

    def _looked_up(self, own: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read bytes through the table of their values: several times faster than computing each."""
        if self._table is None:
            raise ValueError("this raster has no table")
        inside = clip(own, self._dataset.shape)
        if (inside.width, inside.height) == (own.width, own.height):
            values = self._table[self._dataset.read(1, window=inside)]
        else:
            values = np.full((own.height, own.width), np.nan, np.float32)
            if inside.width and inside.height:
                values[slices(inside, own)] = self._table[self._dataset.read(1, window=inside)]
        return values[None], ~np.isnan(values)

    def overlap(self, window: Window) -> Window | None:
        """Part of a window of the grid that holds the raster; None where there is none."""
        here = self.window
        moved = Window(window.col_off - here.col_off, window.row_off - here.row_off, window.width, window.height)
        inside = clip(moved, (here.height, here.width))
        if not inside.width or not inside.height:
            return None
        return Window(inside.col_off + here.col_off, inside.row_off + here.row_off, inside.width, inside.height)

    def read(self, window: Window, *, bands: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Values and validity of a window of the grid, as of ``geo.raster.read``."""
        here = self.window
        own = Window(window.col_off - here.col_off, window.row_off - here.row_off, window.width, window.height)
        try:
            with self._lock:
                if self._table is not None and bands is not None and list(bands) == [1]:
                    return self._looked_up(own)
                values, valid = read(self._dataset, own, bands=bands)
                if self._alpha:
                    covered = read(self._dataset, own, bands=[self._alpha])[0][0] > 0
                    valid &= covered
                    values[:, ~covered] = np.nan
                return values, valid
        except RasterioIOError as error:
            raise RasterError(
                f"{self._path} is truncated or damaged ({error}); copy or download it again, or make it anew"
            ) from error


def _table(src: rasterio.DatasetReader) -> np.ndarray | None:
    """Values of all bytes of the first band, as ``geo.raster.read`` gives them; None where bytes do not tell all."""
    plain = {MaskFlags.all_valid, MaskFlags.nodata}
    if src.dtypes[0] != "uint8" or not set(src.mask_flag_enums[0]) <= plain:
        return None
    table = np.arange(256, dtype=np.float32) * np.float32(src.scales[0]) + np.float32(src.offsets[0])
    nodata = src.nodatavals[0]
    if nodata is not None and 0 <= nodata <= 255 and nodata == int(nodata):
        table[int(nodata)] = np.nan
    return table


def place(src: rasterio.DatasetReader, grid: GeoBox, stack: ExitStack) -> Placed:
    """Read an opened raster on the pixels of a grid.

    Parameters
    ----------
    src : rasterio dataset
        With a CRS.
    grid : GeoBox
    stack : ExitStack
        Closes what is opened here.

    Raises
    ------
    GridError
        The raster has no CRS, or cannot be brought to that of the grid.
    """
    path = Path(src.name)
    if src.crs is None:
        raise GridError(f"{path} has no CRS, so it lies nowhere; give an orthorectified raster")
    if grid.crs is None:
        raise ValueError("the grid has no CRS")
    crs = CRS.from_wkt(grid.crs.to_wkt())
    if src.crs == crs:
        offset = ~grid.affine @ src.transform
        # the same pixels: no scale, no turn that the farthest pixel would notice, a whole shift
        if np.allclose([offset.a, offset.b, offset.d, offset.e], [1, 0, 0, 1], atol=_ALIGNED / max(src.shape)):
            column, row = round(offset.c), round(offset.f)
            if max(abs(offset.c - column), abs(offset.f - row)) < _ALIGNED:
                return Placed(src, Window(column, row, src.width, src.height), path)
    # without nodata or alpha, ground outside would count as seen; GDAL takes an alpha for a mask in bytes only, so
    # that it is read like a band
    bare = src.nodata is None and ColorInterp.alpha not in src.colorinterp
    try:
        window = _window_of(src, grid, crs)
        warped = WarpedVRT(
            src,
            crs=crs,
            transform=grid.affine @ Affine.translation(window.col_off, window.row_off),
            width=window.width,
            height=window.height,
            resampling=Resampling.nearest,
            tolerance=0.01,
            add_alpha=bare,
        )
    except RasterioError as error:
        raise GridError(f"{path} cannot be brought to the CRS {crs.to_string()} ({error})") from error
    return Placed(stack.enter_context(warped), window, path, alpha=warped.count if bare else None)


def _window_of(src: rasterio.DatasetReader, grid: GeoBox, crs: CRS) -> Window:
    """Window of the grid that holds a raster."""
    box = geobox_of(src).extent.boundingbox
    left, bottom, right, top = transform_bounds(src.crs, crs, *box.bbox, densify_pts=51)
    corners = [~grid.affine @ xy for xy in ((left, top), (right, top), (left, bottom), (right, bottom))]
    columns, rows = zip(*corners, strict=True)
    column, row = int(np.floor(min(columns))), int(np.floor(min(rows)))
    return Window(column, row, int(np.ceil(max(columns))) - column, int(np.ceil(max(rows))) - row)


class Mosaic:
    """Opened views on one grid; made by ``open_mosaic``.

    Attributes
    ----------
    geobox : GeoBox
        The grid that holds all views, on the pixels of the first.
    views : list of View
        In the order given.
    order : list of int
        Numbers of the views, the best first.
    """

    def __init__(self, geobox: GeoBox, views: list[View], order: list[int], sources: list[Placed]):
        self.geobox, self.views, self.order, self._sources = geobox, views, order, sources

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Probability of a window by the best valid view of each pixel.

        Parameters
        ----------
        window : Window
            On the grid of the mosaic.

        Returns
        -------
        probability : ndarray of float32, shape (height, width)
            NaN where no view is valid.
        view : ndarray of int16, shape (height, width)
            Number of the view; -1 where none is valid.
        """
        shape = (window.height, window.width)
        probability = np.full(shape, np.nan, np.float32)
        number = np.full(shape, -1, np.int16)
        for best in self.order:
            inside = self._sources[best].overlap(window)
            if inside is None:
                continue
            at = slices(inside, window)
            free = number[at] < 0
            if not free.any():
                continue
            values, valid = self._sources[best].read(inside, bands=[1])
            take = free & valid
            np.copyto(probability[at], values[0], where=take)
            np.copyto(number[at], np.int16(best), where=take)
        return probability, number


@contextmanager
def open_mosaic(paths: Sequence[str | os.PathLike], *, prefer: str = "newest") -> Iterator[Mosaic]:
    """Open probability rasters as one.

    Parameters
    ----------
    paths : sequence of path
        One band each; the first gives CRS and grid.
    prefer : {"newest", "nadir"}
        Which view decides where several are valid.

    Yields
    ------
    Mosaic

    Raises
    ------
    RasterError
        A raster cannot be read, or has more than one band.
    GridError
        A raster has no CRS, or the first's is not in metres (degrees have no area).
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(open_raster(p)) for p in paths]
        views = [view_of(src, path) for src, path in zip(opened, paths, strict=True)]
        for src in opened:
            check_one_band(src, "probability, as `geocrack predict` writes")
        first = geobox_of(opened[0])
        if first.crs is not None:
            check_metres(opened[0].crs, opened[0].name)
        placed = [place(src, first, stack) for src in opened]
        windows = [p.window for p in placed]
        left, top = min(w.col_off for w in windows), min(w.row_off for w in windows)
        right, bottom = max(w.col_off + w.width for w in windows), max(w.row_off + w.height for w in windows)
        whole = GeoBox((bottom - top, right - left), first.affine @ Affine.translation(left, top), first.crs)
        for source, w in zip(placed, windows, strict=True):
            source.window = Window(w.col_off - left, w.row_off - top, w.width, w.height)
        yield Mosaic(whole, views, ranked(views, prefer), placed)


def check_one_band(src: rasterio.DatasetReader, what: str) -> None:
    """Raise ``RasterError`` where a raster has more than one band; an alpha beside it tells nodata."""
    if sum(c != ColorInterp.alpha for c in src.colorinterp) != 1:
        raise RasterError(f"{src.name} has {src.count} bands; expected one band of {what}")


def check_probability(values: np.ndarray, paths: Sequence[str | os.PathLike], view: np.ndarray | None = None) -> None:
    """Raise ``RasterError`` where values are no probabilities.

    Parameters
    ----------
    values : ndarray of float32
        NaN is nodata.
    paths : sequence of path
        Where they come from.
    view : ndarray of int, optional
        Number of the path of each value; all are of the first by default.
    """
    wrong = (values < 0) | (values > 1 + _BEYOND)
    if wrong.any():
        path = paths[0 if view is None else int(view[wrong][0])]
        raise RasterError(
            f"{path} holds the value {values[wrong][0]:g}; expected probabilities of 0 to 1: give a raster of "
            "`geocrack predict`, or set the scale of this one (0.01 where it is in percent, 1/255 where it is in bytes)"
        )


def check_metres(crs: CRS, name: str) -> None:
    """Raise ``GridError`` where the units of a CRS are not metres."""
    if not crs.is_projected or abs(crs.linear_units_factor[1] - 1) > 1e-9:
        raise GridError(
            f"{name} has the CRS {crs.to_string()}, whose units are not metres; expected a projected CRS such as "
            "UTM: bring the image there with `geocrack ortho` and predict again"
        )
