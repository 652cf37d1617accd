"""The course of a classifier's training: phases, epochs, steps, checkpoints and the log.

Weights are chosen by the accuracy on validation images, by the lower loss where it is equal. Published figures are
often those of the epoch that was best on the test; ours never look at it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from geo.errors import ModelError
from geo.progress import Progress
from geo.stream import stream
from models import guards
from models.board import record_images, shown
from models.classification import scores
from models.classification.classifier import Classifier
from models.classification.reading import FittedPictures
from models.classification.recipe import ImageClassifier, ImagePhase
from models.loop import Checkpoints, OnEpoch, dealt, followed_together
from models.optimizer import fallen, learning_rate, make_optimizer, make_scaler

log = logging.getLogger(__name__)

#: Images that are scored together.
SCORED = 32


@dataclass(frozen=True)
class Course:
    """What a training starts from and is known by.

    Attributes
    ----------
    module : Classifier
        With the weights that it starts from.
    train, val : FittedPictures
    weights : tuple of float
        Of each class in the loss.
    made_of : dict
        Recipe, seed, images, tags and start: a checkpoint of others is refused.
    seed : int
    device : torch.device
    log_dir : Path
    classes : tuple of str
    sought : int
        Number of the class that is sought.
    """

    module: Classifier
    train: FittedPictures
    val: FittedPictures
    weights: tuple[float, ...]
    made_of: dict[str, Any]
    seed: int
    device: torch.device
    log_dir: Path
    classes: tuple[str, ...]
    sought: int


def answers(module: nn.Module, pictures: FittedPictures, device: torch.device, *, when: str = "") -> np.ndarray:
    """Logits of all images of a set, float32 of shape (n, classes); ``when`` is for the error, see ``guards.after``.

    Raises
    ------
    ModelError
        They are no numbers.
    """
    numbers = list(range(len(pictures)))
    batches = [numbers[i : i + SCORED] for i in range(0, len(numbers), SCORED)]
    module.eval()
    found = []
    with torch.inference_mode():
        for batch, (images, _, tags) in stream(pictures.batch, batches, workers=1):
            logits = module(*_on(device, images, tags)).float().cpu()
            guards.check_answers(logits, "images", [pictures.pictures[number].id for number in batch], when)
            found.append(logits.numpy())
    return np.concatenate(found)


def fit(
    recipe: ImageClassifier,
    course: Course,
    checkpoints: Checkpoints,
    *,
    resume: bool,
    progress: Progress,
    on_epoch: OnEpoch | None = None,
) -> tuple[Classifier, list[dict[str, Any]]]:
    """Train a classifier; the weights that did best on validation images are given back.

    Everything that chance decides follows from the seed and the number of the epoch and step, so a training that was
    broken off goes on as if it had not been.

    Returns
    -------
    module : Classifier
        In evaluation mode.
    history : list of dict
        One row an epoch.

    Raises
    ------
    ModelError
        The loss or an answer is no number (the images are named), a batch is too small for the network, a phase
        freezes more than there is, or the checkpoint is of another training.
    """
    state = checkpoints.read_last(course.made_of) if resume else None
    module, log_dir = course.module.to(course.device), course.log_dir
    for phase in recipe.phases:
        frozen(module, phase)  # what a later phase cannot freeze is told before the first one trains
    if any(phase.batch == 1 for phase in recipe.phases):
        image, _, tags = course.train.batch([0])
        guards.check_batches(recipe, module, _set_mode, _on(course.device, image, tags))
    scaler = make_scaler(recipe.precision, course.device)
    if state is None:
        if checkpoints.last.exists():
            log.warning("%s of an earlier training is replaced; --resume would have gone on from it", checkpoints.last)
        for old in log_dir.glob("events.out.tfevents.*"):
            old.unlink()
        state = {"made_of": course.made_of, "phase": 0, "epoch": 0, "total": 0, "best": None, "stale": 0, "history": []}
    else:
        module.load_state_dict(state["module"])
        if state.get("scaler"):  # of a training on a GPU, which may go on elsewhere
            scaler.load_state_dict(state["scaler"])
        log.info("going on after epoch %d", state["total"])
    for row in state["history"] if on_epoch else ():
        on_epoch(row)  # type: ignore[misc]
    planned = sum(p.epochs * _steps(recipe, p, course) for p in recipe.phases)
    ticks = iter(progress(range(planned), "Training", planned))
    with SummaryWriter(str(log_dir), purge_step=state["total"] or None) as board:
        for number in range(state["phase"], len(recipe.phases)):
            phase = recipe.phases[number]
            module.requires_grad_(True)
            for part in frozen(module, phase):
                part.requires_grad_(False)
            optimizer = make_optimizer(module, recipe.optimizer, phase)
            if number == state["phase"] and "optimizer" in state:
                optimizer.load_state_dict(state["optimizer"])
            for epoch in range(state["epoch"], phase.epochs):
                if recipe.patience is not None and state["stale"] >= recipe.patience:
                    log.info("no better validation for %d epochs: the phase ends", recipe.patience)
                    break
                own = [row for row in state["history"] if row["phase"] == number]
                scale = fallen(recipe, epoch, [rank(row) for row in own])
                row = _epoch(recipe, phase, epoch, state["total"], course, optimizer, scaler, ticks, scale)
                when = guards.after(row["epoch"], row["learning_rate"])
                logits = torch.from_numpy(answers(module, course.val, course.device, when=when))
                row |= {"phase": number, **_validate(logits, course)}
                state["history"].append(row)
                state["total"] += 1
                best = state["best"]
                better = best is None or rank(row) > (best["accuracy"], -best["loss"])
                state["stale"] = 0 if better else state["stale"] + 1
                for name in ("loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy", "seconds"):
                    board.add_scalar(name, row[name], row["epoch"])
                if on_epoch:
                    on_epoch(row)
                if better:
                    _show(board, row["epoch"], logits, course)
                    kept = {k: v.detach().cpu().clone() for k, v in module.state_dict().items()}
                    state["best"] = {
                        "accuracy": row["validation_accuracy"],
                        "loss": row["validation_loss"],
                        "epoch": row["epoch"],
                        "module": kept,
                    }
                state |= {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"scaler": scaler.state_dict()}
                state |= {"phase": number, "epoch": epoch + 1}
                checkpoints.write_last(state)
                log.info(
                    "epoch %d: loss %.4f, validation accuracy %.3f (loss %.4f)",
                    row["epoch"], row["loss"], row["validation_accuracy"], row["validation_loss"],
                )  # fmt: skip
            state |= {"epoch": 0, "stale": 0}
    for _ in ticks:  # steps that early stopping or an earlier run made needless
        pass
    module.load_state_dict(state["best"]["module"])
    return module.eval().requires_grad_(False), state["history"]


def frozen(module: Classifier, phase: ImagePhase) -> list[nn.Module]:
    """Parts of the encoder whose weights and statistics stay in a phase.

    Raises
    ------
    ModelError
        The phase freezes more stages or layers than the encoder has.
    """
    if phase.freeze == "encoder":
        return [module.encoder]
    layers = phase.freeze_layers is not None
    count = phase.freeze_layers if phase.freeze_layers is not None else phase.freeze
    if count == "nothing":
        return []
    parts = module.encoder_layers() if layers else module.encoder_stages()
    if int(count) > len(parts):
        what = "layers" if layers else "stages"
        raise ModelError(
            f"the recipe freezes {count} {what} of the encoder, which has {len(parts)} "
            f"({', '.join(name for name, _ in parts[:12])}{' ...' if len(parts) > 12 else ''}); give fewer, or freeze: "
            "encoder"
        )
    return [part for _, part in parts[: int(count)]]


def rank(row: dict[str, Any]) -> tuple[float, float]:
    """By what the best epoch is chosen: accuracy on validation images, then the lower loss."""
    return row["validation_accuracy"], -row["validation_loss"]


def _steps(recipe: ImageClassifier, phase: ImagePhase, course: Course) -> int:
    return recipe.steps_per_epoch or math.ceil(len(course.train) / phase.batch)


def _validate(logits: torch.Tensor, course: Course) -> dict[str, float]:
    labels = torch.from_numpy(course.val.labels)
    return {
        "validation_accuracy": float((logits.argmax(1) == labels).float().mean()),
        "validation_loss": float(functional.cross_entropy(logits, labels)),
    }


def _show(board: SummaryWriter, epoch: int, logits: torch.Tensor, course: Course) -> None:
    """Write the curve of the class that is sought, and a few validation images with their answers."""
    found, val = torch.softmax(logits, dim=1).numpy(), course.val
    numbers = shown(len(val))
    named = []
    for number in numbers:
        picture, answer = val.pictures[number], int(found[number].argmax())
        named.append((picture.id, course.classes[picture.label], course.classes[answer], float(found[number, answer])))
    counts = scores.counted(val.labels, found[:, course.sought], course.sought)
    record_images(board, epoch, counts, val.batch(numbers)[0], val.scale.bands, named)


def _on(device: torch.device, images: np.ndarray, tags: np.ndarray | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    values = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    return values, None if tags is None else torch.from_numpy(tags).to(device)


def _set_mode(module: Classifier, recipe: ImageClassifier, phase: ImagePhase) -> None:
    """Training mode, but statistics that are to stay stay: of frozen parts, or those of the pre-training."""
    module.train()
    for part in frozen(module, phase):
        part.eval()
    if recipe.statistics == "pretrained":
        for part in module.encoder.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()


def _epoch(
    recipe: ImageClassifier,
    phase: ImagePhase,
    epoch: int,
    total: int,
    course: Course,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    ticks: Iterator,
    scale: float,
) -> dict[str, Any]:
    """One pass over the training images; chance is that of ``(seed, total)``."""
    seed, module = course.seed, course.module
    torch.manual_seed(int(np.random.SeedSequence((seed, total)).generate_state(1)[0]))
    _set_mode(module, recipe, phase)
    rng, count = np.random.default_rng((seed, total, 0)), _steps(recipe, phase, course)
    labels = course.train.labels
    kinds = np.unique(labels) if recipe.sampling == "balanced" else ()
    steps = dealt([np.flatnonzero(labels == k) for k in kinds] or [np.arange(len(labels))], count, phase.batch, rng)

    def read(item: tuple[int, list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        return course.train.batch(item[1], recipe.augmentation, seed=(seed, total, 1 + item[0]))

    weights = torch.tensor(course.weights, dtype=torch.float32, device=course.device)
    began, losses, right, rate = time.monotonic(), [], 0, 0.0
    optimizer.zero_grad(set_to_none=True)
    for (step, numbers), (images, truths, tags) in stream(read, enumerate(steps), workers=1):
        rate = scale * learning_rate(recipe.schedule, phase.learning_rate, (epoch + step / count) / phase.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        truth = torch.from_numpy(truths).to(course.device)
        with torch.autocast(course.device.type, enabled=scaler.is_enabled()):
            logits = module(*_on(course.device, images, tags))
        value = functional.cross_entropy(logits.float(), truth, weight=weights)
        names = [course.train.pictures[number].id for number in numbers]
        guards.check_loss(value.item(), total + 1, step + 1, rate, "images", names)
        scaler.scale(value / followed_together(step, count, phase.accumulate)).backward()
        if (step + 1) % phase.accumulate == 0 or step + 1 == count:
            if recipe.optimizer.clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(module.parameters(), recipe.optimizer.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        losses.append(value.item())
        right += int((logits.argmax(1) == truth).sum())
        next(ticks, None)
    return {
        "epoch": total + 1,
        "loss": float(np.mean(losses)),
        "accuracy": right / (count * phase.batch),
        "learning_rate": rate,
        "seconds": round(time.monotonic() - began, 1),
    }
