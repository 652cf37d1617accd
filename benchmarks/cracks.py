"""Train and score classifiers on real photographs of cracks, in the two stages of work D, and write the table.

    python benchmarks/cracks.py classify --steps 300 -o results/cracks

Two real sets stand for the large one (concrete) and the small one (soil and rock) of the paper:

* large: `crack_classification`, 234 + 234 photographs of brick walls, 227 x 227;
* small: windows of `crack_segmentation`, 79 photographs of asphalt, cut into 3 x 4 windows of 106 x 106 and labelled by
  their masks: `positive` with 100 crack pixels or more, `negative` with none, left out between. Windows of one
  photograph stay in one split.

Each network is trained four times with the same number of steps: on the large set without and with augmentation, on the
small set alone, and, from the second, on both joined. Weights are chosen on validation images; the two tests stay
apart. What is finished is not trained again, and a run that was broken off goes on where it was.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import click
from watched import ROOT, geocrack

log = logging.getLogger("cracks")

NETWORKS = ("lenet5", "alexnet", "lenet5-inception-a", "lenet5-inception-e", "resnet18", "mobilenetv1", "vit", "lite0")
STAGES = ("large-plain", "large", "small", "joined")
LARGE, SMALL = "crack_classification", "windows"
#: Side of the windows, and their steps down and across, in photographs of 320 x 480.
SIDE, STEPS = 106, (107, 120)
#: Crack pixels from which a window counts as one.
CRACK_PX = 100


def cut_windows(source: Path, folder: Path) -> dict[str, int]:
    """Cut photographs into windows and sort them by their masks; give the number of each class."""
    import cv2

    counts = {"positive": 0, "negative": 0, "left out": 0}
    for kind in ("positive", "negative"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for path in sorted((source / "images").iterdir()):
        image = cv2.imread(str(path))
        mask = cv2.imread(str(source / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE) > 127
        for row in range(0, mask.shape[0] - SIDE + 1, STEPS[0]):
            for column in range(0, mask.shape[1] - SIDE + 1, STEPS[1]):
                at = slice(row, row + SIDE), slice(column, column + SIDE)
                pixels = int(mask[at].sum())
                kind = "positive" if pixels >= CRACK_PX else "left out" if pixels else "negative"
                counts[kind] += 1
                if kind != "left out":
                    cv2.imwrite(str(folder / kind / f"{path.stem}__{row}_{column}.png"), image[at])
    return counts


def seconds_per_step(name: str, batch: int, threads: int | None) -> float:
    """Time forward, loss, backward and update on random images; the best of a few."""
    import torch
    from torch.nn import functional

    from models import classification
    from models.classification.recipe import load
    from models.optimizer import make_optimizer
    from models.threads import limited_threads

    recipe = load(f"classify-{name}")
    with limited_threads(threads):
        network = classification.build(
            recipe.network.name, bands=3, classes=2, size=recipe.size, **recipe.network.settings
        ).train()
        optimizer = make_optimizer(network, recipe.optimizer, recipe.phases[0])
        images, labels = torch.randn(batch, 3, recipe.size, recipe.size), torch.arange(batch) % 2
        times = []
        for _ in range(3):
            began = time.monotonic()
            value = functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            times.append(time.monotonic() - began)
    return min(times)


def train(name: str, stage: str, sets: dict[str, Path], folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Train a network in one stage unless that is done; give its scores."""
    model, scores = folder / f"{name}-{stage}.pt", folder / f"{name}-{stage}.metrics.json"
    if not (model.exists() and scores.exists()):
        data = {"small": [SMALL], "joined": [LARGE, SMALL]}.get(stage, [LARGE])
        changes = [
            f"phases.0.epochs={plan['epochs']}",
            f"phases.0.batch={plan['batch']}",
            f"steps_per_epoch={max(1, plan['steps'] // plan['epochs'])}",
            *(["augmentation={}"] if stage == "large-plain" else []),
        ]
        options: list[object] = [x for change in changes for x in ("--set", change)]
        options += [x for key in data for x in ("--data", sets[key])]
        options += ["--threads", plan["threads"]] if plan["threads"] else []
        options += ["--from", folder / f"{name}-large.pt"] if stage == "joined" else []
        options += ["--seed", plan["seed"], "--resume", "--overwrite"]
        geocrack("classify", "train", f"classify-{name}", "-o", model, *options)
    found = json.loads(scores.read_text())
    return {"test": found["test"], "minutes": round(found["seconds"] / 60, 2)}


