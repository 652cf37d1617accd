"""A PAN window with what lies around it, and how any method sharpens it.

Scenes, samples of an evaluation and small arrays in tests all come through here, so they get the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.windows import Window

from geo.fusion import Method
from geo.fusion.statistics import Statistics
from geo.ortho.warp import resample
from geo.windows import clip, grow, slices


@dataclass(frozen=True)
class Around:
    """A window of PAN, its neighbourhood, and the MSS that shows the same ground.

    Attributes
    ----------
    pan : ndarray of float32, shape (height + 2 margin, width + 2 margin)
        What it holds where not valid does not matter.
    pan_valid : ndarray of bool, same shape
        False outside the scene too.
    margin : int
        Pixels around the window; the method's reach at least.
    mss : ndarray of float32, shape (bands, rows, cols)
        On its own grid, with ``geo.ortho.warp.reach("cubic")`` pixels around the window.
    mss_valid : ndarray of bool, shape (rows, cols)
    col, row : ndarray of float
        Where the window's pixels lie in ``mss``, GDAL pixel coordinates; broadcast to (height, width).
    to_mss : Affine
        The same as a transform of the window's pixel coordinates, for the way back.
    sigma : float
        Blur of MSS in PAN pixels.
    """

    pan: np.ndarray
    pan_valid: np.ndarray
    margin: int
    mss: np.ndarray
    mss_valid: np.ndarray
    col: np.ndarray
    row: np.ndarray
    to_mss: Affine
    sigma: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the window."""
        height, width = self.pan.shape
        return height - 2 * self.margin, width - 2 * self.margin

    @property
    def ratio(self) -> float:
        """PAN pixels along an MSS pixel."""
        return float(1 / np.hypot(self.to_mss.a, self.to_mss.d))

    def inner(self, wide: np.ndarray) -> np.ndarray:
        """Cut the margin off an array of PAN's shape."""
        height, width = self.shape
        return wide[self.margin : self.margin + height, self.margin : self.margin + width]

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """``col`` and ``row`` as float32 arrays of the window's shape."""
        col, row = (
            np.ascontiguousarray(np.broadcast_to(a.astype(np.float32, copy=False), self.shape))
            for a in (self.col, self.row)
        )
        return col, row


def aligned(
    mss: np.ndarray, pan: np.ndarray, *, ratio: int, margin: int, sigma: float, window: Window | None = None
) -> Around:
    """Put together a window of images whose grids share their upper left corner.

    Parameters
    ----------
    mss : ndarray of float, shape (bands, height / ratio, width / ratio)
        All of it; NaN where not valid.
    pan : ndarray of float, shape (height, width)
        All of it; NaN where not valid.
    ratio, margin, sigma
        See ``Around``.
    window : Window, optional
        Of PAN's pixels; all of them where absent.
    """
    window = window or Window(0, 0, pan.shape[1], pan.shape[0])
    wide, inside = grow(window, margin), clip(grow(window, margin), pan.shape)
    near = np.full((wide.height, wide.width), np.nan, np.float32)
    near[slices(inside, wide)] = pan[slices(inside)]
    return Around(
        pan=near,
        pan_valid=np.isfinite(near),
        margin=margin,
        mss=mss.astype(np.float32),
        mss_valid=np.isfinite(mss).all(axis=0),
        col=(window.col_off + np.arange(window.width) + 0.5)[None, :] / ratio,
        row=(window.row_off + np.arange(window.height) + 0.5)[:, None] / ratio,
        to_mss=Affine.scale(1 / ratio) @ Affine.translation(window.col_off, window.row_off),
        sigma=sigma,
    )


def sharpen(method: Method, around: Around, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Sharpen a window.

    Parameters
    ----------
    method : Method
    around : Around
        Its margin is ``method.reach_px`` at least.
    statistics : Statistics
        Of the whole scene, bands in the order of ``around.mss``.

    Returns
    -------
    fused : ndarray of float32, shape (bands, height, width)
        NaN where not good.
    good : ndarray of bool, shape (height, width)
        Where PAN is valid and MSS can be interpolated.
    """
    mss, good = resample(around.mss, around.mss_valid, around.col, around.row, "cubic")
    good &= around.inner(around.pan_valid)
    if method.interpolate is not None:
        mss = method.interpolate(around)
    pan = around.inner(around.pan)
    low = pan if method.low is None else method.low(around)
    fused = method.fuse(mss, pan, low, statistics)
    if not good.all():
        fused[:, ~good] = np.nan
    return fused, good
