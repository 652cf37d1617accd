"""The course of a network's training: phases, epochs, steps, checkpoints and the log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import models
from geo.atomic import atomic
from geo.errors import ModelError
from geo.progress import Progress
from geo.stream import stream
from models import guards, metrics, model_file, weights
from models.board import record_chips
from models.dataset import Data
from models.distributed import Team
from models.evaluation import evaluate
from models.labeller import Encoding
from models.losses import loss
from models.optimizer import fallen, learning_rate, make_optimizer, make_scaler
from models.recipe import Phase, Segmenter

log = logging.getLogger(__name__)

CHECKPOINT = "geocrack-checkpoint"

#: Called with a row of the history when its epoch is done.
OnEpoch = Callable[[dict[str, Any]], None]


class Checkpoints:
    """Folder with ``last.pt`` (to go on from) and ``best.pt`` (a model file).

    Parameters
    ----------
    folder : Path
    write_model : callable
        ``write_model(path, module, threshold, scores, history)`` writes a model file.
    """

    def __init__(self, folder: Path, write_model: Callable[..., None]):
        self.folder, self._write_model = folder, write_model

    @property
    def last(self) -> Path:
        """File to go on from."""
        return self.folder / "last.pt"

    def write_last(self, state: dict[str, Any]) -> None:
        """Replace the file to go on from."""
        with atomic(self.last, overwrite=True) as part:
            torch.save({"format": CHECKPOINT, "version": 1, **state}, part)

    def write_best(self, module: nn.Module, threshold: float, scores: dict[str, Any], history: list) -> None:
        """Replace the best model so far."""
        self._write_model(self.folder / "best.pt", module, threshold, scores, history)

    def read_last(self, made_of: dict[str, Any]) -> dict[str, Any] | None:
        """State to go on from; None where there is none.

        Raises
        ------
        ModelError
            It was written by another recipe, seed or set of chips.
        """
        if not self.last.exists():
            return None
        state = model_file.read_safely(self.last, CHECKPOINT, "a checkpoint of 'geocrack train'")
        other = [name for name, value in made_of.items() if state.get("made_of", {}).get(name) != value]
        if other:
            raise ModelError(
                f"{self.last} was written with {_others(other)}; give the same as then to go on, or leave out --resume "
                "to begin anew"
            )
        return state


def _others(names: Sequence[str]) -> str:
    """Tell what a checkpoint was written with: one of some things, and several of others by what decides them."""
    several = {
        "chips": "other chips (--chips and --train-chips decide them)",
        "images": "other images (--data and the fractions decide them)",
        "tags": "other tags",
    }
    named = {"start": "first stage (--from)"}
    one = [named.get(name, name) for name in names if name not in several]
    return " and ".join(["another " + " and ".join(one)] * bool(one) + [several[n] for n in names if n in several])


def train_segmenter(
    recipe: Segmenter,
    data: Data,
    *,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints,
    resume: bool,
    log_dir: Path,
    progress: Progress,
    team: Team | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Encoding, list[dict[str, Any]]]:
    """Train a network; the weights with the best validation F1 are given back.

    Everything that chance decides follows from ``seed`` and the number of the epoch and step, so a training
    that was broken off goes on as if it had not been. Of several processes (``team``) one validates, writes and gives
    back the best weights.

    Returns
    -------
    module : nn.Module
        In evaluation mode.
    history : list of dict
        One row an epoch.

    Raises
    ------
    ModelError
        A loss or answer is no number (chips are named), a batch is too small, a phase freezes more than there is, or
        the checkpoint is of another training.
    """
    made_of = {"recipe": recipe.model_dump(mode="json"), "seed": seed, "chips": data.fingerprint}
    state = checkpoints.read_last(made_of) if resume else None
    team = team or Team()
    for phase in recipe.phases:
        team.check(phase.batch)
    if recipe.augmentation.expand > 1:
        data = replace(data, train=data.train.expanded(recipe.augmentation.expand))
    module, apart = start(recipe, data.bands, seed), team.size if device.type == "cpu" else 1  # GPUs share statistics
    image = torch.zeros(1, len(data.bands), recipe.size, recipe.size)
    for phase in recipe.phases:
        frozen(module, phase)  # what a later phase cannot freeze is told before the first one trains
    guards.check_batches(recipe, module, _set_mode, [image], processes=apart)
    module = team.prepare(module, device).to(device).to(memory_format=torch.channels_last)
    scaler = make_scaler(recipe.precision, device)
    if state is None:
        if checkpoints.last.exists() and team.leads:
            log.warning("%s of an earlier training is replaced; --resume would have gone on from it", checkpoints.last)
        for old in log_dir.glob("events.out.tfevents.*") if team.leads else ():
            old.unlink()
        state = {"made_of": made_of, "phase": 0, "epoch": 0, "total": 0, "best": None, "stale": 0, "history": []}
    else:
        module.load_state_dict(state["module"])
        if state.get("scaler"):  # of a training on a GPU, which may go on elsewhere
            scaler.load_state_dict(state["scaler"])
        log.info("going on after epoch %d", state["total"])
    tell = on_epoch or (lambda row: None)
    for row in state["history"]:
        tell(row)
    steps = recipe.steps_per_epoch
    planned = sum(p.epochs * (steps or math.ceil(len(data.train) / p.batch)) for p in recipe.phases)
    ticks = iter(progress(range(planned), "Training", planned))
    with SummaryWriter(str(log_dir), purge_step=state["total"] or None) if team.leads else nullcontext() as board:
        for number in range(state["phase"], len(recipe.phases)):
            phase = recipe.phases[number]
            _freeze(module, phase)
            optimizer = make_optimizer(module, recipe.optimizer, phase)
            net = team.wrap(module, device)
            if number == state["phase"] and "optimizer" in state:
                optimizer.load_state_dict(state["optimizer"])
            for epoch in range(state["epoch"], phase.epochs):
                if recipe.patience is not None and state["stale"] >= recipe.patience:
                    log.info("no better validation F1 for %d epochs: the phase ends", recipe.patience)
                    break
                own = [row for row in state["history"] if row["phase"] == number]
                scale = fallen(recipe, epoch, [row["f1"] for row in own])
                row = _epoch(
                    recipe, phase, epoch, state["total"], module, optimizer, scaler, data, seed, device, ticks, scale,
                    net, team,
                )  # fmt: skip
                validated = _validate(module, data, device, row) if team.leads else None
                threshold, f1, found, pooled = team.agree(validated)
                row |= {"phase": number, "threshold": threshold, "f1": f1}
                row |= {name: found["pooled"][name] for name in ("precision", "recall")}
                state["history"].append(row)
                state["total"] += 1
                better = state["best"] is None or f1 > state["best"]["f1"]
                state["stale"] = 0 if better else state["stale"] + 1
                if board is None:  # another process leads
                    state["best"] = {"f1": f1} if better else state["best"]
                    state |= {"phase": number, "epoch": epoch + 1}
                    continue
                record_chips(board, row, module, data, device, pooled if better else None)
                tell(row)
                if better:
                    kept = {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
                    state["best"] = {"f1": f1, "epoch": row["epoch"], "module": kept}
                    checkpoints.write_best(module, threshold, {"validation": found}, state["history"])
                state |= {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"scaler": scaler.state_dict()}
                state |= {"phase": number, "epoch": epoch + 1}
                checkpoints.write_last(state)
                log.info("epoch %d: loss %.4f, validation F1 %.3f", row["epoch"], row["loss"], f1)
            state |= {"epoch": 0, "stale": 0}
    for _ in ticks:  # steps that early stopping or an earlier run made needless
        pass
    if team.leads:
        module.load_state_dict(state["best"]["module"])
    return module.eval().requires_grad_(False), state["history"]


def _validate(
    module: nn.Module, data: Data, device: torch.device, row: dict[str, Any]
) -> tuple[float, float, dict[str, Any], np.ndarray]:
    """Find the best threshold on validation chips, its F1, all scores, and the pixels by class and probability."""
    counted = evaluate(module, data.val, device, when=guards.after(row["epoch"], row["learning_rate"]))
    threshold, f1 = metrics.best_threshold(metrics.at_share(counted.sum(0), data.landslide_share))
    return threshold, f1, metrics.summary(counted, threshold), counted.sum(0)


def start(recipe: Segmenter, bands: tuple[str, ...], seed: int) -> Encoding:
    """Build the recipe's network for named bands and load the weights that its encoder starts from."""
    torch.manual_seed(seed)
    module = models.build(recipe.network.name, bands=len(bands), **recipe.network.settings)
    assert isinstance(module, Encoding)  # the recipe was checked for it
    given = recipe.weights if isinstance(recipe.weights, str) else recipe.weights.model_dump()
    # a network with an encoder of its own is known by its own name; nobody offers weights for it
    name = models.check(recipe.network.name, recipe.network.settings).get("encoder", recipe.network.name)
    weights.initialise(module.encoder, name, bands, given, extra_bands=recipe.extra_bands)
    return module


