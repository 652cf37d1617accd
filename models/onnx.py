"""Models for other software: export to ONNX, and the same network computed by ONNX Runtime or OpenVINO."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from geo.atomic import atomic
from geo.errors import ModelError
from models.model_file import LoadedModel

#: Gives probabilities (n, h, w) of images (n, bands, h, w), physical values.
Run = Callable[[np.ndarray], np.ndarray]

#: What the user is told where the packages are missing.
_INSTALL = 'pip install "geocrack[onnx]"'


class _WithNormalisation(nn.Module):
    """Physical values (NaN where not valid) to probability."""

    def __init__(self, model: LoadedModel):
        super().__init__()
        self.network = model.module
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(model.mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(model.std, dtype=torch.float32)[:, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = (images - self.mean) / self.std
        values = torch.where(torch.isfinite(values), values, torch.zeros_like(values))
        return torch.sigmoid(self.network(values)[:, 0])


def export(model: LoadedModel, path: str | os.PathLike, *, overwrite: bool = False, side: int | None = None) -> None:
    """Write a model as ONNX; normalisation and sigmoid are part of it.

    Input ``image``: float32 ``(n, bands, side, side)`` in physical units, NaN where not valid. Output
    ``probability``: float32 ``(n, side, side)``. The number of images is free; the side is that of the chips, since
    tiled prediction sees no other. Bands, threshold and recipe stand in the file's metadata.

    Parameters
    ----------
    model : LoadedModel
    path : path
        The output.
    overwrite : bool
    side : int, optional
        Height and width of the windows; by default the model's chips, rounded up to its stride.

    Raises
    ------
    ModelError
        The packages of the extra ``onnx`` are not installed, or the network cannot be expressed in ONNX.
    OutputExistsError, OutputError
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError:
        raise ModelError(f"exporting a model needs the packages onnx and onnxscript: {_INSTALL}") from None
    side = side or -(-model.chip_size // model.stride) * model.stride
    example = torch.zeros(2, len(model.bands), side, side)
    wrapped = _WithNormalisation(model).eval()
    with atomic(path, overwrite=overwrite) as part:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    wrapped,
                    (example,),
                    part,
                    dynamo=True,
                    verbose=False,
                    external_data=False,
                    input_names=["image"],
                    output_names=["probability"],
                    dynamic_shapes={"images": {0: torch.export.Dim("n", min=1, max=4096)}},
                )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            raise ModelError(f"{model.path or 'the model'} cannot be expressed in ONNX ({reason})") from error
        content = onnx.load(part)
        told = {
            "bands": ",".join(model.bands),
            "threshold": repr(model.threshold),
            "chip_size": str(model.chip_size),
            "recipe": json.dumps(model.recipe),
        }
        onnx.helper.set_model_props(content, {f"geocrack_{key}": value for key, value in told.items()})
        onnx.save(content, part)


class OnnxModel:
    """A loaded model whose network ONNX Runtime computes; see ``models.predict.grid.Model``.

    Parameters
    ----------
    model : LoadedModel

    Raises
    ------
    ModelError
        The packages of the extra ``onnx`` are not installed.
    """

    package, extra = "onnxruntime", "onnx"

    def __init__(self, model: LoadedModel):
        self._model = model
        self._sessions: dict[int, Run] = {}
        if find_spec(self.package) is None:
            raise ModelError(
                f'--backend {self.extra} needs the package {self.package}: pip install "geocrack[{self.extra}]"'
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the input bands."""
        return self._model.bands

    @property
    def chip_size(self) -> int:
        """Height and width of the chips that it was trained on."""
        return self._model.chip_size

    @property
    def reach(self) -> int:
        """Pixels of context on each side."""
        return self._model.reach

    @property
    def stride(self) -> int:
        """Windows at its multiples are seen alike."""
        return self._model.stride

    def probability(self, images: np.ndarray) -> np.ndarray:
        """Probability (n, h, w) of square windows (n, bands, h, w), NaN where not valid."""
        return self._session(images.shape[-1])(np.ascontiguousarray(images, dtype=np.float32))

    def _session(self, side: int) -> Run:
        """Network for windows of this side, exported when it is first asked for."""
        if side not in self._sessions:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "model.onnx"
                export(self._model, file, side=side)
                self._sessions[side] = self._start(file)
        return self._sessions[side]

    def _start(self, file: Path) -> Run:
        """Read an exported network."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"image": images})[0]


class OpenVinoModel(OnnxModel):
    """A loaded model whose network OpenVINO computes, in float32: twice as fast as PyTorch on processors of Intel.

    Raises
    ------
    ModelError
        The packages of the extra ``openvino`` are not installed.
    """

    package, extra = "openvino", "openvino"

    def _start(self, file: Path) -> Run:
        import openvino

        choices: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # one request at a time gets all threads
            "INFERENCE_PRECISION_HINT": "f32",  # it would take bfloat16 where the processor has it
        }
        core = openvino.Core()
        network = core.compile_model(core.read_model(file), "CPU", choices)
        return lambda images: np.array(next(iter(network(images).values())))  # its own memory is written again
