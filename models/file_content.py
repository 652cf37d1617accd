"""What a model file must hold, checked before anything is made of it: files come from anywhere.

Unknown keys are left alone, so that later versions may add some; what is known has the types and the ranges that
the rest of the package counts on.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from geo.errors import ModelError, out_of_memory
from geo.settings import explain
from models.guards import not_finite
from models.metrics import STEPS

_Name = Annotated[str, Field(min_length=1)]
_Positive = Annotated[float, Field(gt=0)]
_Counts = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=STEPS + 1, max_length=STEPS + 1)]
#: Sides of chips and windows in pixels.
_Side = Annotated[int, Field(ge=1, le=65_536)]
#: Clauses of an error, at most: a spoilt list has one an entry.
_TOLD = 5


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


class _Folder(_Plain):
    """What a card tells of one folder of chips or images."""

    name: str
    sources: list[str] | None = None
    resolution_m: float | None = None
    split: str | None = None
    counts: dict[str, dict[str, float]] | None = None


class _TrainedOn(_Plain):
    """What is known of the data; absent where an older file has not noted it."""

    chips: list[str] = []
    sets: list[str] = []
    start_from: str | None = None
    counts: dict[str, int] = {}
    pictures: list[str] | None = None
    landslide_share: float | None = None
    seed: int | None = None
    fingerprint: str | None = None
    seconds: float | None = None
    data: list[Annotated[_Folder, Field(strict=False)]] | None = None
    software: dict[str, str] | None = None


_Scores = dict[str, float | None]
_Intervals = dict[str, Annotated[tuple[float, float], Field(strict=False)] | None]


class _Pooled(_Plain):
    pooled: _Intervals | None = None


class _Judged(_Plain):
    """Scores of one split of chips; what a card tells of them."""

    images: int | None = None
    pooled: _Scores | None = None
    interval: Annotated[_Pooled, Field(strict=False)] | None = None
    calibration_error: float | None = None


class _Metrics(_Plain):
    validation: Annotated[_Judged, Field(strict=False)] | None = None
    test: Annotated[_Judged, Field(strict=False)] | None = None


class _JudgedSet(_Plain):
    """Scores of a classifier on one set of images."""

    images: int
    groups: int
    scores: _Scores
    intervals: _Intervals


class _ClassifierMetrics(_Plain):
    validation: dict[str, Annotated[_JudgedSet, Field(strict=False)]] | None = None
    test: dict[str, Annotated[_JudgedSet, Field(strict=False)]] | None = None


class _Content(_Plain):
    recipe: dict[str, Any]
    bands: list[_Name] = Field(min_length=1)
    mean: list[float]
    std: list[_Positive]
    state: dict[str, torch.Tensor]
    history: list[dict[str, Any]]
    trained_on: _TrainedOn = Field(strict=False)

    @model_validator(mode="after")
    def _fitting(self) -> _Content:
        _differ("bands", [band.lower() for band in self.bands])
        if not len(self.bands) == len(self.mean) == len(self.std):
            raise ValueError(
                f"{len(self.bands)} bands have {len(self.mean)} means and {len(self.std)} standard deviations"
            )
        return self


class LabellerContent(_Content):
    """Of a model that labels pixels."""

    kind: Literal["segmenter", "pixel"]
    chip_size: _Side
    threshold: Annotated[float, Field(ge=0, le=1)]
    metrics: _Metrics = Field(strict=False)


class _Tags(_Plain):
    numbers: dict[str, Annotated[tuple[float, _Positive], Field(strict=False)]]
    categories: dict[str, list[str]]


class _Seen(_Plain):
    train: list[str]
    val: list[str]


class ClassifierContent(_Content):
    """Of a classifier of whole images."""

    classes: list[_Name] = Field(min_length=2)
    positive: str
    window: _Side
    tags: Annotated[_Tags, Field(strict=False)] | None = None
    validation: list[_Counts] = Field(min_length=2, max_length=2)
    seen: _Seen = Field(strict=False)
    metrics: _ClassifierMetrics = Field(strict=False)

    @model_validator(mode="after")
    def _known(self) -> ClassifierContent:
        _differ("classes", self.classes)
        if self.positive not in self.classes:
            raise ValueError(f"positive: '{self.positive}' is none of the classes {', '.join(self.classes)}")
        return self


def _differ(what: str, names: list[str]) -> None:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{what}: '{twice[0]}' is given twice")


def check_whole(file: Path, advice: str) -> None:
    """Raise where an archive of torch is not as it was written; torch itself does not look.

    Each part has a checksum (CRC-32), unless the writer turned them off (``torch.serialization.set_crc32_options``):
    all are 0 then, and nothing is known, as of files that are no archive of torch. Reads the file once, a MiB at a
    time; nothing in it is run.

    Parameters
    ----------
    file : Path
        An existing one.
    advice : str
        Words for the message: what to do.

    Raises
    ------
    ModelError
        The first part whose content has another checksum is named.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            parts = [part for part in archive.infolist() if part.file_size]
            of_torch = any(part.filename.endswith("/data.pkl") for part in parts)
            name = archive.testzip() if of_torch and any(part.CRC for part in parts) else None
            wrong = name and f"by its checksum its part '{name}' is not what was written"
    except Exception as error:  # wrong bits in its directory make zipfile, zlib, struct and the like raise their own
        wrong = " ".join(str(error).split())[:120] or type(error).__name__
    if wrong:
        raise ModelError(f"{file} is damaged ({wrong}); {advice}")


