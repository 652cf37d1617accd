"""Whether a fused image keeps what it was made of: the spectra of MSS, and the edges of PAN.

*Spectral*: seen by MSS, that is blurred by its MTF and sampled at its pixels, the fused image should be MSS again
(Wald's consistency). *Spatial*: at the strong edges of PAN, the mixture of the fused bands that comes nearest to PAN
should rise as fast as PAN does. Both are measured on the file as it lies on disk, on sample windows spread over it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from rasterio.windows import Window

from geo.coregister import Registration
from geo.fusion import mtf
from geo.fusion.block_quality import Tally
from geo.fusion.gsa import regression
from geo.fusion.pair import Pair
from geo.fusion.samples import pan_window, register, statistics, windows
from geo.masks import seen
from geo.ortho.warp import one_thread_each
from geo.source import FileSource, Source
from geo.stream import cpus, stream

#: Root mean square error against MSS, by the band's mean, over which a product is warned of.
MAX_SPECTRAL = 0.08
#: Least and largest width of the fused image's edges, by that of PAN's, beyond which a product is warned of.
MIN_WIDTH, MAX_WIDTH = 0.75, 1.25
#: Side of a window in MSS pixels, and how many there are along one axis at most.
SIDE, MOST = 128, 4
#: Profiles of edges reach this far to each side, with plateaus from there, PAN pixels.
_REACH, _PLATEAU, _STEP = 6.0, 4.0, 0.25
#: Edges looked at in a window; the least contrast of an edge, by the deviation of PAN.
_EDGES, _CONTRAST = 300, 1.0


@dataclass(frozen=True)
class _Found:
    """Sums of a window: squared errors, errors and MSS (3, bands); profiles of PAN and the fused image (2, steps)."""

    spectral: Tally
    profiles: Tally


def check(
    fused: str | os.PathLike,
    mss: str | os.PathLike | Source,
    pan: str | os.PathLike | Source,
    registration: Registration | None = None,
    *,
    gain: float = mtf.GAIN,
    threads: int | None = None,
) -> dict[str, Any]:
    """Compare a fused image with the images it was made of.

    Parameters
    ----------
    fused : path
        On the grid of PAN, its bands among those of MSS by name.
    mss, pan : path or Source
        The orthos.
    registration : Registration, optional
        The one that it was fused with.
    gain : float
        MTF of MSS at its Nyquist frequency.
    threads : int, optional
        CPUs to use at most.

    Returns
    -------
    dict
        ``spectral``: by band, ``relative_rmse`` and ``relative_bias`` of the degraded fused image against MSS, by the
        band's mean, and ``limit``. ``spatial``: ``width_px`` (10 to 90 % of an edge, PAN pixels), ``pan_width_px``,
        ``width_ratio``, ``edges`` looked at, and ``limits``. ``warnings``: a sentence for each limit exceeded, and for
        what could not be measured. ``windows`` and ``window_px`` say how much was looked at.
    """
    workers = cpus(threads)
    with ExitStack() as opened:
        opened.enter_context(one_thread_each())
        pair = Pair(pan, mss, opened, gain=gain)
        register(pair, registration)
        product = opened.enter_context(FileSource(fused))
        order = _order(product.bands, pair.moving.bands)
        weights = regression(statistics(pair, workers))[0][order].astype(np.float32)
        spread = windows(pair, side=SIDE, most=MOST)

        def look(window: Window) -> _Found:
            return _look(pair, product, window, order, weights)

        spectral, profiles = Tally(np.zeros((3, len(order)))), Tally(_no_profile())
        for _, found in stream(look, spread, workers=workers):
            spectral, profiles = spectral + found.spectral, profiles + found.profiles
        result = {
            "spectral": _spectral(spectral, product.bands),
            "spatial": _spatial(profiles),
            "windows": len(spread),
            "window_px": max(max(w.width, w.height) for w in spread),
        }
        return result | {"warnings": _warnings(result)}


def _order(names: Sequence[str], among: Sequence[str]) -> list[int]:
    """Where each band of the fused image lies in MSS: by name, or in the same order."""
    lower = [n.lower() for n in among]
    if all(n.lower() in lower for n in names):
        return [lower.index(n.lower()) for n in names]
    return list(range(len(names)))


def _look(pair: Pair, product: FileSource, window: Window, order: list[int], weights: np.ndarray) -> _Found:
    """Measure both in one window of MSS."""
    rim = mtf.reach_px(pair.sigma) + 2
    fine, col, row = pan_window(pair, window, rim)
    values, good, _ = product.read(fine)
    pan, pan_valid, flags = pair.reference.read(fine)
    _, mss, valid = pair.patches(window)
    degraded = [mtf.degrade(band, good, col, row, pair.sigma) for band in values]
    there = valid & degraded[0][1]
    truth = mss[order][:, there].astype(float)
    error = np.stack([band[there] for band, _ in degraded]) - truth
    sums = Tally(np.stack([(error**2).sum(axis=1), error.sum(axis=1), truth.sum(axis=1)]), float(there.sum()))
    intensity = np.tensordot(weights, values, 1)
    return _Found(sums, edge_profiles(pan[0], intensity, good & pan_valid & seen(flags)))


def _no_profile() -> np.ndarray:
    return np.zeros((2, len(_offsets())))


def _offsets() -> np.ndarray:
    return np.arange(-_REACH, _REACH + _STEP / 2, _STEP)


def edge_profiles(pan: np.ndarray, other: np.ndarray, valid: np.ndarray) -> Tally:
    """Sum both images' profiles across the strongest edges of PAN, rising, each from its own plateaus.

    Parameters
    ----------
    pan, other : ndarray of float32, shape (height, width)
    valid : ndarray of bool, same shape

    Returns
    -------
    Tally
        Profiles of both, shape (2, steps), in units of ``pan`` and of ``other``; divided by their contrasts they go
        from about 0 to 1. The count is that of edges.
    """
    good = cv2.erode(valid.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    filled = np.where(valid, pan, np.float32(np.nanmean(pan[valid]) if valid.any() else 0)).astype(np.float32)
    gx, gy = (cv2.Sobel(filled, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0))
    slope = np.where(good, np.hypot(gx, gy), 0)
    reach = int(_REACH) + 3
    if min(pan.shape) <= 2 * reach or not slope.any():
        return Tally(_no_profile())
    # one edge in each little square, the steepest, so that a single long one does not decide alone
    side = 2 * int(_REACH)
    height, width = ((s - 2 * reach) // side * side for s in pan.shape)
    inner = slope[reach : reach + height, reach : reach + width]
    if not inner.size:
        return Tally(_no_profile())
    cells = inner.reshape(height // side, side, width // side, side).transpose(0, 2, 1, 3).reshape(-1, side * side)
    place, steep = cells.argmax(axis=1), cells.max(axis=1)
    chosen = np.argsort(-steep)[:_EDGES]
    chosen = chosen[steep[chosen] > 0]
    if not len(chosen):  # all edges lie at the rim, where a profile has no room
        return Tally(_no_profile())
    row = reach + chosen // (width // side) * side + place[chosen] // side
    col = reach + chosen % (width // side) * side + place[chosen] % side
    normal = np.stack([gy[row, col], gx[row, col]]) / slope[row, col]
    at = _offsets()

    def across(image: np.ndarray, kernel: int, begin: np.ndarray) -> np.ndarray:
        along = begin[:, None] + at
        y, x = ((p[:, None] + n[:, None] * along).astype(np.float32) for p, n in zip((row, col), normal, strict=True))
        return np.asarray(cv2.remap(image, x, y, kernel))

    fill = np.where(valid, other, np.float32(0)).astype(np.float32)
    centre = _crossings(across(filled, cv2.INTER_CUBIC, np.zeros(len(row))))
    first, second = (across(image, cv2.INTER_CUBIC, centre) for image in (filled, fill))
    known = across(valid.astype(np.float32), cv2.INTER_LINEAR, centre).min(axis=1) > 0.999
    # an edge, not a place beside one: between two plateaus that differ by more than either varies
    low, high = first[:, at <= -_PLATEAU], first[:, at >= _PLATEAU]
    contrast = high.mean(axis=1) - low.mean(axis=1)
    calm = np.maximum(np.ptp(low, axis=1), np.ptp(high, axis=1)) < 0.5 * contrast
    spread = float(np.std(pan[valid])) if valid.any() else 0.0
    chosen = known & calm & (np.abs(centre) < 1) & (contrast > _CONTRAST * spread) & (contrast > 0)
    return Tally(np.stack([first[chosen].sum(axis=0), second[chosen].sum(axis=0)]), float(chosen.sum()))


def _crossings(profiles: np.ndarray) -> np.ndarray:
    """Offsets nearest to 0 at which profiles (n, steps) cross the middle between their plateaus."""
    at = _offsets()
    middle = (profiles[:, at <= -_PLATEAU].mean(axis=1) + profiles[:, at >= _PLATEAU].mean(axis=1)) / 2
    low, high = profiles[:, :-1] - middle[:, None], profiles[:, 1:] - middle[:, None]
    rising = (low <= 0) & (high > 0)
    place = at[:-1] + _STEP * low / np.where(rising, low - high, 1)
    nearest = np.where(rising, np.abs(place), np.inf).argmin(axis=1)
    return np.take_along_axis(place, nearest[:, None], axis=1)[:, 0]


def edge_width(profile: np.ndarray) -> float:
    """Width of an edge from 10 to 90 % of its height between the plateaus, in PAN pixels; NaN without an edge.

    Parameters
    ----------
    profile : ndarray of float, shape (steps,)
        Rising across the edge, on the offsets of ``edge_profiles``.
    """
    at = _offsets()
    low, high = profile[at <= -_PLATEAU].mean(), profile[at >= _PLATEAU].mean()
    if not high > low:
        return float("nan")
    share = (profile - low) / (high - low)
    middle = int(np.flatnonzero(share >= 0.5)[0])
    before = np.flatnonzero(share[: middle + 1] <= 0.1)
    after = np.flatnonzero(share[middle:] >= 0.9)
    if not (len(before) and len(after)):
        return float("nan")
    start, end = int(before[-1]), middle + int(after[0])
    first = np.interp(0.1, share[start : start + 2], at[start : start + 2])
    last = np.interp(0.9, share[end - 1 : end + 1], at[end - 1 : end + 1])
    return float(last - first)


def _spectral(sums: Tally, bands: Sequence[str]) -> dict[str, Any]:
    squared, error, mean = sums.mean
    scale = np.where(np.abs(mean) > 0, np.abs(mean), np.nan)
    return {
        "relative_rmse": dict(zip(bands, _plain(np.sqrt(squared) / scale), strict=True)),
        "relative_bias": dict(zip(bands, _plain(error / scale), strict=True)),
        "pixels": int(sums.count),
        "limit": MAX_SPECTRAL,
    }


def _spatial(sums: Tally) -> dict[str, Any]:
    found = [edge_width(profile) for profile in sums.mean] if sums.count else [float("nan")] * 2
    pan, fused = found
    width, pan_width, ratio = _plain(np.array([fused, pan, fused / pan if pan > 0 else np.nan]))
    return {
        "width_px": width,
        "pan_width_px": pan_width,
        "width_ratio": ratio,
        "edges": int(sums.count),
        "limits": [MIN_WIDTH, MAX_WIDTH],
    }


def _plain(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 6) if np.isfinite(v) else None for v in values]


def _warnings(result: dict[str, Any]) -> list[str]:
    """Say which limits are exceeded, and what could not be measured."""
    spectral, spatial, found = result["spectral"], result["spatial"], []
    if not spectral["pixels"]:
        found.append("no pixel of MSS could be compared with the fused image")
    far = {b: e for b, e in spectral["relative_rmse"].items() if e is not None and e > MAX_SPECTRAL}
    if far:
        shown = ", ".join(f"{band} {100 * error:.1f} %" for band, error in far.items())
        found.append(
            f"degraded to MSS, the fused image differs from it by {shown} of the band's mean, expected "
            f"{100 * MAX_SPECTRAL:.0f} % at most; another --method may keep the spectra better"
        )
    ratio = spatial["width_ratio"]
    if ratio is None:
        found.append(f"the sharpness could not be measured: {spatial['edges']} clear edges were found in PAN")
    elif not MIN_WIDTH <= ratio <= MAX_WIDTH:
        found.append(
            f"edges are {ratio:.2f} times as wide as those of PAN, expected {MIN_WIDTH} to {MAX_WIDTH}; another "
            "--method may follow PAN better"
        )
    return found
