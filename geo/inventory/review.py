"""Which polygons a person should look at first, and why.

A look is worth most where much ground hangs on a doubtful answer. So a polygon's priority is its area times the
doubt: how near its mean probability lies to the threshold, how much the answers of an ensemble differ, whether
something speaks against it (``geo.inventory.plausibility``), and how unsure it is that it is one scar.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geo.inventory.plausibility import PLAUSIBLE

STATUSES = ("candidate", "confirmed", "rejected", "edited")
#: Standard deviation of the answers that is as doubtful as a probability at the threshold.
_WIDE_SPREAD = 0.25
#: Doubt of a polygon that looks like something else, and of any, at least.
_SUSPECT = 0.8
_LEAST = 0.02
#: From this suspicion on a merge is told in words.
_MERGED = 0.25
#: From this confidence on a cut is not told.
_SURE_CUT = 0.75


def rank(frame: pd.DataFrame) -> pd.DataFrame:
    """Order polygons by what a look at them is worth.

    Parameters
    ----------
    frame : DataFrame
        Columns of the layer ``landslides``.

    Returns
    -------
    DataFrame
        ``look_first`` (1 is first), ``priority_m2`` and ``look_because``, with the index of the frame.
    """
    p, threshold = frame["mean_probability"].to_numpy(), frame["threshold"].to_numpy()
    area = frame["area_m2"].to_numpy()
    margin = (p - threshold) / np.maximum(1 - threshold, 1e-9)
    near = 1 - np.clip(margin, 0, 1)
    spread = np.nan_to_num(frame["uncertainty"].to_numpy(dtype=float) / _WIDE_SPREAD)
    suspect = frame["plausibility"].notna() & (frame["plausibility"] != PLAUSIBLE)
    unsure_cut = 1 - frame["split_confidence"].to_numpy(dtype=float)
    merged = frame["merge_suspicion"].to_numpy(dtype=float)
    doubt = np.maximum(near, np.clip(spread, 0, 1))
    doubt = np.maximum(doubt, np.where(suspect, _SUSPECT, 0))
    doubt = np.fmax(np.fmax(doubt, unsure_cut), merged)
    priority = area * np.maximum(doubt, _LEAST)
    order = np.lexsort((frame["id"].to_numpy(dtype=str), -priority))
    place = np.empty(len(frame), np.int64)
    place[order] = np.arange(1, len(frame) + 1)
    because = [
        _words(*told)
        for told in zip(
            p, threshold, area, spread, frame["plausibility"], suspect, frame["split_confidence"], merged, strict=True
        )
    ]
    return pd.DataFrame(
        {"look_first": place, "priority_m2": np.round(priority, 1), "look_because": because}, index=frame.index
    )


def _words(
    p: float, threshold: float, area: float, spread: float, flag: str, suspect: bool, cut: float, merged: float
) -> str:
    reasons = []
    if suspect:
        reasons.append(f"looks like {flag}")
    if spread >= 0.5:
        reasons.append("the answers differ widely")
    if (p - threshold) / max(1 - threshold, 1e-9) < 0.5:
        reasons.append(f"mean probability {p:.2f} is near the threshold {threshold:.2f}")
    if cut < _SURE_CUT:  # not where nothing was cut
        reasons.append(f"cut from a merged scar with confidence {cut:.2f}")
    if merged >= _MERGED:  # not where it is not known
        reasons.append(f"may be several scars merged (confidence {merged:.2f})")
    size = f"{area:,.0f} m2".replace(",", " ")
    return f"{size}; " + ("; ".join(reasons) if reasons else f"mean probability {p:.2f}, nothing unusual")
