"""The residual map of a registration: tie points as a layer for a GIS, and as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geo.atomic import atomic, check_free
from geo.coregister.result import Registration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYER = "tie_points"
_COLOURS = {"used": "#0072b2", "held out": "#e69f00", "rejected": "#999999"}
#: Inches: width of the figure and of a panel, and what the key is above it; height of a panel by its width, at most.
_WIDE, _PANEL, _KEY, _SHAPES = 11.0, 4.88, 0.14, (0.4, 1.6)


def picture_path(path: str | os.PathLike) -> Path:
    """Where the picture of a residual map lies: ``fused.coregistration.gpkg`` -> ``fused.coregistration.png``."""
    return Path(path).with_suffix(".png")


def write_residual_map(registration: Registration, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Write the tie points as a GeoPackage and, beside it under the same name, as a picture (PNG).

    Parameters
    ----------
    registration : Registration
    path : path
        The GeoPackage; the picture goes to ``picture_path(path)``.
    overwrite : bool
        Replace outputs that are there.

    Raises
    ------
    OutputExistsError, OutputError
    """
    for output in (path, picture_path(path)):
        check_free(output, overwrite=overwrite)
    write_tie_points(registration, path, overwrite=overwrite)
    draw_residuals(registration, picture_path(path), overwrite=overwrite)


def write_tie_points(registration: Registration, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Write the layer ``tie_points`` of a GeoPackage.

    Attributes are ``dx_m``, ``dy_m`` (displacement), ``residual_x_m``, ``residual_y_m``, ``residual_m``,
    ``residual_px`` (what the model left), ``score`` and ``status``: used, held out or rejected.
    """
    import geopandas as gpd

    from geo.geopackage_file import write_layer, writing

    points = registration.points
    length = np.hypot(points.residual_x, points.residual_y)
    frame = gpd.GeoDataFrame(
        {
            "status": points.status,
            "dx_m": points.dx,
            "dy_m": points.dy,
            "residual_x_m": points.residual_x,
            "residual_y_m": points.residual_y,
            "residual_m": length,
            "residual_px": length / registration.pixel_m,
            "score": points.score,
        },
        geometry=gpd.points_from_xy(points.x, points.y),
        crs=registration.crs,
    )
    with atomic(path, overwrite=overwrite) as part, writing(path):
        write_layer(part, LAYER, frame)


def draw_residuals(registration: Registration, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Draw the displacement and, much enlarged, what the model left of it, as a PNG."""
    figure = residual_figure(registration)
    with atomic(path, overwrite=overwrite) as part:
        figure.savefig(part, dpi=120, format="png", metadata={"Software": None})


def residual_figure(registration: Registration) -> Figure:
    """Two panels with one arrow for each tie point, all of them within their panel, and a key above it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, pixel = registration.points, registration.pixel_m
    km_x, km_y = (points.x - points.x.min()) / 1000, (points.y - points.y.min()) / 1000
    status, good = points.status, points.good
    long_km = _arrow_km(np.ptp(km_x), np.ptp(km_y), len(km_x))
    shown = [
        (title, u, v, _unit(np.hypot(u, v)[good]))
        for title, u, v in (
            (f"Displacement ({registration.model})", points.dx, points.dy),
            ("Left after registration", points.residual_x, points.residual_y),
        )
    ]
    west, east, south, north = _limits(
        np.concatenate([km_x, *((km_x + u / unit * long_km)[good] for _, u, _, unit in shown)]),
        np.concatenate([km_y, *((km_y + v / unit * long_km)[good] for _, _, v, unit in shown)]),
    )
    panel_high = _PANEL * (north - south) / (east - west)
    high = panel_high + 1.9
    figure = Figure(figsize=(_WIDE, high))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.9 / high, top=1 - 1.0 / high, wspace=0.05)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (title, u, v, unit) in zip(panels, shown, strict=True):
        rejected = ~good
        axes.plot(
            km_x[rejected], km_y[rejected], "x", color=_COLOURS["rejected"], ms=4, label=_label(status, "rejected")
        )
        for name in ("used", "held out"):
            these = status == name
            axes.plot(km_x[these], km_y[these], ".", color=_COLOURS[name], ms=3)
            arrows = axes.quiver(
                km_x[these], km_y[these], u[these], v[these], color=_COLOURS[name], angles="xy", scale_units="xy",
                scale=unit / long_km, width=0.003, label=_label(status, name),
            )  # fmt: skip
        axes.set(xlim=(west, east), ylim=(south, north), aspect="equal", xlabel="km east")
        # the key's arrow ends where the panel does
        start = 1 - long_km / (east - west)
        axes.quiverkey(arrows, start, 1 + _KEY / panel_high, unit, f"{unit:g} m", labelpos="W", color="black")
        axes.set_title(f"{title}\n", loc="left", fontsize=11)  # the second line is the key's
    panels[0].set_ylabel("km north")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    checked = f"{registration.held_out_rmse_m:.2g} m ({registration.held_out_rmse_m / pixel:.2g} px of {pixel:g} m)"
    figure.suptitle(
        f"RMSE: {registration.rmse_m:.2g} m at the tie points used, {checked} at those held out; "
        f"{registration.held_out_before_m:.3g} m before",
        fontsize=11,
        y=1 - 0.15 / high,
        va="top",
    )
    return figure


def _arrow_km(wide: float, high: float, count: int) -> float:
    """Length on the map of an arrow as long as the key's: the points' spacing at most, and no long part of a panel."""
    wide, high = max(wide, 0.1), max(high, 0.1)
    return float(min(np.sqrt(wide * high / count), max(wide, high) / 4)) / 1.2


def _unit(length: np.ndarray) -> float:
    """Metres of the key's arrow: nine in ten are hardly longer, and none is many times as long."""
    return _round(float(max(np.quantile(length, 0.9), length.max() / 4)))


def _limits(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float]:
    """West, east, south and north of panels that hold points with room around them, neither flat nor narrow."""
    room = 0.08 * max(np.ptp(x), np.ptp(y), 0.1)
    wide, high = np.ptp(x) + 2 * room, np.ptp(y) + 2 * room
    wide, high = max(wide, high / _SHAPES[1]), max(high, wide * _SHAPES[0])
    middle_x, middle_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    return (
        float(middle_x - wide / 2),
        float(middle_x + wide / 2),
        float(middle_y - high / 2),
        float(middle_y + high / 2),
    )


def _label(status: np.ndarray, name: str) -> str:
    return f"{name} ({np.count_nonzero(status == name)})"


def _round(value: float) -> float:
    """Round length for a key: 1, 2 or 5 times a power of ten."""
    if not value > 0:
        return 1.0
    power = 10 ** np.floor(np.log10(value))
    return float(min((1, 2, 5, 10), key=lambda n: abs(np.log(n * power / value))) * power)
