"""All methods on one pair of images, judged at reduced and at full scale, with plain interpolation as the baseline.

At reduced scale (Wald's protocol) there is a truth; at full scale there is none, and the indices ask only how far a
fused image keeps what its inputs show. QNR takes an image without any detail for one that keeps everything, so plain
interpolation (EXP) leads it: methods are ranked at reduced scale.
"""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from rasterio.windows import Window

from geo.coregister import Registration
from geo.errors import GridError
from geo.fusion import Method, method, mtf, names
from geo.fusion.pair import Pair
from geo.fusion.quality import BLOCK, FullScale, FullScores, ReducedScale, ReducedScores
from geo.fusion.samples import (
    Sample,
    is_whole,
    ratio_of,
    reduced,
    register,
    sample,
    sampled_share,
    statistics,
    whole_ratio,
    windows,
)
from geo.fusion.statistics import Statistics
from geo.fusion.wald import PAN_GAIN
from geo.fusion.window import sharpen
from geo.ortho.warp import one_thread_each
from geo.stream import cpus, stream

#: Plain interpolation, which every method must beat; it is no method to fuse with.
EXP = Method("exp", lambda mss, pan, pan_low, statistics: mss)
#: Windows of full scale, smaller as they are sharpened by every method: side in MSS pixels, most along one axis.
FULL_SIDE, FULL_MOST = 128, 6
#: Side of the crop that is shown of every method, PAN pixels.
CROP = 192


@dataclass(frozen=True)
class Row:
    """A method and its scores; those of full scale are NaN where the ratio of pixel sizes is no whole number."""

    name: str
    reduced: ReducedScores
    full: FullScores


@dataclass(frozen=True)
class Evaluation:
    """What all methods make of a pair.

    Attributes
    ----------
    rows : tuple of Row
        EXP first, then the others, the best Q2n at reduced scale first.
    ratio : float
    gain, pan_gain : float
        MTF of MSS, and of PAN, at the Nyquist frequency of MSS.
    windows, full_windows : int
        Windows that were looked at, at reduced and at full scale.
    window_px, full_window_px : int
        Their longest side in MSS pixels.
    share, full_share : float
        Share of the common ground that they cover.
    bands : tuple of str
        Order of the bands in ``crops``.
    crops : dict of str to ndarray of float32
        A piece of PAN (``"pan"``) and of every fused image, shapes (1 or bands, height, width).
    """

    rows: tuple[Row, ...]
    ratio: float
    gain: float
    pan_gain: float
    windows: int
    window_px: int
    share: float
    full_windows: int
    full_window_px: int
    full_share: float
    bands: tuple[str, ...]
    crops: dict[str, np.ndarray]

    @property
    def best(self) -> str | None:
        """Method with the best Q2n at reduced scale; None where it could not be measured."""
        return next((row.name for row in self.rows if row.name != EXP.name and math.isfinite(row.reduced.q2n)), None)

    def table(self) -> dict[str, Any]:
        """Give the scores as plain numbers, None for NaN; the layout is described in ``docs/fusion.md``."""
        keep = ("sam_deg", "ergas", "q", "q2n", "scc", "q_bands")
        return {
            "ratio": self.ratio,
            "mtf_gain": self.gain,
            "pan_mtf_gain": self.pan_gain,
            "windows": {"reduced": self.windows, "full": self.full_windows},
            "window_px": {"reduced": self.window_px, "full": self.full_window_px},
            "share": {"reduced": self.share, "full": self.full_share},
            "best": self.best,
            "rows": [
                {
                    "method": row.name,
                    "reduced": {k: _plain(v) for k, v in asdict(row.reduced).items() if k in keep},
                    "full": {k: _plain(v) for k, v in asdict(row.full).items()},
                }
                for row in self.rows
            ],
        }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return None if math.isnan(value) else value


def evaluate(
    mss: str | os.PathLike,
    pan: str | os.PathLike,
    *,
    registration: Registration | None = None,
    gain: float = mtf.GAIN,
    pan_gain: float = PAN_GAIN,
    methods: list[str] | None = None,
    threads: int | None = None,
) -> Evaluation:
    """Judge methods on sample windows spread over a scene.

    At reduced scale at most 3 x 3 windows of 320 x 320 MSS pixels are read, at full scale 6 x 6 of 128 x 128, so
    memory and time do not grow with the scene.

    Parameters
    ----------
    mss, pan : path
        Orthos in one CRS.
    registration : Registration, optional
        Displacement of MSS against PAN; none where absent.
    gain, pan_gain : float
        MTF of MSS, and of PAN, at the Nyquist frequency of MSS.
    methods : list of str, optional
        Names; all where absent.
    threads : int, optional
        CPUs to use at most.

    Raises
    ------
    GridError
        The images have different CRSs, or too little good ground in common to be degraded by their ratio.
    """
    chosen = [EXP, *(method(name) for name in (names() if methods is None else methods))]
    workers = cpus(threads)
    with ExitStack() as opened:
        opened.enter_context(one_thread_each())
        pair, blurred = (Pair(pan, mss, opened, gain=g) for g in (gain, pan_gain))
        for each in (pair, blurred):
            register(each, registration)
        ratio = whole_ratio(pair)
        spread = windows(pair, multiple=ratio)
        small = _reduced_scale(blurred, spread, chosen, ratio=ratio, gain=gain, workers=workers)
        smaller = windows(pair, side=FULL_SIDE, most=FULL_MOST, multiple=ratio)
        large, crops = _full_scale(pair, smaller, chosen, workers=workers)
        rows = [Row(m.name, small[m.name], large[m.name]) for m in chosen]
        ranked = sorted(rows[1:], key=lambda row: -np.nan_to_num(row.reduced.q2n, nan=-1))
        return Evaluation(
            rows=(rows[0], *ranked),
            ratio=ratio_of(pair),
            gain=gain,
            pan_gain=pan_gain,
            windows=len(spread),
            window_px=max(max(w.width, w.height) for w in spread),
            share=sampled_share(pair, spread),
            full_windows=len(smaller),
            full_window_px=max(max(w.width, w.height) for w in smaller),
            full_share=sampled_share(pair, smaller),
            bands=pair.moving.bands,
            crops=crops,
        )


