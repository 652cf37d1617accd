"""Black borders of images that mark no nodata: what a mosaic or a turned picture has beyond its ground.

Areas of purely black pixels are found that touch the border of an image. Only cells of 8 x 8 pixels are kept, a bit
each, so that an image of any size can be looked through.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from rasterio.windows import Window

from geo.encoding import physical
from geo.image import Image, open_image
from geo.windows import blocks, slices

#: Side in pixels of the cells in which areas are followed.
CELL = 8
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Borders:
    """Black ground beyond an image's own; made by ``black_borders``.

    Attributes
    ----------
    cells : ndarray of bool
        Cells of ``CELL`` x ``CELL`` pixels that such an area touches.
    values : tuple of float
        What black pixels hold in all bands.
    pixels : int
        How many pixels are black there.
    shape : (int, int)
        Of the image in pixels.
    """

    cells: np.ndarray
    values: tuple[float, ...]
    pixels: int
    shape: tuple[int, int]

    @property
    def share(self) -> float:
        """Of the image."""
        return self.pixels / (self.shape[0] * self.shape[1])

    def mask(self, values: np.ndarray, window: Window) -> np.ndarray:
        """Where a window shows no ground.

        Parameters
        ----------
        values : ndarray, shape (bands, height, width)
            What the image has there.
        window : Window
            Inside the image.

        Returns
        -------
        ndarray of bool, shape (height, width)
        """
        return _black(values, self.values) & self._near(window)

    def _near(self, window: Window) -> np.ndarray:
        top, left = window.row_off // CELL, window.col_off // CELL
        bottom = -(-(window.row_off + window.height) // CELL)
        right = -(-(window.col_off + window.width) // CELL)
        wide = self.cells[top:bottom, left:right].repeat(CELL, axis=0).repeat(CELL, axis=1)
        return wide[slices(window, Window(left * CELL, top * CELL, 0, 0))]


def _black(values: np.ndarray, blacks: tuple[float, ...]) -> np.ndarray:
    return np.logical_or.reduce([(values == value).all(axis=0) for value in blacks])


def _blacks(image: Image) -> tuple[float, ...]:
    """Physical values of 0, and of 1, which tools write that keep 0 for nodata; only 0 in images of floats."""
    encoding = image.encoding
    if encoding.dtype.startswith("float"):
        return (0.0,)
    stored = np.array([[[0, 1]]], dtype=encoding.dtype)
    found = physical(stored, np.ones((1, 2), bool), [encoding.scale], [encoding.offset])
    return tuple(float(value) for value in found.ravel())


def black_borders(path: str | os.PathLike, least_px: int, names: tuple[str, ...] | None = None) -> Borders | None:
    """Find the black borders of an image; remembered while the file stays the same.

    Parameters
    ----------
    path : path
    least_px : int
        Areas of fewer pixels are ground: shadows and black cars. 0 finds none.
    names : tuple of str, optional
        Of its bands, as of ``geo.image.open_image``.

    Returns
    -------
    Borders or None
        None where there is none, or the image marks its nodata.
    """
    if not least_px:
        return None
    return _found(os.fspath(path), least_px, names, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=2)
def _found(path: str, least_px: int, names: tuple[str, ...] | None, _changed: int) -> Borders | None:
    with open_image(path, names) as image:
        if image.marks_nodata:
            return None
        blacks = _blacks(image)
        counts = _counts(image, blacks)
    height, width = image.shape
    full = _full(counts.shape, image.shape)
    # an area has its core in cells that are all black, and runs out in tips that fill a quarter of a cell
    _, parts = cv2.connectedComponents((counts >= full / 4).view(np.uint8), connectivity=4)
    border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    number = np.bincount(parts.ravel(), weights=counts.ravel())
    core = np.bincount(parts.ravel(), weights=(counts == full).ravel())
    chosen = [part for part in border if part != 0 and number[part] >= least_px and core[part]]
    if not chosen:
        return None
    cells = cv2.dilate(np.isin(parts, chosen).view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)  # with its rim
    return Borders(cells, blacks, int(counts[cells].sum()), (height, width))


def _counts(image: Image, blacks: tuple[float, ...]) -> np.ndarray:
    """Count black pixels in each cell."""
    height, width = image.shape
    counts = np.zeros((-(-height // CELL), -(-width // CELL)), dtype=np.uint8)
    for window in blocks(image.shape, _BLOCK):
        dark = np.zeros((-(-window.height // CELL) * CELL, -(-window.width // CELL) * CELL), dtype=bool)
        values, valid = image.read(window)
        dark[: window.height, : window.width] = _black(values, blacks) & valid
        cells = dark.reshape(dark.shape[0] // CELL, CELL, dark.shape[1] // CELL, CELL).sum(axis=(1, 3), dtype=np.uint8)
        top, left = window.row_off // CELL, window.col_off // CELL
        counts[top : top + cells.shape[0], left : left + cells.shape[1]] = cells
    return counts


def _full(cells: tuple[int, ...], shape: tuple[int, int]) -> np.ndarray:
    """Count the pixels of each cell; those at the far edges are cut off."""
    sides = (np.minimum(CELL, n - CELL * np.arange(count)) for n, count in zip(shape, cells, strict=True))
    return np.multiply.outer(*sides).astype(np.uint8)
