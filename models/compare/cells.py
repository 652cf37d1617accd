"""Train and score the cells of an experiment; finished ones are known by the hash of what they are made of."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geo.atomic import atomic
from geo.errors import GeocrackError, out_of_memory
from geo.progress import Progress, silent
from geo.stream import cpus, stream
from models import model_file
from models.chips import Record, open_chips
from models.classification import classifier_file
from models.classification.loop import rank
from models.compare import pictures
from models.compare.experiment import AnyRecipe, DataSet, Experiment, Row, recipe_of
from models.evaluation import ImageCounts, read_counts, write_counts
from models.outlines import COUNTED
from models.recipe import Recipe
from models.scoring import score_model
from models.train import train

log = logging.getLogger(__name__)

#: Raise it where the same recipe and chips are to give another result than before.
_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One training of an experiment.

    Attributes
    ----------
    row : Row
    data : str
        Name of the data set.
    train_chips : int or "all"
    seed : int
    recipe : Recipe or ImageClassifier
        With all changes.
    folder : Path
        Where it is, or will be.
    """

    row: Row
    data: str
    train_chips: int | str
    seed: int
    recipe: AnyRecipe
    folder: Path

    @property
    def model(self) -> Path:
        """Its model file."""
        return self.folder / "model.pt"

    @property
    def done(self) -> bool:
        """Whether it has been trained and scored."""
        return (self.folder / "cell.json").exists()

    @property
    def words(self) -> str:
        """Name for messages."""
        fewer = "" if self.train_chips == "all" else f", {self.train_chips} training chips"
        return f"{self.row.name} on {self.data}{fewer}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """What a cell found on the test chips of a data set, or why there is nothing.

    Attributes
    ----------
    cell : Cell
    on : str
        Data set it was scored on.
    counts : ImageCounts or None
    facts : dict
        ``minutes, threshold, hardware, finished`` of a cell that was run.
    reason : str
        Why it was not run; empty where it was.
    """

    cell: Cell
    on: str
    counts: ImageCounts | None
    facts: dict[str, Any]
    reason: str = ""


def cells_of(experiment: Experiment, folder: str | os.PathLike) -> list[Cell]:
    """All cells, in the order of the rows; nothing is run.

    Raises
    ------
    LabelError
        A data set is no folder of chips.
    ConfigError
    """
    contents = {name: _content(experiment.data[name]) for name in experiment.trained_on}
    found = []
    for row in experiment.rows:
        recipe = recipe_of(experiment, row)
        for name in experiment.trained_on:
            content = _with_tags(contents[name], experiment.data[name], recipe)
            for number in experiment.train_chips:
                for seed in experiment.seeds:
                    key = _key(recipe, seed, number, content)
                    found.append(Cell(row, name, number, seed, recipe, Path(folder) / "cells" / key))
    return found


def _content(data: DataSet) -> str:
    return pictures.content_of(data) if data.images else content_of(open_chips(data.chips).records)


def _with_tags(content: str, data: DataSet, recipe: AnyRecipe) -> str:
    """Hash of the content of a data set and of the tags that a recipe takes, if it does."""
    tags = pictures.tags_of(data, recipe)
    return hashlib.sha256(f"{content} {tags}".encode()).hexdigest() if tags else content


def content_of(records: Sequence[Record]) -> str:
    """Hash of what training sees of chips: names, splits, images and labels."""

    def of(record: Record) -> bytes:
        parts = (f"{record.id} {record.split}".encode(), record.image.read_bytes(), record.label.read_bytes())
        return b"".join(hashlib.sha256(part).digest() for part in parts)

    whole = hashlib.sha256()
    for _, found in stream(of, records):
        whole.update(found)
    return whole.hexdigest()


def _key(recipe: AnyRecipe, seed: int, train_chips: int | str, content: str) -> str:
    made_of = recipe.model_dump(mode="json")
    for word in ("description", "cache_mb"):  # neither changes a result
        made_of.pop(word, None)
    text = json.dumps([_VERSION, made_of, seed, train_chips, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run(
    experiment: Experiment,
    cells: Sequence[Cell],
    *,
    only: Sequence[str] = (),
    threads: int | None = None,
    devices: int = 1,
    progress: Progress = silent,
) -> Iterator[Cell]:
    """Train and score what is not finished yet.

    A cell that cannot be trained (weights that are not there, bands that do not fit, a mistake of ours) is passed over
    with its reason and tried again by the next run. A training that was broken off goes on from its last epoch.

    Parameters
    ----------
    only : sequence of str
        Rows to run; all by default.
    threads, devices, progress
        As of ``models.train.train``.

    Yields
    ------
    Cell
        After each that was run.
    """
    wanted = [cell for cell in cells if not cell.row.skip and (not only or cell.row.name in only)]
    finished = sum(cell.done for cell in wanted)
    log.info("%d of %d cells are to be run, %d are finished", len(wanted) - finished, len(cells), finished)
    for cell in wanted:
        if cell.done:
            _count_anew(experiment, cell)
            continue
        log.info("%s (%s)", cell.words, cell.folder.name)
        cell.folder.mkdir(parents=True, exist_ok=True)
        try:
            found = _train(experiment, cell, threads, devices, progress)
        except Exception as error:  # one cell must not cost the others
            reason = _told(error)
            log.warning("%s is not run: %s", cell.words, reason, exc_info=None if _expected(error) else error)
            _write(cell.folder / "failed.json", {"reason": reason})
            yield cell
            continue
        if "test" not in found:
            _write(cell.folder / "failed.json", {"reason": f"the data set '{cell.data}' has no test {_what(cell)}"})
            yield cell
            continue
        (cell.folder / "failed.json").unlink(missing_ok=True)
        shutil.rmtree(cell.folder / "model.checkpoints", ignore_errors=True)
        seconds = max(found["seconds"], sum(row.get("seconds", 0) for row in found["history"]))
        _write(
            cell.folder / "cell.json",
            {
                "row": cell.row.name,
                "data": cell.data,
                "train_chips": cell.train_chips,
                "seed": cell.seed,
                "recipe": cell.recipe.model_dump(mode="json"),
                "minutes": round(seconds / 60, 2),
                **_found(cell, found),
                **_told_of(cell, found),
                "counted": COUNTED,
                "hardware": hardware(threads, devices),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        yield cell


def _count_anew(experiment: Experiment, cell: Cell) -> None:
    """Score the model of a finished cell once more where masks are counted otherwise today; nothing is trained."""
    facts = json.loads((cell.folder / "cell.json").read_text())
    if facts.get("counted", 1) == COUNTED or not isinstance(cell.recipe, Recipe):
        return
    log.info("%s is counted anew (%s)", cell.words, cell.folder.name)
    try:
        scored = score_model(cell.model, experiment.data[cell.data].chips, threshold=facts["threshold"])
    except Exception as error:  # what was counted then is better than nothing
        log.warning(
            "%s keeps its old counts: %s", cell.words, _told(error), exc_info=None if _expected(error) else error
        )
        return
    for elsewhere in cell.folder.glob("on-*.images.csv"):
        elsewhere.unlink()
    table = cell.folder / "model.images.csv"
    write_counts(table, {"val": read_counts(table, "val"), "test": scored.judged})
    _write(cell.folder / "cell.json", {**facts, "test": scored.found["pooled"], "counted": COUNTED})


def _expected(error: Exception) -> bool:
    return isinstance(error, GeocrackError) or out_of_memory(error)


def _told(error: Exception) -> str:
    """Reason of a failure in words; a mistake of ours is named as one."""
    if isinstance(error, GeocrackError):
        return str(error)
    if out_of_memory(error) and "cuda" in str(error).lower():
        return "the GPU's memory is too small; give a smaller batch or size, or more devices"
    if out_of_memory(error):
        return "memory is too small; give a smaller batch or size, or close other programs"
    first = (str(error).strip().splitlines() or [""])[0]
    return f"an error of geocrack itself, whose traceback is in the log ({type(error).__name__}: {first})"


def _train(experiment: Experiment, cell: Cell, threads: int | None, devices: int, progress: Progress) -> dict[str, Any]:
    """Train a cell; beside its model lie the counts of each test image."""
    data = experiment.data[cell.data]
    if not isinstance(cell.recipe, Recipe):
        return pictures.train(
            cell.recipe, data, cell.model, seed=cell.seed, threads=threads, devices=devices, progress=progress
        )
    return train(
        cell.recipe,
        data.chips,
        cell.model,
        seed=cell.seed,
        resume=cell.recipe.kind == "segmenter",
        train_chips=None if cell.train_chips == "all" else int(cell.train_chips),
        threads=threads,
        devices=devices,
        overwrite=True,
        progress=progress,
    )


def _what(cell: Cell) -> str:
    return "chips" if isinstance(cell.recipe, Recipe) else "images"


def _found(cell: Cell, found: dict[str, Any]) -> dict[str, Any]:
    """Scores for the file of a cell: over pixels, or of each set of images by itself."""
    if not isinstance(cell.recipe, Recipe):
        sets = {split: found[split] for split in ("validation", "test")}
        return {split: {name: of["scores"] for name, of in scored.items()} for split, scored in sets.items()}
    return {
        "threshold": found["threshold"],
        "validation": found["validation"]["pooled"],
        "test": found["test"]["pooled"],
    }


def results(experiment: Experiment, cells: Sequence[Cell], *, score: bool) -> list[Result]:
    """Gather what the cells found; cells that were not run have their reason.

    Parameters
    ----------
    experiment : Experiment
    cells : sequence of Cell
    score : bool
        Score finished models on the other data sets where the experiment asks for it and nobody did yet.
    """
    found = []
    others = _others(experiment) if any(cell.done for cell in cells) else {}
    for cell in cells:
        if cell.row.skip or not cell.done:  # another row may have run the same cell
            apart = [name for name, data in experiment.data.items() if experiment.cross or not data.train]
            found += [Result(cell, name, None, {}, _reason(cell)) for name in dict.fromkeys((cell.data, *apart))]
            continue
        facts = json.loads((cell.folder / "cell.json").read_text())
        found.append(Result(cell, cell.data, read_counts(cell.folder / "model.images.csv"), facts))
        for other, content in others.items():
            if other != cell.data and (experiment.cross or not experiment.data[other].train):
                found.append(_elsewhere(experiment, cell, other, content, facts, score=score))
    return found


def _others(experiment: Experiment) -> dict[str, str | GeocrackError]:
    """Hash the data sets that models are tested on besides their own; or tell what is wrong with one."""
    found: dict[str, str | GeocrackError] = {}
    for name, data in experiment.data.items():
        if data.train and not experiment.cross:
            continue
        try:
            found[name] = _content(data) if data.images else content_of(open_chips(data.chips).split("test"))
        except GeocrackError as error:
            found[name] = error
    return found


def _elsewhere(
    experiment: Experiment, cell: Cell, other: str, content: str | GeocrackError, facts: dict[str, Any], *, score: bool
) -> Result:
    """Score a model on the test chips or images of another data set."""
    if isinstance(content, GeocrackError):
        return Result(cell, other, None, {}, str(content))
    data = experiment.data[other]
    path = cell.folder / f"on-{_with_tags(content, data, cell.recipe)[:12]}.images.csv"
    if not path.exists() and not score:
        return Result(cell, other, None, {}, "not scored yet")
    if not path.exists():
        try:
            counts = pictures.score(cell.model, data) if data.images else score_model(cell.model, data.chips).judged
        except Exception as error:  # one cell must not cost the others
            if not _expected(error):
                log.warning("%s is not scored on %s", cell.words, other, exc_info=error)
            return Result(cell, other, None, {}, _told(error))
        write_counts(path, {"test": counts})
    return Result(cell, other, read_counts(path), facts)


def _reason(cell: Cell) -> str:
    if cell.row.skip:
        return cell.row.skip
    failed = cell.folder / "failed.json"
    return json.loads(failed.read_text())["reason"] if failed.exists() else "not run yet"


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic(path, overwrite=True) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _told_of(cell: Cell, found: dict[str, Any]) -> dict[str, float | None]:
    """Tell how large the model is and, of a classifier, its accuracy on training images in the epoch that was chosen.

    The latter is that of the steps of the epoch, on images as they were changed at random.
    """
    classifies = not isinstance(cell.recipe, Recipe)
    module: nn.Module = (classifier_file.load(cell.model) if classifies else model_file.load(cell.model)).module
    parameters = sum(parameter.numel() for parameter in module.parameters())
    best = max(found["history"], key=rank) if classifies else None
    return {
        "parameters": parameters / 1e6 if parameters else None,
        "size_mb": cell.model.stat().st_size / 1e6,
        "train_accuracy": best["accuracy"] if best else None,
    }


def hardware(threads: int | None = None, devices: int = 1) -> str:
    """Say in words what a training runs on."""
    torch_version = torch.__version__.split("+")[0]
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        return f"{devices} x {name}, torch {torch_version}" if devices > 1 else f"{name}, torch {torch_version}"
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = cpus(threads)
    return f"{cores} core{'s' * (cores > 1)} of {processor}, torch {torch_version}"
