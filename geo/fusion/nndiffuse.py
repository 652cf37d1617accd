"""Nearest-neighbour diffusion: a pixel's spectrum is mixed from those of the nine MSS pixels around it.

With PAN ``P``, the nine MSS pixels ``M(j)`` around a PAN pixel ``x``, their centres ``x_j``, the ratio of pixel sizes
``r`` and the weights ``T_b >= 0`` with which the bands give PAN::

    N_j(x)  = mean_{q in Omega_j} |P(x) - P(q)|                                             (1)
    w_j(x)  = exp(-N_j / s^2) exp(-|x - x_j|^2 / s_s^2),  s^2 = min_j N_j,  s_s = 0.62 r    (2)
    S_b(x)  = sum_j w_j M_b(j) / sum_j w_j                                                  (3)
    F_b(x)  = S_b P / sum_b T_b S_b                                                         (4)

``Omega_j`` are the PAN pixels between ``x`` and the MSS pixel ``j``: one MSS pixel long in its direction, and as wide;
for the pixel's own it is the square of an MSS pixel about ``x``. It is the same for every ``x``, so that it costs a few
shifted differences. The spectra mix over the nine alone, so edges of PAN are not crossed where another side is nearer.

References
----------
Sun, Chen & Messinger 2014, Nearest-neighbor diffusion-based pan-sharpening algorithm for spectral images, Optical
Engineering 53(1), 013107: the mixture, and its scale by which the bands give PAN again. The distance is squared, for
with ``0.62 r`` that is what follows bicubic interpolation, as its authors want. The intensity's smoothness follows the
scene (ENVI's rule where none is given): here the smallest of the nine differences. The shape of ``Omega_j`` is ours.
Equations are numbered as above.
"""

from __future__ import annotations

import numpy as np

from geo.fusion import floor_of, modulate, register
from geo.fusion.brovey import intensity_weights
from geo.fusion.statistics import Statistics
from geo.fusion.window import Around

#: Width of the spatial weight, in MSS pixels.
SMOOTHNESS = 0.62


def _region(step: int, ratio: int) -> range:
    """Offsets of ``Omega_j`` along one axis for a neighbour before (-1), beside (0) or after (1)."""
    half = ratio // 2
    return {-1: range(-ratio, 0), 0: range(-half, half + 1), 1: range(1, ratio + 1)}[step]


def reach(ratio: float, sigma: float) -> int:
    """Give the PAN pixels that the differences look at on each side."""
    return max(1, round(ratio))


def differences(around: Around) -> dict[tuple[int, int], np.ndarray]:
    """Give ``N_j`` of (1) for each neighbour, by its steps in rows and columns.

    Differences with nodata do not count; where there are none the neighbour is as good as the pixel itself.
    """
    ratio, margin = max(1, round(around.ratio)), around.margin
    height, width = around.shape
    known = around.pan_valid.astype(np.float32)
    pan = np.where(around.pan_valid, around.pan, np.float32(0))
    here = around.inner(pan)
    found = {}
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
            for dy in _region(down, ratio):
                for dx in _region(right, ratio):
                    rows = slice(margin + dy, margin + dy + height)
                    cols = slice(margin + dx, margin + dx + width)
                    weight = known[rows, cols]
                    total += np.abs(here - pan[rows, cols]) * weight
                    count += weight
            found[down, right] = total / np.maximum(count, 1)
    return found


def diffuse(around: Around) -> np.ndarray:
    """Mix the spectra of the nine MSS pixels (3), float32 (bands, height, width); NaN where none is valid."""
    unlike = differences(around)
    # without any difference around a pixel, all are alike: the least keeps 0 / 0 away
    smoothness = np.maximum(np.minimum.reduce(list(unlike.values())), np.finfo(np.float32).tiny * 1e6)
    width = np.float32(SMOOTHNESS)
    rows, cols = around.mss_valid.shape
    col, row = np.floor(around.col).astype(int), np.floor(around.row).astype(int)
    total = np.zeros((len(around.mss), *around.shape), np.float32)
    weights = np.zeros(around.shape, np.float32)
    values = np.where(around.mss_valid, around.mss, np.float32(0))
    for (down, right), difference in unlike.items():
        x, y = col + right, row + down
        inside = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
        x, y = np.clip(x, 0, cols - 1), np.clip(y, 0, rows - 1)
        far = ((around.col - (col + right + 0.5)) ** 2 + (around.row - (row + down + 0.5)) ** 2).astype(np.float32)
        weight = np.exp(1 - difference / smoothness - far / width**2)  # (2), times e so that the least one is 1
        weight *= inside & around.mss_valid[y, x]
        weights += weight
        total += weight * values[:, y, x]
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), np.float32(np.nan))


@register("nndiffuse", interpolate=diffuse, reach=reach)
def nndiffuse(mss: np.ndarray, pan: np.ndarray, pan_low: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Sharpen a window whose spectra are mixed; see ``geo.fusion.Fuse``."""
    weights = intensity_weights(statistics)
    intensity = np.tensordot(weights.astype(np.float32), mss, 1)
    return modulate(mss, pan, intensity, floor_of(weights @ statistics.mss_mean))  # (4)
