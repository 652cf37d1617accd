"""What the pixel baselines cost: F1, seconds to train, and pixels a second when they map.

    python benchmarks/pixels.py results/demo/scenes/*/chips

Exact SVM, SVM along landmarks (Nystroem) and random forest learn from the training chips of each folder and are scored
on its validation chips; of these one half (by chip) chooses gamma, leaf and threshold, the other is scored. Rates are
of `LoadedModel.probability` on one window of 1024 x 1024, the best of three, with all cores.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("SVM, exact", "svm", ()),
    ("SVM, 100 landmarks", "svm-landmarks", ("landmarks=100",)),
    ("SVM, 500 landmarks", "svm-landmarks", ()),
    ("SVM, exact, with indices", "svm", ("indices=[auto]",)),
    ("random forest, bands", "forest", ("indices=[]",)),
    ("random forest, bands and indices", "forest", ()),
)


def measured(recipe: str, changes: Sequence[str], folder: Path, side: int) -> dict[str, float]:
    """Train, score and time one row."""
    from models import forest, metrics, svm
    from models import recipe as recipes
    from models.dataset import gather
    from models.evaluation import evaluate

    settings = recipes.load(recipe, changes)
    if not isinstance(settings, recipes.PixelClassifier):
        raise click.ClickException(f"{recipe} is no recipe of a pixel classifier")
    data = gather(settings, [folder])
    chooses, scored = ([r for i, r in enumerate(data.val.records) if i % 2 == part] for part in (0, 1))
    both = []
    for records in (chooses, scored):
        part = object.__new__(type(data.val))
        part.__dict__.update(data.val.__dict__, records=records, _kept={})
        both.append(part)
    data = replace(data, val=both[0])
    fit = forest.fit if settings.network.name == "forest" else svm.fit
    start = time.perf_counter()
    module, _ = fit(settings, data, seed=0)
    seconds = time.perf_counter() - start
    place = torch.device("cpu")
    threshold, _ = metrics.best_threshold(
        metrics.at_share(evaluate(module, both[0], place).sum(0), data.landslide_share)
    )
    found = metrics.summary(evaluate(module, both[1], place), threshold)["pooled"]
    window = torch.randn(1, len(data.bands), side, side)
    times = []
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            module(window)
            times.append(time.perf_counter() - start)
    return {"f1": found["f1"], "seconds": seconds, "mpix_s": side * side / min(times) / 1e6}


@click.command(context_settings={"show_default": True})
@click.argument("folders", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--side", default=1024, help="Height and width of the window that is mapped.")
@click.option("--row", "only", multiple=True, type=click.Choice([name for name, *_ in ROWS]), help="Only these rows.")
def main(folders: tuple[Path, ...], side: int, only: tuple[str, ...]) -> None:
    """Measure the pixel baselines on FOLDERS of chips and print the table."""
    print(f"\nF1 on half of the validation chips of {len(folders)} folders, {torch.get_num_threads()} threads\n")
    print(f"| | {' | '.join(f'F1 {f.parent.name}' for f in folders)} | F1 mean | s to train | MPix/s |")
    print(f"|---|{'---:|' * (len(folders) + 3)}")
    for name, recipe, changes in ROWS:
        if only and name not in only:
            continue
        found = [measured(recipe, changes, folder, side) for folder in folders]
        f1 = [row["f1"] for row in found]
        shown = " | ".join(f"{100 * value:.1f}" for value in [*f1, float(np.mean(f1))])
        seconds, rate = (float(np.mean([row[key] for row in found])) for key in ("seconds", "mpix_s"))
        print(f"| {name} | {shown} | {seconds:.1f} | {rate:.2f} |", flush=True)


if __name__ == "__main__":
    main()
