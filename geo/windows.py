"""Windows: rectangles of pixels, and the ways a scene is cut into them.

A window is rasterio's ``Window(col_off, row_off, width, height)`` with whole numbers. Three cuts are used:
``blocks`` (each pixel once, ragged at the far edges), ``cover`` (fixed size with overlap, reaching past the
far edges so that no pixel is missed), and a window grown by a ``margin`` for steps that look at neighbours.
``spread_windows`` are a sample of the scene.
Shapes are ``(height, width)`` in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rasterio.windows import Window


def blocks(shape: tuple[int, int], size: int | tuple[int, int]) -> Iterator[Window]:
    """Cut a scene into blocks that hold each pixel exactly once, row by row.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the scene in pixels.
    size : int or (int, int)
        Height and width of a block; blocks at the bottom and right edges may be smaller.

    Yields
    ------
    Window
    """
    height, width = shape
    step_y, step_x = (size, size) if isinstance(size, int) else size
    for row in range(0, height, step_y):
        for col in range(0, width, step_x):
            yield Window(col, row, min(step_x, width - col), min(step_y, height - row))


def spread_windows(area: Window, side: int, most: int) -> list[Window]:
    """Square windows spread evenly over an area, row by row.

    Parameters
    ----------
    area : Window
        Pixels to cover.
    side : int
        Height and width of a window; the area's where that is smaller.
    most : int
        Windows along one axis at most; they do not overlap unless one does not fit.

    Returns
    -------
    list of Window
    """
    starts, sizes = [], []
    for first, length in ((area.row_off, area.height), (area.col_off, area.width)):
        size = min(side, length)
        count = int(np.clip(length // size, 1, most))
        free = length - size
        places = np.linspace(0, free, count) if count > 1 else np.array([free / 2])
        starts.append([first + round(p) for p in places])
        sizes.append(size)
    return [Window(col, row, sizes[1], sizes[0]) for row in starts[0] for col in starts[1]]


def grow(window: Window, margin: int) -> Window:
    """Window with ``margin`` more pixels on each side; it may leave the scene."""
    return Window(
        window.col_off - margin,
        window.row_off - margin,
        window.width + 2 * margin,
        window.height + 2 * margin,
    )


def clip(window: Window, shape: tuple[int, int]) -> Window:
    """Part of the window inside a scene of this shape; width or height 0 where there is none."""
    height, width = shape
    left, top = max(0, window.col_off), max(0, window.row_off)
    right = min(width, window.col_off + window.width)
    bottom = min(height, window.row_off + window.height)
    return Window(left, top, max(0, right - left), max(0, bottom - top))


def intersection(first: Window, second: Window) -> Window:
    """Pixels common to two windows; width or height 0 where there are none."""
    left, top = max(first.col_off, second.col_off), max(first.row_off, second.row_off)
    right = min(first.col_off + first.width, second.col_off + second.width)
    bottom = min(first.row_off + first.height, second.row_off + second.height)
    return Window(left, top, max(0, right - left), max(0, bottom - top))


def slices(window: Window, within: Window | None = None) -> tuple[slice, slice]:
    """Row and column slices of a window, counted from ``within`` (or from the scene's origin)."""
    row0, col0 = (within.row_off, within.col_off) if within is not None else (0, 0)
    row, col = window.row_off - row0, window.col_off - col0
    return slice(row, row + window.height), slice(col, col + window.width)


def blend_weights(size: int, overlap: int) -> np.ndarray:
    """Weights of one window for blending with its neighbours: a raised cosine across the overlap.

    Laid on a grid with step ``size - overlap``, the weights of all windows over a pixel sum to 1 wherever
    the pixel has neighbours on both sides (at the scene's edge divide by the sum of weights), if
    ``overlap <= size / 2``.

    Parameters
    ----------
    size : int
        Height and width of the window in pixels.
    overlap : int
        Pixels shared with each neighbour.

    Returns
    -------
    ndarray of float32, shape (size, size)
        Strictly positive.
    """
    ramp = np.ones(size)
    if overlap:
        phase = (np.arange(overlap) + 0.5) / overlap
        rise = 0.5 - 0.5 * np.cos(np.pi * phase)
        ramp[:overlap] *= rise
        ramp[size - overlap :] *= rise[::-1]
    return np.outer(ramp, ramp).astype(np.float32)
