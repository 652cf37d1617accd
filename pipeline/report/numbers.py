"""How the page writes numbers."""

from __future__ import annotations

import math
from typing import Any

#: Written where there is no number.
NONE = "\N{EN DASH}"


def number(value: Any, digits: int = 0) -> str:
    """Write a number with thin spaces between thousands; a dash where there is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    return f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")


def score(value: Any) -> str:
    """Write a ratio with three decimals."""
    return number(value, 3)


def percent(value: Any) -> str:
    """Write a share as a percentage."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    return f"{100 * value:.2g} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"


def area_parts(m2: float) -> tuple[str, str]:
    """Write an area in the unit that fits it, m2, hectares or km2, as number and unit."""
    if m2 >= 1e6:
        return number(m2 / 1e6, 2), "km²"
    return (number(m2 / 1e4, 1), "ha") if m2 >= 1e4 else (number(m2), "m²")


def area(m2: float) -> str:
    """Write an area in the unit that fits it."""
    return " ".join(area_parts(m2))


def day(value: Any) -> str:
    """Write the date of a time; a dash where it is not known."""
    return str(value)[:10] if value is not None and str(value) not in ("NaT", "nan", "None") else NONE


def duration(seconds: Any) -> str:
    """Write seconds as seconds, minutes or hours."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return NONE
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def plain(value: Any) -> str:
    """Write a setting or a score in a sentence."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
