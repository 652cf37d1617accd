"""Area and accuracy with intervals, from a random sample that was looked at by eye.

Olofsson et al. (2014), Remote Sens. Environ. 148: 42-57, whose equations are numbered below, for strata that are the
map's classes; Stehman (2014), Int. J. Remote Sens. 35: 4923-4939, for strata that divide them (as ``near`` and
``rest`` do). The second gives the figures of the first where both apply, and both are held to their printed examples in
the tests. Both leave the finite population correction out, as Olofsson et al. do.

Their intervals are normal, and too narrow where a stratum has few points of a kind. Beside them stands the stratified
Wilson interval (Newcombe 1998, Statistics in Medicine 17: 873; for weighted sums Zou and Donner 2008, ibid. 27: 1693),
which holds its 95 % there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geo.errors import LabelError
from geo.inventory.sampling import CANNOT_TELL, LABELS, LANDSLIDE, OTHER, Sample

#: Standard errors to either side of an estimate that make 95 %.
Z = 1.96
#: The rule for points that nobody could tell.
CANNOT_TELL_RULE = (
    "points labelled 'cannot tell' are left out, as if they were like the others of their stratum; "
    "'bounds' give the area if all of them were landslide, or none"
)


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    standard_error: float

    @property
    def interval(self) -> list[float]:
        """95 % confidence interval."""
        return [self.value - Z * self.standard_error, self.value + Z * self.standard_error]


def mean(stratum: np.ndarray, y: np.ndarray, pixels: np.ndarray) -> Estimate:
    """Stratified mean: for y = 1 where the reference is class k, the proportion of its area.

    Parameters
    ----------
    stratum : ndarray of int, shape (n,)
    y : ndarray of float, shape (n,)
    pixels : ndarray, shape (strata,)
        Size of each stratum.

    Returns
    -------
    Estimate
        Olofsson et al. eqs. (9) and (10), and for y = agreement (1) and (5); Stehman with y of eqs. (14) and (12).
    """
    weight = pixels / pixels.sum()
    n, average, variance, _ = _moments(stratum, y, y, len(pixels))
    return Estimate(float((weight * average).sum()), float(np.sqrt((weight**2 * variance / n).sum())))


def ratio(stratum: np.ndarray, y: np.ndarray, x: np.ndarray, pixels: np.ndarray) -> Estimate | None:
    """Estimate the ratio of two stratified totals: user's and producer's accuracy.

    Returns
    -------
    Estimate or None
        Olofsson et al. eqs. (2), (3), (6) and (7); Stehman with y and x of eqs. (18), (19) and (22), (23).
        None where the denominator is 0.
    """
    n, mean_y, var_y, cov = _moments(stratum, y, x, len(pixels))
    _, mean_x, var_x, _ = _moments(stratum, x, x, len(pixels))
    total = (pixels * mean_x).sum()
    if not total:
        return None
    value = (pixels * mean_y).sum() / total
    variance = (pixels**2 * np.maximum(var_y + value**2 * var_x - 2 * value * cov, 0) / n).sum() / total**2
    return Estimate(float(value), float(np.sqrt(variance)))


def wilson(stratum: np.ndarray, y: np.ndarray, pixels: np.ndarray) -> list[float]:
    """95 % interval of a stratified share from Wilson's interval in each stratum, their distances added in squares.

    Parameters
    ----------
    stratum, y, pixels
        As of ``mean``; y is 0 or 1. Strata without pixels or points do not count.
    """
    weight = pixels / pixels.sum()
    n = np.bincount(stratum, minlength=len(pixels)).astype(float)
    share = np.bincount(stratum, y, minlength=len(pixels)) / np.maximum(n, 1)
    middle = (share + Z**2 / (2 * np.maximum(n, 1))) / (1 + Z**2 / np.maximum(n, 1))
    half = (
        Z
        / (1 + Z**2 / np.maximum(n, 1))
        * np.sqrt(share * (1 - share) / np.maximum(n, 1) + Z**2 / (4 * np.maximum(n, 1) ** 2))
    )
    value = (weight * share).sum()
    below = np.sqrt((weight**2 * (share - np.maximum(middle - half, 0)) ** 2).sum())
    above = np.sqrt((weight**2 * (np.minimum(middle + half, 1) - share) ** 2).sum())
    return [float(max(value - below, 0)), float(min(value + above, 1))]


def _moments(stratum: np.ndarray, y: np.ndarray, x: np.ndarray, strata: int) -> tuple[np.ndarray, ...]:
    """Points, mean and variance of y, and covariance of y and x, of each stratum."""
    n = np.bincount(stratum, minlength=strata).astype(float)
    mean_y, mean_x = (np.bincount(stratum, v, minlength=strata) / n for v in (y, x))
    off_y, off_x = y - mean_y[stratum], x - mean_x[stratum]
    variance, covariance = (
        np.bincount(stratum, off_y * o, minlength=strata) / np.maximum(n - 1, 1) for o in (off_y, off_x)
    )
    return n, mean_y, variance, covariance


def estimate(sample: Sample, path: object = "the sample") -> dict[str, Any]:
    """Error-adjusted area and accuracy of a labelled sample.

    Parameters
    ----------
    sample : Sample
        As ``sampling.read`` gives it, which holds it to its design.
    path : path
        For messages.

    Returns
    -------
    dict
        ``area_km2, mapped_km2, overall, users, producers`` with intervals, ``error_matrix`` in points and in shares
        of the area, ``strata``, ``cannot_tell`` and ``notes``.

    Raises
    ------
    LabelError
        Points are not labelled, labels are unknown, or a stratum has too few that could be told.
    """
    design, points = sample.design, sample.points
    label = points["reference"].fillna("").str.strip().str.lower().to_numpy(str)
    empty = int((label == "").sum())
    if empty:
        raise LabelError(
            f"{path}: {empty} of {len(label)} points are not labelled; label all of them "
            f"({', '.join(LABELS)}), as those left out may be the hard ones"
        )
    unknown = sorted(set(label) - set(LABELS))
    if unknown:
        raise LabelError(f"{path} holds the labels {', '.join(unknown)}; expected {', '.join(LABELS)}")
    names = [s.name for s in design.strata]
    stratum = np.array([names.index(s) for s in points["stratum"]])
    pixels = np.array([s.pixels for s in design.strata], float)
    mapped = np.array([s.mapped for s in design.strata])[stratum]
    told, true = label != CANNOT_TELL, label == LANDSLIDE
    number = np.bincount(stratum[told], minlength=len(names))
    few = [s.name for s, n in zip(design.strata, number, strict=True) if n < min(2, s.pixels)]
    if few:
        raise LabelError(
            f"{path}: fewer than 2 points of the stratum {', '.join(few)} could be told; draw a larger sample"
        )
    km2 = float(pixels.sum() * design.pixel_m2 / 1e6)
    at, is_true, is_mapped = stratum[told], true[told].astype(float), mapped[told].astype(float)
    area = mean(at, is_true, pixels)
    agree = (is_true == is_mapped).astype(float)
    result: dict[str, Any] = {
        "design": {
            "seed": design.seed,
            "points": design.number,
            "inventory": design.inventory,
            "inventory_sha256": design.inventory_sha256,
        },
        "searched_km2": km2,
        "mapped_km2": float(pixels[[s.mapped for s in design.strata]].sum() * design.pixel_m2 / 1e6),
        "area_km2": {
            **_told(area, km2, (0.0, km2)),
            "interval_wilson": [v * km2 for v in wilson(at, is_true, pixels)],
        },
        "overall": {**_told(mean(at, agree, pixels)), "interval_wilson": wilson(at, agree, pixels)},
        "users": {
            LANDSLIDE: _told(ratio(at, is_true * is_mapped, is_mapped, pixels)),
            OTHER: _told(ratio(at, (1 - is_true) * (1 - is_mapped), 1 - is_mapped, pixels)),
        },
        "producers": {
            LANDSLIDE: _told(ratio(at, is_true * is_mapped, is_true, pixels)),
            OTHER: _told(ratio(at, (1 - is_true) * (1 - is_mapped), 1 - is_true, pixels)),
        },
        "error_matrix": _matrix(at, is_true, is_mapped, pixels),
        "strata": _by_stratum(design.strata, stratum, label, design.pixel_m2),
        "cannot_tell": {
            "rule": CANNOT_TELL_RULE,
            "points": int((~told).sum()),
            "bounds_km2": [
                mean(stratum, (true | (~told if all_of_them else False)).astype(float), pixels).value * km2
                for all_of_them in (False, True)
            ],
        },
        "confidence": 0.95,
    }
    result["notes"] = _notes(result["strata"])
    return result


def _told(found: Estimate | None, unit: float = 1.0, limits: tuple[float, float] = (0.0, 1.0)) -> dict[str, Any]:
    """Put an estimate into the file; without spread in the sample there is no interval, not one of no width."""
    if found is None:
        return {"estimate": None, "standard_error": None, "interval": None}
    interval = [min(max(v * unit, limits[0]), limits[1]) for v in found.interval]
    return {
        "estimate": found.value * unit,
        "standard_error": found.standard_error * unit,
        "interval": interval if found.standard_error > 1e-12 else None,
    }


def _matrix(stratum: np.ndarray, true: np.ndarray, mapped: np.ndarray, pixels: np.ndarray) -> dict[str, Any]:
    """Error matrix, rows by map and columns by reference: points, and shares of the area (Olofsson et al. eq. 4)."""
    share = (pixels / pixels.sum() / np.bincount(stratum, minlength=len(pixels)))[stratum]
    cells = [[(mapped == m) & (true == t) for t in (1, 0)] for m in (1, 0)]
    return {
        "rows": f"map: {LANDSLIDE}, {OTHER}",
        "columns": f"reference: {LANDSLIDE}, {OTHER}",
        "points": [[int(cell.sum()) for cell in row] for row in cells],
        "area_proportions": [[float(share[cell].sum()) for cell in row] for row in cells],
    }


def _by_stratum(strata: tuple, stratum: np.ndarray, label: np.ndarray, pixel_m2: float) -> list[dict[str, Any]]:
    rows = []
    for number, s in enumerate(strata):
        mine = label[stratum == number]
        told = int((mine != CANNOT_TELL).sum())
        found = int((mine == LANDSLIDE).sum())
        rows.append(
            {
                "name": s.name,
                "mapped": LANDSLIDE if s.mapped else OTHER,
                "area_km2": s.pixels * pixel_m2 / 1e6,
                "points": s.drawn,
                "told": told,
                "landslide": found,
                "landslide_share": found / told,
                # exact bound (Clopper and Pearson 1934) where all points agree; else the normal interval above holds
                "at_most": 1 - 0.025 ** (1 / told) if found == 0 else None,
                "at_least": 0.025 ** (1 / told) if found == told else None,
            }
        )
    return rows


#: With fewer points of a kind in a stratum the normal interval is too narrow.
_FEW = 5


def _notes(strata: list[dict[str, Any]]) -> list[str]:
    """Say where the normal interval is too narrow: a stratum whose points (nearly) all agree adds too little to it."""
    notes = []
    for row in strata:
        rare = min(row["landslide"], row["told"] - row["landslide"])
        if row["at_most"] is not None:
            km2 = row["at_most"] * row["area_km2"]
            notes.append(
                f"none of the {row['told']} points of '{row['name']}' is landslide, which adds nothing to the standard "
                f"error; up to {row['at_most']:.2%} of it ({km2:.4g} km2) may be (95 %): use interval_wilson"
            )
        elif row["at_least"] is not None:
            notes.append(
                f"all {row['told']} points of '{row['name']}' are landslide, which adds nothing to the standard error; "
                f"at least {row['at_least']:.2%} of it is (95 %): use interval_wilson"
            )
        elif rare < _FEW:
            notes.append(
                f"only {rare} of {row['told']} points of '{row['name']}' differ from the others: the normal interval "
                "is too narrow, use interval_wilson"
            )
    return notes
