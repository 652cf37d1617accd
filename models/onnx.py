"""Models for other software: export to ONNX, and the same network computed by ONNX Runtime or OpenVINO."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from geo.atomic import atomic
from geo.errors import ModelError, out_of_memory
from models.model_file import LoadedModel

if TYPE_CHECKING:
    from models.classification.classifier_file import LoadedClassifier

#: Gives probabilities (n, h, w) of images (n, bands, h, w), physical values.
Run = Callable[[np.ndarray], np.ndarray]

#: What the user is told where the packages are missing.
_INSTALL = 'pip install "geocrack[onnx]"'


class _Normalised(nn.Module):
    """Normalisation in front of a network: physical values, NaN where not valid."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.network = network
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        values = (images - self.mean) / self.std
        return torch.where(torch.isfinite(values), values, torch.zeros_like(values))


class _Labels(_Normalised):
    """To the probability of each pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.network(self.normalised(images))[:, 0])


class _Classes(_Normalised):
    """To the probability of each class."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.network(self.normalised(images)), dim=1)


class _TaggedClasses(_Normalised):
    """To the probability of each class, of a classifier that looks at tags too."""

    def forward(self, images: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.network(self.normalised(images), tags), dim=1)


def export(model: LoadedModel, path: str | os.PathLike, *, overwrite: bool = False, side: int | None = None) -> None:
    """Write a model that labels pixels as ONNX; normalisation and sigmoid are part of it.

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
        The packages of the extra ``onnx`` are not installed, the model is one of pixels, or its network cannot be
        expressed in ONNX.
    OutputExistsError, OutputError
    """
    _check_network(model)
    side = side or -(-model.chip_size // model.stride) * model.stride
    told = {
        "bands": ",".join(model.bands),
        "threshold": repr(model.threshold),
        "chip_size": str(model.chip_size),
        "recipe": json.dumps(model.recipe),
    }
    wrapped = _Labels(model.module, model.mean, model.std)
    _write(wrapped, {"image": torch.zeros(2, len(model.bands), side, side)}, told, model.path, path, overwrite)


def export_classifier(model: LoadedClassifier, path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Write a classifier as ONNX; normalisation and softmax are part of it.

    Input ``image``: float32 ``(n, bands, size, size)`` in physical units, NaN where not valid; the shorter side of an
    image is scaled to ``size``, the middle of the longer one taken. Input ``tags``, of classifiers that look at some:
    float32 ``(n, tags)`` as ``TagTable.encode`` gives them. Output ``probability``: float32 ``(n, classes)``. Bands,
    classes, the one that is sought, size, tags and recipe stand in the file's metadata.

    Parameters
    ----------
    model : LoadedClassifier
    path : path
        The output.
    overwrite : bool

    Raises
    ------
    ModelError
        The packages of the extra ``onnx`` are not installed, or the network cannot be expressed in ONNX.
    OutputExistsError, OutputError
    """
    size = model.scale.size
    told = {
        "bands": ",".join(model.scale.bands),
        "classes": ",".join(model.classes),
        "positive": model.positive,
        "size": str(size),
        "recipe": model.recipe.model_dump_json(),
    }
    inputs = {"image": torch.zeros(2, len(model.scale.bands), size, size)}
    kind: type[_Normalised] = _Classes
    if model.tags is not None:
        inputs["tags"], kind = torch.zeros(2, model.tags.width), _TaggedClasses
        told["tags"] = json.dumps(model.tags.plain())
    _write(kind(model.module, model.scale.mean, model.scale.std), inputs, told, model.path, path, overwrite)


def _check_network(model: LoadedModel) -> None:
    """Raise where a model is no network."""
    if model.kind == "pixel":
        name = model.recipe.get("network", {}).get("name", "pixel")
        raise ModelError(
            f"{model.path or 'the model'} is a pixel model ('{name}'), whose answers are computed by code outside of "
            "torch that ONNX cannot express; map with it by `geocrack predict --backend torch`, or export a network "
            "(linknet-lite0)"
        )


def _write(
    wrapped: nn.Module,
    inputs: dict[str, torch.Tensor],
    told: dict[str, str],
    source: Path | None,
    path: str | os.PathLike,
    overwrite: bool,
) -> None:
    """Write a network by what it makes of examples, whose number of images is free, with metadata."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError:
        raise ModelError(f"exporting a model needs the packages onnx and onnxscript: {_INSTALL}") from None
    count = torch.export.Dim("n", min=1, max=4096)
    with atomic(path, overwrite=overwrite) as part:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    wrapped.eval(),
                    tuple(inputs.values()),
                    part,
                    dynamo=True,
                    verbose=False,
                    external_data=False,
                    input_names=list(inputs),
                    output_names=["probability"],
                    dynamic_shapes=tuple({0: count} for _ in inputs),
                )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            raise ModelError(f"{source or 'the model'} cannot be expressed in ONNX ({reason})") from error
        content = onnx.load(part)
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
        The packages of the extra ``onnx`` are not installed, or the model is one of pixels.
    """

    package, extra = "onnxruntime", "onnx"
    #: Every thread that asks gets a session of its own, with the threads that torch would have there.
    parallel = True

    def __init__(self, model: LoadedModel):
        _check_network(model)
        self._model = model
        self._mine, self._one_at_a_time = threading.local(), threading.Lock()
        self._exported: dict[int, Path] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="geocrack-")
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
        """Network for windows of this side, started when a thread first asks for it."""
        sessions: dict[int, Run] = self._mine.__dict__.setdefault("sessions", {})
        if side not in sessions:
            sessions[side] = self._start(self._file(side))
        return sessions[side]

    def _file(self, side: int) -> Path:
        """Network for windows of this side as a file, exported when it is first asked for."""
        with self._one_at_a_time:
            if side not in self._exported:
                file = Path(self._folder.name) / f"{side}.onnx"
                export(self._model, file, side=side)
                self._exported[side] = file
            return self._exported[side]

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
            "PERFORMANCE_HINT": "LATENCY",  # one request at a time gets all of these
            "ENABLE_CPU_PINNING": False,  # networks of several threads would be pinned to the same CPUs
            "INFERENCE_PRECISION_HINT": "f32",  # it would take bfloat16 where the processor has it
        }
        core = openvino.Core()
        network = core.compile_model(core.read_model(file), "CPU", choices)
        return lambda images: np.array(next(iter(network(images).values())))  # its own memory is written again
