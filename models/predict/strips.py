"""What passes between reading, blending and writing: tiles, finished strips of rows, and what was learnt on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rasterio.windows import Window

from models.chips import BandStatistics


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
        Wanted pixels in more than one window, of every eighth column.
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
    """Rows of the whole width that no window adds to any more, as they lie on disk.

    Attributes
    ----------
    row : int
        Number of the row of windows that finished it.
    top : int
        First row of pixels.
    probability : ndarray, shape (height, width)
        Encoded; there may be no row in it, where the first windows begin far before the image.
    spread : ndarray, shape (height, width), or None
        Encoded likewise.
    tally : Tally
    """

    row: int
    top: int
    probability: np.ndarray
    spread: np.ndarray | None
    tally: Tally
