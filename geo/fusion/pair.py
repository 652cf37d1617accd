"""Two orthos looked at together: the finer one as the coarser one would have seen it, pixel on pixel.

Registration compares them so, and fusion takes its statistics from them. A displacement is where the moving
(coarser) image shows a thing, minus where the reference shows it, in metres along x (east) and y (north).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from affine import Affine
from rasterio.windows import Window

from geo.displacement import Displacement
from geo.errors import GridError, RasterError
from geo.fusion.mtf import GAIN, degrade, reach_px, sigma_px
from geo.masks import Quality, measured
from geo.ortho.dem import apply
from geo.ortho.warp import shrink, shrink_flags
from geo.raster import crs_name
from geo.source import FileSource, Source
from geo.windows import spread_windows

#: Pixels of the moving image that must be common, along each side.
SMALLEST = 24

#: Side and number along an axis of the windows whose flags are counted, and the share from which most are flagged.
_SAMPLES, _MOSTLY = (128, 4), 0.5
#: A narrower Gaussian, sampled at pixels, moves what it blurs by some hundredths of a pixel.
_LEAST_SIGMA = 0.7


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
    factor : int
        Blocks of so many pixels of the moving image, along each side, are averaged to one: to look for what lies
        far, or where the moving image is finer than the reference. What is said below of pixels of the moving
        image is then said of these.

    Attributes
    ----------
    overlap : Window
        Pixels of the moving image that the reference covers.
    crs : str
        Of both, as WKT.
    displacement : Displacement
        None at first; counted from the middle of the overlap.
    pixel_m : float
        Side of a pixel of the moving image.
    sigma : float
        Blur of the moving image in pixels of the reference.

    Raises
    ------
    GridError
        The CRSs differ, an image is rotated or flipped, or they hardly overlap.
    """

    def __init__(
        self,
        reference: str | os.PathLike | Source,
        moving: str | os.PathLike | Source,
        opened: ExitStack,
        *,
        gain: float = GAIN,
        factor: int = 1,
    ):
        self.reference, self.moving = (
            opened.enter_context(FileSource(image, zero_fill=True)) if isinstance(image, str | os.PathLike) else image
            for image in (reference, moving)
        )
        for image in (self.reference, self.moving):
            if list(image.bands) == ["quality"]:
                raise RasterError(f"{image.name} holds quality flags; expected the image that it lies beside")
        ref, mov = self.reference.grid, self.moving.grid
        self.names = f"{self.moving.name} and {self.reference.name}"
        if ref.crs is None or mov.crs is None:
            bare = self.reference.name if ref.crs is None else self.moving.name
            raise GridError(f"{bare} has no CRS; expected orthos in one CRS: run geocrack ortho on both images first")
        if ref.crs != mov.crs:
            raise GridError(
                f"{self.reference.name} has the CRS {crs_name(ref.crs)} and {self.moving.name} {crs_name(mov.crs)}; "
                "expected orthos in one CRS: give both the same --crs"
            )
        for image in (self.reference, self.moving):
            if image.grid.affine.b or image.grid.affine.d:
                raise GridError(f"{image.name} is a rotated raster; expected an ortho with rows along x")
            if image.grid.affine.a < 0 or image.grid.affine.e > 0:
                raise GridError(f"{image.name} is a flipped raster; expected an ortho with north up and east right")
        self.crs: str = ref.crs.to_wkt()
        self.to_reference, self.to_map = ~ref.affine, mov.affine @ Affine.scale(factor)
        self.bands, self.factor = len(self.moving.bands), factor
        height, width = mov.shape
        self.overlap = _overlap(ref.affine, ref.shape, self.to_map, (height // factor, width // factor))
        if min(self.overlap.width, self.overlap.height) < SMALLEST:
            raise GridError(
                f"{self.names} overlap by {self.overlap.width} x {self.overlap.height} pixels of the former; "
                f"expected {SMALLEST} x {SMALLEST} at least"
            )
        self.pixel_m = float(self.to_map.a)
        self.sigma = max(sigma_px(self.pixel_m * self.to_reference.a, gain), _LEAST_SIGMA)
        middle = self.overlap.col_off + self.overlap.width / 2, self.overlap.row_off + self.overlap.height / 2
        self.displacement = Displacement(apply(self.to_map, *middle), np.zeros((2, 3)))

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
            True where both are good, and neither is flagged as cloud, shadow or saturated.
        """
        moving, valid, flags = self._moving(window)
        x, y = self.places(window)
        # the displacement hardly changes within a window: columns may depend on x alone and rows on y alone
        at_x, _ = self.displacement.inverse(x, np.full(x.shape, y.mean()))
        _, at_y = self.displacement.inverse(np.full(y.shape, x.mean()), y)
        col, row = self.to_reference.a * at_x + self.to_reference.c, self.to_reference.e * at_y + self.to_reference.f
        margin = reach_px(self.sigma) + 1
        left, top = int(np.floor(col.min())) - margin, int(np.floor(row.min())) - margin
        fine = Window(left, top, int(np.ceil(col.max())) + margin - left, int(np.ceil(row.max())) + margin - top)
        values, good, fine_flags = self.reference.read(fine)
        good &= measured(fine_flags)
        reference, known = degrade(values.mean(axis=0), good, col - left, row - top, self.sigma)
        return reference, moving, valid & measured(flags) & known

    def saturated(self) -> str:
        """Name the images that are mostly flagged as saturated, for the sentence of a failure; empty where none is."""
        told = []
        for image in (self.reference, self.moving):
            height, width = image.grid.shape
            windows = spread_windows(Window(0, 0, width, height), *_SAMPLES)
            flags = np.concatenate([image.read(window)[2].ravel() for window in windows])
            flags = flags[(flags & int(Quality.NODATA)) == 0]
            share = np.count_nonzero(flags & int(Quality.SATURATED)) / max(1, flags.size)
            if share > _MOSTLY:
                told.append(
                    f"{100 * share:.0f} % of {image.name} is flagged as saturated and left out (is its bit "
                    "depth right, or the product rescaled?)"
                )
        return "; ".join(told)

    def places(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Map coordinates of a window's columns (width,) and rows (height,), in the middle of the pixels."""
        x = self.to_map.c + (window.col_off + np.arange(window.width) + 0.5) * self.to_map.a
        y = self.to_map.f + (window.row_off + np.arange(window.height) + 0.5) * self.to_map.e
        return x, y

    def _moving(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values of the moving image, where they are good, and flags."""
        if self.factor == 1:
            return self.moving.read(window)
        values, valid, flags = self.moving.read(Window(*(n * self.factor for n in window.flatten())))
        values, valid = shrink(values, valid, self.factor)
        return values, valid, shrink_flags(flags, self.factor)


def _overlap(ref: Affine, ref_shape: Sequence[int], mov: Affine, shape: tuple[int, int]) -> Window:
    """Window of the moving image that the reference covers."""
    (left, right), (top, bottom) = apply(~mov, *apply(ref, np.array([0, ref_shape[1]]), np.array([0, ref_shape[0]])))
    left, top = max(0, int(np.ceil(left))), max(0, int(np.ceil(top)))
    right, bottom = min(shape[1], int(np.floor(right))), min(shape[0], int(np.floor(bottom)))
    return Window(left, top, max(0, right - left), max(0, bottom - top))