def _reduced_scale(
    pair: Pair, spread: list[Window], chosen: list[Method], *, ratio: int, gain: float, workers: int
) -> dict[str, ReducedScores]:
    # all windows stay in memory, as the statistics must be known before the first is fused: 24 MB at most
    parts = [part for _, part in stream(partial(reduced, pair, ratio=ratio, gain=gain), spread, workers=workers)]
    known = Statistics.gather(
        (p.pan_low, p.mss, np.isfinite(p.pan_low) & np.isfinite(p.mss).all(axis=0)) for p in parts
    )
    if known.count <= len(known.mean):
        raise GridError(
            f"{pair.names} have {known.count} good pixels in common when both are degraded by {ratio}; "
            "expected larger images, or ones with fewer holes"
        )
    sigma = mtf.sigma_px(ratio, gain)

    def score(part: Any) -> dict[str, ReducedScale]:
        found = {}
        for each in chosen:
            around = part.around(ratio=ratio, margin=each.reach_px(ratio, sigma), sigma=sigma)
            fused, good = sharpen(each, around, known)
            found[each.name] = ReducedScale(ratio).seen(fused, part.truth, good & part.valid)
        return found

    total = {each.name: ReducedScale(ratio) for each in chosen}
    for _, found in stream(score, parts, workers=workers):
        total = {name: total[name] + sums for name, sums in found.items()}
    return {name: sums.scores() for name, sums in total.items()}


def _full_scale(
    pair: Pair, spread: list[Window], chosen: list[Method], *, workers: int
) -> tuple[dict[str, FullScores], dict[str, np.ndarray]]:
    known, ratio = statistics(pair, workers), whole_ratio(pair)
    margin = max(each.reach_px(ratio_of(pair), pair.sigma) for each in chosen)
    block = BLOCK if BLOCK % ratio == 0 and BLOCK // ratio >= 2 else ratio * max(2, BLOCK // ratio)

    def score(window: Window) -> tuple[dict[str, FullScale], float, dict[str, np.ndarray]]:
        here = sample(pair, window, margin=margin)
        found, crops = {}, {"pan": _crop(here, here.around.inner(here.around.pan)[None])}
        for each in chosen:
            fused, good = sharpen(each, here.around, known)
            crops[each.name] = _crop(here, fused)
            if not is_whole(pair):
                continue
            low, there = here.degraded(fused, good)
            found[each.name] = FullScale(ratio, block).seen(
                here.trim(fused),
                here.trim(here.around.inner(here.around.pan)),
                here.mss,
                here.pan_low,
                low,
                valid=here.trim(good & here.shown),
                valid_low=here.valid & there,
            )
        return found, _liveliness(crops["pan"]), crops

    total = {each.name: FullScale(ratio, block) for each in chosen}
    best, shown = -1.0, {}
    for _, (found, lively, crops) in stream(score, spread, workers=workers):
        total = {name: total[name] + found[name] if name in found else total[name] for name in total}
        if lively > best:
            best, shown = lively, crops
    return {name: sums.scores() for name, sums in total.items()}, shown


def _crop(here: Sample, wide: np.ndarray) -> np.ndarray:
    """Cut the middle out of a window, a copy so that the window can go."""
    height, width = wide.shape[-2:]
    side = min(CROP, height - 2 * here.rim, width - 2 * here.rim)
    top, left = (height - side) // 2, (width - side) // 2
    return wide[..., top : top + side, left : left + side].copy()


def _liveliness(pan: np.ndarray) -> float:
    """How much there is to see in a crop (1, height, width): half of its pixels differ from their neighbours by more.

    A cloud has the greatest contrast, but at its edge alone.
    """
    good = np.isfinite(pan[0])
    if not good[1:, 1:].any():
        return 0.0
    steps = np.abs(np.diff(pan[0], axis=0))[:, 1:] + np.abs(np.diff(pan[0], axis=1))[1:]
    return float(good.mean() ** 4 * np.nan_to_num(np.nanmedian(np.where(good[1:, 1:], steps, np.nan))))
