"""From a mask to its centre pixels, tile by tile as if the whole mask had been seen at once.

Thinning (Lee, Kashyap & Chu 1994, CVGIP 56, 462-478, through scikit-image) takes one layer of pixels off all borders at
a time and keeps what is joined joined. A pixel of the result depends on the mask within a distance that grows with the
width of what is thinned, so each tile is read with a margin that follows the widest crack in it. (The older rule of
Zhang & Suen is quicker and wrong here: it eats diagonal strips of even width up from their ends.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from rasterio.windows import Window
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from geo.errors import RasterError
from geo.windows import blocks, grow, slices

#: A centre pixel: its place, its distance to the border, how many pixels of the crack belong to it, the farthest of
#: them (rows and columns from it), and whether the crack is cut off there.
POINT = np.dtype([("row", "i4"), ("col", "i4"), ("radius", "f4"), ("area", "i4"), ("tip", "i2", (2,)), ("cut", "?")])
TILE = 1024
_MARGIN, _WIDEST_MARGIN = 64, 1024
#: A margin must hold so many half widths, and some pixels more.
_HALF_WIDTHS, _MORE = 3, 8
#: Half width of the widest crack that fits the widest margin.
LARGEST_RADIUS = (_WIDEST_MARGIN - _MORE) // _HALF_WIDTHS
_CUT_REACH = 1.5

Read = Callable[[Window], tuple[np.ndarray, np.ndarray]]


def tiles(shape: tuple[int, int], size: int = TILE) -> Iterable[Window]:
    """Tiles of a mask, each pixel once."""
    return blocks(shape, size)


def centre_pixels(mask: np.ndarray) -> np.ndarray:
    """Thin a mask that is seen as a whole to the middle of its shapes, one pixel wide.

    Parameters
    ----------
    mask : ndarray of bool, shape (h, w)

    Returns
    -------
    ndarray of bool, shape (h, w)
    """
    return skeletonize(mask, method="lee") > 0


def thin_tile(read: Read, tile: Window) -> np.ndarray:
    """Centre pixels of one tile; a pure function, so tiles can be done in parallel.

    Parameters
    ----------
    read : callable
        Gives, for a window that may reach past the mask, where cracks are and where that is known (both bool).
    tile : Window

    Returns
    -------
    ndarray of ``POINT``
        Rows and columns are those of the mask.

    Raises
    ------
    RasterError
        What is marked is so wide that it is no crack.
    """
    for margin in _margins():
        window = grow(tile, margin)
        crack, known = read(window)
        core = slices(tile, window)
        if not crack[core].any():
            return np.empty(0, POINT)
        radius = cv2.distanceTransform(crack.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        if radius.max() * _HALF_WIDTHS + _MORE <= margin:
            return _points(crack, known, radius, tile, window)
    row, col = tile.row_off + tile.height // 2, tile.col_off + tile.width // 2
    raise RasterError(
        f"what is marked as crack is more than {2 * LARGEST_RADIUS} pixels wide near row {row}, column {col}; expected "
        "narrow cracks marked, and nothing else: is the mask inverted?"
    )


def _margins() -> Iterator[int]:
    margin = _MARGIN
    while margin <= _WIDEST_MARGIN:
        yield margin
        margin *= 2


def _points(crack: np.ndarray, known: np.ndarray, radius: np.ndarray, tile: Window, window: Window) -> np.ndarray:
    row, col = np.nonzero(centre_pixels(crack))
    core_row, core_col = slices(tile, window)
    inside = (row >= core_row.start) & (row < core_row.stop) & (col >= core_col.start) & (col < core_col.stop)
    points = np.zeros(len(row), POINT)
    points["row"], points["col"] = row, col
    points["radius"] = radius[row, col] - 0.5  # to the border of pixels, not to the next one's centre
    unknown = cv2.distanceTransform(known.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    points["cut"] = unknown[row, col] <= radius[row, col] + _CUT_REACH
    if inside.any():
        lots = _lots(row + window.row_off, col + window.col_off)
        _own(points, lots, crack, 2 * int(np.ceil(radius.max())) + 4, (core_row, core_col))
    points = points[inside]
    points["row"] += window.row_off
    points["col"] += window.col_off
    return points


def _lots(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Draw a number in [0, 1) for each pixel, by its place alone: among equally near ones the lowest is taken."""
    return (((row * 73_856_093) ^ (col * 19_349_663)) * 2_654_435_761 >> 12 & 0xFFFFF) / 0x100000


def _own(points: np.ndarray, lots: np.ndarray, crack: np.ndarray, reach: int, core: tuple[slice, slice]) -> None:
    """Give each pixel of a crack to its nearest centre pixel, unless that belongs to a crack beside it.

    What is farther from the centre than the border is there lies in another branch: it goes to the centre pixel whose
    circle (the largest in the crack) it lies in or nearest to, by the power ``distance**2 - radius**2``, which is a
    distance to points that are lifted by ``sqrt(R**2 - radius**2)``. What is given does not depend on the tile.
    """
    rows, cols = (slice(max(0, s.start - reach), s.stop + reach) for s in core)
    at = np.argwhere(crack[rows, cols]) + np.array([rows.start, cols.start])
    places, radius = np.column_stack([points["row"], points["col"]]), points["radius"].astype(float)
    asked = np.column_stack([at, np.zeros(len(at))])
    # squares of distances are whole numbers, so a quarter decides only among equal ones
    owner = cKDTree(np.column_stack([places, np.sqrt(lots / 4)])).query(asked)[1]
    distance = np.hypot(*(at - places[owner]).T)
    beyond = distance > radius[owner] + 1
    if beyond.any():
        lift = np.sqrt(LARGEST_RADIUS**2 - radius**2 + lots / 4)
        owner[beyond] = cKDTree(np.column_stack([places, lift])).query(asked[beyond])[1]
        distance[beyond] = np.hypot(*(at[beyond] - places[owner[beyond]]).T)
    points["area"] = np.bincount(owner, minlength=len(points))
    order = np.lexsort((at[:, 1], at[:, 0], distance))  # the farthest comes last, and stays
    last = np.full(len(points), -1)
    last[owner[order]] = order
    has = last >= 0
    points["tip"][has] = at[last[has]] - places[has]
