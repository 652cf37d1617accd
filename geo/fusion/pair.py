"""Two orthos looked at together: the finer one as the coarser one would have seen it, pixel on pixel.

Registration compares them so, and fusion takes its statistics from them. A displacement is where the moving
(coarser) image shows a thing, minus where the reference shows it, in metres along x (east) and y (north).
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.errors import GridError
from geo.fusion.mtf import GAIN, degrade, reach_px, sigma_px
from geo.masks import seen
from geo.ortho.dem import Number, apply
from geo.raster import crs_name
from geo.source import FileSource, Source

#: Pixels of the moving image that must be common, along each side.
SMALLEST = 24


class Pair:
    """Two orthos in one CRS, and the model of their displacement.

    Parameters
    ----------
    reference : path or Source
        The finer image (PAN), or one of the same resolution.
    moving : path or Source
        The coarser image (MSS).
    opened : ExitStack
        Closes the files.
    gain : float
        MTF of the moving image at its Nyquist frequency.

    Attributes
    ----------
    overlap : Window
        Pixels of the moving image that the reference covers.
    origin : (float, float)
        Map coordinates that the coefficients are counted from.
    coefficients : ndarray of float64, shape (2, 3)
        Of the displacement, see ``evaluate``; none at first.
    pixel_m : float
        Side of a pixel of the moving image.
    sigma : float
        Blur of the moving image in pixels of the reference.

    Raises
    ------
    GridError
        The CRSs differ, an image is rotated, or they hardly overlap.
    """

    def __init__(
        self,
        reference: str | os.PathLike | Source,
        moving: str | os.PathLike | Source,
        opened: ExitStack,
        *,
        gain: float = GAIN,
    ):
        self.reference, self.moving = (
            opened.enter_context(FileSource(image)) if isinstance(image, str | os.PathLike) else image
            for image in (reference, moving)
        )
        ref, mov = self.reference.grid, self.moving.grid
        self.names = f"{self.moving.name} and {self.reference.name}"
        if ref.crs is None or ref.crs != mov.crs:
            raise GridError(
                f"{self.reference.name} has the CRS {crs_name(ref.crs)} and {self.moving.name} {crs_name(mov.crs)}; "
                "expected orthos in one CRS: give both the same --crs"
            )
        for image in (self.reference, self.moving):
            if image.grid.affine.b or image.grid.affine.d:
                raise GridError(f"{image.name} is a rotated raster; expected an ortho with rows along x")
        self.to_reference, self.to_map = ~ref.affine, mov.affine
        self.bands = len(self.moving.bands)
        self.overlap = _overlap(ref, mov)
        if min(self.overlap.width, self.overlap.height) < SMALLEST:
            raise GridError(
                f"{self.names} overlap by {self.overlap.width} x {self.overlap.height} pixels of the former; "
                f"expected {SMALLEST} x {SMALLEST} at least"
            )
        self.pixel_m = float(self.to_map.a)
        self.sigma = sigma_px(self.pixel_m * self.to_reference.a, gain)
        middle = self.overlap.col_off + self.overlap.width / 2, self.overlap.row_off + self.overlap.height / 2
        self.origin: tuple[float, float] = apply(self.to_map, *middle)
        self.coefficients = np.zeros((2, 3))

    def patches(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a window of the moving image, and the reference on its pixels, displaced by the model.

        Parameters
        ----------
        window : Window

        Returns
        -------
        reference : ndarray of float32, shape (height, width)
            Mean of its bands, blurred.
        moving : ndarray of float32, shape (bands, height, width)
        valid : ndarray of bool, shape (height, width)
            True where both are good and no cloud or shadow is flagged.
        """
        moving, valid, flags = self.moving.read(window)
        x0, y0 = apply(self.to_map, window.col_off, window.row_off)
        middle = x0 + window.width / 2 * self.to_map.a, y0 + window.height / 2 * self.to_map.e
        dx, dy = evaluate(self.coefficients, self.origin, *middle)
        # axis-aligned grids: columns depend on x alone
        col = self.to_reference.a * (x0 - dx + (np.arange(window.width) + 0.5) * self.to_map.a) + self.to_reference.c
        row = self.to_reference.e * (y0 - dy + (np.arange(window.height) + 0.5) * self.to_map.e) + self.to_reference.f
        margin = reach_px(self.sigma) + 1
        left, top = int(np.floor(col[0])) - margin, int(np.floor(row[0])) - margin
        fine = Window(left, top, int(np.ceil(col[-1])) + margin - left, int(np.ceil(row[-1])) + margin - top)
        values, good, fine_flags = self.reference.read(fine)
        reference, known = degrade(values.mean(axis=0), good & seen(fine_flags), col - left, row - top, self.sigma)
        return reference, moving, valid & seen(flags) & known


def evaluate(coefficients: np.ndarray, origin: tuple[float, float], x: Number, y: Number) -> tuple[Number, Number]:
    """Displacement at points of the map, metres: ``dx = c00 + c01 (x - x0) + c02 (y - y0)``, and ``dy`` likewise."""
    u, v = x - origin[0], y - origin[1]
    (a, b, c), (d, e, f) = coefficients
    return a + b * u + c * v, d + e * u + f * v


def _overlap(ref: GeoBox, mov: GeoBox) -> Window:
    """Window of the moving image that the reference covers."""
    (left, right), (top, bottom) = apply(
        ~mov.affine, *apply(ref.affine, np.array([0, ref.shape[1]]), np.array([0, ref.shape[0]]))
    )
    left, top = max(0, int(np.ceil(left))), max(0, int(np.ceil(top)))
    right, bottom = min(mov.shape[1], int(np.floor(right))), min(mov.shape[0], int(np.floor(bottom)))
    return Window(left, top, max(0, right - left), max(0, bottom - top))


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
