"""Whole-scene inference against the bare network and against the loops that are used elsewhere, in one run.

    python benchmarks/inference.py                          # 4096 x 4096, two minutes or so
    python benchmarks/inference.py --model MY.pt --size 8192
    python benchmarks/inference.py --full                   # memory of 18192 x 18000 x 4 too; an hour on two cores

All rows map the same image with the same network (random weights where no model is given; time does not depend on
them), windows and overlap. Every row is a process of its own, rows take turns, and what counts is the least time of
`--rounds`. Rates are of the scene's pixels; a window's overlap is work that all rows do alike. Memory is the
largest sum over a process and its children, sampled every 50 ms.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import watched
from affine import Affine

from pipeline.cli import RUNTIME

if TYPE_CHECKING:
    from models.predict.grid import Model

#: Windows as `geocrack predict` lays them for this network, and how many go through it together.
WINDOW, OVERLAP, BATCH = 512, 128, 2
BANDS = ("blue", "green", "red", "nir")


def window_count(model: Model, image: Path) -> int:
    """Count the windows that `geocrack predict` lays over an image."""
    from geo.image import open_image
    from models.predict.grid import Windows

    with open_image(image) as opened:
        windows = Windows.of(model, overlap=OVERLAP, window=WINDOW).over(opened.geobox)
        return len(windows.rows(opened.shape[0])) * len(windows.columns(opened.shape[1]))


# ------------------------------------------------------------------------------------------------- the rows
def bare(image: Path, model: Path, output: Path, *, keeping: bool = True, folded: bool = False) -> dict[str, float]:
    """Run the network alone on a batch in memory, as often as the scene has windows; channels last, as ours.

    ``keeping`` memory from layer to layer is what `geocrack predict` makes the C library do, and normalisations are
    ``folded`` into convolutions as it folds them.
    """
    import torch

    from models import model_file
    from models.folding import lean
    from models.threads import keep_layers_memory

    if keeping:
        keep_layers_memory()
    loaded = model_file.load(model)
    count = window_count(loaded, image)
    batch = torch.rand(BATCH, len(BANDS), WINDOW, WINDOW).contiguous(memory_format=torch.channels_last)
    module = lean(loaded.module, len(BANDS), loaded.stride) if folded else loaded.module
    with torch.inference_mode():
        module(batch)
        rounds = min(40, -(-count // BATCH))
        start = time.perf_counter()
        for _ in range(rounds):
            torch.sigmoid(module(batch))
        seconds = (time.perf_counter() - start) / (rounds * BATCH) * count
    return {"seconds": seconds}


def bare_backend(image: Path, model: Path, output: Path, backend: str) -> dict[str, float]:
    """Run the same by another runtime."""
    from models.predict.search import _loaded

    loaded = _loaded(model, backend, None)  # type: ignore[arg-type]
    count = window_count(loaded, image)
    batch = np.random.default_rng(0).random((BATCH, len(BANDS), WINDOW, WINDOW)).astype(np.float32)
    loaded.probability(batch)
    rounds = min(40, -(-count // BATCH))
    start = time.perf_counter()
    for _ in range(rounds):
        loaded.probability(batch)
    return {"seconds": (time.perf_counter() - start) / (rounds * BATCH) * count}


def ours(image: Path, model: Path, output: Path, backend: str = "torch") -> dict[str, float]:
    """`geocrack predict`, from file to Cloud Optimized GeoTIFF; loading the model is not counted, as in all rows."""
    from models.predict import predict
    from models.predict.search import _loaded

    path = os.path.abspath(model)
    loaded = _loaded(path, backend, None)  # type: ignore[arg-type] - kept for the run
    loaded.probability(np.zeros((BATCH, len(BANDS), WINDOW, WINDOW), np.float32))
    start = time.perf_counter()
    predict(image, path, output, overlap=OVERLAP, batch=8, window=WINDOW, backend=backend, overwrite=True)  # type: ignore[arg-type]
    return {"seconds": time.perf_counter() - start}


def eager_loop(image: Path, model: Path, output: Path) -> dict[str, float]:
    """Run the loop of many scripts: eager, channels first, sums and counts as large as the scene."""
    import rasterio
    import torch
    from rasterio.windows import Window

    from models import model_file

    loaded = model_file.load(model)
    network = loaded.module.to(memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(v)[:, None, None] for v in (loaded.mean, loaded.std))
    step = WINDOW - OVERLAP
    start = time.perf_counter()
    with rasterio.open(image) as src, torch.no_grad():
        height, width = src.shape
        total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        places = [(r, c) for r in range(0, height, step) for c in range(0, width, step)]
        for first in range(0, len(places), BATCH):
            group = places[first : first + BATCH]
            stack = np.zeros((len(group), src.count, WINDOW, WINDOW), np.float32)
            for number, (row, col) in enumerate(group):
                part = Window(col, row, min(WINDOW, width - col), min(WINDOW, height - row))
                stack[number, :, : part.height, : part.width] = src.read(window=part) * 1e-4
            answers = torch.sigmoid(network((torch.from_numpy(stack) - mean) / std))[:, 0].numpy()
            for (row, col), answer in zip(group, answers, strict=True):
                h, w = min(WINDOW, height - row), min(WINDOW, width - col)
                total[row : row + h, col : col + w] += answer[:h, :w]
                count[row : row + h, col : col + w] += 1
        profile = {**src.profile, "count": 1, "dtype": "float32", "nodata": None, "compress": "zstd"}
        with rasterio.open(output, "w", **profile) as dst:
            dst.write(total / count, 1)
    return {"seconds": time.perf_counter() - start}


def torchgeo_loop(image: Path, model: Path, output: Path) -> dict[str, float]:
    """Run torchgeo's own data set, grid sampler and collation around the same eager network and sums."""
    import rasterio
    import torch
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    from models import model_file

    class Scene(RasterDataset):
        filename_glob = image.name
        is_image = True

    loaded = model_file.load(model)
    network = loaded.module.to(memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(v)[:, None, None] for v in (loaded.mean, loaded.std))
    start = time.perf_counter()
    scene = Scene(paths=str(image.parent))
    sampler = GridGeoSampler(scene, size=WINDOW, stride=WINDOW - OVERLAP)
    with rasterio.open(image) as src, torch.no_grad():
        height, width = src.shape
        total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        starts = [
            (r, c)
            for r in range(0, max(1, height - OVERLAP), WINDOW - OVERLAP)
            for c in range(0, max(1, width - OVERLAP), WINDOW - OVERLAP)
        ]
        done = 0
        for sample in DataLoader(scene, sampler=sampler, batch_size=BATCH, collate_fn=stack_samples, num_workers=0):
            values = (sample["image"].float() * 1e-4 - mean) / std
            for answer in torch.sigmoid(network(values))[:, 0].numpy():
                row, col = starts[done % len(starts)]  # where it lies is no matter for the time
                h, w = min(WINDOW, height - row), min(WINDOW, width - col)
                total[row : row + h, col : col + w] += answer[:h, :w]
                count[row : row + h, col : col + w] += 1
                done += 1
        profile = {**src.profile, "count": 1, "dtype": "float32", "nodata": None, "compress": "zstd"}
        with rasterio.open(output, "w", **profile) as dst:
            dst.write(total / np.maximum(count, 1), 1)
    return {"seconds": time.perf_counter() - start}


