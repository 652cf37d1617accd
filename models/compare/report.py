"""Write all that an experiment gives into its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geo.atomic import atomic
from models.compare.cells import Cell, Result, results
from models.compare.experiment import Experiment, facts
from models.compare.figures import draw_curves, draw_scores
from models.compare.tables import Line, lines_of, markdown, published_csv, table_csv
from models.panels import draw
from models.scoring import rows_of

log = logging.getLogger(__name__)

#: What tells a folder of ours.
MARK = "experiment.json"


def write_tables(experiment: Experiment, cells: Sequence[Cell], folder: Path, *, command: str = "") -> list[Line]:
    """Write ``table.md``, ``table.csv``, ``published.csv`` and ``experiment.json`` of what is finished by now."""
    lines = lines_of(experiment, results(experiment, cells, score=False))
    _write_tables(experiment, lines, folder, command)
    return lines


def write_report(experiment: Experiment, cells: Sequence[Cell], folder: Path, *, command: str = "") -> list[Line]:
    """Write tables, figures and the panels of all systems side by side.

    Returns
    -------
    list of Line
    """
    found = results(experiment, cells, score=True)
    lines = lines_of(experiment, found)
    _write_tables(experiment, lines, folder, command)
    full = [line for line in lines if line.train_chips == "all"]
    if any(line.seeds for line in full):
        with atomic(folder / "figure.png", overwrite=True) as part:
            draw_scores(experiment, full, part)
    if len(experiment.train_chips) > 1 and any(line.seeds for line in lines):
        with atomic(folder / "curve.png", overwrite=True) as part:
            draw_curves(experiment, lines, part)
    for name in experiment.trained_on if experiment.panels and not experiment.classifies else ():
        _write_panels(experiment, found, name, folder / f"panels-{name}.png")
    return lines


def _write_tables(experiment: Experiment, lines: Sequence[Line], folder: Path, command: str) -> None:
    for name, text in (
        ("table.md", markdown(experiment, lines, command=command)),
        ("table.csv", table_csv(experiment, lines)),
        ("published.csv", published_csv(lines)),
        (MARK, json.dumps(facts(experiment), indent=2) + "\n"),
    ):
        with atomic(folder / name, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")


def _write_panels(experiment: Experiment, found: Sequence[Result], name: str, path: Path) -> None:
    """Draw the chips where the systems together are wrong most, with what each makes of them; its first seed."""
    most = experiment.train_chips[-1] if "all" not in experiment.train_chips else "all"
    shown: dict[str, Result] = {}
    for result in found:
        cell = result.cell
        if result.counts is not None and result.on == cell.data == name and cell.train_chips == most:
            if not cell.model.exists():  # some keep the counts alone, models are large
                log.warning("%s is left out of %s: %s is gone", cell.words, path.name, cell.model)
                continue
            shown.setdefault(cell.row.name, result)
    if not shown:
        return
    tables = [result.counts.counted for result in shown.values() if result.counts is not None]
    wrong = np.mean([table[:, 1] + table[:, 2] for table in tables], axis=0)
    numbers = [int(i) for i in np.argsort(-wrong, kind="stable")[: experiment.panels]]
    paths = [(heading, result.cell.model) for heading, result in shown.items()]
    rows = rows_of(paths, experiment.data[name].chips, numbers)
    with atomic(path, overwrite=True) as part:
        draw(part, rows, title=f"{experiment.title}: where the systems together are wrong most", probability=False)
