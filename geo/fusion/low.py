"""Ways to blur PAN for a window: what methods take for PAN as MSS would have seen it.

Each gives ``pan_low``, float32 (height, width), NaN where PAN is not valid, and has its reach.
"""

from __future__ import annotations

import cv2
import numpy as np

from geo.fusion import mtf
from geo.fusion.window import Around
from geo.ortho.warp import KERNELS, resample

#: MSS pixels that cubic interpolation looks at on each side, and that stand in for nodata beside them.
_CUBIC = 2 * (KERNELS["cubic"][1] + 1) + 1
#: Weight that good PAN pixels must have in the mean that stands for a pixel of MSS; a quarter is left at a corner.
_KNOWN = 0.2
#: MSS pixels up to which positions are rounded, so that they differ from an affine by no more.
_ROUNDING = 0.02


def gaussian(around: Around) -> np.ndarray:
    """PAN blurred by the MTF of MSS, on its own grid."""
    return around.inner(mtf.lowpass(around.pan, around.pan_valid, around.sigma))


def gaussian_reach(ratio: float, sigma: float) -> int:
    """Pixels that ``gaussian`` looks at on each side."""
    return mtf.reach_px(sigma)


def box_side(ratio: float) -> int:
    """Side of ``box`` in PAN pixels, the odd number near 1.75 MSS pixels: 5 for a ratio of 3, 7 for one of 4."""
    return 2 * max(1, round(0.875 * ratio - 0.5)) + 1


def box(around: Around) -> np.ndarray:
    """Mean of PAN in a square of ``box_side`` pixels; nodata has no weight."""
    side = (box_side(around.ratio),) * 2
    good = around.pan_valid
    total, weight = (
        cv2.boxFilter(a, -1, side, normalize=True, borderType=cv2.BORDER_CONSTANT)
        for a in (np.where(good, around.pan, np.float32(0)), good.astype(np.float32))
    )
    result = np.full_like(total, np.nan)
    np.divide(total, weight, out=result, where=good)
    return around.inner(result)


def box_reach(ratio: float, sigma: float) -> int:
    """Pixels that ``box`` looks at on each side."""
    return box_side(ratio) // 2


def pyramid(around: Around) -> np.ndarray:
    """PAN as MSS would have seen it, brought back as MSS is: blurred, sampled at MSS's pixels, interpolated.

    This is a level of the generalised Laplacian pyramid. Whatever sampling and interpolation do to MSS they do to
    this image too, so that it does not enter the detail.
    """
    coarse, known = _coarse(around)
    low, good = resample(coarse[None], known, around.col, around.row, "cubic")
    pan_low, valid = low[0], around.inner(around.pan_valid)
    missing = valid & ~good
    if missing.any():  # at the scene's edges there is nothing to interpolate between: the blurred image stands in
        at = _box(missing)
        pan_low[at] = np.where(missing[at], _gaussian_at(around, at), pan_low[at])
    return pan_low if valid.all() else np.where(valid, pan_low, np.float32(np.nan))


def _box(some: np.ndarray) -> tuple[slice, slice]:
    """Smallest part of an array that holds all that is true, of which there is some."""
    rows, cols = (np.flatnonzero(some.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def _gaussian_at(around: Around, at: tuple[slice, slice]) -> np.ndarray:
    """Give what ``gaussian`` gives in a part of the window, without the rest."""
    margin, reach = around.margin, mtf.reach_px(around.sigma)
    wide = tuple(slice(s.start + margin - reach, s.stop + margin + reach) for s in at)
    inner = tuple(slice(reach, reach + s.stop - s.start) for s in at)
    blurred: np.ndarray = mtf.lowpass(around.pan[wide], around.pan_valid[wide], around.sigma)[inner]
    return blurred


def _coarse(around: Around) -> tuple[np.ndarray, np.ndarray]:
    """PAN as MSS would have seen it, on MSS's grid, and where it is known."""
    col, row = _centres(around)
    if col.shape[0] == row.shape[1] == 1:
        return mtf.degrade(around.pan, around.pan_valid, col[0], row[:, 0], around.sigma, least=_KNOWN)
    blurred = mtf.lowpass(around.pan, around.pan_valid, around.sigma)
    coarse, known = resample(blurred[None], around.pan_valid, col, row, "cubic")
    return coarse[0], known


def _centres(around: Around) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of MSS's pixels lie in PAN with its margin; shapes as ``geo.ortho.warp.resample`` wants."""
    rows, cols = around.mss_valid.shape
    back = ~around.to_mss
    if around.col.shape[0] == around.row.shape[1] == 1:  # the grids are parallel
        across, down = (np.arange(cols) + 0.5)[None, :], (np.arange(rows) + 0.5)[:, None]
        return back.a * across + back.c + around.margin, back.e * down + back.f + around.margin
    u, v = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    x, y = back.a * u + back.b * v + back.c, back.d * u + back.e * v + back.f
    height, width = around.shape
    across, down = (np.arange(width) + 0.5)[None, :], (np.arange(height) + 0.5)[:, None]
    a = around.to_mss
    bent = [
        np.broadcast_to(place - plain, around.shape).astype(np.float32)
        for place, plain in (
            (around.col, a.a * across + a.b * down + a.c),
            (around.row, a.d * across + a.e * down + a.f),
        )
    ]
    if max(float(np.abs(b).max()) for b in bent) > _ROUNDING:
        # a local model bends the grid: go back by what it adds at the place found so far
        for _ in range(2):
            at_x, at_y = (x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32)
            du, dv = (cv2.remap(b, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for b in bent)
            x = back.a * (u - du) + back.b * (v - dv) + back.c
            y = back.d * (u - du) + back.e * (v - dv) + back.f
    return (x + around.margin).astype(np.float32), (y + around.margin).astype(np.float32)


def pyramid_reach(ratio: float, sigma: float) -> int:
    """Pixels that ``pyramid`` looks at on each side."""
    return int(np.ceil(_CUBIC * ratio)) + mtf.reach_px(sigma) + _CUBIC
