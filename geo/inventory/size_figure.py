"""The area-frequency curve as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from geo.inventory.sizes import inverse_gamma_density


def draw(found: dict[str, Any], path: Path, *, title: str = "") -> None:
    """Draw the density with its fits, and the cumulative curve, as PNG.

    Parameters
    ----------
    found : dict
        As ``sizes.distribution`` gives it, with at least one landslide.
    path : Path
        PNG.
    title : str
    """
    density, law, gamma = found["density"], found["power_law"], found["inverse_gamma"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    area, number = np.array(density["area_m2"]), np.array(density["landslides"])
    p = np.array(density["probability_density"])
    # an interval of counts (Poisson, normal form) to show which points tell little
    error = p / np.sqrt(number)
    left.errorbar(
        area, p, yerr=[np.minimum(error, 0.9 * p), error], fmt="o", color="#333333", ms=4, lw=0.8, label="inventory"
    )
    top = np.geomspace(area.min() / 1.5, area.max() * 1.5, 300)
    if gamma is not None:
        above = top[top > max(gamma["s_m2"], found["least_m2"])]
        curve = inverse_gamma_density(above, gamma["rho"], gamma["a_m2"], gamma["s_m2"], found["least_m2"])
        words = f"inverse gamma, tail {gamma['tail_exponent']:.2f}{_between(gamma['tail_exponent_interval'])}"
        left.plot(above, curve, color="#1f77b4", label=words)
        if gamma["roll_over_m2"] is not None:
            left.axvline(gamma["roll_over_m2"], color="#1f77b4", ls=":", lw=1)
            left.annotate(
                f"roll-over {gamma['roll_over_m2']:.0f} m²",
                (gamma["roll_over_m2"], 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(3, 0),
                textcoords="offset points",
                color="#1f77b4",
                fontsize=8,
            )
    if law is not None:
        tail = top[top >= law["start_m2"]]
        share, exponent, start = law["landslides"] / found["landslides"], law["exponent"], law["start_m2"]
        words = f"power law, exponent {exponent:.2f}{_between(law['exponent_interval'])}"
        left.plot(tail, share * (exponent - 1) / start * (tail / start) ** -exponent, color="#d62728", label=words)
        right.plot(tail, law["landslides"] * (tail / start) ** (1 - exponent), color="#d62728")
    right.plot(density["at_least_m2"], density["landslides_at_least"], color="#333333", marker="o", ms=4, lw=0.8)
    for axes, words in ((left, "probability density (1/m²)"), (right, "landslides of at least this area")):
        axes.set(xscale="log", yscale="log", xlabel="area of a landslide (m²)", ylabel=words)
        axes.grid(alpha=0.25, which="both", lw=0.4)
    left.set_ylim(bottom=p.min() / 5, top=p.max() * 4)
    right.set_ylim(bottom=0.7)
    left.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 0.06))
    if found["least_m2"]:
        left.axvline(found["least_m2"], color="#999999", lw=1, ls="--")
    figure.suptitle(title or f"{found['landslides']} landslides")
    figure.savefig(path, dpi=130, format="png", metadata={"Software": None})
    plt.close(figure)


def _between(interval: list[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