def markdown(rows: dict[str, dict[str, Any]], plan: dict[str, Any], command: str) -> str:
    """Write the table with what is needed to read it."""
    first = next(iter(rows.values()))
    large = next((row["test"][LARGE]["images"] for row in first.values() if LARGE in row["test"]), 0)
    small = next((row["test"][SMALL]["images"] for row in first.values() if SMALL in row["test"]), 0)
    text = [
        f"Test accuracy in per cent with its 95 % interval (draws of whole photographs), {large} images of the large "
        f"set and {small} windows of the small one; seed {plan['seed']}, {plan['steps']} steps of {plan['batch']} "
        f"images a stage, best on validation of {plan['epochs']} epochs; {platform.machine()} with "
        f"{plan['threads'] or len(os.sched_getaffinity(0))} cores.",
        "",
        f"    {command}",
        "",
        "| network | large, no augmentation | large | small alone | joined: large | joined: small | minutes |",
        "|---|---|---|---|---|---|---|",
    ]

    def cell(row: dict[str, Any], stage: str, name: str) -> str:
        if stage not in row:
            return "not run"
        found = row[stage]["test"][name]
        span = found["intervals"]["accuracy"]
        within = f" ({100 * span[0]:.1f}-{100 * span[1]:.1f})" if span else ""
        return f"{100 * found['scores']['accuracy']:.1f}{within}"

    for name, row in rows.items():
        shown = [("large-plain", LARGE), ("large", LARGE), ("small", SMALL), ("joined", LARGE), ("joined", SMALL)]
        cells = [cell(row, stage, of) for stage, of in shown]
        text.append(f"| {name} | {' | '.join(cells)} | {sum(stage['minutes'] for stage in row.values()):.1f} |")
    return "\n".join(text) + "\n"


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Real photographs of cracks."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=lambda: Path(os.environ.get("GEOCRACK_REALDATA", ROOT / "../shared/data")),
    help="Folder with crack_classification/ and crack_segmentation/.  [default: GEOCRACK_REALDATA]",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("results/cracks"), help="Work in it.")
@click.option("--steps", type=int, default=300, help="Optimiser steps of each network in each stage.")
@click.option("--epochs", type=int, default=10, help="Validations in these steps.")
@click.option("--batch", type=int, default=16, help="Images in a step.")
@click.option("--seed", type=int, default=0)
@click.option("--threads", type=int, help="CPUs to use at most.")
@click.option("--network", "only", multiple=True, type=click.Choice(NETWORKS), help="Only these networks.")
@click.option("--stage", "stages", multiple=True, type=click.Choice(STAGES), help="Only these stages.")
@click.option("--estimate", is_flag=True, help="Only time a step of each network, and say how long all would take.")
def classify(
    data: Path,
    output: Path,
    steps: int,
    epochs: int,
    batch: int,
    seed: int,
    threads: int | None,
    only: tuple[str, ...],
    stages: tuple[str, ...],
    estimate: bool,
) -> None:
    """Train the networks in their stages and write table.json and table.md."""
    networks = [name for name in NETWORKS if not only or name in only]
    if estimate:
        each = {name: seconds_per_step(name, batch, threads) for name in networks}
        for name, seconds in each.items():
            click.echo(f"{name}: {seconds:.2f} s a step, {4 * steps * seconds / 60:.0f} min for four stages")
        click.echo(f"all: {4 * steps * sum(each.values()) / 60:.0f} min, without reading and validation")
        return
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    sets = {LARGE: data.resolve() / LARGE, SMALL: output / SMALL}
    if not sets[SMALL].exists():
        counts = cut_windows(data / "crack_segmentation", sets[SMALL])
        log.info("windows of crack_segmentation: %s", ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    plan = {"steps": steps, "epochs": epochs, "batch": batch, "seed": seed, "threads": threads}
    noted = output / "plan.json"
    if noted.exists() and json.loads(noted.read_text()) != plan:
        raise click.ClickException(f"{noted} is of another plan; give the same options, or another folder")
    noted.write_text(json.dumps(plan, indent=2) + "\n")
    rows: dict[str, dict[str, Any]] = {}
    command = f"python {' '.join([Path(sys.argv[0]).as_posix(), *sys.argv[1:]])}"
    for name in networks:
        rows[name] = {}
        for stage in STAGES:
            if not stages or stage in stages:
                rows[name][stage] = train(name, stage, sets, output, plan)
                (output / "table.json").write_text(json.dumps({"plan": plan, "rows": rows}, indent=2) + "\n")
                (output / "table.md").write_text(markdown(rows, plan, command))
    click.echo((output / "table.md").read_text())


if __name__ == "__main__":
    main()
