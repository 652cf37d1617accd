"""Sample windows of a registered pair: so much of a scene as tells how a fusion does, in bounded memory and time.

Windows are counted in MSS pixels and spread evenly over what both images show. A small scene is one window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from rasterio.windows import Window

from geo.coregister import Registration
from geo.errors import GridError
from geo.fusion import mtf
from geo.fusion.pair import Pair
from geo.fusion.statistics import Statistics
from geo.fusion.wald import degrade
from geo.fusion.window import Around, aligned
from geo.masks import measured
from geo.ortho.dem import apply
from geo.ortho.warp import reach
from geo.stream import stream
from geo.windows import grow, spread_windows

#: Side of a window in MSS pixels, and how many there are along one axis at most.
SIDE, MOST = 320, 3
#: A ratio this near to a whole number is one; blocks of both grids then cover the same ground.
_WHOLE = 0.01


def windows(pair: Pair, *, side: int = SIDE, most: int = MOST, multiple: int = 1) -> list[Window]:
    """Spread windows over the MSS pixels that PAN covers, their sides cut to whole multiples.

    A scene that fits in ``most`` windows along an axis is cut into as many as it takes, all of it.

    Raises
    ------
    GridError
        The images have too little ground in common.
    """
    axes = []
    for first, length in ((pair.overlap.row_off, pair.overlap.height), (pair.overlap.col_off, pair.overlap.width)):
        count = min(most, -(-length // side))
        size = min(side, length // count) // multiple * multiple
        axes.append([(first + round(start), size) for start in np.linspace(0, length - size, count)])
    if not all(size for axis in axes for _, size in axis):
        raise GridError(f"{pair.names} overlap by less than {multiple} pixels of the former; expected larger images")
    return [Window(col, row, width, height) for row, height in axes[0] for col, width in axes[1]]


def statistics(pair: Pair, workers: int, *, side: int = 256, most: int = 8) -> Statistics:
    """Moments of the scene from windows spread over it, bands in the order of MSS.

    Raises
    ------
    GridError
        There is no good pixel in common.
    """
    spread = spread_windows(pair.overlap, side, most)
    found = Statistics.gather(result for _, result in stream(pair.patches, spread, workers=workers))
    if not found.count:
        raise GridError(f"{pair.names} have no good pixel in common; expected two views of the same ground")
    return found


def register(pair: Pair, registration: Registration | None) -> None:
    """Give a pair the displacement that was measured; none where absent."""
    if registration is not None:
        pair.displacement = registration.displacement


def pan_to_mss(pair: Pair, window: Window) -> Affine:
    """Transform from PAN's pixel coordinates to those of MSS, the displacement included, about a window of MSS."""
    u = window.col_off + window.width * np.array([0, 1, 0, 1, 0.5])
    v = window.row_off + window.height * np.array([0, 0, 1, 1, 0.5])
    x, y = apply(pair.to_map, u, v)
    dx, dy = pair.displacement(x, y)
    col, row = apply(pair.to_reference, x, y)
    to_u, to_v = apply(~pair.to_map, x + dx, y + dy)
    design = np.column_stack([col, row, np.ones(len(col))])
    (a, b, c), (d, e, f) = np.linalg.lstsq(design, np.column_stack([to_u, to_v]), rcond=None)[0].T
    return Affine(a, b, c, d, e, f)


def ratio_of(pair: Pair) -> float:
    """PAN pixels along an MSS pixel."""
    return float(pair.to_map.a * pair.to_reference.a)


def whole_ratio(pair: Pair) -> int:
    """Give the nearest whole ratio, 2 at least."""
    return max(2, round(ratio_of(pair)))


def is_whole(pair: Pair) -> bool:
    """Whether MSS pixels hold whole PAN pixels."""
    return abs(ratio_of(pair) - whole_ratio(pair)) < _WHOLE


