"""Chips in spatial blocks: which ground trains, validates and tests, the same in every scene and at every date.

Neighbouring pixels look alike, so a random split of chips tests on what was trained on. Here the plane is cut
into square blocks with a gap between them, chips lie inside blocks, and whole blocks are dealt to the
splits. Blocks are anchored in the coordinates of the CRS, not at the corner of the image: the same ground
falls into the same block in every scene of that CRS and resolution.

Blocks are dealt by a lattice: block ``(i, j)`` has the rank ``(136 i + 377 j + shift(seed)) mod 1009``, and the
circle of ranks is divided among the splits in proportion to their fractions. The two steps are those for
which the ranks of every group of blocks lie most evenly: any 3 x 3, 1 x 10, 2 x 5 or larger group holds a
block of each split whose fraction is at least 0.14, and shares approach the fractions as scenes grow. A
random draw of ten blocks would leave a split of 0.15 empty in one of five scenes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.windows import Window

from geo.errors import GridError
from geo.geobox import GeoBox

SPLITS = ("train", "val", "test")
_RANKS = 1009
_STEPS = (136, 377)


@dataclass(frozen=True)
class Cell:
    """Place of a chip in a scene.

    Attributes
    ----------
    window : Window
        In pixels of the scene; it may reach past the scene.
    split : {"train", "val", "test"}
    block : (int, int)
        Row and column of its block, counted from the origin of the CRS.
    chip : (int, int)
        Row and column in its block.
    """

    window: Window
    split: str
    block: tuple[int, int]
    chip: tuple[int, int]


@dataclass(frozen=True)
class Blocks:
    """The plane cut into blocks, in whole pixels counted from the origin of the CRS.

    Parameters
    ----------
    size, overlap : int
        Pixels of a chip's side, and those shared by neighbouring chips of a block.
    block_chips : int
        Chips along each side of a block.
    gap : (int, int)
        Rows and columns between blocks.
    fractions : (float, float, float)
        Shares of train, val and test; they sum to 1.
    seed : int
        Turns the circle of ranks.
    """

    size: int
    overlap: int = 0
    block_chips: int = 2
    gap: tuple[int, int] = (0, 0)
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise ValueError(f"overlap must lie in [0, {self.size}), got {self.overlap}")
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"fractions must not be negative and sum to 1, got {self.fractions}")

    @property
    def step(self) -> int:
        """Pixels from one chip to the next in a block."""
        return self.size - self.overlap

    @property
    def side(self) -> int:
        """Pixels of a block's side."""
        return self.size + (self.block_chips - 1) * self.step

    def split(self, row: int, column: int) -> str:
        """Split of a block."""
        digest = hashlib.sha256(str(self.seed).encode()).digest()
        shift = int.from_bytes(digest[:8], "big") % _RANKS
        rank = (_STEPS[0] * row + _STEPS[1] * column + shift) % _RANKS
        bounds = np.cumsum(self.fractions) / sum(self.fractions) * _RANKS
        return SPLITS[min(int(np.searchsorted(bounds, rank, side="right")), len(SPLITS) - 1)]

    def chips(self, geobox: GeoBox) -> Iterator[Cell]:
        """Chips that hold at least one pixel of a scene, from the top row down.

        Parameters
        ----------
        geobox : GeoBox
            Grid of the scene.

        Yields
        ------
        Cell
        """
        origin = first_pixel(geobox.affine)
        rows, columns = (
            list(self._starts(start, length, gap))
            for start, length, gap in zip(origin, geobox.shape, self.gap, strict=True)
        )
        for block_row, chip_row, row in rows:
            for block_column, chip_column, column in columns:
                yield Cell(
                    Window(column, row, self.size, self.size),
                    self.split(block_row, block_column),
                    (block_row, block_column),
                    (chip_row, chip_column),
                )

    def _starts(self, origin: int, length: int, gap: int) -> Iterator[tuple[int, int, int]]:
        """Block, chip and first pixel (counted from the scene's) of chips along one axis that meet the scene."""
        period = self.side + gap
        for block in range(origin // period, (origin + length - 1) // period + 1):
            for chip in range(self.block_chips):
                start = block * period + chip * self.step - origin
                if -self.size < start < length:
                    yield block, chip, start


def first_pixel(transform: Affine) -> tuple[int, int]:
    """Row and column of a grid's first pixel, counted in its own pixels from the origin of the CRS.

    A grid that is not aligned to whole pixels is taken for the nearest one that is.
    """
    linear = Affine(transform.a, transform.b, 0, transform.d, transform.e, 0)
    column, row = ~linear @ (transform.c, transform.f)
    return round(row), round(column)


def blocks_of(
    geobox: GeoBox,
    *,
    size: int,
    overlap: int = 0,
    block_chips: int = 2,
    gap_m: float = 0.0,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> Blocks:
    """Blocks for a scene: the gap is turned into whole pixels, never fewer than ``gap_m`` needs.

    A gap gets one pixel more than that, so that it holds also between scenes whose pixels are shifted
    against each other by a fraction.

    Parameters
    ----------
    geobox : GeoBox
        Grid of the scene; only its CRS and its pixels matter, not its extent.
    size, overlap, block_chips, fractions, seed
        See ``Blocks``.
    gap_m : float
        Least distance between footprints of chips of different blocks, in metres.

    Raises
    ------
    GridError
        The grid has no CRS, or one in degrees, in which a distance in metres has no fixed number of pixels.
    """
    crs = geobox.crs
    if crs is None:
        raise GridError(
            "the image has no CRS, so its chips would lie nowhere; give it one, or import photographs with "
            "`geocrack chips import`"
        )
    if not crs.projected:
        raise GridError(
            f"the image has the CRS {crs}, in degrees; expected a projected CRS such as that of its UTM zone, in which "
            "the gap between blocks has a length: warp it with `geocrack ortho` or gdalwarp -t_srs"
        )
    a, b, _, d, e, _ = list(geobox.affine)[:6]
    metres = crs.proj.axis_info[0].unit_conversion_factor
    area = abs(a * e - b * d)
    # distances between lines of equal row and of equal column; on a sheared grid shorter than a pixel's sides
    spacing = area / math.hypot(a, d) * metres, area / math.hypot(b, e) * metres
    rows, columns = (math.ceil(gap_m / pixel - 1e-6) + 1 if gap_m else 0 for pixel in spacing)
    return Blocks(size, overlap, block_chips, (rows, columns), fractions, seed)
