"""Polygons along pixel edges back on their pixels, window by window and exactly.

A vertical piece of border at a column begins a region or ends it. With the region's number, positive where it
begins, noted at each such piece, the running sum along a row is the number of the region that a pixel lies in.
"""

from __future__ import annotations

import numpy as np
import shapely
from affine import Affine
from rasterio.windows import Window


class Burnt:
    """Regions on their grid.

    Parameters
    ----------
    geometry : ndarray of shapely.MultiPolygon, shape (n,)
        Along pixel edges, none overlapping, as ``geo.vectorize`` makes them.
    transform : Affine
        Of the grid.
    """

    def __init__(self, geometry: np.ndarray, transform: Affine):
        column, line, owner, last = corners(geometry, transform)
        ends = np.flatnonzero(~last)
        a, b = line[ends], line[ends + 1]
        upright = a != b
        a, b, self._column = a[upright], b[upright], column[ends][upright]
        # the region lies on the left of the way; going down (to larger lines) that is the larger column
        self._value = np.where(b > a, owner[ends][upright] + 1, -(owner[ends][upright] + 1)).astype(np.int32)
        self._top, self._bottom = np.minimum(a, b), np.maximum(a, b)

    def read(self, window: Window) -> np.ndarray:
        """Give each pixel the number of its region, counted from 1; 0 outside.

        Returns
        -------
        ndarray of int32, shape (height, width) of the window
        """
        top, bottom = window.row_off, window.row_off + window.height
        here = (self._top < bottom) & (self._bottom > top) & (self._column < window.col_off + window.width)
        first = np.maximum(self._top[here], top) - top
        times = np.minimum(self._bottom[here], bottom) - top - first
        column = np.repeat(np.maximum(self._column[here] - window.col_off, 0), times)
        row = np.repeat(first - (np.cumsum(times) - times), times) + np.arange(times.sum())
        steps = np.zeros((window.height, window.width), np.int32)
        np.add.at(steps, (row, column), np.repeat(self._value[here], times))
        return np.cumsum(steps, axis=1, dtype=np.int32, out=steps)


def corners(geometry: np.ndarray, transform: Affine) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Corners of polygons in whole pixels.

    Returns
    -------
    column, line, owner : ndarray of int64
        ``owner`` is the number of the polygon.
    last : ndarray of bool
        The last corner of each ring, which closes it.
    """
    if not len(geometry):
        none = np.zeros(0, np.int64)
        return none, none, none, np.zeros(0, bool)
    _, xy, (rings, parts, wholes) = shapely.to_ragged_array(geometry)
    t = ~transform
    column = np.rint(t.a * xy[:, 0] + t.b * xy[:, 1] + t.c).astype(np.int64)
    line = np.rint(t.d * xy[:, 0] + t.e * xy[:, 1] + t.f).astype(np.int64)
    last = np.zeros(len(xy), bool)
    last[rings[1:] - 1] = True
    owner = np.repeat(np.arange(len(geometry)), np.diff(rings[parts[wholes]]))
    return column, line, owner, last


def border(geometry: np.ndarray, transform: Affine) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of border, one pixel long each, as numbers that are the same for both sides.

    Returns
    -------
    piece : ndarray of int64, shape (pieces,)
        Two polygons that share a piece have it under the same number.
    owner : ndarray of int64, shape (pieces,)
        Number of the polygon.
    """
    column, line, owner, last = corners(geometry, transform)
    at = np.flatnonzero(~last)
    across, down = column[at + 1] - column[at], line[at + 1] - line[at]
    times = np.abs(across) + np.abs(down)
    along = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    col = np.repeat(np.minimum(column[at], column[at + 1]), times)
    row = np.repeat(np.minimum(line[at], line[at + 1]), times)
    flat = np.repeat(across != 0, times)
    col, row = col + along * flat, row + along * ~flat
    return ((row << 32) + col) * 2 + flat, np.repeat(owner[at], times)