ROWS: dict[str, tuple[str, Callable[[Path, Path, Path], dict[str, float]]]] = {
    "bare": ("bare network, channels last", partial(bare, keeping=False)),
    "bare-kept": ("bare network that keeps its memory", bare),
    "bare-folded": ("the same, normalisations folded too", partial(bare, folded=True)),
    "bare-onnx": ("bare network, ONNX Runtime", partial(bare_backend, backend="onnx")),
    "bare-openvino": ("bare network, OpenVINO", partial(bare_backend, backend="openvino")),
    "ours": ("geocrack predict", ours),
    "ours-onnx": ("geocrack predict --backend onnx", partial(ours, backend="onnx")),
    "ours-openvino": ("geocrack predict --backend openvino", partial(ours, backend="openvino")),
    "loop": ("eager loop, sums as large as the scene", eager_loop),
    "torchgeo": ("torchgeo's sampler around that loop", torchgeo_loop),
}


# -------------------------------------------------------------------------------------------- running them
def scene(folder: Path, height: int, width: int) -> Path:
    """Write a made scene like a fused one: 4 bands, uint16 reflectance, tiled, a corner without data."""
    from odc.geo.geobox import GeoBox

    from geo.geotiff import GeoTiffWriter
    from geo.raster import REFLECTANCE
    from geo.windows import blocks

    file = folder / f"scene_{height}x{width}.tif"
    if file.exists():
        return file
    rng = np.random.default_rng(0)
    tile = rng.integers(1500, 5000, (4, 512, 512)).astype(np.uint16)
    grid = GeoBox((height, width), Affine(2, 0, 400_000, 0, -2, 3_400_000), "EPSG:32648")
    with GeoTiffWriter(file, grid, list(BANDS), REFLECTANCE, cog=False) as writer:
        for window in blocks((height, width), (512, 512)):
            writer.write_stored(tile[:, : window.height, : window.width], window)
    return file


