"""Where in a scene a classifier sees what it seeks: a heat map, and the ground that is worth a closer look.

Windows of the size of the training images step over the scene. The heat map has a cell for each step: ``probability``
is the mean of the windows over the cell, by how much of it they cover, ``highest`` the highest of them. A window is
kept where its own probability reaches the threshold, so what the screening misses is what the classifier misses.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from rasterio.windows import Window

from geo.atomic import atomic, check_free, together
from geo.errors import GridError, ModelError, RasterError
from geo.geobox import GeoBox
from geo.geopackage_file import write_layer, writing
from geo.geotiff import GeoTiffWriter
from geo.image import Image, open_image
from geo.labels import SCREENING, footprint
from geo.progress import Progress, silent
from geo.raster import PROBABILITY, Encoding
from geo.stream import stream
from models.chips import BandStatistics
from models.classification.classifier_file import LoadedClassifier
from models.classification.scores import threshold_for
from models.predict.rows import read_tile
from models.predict.strips import Tile

log = logging.getLogger(__name__)

#: Windows overlap by three quarters at most: cells are then a quarter of a window, and their number stays small.
FINEST = 4
#: Smallest side of a window in pixels.
SMALLEST = 16
_LAYER = "screen"


@dataclass(frozen=True)
class Grid:
    """Windows over a scene, and the cells of its heat map.

    Attributes
    ----------
    shape : (int, int)
        Of the scene in pixels.
    window : int
        Side of a window.
    step : int
        From one window to the next; side of a cell.
    """

    shape: tuple[int, int]
    window: int
    step: int

    @classmethod
    def of(cls, shape: tuple[int, int], window: int, overlap: int | None) -> Grid:
        """Windows that overlap by some pixels, or by half.

        Raises
        ------
        ModelError
            Windows are too small, or overlap too much.
        """
        if window < SMALLEST:
            raise ModelError(f"windows of {window} pixels are too small; give {SMALLEST} or more")
        step = window - (window // 2 if overlap is None else overlap)
        least = math.ceil(window / FINEST)
        if step < least:
            raise ModelError(
                f"windows of {window} pixels that overlap by {window - step} leave a step of {step}; give an overlap "
                f"of {window - least} or less"
            )
        return cls(shape, window, step)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the heat map."""
        height, width = self.shape
        return -(-height // self.step), -(-width // self.step)

    @property
    def reach(self) -> int:
        """Cells along a side that a window covers, wholly or in part."""
        return -(-self.window // self.step)

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of windows; they reach the scene's ends."""
        height, width = (1 + max(0, -(-(length - self.window) // self.step)) for length in self.shape)
        return height, width

    def jobs(self, batch: int) -> Iterator[list[tuple[int, int]]]:
        """Row and column, in steps, of some windows of one row at a time, from the top row down."""
        rows, columns = self.windows
        for row in range(rows):
            for first in range(0, columns, batch):
                yield [(row, column) for column in range(first, min(columns, first + batch))]

    def weights(self) -> np.ndarray:
        """Share of each cell that a window covers, float64 of shape (reach, reach)."""
        along = np.minimum(self.window - self.step * np.arange(self.reach), self.step) / self.step
        return np.outer(along, along)

    def wanted(self, pixels: np.ndarray) -> np.ndarray:
        """Cells of a window (window, window) that hold a wanted pixel, bool of shape (reach, reach)."""
        side = self.reach * self.step
        padded = np.zeros((side, side), dtype=bool)
        padded[: self.window, : self.window] = pixels
        return np.asarray(padded.reshape(self.reach, self.step, self.reach, self.step).any(axis=(1, 3)))

    def geobox(self, image: GeoBox) -> GeoBox:
        """Grid of the heat map on the ground."""
        return GeoBox(self.cells, image.affine @ Affine.scale(self.step), image.crs)


class Heat:
    """What windows say of the cells, gathered one by one.

    Parameters
    ----------
    grid : Grid
    """

    def __init__(self, grid: Grid):
        self._grid, self._weights = grid, grid.weights()
        rows, columns = (count + grid.reach for count in grid.cells)  # room for windows that reach past the end
        self._sum = np.zeros((rows, columns))
        self._weight = np.zeros((rows, columns))
        self._highest = np.zeros((rows, columns), dtype=np.float32)
        self._kept = np.zeros((rows, columns), dtype=bool)
        self._data = np.zeros((rows, columns), dtype=bool)

    def add(self, place: tuple[int, int], pixels: np.ndarray, probability: float, threshold: float) -> None:
        """Add a window at a place in steps, with its wanted pixels."""
        row, column = place
        at = slice(row, row + self._grid.reach), slice(column, column + self._grid.reach)
        self._sum[at] += self._weights * probability
        self._weight[at] += self._weights
        self._highest[at] = np.maximum(self._highest[at], np.float32(probability))
        self._data[at] |= self._grid.wanted(pixels)
        if probability >= threshold:
            self._kept[at] = True

    def maps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probability and highest (2, rows, columns) float32, where there is data, and what is kept of it."""
        rows, columns = self._grid.cells
        at = slice(0, rows), slice(0, columns)
        data = self._data[at]
        mean = np.divide(self._sum[at], self._weight[at], out=np.zeros((rows, columns)), where=self._weight[at] > 0)
        return np.stack([mean.astype(np.float32), self._highest[at]]), data, self._kept[at] & data


def heat_map(
    path: str | os.PathLike,
    model: LoadedClassifier,
    output: str | os.PathLike,
    *,
    window: int | None = None,
    overlap: int | None = None,
    batch: int = 16,
    screen: str | os.PathLike | None = None,
    recall: float = 0.98,
    bands: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a heat map of a scene, and the ground that is kept where it is asked for.

    The scene is read window by window. Windows without a valid pixel that was seen are passed over; cells without one
    are nodata.

    Parameters
    ----------
    path : path
        Bands are found by the names that the model knows.
    model : LoadedClassifier
    output : path
        A Cloud Optimized GeoTIFF with the bands ``probability`` and ``highest``, a cell for each step.
    window : int, optional
        Side of the windows in pixels; that of the training images by default.
    overlap : int, optional
        Pixels that neighbouring windows share; half of the window by default.
    batch : int
        Windows that go through the model together.
    screen : path, optional
        Polygons (.gpkg) of the kept ground, as ``geocrack predict --area`` takes them, or a raster (.tif) of 1 and 0.
    recall : float
        Share of positive images that the threshold is to find; it is chosen on the validation images of the training.
    bands : sequence of str, optional
        Names of the image's bands in the order of the file.
    tags : mapping, optional
        Written into the outputs beside those of the image.
    overwrite : bool
    progress : callable

    Returns
    -------
    dict
        Windows, skipped ones, step and side, share of valid ground that is kept, and the threshold with the recall
        that it has on validation images.

    Raises
    ------
    ModelError
        The image lacks bands, the model looks at tags, or windows do not fit.
    RasterError
        The image is damaged, or nothing in it is valid.
    GridError
        Polygons are asked of an image without a place on the ground.
    OutputExistsError, OutputError
    """
    outputs = [Path(output)] + ([Path(screen)] if screen else [])
    for file in outputs:
        check_free(file, overwrite=overwrite)
    if screen and Path(screen).suffix.lower() not in (".gpkg", ".tif", ".tiff"):
        raise ModelError(f"{screen} is neither .gpkg nor .tif; give one of the two for the kept ground")
    if model.tags is not None:
        raise ModelError(f"{model.path} looks at tags beside the image, which a scene has not; take one without tags")
    chosen = threshold_for(model.validation, recall)
    if screen and not chosen["positives"]:
        raise ModelError(f"{model.path} was chosen without positive images, so no threshold is known; train it again")
    with open_image(path, bands) as image:
        _check_bands(image, model)
        if screen and Path(screen).suffix.lower() == ".gpkg" and image.geobox.crs is None:
            raise GridError(f"{path} has no CRS, so kept ground has no place; give a .tif, or georeference the image")
        grid = Grid.of(image.shape, window or model.window, overlap)
        counted = _look(image, model, grid, batch, chosen["threshold"], progress)
        values, data, kept = counted.heat.maps()
        if not data.any():
            raise RasterError(f"{path} has no valid pixel: all is nodata, cloud or shadow; expected an image with data")
        _warn_of_other_values(counted.statistics, model, path)
        labels = {**image.tags, **(tags or {}), "GEOCRACK_THRESHOLD": f"{chosen['threshold']:.6g}"}
        with together(*outputs):
            _write_raster(output, image, grid, ["probability", "highest"], values, data, PROBABILITY, labels, overwrite)
            if screen and Path(screen).suffix.lower() == ".gpkg":
                _write_polygons(screen, image, grid, kept, {**chosen, "recall_wanted": recall}, overwrite)
            elif screen:
                mask = Encoding("uint8", nodata=255)
                _write_raster(
                    screen, image, grid, ["search"], kept[None].astype(np.float32), data, mask, labels, overwrite,
                    resampling="nearest",
                )  # fmt: skip
    return {
        "windows": counted.windows,
        "windows_skipped": counted.skipped,
        "window_px": grid.window,
        "step_px": grid.step,
        "kept_share": float(kept.sum() / data.sum()),
        "mean_probability": float(values[0][data].mean()),
        "recall_wanted": recall,
        **{f"validation_{name}" if name != "threshold" else name: value for name, value in chosen.items()},
    }


@dataclass
class _Looked:
    heat: Heat
    statistics: BandStatistics
    windows: int = 0
    skipped: int = 0


def _look(
    image: Image,
    model: LoadedClassifier,
    grid: Grid,
    batch: int,
    threshold: float,
    progress: Progress,
) -> _Looked:
    """Let the classifier look at all windows; they are read while it looks at those before."""
    found = _Looked(Heat(grid), BandStatistics())
    sought = model.classes.index(model.positive)
    rows, columns = grid.windows

    def read(job: list[tuple[int, int]]) -> list[tuple[Tile, np.ndarray] | None]:
        tiles = []
        for row, column in job:
            at = Window(column * grid.step, row * grid.step, grid.window, grid.window)
            tile = read_tile(image, model.scale.bands, None, at)
            good = None if tile is None else np.isfinite(tile.values).all(axis=0)
            tiles.append(None if tile is None else (tile, model.scale.fit(tile.values, good)[0]))  # type: ignore[arg-type]
        return tiles

    with image.cached_for(grid.window), closing(stream(read, grid.jobs(batch), workers=1)) as tiles:
        for job, given in progress(tiles, "Looking", rows * -(-columns // batch)):
            found.windows += len(job)
            there = [(place, *item) for place, item in zip(job, given, strict=True) if item is not None]
            found.skipped += len(job) - len(there)
            if not there:
                continue
            answers = model.probability(np.stack([fitted for _, _, fitted in there]))[:, sought]
            for (place, tile, _), probability in zip(there, answers, strict=True):
                found.heat.add(place, tile.wanted, float(probability), threshold)
                found.statistics.add(tile.values, tile.wanted)
    return found


def _check_bands(image: Image, model: LoadedClassifier) -> None:
    if any(band.lower() not in image.available for band in model.scale.bands):
        raise ModelError(
            f"{model.path} was trained on the bands {', '.join(model.scale.bands)}, {image.path} has "
            f"{', '.join(image.bands)}; name the image's bands with --bands, or take a model trained on these bands"
        )


def _warn_of_other_values(statistics: BandStatistics, model: LoadedClassifier, path: str | os.PathLike) -> None:
    """Say where a scene has other units than the training images: other means, or hardly any spread beside theirs."""
    mean, std = np.asarray(model.scale.mean), np.asarray(model.scale.std)
    far = (np.abs(statistics.mean - mean) > 4 * std) | (statistics.std < std / 20) | (statistics.std > std * 20)
    if far.any():
        shown = ", ".join(
            f"{b} {m:.4g} (training {t:.4g})"
            for b, m, t, bad in zip(model.scale.bands, statistics.mean, mean, far, strict=True)
            if bad
        )
        log.warning("%s has other values than the training images, on average %s: are the units the same?", path, shown)


def _write_raster(
    path: str | os.PathLike,
    image: Image,
    grid: Grid,
    names: list[str],
    values: np.ndarray,
    data: np.ndarray,
    encoding: Encoding,
    tags: dict[str, str],
    overwrite: bool,
    resampling: str = "average",
) -> None:
    box = grid.geobox(image.geobox)
    height, width = grid.cells
    with GeoTiffWriter(
        path, box, names, encoding, overwrite=overwrite, cog=box.crs is not None, resampling=resampling, tags=tags
    ) as writer:
        writer.write(values, Window(0, 0, width, height), data)


def _write_polygons(
    path: str | os.PathLike, image: Image, grid: Grid, kept: np.ndarray, facts: Mapping[str, Any], overwrite: bool
) -> None:
    """Write the kept ground as one layer, with the threshold and what it costs beside each polygon."""
    height, width = image.shape
    ground = footprint(image.geobox, Window(0, 0, width, height))
    parts = [
        shapely.geometry.shape(geometry).intersection(ground)
        for geometry, _ in rasterio.features.shapes(
            kept.astype(np.uint8), mask=kept, transform=grid.geobox(image.geobox).affine
        )
    ]
    if not parts:
        log.warning(
            "%s: no ground is kept at a threshold of %.3f; a search of it finds the scene screened out", path,
            facts["threshold"],
        )  # fmt: skip
    low, high = facts["recall_interval"]
    columns = {
        "threshold": facts["threshold"],
        SCREENING: facts["recall_wanted"],
        "recall_validation": facts["recall"],
        "recall_low": low,
        "recall_high": high,
        "positives": facts["positives"],
    }
    frame = gpd.GeoDataFrame({k: [v] * len(parts) for k, v in columns.items()}, geometry=parts, crs=image.geobox.crs)
    with atomic(path, overwrite=overwrite) as part, writing(path):
        write_layer(part, _LAYER, frame, geometry_type="Polygon", promote_to_multi=False)
