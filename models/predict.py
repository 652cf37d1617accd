"""Map the landslide probability of a whole scene, window by window, in memory that its size does not change.

Windows lie on one grid that starts at the image's first pixel, at multiples of the model's stride, and overlap.
What two windows say of a pixel is blended by weights that fall towards their borders, so that there are no
seams, and the result does not depend on how far the image reaches beyond. At the image's edges its pixels are
mirrored. Only the rows that windows still have to add to are held in memory; finished ones are written.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from rasterio.windows import Window

from geo.errors import ModelError, RasterError
from geo.image import Image, open_image
from geo.labels import Area, read_area
from geo.raster import PROBABILITY, PROBABILITY_FLOAT, GeoTiffWriter
from geo.stream import stream
from geo.windows import blend_weights, clip, slices
from models.chips import BandStatistics

log = logging.getLogger(__name__)

Progress = Callable[[Iterable, str, int], Iterable]

#: Side of the windows of models that see each pixel on its own: a tile of the file.
_PIXEL_WINDOW = 512
#: Bands further than this from what the model was trained on, in standard deviations, are told.
_FAR = 4.0
_ENCODINGS = {"uint8": PROBABILITY, "float32": PROBABILITY_FLOAT}


class Model(Protocol):
    """What prediction needs of a model; ``models.model_file.LoadedModel`` is one."""

    @property
    def bands(self) -> Sequence[str]:
        """Names of the input bands, in their order."""

    @property
    def chip_size(self) -> int:
        """Height and width that it was trained on."""

    @property
    def reach(self) -> int:
        """Pixels of context on each side; 0 where each pixel stands alone."""

    @property
    def stride(self) -> int:
        """Windows at its multiples are seen alike."""

    def probability(self, images: np.ndarray) -> np.ndarray:
        """Probability (n, h, w) of physical values (n, bands, h, w), NaN where not valid."""


@dataclass(frozen=True)
class Windows:
    """The grid of windows over a scene.

    Attributes
    ----------
    size : int
        Height and width of a window.
    step : int
        From one window to the next.
    margin : int
        How far the first windows begin before the image, and the last at least end after it.
    """

    size: int
    step: int
    margin: int

    @classmethod
    def of(cls, model: Model, *, overlap: int, window: int | None = None) -> Windows:
        """Windows for a model: of the size of its chips or larger, with at least this overlap.

        Where no size is asked for and the chips are smaller than twice the overlap, windows are that large:
        then each pixel lies well inside one of them.

        Raises
        ------
        ModelError
            The overlap leaves no step, or the window is smaller than the model's chips.
        """
        stride = model.stride
        if model.reach == 0:
            size = -(-(window or _PIXEL_WINDOW) // stride) * stride
            return cls(size, size, 0)
        if window is not None and window < model.chip_size:
            raise ModelError(
                f"windows of {window} pixels are smaller than the chips of {model.chip_size} that the model was "
                "trained on; give as many or more"
            )
        size = -(-(window or max(model.chip_size, 2 * overlap)) // stride) * stride
        step = (size - overlap) // stride * stride
        if step < stride:
            raise ModelError(
                f"an overlap of {overlap} pixels leaves no step between windows of {size}; give {size - stride} or less"
            )
        return cls(size, step, (size - step) // 2 // stride * stride)

    @property
    def overlap(self) -> int:
        """Pixels that neighbours share."""
        return self.size - self.step

    def starts(self, length: int) -> range:
        """First pixels of the windows along an axis."""
        count = 1 + max(0, -(-(length + 2 * self.margin - self.size) // self.step))
        return range(-self.margin, count * self.step - self.margin, self.step)

    def weight_sums(self, length: int, ramp: np.ndarray) -> np.ndarray:
        """Sum of the weights of all windows at each pixel of an axis."""
        sums = np.zeros(length)
        for start in self.starts(length):
            inside = slice(max(0, start), min(length, start + self.size))
            sums[inside] += ramp[inside.start - start : inside.stop - start]
        return sums


@dataclass(frozen=True)
class _Tile:
    """Input of one window."""

    window: Window
    values: np.ndarray  # mirrored past the edges of the image
    wanted: np.ndarray  # valid, seen and inside the area; False past the edges


@dataclass
class _Found:
    """What is learnt on the way."""

    windows: int = 0
    skipped: int = 0
    pixels: int = 0
    total: float = 0.0
    above: int = 0
    statistics: BandStatistics = field(default_factory=BandStatistics)


def predict(
    path: str | os.PathLike,
    model: Model,
    output: str | os.PathLike,
    *,
    overlap: int,
    batch: int,
    dtype: str = "uint8",
    window: int | None = None,
    area: str | os.PathLike | None = None,
    area_layer: str | None = None,
    bands: Sequence[str] | None = None,
    threshold: float = 0.5,
    tags: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress = lambda items, label, total: items,
) -> dict[str, Any]:
    """Write the landslide probability of an image on exactly its grid.

    Reading, the model and writing run at the same time. Ground that is not valid, was not seen or lies outside
    the area is nodata in the output; windows with nothing else are passed over.

    Parameters
    ----------
    path : path
        Bands are found by the names that the model knows.
    model : Model
    output : path
        A Cloud Optimized GeoTIFF; it appears whole or not at all.
    overlap : int
        Pixels that neighbouring windows share at least; made larger where the model's stride asks for it, and
        0 for models that see each pixel on its own.
    batch : int
        Windows that go through the model together.
    dtype : {"uint8", "float32"}
        ``geo.raster.PROBABILITY`` or ``PROBABILITY_FLOAT``.
    window : int, optional
        Side of the windows, see ``Windows.of``; larger ones repeat less work.
    area : path, optional
        Polygons to which the search is confined.
    area_layer : str, optional
    bands : sequence of str, optional
        Names of the image's bands in the order of the file, where it does not tell them.
    threshold : float
        Only for the share of ground that is told as landslide.
    tags : mapping, optional
        Written into the output beside those of the image.
    overwrite : bool
    progress : callable

    Returns
    -------
    dict
        Windows, skipped windows, valid share, mean probability, share above the threshold.

    Raises
    ------
    ModelError
        The image lacks bands of the model (both are named), or windows do not fit it.
    RasterError
        The image is damaged, or nothing in it is valid.
    GridError, LabelError
        The area lies elsewhere or has no CRS.
    OutputExistsError, OutputError
    """
    windows = Windows.of(model, overlap=overlap, window=window)
    found = _Found()
    with ExitStack() as stack:
        image = stack.enter_context(open_image(path, bands))
        _check_bands(image, model)
        polygons = read_area(area, image.geobox, layer=area_layer) if area else None
        writer = stack.enter_context(
            GeoTiffWriter(
                output,
                image.geobox,
                ["probability"],
                _ENCODINGS[dtype],
                overwrite=overwrite,
                cog=image.geobox.crs is not None,
                rpcs=image.rpcs,
                tags={**image.tags, **(tags or {})},
            )
        )
        jobs = list(_jobs(windows, image.shape, batch))

        def read(job: tuple[int, Sequence[int]]) -> list[_Tile]:
            row, columns = job
            tiles = (_read(image, model.bands, polygons, Window(c, row, windows.size, windows.size)) for c in columns)
            return [tile for tile in tiles if tile is not None]

        def write(strip: tuple[Window, np.ndarray, np.ndarray]) -> None:
            where, probability, wanted = strip
            writer.write(probability, where, wanted)

        batches = stack.enter_context(closing(stream(read, jobs, workers=1)))
        strips = _blend(progress(batches, "Predicting", len(jobs)), model, windows, image.shape, found, threshold)
        for _ in stack.enter_context(closing(stream(write, stack.enter_context(closing(strips)), workers=1))):
            pass
        if not found.pixels:
            where = f" inside {area}" if area else ""
            raise RasterError(
                f"{path} has no valid pixel{where}: all is nodata, cloud or shadow; expected an image with data"
            )
    _warn_of_other_values(found.statistics, model, path)
    height, width = image.shape
    return {
        "windows": found.windows,
        "windows_skipped": found.skipped,
        "window_px": windows.size,
        "overlap_px": windows.overlap,
        "valid_share": found.pixels / (height * width),
        "mean_probability": found.total / found.pixels,
        "landslide_share": found.above / found.pixels,
    }


def _check_bands(image: Image, model: Model) -> None:
    missing = [band for band in model.bands if band.lower() not in image.bands]
    if missing:
        name = getattr(model, "path", None) or "the model"
        raise ModelError(
            f"{name} was trained on the bands {', '.join(model.bands)}, {image.path} has {', '.join(image.bands)}; "
            "name the image's bands with --bands, or take a model trained on these bands"
        )


def _jobs(windows: Windows, shape: tuple[int, int], batch: int) -> Iterator[tuple[int, Sequence[int]]]:
    """First row of windows, and first columns of some of them, from the top row down."""
    height, width = shape
    columns = windows.starts(width)
    for row in windows.starts(height):
        for first in range(0, len(columns), batch):
            yield row, columns[first : first + batch]


def _read(image: Image, bands: Sequence[str], area: Area | None, window: Window) -> _Tile | None:
    """Input of a window; None where nothing in it is wanted."""
    inside = clip(window, image.shape)
    wanted = image.seen(window)
    if area is not None:
        wanted &= area.read(window)
    if not wanted.any():
        return None
    height, width = image.shape
    rows = _mirrored(window.row_off, window.height, height)
    columns = _mirrored(window.col_off, window.width, width)
    top, left = rows.min(), columns.min()
    part = Window(int(left), int(top), int(columns.max() - left) + 1, int(rows.max() - top) + 1)
    values, valid = image.read(part, [band.lower() for band in bands])
    at = slices(inside, window)
    wanted[at] &= valid[slices(inside, part)]
    if not wanted.any():
        return None
    if (part.height, part.width) != (window.height, window.width) or part != inside:
        values = values[:, (rows - top)[:, None], columns - left]
    return _Tile(window, values, wanted)


def _mirrored(start: int, count: int, length: int) -> np.ndarray:
    """Pixels ``start`` to ``start + count`` of an axis; those past its ends are mirrored at the end pixels."""
    period = max(1, 2 * (length - 1))
    places = np.abs(np.arange(start, start + count)) % period
    return np.minimum(places, period - places) if length > 1 else np.zeros(count, dtype=int)


def _blend(
    batches: Iterable[tuple[tuple[int, Sequence[int]], list[_Tile]]],
    model: Model,
    windows: Windows,
    shape: tuple[int, int],
    found: _Found,
    threshold: float,
) -> Generator[tuple[Window, np.ndarray, np.ndarray]]:
    """Run the model on batches and give rows as soon as no window adds to them any more.

    Yields
    ------
    window : Window
        Full width.
    probability : ndarray of float32, shape (height, width)
    wanted : ndarray of bool, shape (height, width)
    """
    height, width = shape
    size, step = windows.size, windows.step
    weights = blend_weights(size, windows.overlap)
    ramp = np.sqrt(np.diagonal(weights).astype(np.float64))  # the weights are its product with itself
    across, down = windows.weight_sums(width, ramp), windows.weight_sums(height, ramp)
    sums = np.zeros((size, width), dtype=np.float32)
    wanted = np.zeros((size, width), dtype=bool)

    def finished(row: int, count: int) -> tuple[Window, np.ndarray, np.ndarray]:
        top, bottom = max(0, row), min(height, row + count)
        part = slice(top - row, bottom - row)
        probability = (sums[part] / np.outer(down[top:bottom], across)).astype(np.float32)
        good = wanted[part].copy()
        values = probability[good]
        if not np.isfinite(values).all():
            raise ModelError("the model gives no number for some valid pixels; train it again")
        found.pixels += values.size
        found.total += float(values.sum(dtype=np.float64))
        found.above += int((values >= threshold).sum())
        return Window(0, top, width, bottom - top), probability, good

    current: int | None = None
    for (row, columns), tiles in batches:
        if current is not None and row != current:
            yield finished(current, step)
            for band in (sums, wanted):
                band[: size - step] = band[step:]
                band[size - step :] = 0
        current = row
        found.windows += len(tiles)
        found.skipped += len(columns) - len(tiles)
        if not tiles:
            continue
        result = model.probability(np.stack([tile.values for tile in tiles]))
        for tile, probability in zip(tiles, result, strict=True):
            inside = clip(Window(tile.window.col_off, 0, size, size), (size, width))
            at, own = slices(inside), slices(inside, Window(tile.window.col_off, 0, size, size))
            sums[at] += (probability * weights)[own]
            wanted[at] |= tile.wanted[own]
            thin = np.s_[::8, ::8]
            found.statistics.add(tile.values[(slice(None), *thin)], tile.wanted[thin])
    if current is not None and current < height:
        yield finished(current, size)


def _warn_of_other_values(statistics: BandStatistics, model: Model, path: str | os.PathLike) -> None:
    """Say where an image has values far from those that the model was trained on: often it has other units."""
    mean, std = getattr(model, "mean", None), getattr(model, "std", None)
    if mean is None or std is None or not statistics.count:
        return
    far = np.abs(statistics.mean - np.asarray(mean)) > _FAR * np.asarray(std)
    if far.any():
        shown = ", ".join(
            f"{band} {here:.4g} (training {there:.4g})"
            for band, here, there, bad in zip(model.bands, statistics.mean, mean, far, strict=True)
            if bad
        )
        log.warning(
            "%s has other values than the model was trained on, on average %s: is one in digital numbers and the other "
            "in reflectance?",
            path,
            shown,
        )
