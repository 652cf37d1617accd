"""Height and slope of the ground on the pixels of a grid, from a DEM in any CRS.

The DEM is brought to nodes that lie on the grid a whole number of pixels apart, as near to its own resolution as
that allows. Slopes are taken there by Horn's rule (Horn 1981, Proc. IEEE 69, 14-47) and interpolated between
nodes, so that they do not depend on the window that is read and do not show the pixels of the DEM as terraces.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from geo.errors import GridError
from geo.raster import crs_name, read

#: Nodes around a window: one for Horn's rule, one for the interpolation.
_MARGIN = 2
#: Nodes are at most this many pixels apart; a coarser DEM is interpolated.
_WIDEST = 64


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
    """

    def __init__(self, dataset: rasterio.DatasetReader, grid: GeoBox, step: int):
        self._dataset, self._grid, self.step = dataset, grid, step
        self._lock = threading.Lock()

    def read(self, window: Window) -> Relief:
        """Terrain at the centres of the pixels of a window of the grid."""
        step = self.step
        first_col, first_row = window.col_off // step - _MARGIN, window.row_off // step - _MARGIN
        width = (window.col_off + window.width) // step + 1 + _MARGIN - first_col
        height = (window.row_off + window.height) // step + 1 + _MARGIN - first_row
        own = Window(first_col + _MARGIN, first_row + _MARGIN, width, height)  # the dataset begins _MARGIN earlier
        with self._lock:
            values, valid = read(self._dataset, own, bands=[1])
        z = np.where(valid, values[0], np.float32(np.nan))
        east, north = self._slopes(z)
        # the centre of node n lies at (n + 0.5) * step pixels
        rows = (np.arange(window.row_off, window.row_off + window.height) + 0.5) / step - 0.5 - first_row
        columns = (np.arange(window.col_off, window.col_off + window.width) + 0.5) / step - 0.5 - first_col
        x, y = (a.astype(np.float32) for a in np.meshgrid(columns, rows))
        return Relief(*(cv2.remap(a, x, y, cv2.INTER_LINEAR) for a in (z, east, north)))

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


def open_terrain(src: rasterio.DatasetReader, grid: GeoBox, stack: ExitStack) -> Terrain:
    """Put an opened DEM on a grid.

    Parameters
    ----------
    src : rasterio dataset
        Heights in metres in its first band.
    grid : GeoBox
        In metres.
    stack : ExitStack
        Closes what is opened here.

    Raises
    ------
    GridError
        The DEM has no CRS, or lies elsewhere.
    """
    if src.crs is None:
        raise GridError(
            f"the DEM {src.name} has no CRS; expected a georeferenced raster: assign its CRS (gdal_edit.py)"
        )
    if grid.crs is None:
        raise ValueError("the grid has no CRS")
    crs = CRS.from_wkt(grid.crs.to_wkt())
    height, width = grid.shape
    step = _step(src, grid, crs)
    nodes = grid.affine @ Affine.translation(-_MARGIN * step, -_MARGIN * step) @ Affine.scale(step)
    bare = src.nodata is None
    dataset = stack.enter_context(
        WarpedVRT(
            src,
            crs=crs,
            transform=nodes,
            width=width // step + 2 * _MARGIN + 2,
            height=height // step + 2 * _MARGIN + 2,
            resampling=Resampling.bilinear,
            nodata=np.nan if bare else src.nodata,
            src_nodata=None if bare else src.nodata,
            init_dest_nodata=True,
            dtype="float32",
        )
    )
    terrain = Terrain(dataset, grid, step)
    if not _covers(src, grid, crs):
        raise GridError(
            f"the DEM {src.name} lies elsewhere: its extent is {_extent(src.bounds)} in {crs_name(src.crs)}, the grid "
            f"of the probability is {_extent(grid.boundingbox.bbox)} in {crs_name(crs)}; give the DEM of this place"
        )
    return terrain


def _step(src: rasterio.DatasetReader, grid: GeoBox, crs: CRS) -> int:
    """Pixels of the grid that are nearest to one of the DEM, in the middle of the grid."""
    height, width = grid.shape
    x, y = zip(*(grid.affine @ at for at in ((width / 2, height / 2), (width / 2 + 1, height / 2 + 1))), strict=True)
    there = [~src.transform @ at for at in zip(*transform_points(crs, src.crs, x, y)[:2], strict=True)]
    across = np.hypot(there[1][0] - there[0][0], there[1][1] - there[0][1])  # diagonal of a pixel, in DEM pixels
    if not np.isfinite(across) or across == 0:
        return 1
    return int(np.clip(round(np.sqrt(2) / across), 1, _WIDEST))


def _covers(src: rasterio.DatasetReader, grid: GeoBox, crs: CRS) -> bool:
    """Whether the DEM reaches into the grid."""
    try:
        left, bottom, right, top = transform_bounds(src.crs, crs, *src.bounds, densify_pts=21)
    except rasterio.errors.RasterioError:
        return False
    box = grid.boundingbox
    return left < box.right and right > box.left and bottom < box.top and top > box.bottom


def _extent(bounds: tuple[float, float, float, float]) -> str:
    return " ".join(f"{v:.6g}" if abs(v) < 1000 else f"{v:.0f}" for v in bounds)
