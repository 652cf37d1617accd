"""Charts as SVG in the page: they take its fonts and its light or dark colours, and stay sharp in print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 24, 14, 44


def size_distribution(areas_m2: Iterable[float]) -> str:
    """Histogram of landslide areas in bins of equal ratio; empty where there are fewer than two.

    Parameters
    ----------
    areas_m2 : iterable of float

    Returns
    -------
    str
        SVG.
    """
    areas = np.asarray([a for a in areas_m2 if a > 0], dtype=float)
    if len(areas) < 2:
        return ""
    per_decade = 5
    low = math.floor(math.log10(areas.min()) * per_decade) / per_decade
    high = max(math.ceil(math.log10(areas.max()) * per_decade + 1e-9) / per_decade, low + 1 / per_decade)
    bins = round((high - low) * per_decade)
    counts, edges = np.histogram(np.log10(areas), bins=bins, range=(low, high))
    ticks = _ticks(counts.max(), whole=True)
    x = _scale(low, high, LEFT, WIDTH - RIGHT)
    y = _scale(0, ticks[-1], HEIGHT - BOTTOM, TOP)
    marks = [_grid_line(y(t), f"{t:g}") for t in ticks]
    for count, start, end in zip(counts, edges, edges[1:], strict=False):
        if count:
            title = f"{_area(10**start)} to {_area(10**end)}: {count}"
            marks.append(
                f'<rect class="bar" x="{x(start) + 1:.1f}" y="{y(count):.1f}" width="{x(end) - x(start) - 2:.1f}" '
                f'height="{y(0) - y(count):.1f}" rx="2"><title>{title}</title></rect>'
            )
    for decade in range(math.floor(low), math.floor(high + 1e-9) + 1):
        for factor in (1, 2, 5) if high - low < 2.3 else (1,):
            at = decade + math.log10(factor)
            if low - 1e-9 <= at <= high + 1e-9:
                marks.append(_x_label(x(at), _area(factor * 10**decade)))
    return _chart("Number of landslides by area", marks, y(0), "area of a landslide", "landslides")


def curves(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    unit_interval: bool,
    marked: float | None = None,
    x_name: str = "epoch",
    y_name: str = "",
) -> str:
    """Draw lines over epochs, or over another quantity from 0 to 1.

    Parameters
    ----------
    title : str
    series : mapping of str to sequence of (epoch, value)
        The first is drawn strongest.
    unit_interval : bool
        Values lie in 0 to 1 and the axis shows all of it.
    marked : float, optional
        Epoch to mark, such as the best one.
    x_name, y_name : str
        Names of the axes.

    Returns
    -------
    str
        SVG; empty where there is nothing to draw.
    """
    series = {name: [(a, b) for a, b in points if math.isfinite(b)] for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""
    epochs = [a for points in series.values() for a, _ in points]
    values = [b for points in series.values() for _, b in points]
    units = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    ticks = units if unit_interval else _ticks(max(values))
    first, last = (min(epochs), max(epochs)) if x_name == "epoch" else (0.0, 1.0)
    x_ticks = _ticks(last, whole=True) if x_name == "epoch" else units
    x = _scale(first, last if last > first else last + 1, LEFT, WIDTH - RIGHT)
    y = _scale(0, ticks[-1], HEIGHT - BOTTOM, TOP)
    marks = [_grid_line(y(t), f"{t:g}") for t in ticks]
    marks += [_x_label(x(t), f"{t:g}") for t in x_ticks if first <= t <= last]
    if marked is not None:
        marks.append(f'<line class="marked" x1="{x(marked):.1f}" x2="{x(marked):.1f}" y1="{TOP}" y2="{y(0):.1f}"/>')
    for number, (name, points) in enumerate(series.items()):
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        marks.append(f'<polyline class="line s{number}" points="{line}"><title>{escape(name)}</title></polyline>')
        if len(points) == 1:
            marks.append(f'<circle class="dot s{number}" cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="3"/>')
    return _chart(title, marks, y(0), x_name, y_name)


def _chart(title: str, marks: Sequence[str], base: float, x_name: str, y_name: str) -> str:
    axis = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>'
    names = f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">{escape(x_name)}</text>'
    if y_name:
        middle = (TOP + base) / 2
        names += f'<text class="name" transform="translate(13 {middle:.0f}) rotate(-90)">{escape(y_name)}</text>'
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(marks)}{axis}{names}</svg>"
    )


def _grid_line(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="y-label" x="{LEFT - 8}" y="{y + 4:.1f}">{label}</text>'
    )


def _x_label(x: float, label: str) -> str:
    return f'<text class="x-label" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{label}</text>'


def _scale(low: float, high: float, start: float, end: float):
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(highest: float, *, whole: bool = False) -> list[float]:
    """Round numbers from 0 to the first one that is not below ``highest``, about five."""
    if highest <= 0:
        return [0.0, 1.0]
    step = 10 ** math.floor(math.log10(highest / 4))
    step = next(f * step for f in (1, 2, 2.5, 5, 10) if highest / (f * step) <= 5)
    if whole:
        step = max(1, math.ceil(step))
    return [i * step for i in range(math.ceil(highest / step - 1e-9) + 1)]


def _area(m2: float) -> str:
    return f"{m2 / 1e6:.3g} km²" if m2 >= 1e6 else f"{m2 / 1e4:.3g} ha" if m2 >= 1e4 else f"{round(m2, 1):g} m²"
