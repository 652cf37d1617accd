"""Area-frequency curve of landslides: density, roll-over, and the power law of the large ones, with intervals.

The three-parameter inverse gamma of Malamud et al. (2004), Earth Surf. Process. Landforms 29: 687-711, eq. (3), for all
sizes; the power-law tail by maximum likelihood with the start of the tail chosen by Kolmogorov-Smirnov distance,
after Clauset et al. (2009), SIAM Review 51: 661-703. A histogram's slope is never fitted: it is biased.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize, special

from geo.errors import ConfigError

#: With fewer landslides nothing is fitted.
LEAST = 30
#: A tail of fewer landslides tells no exponent (Clauset et al. 2009 advise against less than about 50).
LEAST_TAIL = 50
#: Starts of the tail that are tried.
_STARTS = 200
_BINS_PER_DECADE = 5
#: A polygon of just the smallest size may lack so much of it by rounding.
_ROUNDING = 1e-6

Interval = list[float] | None


def density(areas: np.ndarray) -> dict[str, list[float]]:
    """Non-cumulative density in logarithmic bins, and the cumulative curve.

    Parameters
    ----------
    areas : ndarray of float, shape (n,)
        Square metres, above 0.

    Returns
    -------
    dict
        ``area_m2`` (geometric middle of a bin), ``landslides`` in it, ``probability_density`` (Malamud eq. (1)
        in 1/m2: share of landslides over the bin's width), ``at_least_m2`` and ``landslides_at_least``.
    """
    areas = np.sort(areas)
    low = np.floor(np.log10(areas[0]) * _BINS_PER_DECADE)
    high = np.floor(np.log10(areas[-1]) * _BINS_PER_DECADE) + 1
    edges = 10 ** (np.arange(low, high + 1) / _BINS_PER_DECADE)
    counts, _ = np.histogram(areas, edges)
    kept = counts > 0
    return {
        "area_m2": np.sqrt(edges[:-1] * edges[1:])[kept].tolist(),
        "landslides": counts[kept].tolist(),
        "probability_density": (counts / len(areas) / np.diff(edges))[kept].tolist(),
        "at_least_m2": edges[:-1].tolist(),
        "landslides_at_least": (len(areas) - np.searchsorted(areas, edges[:-1])).tolist(),
    }


def power_tail(areas: np.ndarray, least_tail: int = LEAST_TAIL) -> tuple[float, float, float, int] | None:
    """Fit a power law to the large landslides: density ~ area ** -exponent from a start on.

    Parameters
    ----------
    areas : ndarray of float
    least_tail : int
        Landslides that the tail must hold.

    Returns
    -------
    exponent, start_m2, distance, number
        By Clauset et al. eqs. (3.1) (maximum likelihood) and (3.9) (distance); None where there are too few.
    """
    areas = np.sort(np.asarray(areas, float))
    n = len(areas)
    if n < least_tail:
        return None
    logs = np.log(areas)
    left = np.cumsum(logs[::-1])[::-1]  # sum of the logarithms from each on
    starts = np.unique(areas[: n - least_tail + 1])
    if len(starts) > _STARTS:
        starts = starts[np.linspace(0, len(starts) - 1, _STARTS).round().astype(int)]
    best: tuple[float, float, float, int] | None = None
    for start in starts:
        first = int(np.searchsorted(areas, start))
        number = n - first
        spread = left[first] - number * np.log(start)
        if spread <= 0:
            continue
        exponent = 1 + number / spread
        model = 1 - np.exp((1 - exponent) * (logs[first:] - np.log(start)))
        steps = np.arange(number + 1) / number
        distance = float(np.maximum(np.abs(steps[1:] - model), np.abs(model - steps[:-1])).max())
        if best is None or distance < best[2]:
            best = (float(exponent), float(start), distance, number)
    return best


def inverse_gamma(
    areas: np.ndarray, least_m2: float = 0.0, *, near: tuple[float, float, float] | None = None
) -> tuple[float, float, float] | None:
    """Fit Malamud's three-parameter inverse gamma by maximum likelihood.

    Density ``1 / (a gamma(rho)) * (a / (A - s)) ** (rho + 1) * exp(-a / (A - s))``: power law with exponent
    ``rho + 1`` for large areas, roll-over where the density is highest, at ``s + a / (rho + 1)``.

    Parameters
    ----------
    areas : ndarray of float
        Square metres.
    least_m2 : float
        Smallest polygon that the inventory could hold: below it landslides were cut off, not absent, so the
        likelihood is that of areas above it.
    near : rho, a_m2, s_m2, optional
        Where to begin, for fits of redrawn areas.

    Returns
    -------
    rho, a_m2, s_m2
        None where there are too few, or the likelihood has no peak.
    """
    areas = np.asarray(areas, float)
    areas = areas[areas >= least_m2]
    if len(areas) < LEAST:
        return None
    unit = float(np.median(areas))
    x, cut = areas / unit, least_m2 / unit

    def loss(parameters: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            rho, a = np.exp(parameters[:2])
            s = x.min() - np.exp(parameters[2])  # below the smallest
            value = -_log_density(x, rho, a, s).mean()
            if cut > s:
                kept = special.gammainc(rho, a / (cut - s))  # share of areas above the cut
                value += np.log(kept) if kept > 0 else np.inf
        return float(value) if np.isfinite(value) else 1e9

    starts = [np.log([rho, rho, 0.5]) for rho in (1.4, 0.8)]
    if near is not None:
        starts = [np.log([near[0], near[1] / unit, max(x.min() - near[2] / unit, 1e-3)])]
    fits = [
        optimize.minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-4, "fatol": 1e-8})
        for start in starts
    ]
    fit = min(fits, key=lambda f: f.fun)
    rho, a = np.exp(fit.x[:2])
    if fit.fun >= 1e9 or not 0.05 < rho < 20:
        return None
    return float(rho), float(a * unit), float((x.min() - np.exp(fit.x[2])) * unit)


def inverse_gamma_density(areas: np.ndarray, rho: float, a_m2: float, s_m2: float, least_m2: float = 0.0) -> np.ndarray:
    """Density of the fit at areas, 1/m2, of landslides above ``least_m2``."""
    kept = special.gammainc(rho, a_m2 / (least_m2 - s_m2)) if least_m2 > s_m2 else 1.0
    return np.exp(_log_density(np.asarray(areas, float), rho, a_m2, s_m2)) / kept


def _log_density(x: np.ndarray, rho: float, a: float, s: float) -> np.ndarray:
    y = x - s
    return (rho + 1) * np.log(a / y) - a / y - np.log(a) - special.gammaln(rho)


def distribution(
    areas: np.ndarray,
    *,
    least_m2: float = 0.0,
    blocks: np.ndarray | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """Area-frequency curve of an inventory with what can be fitted to it.

    Parameters
    ----------
    areas : ndarray of float, shape (n,)
        Square metres.
    least_m2 : float
        Smallest polygon that the inventory may hold.
    blocks : ndarray of int, shape (n,), optional
        Block of ground of each landslide: intervals resample blocks, as neighbours are alike; else landslides.
    replicates : int
    seed : int

    Returns
    -------
    dict
        ``landslides, below_least, total_m2, median_m2, largest_m2, density``; ``power_law`` and ``inverse_gamma``
        with 95 % intervals, or None with the reason in ``notes``. Landslides below ``least_m2`` are counted
        (``below_least``) and left out of all else.

    Raises
    ------
    ConfigError
        All landslides are smaller than ``least_m2``.
    """
    areas = np.asarray(areas, float)
    notes: list[str] = []
    kept = areas >= least_m2 * (1 - _ROUNDING)
    if len(areas) and not kept.any():
        raise ConfigError(
            f"all {len(areas)} landslides are smaller than {least_m2:g} m2 (the largest has {areas.max():.0f} m2), so "
            "there is no curve; give a smaller --least-m2"
        )
    below = int((~kept).sum())
    if below:
        notes.append(f"{below} of {len(areas)} landslides are smaller than {least_m2:g} m2 and are left out")
    areas, blocks = areas[kept], None if blocks is None else np.asarray(blocks)[kept]
    result: dict[str, Any] = {
        "landslides": len(areas),
        "below_least": below,
        "least_m2": least_m2,
        "total_m2": float(areas.sum()),
        "median_m2": float(np.median(areas)) if len(areas) else None,
        "largest_m2": float(areas.max()) if len(areas) else None,
        "density": density(areas) if len(areas) else None,
        "power_law": None,
        "inverse_gamma": None,
        "replicates": replicates,
        "seed": seed,
        "notes": notes,
    }
    if len(areas) < LEAST:
        notes.append(f"{len(areas)} landslides are too few to fit a curve; at least {LEAST} are needed")
        return result
    random = np.random.default_rng(seed)
    groups = np.arange(len(areas)) if blocks is None else np.unique(blocks, return_inverse=True)[1]
    again = [_redrawn(areas, groups, random) for _ in range(replicates)]
    tail = power_tail(areas)
    if tail is None:
        notes.append(f"{len(areas)} landslides are too few for a power-law tail; at least {LEAST_TAIL} are needed")
    else:
        exponent, start, distance, number = tail
        others = [t for t in (power_tail(a) for a in again) if t]
        result["power_law"] = {
            "rule": "probability density ~ area ** -exponent for areas from start_m2 on",
            "exponent": exponent,
            "exponent_interval": _interval([t[0] for t in others], replicates),
            "start_m2": start,
            "start_interval": _interval([t[1] for t in others], replicates),
            "landslides": number,
            "distance": distance,
            "p_value": _goodness(areas, tail, random, replicates // 2),
        }
    whole = inverse_gamma(areas, least_m2)
    if whole is None:
        notes.append("the likelihood of the inverse gamma has no peak: the inventory shows no roll-over")
        return result
    fits = [f for f in (inverse_gamma(a, least_m2, near=whole) for a in again) if f]
    rho, a_m2, s_m2 = whole
    roll_over = s_m2 + a_m2 / (rho + 1)
    smallest = max(least_m2, float(areas.min()))
    seen = roll_over > smallest
    # a peak below all landslides was not seen, however the curve runs on there
    peaks = [max(f[2] + f[1] / (f[0] + 1), smallest) for f in fits]
    result["inverse_gamma"] = {
        "rho": rho,
        "a_m2": a_m2,
        "s_m2": s_m2,
        "tail_exponent": rho + 1,
        "tail_exponent_interval": _interval([f[0] + 1 for f in fits], replicates),
        "roll_over_m2": roll_over if seen else None,
        "roll_over_interval": _interval(peaks, replicates) if seen else None,
    }
    if not seen:
        notes.append(
            "the roll-over is not seen in this inventory: the fitted density still grows towards the smallest "
            f"landslide that it holds ({smallest:.0f} m2)"
        )
    return result


def _redrawn(areas: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Areas of groups drawn with replacement."""
    number = groups.max() + 1
    times = np.bincount(random.integers(0, number, number), minlength=number)
    return np.repeat(areas, times[groups])


def _goodness(
    areas: np.ndarray, tail: tuple[float, float, float, int], random: np.random.Generator, replicates: int
) -> float | None:
    """Share of samples of the fitted law that lie farther from their own fit (Clauset et al. section 4.1).

    A small share (below 0.1) says that the tail is no power law.
    """
    exponent, start, distance, number = tail
    below = areas[areas < start]
    worse = 0
    for _ in range(replicates):
        many = random.binomial(len(areas), number / len(areas))
        law = start * (1 - random.random(many)) ** (-1 / (exponent - 1))
        body = random.choice(below, len(areas) - many) if len(below) else np.empty(0)
        other = power_tail(np.concatenate([body, law]))
        worse += other is not None and other[2] >= distance
    return worse / replicates if replicates else None


def _interval(values: list[float], tries: int) -> Interval:
    """95 % of the replicates; None where one in ten could not be fitted."""
    if len(values) < 0.9 * tries or len(values) < 20:
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]
