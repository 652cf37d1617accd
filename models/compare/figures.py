"""The figures of an experiment: systems with their intervals beside the figures in print, and learning curves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.compare.experiment import SCORES, Experiment
from models.compare.tables import Line

#: Okabe and Ito 2008: colours that people with any colour vision tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8a8a00")
PRINT = "#777777"


def draw_scores(experiment: Experiment, lines: Sequence[Line], path: str | os.PathLike) -> None:
    """Draw each system's score with its interval, and the figure in print as a hollow mark, a panel a test set.

    Parameters
    ----------
    experiment : Experiment
    lines : sequence of Line
        Of training on all chips.
    path : path
        PNG.
    """
    tables: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        tables.setdefault((line.on, line.data), []).append(line)
    # on chips that all lack landslide, for instance, F1 is nowhere defined
    shown = {place: t for place, t in tables.items() if any(np.isfinite(_score(line, experiment)) for line in t)}
    tables = shown or tables
    most = max(len(table) for table in tables.values())
    wide = min(3, len(tables))
    high = -(-len(tables) // wide)
    figure, places = _figure(wide * 5.0 + 1.5, high * (0.42 * most + 1.3) + 0.5, high, wide)
    name = experiment.metric
    for axes, ((on, data), table) in zip(places, tables.items(), strict=False):
        for place, line in enumerate(table):
            _point(axes, place, line, name)
        axes.set_yticks(range(len(table)), [_label(line) for line in table], fontsize=8)
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.grid(axis="x", color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel(f"{SCORES[name]}, per cent", fontsize=9)
        where = experiment.data[on].title or on
        trained = "" if on == data else f", trained on {experiment.data[data].title or data}"
        axes.set_title(f"{where}{trained}", fontsize=9)
    for axes in places[len(tables) :]:
        axes.set_axis_off()
    handles = _handles(any(name in p.scores for line in lines for p in line.published))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle(experiment.title, fontsize=11)
    figure.savefig(path, format="png")


def _score(line: Line, experiment: Experiment) -> float:
    return line.scores.get(experiment.metric, float("nan"))


def _point(axes: Any, place: int, line: Line, name: str) -> None:
    if line.seeds:
        value, interval = 100 * line.scores[name], line.intervals.get(name)
        if interval:
            axes.plot([100 * v for v in interval], [place, place], color=COLOURS[0], lw=2.2, alpha=0.45)
        axes.plot(value, place, "o", color=COLOURS[0], ms=6)
    else:
        axes.text(
            0.01,
            place,
            "not run",
            transform=axes.get_yaxis_transform(),
            color=PRINT,
            fontsize=8,
            va="center",
            zorder=3,
            bbox={"fc": "white", "ec": "none", "pad": 1},
        )
    for published in line.published:
        if name in published.scores:
            axes.plot(published.scores[name], place, "D", mfc="none", mec=PRINT, ms=6, mew=1.2)


def _label(line: Line) -> str:
    return f"{line.row.name}\n{line.row.mark}" if line.row.mark else line.row.name


def _handles(printed: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=COLOURS[0], marker="o", lw=2.2, label="ours, with 95 % interval over images")]
    if printed:
        handles.append(
            Line2D([], [], ls="", marker="D", mfc="none", mec=PRINT, label="in print, on the publication's own data")
        )
    return handles


def draw_curves(experiment: Experiment, lines: Sequence[Line], path: str | os.PathLike) -> None:
    """Draw the score against the number of training chips, a line a system, a panel a test set.

    Parameters
    ----------
    experiment : Experiment
    lines : sequence of Line
    path : path
        PNG.
    """
    tables: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        tables.setdefault((line.on, line.data), []).append(line)
    figure, places = _figure(6.2 * len(tables), 4.6, 1, len(tables))
    name = experiment.metric
    numbers = [n for n in experiment.train_chips if n != "all"]
    last = 2 * max((int(n) for n in numbers), default=1)  # "all" stands apart, one step further
    place: dict[int | str, float] = {n: float(n) for n in numbers} | {"all": float(last)}
    for axes, ((on, _), table) in zip(places, tables.items(), strict=True):
        for number, row in enumerate(experiment.rows):
            own = [line for line in table if line.row.name == row.name and line.seeds]
            own.sort(key=lambda line: place[line.train_chips])
            if not own:
                continue
            x = [place[line.train_chips] for line in own]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(x, [100 * line.scores[name] for line in own], "o-", color=colour, ms=4, label=row.name)
            bands = [(at, line.intervals[name]) for at, line in zip(x, own, strict=True) if line.intervals.get(name)]
            if bands:
                low, high = np.array([interval for _, interval in bands]).T
                axes.fill_between([at for at, _ in bands], 100 * low, 100 * high, color=colour, alpha=0.15, lw=0)
        axes.set_xscale("log")
        axes.set_xticks(list(place.values()), [str(n) for n in place], fontsize=8)
        axes.minorticks_off()
        axes.set_xlabel("training chips", fontsize=9)
        axes.set_ylabel(f"{SCORES[name]} on test chips, per cent", fontsize=9)
        axes.set_title(experiment.data[on].title or on, fontsize=9)
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(experiment.title, fontsize=11)
    figure.savefig(path, format="png")


def _figure(width: float, height: float, rows: int, columns: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())