@dataclass(frozen=True)
class Sample:
    """A window of both images at their own scale.

    Attributes
    ----------
    around : Around
        PAN's window, ``rim`` pixels larger on each side than the ground of the MSS window.
    rim : int
    shown : ndarray of bool, shape (height, width)
        Of the whole PAN window: valid, and no cloud or shadow.
    mss : ndarray of float32, shape (bands, rows, cols)
    pan_low : ndarray of float32, shape (rows, cols)
        PAN as MSS would have seen it.
    valid : ndarray of bool, shape (rows, cols)
        True where both are good and no cloud or shadow is flagged.
    col, row : ndarray of float64, shapes (cols,) and (rows,)
        Where the MSS pixels lie in PAN's window, GDAL pixel coordinates.
    """

    around: Around
    rim: int
    shown: np.ndarray
    mss: np.ndarray
    pan_low: np.ndarray
    valid: np.ndarray
    col: np.ndarray
    row: np.ndarray

    def trim(self, wide: np.ndarray) -> np.ndarray:
        """Cut the rim off the last two axes."""
        return wide[..., self.rim : wide.shape[-2] - self.rim, self.rim : wide.shape[-1] - self.rim]

    def degraded(self, fused: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See a fused window, its rim included, as MSS would: values on the MSS window, and where they are good."""
        bands = [mtf.degrade(band, good, self.col, self.row, self.around.sigma) for band in fused]
        return np.stack([band for band, _ in bands]), bands[0][1]


def pan_window(pair: Pair, window: Window, rim: int) -> tuple[Window, np.ndarray, np.ndarray]:
    """Give PAN's window of an MSS window's ground, with a rim, and where the MSS pixels lie in it.

    Returns
    -------
    window : Window
        It may leave PAN.
    col, row : ndarray of float64
        GDAL pixel coordinates in it. A model that turns or shears is taken at the window's middle.
    """
    back, side = ~pan_to_mss(pair, window), whole_ratio(pair)
    u, v = window.col_off + np.arange(window.width) + 0.5, window.row_off + np.arange(window.height) + 0.5
    col, _ = apply(back, u, np.full(len(u), v.mean()))
    _, row = apply(back, np.full(len(v), u.mean()), v)
    left, top = (round(float(at[0]) - side / 2) - rim for at in (col, row))
    right, bottom = left + window.width * side + 2 * rim, top + window.height * side + 2 * rim
    return Window(left, top, right - left, bottom - top), col - left, row - top


def sample(pair: Pair, window: Window, *, margin: int) -> Sample:
    """Read an MSS window with the PAN of its ground.

    Parameters
    ----------
    pair : Pair
    window : Window
        Of MSS.
    margin : int
        Reach of the methods that will look at it.
    """
    rim = mtf.reach_px(pair.sigma) + 2
    fine, col, row = pan_window(pair, window, rim)
    pan, pan_valid, pan_flags = pair.reference.read(grow(fine, margin))
    halo = reach("cubic")
    wide = grow(window, halo + -(-rim // whole_ratio(pair)) + 1)
    values, valid, _ = pair.moving.read(wide)
    to_mss = (
        Affine.translation(-wide.col_off, -wide.row_off)
        @ pan_to_mss(pair, window)
        @ Affine.translation(fine.col_off, fine.row_off)
    )
    u, v = (np.arange(fine.width) + 0.5)[None, :], (np.arange(fine.height) + 0.5)[:, None]
    around = Around(
        pan=pan[0],
        pan_valid=pan_valid,
        margin=margin,
        mss=values,
        mss_valid=valid,
        col=to_mss.a * u + to_mss.b * v + to_mss.c,
        row=to_mss.d * u + to_mss.e * v + to_mss.f,
        to_mss=to_mss,
        sigma=pair.sigma,
    )
    pan_low, mss, good = pair.patches(window)
    shown = around.inner(pan_valid & measured(pan_flags))
    return Sample(around, rim, shown, mss, pan_low, good, col, row)


@dataclass(frozen=True)
class Reduced:
    """A window of both images degraded by their ratio, and the MSS there was.

    Attributes
    ----------
    mss : ndarray of float32, shape (bands, height / ratio, width / ratio)
        Degraded; NaN where not good.
    pan : ndarray of float32, shape (height, width)
        On the grid of the MSS there was; NaN where not good.
    pan_low : ndarray of float32, shape (height / ratio, width / ratio)
        Blurred and sampled once more, for the statistics.
    truth : ndarray of float32, shape (bands, height, width)
    valid : ndarray of bool, shape (height, width)
    """

    mss: np.ndarray
    pan: np.ndarray
    pan_low: np.ndarray
    truth: np.ndarray
    valid: np.ndarray

    def around(self, *, ratio: int, margin: int, sigma: float) -> Around:
        """Put them together for fusion."""
        return aligned(self.mss, self.pan, ratio=ratio, margin=margin, sigma=sigma)


def reduced(pair: Pair, window: Window, *, ratio: int, gain: float) -> Reduced:
    """Reduce a window by Wald's protocol (``geo.fusion.wald``).

    Parameters
    ----------
    pair : Pair
        With the MTF that PAN has at the Nyquist frequency of MSS.
    window : Window
        Of MSS, its sides multiples of the ratio.
    ratio : int
    gain : float
        MTF of MSS at its Nyquist frequency.
    """
    pan, truth, valid = pair.patches(window)
    pan = np.where(valid, pan, np.float32(np.nan))
    low, there = degrade(truth, valid, ratio=ratio, gain=gain)
    pan_low, known = degrade(pan[None], valid, ratio=ratio, gain=gain)
    low[:, ~there] = np.nan
    return Reduced(low, pan, np.where(known, pan_low[0], np.float32(np.nan)), truth, valid)


def sampled_share(pair: Pair, spread: list[Window]) -> float:
    """Share of the common ground that the windows cover."""
    area = sum(w.width * w.height for w in spread)
    return min(1.0, area / (pair.overlap.width * pair.overlap.height))
