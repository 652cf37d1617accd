"""From the output grid back into the image: exact at nodes, interpolated between, and proven near enough.

Within a few dozen pixels a position in the image is nearly linear in easting and northing, and nearly linear in
height; the height itself is not. So camera model and map projection are evaluated at nodes, together with their
derivative by height, and each pixel adds its own height: ``col = base(x, y) + slope(x, y) * height(x, y)``.

What "nearly" means is then measured in each cell between four nodes, against the exact model. Two errors remain
there: bending between the nodes, largest in the cell's middle, and bending over height, largest at a node for the
height farthest from the node's own. Both are evaluated for the cell's lowest and highest ground. Cells where one of
them is over half of ``BOUND`` - under cliffs, beside voids, for steep views - are computed exactly, pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from affine import Affine
from pyproj import CRS
from rasterio.windows import Window

from geo.errors import GridError
from geo.geobox import GeoBox
from geo.ortho.dem import LON_LAT, Dem, apply, around, degrees, horizontal, transform
from geo.ortho.rpc import CameraModel, outline

#: Output pixels between nodes.
NODE_STEP = 32
#: Largest error of a position in image pixels, against the exact model at the pixel's own height.
BOUND = 0.1
#: Image pixels between points of the image's edge whose ground decides the extent of the ortho.
_EDGE_STEP = 8
#: Metres up and down for the derivative by height.
_CLIMB = 25.0


@dataclass(frozen=True)
class Positions:
    """Where the pixels of an output window lie in the image.

    Attributes
    ----------
    col, row : ndarray of float32, shape of the window
        GDAL pixel coordinates counted from ``origin``; NaN where there is no height.
    origin : (int, int)
        Column and row of the image.
    """

    col: np.ndarray
    row: np.ndarray
    origin: tuple[int, int]


class Geometry(Protocol):
    """What a warp needs to know about an image's place on the ground."""

    def to_ground(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Longitude, latitude and whether the height is known, of pixel coordinates."""

    def positions(self, geobox: GeoBox, window: Window) -> Positions:
        """Positions of an output window's pixels in the image."""


class RpcGeometry:
    """An image in sensor geometry, with its camera model over a DEM.

    Parameters
    ----------
    camera : CameraModel
    dem : Dem
    crs : pyproj CRS
        Of the output grid.
    """

    def __init__(self, camera: CameraModel, dem: Dem, crs: CRS):
        self.camera, self.dem, self.crs = camera, dem, crs

    def to_ground(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the rays of pixels meet the DEM.

        Where the DEM has no height, the ray is followed to the last one known.

        Returns
        -------
        lon, lat : ndarray of float64
            Degrees.
        known : ndarray of bool
            True where the DEM has a height.
        """
        start = self.dem.typical_height
        height = np.full(np.shape(col), start if np.isfinite(start) else self.camera.mean_height)
        known = np.zeros(np.shape(col), bool)
        for iteration in range(15):
            lon, lat = self.camera.to_ground(col, row, height)
            found = self.dem.heights(lon, lat).astype(float)
            known = np.isfinite(found)
            # slopes steeper than the ray make plain iteration swing: halve its steps after a while
            change = np.where(known, found - height, 0.0) * (1.0 if iteration < 5 else 0.5)
            height = height + change
            if np.abs(change).max() < 0.5:
                break
        lon, lat = self.camera.to_ground(col, row, height)
        return lon, lat, known

    def positions(self, geobox: GeoBox, window: Window) -> Positions:
        """Positions of an output window's pixels in the image, each at its own height, to ``BOUND``."""
        x, y, crop = _nodes(geobox, window)
        lon, lat = transform(self.crs, LON_LAT, x, y)
        dem_col, dem_row = self.dem.pixel_coordinates(lon, lat, LON_LAT)
        at_nodes = self.dem.sample(dem_col, dem_row).astype(float)
        known = np.isfinite(at_nodes)
        height = np.where(known, at_nodes, np.median(at_nodes[known]) if known.any() else self.camera.mean_height)
        col_high, row_high = self.camera.to_image(lon, lat, height + _CLIMB)
        col_low, row_low = self.camera.to_image(lon, lat, height - _CLIMB)
        slope_col, slope_row = (col_high - col_low) / (2 * _CLIMB), (row_high - row_low) / (2 * _CLIMB)
        col, row = (col_high + col_low) / 2, (row_high + row_low) / 2
        origin = _origin(col, row)
        heights = self.dem.sample_smooth(dem_col, dem_row, lambda nodes: _to_pixels(nodes, crop))
        base_col, base_row = col - origin[0] - slope_col * height, row - origin[1] - slope_row * height
        pixel_col = _to_pixels(slope_col.astype(np.float32), crop)
        pixel_col *= heights
        pixel_col += _to_pixels(base_col.astype(np.float32), crop)
        pixel_row = _to_pixels(slope_row.astype(np.float32), crop)
        pixel_row *= heights
        pixel_row += _to_pixels(base_row.astype(np.float32), crop)
        made = Positions(pixel_col, pixel_row, origin)
        lattice = _Lattice(x, y, lon, lat, dem_col, dem_row, (base_col, slope_col), (base_row, slope_row))
        for cell in zip(*np.nonzero(self._too_far(lattice, heights, crop, origin)), strict=True):
            self._exactly(made, geobox, window, _pixels_of(cell, crop))
        return made

    def _too_far(
        self, at: _Lattice, heights: np.ndarray, crop: tuple[slice, slice], origin: tuple[int, int]
    ) -> np.ndarray:
        """Cells between nodes, shape of the nodes less one, in which an error over ``BOUND`` may hide."""
        low, high = _range_in_cells(heights, crop, at.x.shape)
        if not np.isfinite(low).any():
            return np.zeros(low.shape, bool)
        lon, lat = transform(self.crs, LON_LAT, _middles(at.x), _middles(at.y))
        dem_col, dem_row = self.dem.pixel_coordinates(lon, lat, LON_LAT)
        # heights are looked up at interpolated places of the DEM; how much that moves them, the relief says
        off = np.hypot(_middles(at.dem_col) - dem_col, _middles(at.dem_row) - dem_row)
        across = np.hypot(*(np.diff(v, axis=1)[:-1] for v in (at.dem_col, at.dem_row)))
        wrong_by = off * (high - low) * np.maximum(1, 1 / np.maximum(across, 1e-9))
        error = np.zeros(low.shape)
        for ground in (low, high):
            col, row = self.camera.to_image(lon, lat, ground)
            bent = [
                _middles(base) + _middles(slope) * ground + start - exact
                for (base, slope), start, exact in zip((at.col, at.row), origin, (col, row), strict=True)
            ]
            error = np.fmax(error, np.hypot(*bent))
        error += wrong_by * np.hypot(_middles(at.col[1]), _middles(at.row[1]))
        around_low, around_high = _of_cells_around(low, np.fmin), _of_cells_around(high, np.fmax)
        climbed = np.zeros(at.x.shape)
        for ground in (around_low, around_high):
            col, row = self.camera.to_image(at.lon, at.lat, ground)
            bent = [
                base + slope * ground + start - exact
                for (base, slope), start, exact in zip((at.col, at.row), origin, (col, row), strict=True)
            ]
            climbed = np.fmax(climbed, np.hypot(*bent))
        worst = np.fmax.reduce([climbed[:-1, :-1], climbed[:-1, 1:], climbed[1:, :-1], climbed[1:, 1:]])
        # a node without a place in the image leaves its cells without positions: there each pixel is asked itself
        lost = ~np.isfinite(_middles(at.col[0]) + _middles(at.row[0]))
        return np.isfinite(low) & ((error > BOUND / 2) | (worst > BOUND / 2) | lost)

    def _exactly(self, made: Positions, geobox: GeoBox, window: Window, cell: tuple[slice, slice]) -> None:
        """Replace the positions of some pixels by the camera model's own."""
        lon, lat = transform(self.crs, LON_LAT, *_places(geobox, window, cell))
        heights = self.dem.heights(lon, lat).astype(float)
        col, row = self.camera.to_image(lon, lat, heights)
        made.col[cell], made.row[cell] = col - made.origin[0], row - made.origin[1]


@dataclass(frozen=True)
class _Lattice:
    """What is known at the nodes of a window; of column and row, the base (from the origin) and the slope."""

    x: np.ndarray
    y: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    dem_col: np.ndarray
    dem_row: np.ndarray
    col: tuple[np.ndarray, np.ndarray]
    row: tuple[np.ndarray, np.ndarray]


class MapGeometry:
    """An image that has a CRS and a geotransform already.

    Parameters
    ----------
    transform : Affine
    shape : (int, int)
        Height and width of the image in pixels.
    image_crs : CRS
    crs : pyproj CRS
        Of the output grid.
    """

    def __init__(self, transform: Affine, shape: tuple[int, int], image_crs: CRS, crs: CRS):
        self.transform, self.image_crs, self.crs = transform, horizontal(image_crs), crs
        self.middle = apply(transform, shape[1] / 2, shape[0] / 2)[0]

    def to_ground(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Longitude and latitude of pixels; no height is needed, so all are known."""
        x, y = apply(self.transform, np.asarray(col, float), np.asarray(row, float))
        lon, lat = transform(self.image_crs, LON_LAT, x, y)
        return lon, lat, np.ones(lon.shape, bool)

    def positions(self, geobox: GeoBox, window: Window) -> Positions:
        """Positions of an output window's pixels in the image."""
        x, y, crop = _nodes(geobox, window)
        col, row = self._to_image(x, y)
        origin = _origin(col, row)
        local_col, local_row = (col - origin[0]).astype(np.float32), (row - origin[1]).astype(np.float32)
        made = Positions(_to_pixels(local_col, crop), _to_pixels(local_row, crop), origin)
        exact = self._to_image(_middles(x), _middles(y))
        bent = np.hypot(_middles(col) - exact[0], _middles(row) - exact[1])
        for cell in zip(*np.nonzero(~(bent <= BOUND)), strict=True):  # also where a node has no place
            part = _pixels_of(cell, crop)
            pixel_col, pixel_row = self._to_image(*_places(geobox, window, part))
            made.col[part], made.row[part] = pixel_col - origin[0], pixel_row - origin[1]
        return made

    def _to_image(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates of places of the output; NaN where the image's CRS has none."""
        x, y = transform(self.crs, self.image_crs, x, y)
        if self.image_crs.is_geographic:
            x = around(x, self.middle)
        return apply(~self.transform, x, y)


def lattice(shape: tuple[int, int], points: int = 65) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates spread evenly over an image, edges included; shape (points, points) each."""
    height, width = shape
    return np.meshgrid(np.linspace(0, width, points), np.linspace(0, height, points))


def ground_cover(geometry: Geometry, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Points of the ground that an image shows, and the share of it whose height is known.

    Parameters
    ----------
    geometry : Geometry
    shape : (int, int)
        Height and width of the image in pixels.

    Returns
    -------
    lon, lat : ndarray of float64, one-dimensional
        Degrees, spread evenly over the image, and close together along its edge, whose relief decides the extent.
    share : float

    Raises
    ------
    GridError
        No height is known, or the image has no place on the ground.
    """
    within = lattice(shape)
    places = (np.concatenate([a.ravel(), b]) for a, b in zip(within, outline(shape, _EDGE_STEP), strict=True))
    lon, lat, known = geometry.to_ground(*places)
    found = np.isfinite(lon) & np.isfinite(lat)
    evenly = np.arange(len(lon)) < within[0].size
    if not found.any():
        raise GridError("the camera model gives no place on the ground for this image; its RPC is damaged")
    if not known.any() and isinstance(geometry, RpcGeometry):
        dem = geometry.dem
        place = degrees(lon[found].min(), lat[found].min(), lon[found].max(), lat[found].max())
        raise GridError(
            f"the DEM {dem.path} holds no heights for the scene: it covers {dem.extent()}, the scene lies at {place}; "
            "give a DEM of that place"
        )
    return lon[found], lat[found], float(known[found & evenly].mean())


def _nodes(geobox: GeoBox, window: Window) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """Nodes around a window, on a lattice that all windows share.

    A node is the centre of a block of ``NODE_STEP`` pixels, with one block more on each side; ``cv2.resize``
    interpolates linearly between just such centres.

    Returns
    -------
    x, y : ndarray of float64
        Map coordinates of the nodes.
    crop : (slice, slice)
        The window's pixels within the blocks.
    """
    axes, crop = [], []
    for start, length in ((window.row_off, window.height), (window.col_off, window.width)):
        first, last = start // NODE_STEP - 1, -(-(start + length) // NODE_STEP) + 1
        axes.append((np.arange(first, last) + 0.5) * NODE_STEP)
        crop.append(slice(start - first * NODE_STEP, start - first * NODE_STEP + length))
    col, row = np.meshgrid(axes[1], axes[0])
    x, y = apply(geobox.affine, col, row)
    return x, y, (crop[0], crop[1])


def _to_pixels(nodes: np.ndarray, crop: tuple[slice, slice]) -> np.ndarray:
    """Values of nodes interpolated linearly to the pixels of the window."""
    rows, cols = nodes.shape
    size = cols * NODE_STEP, rows * NODE_STEP
    return cv2.resize(nodes, size, interpolation=cv2.INTER_LINEAR)[crop]


def _pixels_of(cell: tuple[int, int], crop: tuple[slice, slice]) -> tuple[slice, slice]:
    """Pixels of the window that lie in a cell, from the node of its first corner to the next ones."""
    first = (NODE_STEP // 2 + index * NODE_STEP - part.start for index, part in zip(cell, crop, strict=True))
    lengths = (part.stop - part.start for part in crop)
    rows, cols = (
        slice(max(0, start), max(0, min(start + NODE_STEP, length)))
        for start, length in zip(first, lengths, strict=True)
    )
    return rows, cols


def _places(geobox: GeoBox, window: Window, part: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates of the centres of some pixels of a window."""
    rows, cols = (np.arange(s.start, s.stop) + 0.5 for s in part)
    col, row = np.meshgrid(cols + window.col_off, rows + window.row_off)
    return apply(geobox.affine, col, row)


def _range_in_cells(
    heights: np.ndarray, crop: tuple[slice, slice], nodes: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of the pixels in each cell; NaN where it has none with a height."""
    rows, cols = (n - 1 for n in nodes)
    whole = np.full((rows * NODE_STEP, cols * NODE_STEP), np.nan, np.float32)
    half = NODE_STEP // 2
    whole[tuple(slice(c.start - half, c.stop - half) for c in crop)] = heights
    cells = whole.reshape(rows, NODE_STEP, cols, NODE_STEP)
    low, high = (f.reduce(f.reduce(cells, axis=1), axis=2) for f in (np.fmin, np.fmax))
    return low.astype(float), high.astype(float)


def _middles(nodes: np.ndarray) -> np.ndarray:
    """Value that linear interpolation gives in the middle of each cell."""
    return (nodes[:-1, :-1] + nodes[:-1, 1:] + nodes[1:, :-1] + nodes[1:, 1:]) / 4


def _of_cells_around(cells: np.ndarray, join: np.ufunc) -> np.ndarray:
    """Values of the four cells at each node, joined."""
    wide = np.pad(cells, 1, constant_values=np.nan)
    return join.reduce([wide[:-1, :-1], wide[:-1, 1:], wide[1:, :-1], wide[1:, 1:]])


def _origin(col: np.ndarray, row: np.ndarray) -> tuple[int, int]:
    """Whole pixel near the positions, so that float32 keeps their fractions."""
    found = np.isfinite(col) & np.isfinite(row)
    if not found.any():
        return 0, 0
    return int(np.floor(col[found].min())), int(np.floor(row[found].min()))
