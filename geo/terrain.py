"""Height and slope of the ground on the pixels of a grid, from a DEM in any CRS.

The DEM is brought to nodes that lie on the grid a whole number of pixels apart, as near to its own resolution as
that allows. Slopes are taken there by Horn's rule (Horn 1981, Proc. IEEE 69, 14-47) and interpolated between
nodes, so that they do not depend on the window that is read and do not show the pixels of the DEM as terraces.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyproj
import shapely
from rasterio.windows import Window

from geo.errors import GridError
from geo.geobox import GeoBox
from geo.raster import crs_name

if TYPE_CHECKING:
    from geo.ortho.dem import Dem

#: Nodes around a window: one for Horn's rule, one for the interpolation.
_MARGIN = 2
#: Nodes are at most this many pixels apart; a coarser DEM is interpolated.
_WIDEST = 64
#: Points along a side of the grid by which it is told what share of it has heights.
_LATTICE = 128


@dataclass(frozen=True)
class Relief:
    """Terrain of a window; NaN where the DEM is void.

    Attributes
    ----------
    height : ndarray of float32, shape (height, width)
        Metres, above what the DEM's heights stand on.
    east, north : ndarray of float32, shape (height, width)
        Rise per metre towards the x and y axis of the map.
    """

    height: np.ndarray
    east: np.ndarray
    north: np.ndarray

    @property
    def slope(self) -> np.ndarray:
        """Angle to the horizontal in degrees."""
        return np.degrees(np.arctan(np.hypot(self.east, self.north)))


class Terrain:
    """A DEM on the pixels of a grid; safe to use from several threads. Made by ``open_terrain``.

    Attributes
    ----------
    step : int
        Pixels of the grid between nodes.
    path : str
        File of the DEM.
    """

    def __init__(self, dem: Dem, grid: GeoBox, crs: pyproj.CRS, step: int):
        self._dem, self._grid, self._crs, self.step = dem, grid, crs, step
        self.path = dem.path

    def read(self, window: Window) -> Relief:
        """Terrain at the centres of the pixels of a window of the grid."""
        step = self.step
        first_col, first_row = window.col_off // step - _MARGIN, window.row_off // step - _MARGIN
        width = (window.col_off + window.width) // step + 1 + _MARGIN - first_col
        height = (window.row_off + window.height) // step + 1 + _MARGIN - first_row
        # the centre of node n lies at (n + 0.5) * step pixels
        column, row = np.meshgrid(
            (first_col + np.arange(width) + 0.5) * step, (first_row + np.arange(height) + 0.5) * step
        )
        t = self._grid.affine
        x, y = t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f
        z = self._dem.heights(x, y, self._crs)
        east, north = self._slopes(z)
        if step == 1:  # nodes are pixels; an interpolation would let voids grow, for 0 times NaN is NaN
            inner = np.s_[_MARGIN : _MARGIN + window.height, _MARGIN : _MARGIN + window.width]
            return Relief(z[inner], east[inner], north[inner])
        rows = (np.arange(window.row_off, window.row_off + window.height) + 0.5) / step - 0.5 - first_row
        columns = (np.arange(window.col_off, window.col_off + window.width) + 0.5) / step - 0.5 - first_col
        x, y = (a.astype(np.float32) for a in np.meshgrid(columns, rows))
        return Relief(*(cv2.remap(a, x, y, cv2.INTER_LINEAR) for a in (z, east, north)))

    def known_share(self, ground: np.ndarray) -> float:
        """Share of some ground that has heights, by a lattice of points.

        Parameters
        ----------
        ground : ndarray of shapely polygons
            On the grid.

        Returns
        -------
        float
            That of the whole grid where no point of the lattice lies on the ground.
        """
        height, width = self._grid.shape
        steps = (np.arange(n) * side / n for n, side in ((min(_LATTICE, s), s) for s in (width, height)))
        column, row = (a.ravel() + 0.5 for a in np.meshgrid(*(np.floor(step) for step in steps)))
        t = self._grid.affine
        x, y = t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f
        shapely.prepare(ground)
        on = np.zeros(len(x), bool)
        for polygon in ground:
            on |= shapely.contains_xy(polygon, x, y)
        on = on if on.any() else ~on
        return float(np.isfinite(self._dem.heights(x[on], y[on], self._crs)).mean())

    def _slopes(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rise per metre along the axes of the map at nodes; NaN at the outermost and beside voids."""
        along = np.full_like(z, np.nan)
        down = np.full_like(z, np.nan)
        weights = (1, 2, 1)
        a, b = z[:, :-2], z[:, 2:]
        along[1:-1, 1:-1] = sum(w * (b - a)[k : len(z) - 2 + k] for k, w in enumerate(weights)) / (8 * self.step)
        a, b = z[:-2], z[2:]
        wide = z.shape[1] - 2
        down[1:-1, 1:-1] = sum(w * (b - a)[:, k : wide + k] for k, w in enumerate(weights)) / (8 * self.step)
        # per pixel to per metre: the gradient goes with the inverse of the transposed transform
        t = ~self._grid.affine
        return along * np.float32(t.a) + down * np.float32(t.d), along * np.float32(t.b) + down * np.float32(t.e)


