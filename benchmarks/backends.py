"""What computes a network fastest on this machine, and what that costs in F1.

    python benchmarks/backends.py --model MODEL.pt --chips CHIPS

Rows: PyTorch in float32 (eager, channels last), in bfloat16 and compiled; ONNX Runtime in float32 and in INT8; OpenVINO
in float32 and in INT8. INT8 is post-training quantisation of all convolutions (weights by channel, activations by
their range on `--calibrate` training chips), the same file for both runtimes. Each row maps the same batches of chips
in memory in turn, and the best of `--rounds` counts. F1 is that of the test chips (validation chips where there are
none) at the model's threshold; the difference is against float32. A runtime that is not installed says so
(`pip install onnx onnxscript onnxruntime openvino`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from models import metrics, model_file, recipe
from models.dataset import FittedChips, gather
from models.evaluation import evaluate

#: Gives logits (n, 1, h, w) of normalised images (n, bands, h, w).
Run = Callable[[torch.Tensor], torch.Tensor]


class Runner(nn.Module):
    """Any runtime in the place of a network."""

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give logits of images."""
        return self.run(images)


def by_numpy(run: Callable[[np.ndarray], np.ndarray]) -> Run:
    """Let tensors through a runtime of arrays."""
    return lambda images: torch.from_numpy(run(np.ascontiguousarray(images.numpy())))


def export(network: nn.Module, images: torch.Tensor, path: Path) -> Path:
    """Write a network as ONNX; the number of images is free."""
    free = {"images": {0: torch.export.Dim("n", min=1, max=4096)}}
    plain = network.to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        plain, (images[:2].contiguous(),), path, dynamo=True, verbose=False, external_data=False, input_names=["image"],
        output_names=["logits"], dynamic_shapes=free,
    )  # fmt: skip
    return path


def quantised(path: Path, images: torch.Tensor) -> Path:
    """Write the network in INT8, with the ranges that activations have on these images."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._images: Iterator[np.ndarray] = iter(images.numpy())

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image[None]}

    prepared, out = path.with_suffix(".prepared.onnx"), path.with_suffix(".int8.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared, out, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "ConvTranspose"],
    )  # fmt: skip
    return out


def onnxruntime_of(path: Path, threads: int) -> Run:
    """Compute a file by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return by_numpy(lambda images: session.run(None, {"image": images})[0])


def openvino_of(path: Path, threads: int) -> Run:
    """Compute a file by OpenVINO."""
    import openvino

    core = openvino.Core()
    choices: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    # on processors with bfloat16 it would else compute in that
    compiled = core.compile_model(core.read_model(path), "CPU", {**choices, "INFERENCE_PRECISION_HINT": "f32"})
    return by_numpy(lambda images: next(iter(compiled(images).values())))


def torch_rows(network: nn.Module) -> dict[str, Callable[[], Run]]:
    """Rows that PyTorch computes."""

    def eager() -> Run:
        plain = network.to(memory_format=torch.contiguous_format)
        return lambda images: plain(images.contiguous())

    def last(images: torch.Tensor) -> torch.Tensor:
        return images.contiguous(memory_format=torch.channels_last)

    def channels_last() -> Run:
        laid = network.to(memory_format=torch.channels_last)
        return lambda images: laid(last(images))

    def compiled() -> Run:
        made = torch.compile(network.to(memory_format=torch.channels_last), dynamic=False)
        return lambda images: made(last(images))

    def half() -> Run:
        laid = network.to(memory_format=torch.channels_last)

        def run(images: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return laid(last(images)).float()

        return run

    return {
        "PyTorch, eager": eager,
        "PyTorch, channels last": channels_last,
        "PyTorch, compiled": compiled,
        "PyTorch, bfloat16": half,
    }


def pick(chips: FittedChips, count: int) -> torch.Tensor:
    """Images of the first chips, (n, bands, h, w)."""
    images = np.stack([chips[number].image for number in range(min(count, len(chips)))])
    return torch.from_numpy(images).float().permute(0, 3, 1, 2).contiguous()


@click.command(context_settings={"show_default": True})
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--chips", type=click.Path(path_type=Path, exists=True), required=True, multiple=True)
@click.option("--batch", default=8, help="Chips that go through together.")
@click.option("--batches", default=10, help="Batches that a round maps.")
@click.option("--rounds", default=3)
@click.option("--calibrate", default=64, help="Training chips that INT8 takes its ranges from.")
@click.option("--threads", default=lambda: torch.get_num_threads(), type=int)
def main(
    model: Path, chips: tuple[Path, ...], batch: int, batches: int, rounds: int, calibrate: int, threads: int
) -> None:
    """Measure rates and F1, and print the table."""
    torch.set_num_threads(threads)
    loaded = model_file.load(model)
    made_by = recipe.parse({**loaded.recipe, "size": loaded.chip_size})
    data = gather(made_by, chips, seed=0)
    scored = data.test if len(data.test) else data.val
    network = loaded.module.eval()
    images = pick(scored, batch)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        rows = torch_rows(network)
        file = export(network, images, Path(folder) / "network.onnx")
        for name, runtime in (("ONNX Runtime", onnxruntime_of), ("OpenVINO", openvino_of)):
            rows[name] = lambda runtime=runtime: runtime(file, threads)
            rows[f"{name}, INT8"] = lambda runtime=runtime: runtime(
                quantised(file, pick(data.train, calibrate)), threads
            )
        print(f"{model.name}, {len(scored)} chips of {images.shape[-1]} px, batches of {batch}, {threads} threads\n")
        print("| | MPix/s | against eager | F1 | points |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
        runs: dict[str, Run] = {}
        for name, build in rows.items():
            try:
                runs[name] = build()
                runs[name](images)
            except ImportError as error:
                print(f"| {name} | {error.name} is not installed | | | |", flush=True)
                runs.pop(name, None)
            except Exception as error:  # a runtime that this machine or this network is not made for is a row too
                print(f"| {name} | {type(error).__name__}: {str(error).splitlines()[0][:80]} | | | |", flush=True)
                runs.pop(name, None)
        best = dict.fromkeys(runs, np.inf)
        for _ in range(rounds):
            for name, run in runs.items():
                start = time.perf_counter()
                for _ in range(batches):
                    run(images)
                best[name] = min(best[name], time.perf_counter() - start)
        scores = {}
        for name, run in runs.items():
            counted = evaluate(Runner(run), scored, torch.device("cpu"), batch=batch)
            scores[name] = metrics.summary(counted, loaded.threshold)["pooled"]["f1"]
        first = next(iter(runs))
        pixels = batches * images.shape[0] * images.shape[-1] * images.shape[-2] / 1e6
        for name in runs:
            gained = 100 * (scores[name] - scores[first])
            print(
                f"| {name} | {pixels / best[name]:.2f} | {best[first] / best[name]:.2f} | {100 * scores[name]:.2f} | "
                f"{gained:+.2f} |"
            )


if __name__ == "__main__":
    main()
