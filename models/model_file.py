"""The model file: all that is needed to map landslides, in one file that runs no code when it is read."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import models
from geo.atomic import atomic
from geo.errors import ModelError, out_of_memory
from models import recipe as recipes
from models.file_content import ClassifierContent, LabellerContent, check, check_whole, fill, unfit
from models.labeller import Labeller

if TYPE_CHECKING:
    from models.classification.recipe import ImageClassifier

FORMAT = "geocrack-model"
VERSION = 1


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready to map.

    Attributes
    ----------
    kind : {"segmenter", "pixel"}
    recipe : dict
        The recipe it was trained by, with all defaults filled in.
    bands : tuple of str
        Names of the input bands in the order of the input.
    mean, std : tuple of float
        Of each band, in physical units; the input is normalised by them.
    chip_size : int
        Height and width of the chips that it was trained on.
    threshold : float
        Probability from which ground is landslide, chosen on validation chips.
    metrics, history, trained_on : dict, list, dict
        Scores, the course of the training, and what it was trained on.
    module : torch.nn.Module
        ``(n, bands, h, w)`` normalised -> logits ``(n, 1, h, w)``.
    path : Path or None
        Where it was read from.
    """

    kind: str
    recipe: dict[str, Any]
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    chip_size: int
    threshold: float
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    trained_on: dict[str, Any]
    module: Labeller
    path: Path | None = None

    @property
    def reach(self) -> int:
        """Pixels of context that a window needs on each side; 0 where each pixel stands alone."""
        return self.module.reach

    @property
    def stride(self) -> int:
        """Windows whose sides are multiples of it go through without padding."""
        return self.module.stride

    @property
    def global_context(self) -> bool:
        """Whether it pools over its whole window, which therefore keeps the size of the chips."""
        return self.module.global_context

    @property
    def parallel(self) -> bool:
        """Whether windows are best computed side by side: on CPUs, by few threads each."""
        return self._device.type == "cpu"

    @property
    def _device(self) -> torch.device:
        return next(iter([*self.module.parameters(), *self.module.buffers()])).device

    def check_bands(self, bands: Sequence[str], *, source: str = "the image") -> list[int]:
        """Find the model's bands among those of an image.

        Returns
        -------
        list of int
            Places (from 0) of the model's bands in ``bands``.

        Raises
        ------
        ModelError
            One is not there; both lists are named.
        """
        there = [band.lower() for band in bands]
        if any(band.lower() not in there for band in self.bands):
            name = self.path or "the model"
            raise ModelError(
                f"{name} was trained on the bands {', '.join(self.bands)}, {source} has {', '.join(bands)}; "
                "name the image's bands (band descriptions), or take a model trained on these bands"
            )
        return [there.index(band.lower()) for band in self.bands]

    @torch.inference_mode()
    def probability(self, images: np.ndarray) -> np.ndarray:
        """Probability of landslide of each pixel.

        Parameters
        ----------
        images : ndarray of float32, shape (n, bands, h, w)
            Physical values of ``bands``; NaN where not valid (such pixels are set to the mean of the
            training, their probability has no meaning). Any size: sides are padded to ``stride`` inside.

        Returns
        -------
        ndarray of float32, shape (n, h, w)

        Raises
        ------
        ModelError
            Another number of bands.
        """
        if images.ndim != 4 or images.shape[1] != len(self.bands):
            raise ModelError(
                f"the model takes (n, {len(self.bands)}, height, width) values of the bands {', '.join(self.bands)}, "
                f"got the shape {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        values = normalise(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)), self.mean, self.std)
        down, right = -height % self.stride, -width % self.stride
        if down or right:
            values = functional.pad(values, (0, right, 0, down))
        values = values.to(self._device)
        if self.stride > 1:
            values = values.contiguous(memory_format=torch.channels_last)
        logits = self.module(values)[:, 0, :height, :width]
        return torch.sigmoid(logits.float()).cpu().numpy()


def normalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Scale bands to mean 0 and standard deviation 1; NaN becomes 0.

    Parameters
    ----------
    images : tensor of float32, shape (..., bands, h, w)
    mean, std : sequence of float
        Of each band.

    Returns
    -------
    tensor, same shape
    """
    centre = torch.tensor(mean, dtype=images.dtype)[:, None, None]
    spread = torch.tensor(std, dtype=images.dtype)[:, None, None]
    # in place: fresh memory for each step took a tenth of the time of a light network
    return (images - centre).div_(spread).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def save(
    path: str | os.PathLike,
    module: nn.Module,
    recipe: recipes.Recipe,
    *,
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    chip_size: int,
    threshold: float,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]] = (),
    trained_on: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model file, whole or not at all.

    Raises
    ------
    OutputExistsError, OutputError
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "kind": recipe.kind,
        "recipe": recipe.model_dump(mode="json"),
        "bands": list(bands),
        "mean": [float(v) for v in mean],
        "std": [float(v) for v in std],
        "chip_size": int(chip_size),
        "threshold": float(threshold),
        "state": {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()},
        "metrics": dict(metrics),
        "history": [dict(row) for row in history],
        "trained_on": dict(trained_on or {}),
    }
    with atomic(path, overwrite=overwrite) as part:
        torch.save(content, part)


def load(path: str | os.PathLike, *, device: str | torch.device = "cpu") -> LoadedModel:
    """Read a model file; nothing in it is run.

    Raises
    ------
    ModelError
        No such file, a damaged one, another kind of file (the message says which), a model of a newer
        version, content that no training writes, weights that are no numbers or of another architecture.
    """
    file = Path(path)
    content = read_safely(file, FORMAT, "a model written by 'geocrack train'")
    if content.get("kind") == "classifier":
        raise ModelError(f"{file} is a classifier, which says of a whole image what it shows; use `geocrack classify`")
    recipe = recipes.labelling(checked(file, content, LabellerContent), file)
    state, settings = content["state"], recipe.network.settings
    try:
        settings |= models.architecture(recipe.network.name).settings_of(state)
        module = models.build(recipe.network.name, bands=len(content["bands"]), **settings)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None
    except (TypeError, IndexError, RuntimeError) as error:  # tensors of other dimensions, or without end
        if out_of_memory(error):
            raise
        raise unfit(file, recipe.network.name, error) from None
    fill(module, state, file, recipe.network.name)
    flaw = module.flaw()
    if flaw:
        raise ModelError(f"{file} holds {flaw}; train the model again")
    module = module.to(device).eval().requires_grad_(False)
    if module.stride > 1:
        module = module.to(memory_format=torch.channels_last)
    return LoadedModel(
        kind=content["kind"],
        recipe=content["recipe"],
        bands=tuple(content["bands"]),
        mean=tuple(content["mean"]),
        std=tuple(content["std"]),
        chip_size=content["chip_size"],
        threshold=content["threshold"],
        metrics=content["metrics"],
        history=content["history"],
        trained_on=content["trained_on"],
        module=module,
        path=file,
    )


def checked(
    file: Path, content: dict[str, Any], schema: type[LabellerContent | ClassifierContent]
) -> recipes.Recipe | ImageClassifier:
    """Check all of a model file but its weights.

    Parameters
    ----------
    file : Path
    content : dict
        As ``read_safely`` gives it.
    schema : type
        What it must hold.

    Returns
    -------
    Recipe or ImageClassifier

    Raises
    ------
    ModelError, ConfigError
        It is of a newer version, holds what no training writes, or its recipe is none or of another kind.
    """
    version = content.get("version")
    if version != VERSION:
        raise ModelError(
            f"{file} is a model of version {version!r}, this geocrack reads version {VERSION}; "
            "update geocrack, or train the model again"
        )
    check(file, content, schema)
    recipe = recipes.parse(content["recipe"], source=str(file))
    if recipe.kind != content["kind"]:
        raise ModelError(
            f"{file} says it is of kind '{content['kind']}', its recipe is of kind '{recipe.kind}'; train it again"
        )
    return recipe


def read_safely(file: Path, form: str, expected: str) -> dict[str, Any]:
    """Read a dictionary of plain values and tensors that names its own format.

    Parameters
    ----------
    file : Path
    form : str
        What its ``format`` must say.
    expected : str
        Words for the message.

    Raises
    ------
    ModelError
        With what was found instead, or which part is not what was written.
    """
    if not file.is_file():
        raise ModelError(f"{file} does not exist; expected {expected}")
    if file.stat().st_size == 0:
        raise ModelError(f"{file} is empty (0 bytes); expected {expected}")
    if not zipfile.is_zipfile(file):
        raise ModelError(f"{file} is {_looks_like(file)}; expected {expected}")
    check_whole(file, f"copy it anew from where it came, or make it again; expected {expected}")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            f"{file} holds Python objects that would be run when read (a pickle), which is refused; expected {expected}"
        ) from None
    except Exception as error:  # whatever a damaged or foreign archive makes torch, zipfile or struct raise
        if out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise ModelError(
            f"{file} is a damaged archive, or one of another kind ({reason}); expected {expected}"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(f"{file} holds {type(content).__name__}; expected {expected}")
    found = content.get("format")
    if found != form:
        what = f"says its format is {found!r}" if found else "is a file of torch with other content"
        raise ModelError(f"{file} {what}; expected {expected}")
    return content


def _looks_like(file: Path) -> str:
    """Words for what a file that is no archive seems to be by its first bytes."""
    with open(file, "rb") as stream:
        head = stream.read(8)
    kinds = {
        b"PK": "a truncated archive",
        b"\x80": "a Python pickle, which is refused because reading it would run code",
        b"II*\0": "a TIFF",
        b"MM\0*": "a TIFF",
        b"II+\0": "a BigTIFF",
        b"\x89HDF": "an HDF5 file",
        b"SQLite": "an SQLite file",
    }
    return next((name for magic, name in kinds.items() if head.startswith(magic)), "no model file, or a damaged one")