def frozen(module: Encoding, phase: Phase) -> list[nn.Module]:
    """Parts of the encoder whose weights and statistics stay in a phase.

    Raises
    ------
    ModelError
        The phase freezes more stages than the encoder has.
    """
    if phase.freeze == "nothing":
        return []
    if phase.freeze == "encoder":
        return [module.encoder]
    stages = module.encoder_stages()
    if phase.freeze > len(stages):
        names = ", ".join(name for name, _ in stages)
        raise ModelError(
            f"the recipe freezes {phase.freeze} stages of the encoder, which has {len(stages)} ({names}); give fewer, "
            "or freeze: encoder"
        )
    return [part for _, part in stages[: phase.freeze]]


def _freeze(module: Encoding, phase: Phase) -> None:
    module.encoder.requires_grad_(True)
    for part in frozen(module, phase):
        part.requires_grad_(False)


def _set_mode(module: Encoding, recipe: Segmenter, phase: Phase) -> None:
    """Training mode, but statistics that are to stay stay: of frozen parts, or those of the pre-training."""
    module.train()
    for part in frozen(module, phase):
        part.eval()
    if phase.freeze != "encoder" and recipe.statistics == "pretrained":
        for part in module.encoder.modules():
            if isinstance(part, nn.BatchNorm2d | nn.SyncBatchNorm):
                part.eval()


