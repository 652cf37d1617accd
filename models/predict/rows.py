"""From tiles of an image to finished rows of probability: rows of windows, blended."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rasterio.windows import Window

from geo.errors import ModelError
from geo.image import Image
from geo.labels import Area
from geo.windows import blend_weights, clip, slices
from models.chips import BandStatistics
from models.predict.grid import Windows, mirrored
from models.predict.members import Ensemble


@dataclass(frozen=True)
class Tile:
    """Input of one window."""

    window: Window
    values: np.ndarray  # mirrored past the edges of the image
    wanted: np.ndarray  # valid, seen and inside the area; False past the edges


@dataclass
class Tally:
    """What is learnt on the way."""

    windows: int = 0
    skipped: int = 0
    pixels: int = 0
    total: float = 0.0
    above: int = 0
    statistics: BandStatistics = field(default_factory=BandStatistics)

    def join(self, other: Tally) -> None:
        """Add what was learnt elsewhere."""
        self.windows += other.windows
        self.skipped += other.skipped
        self.pixels += other.pixels
        self.total += other.total
        self.above += other.above
        self.statistics.join(other.statistics)

    def plain(self) -> dict[str, Any]:
        """Say it in plain numbers, for a file."""
        s = self.statistics
        return {
            "counts": [self.windows, self.skipped, self.pixels, self.above],
            "total": self.total,
            "statistics": [s.count, s.mean.tolist(), s.squares.tolist()],
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Tally:
        """Read what ``plain`` said."""
        windows, skipped, pixels, above = plain["counts"]
        count, mean, squares = plain["statistics"]
        statistics = BandStatistics(count, np.asarray(mean, float), np.asarray(squares, float))
        return cls(windows, skipped, pixels, plain["total"], above, statistics)


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


def read_tile(image: Image, bands: Sequence[str], area: Area | None, window: Window) -> Tile | None:
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
    across, down = windows.weight_sums(width, ramp), windows.weight_sums(height, ramp)
    sums = np.zeros((1 if ensemble.size == 1 else 2, size, width), dtype=np.float32)
    wanted = np.zeros((size, width), dtype=bool)
    starts = windows.starts(height)
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
        strip = Strip(row, top, blended[0], blended[1] if len(blended) > 1 else None, good, tally)
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
        answers = ensemble.answer(np.stack([tile.values for tile in there]))
        for number, tile in enumerate(there):
            frame = Window(tile.window.col_off, 0, size, size)
            inside = clip(frame, (size, width))
            at, part = slices(inside), slices(inside, frame)
            for total, answer in zip(sums, answers, strict=False):
                if answer is not None:
                    total[at] += (answer[number] * weights)[part]
            wanted[at] |= tile.wanted[part]
            if own:
                thin = np.s_[::8, ::8]
                tally.statistics.add(tile.values[(slice(None), *thin)], tile.wanted[thin])
    if current is not None and current in rows:
        yield finished(current)
