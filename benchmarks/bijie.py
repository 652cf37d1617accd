"""Train and score the recipes on the real landslide chips of Bijie, and write the table.

    python benchmarks/bijie.py --minutes 20 -o results/bijie

`test.txt` of the data is only tested on; a tenth of the rest chooses weights and thresholds; scores are at
each chip's own size. Every network gets the same number of optimiser steps on the same number of pixels: as
many steps as the slowest one does in `--minutes` on this machine (or `--steps`). Rows that are finished are
not trained again, and a run that was broken off goes on where it was.

Data: Ji et al. 2020, "Landslide detection from an open satellite imagery and digital elevation model dataset
using attention boosted convolutional neural networks", for educational and research purposes.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from watched import ROOT, geocrack

log = logging.getLogger("bijie")


@dataclass(frozen=True)
class Row:
    """One system of the table: a recipe and the weights its encoder starts from."""

    name: str
    recipe: str
    start: str
    changes: tuple[str, ...] = ()


ROWS = (
    Row("linknet-lite0-imagenet", "linknet-lite0", "ImageNet"),
    Row("linknet-lite0-random", "linknet-lite0", "random", ("weights=none",)),
    Row("pspnet-lite0-imagenet", "pspnet-lite0", "ImageNet"),
    Row("pspnet-lite0-random", "pspnet-lite0", "random", ("weights=none",)),
    Row("svm", "svm", "-"),
)


@dataclass(frozen=True)
class Plan:
    """What all rows share; kept in ``plan.json``, so that a run that goes on trains as it began."""

    steps: int
    epochs: int
    batch: int
    size: int
    seed: int
    threads: int | None
    seconds_per_step: dict[str, float]

    @property
    def changes(self) -> list[str]:
        """Values to take instead of the recipe's."""
        return [
            f"size={self.size}",
            f"steps_per_epoch={self.steps // self.epochs}",
            f"phases.0.epochs={self.epochs}",
            f"phases.0.batch={self.batch}",
        ]


def seconds_per_step(row: Row, *, size: int, batch: int, threads: int | None) -> float:
    """Time forward, loss, backward and update on random chips; the best of a few."""
    import torch

    from models import loop, recipe
    from models.losses import loss
    from models.optimizer import make_optimizer
    from models.threads import limited_threads

    settings = recipe.load(row.recipe, row.changes)
    with limited_threads(threads):
        network = loop.start(settings, ("red", "green", "blue"), 0).train().to(memory_format=torch.channels_last)
        optimizer = make_optimizer(network, settings.optimizer, settings.phases[0])
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        labels = (torch.rand(batch, size, size) > 0.8).to(torch.uint8)
        times = []
        for _ in range(5):
            began = time.monotonic()
            value = loss(network(images), labels, settings.loss)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            times.append(time.monotonic() - began)
    return min(times[1:])


def make_plan(minutes: float, steps: int | None, epochs: int, **shared: Any) -> Plan:
    """Plan as many steps as the slowest network does in the time, less a tenth for validation."""
    networks = [row for row in ROWS if row.start == "ImageNet"]
    measured = {} if steps else {row.recipe: round(seconds_per_step(row, **_timing(shared)), 3) for row in networks}
    steps = steps or int(0.9 * 60 * minutes / max(measured.values()))
    steps = max(epochs, steps - steps % epochs)
    return Plan(steps=steps, epochs=epochs, seconds_per_step=measured, **shared)


def _timing(shared: dict[str, Any]) -> dict[str, Any]:
    return {name: shared[name] for name in ("size", "batch", "threads")}


def train(row: Row, plan: Plan, chips: Path, folder: Path) -> dict[str, Any]:
    """Train a row unless its scores are there; give its line of the table."""
    model = folder / f"{row.name}.pt"
    scores = folder / f"{row.name}.metrics.json"
    if not (model.exists() and scores.exists()):
        network = row.recipe != "svm"
        changes = [*row.changes, *(plan.changes if network else [])]
        options: list[object] = [x for change in changes for x in ("--set", change)]
        options += ["--threads", plan.threads] if plan.threads else []
        options += ["--resume"] if network else []
        geocrack("train", row.recipe, "--chips", chips, "-o", model, "--seed", plan.seed, "--overwrite", *options)
    found = json.loads(scores.read_text())
    return {
        "row": row.name,
        "recipe": row.recipe,
        "start": row.start,
        "steps": plan.steps if row.recipe != "svm" else None,
        "minutes": round(found["seconds"] / 60, 1),
        "threshold": found["threshold"],
        "validation_f1": found["validation"]["pooled"]["f1"],
        "images": found["test"]["images"],
        "pooled": found["test"]["pooled"],
        "per_image": found["test"]["per_image"],
    }