def open_terrain(path: str | os.PathLike, grid: GeoBox, stack: ExitStack, *, zero: str = "auto") -> Terrain:
    """Open a DEM on a grid.

    Parameters
    ----------
    path : path
        Raster whose first band holds heights.
    grid : GeoBox
        In metres.
    stack : ExitStack
        Closes what is opened here.
    zero : str
        Whether 0 in the DEM is a ``"height"`` or a ``"void"``; ``"auto"`` decides by the ground beside it.

    Raises
    ------
    RasterError
        It cannot be read.
    GridError
        The DEM has no CRS, or lies elsewhere.
    """
    from geo.ortho.dem import open_dem  # heavy, and most inventories are made without

    if grid.crs is None:
        raise ValueError("the grid has no CRS")
    crs = pyproj.CRS.from_user_input(grid.crs)
    # heights stay as they are: only their differences count
    dem = stack.enter_context(open_dem(path, geoid="none", zero=zero))
    if not _meets(dem, grid, crs):
        raise GridError(
            f"the DEM {path} lies elsewhere: its extent is {_extent(dem.src.bounds)} in {crs_name(dem.crs)}, the grid "
            f"to fill is {_extent(grid.boundingbox.bbox)} in {crs_name(crs)}; give the DEM of this place"
        )
    return Terrain(dem, grid, crs, _step(dem, grid, crs))


def _step(dem: Dem, grid: GeoBox, crs: pyproj.CRS) -> int:
    """Pixels of the grid that are nearest to one of the DEM, in the middle of the grid."""
    height, width = grid.shape
    middle = [grid.affine @ at for at in ((width / 2, height / 2), (width / 2 + 1, height / 2 + 1))]
    x, y = np.array(middle, dtype=float).T
    column, row = dem.pixel_coordinates(x, y, crs)
    across = float(np.hypot(np.diff(column), np.diff(row))[0])  # diagonal of a pixel, in DEM pixels
    if not np.isfinite(across) or across == 0:
        return 1
    return int(np.clip(round(np.sqrt(2) / across), 1, _WIDEST))


def _meets(dem: Dem, grid: GeoBox, crs: pyproj.CRS) -> bool:
    """Whether the DEM reaches into the grid."""
    height, width = grid.shape
    columns, rows = np.meshgrid(np.linspace(0, width, 21), np.linspace(0, height, 21))
    t = grid.affine
    x, y = t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f
    column, row = dem.pixel_coordinates(x.ravel(), y.ravel(), crs)
    if not np.isfinite(column).any():
        return False
    left, right, top, bottom = np.nanmin(column), np.nanmax(column), np.nanmin(row), np.nanmax(row)
    return bool(left < dem.src.width and right > 0 and top < dem.src.height and bottom > 0)


def _extent(bounds: tuple[float, float, float, float]) -> str:
    return " ".join(f"{v:.6g}" if abs(v) < 1000 else f"{v:.0f}" for v in bounds)