def check(file: Path, content: dict[str, Any], schema: type[LabellerContent | ClassifierContent]) -> None:
    """Raise where a model file holds something else than a training writes.

    Raises
    ------
    ModelError
        With what is missing, or what was found where.
    """
    missing = [name for name, field in schema.model_fields.items() if field.is_required() and name not in content]
    if missing:
        raise ModelError(f"{file} lacks {', '.join(missing)}; it was not written whole: train the model again")
    try:
        schema.model_validate(content)
    except ValidationError as error:
        clauses = explain(error, schema)
        more = f"; and {len(clauses) - _TOLD} more" if len(clauses) > _TOLD else ""
        raise ModelError(
            f"{file} holds what no training writes ({'; '.join(clauses[:_TOLD])}{more}); train the model again"
        ) from None


def fill(module: nn.Module, state: dict[str, torch.Tensor], file: Path, name: str) -> None:
    """Load weights that must fit, and must be numbers.

    Parameters
    ----------
    module : nn.Module
    state : dict
        From ``file``.
    file : Path
    name : str
        Of the recipe's network.

    Raises
    ------
    ModelError
        They are of another architecture, a training spoilt them, or they are what none writes: complex numbers, of
        which torch takes the real part, or negative variances, whose root is no number.
    """
    impossible = {
        "complex numbers": [key for key, value in state.items() if value.is_complex()],
        "negative variances": [key for key in state if key.endswith("running_var") and _negative(state[key])],
    }
    for what, keys in impossible.items():
        if keys:
            raise ModelError(
                f"{file} holds what no training writes ({what} in {len(keys)} of {len(state)} parts, such as "
                f"{keys[0]}); train the model again"
            )
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        if out_of_memory(error):
            raise
        raise unfit(file, name, error) from None
    spoilt = not_finite(module.state_dict())
    if spoilt:
        raise ModelError(
            f"{file} holds weights that are no finite numbers ({len(spoilt)} of {len(state)} parts, such as "
            f"{spoilt[0]}); train the model again, at a lower learning rate"
        )


def _negative(value: torch.Tensor) -> bool:
    return value.layout == torch.strided and not value.is_meta and not value.is_complex() and bool((value < 0).any())


def unfit(file: Path, name: str, error: Exception) -> ModelError:
    """Error for weights that do not fit a network."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(
        f"{file} holds weights of another architecture than its recipe's '{name}' ({reason}); train the model again"
    )
