"""Step time of training against the bare network, and images a second against a plain DataLoader, in one run.

    python benchmarks/training.py                                    # a minute or two
    python benchmarks/training.py --recipe linknet-resnet50 --chips results/bijie/chips --steps 30

All rows take the same steps (forward, loss, backward, optimiser) of the same network from random weights on chips of
the same size. *Bare* has one batch of tensors in memory. *Ours* is `geocrack train` without its validation: chips are
decoded, normalised, augmented and put together while the network computes; the first epoch, which fills the memory for
chips, is shown on its own. *DataLoader* is the loop of many scripts: a torch Dataset that reads each chip with rasterio
when it is asked for, two workers, flips only, channels first. Every row is a process of its own, rows take turns, and
what counts is the best of `--rounds`. Memory is the largest sum over a process and its children, every 50 ms.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import watched

BANDS = ("blue", "green", "red", "nir")


# ------------------------------------------------------------------------------------------------- the rows
def bare(how: dict[str, Any], *, channels_last: bool = True) -> dict[str, float]:
    """Step on one batch of tensors in memory."""
    import torch

    settings, data = _opened(how)
    module, optimizer, labels = _started(settings, data, how)
    images = torch.randn(how["batch"], len(data.bands), settings.size, settings.size)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module, images = module.to(memory_format=layout), images.to(_device()).contiguous(memory_format=layout)
    times = [_step(module, optimizer, images, labels, settings) for _ in range(how["steps"] + 2)][2:]
    return {"step_s": float(np.median(times))}


def bare_channels_first(how: dict[str, Any]) -> dict[str, float]:
    """Step on the same tensors, channels first."""
    return bare(how, channels_last=False)


def ours(how: dict[str, Any]) -> dict[str, float]:
    """`geocrack train`, two epochs; steps are timed by its progress."""
    from models.loop import Checkpoints, train_segmenter

    settings, data = _opened(how)
    ended: list[float] = []

    def progress(items: Any, *_: Any) -> Any:
        for item in items:
            ended.append(time.perf_counter())  # asked for after each step
            yield item

    class Nowhere(Checkpoints):
        def write_last(self, state: dict[str, Any]) -> None:
            pass

        def write_best(self, *_: Any) -> None:
            pass

    start = time.perf_counter()
    folder = Path(how["folder"])
    train_segmenter(
        settings,
        data,
        seed=0,
        device=_device(),
        checkpoints=Nowhere(folder / "checkpoints", lambda *_: None),
        resume=False,
        log_dir=folder / "log",
        progress=progress,
    )
    steps = how["steps"]
    first, second = np.diff([start, *ended[:steps]]), np.diff(ended[steps : 2 * steps])
    return {"step_s": float(np.median(second)), "first_epoch_step_s": float(np.mean(first))}


def dataloader(how: dict[str, Any]) -> dict[str, float]:
    """Step on what a plain DataLoader gives."""
    import rasterio
    import torch
    from torch.utils.data import DataLoader, Dataset

    settings, data = _opened(how)
    records = data.train.records
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (data.mean, data.std))

    class Chips(Dataset):
        def __len__(self) -> int:
            return (how["steps"] + 2) * how["batch"]

        def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            record = records[number % len(records)]
            with rasterio.open(record.image) as src, rasterio.open(record.label) as labels:
                shape = (settings.size, settings.size)
                image, label = src.read(out_shape=(src.count, *shape)), labels.read(1, out_shape=shape)
                scales = np.array(src.scales, np.float32)[:, None, None]
            image = (image * scales - mean) / std
            if torch.rand(()) < 0.5:
                image, label = image[:, :, ::-1], label[:, ::-1]
            return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.ascontiguousarray(label))

    module, optimizer, _ = _started(settings, data, how)
    ended = [time.perf_counter()]
    for images, labels in DataLoader(Chips(), batch_size=how["batch"], shuffle=True, num_workers=2, drop_last=True):
        _step(module, optimizer, images.to(_device()), labels.to(_device()), settings)
        ended.append(time.perf_counter())
    return {"step_s": float(np.median(np.diff(ended)[2:]))}


ROWS = {
    "bare": ("bare network, channels last", bare),
    "bare-first": ("bare network, channels first", bare_channels_first),
    "ours": ("geocrack train", ours),
    "dataloader": ("plain DataLoader, two workers", dataloader),
}


# ------------------------------------------------------------------------------------------------- what they share
def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _opened(how: dict[str, Any]) -> tuple[Any, Any]:
    from models import recipe as recipes
    from models.dataset import gather

    plain: Any = recipes.load(how["recipe"], ["weights=none"])
    changes = ["weights=none", f"steps_per_epoch={how['steps']}", "patience=null", "schedule=constant"]
    changes += [f"phases=[{{epochs: 2, learning_rate: {plain.phases[-1].learning_rate}, batch: {how['batch']}}}]"]
    changes += [f"size={how['size'] or plain.size}"]
    settings: Any = recipes.load(how["recipe"], changes)
    return settings, gather(settings, [how["chips"]])


def _started(settings: Any, data: Any, how: dict[str, Any]) -> tuple[Any, Any, Any]:
    import torch

    from models import loop
    from models.optimizer import make_optimizer

    module = loop.start(settings, data.bands, 0).to(_device()).train()
    labels = (torch.rand(how["batch"], settings.size, settings.size, device=_device()) > 0.8).to(torch.uint8)
    return module, make_optimizer(module, settings.optimizer, settings.phases[0]), labels


def _step(module: Any, optimizer: Any, images: Any, labels: Any, settings: Any) -> float:
    from models.losses import loss

    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    value = loss(module(images), labels, settings.loss)
    value.item()
    value.backward()
    optimizer.step()
    return time.perf_counter() - start


def made_chips(folder: Path, number: int = 48, side: int = 256) -> Path:
    """Write chips of noise with a bright ellipse; time does not depend on what they show."""
    import cv2
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from geo.raster import REFLECTANCE
    from models.chip_writer import ChipsWriter, NewChip

    chips = folder / "chips"
    chips.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def every() -> Any:
        for i in range(number):
            label = np.zeros((side, side), np.uint8)
            cv2.ellipse(label, (side // 2, side // 2), (side // 4, side // 8), i * 7, 0, 360, 1, -1)
            image = (0.1 + 0.1 * label + 0.02 * rng.standard_normal((len(BANDS), side, side))).astype(np.float32)
            grid = GeoBox((side, side), Affine(2, 0, 300_000 + 1000 * i, 0, -2, 3_500_000), "EPSG:32648")
            split = "val" if i < 2 else "train"
            yield NewChip(f"c{i}", split, "made", image, label, np.ones((side, side), bool), grid, REFLECTANCE)

    writer = ChipsWriter(chips, list(BANDS), "EPSG:32648")
    writer.write(every())
    writer.finish()
    return chips


@click.command(context_settings={"show_default": True})
@click.option("--recipe", default="linknet-lite0", help="Network to train.")
@click.option("--chips", type=click.Path(path_type=Path, exists=True), help="Folder of chips.  [default: made up]")
@click.option("--steps", default=12, help="Steps that are timed.")
@click.option("--batch", default=8, help="Chips in a step.")
@click.option("--size", type=int, help="Height and width of a chip.  [default: the recipe's]")
@click.option("--rounds", default=2, help="How often the rows take turns.")
@click.option("--row", hidden=True, nargs=2, type=str)
def main(
    recipe: str, chips: Path | None, steps: int, batch: int, size: int | None, rounds: int, row: tuple | None
) -> None:
    """Measure training and print the table."""
    if row:
        name, text = row
        print(json.dumps(ROWS[name][1](json.loads(text))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        place = chips or made_chips(folder)
        how = {"recipe": recipe, "chips": str(place.resolve()), "steps": steps, "batch": batch, "size": size}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
        for number in range(rounds):
            for name in ROWS:
                found[name].append(
                    watched.row(__file__, name, json.dumps({**how, "folder": str(folder / f"{name}-{number}")}))
                )
        best = {name: min(runs, key=lambda r: r["step_s"]) for name, runs in found.items()}
    print(f"\n{recipe}, {batch} chips a step, {steps} steps, best of {rounds}\n")
    print("| | s a step | images/s | time against bare | memory MB |\n|---|---:|---:|---:|---:|")
    for name, run in best.items():
        ratio, name_of = run["step_s"] / best["bare"]["step_s"], ROWS[name][0]
        print(
            f"| {name_of} | {run['step_s']:.3f} | {batch / run['step_s']:.1f} | {ratio:.2f} | {run['memory_mb']:.0f} |"
        )
    over = best["ours"]["step_s"] / best["bare"]["step_s"] - 1
    first = best["ours"]["first_epoch_step_s"]
    print(f"\ngeocrack train: {over:+.1%} against the bare network; {first:.3f} s a step in the first epoch")


if __name__ == "__main__":
    main()