def random_model(folder: Path) -> Path:
    """Write a LinkNet on EfficientNet-Lite0 with random weights."""
    from models import loop, model_file, recipe

    path = folder / "model.pt"
    if not path.exists():
        made_by = recipe.load("linknet-lite0", ["weights=none"])
        network = loop.start(made_by, BANDS, seed=0)
        model_file.save(
            path, network, made_by, bands=BANDS, mean=[0.25] * 4, std=[0.1] * 4, chip_size=256, threshold=0.5,
            metrics={},
        )  # fmt: skip
    return path


@click.command(context_settings={"show_default": True})
@click.option("--size", default=4096, help="Height and width of the scene.")
@click.option("--rounds", default=3, help="How often the rows take turns.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="Model of 4 bands; a random one if absent.")
@click.option("--rows", help="Only these, by name and comma: " + ", ".join(ROWS) + ".")
@click.option("--full", is_flag=True, help="Also the memory of a scene of 18192 x 18000.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep files here.  [default: a temporary folder]")
@click.option("--row", hidden=True, nargs=4, type=str)
def main(
    size: int, rounds: int, model: Path | None, rows: str | None, full: bool, folder: Path | None, row: tuple | None
) -> None:
    """Measure inference and print the table."""
    if row:
        name, *files = row
        if name not in ("bare", "loop", "torchgeo"):  # as the command line sets it
            os.environ.update(RUNTIME)
        print(json.dumps(ROWS[name][1](*map(Path, files))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        network = model or random_model(place)
        image = scene(place, size, size)
        chosen = rows.split(",") if rows else list(ROWS)
        wanted = [name for name in chosen if _installed(name)]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in wanted}
        for _ in range(rounds):
            for name in wanted:
                found[name].append(watched.row(__file__, name, image, network, place / "out.tif"))
        # the time of the quickest turn, the memory of the largest: peaks of two threads meet by chance
        best = {
            name: {"seconds": min(r["seconds"] for r in runs), "memory_mb": max(r["memory_mb"] for r in runs)}
            for name, runs in found.items()
        }
        print(f"\n{size} x {size} x 4, windows of {WINDOW} with {OVERLAP} overlap, best of {rounds}\n")
        print("| | s | MPix/s | speed against the eager loop | memory MB |\n| --- | ---: | ---: | ---: | ---: |")
        for name, run in best.items():
            rate = size * size / run["seconds"] / 1e6
            ratio = f"{best['loop']['seconds'] / run['seconds']:.2f}" if "loop" in best else ""
            print(f"| {ROWS[name][0]} | {run['seconds']:.1f} | {rate:.2f} | {ratio} | {run['memory_mb']:.0f} |")
        for ours_, bare_ in (
            ("ours", "bare"),
            ("ours", "bare-kept"),
            ("ours", "bare-folded"),
            ("ours-onnx", "bare-onnx"),
            ("ours-openvino", "bare-openvino"),
        ):
            if not {ours_, bare_} <= set(wanted):
                continue
            share = best[bare_]["seconds"] / best[ours_]["seconds"]
            print(f"\n{ROWS[ours_][0]}: {share:.1%} of the rate of the {ROWS[bare_][0]}")
        for name in set(chosen) - set(wanted):
            print(f"\n{NEEDED[name.split('-')[-1]]} is not installed: the row '{ROWS[name][0]}' is missing")
        if full:
            whole = watched.row(__file__, "ours", scene(place, 18_000, 18_192), network, place / "out.tif")
            small, large = best["ours"]["memory_mb"], whole["memory_mb"]
            told = f"{large:.0f} MB, {large / small - 1:+.1%} against the {small:.0f} MB above"
            print(f"\n18192 x 18000 x 4: {whole['seconds']:.0f} s, {told}")


#: Packages that rows need, by the end of their names.
NEEDED = {"torchgeo": "torchgeo", "onnx": "onnxruntime", "openvino": "openvino"}


def _installed(row: str) -> bool:
    package = NEEDED.get(row.split("-")[-1])
    return package is None or find_spec(package) is not None


if __name__ == "__main__":
    main()
