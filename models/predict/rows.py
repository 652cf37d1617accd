"""From tiles of an image to finished rows of probability: rows of windows, blended."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rasterio.windows import Window

from geo.borders import Borders
from geo.errors import ModelError
from geo.image import Image
from geo.labels import Area
from geo.windows import blend_weights, clip, slices
from models.chips import BandStatistics
from models.predict.grid import Windows, mirrored, weight_sums
from models.predict.members import Ensemble


@dataclass(frozen=True)
class Tile:
    """Input of one window."""

    window: Window
    values: np.ndarray  # mirrored past the edges of the image
    wanted: np.ndarray  # valid, seen and inside the area; False past the edges


@dataclass
class Tally:
    """What is learnt on the way.

    Attributes
    ----------
    windows, skipped : int
        Windows that were seen by the model, and those that hold nothing wanted.
    pixels, above : int
        Wanted ones, and those from the threshold on.
    total : float
        Sum of their probability.
    shared : int
        Wanted pixels in more than one window.
    apart : float
        Sum over these of the variance between what their windows say, weighted as they are blended.
    statistics : BandStatistics
        Of every eighth wanted pixel's input.
    """

    windows: int = 0
    skipped: int = 0
    pixels: int = 0
    total: float = 0.0
    above: int = 0
    shared: int = 0
    apart: float = 0.0
    statistics: BandStatistics = field(default_factory=BandStatistics)

    def join(self, other: Tally) -> None:
        """Add what was learnt elsewhere."""
        self.windows += other.windows
        self.skipped += other.skipped
        self.pixels += other.pixels
        self.total += other.total
        self.above += other.above
        self.shared += other.shared
        self.apart += other.apart
        self.statistics.join(other.statistics)

    def plain(self) -> dict[str, Any]:
        """Say it in plain numbers, for a file."""
        s = self.statistics
        return {
            "counts": [self.windows, self.skipped, self.pixels, self.above, self.shared],
            "sums": [self.total, self.apart],
            "statistics": [s.count, s.mean.tolist(), s.squares.tolist()],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Tally:
        """Read what ``plain`` said."""
        windows, skipped, pixels, above, shared = plain["counts"]
        total, apart = plain["sums"]
        count, mean, squares = plain["statistics"]
        statistics = BandStatistics(count, np.asarray(mean, float), np.asarray(squares, float))
        return cls(windows, skipped, pixels, total, above, shared, apart, statistics)


@dataclass(frozen=True)
class Strip:
    """Rows of the whole width that no window adds to any more.

    Attributes
    ----------
    row : int
        Number of the row of windows that finished it.
    top : int
        First row of pixels.
    probability : ndarray of float32, shape (height, width)
    spread : ndarray of float32, shape (height, width), or None
    wanted : ndarray of bool, shape (height, width)
    tally : Tally
    """

    row: int
    top: int
    probability: np.ndarray
    spread: np.ndarray | None
    wanted: np.ndarray
    tally: Tally


def read_tile(
    image: Image, bands: Sequence[str], area: Area | None, window: Window, borders: Borders | None = None
) -> Tile | None:
    """Input of a window; None where nothing in it is wanted."""
    inside = clip(window, image.shape)
    wanted = image.seen(window)
    if area is not None:
        wanted &= area.read(window)
    if not wanted.any():
        return None
    height, width = image.shape
    rows = mirrored(window.row_off, window.height, height)
    columns = mirrored(window.col_off, window.width, width)
    top, left = rows.min(), columns.min()
    part = Window(int(left), int(top), int(columns.max() - left) + 1, int(rows.max() - top) + 1)
    values, valid = image.read(part, [band.lower() for band in bands])
    if borders is not None:
        empty = borders.mask(values, part)
        valid &= ~empty
        values[:, empty] = np.nan
    at = slices(inside, window)
    wanted[at] &= valid[slices(inside, part)]
    if not wanted.any():
        return None
    if (part.height, part.width) != (window.height, window.width) or part != inside:
        values = values[:, (rows - top)[:, None], columns - left]
    return Tile(window, values, wanted)


def blend(
    batches: Iterable[tuple[tuple[int, Sequence[int]], list[Tile | None]]],
    ensemble: Ensemble,
    windows: Windows,
    shape: tuple[int, int],
    rows: range,
    threshold: float,
) -> Generator[Strip]:
    """Run the models on batches and give rows as soon as no window adds to them any more.

    Sums begin ``windows.lead`` rows of windows before those asked for and grow in the order of the windows, so
    that rows come out the same to the last bit wherever a run begins.

    Parameters
    ----------
    batches : iterable
        A row of windows and first columns of some of its windows, with their tiles (None where nothing is wanted),
        from ``windows.lead`` rows before ``rows``, or from the first row, on.
    ensemble : Ensemble
    windows : Windows
    shape : (int, int)
        Of the image.
    rows : range
        Rows of windows to finish.
    threshold : float
        Only for the tally.

    Yields
    ------
    Strip
    """
    height, width = shape
    size, step = windows.size, windows.step
    weights = blend_weights(size, windows.overlap)
    ramp = np.sqrt(np.diagonal(weights).astype(np.float64))  # the weights are its product with itself
    starts, columns_ = windows.rows(height), windows.columns(width)
    down, across = weight_sums(starts, height, ramp), weight_sums(columns_, width, ramp)
    often_down, often_across = (weight_sums(s, n, np.ones(size)) > 1 for s, n in ((starts, height), (columns_, width)))
    # planes: the probability, its square, and the spread of several answers
    sums = np.zeros((2 if ensemble.size == 1 else 3, size, width), dtype=np.float32)
    wanted = np.zeros((size, width), dtype=bool)
    tally = Tally()

    def finished(row: int) -> Strip:
        nonlocal tally
        top, bottom = windows.finished(range(row, row + 1), height)
        part = slice(top - starts[row], bottom - starts[row])
        blended = (sums[:, part] / np.outer(down[top:bottom], across)).astype(np.float32)
        good = wanted[part].copy()
        values = blended[0][good]
        if not np.isfinite(values).all():
            raise ModelError("the model gives no number for some valid pixels; train it again")
        tally.pixels += values.size
        tally.total += float(values.sum(dtype=np.float64))
        tally.above += int((values >= threshold).sum())
        shared = good & np.logical_or.outer(often_down[top:bottom], often_across)
        tally.shared += int(shared.sum())
        variance = np.maximum(blended[1][shared] - blended[0][shared] ** 2, 0)
        tally.apart += float(variance.sum(dtype=np.float64))
        strip = Strip(row, top, blended[0], blended[2] if len(blended) > 2 else None, good, tally)
        tally = Tally()
        return strip

    current: int | None = None
    for (row, columns), tiles in batches:
        if current is not None and row != current:
            if current in rows:
                yield finished(current)
            for band in (*sums, wanted):
                band[: size - step] = band[step:]
                band[size - step :] = 0
        current = row
        there = [tile for tile in tiles if tile is not None]
        own = row in rows
        if own:
            tally.windows += len(there)
            tally.skipped += len(columns) - len(there)
        if not there:
            continue
        mean, spread = ensemble.answer(np.stack([tile.values for tile in there]))
        planes = [mean, mean**2] + ([] if spread is None else [spread])
        for number, tile in enumerate(there):
            frame = Window(tile.window.col_off, 0, size, size)
            inside = clip(frame, (size, width))
            at, part = slices(inside), slices(inside, frame)
            for total, plane in zip(sums, planes, strict=True):
                total[at] += (plane[number] * weights)[part]
            wanted[at] |= tile.wanted[part]
            if own:
                first = windows.overlap // 2  # each pixel once, not once in each of its windows
                thin = (slice(first, first + step, 8),) * 2
                tally.statistics.add(tile.values[(slice(None), *thin)], tile.wanted[thin])
    if current is not None and current in rows:
        yield finished(current)