def markdown(lines: list[dict[str, Any]], plan: Plan, command: str) -> str:
    """Write the table with what is needed to read it."""
    pixels = plan.steps * plan.batch * plan.size**2
    text = [
        f"Bijie, {lines[0]['images']} test images at their own sizes, seed {plan.seed}, "
        f"{platform.machine()} with {plan.threads or len(os.sched_getaffinity(0))} cores. Each network: {plan.steps} "
        f"steps of {plan.batch} chips of {plan.size} x {plan.size} ({pixels / 1e6:.0f} Mpx), best of {plan.epochs} "
        "validations. Thresholds chosen on validation chips. Per cent.",
        "",
        f"    {command}",
        "",
        "Pooled over all test pixels (P, R, F1, IoU of the landslide class; mIoU, P and R as means over both classes),"
        " and F1 and IoU as means over images:",
        "",
        "| recipe | start | P | R | F1 | IoU | mIoU | P classes | R classes | F1 per image | IoU per image | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        pooled, each = line["pooled"], line["per_image"]
        names = ("precision", "recall", "f1", "iou", "miou", "precision_classes", "recall_classes")
        shown = [*(pooled[name] for name in names), each["f1"], each["iou"]]
        cells = ["-" if value is None else f"{100 * value:.1f}" for value in shown]
        text.append(f"| {line['recipe']} | {line['start']} | {' | '.join(cells)} | {line['minutes']:.0f} |")
    return "\n".join(text) + "\n"


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=lambda: Path(os.environ.get("GEOCRACK_REALDATA", ROOT / "../shared/data")) / "bijie",
    help="Folder with images/, masks/ and test.txt.  [default: bijie in GEOCRACK_REALDATA]",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("results/bijie"), help="Folder to work in."
)
@click.option("--minutes", type=float, default=20.0, help="Time of the slowest network; the others do as many steps.")
@click.option("--steps", type=int, help="Optimiser steps of each network, instead of --minutes.")
@click.option("--epochs", type=int, default=20, help="Validations in these steps.")
@click.option("--size", type=int, default=256, help="Height and width to which chips are fitted.")
@click.option("--batch", type=int, default=8, help="Chips in a step.")
@click.option("--seed", type=int, default=0)
@click.option("--threads", type=int, help="CPUs to use at most.")
@click.option("--row", "only", multiple=True, type=click.Choice([row.name for row in ROWS]), help="Only these rows.")
def main(
    data: Path,
    output: Path,
    minutes: float,
    steps: int | None,
    epochs: int,
    size: int,
    batch: int,
    seed: int,
    threads: int | None,
    only: tuple[str, ...],
) -> None:
    """Train the rows of the table on Bijie and write table.json and table.md."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    chips, noted = output / "chips", output / "plan.json"
    if not (chips / "chips.json").exists():
        geocrack("chips", "import", data / "images", data / "masks", "--test-list", data / "test.txt", "-o", chips)
    if noted.exists():
        plan = Plan(**json.loads(noted.read_text()))
        log.info("the plan of %s is kept: %d steps; remove the folder to make another", noted, plan.steps)
    else:
        plan = make_plan(minutes, steps, epochs, size=size, batch=batch, seed=seed, threads=threads)
        noted.write_text(json.dumps(asdict(plan), indent=2) + "\n")
    lines = []
    for row in ROWS:
        if not only or row.name in only:
            lines.append(train(row, plan, chips, output))
            command = f"python {' '.join([Path(sys.argv[0]).as_posix(), *sys.argv[1:]])}"
            (output / "table.json").write_text(json.dumps({"plan": asdict(plan), "rows": lines}, indent=2) + "\n")
            (output / "table.md").write_text(markdown(lines, plan, command))
    click.echo((output / "table.md").read_text())


if __name__ == "__main__":
    main()
