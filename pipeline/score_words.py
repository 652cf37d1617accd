"""Scores and their intervals, as the log tells them."""

from __future__ import annotations


def shown(score: float | None) -> str:
    """Score with three decimals; in words where there is none."""
    return "not defined" if score is None else f"{score:.3f}"


def between(interval: list[float] | None) -> str:
    """Interval to stand behind a score; nothing where there is none."""
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