def _batches(recipe: Segmenter, phase: Phase, data: Data, seed: int, total: int) -> list[list[int]]:
    """Numbers of the chips of each step of an epoch; whole batches, so the last begins the order anew."""
    rng = np.random.default_rng((seed, total, 0))
    count = recipe.steps_per_epoch or math.ceil(len(data.train) / phase.batch)
    return dealt(_groups(recipe, data), count, phase.batch, rng)


def dealt(groups: Sequence[np.ndarray], count: int, batch: int, rng: np.random.Generator) -> list[list[int]]:
    """Deal numbers to the steps of an epoch.

    Parameters
    ----------
    groups : sequence of ndarray of int
        Of one group each number comes once before any comes again. Of several, as many of each as the largest has come
        in turn, those of smaller ones again.
    count, batch : int
        Steps, and numbers in each.
    rng : Generator
    """
    order: list[int] = []
    while len(order) < count * batch:
        if len(groups) == 1:
            order += rng.permutation(groups[0]).tolist()
        else:
            most = max(map(len, groups))
            drawn = [np.concatenate([rng.permutation(g) for _ in range(-(-most // len(g)))])[:most] for g in groups]
            order += np.stack(drawn, axis=1).ravel().tolist()
    return [order[i * batch : (i + 1) * batch] for i in range(count)]


def followed_together(step: int, count: int, accumulate: int) -> int:
    """How many batches the weights follow together with that of a step; the last of an epoch may be fewer."""
    return min(accumulate, count - step // accumulate * accumulate)


def _groups(recipe: Segmenter, data: Data) -> list[np.ndarray]:
    """Numbers of the training chips, in one group, or apart by whether they hold landslide."""
    numbers = np.arange(len(data.train))
    if recipe.sampling == "all":
        return [numbers]
    holds = np.array([record.landslide_share > 0 for record in data.train.records])
    return [group for group in (numbers[holds], numbers[~holds]) if len(group)]


def _epoch(
    recipe: Segmenter,
    phase: Phase,
    epoch: int,
    total: int,
    module: Encoding,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    data: Data,
    seed: int,
    device: torch.device,
    ticks: Iterator,
    scale: float,
    net: nn.Module,
    team: Team,
) -> dict[str, Any]:
    """One pass over the training chips; chance is that of ``(seed, total)``."""
    chance = (seed, total) if team.leads else (seed, total, team.rank)
    torch.manual_seed(int(np.random.SeedSequence(chance).generate_state(1)[0]))
    _set_mode(module, recipe, phase)
    steps = _batches(recipe, phase, data, seed, total)

    def read(item: tuple[int, list[int]]) -> tuple[np.ndarray, np.ndarray]:
        return data.train.batch(team.share(item[1]), recipe.augmentation, seed=(seed, total, 1 + item[0]))

    began, losses, rate = time.monotonic(), [], 0.0
    optimizer.zero_grad(set_to_none=True)
    for (step, numbers), (images, labels) in stream(read, enumerate(steps), workers=1):
        rate = scale * learning_rate(recipe.schedule, phase.learning_rate, (epoch + step / len(steps)) / phase.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        last = (step + 1) % phase.accumulate == 0 or step + 1 == len(steps)
        together = 1 if recipe.loss.reduction == "sum" else followed_together(step, len(steps), phase.accumulate)
        with team.hold(net, not last), torch.autocast(device.type, enabled=scaler.is_enabled()):
            logits = net(torch.from_numpy(images).permute(0, 3, 1, 2).to(device))
        truth = torch.from_numpy(labels).to(device)
        value = loss(logits, truth, recipe.loss)
        names = [data.train.records[number].id for number in team.share(numbers)]
        guards.check_loss(value.item(), total + 1, step + 1, rate, "chips", names)
        value = team.weigh(value, truth, recipe.loss)
        with team.hold(net, not last):
            scaler.scale(value / together).backward()
        if last:
            if recipe.optimizer.clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(module.parameters(), recipe.optimizer.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        losses.append(value.item())
        next(ticks, None)
    return {
        "epoch": total + 1,
        "loss": team.mean(float(np.mean(losses)), device),
        "learning_rate": rate,
        "seconds": round(time.monotonic() - began, 1),
    }
