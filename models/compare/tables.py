"""The tables of an experiment: Markdown to read, CSV to go on with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.compare.cells import Result
from models.compare.experiment import FACTS, NO_SHARES, SCORES, TOLD, Experiment, Published, Row
from models.evaluation import TOLERANCE_PX, ImageCounts, false_alarms, picture_keys
from models.intervals import (
    Draws,
    Interval,
    System,
    blocks_of,
    difference,
    holm,
    interval_of_images,
    interval_over_seeds,
    sign_test,
)
from models.metrics import identities
from models.outlines import F1_OF, columns_of, tolerant_ratios


@dataclass
class Line:
    """A row of a table: one system on the test chips of one data set, all its seeds together.

    Attributes
    ----------
    row : Row
    data, on : str
        Data set it was trained on, and scored on.
    train_chips : int or "all"
    seeds : list of int
        Those that were run.
    apart : bool
        Nothing is trained on the data set it was scored on.
    images : int
    scores, per_image : dict
        Means over seeds, over all pixels and as means over images; NaN where not defined.
    intervals : dict
        Of ``scores``.
    spread : dict
        Lowest and highest seed of ``scores``; None where there is one.
    difference : dict or None
        To the first row, see ``intervals.difference``, with ``holm_p`` and, of classifiers, ``sign_p``.
    alarms : dict or None
        ``evaluation.false_alarms``, means over seeds; None where all chips show landslide, and of classifiers.
    minutes : float
        Of a training, mean over seeds.
    facts : dict
        Means over seeds of ``FACTS``; NaN where a cell does not tell.
    hardware : str
    reason : str
        Why there is nothing, or which seeds are missing.
    """

    row: Row
    data: str
    on: str
    train_chips: int | str
    seeds: list[int] = field(default_factory=list)
    apart: bool = False
    images: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    per_image: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    spread: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    difference: dict[str, Any] | None = None
    alarms: dict[str, Any] | None = None
    minutes: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)
    hardware: str = ""
    reason: str = ""

    @property
    def published(self) -> list[Published]:
        """Figures in print that stand beside it: of training on all chips, tested where it, or nothing, was trained."""
        if self.train_chips != "all" or (self.data != self.on and not self.apart):
            return []
        return [p for p in self.row.published if p.data == self.on or (p.data is None and not self.apart)]


def lines_of(experiment: Experiment, results: Sequence[Result], draws: Draws | None = None) -> list[Line]:
    """Put the seeds of each system together and compare it with the first row.

    Tables are by data set scored on, data set trained on, and number of training chips; p values are raised for the
    number of comparisons in a table (Holm).
    """
    draws = draws or Draws()
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        cell = result.cell
        groups.setdefault((result.on, cell.data, cell.train_chips, cell.row.name), []).append(result)
    lines: list[Line] = []
    tables: dict[tuple, list[tuple[Line, System | None, tuple[str, ...]]]] = {}
    for (on, data, number, _), found in groups.items():
        line, system, ids = _line(found, draws, experiment)
        lines.append(line)
        tables.setdefault((on, data, number), []).append((line, system, ids))
    for table in tables.values():
        _compare(table, experiment, draws)
    order = {name: place for place, name in enumerate(experiment.data)}
    numbers = {number: place for place, number in enumerate(experiment.train_chips)}

    def place(line: Line) -> tuple[int, int, int]:
        return order[line.on], order[line.data] if line.data != line.on else -1, numbers[line.train_chips]  # type: ignore[index]

    lines.sort(key=place)
    return lines


def _line(found: Sequence[Result], draws: Draws, experiment: Experiment) -> tuple[Line, System | None, tuple[str, ...]]:
    first = found[0]
    line = Line(first.cell.row, first.cell.data, first.on, first.cell.train_chips)
    line.apart = not experiment.data[first.on].train
    run = [result for result in found if result.counts is not None]
    missing = [result for result in found if result.counts is None]
    if missing:
        reasons = "; ".join(dict.fromkeys(result.reason for result in missing))
        seeds = ", ".join(str(result.cell.seed) for result in missing)
        line.reason = f"not run: {reasons}" if not run else f"seeds {seeds} not run: {reasons}"
    if not run:
        return line, None, ()
    ids, pictures = run[0].counts.ids, run[0].counts.pictures  # type: ignore[union-attr]
    counts = [result.counts for result in run if result.counts is not None]
    plain = System(np.stack([found.counted for found in counts]))
    systems = {name: _of_lines(counts, name) if name in F1_OF else plain for name in SCORES}
    blocks = blocks_of(picture_keys(ids, pictures))
    line.seeds = [result.cell.seed for result in run]
    line.images = len(ids)
    for name in SCORES:
        system = systems[name]
        line.scores[name] = system.score(name)
        line.spread[name] = system.spread(name)
        line.per_image[name] = system.per_image(name)
        if name in (*experiment.columns, experiment.metric):
            between = interval_of_images if experiment.classifies else interval_over_seeds
            line.intervals[name] = between(system, name, blocks=blocks, draws=draws)
    if not experiment.classifies:
        line.alarms = false_alarms(plain.counted, experiment.alarm_px)
    if line.alarms and line.alarms["images"] == len(ids):  # no landslide at all, of which there are no ratios either
        for name in line.scores.keys() - {"specificity", "accuracy"}:
            line.scores[name], line.intervals[name] = np.nan, None
            line.per_image[name] = np.nan
    line.minutes = float(np.mean([result.facts["minutes"] for result in run]))
    for name in FACTS:
        told = [result.facts[name] for result in run if result.facts.get(name) is not None]
        line.facts[name] = float(np.mean(told)) if told else np.nan
    line.hardware = "; ".join(dict.fromkeys(result.facts["hardware"] for result in run))
    keys = tuple(picture_keys(ids, pictures))
    return line, systems[experiment.metric], tuple(f"{name} {key}" for name, key in zip(ids, keys, strict=True))


def _of_lines(counts: Sequence[ImageCounts], name: str) -> System:
    """Take the counts of lines or of pixels within the tolerance, of which F1 is the only score."""
    table = np.stack([columns_of(F1_OF[name], found.tolerant) for found in counts])
    return System(table, lambda counted: {name: tolerant_ratios(counted)["f1"]})


def _compare(
    table: Sequence[tuple[Line, System | None, tuple[str, ...]]], experiment: Experiment, draws: Draws
) -> None:
    """Compare each line of a table with its first row, where both were scored on the same images."""
    first_line, first, ids = table[0]
    if first is None or first_line.row.name != experiment.rows[0].name:
        return
    compared = []
    for line, system, own in table[1:]:
        if system is not None and own == ids and np.isfinite(line.scores[experiment.metric]):
            blocks = blocks_of([name.split(" ", 1)[1] for name in own])
            line.difference = difference(system, first, experiment.metric, blocks=blocks, draws=draws)
            if experiment.classifies:
                line.difference["sign_p"] = sign_test(system, first, blocks)
            compared.append(line)
    for line, p in zip(compared, holm([line.difference["p"] for line in compared if line.difference]), strict=True):
        assert line.difference is not None
        line.difference["holm_p"] = p


def markdown(experiment: Experiment, lines: Sequence[Line], *, command: str = "", draws: Draws | None = None) -> str:
    """Write all tables of an experiment."""
    draws = draws or Draws()
    text = [f"# {experiment.title}", ""]
    if experiment.about:
        text += [experiment.about.strip(), ""]
    if command:
        text += [f"    {command}", ""]
    text += [_reading(experiment, draws, any(line.alarms for line in lines)), ""]
    notes: list[str] = []
    for (on, data, number), table in _tables(lines).items():
        text += _table(experiment, on, data, number, table, notes)
    if notes:
        text += [*notes, ""]
    return "\n".join(text)


def _tables(lines: Sequence[Line]) -> dict[tuple[str, str, int | str], list[Line]]:
    tables: dict[tuple[str, str, int | str], list[Line]] = {}
    for line in lines:
        tables.setdefault((line.on, line.data, line.train_chips), []).append(line)
    return tables


_DIFFERENCE = (
    "*Difference* is {} less that of the first row on the same draws of images; p of the paired bootstrap is raised "
    "for the number of rows (Holm), and "
)


def _reading(experiment: Experiment, draws: Draws, alarms: bool) -> str:
    seeds = ", ".join(map(str, experiment.seeds))
    names = SCORES[experiment.metric]
    brackets = (
        f"In brackets the {100 * draws.level:.0f} % interval of {names} from {draws.replicates} draws of test images "
        "(and of seeds, where there are several)"
    )
    if experiment.classifies:
        words = [
            "Per cent, over all test images; P, R, F1 and specificity of the class that is sought. "
            f"{brackets}, never narrower than Wilson's. Seeds: {seeds}. Weights were chosen on validation images.",
            _DIFFERENCE.format(names) + "p signs is of the exact sign test of images that one of both answers right.",
        ]
    else:
        words = [
            "Per cent, over all test pixels together; P, R, F1 and IoU of the landslide class, mIoU the mean over both "
            f"classes. {brackets}. Seeds: {seeds}. Thresholds were chosen on validation chips.",
            _DIFFERENCE.format(names) + "p of Wilcoxon's signed ranks asks whether most images differ.",
            f"*False alarms* are the chips without landslide on which at least {experiment.alarm_px} pixels are found, "
            "with Wilson's 95 % interval, and *of pixels* what share of all their pixels is.",
        ][: 3 if alarms else 2]
        if any(name in F1_OF for name in (experiment.metric, *experiment.columns)):
            words[0] += f" F1 of boundaries, of centre lines and with tolerance is within {TOLERANCE_PX:g} pixels."
    words.append(
        "*In print* are the figures of the publication, measured on the data named there: they are no result of ours."
    )
    if experiment.budget:
        b = experiment.budget
        pixels = b.steps * b.batch * b.size**2 / 1e6
        chips = f"chips of {b.size} x {b.size} ({pixels:.0f} Mpx)"
        words.append(
            f"Every network: {b.steps} steps of {b.batch} {'images' if experiment.classifies else chips}, the best of "
            f"{b.epochs} validations; learning rates, losses and what is frozen are those of its recipe."
        )
    return "\n".join(words)


def _table(
    experiment: Experiment, on: str, data: str, number: int | str, table: Sequence[Line], notes: list[str]
) -> list[str]:
    title = experiment.data[on].title or on
    parts = [f"tested on {title}"]
    if data != on:
        parts.append(f"trained on {experiment.data[data].title or data}")
    if number != "all":
        parts.append(f"{number} training chips")
    alarms, single = any(line.alarms for line in table), not experiment.classifies
    images = max(line.images for line in table)
    text = [f"## {', '.join(parts)[:1].upper()}{', '.join(parts)[1:]}", ""]
    if images:
        hardware = "; ".join(dict.fromkeys(line.hardware for line in table if line.hardware))
        text += [f"{images} test images. Trained on {hardware}.", ""]
    heads = ["system", "", *((SCORES | FACTS)[name] for name in experiment.columns), *["F1 per image"] * single]
    heads += [*["false alarms", "of pixels"] * alarms, "difference", "p"]
    heads += ["p Wilcoxon" if single else "p signs", "in print", "minutes"]
    text += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for line in table:
        if not line.seeds:
            empty = ["-"] * (len(heads) - 4)
            cells = [line.row.name, _joined(line.row.mark, line.reason), *empty, _in_print(line, notes), "-"]
        else:
            cells = [line.row.name, _joined(line.row.mark, line.reason)]
            cells += [_shown(line, name, experiment) for name in experiment.columns]
            cells += [_per_cent(line.per_image["f1"])] * single
            cells += _alarming(line) if alarms else []
            cells += [*_apart(line), _in_print(line, notes), f"{line.minutes:.1f}"]
        text.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return [*text, ""]


def _shown(line: Line, name: str, experiment: Experiment) -> str:
    """Give a column of a line: a share in per cent, or what it tells of the model."""
    if name in SCORES:
        return _per_cent(line.scores[name], line.intervals.get(name) if name == experiment.metric else None)
    value = line.facts[name]
    if name == "train_accuracy" or not np.isfinite(value):
        return _per_cent(value)
    return f"{value:.1f}"


def _joined(*words: str) -> str:
    return "; ".join(word for word in words if word)


def _per_cent(value: float | None, interval: Interval = None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    shown = f"{100 * value:.1f}"
    return shown if interval is None else f"{shown} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def _alarming(line: Line) -> list[str]:
    """Share of the chips without landslide that have a false alarm, and of their pixels."""
    if line.alarms is None:
        return ["-"] * 2
    found = line.alarms
    return [f"{_per_cent(found['rate'], found['interval'])} of {found['images']}", f"{100 * found['share']:.2f}"]


def _apart(line: Line) -> list[str]:
    found = line.difference
    if found is None:
        return ["-"] * 3
    shown = f"{100 * found['difference']:+.1f}"
    if found["interval"]:
        shown += f" ({100 * found['interval'][0]:+.1f} to {100 * found['interval'][1]:+.1f})"
    p = [
        "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
        for value in (found.get("holm_p"), found.get("sign_p", found["wilcoxon_p"]))
    ]
    return [shown, *p]


def _in_print(line: Line, notes: list[str]) -> str:
    """Figures in print; those that contradict themselves are marked, with a note."""
    shown = []
    for published in line.published:
        figures = ", ".join(
            f"{head} {published.scores[name]:g}" for name, head in TOLD.items() if name in published.scores
        )
        wrong = contradictions(published)
        shown.append(f"{figures} ({published.measured_on}){'*' if wrong else ''}")
        note = f"\\* In print of {line.row.name} ({published.measured_on}): {'; '.join(wrong)}."
        if wrong and note not in notes:
            notes.append(note)
    return "; ".join(shown) or "-"


def contradictions(published: Published) -> list[str]:
    """Tell which printed figures cannot all be true, each to the last digit that it is written with."""
    shares = published.shares
    decimals = {name: len(f"{published.scores[name]:g}".partition(".")[2]) for name in shares}
    return identities(shares, places={name: 10.0 ** -(2 + number) for name, number in decimals.items()})


def table_csv(experiment: Experiment, lines: Sequence[Line]) -> str:
    """Write one line a system and test set, shares from 0 to 1, with everything that the Markdown leaves out."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    columns = list(SCORES)
    with_interval = list(dict.fromkeys(n for n in (*experiment.columns, experiment.metric) if n in SCORES))
    heads = ["system", "recipe", "mark", "trained_on", "tested_on", "train_chips", "seeds", "images", *columns]
    heads += [f"{name}_{end}" for name in with_interval for end in ("low", "high")]
    heads += [f"{name}_per_image" for name in columns]
    heads += ["difference", "difference_low", "difference_high", "p", "p_holm", "p_wilcoxon", "p_signs"]
    heads += ["without_landslide", "false_alarms", "false_alarms_low", "false_alarms_high", "false_alarm_pixels"]
    heads += [*FACTS, "minutes", "hardware", "not_run"]
    rows.writerow(heads)
    for line in lines:
        apart, nothing = line.difference or {}, (None, None)
        row: list[Any] = [line.row.name, line.row.recipe, line.row.mark, line.data, line.on, line.train_chips]
        row += [" ".join(map(str, line.seeds)), line.images]
        row += [_number(line.scores.get(name)) for name in columns]
        row += [_number(v) for name in with_interval for v in (line.intervals.get(name) or nothing)]
        row += [_number(line.per_image.get(name)) for name in columns]
        row += [_number(v) for v in (apart.get("difference"), *(apart.get("interval") or nothing))]
        row += [_number(apart.get(name)) for name in ("p", "holm_p", "wilcoxon_p", "sign_p")]
        alarms = line.alarms or {"images": 0 if line.seeds else ""}
        row += [alarms["images"], _number(alarms.get("rate"))]
        row += [_number(v) for v in (*(alarms.get("interval") or nothing), alarms.get("share"))]
        row += [
            *(_number(line.facts.get(name)) for name in FACTS),
            f"{line.minutes:.2f}" if line.seeds else "",
            line.hardware,
            line.reason,
        ]
        rows.writerow(row)
    return out.getvalue()


def published_csv(lines: Sequence[Line]) -> str:
    """Write one line a figure in print, as printed, with ours beside it where the row was run."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    heads = ["system", "recipe", "mark", "trained_on", "tested_on", "train_chips", "measured_on"]
    rows.writerow([*heads, "score", "published", "ours", "contradiction"])
    for line in lines:
        for published in line.published:
            wrong = "; ".join(contradictions(published))
            for name, value in published.scores.items():
                found = {**line.facts, **line.scores}.get(name)
                ours = _number(found if found is None or name in NO_SHARES else 100 * found)
                place = [line.row.name, line.row.recipe, line.row.mark, line.data, line.on, line.train_chips]
                rows.writerow([*place, published.measured_on, name, f"{value:g}", ours, wrong])
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.6f}"
