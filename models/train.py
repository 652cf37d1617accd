"""Train a model from a recipe on chips, choose its threshold on validation chips, and write its file."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geo.atomic import atomic, check_free
from geo.progress import Progress, silent
from geo.stream import cpus
from models import card, distributed, forest, metrics, model_file, svm
from models.copies import check_apart, digests
from models.dataset import gather
from models.distributed import Team
from models.evaluation import TOLERANCE_PX, Judged, evaluate, judge, report, write_counts
from models.intervals import Draws, intervals
from models.loop import Checkpoints, OnEpoch, train_segmenter
from models.outlines import COLUMNS
from models.recipe import PixelClassifier, Recipe
from models.threads import limited_threads

log = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    folders: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    seed: int = 0,
    resume: bool = False,
    log_dir: str | os.PathLike | None = None,
    threads: int | None = None,
    device: str | None = None,
    train_chips: int | None = None,
    devices: int = 1,
    overwrite: bool = False,
    progress: Progress = silent,
    on_epoch: OnEpoch | None = None,
) -> dict[str, Any]:
    """Train a model and write its file, ``<stem>.metrics.json``, ``.card.md`` and ``.images.csv`` beside it.

    Checkpoints lie in ``<stem>.checkpoints/``: ``last.pt`` to go on from, ``best.pt`` a model file. The same
    seed, chips and number of threads give the same weights on a CPU.

    Parameters
    ----------
    recipe : Segmenter or PixelClassifier
    folders : sequence of path
        Folders of chips (``geocrack tile`` or ``geocrack chips import``).
    output : path
        The model file.
    seed : int
        Of weights, order and augmentation.
    resume : bool
        Go on from ``last.pt`` where there is one.
    log_dir : path, optional
        Folder of the TensorBoard log; ``<stem>.tensorboard`` beside the model by default.
    threads : int, optional
        CPUs to use at most; torch's own choice by default.
    device : str, optional
        A device of torch; a GPU where there is one by default.
    train_chips : int, optional
        Train on so many of the training chips only, drawn by ``seed``.
    devices : int
        Processes that share each batch of a network, one on each GPU, or all on CPUs where there is none. A process
        that ``torchrun`` started joins its own.
    overwrite : bool
        Replace an output that is there.
    progress : callable
    on_epoch : callable, optional
        Called with each row of a network's history as it comes; of a training that goes on, with earlier ones first.
        With several processes it must be one that can be pickled.

    Returns
    -------
    dict
        Scores on validation and test chips, threshold, seconds; empty in a process of ``torchrun`` that does not
        lead.

    Raises
    ------
    LabelError
        A split without chips or without landslide, or test chips that show a picture that trains or validates.
    ModelError
        Bands, weights or checkpoint that do not fit; a loss that is no number.
    ConfigError
        More devices than chips of a batch, or than there are GPUs.
    OutputExistsError, OutputError
    """
    how: dict[str, Any] = {
        "seed": seed,
        "resume": resume,
        "log_dir": log_dir,
        "threads": threads,
        "train_chips": train_chips,
        "progress": progress,
        "on_epoch": on_epoch,
    }
    output = Path(output)
    for path in (output, _scores_of(output), card.card_path(output)):
        check_free(path, overwrite=overwrite)
    alone = isinstance(recipe, PixelClassifier)
    if distributed.by_torchrun():
        rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        if alone and rank:
            return {}
        if not alone:
            local = int(os.environ.get("LOCAL_RANK", rank))
            return _member(rank, size, "env://", recipe, folders, output, device, how, local=local)
    elif devices > 1 and not isinstance(recipe, PixelClassifier):
        distributed.check_devices(devices, device)
        for phase in recipe.phases:
            Team(0, devices).check(phase.batch)
        distributed.launch(devices, _member, recipe, folders, output, device, how)
        found: dict[str, Any] = json.loads(_scores_of(output).read_text())
        return found
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return _train(recipe, folders, output, place, Team(), **how)


def _scores_of(output: Path) -> Path:
    return output.with_name(f"{output.stem}.metrics.json")


def _member(
    rank: int,
    size: int,
    meeting: str,
    recipe: Recipe,
    folders: Sequence[str | os.PathLike],
    output: Path,
    device: str | None,
    how: dict[str, Any],
    *,
    local: int | None = None,
) -> dict[str, Any]:
    """Train as one of several processes, on its share of the threads."""
    place = distributed.device_of(rank if local is None else local, device)
    if place.type == "cpu":
        how = {**how, "threads": max(1, cpus(how["threads"]) // size)}
    if rank:
        how = {**how, "progress": silent, "on_epoch": None}
    with distributed.joined(rank, size, place, meeting) as team:
        return _train(recipe, folders, output, place, team, **how)


def _train(
    recipe: Recipe,
    folders: Sequence[str | os.PathLike],
    output: Path,
    place: torch.device,
    team: Team,
    *,
    seed: int,
    resume: bool,
    log_dir: str | os.PathLike | None,
    threads: int | None,
    train_chips: int | None,
    progress: Progress,
    on_epoch: OnEpoch | None,
) -> dict[str, Any]:
    """Train as the process that ``team`` says."""
    start = time.monotonic()
    data = gather(recipe, folders, train_chips=train_chips, seed=seed)
    described = card.describe_chips(folders)
    sets = {"train": data.train.records, "val": data.val.records, "test": data.test.records}
    pictures = {split: digests(records, workers=threads) if team.leads else [] for split, records in sets.items()}
    if team.leads:
        check_apart(sets, pictures)
    log.info(
        "%d training, %d validation, %d test chips; bands %s; %.1f %% of the ground is landslide",
        len(data.train),
        len(data.val),
        len(data.test),
        ", ".join(data.bands),
        100 * data.landslide_share,
    )

    def write(path: Path, module: nn.Module, threshold: float, scores: dict, history: list, **more: Any) -> None:
        model_file.save(
            path,
            module,
            recipe,
            bands=data.bands,
            mean=data.mean,
            std=data.std,
            chip_size=data.train[0].image.shape[0] if recipe.kind == "pixel" else recipe.size,
            threshold=threshold,
            metrics=scores,
            history=history,
            trained_on={
                "chips": [os.fspath(folder) for folder in folders],
                "counts": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
                "landslide_share": data.landslide_share,
                "seed": seed,
                "fingerprint": data.fingerprint,
                "data": described,
                "software": card.software(),
                "pictures": sorted({*pictures["train"], *pictures["val"]} - {""}),
                **more,
            },
            overwrite=True,
        )

    with limited_threads(threads), torch.random.fork_rng(devices=[]):
        module: nn.Module
        if isinstance(recipe, PixelClassifier):
            fit = forest.fit if recipe.network.name == "forest" else svm.fit
            module, history = fit(recipe, data, seed=seed, progress=progress)
        else:
            module, history = train_segmenter(
                recipe,
                data,
                seed=seed,
                device=place,
                checkpoints=Checkpoints(output.with_name(f"{output.stem}.checkpoints"), write),
                resume=resume,
                log_dir=Path(log_dir) if log_dir else output.with_name(f"{output.stem}.tensorboard"),
                progress=progress,
                team=team,
                on_epoch=on_epoch,
            )
        if not team.leads:
            return {}
        counted = evaluate(module, data.val, place)
        threshold, _ = metrics.best_threshold(metrics.at_share(counted.sum(0), data.landslide_share))
        judged = {"val": _without_outlines(data.val.records, pictures["val"], counted, threshold)}
        scores: dict[str, Any] = {"validation": _validation(judged["val"])}
        if len(data.test):
            judged["test"] = judge(module, data.test, place, pictures=pictures["test"], threshold=threshold)
            scores["test"] = report(judged["test"])
    seconds = round(time.monotonic() - start, 1)
    write(output, module, threshold, scores, history, seconds=seconds)
    card.write_card(output)
    write_counts(output.with_name(f"{output.stem}.images.csv"), judged)
    found = {"threshold": threshold, **scores, "seconds": seconds, "history": history}
    with atomic(_scores_of(output), overwrite=True) as part:
        part.write_text(json.dumps(found, indent=2) + "\n")
    return found


def _validation(judged: Judged) -> dict[str, Any]:
    """Scores of the validation chips with their intervals, which a model file carries to its card."""
    draws, blocks = Draws(), judged.blocks
    return {
        **metrics.summary(judged.histograms, judged.threshold),
        "interval": intervals(judged.counted, blocks=blocks, draws=draws),
        "resampling": draws.facts(len(np.unique(blocks))),
    }


def _without_outlines(
    records: Sequence[Any], pictures: Sequence[str], histograms: np.ndarray, threshold: float
) -> Judged:
    """Note what was judged by pixels alone."""
    ids = tuple(record.id for record in records)
    nothing = np.zeros((len(ids), len(COLUMNS)), dtype=np.int64)
    return Judged(ids, tuple(pictures), threshold, TOLERANCE_PX, histograms, nothing)
