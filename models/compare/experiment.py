"""An experiment as a person writes it in ``configs/experiments/<name>.yaml``."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from geo.errors import ConfigError, unknown_name
from geo.settings import Section, explain, read_yaml
from models import recipe as recipes
from models.classification.recipe import ImageClassifier
from models.outlines import F1_OF
from models.recipe import Recipe, Segmenter
from models.recipe_changes import apply_change

#: What a row of an experiment may be.
AnyRecipe = Recipe | ImageClassifier

#: Scores that a table can show, with its heading.
SCORES = {
    "precision": "P",
    "recall": "R",
    "f1": "F1",
    "iou": "IoU",
    "miou": "mIoU",
    "precision_classes": "P classes",
    "recall_classes": "R classes",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "boundary_f1": "boundary F1",
    "centre_line_f1": "centre-line F1",
    "tolerant_f1": "F1 with tolerance",
}

#: Scores that are told of publications alone, with their heading.
PRINTED = {"background_iou": "IoU background"}

#: What is no score and told of publications alone, with its heading: machines differ, and so do ways to count layers.
PRINTED_FACTS = {"depth": "layers", "minutes_per_epoch": "minutes an epoch"}

#: What tables can show of a model besides its scores, with its heading.
FACTS = {"parameters": "10^6 parameters", "size_mb": "file, MB", "train_accuracy": "train accuracy"}

#: All that a publication may tell, with its heading.
TOLD = SCORES | PRINTED | FACTS | PRINTED_FACTS
#: What of it is no share of anything.
NO_SHARES = {"parameters", "size_mb", *PRINTED_FACTS}


class Published(Section):
    """Figures of a publication, scores in per cent: printed beside ours, never mixed with them."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    measured_on: str = Field(description="Data of the publication.")
    data: str | None = Field(None, description="Data set of this experiment beside which they stand; absent: all.")
    scores: dict[str, float] = Field(
        min_length=1,
        description="Score to per cent, as printed; also parameters (in millions), size_mb, depth, minutes_per_epoch.",
    )

    @field_validator("scores")
    @classmethod
    def _known(cls, scores: dict[str, float]) -> dict[str, float]:
        for name, value in scores.items():
            if name not in TOLD:
                raise ValueError(unknown_name("score", name, list(TOLD)))
            if name in NO_SHARES and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value:g}; expected a positive number")
            if name not in NO_SHARES and not 0 <= value <= 100:
                raise ValueError(f"{name} is {value:g}; expected per cent, from 0 to 100")
        return scores

    @property
    def shares(self) -> dict[str, float]:
        """Scores from 0 to 1, without what is no score."""
        return {name: value / 100 for name, value in self.scores.items() if name not in NO_SHARES}


class Row(Section):
    """One system: a recipe, and what it takes instead."""

    name: str = Field(description="Heading in the tables.")
    recipe: str = Field(description="Name of a recipe in configs/models, or a path.")
    mark: str = Field("", description="What the row is, where that is not what the paper had: encoder, start.")
    changes: list[str] = Field([], description="Values to take instead of the recipe's: key=value.")
    skip: str | None = Field(None, description="Why this row is not run; the tables say so.")
    published: list[Published] = Field([], description="Figures in print.")


class Budget(Section):
    """The same work for every network: so many steps on so many pixels."""

    steps: int = Field(ge=1, description="Optimiser steps of each network, over all its phases.")
    epochs: int = Field(ge=1, description="Validations in these steps, dealt out to the phases as the recipe does.")
    batch: int = Field(8, ge=1, description="Chips in a step.")
    size: int = Field(
        256, ge=32, description="Height and width in pixels to which chips are fitted; classifiers keep their recipe's."
    )

    @model_validator(mode="after")
    def _whole(self) -> Budget:
        if self.steps % self.epochs:
            raise ValueError(f"{self.steps} steps cannot be cut into {self.epochs} equal epochs; give a multiple")
        return self


class DataSet(Section):
    """Chips, or images of classes, to train, validate and test on."""

    chips: list[Path] = Field([], description="Folders of chips, from where the command runs: for models of pixels.")
    images: list[Path] = Field(
        [], description="Sets of images as `geocrack classify train --data` takes them: for classifiers."
    )
    title: str = Field("", description="Words for the tables.")
    train: bool = Field(
        True, description="false: nothing is trained on it; each model is tested on it, besides on its own."
    )
    val_fraction: float = Field(0.1, ge=0, lt=1, description="Of images without splits of their own: who validates.")
    test_fraction: float = Field(0.2, ge=0, lt=1, description="Of images without splits of their own: who tests.")

    @model_validator(mode="after")
    def _one_kind(self) -> DataSet:
        if bool(self.chips) == bool(self.images):
            given = "both" if self.chips else "neither chips nor images"
            raise ValueError(f"{given} given; give chips for models of pixels, or images for classifiers")
        return self

    @property
    def folders(self) -> list[Path]:
        """Folders of chips or images."""
        return self.chips or self.images


class Experiment(Section):
    """Systems that are compared on the same chips."""

    title: str = Field(description="Heading of the tables.")
    source: str = Field("", description="The publication whose figures are beside ours.")
    about: str = Field("", description="What a reader must know: what is as printed, what is not, and why.")
    data: dict[str, DataSet] = Field(min_length=1, description="Data sets by name.")
    rows: list[Row] = Field(min_length=1, description="Systems; the others are compared with the first.")
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        [0], min_length=1, description="Each row is trained once with each."
    )
    changes: list[str] = Field([], description="Values to take instead of those of each network's recipe: key=value.")
    budget: Budget | None = Field(None, description="Equal work for all networks; absent: as the recipes say.")
    train_chips: list[int | Literal["all"]] = Field(
        ["all"], min_length=1, description="Numbers of training chips, each drawn by the seed: a learning curve."
    )
    cross: bool = Field(False, description="Score each model on the test chips of the other data sets too.")
    metric: str = Field("f1", description="Score of the figure and of the differences to the first row.")
    columns: list[str] = Field(
        ["precision", "recall", "f1", "iou", "miou"],
        description="Scores of the table, of maps also boundary_f1, centre_line_f1, tolerant_f1 (within 2 pixels); of "
        "classifiers accuracy, F1, precision, recall, specificity, train_accuracy; parameters and size_mb of any.",
    )
    panels: int = Field(4, ge=0, le=20, description="Chips in the picture of all systems, the worst first.")
    alarm_px: int = Field(
        100, ge=1, description="Pixels found on a chip without landslide from which it counts as a false alarm."
    )

    @property
    def classifies(self) -> bool:
        """Whether its systems classify whole images, not pixels."""
        return bool(next(iter(self.data.values())).images)

    @property
    def trained_on(self) -> list[str]:
        """Names of the data sets that are trained on."""
        return [name for name, data in self.data.items() if data.train]

    @model_validator(mode="before")
    @classmethod
    def _of_images(cls, given: Any) -> Any:
        sets = given.get("data") if isinstance(given, dict) else None
        images = isinstance(sets, dict) and any(isinstance(s, dict) and s.get("images") for s in sets.values())
        return {"columns": ["accuracy", "f1", "precision", "recall", "specificity"], **given} if images else given

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        wrong = []
        named = (("rows", [row.name for row in self.rows]), ("seeds", self.seeds), ("train_chips", self.train_chips))
        for what, names in named:
            twice = sorted({str(n) for n in names if list(names).count(n) > 1})
            wrong += [f"{what}: '{name}' is given twice" for name in twice]
        for row in self.rows:
            wrong += [
                f"rows: '{row.name}': " + unknown_name("data set", p.data, list(self.data))
                for p in row.published
                if p.data is not None and p.data not in self.data
            ]
        known = [*SCORES, *FACTS]
        wrong += [unknown_name("score", self.metric, list(SCORES))] if self.metric not in SCORES else []
        wrong += [unknown_name("column", name, known) for name in self.columns if name not in known]
        wrong += [f"train_chips: {n} is too few" for n in self.train_chips if n != "all" and n < 1]
        if len({bool(data.images) for data in self.data.values()}) > 1:
            wrong.append("data: some sets are of chips, others of images; give one kind, they are no one table")
        if not self.trained_on:
            wrong.append("data: nothing is trained on; leave `train: false` away from one set")
        lines = [name for name in (self.metric, *self.columns) if name in F1_OF]
        if self.classifies and lines:
            wrong.append(f"'{lines[0]}' is of maps, and the data are images of classes; leave it away")
        if self.classifies and self.train_chips != ["all"]:
            wrong.append("train_chips: classifiers are trained on all images; leave it away")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def load(path: str | os.PathLike, changes: Sequence[str] = (), chips: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment.

    Parameters
    ----------
    path : path
    changes : sequence of str
        ``"budget.steps=20"``: settings to take instead.
    chips : sequence of str
        ``"bijie=folder"``: folder of chips, or of images, of a data set.

    Raises
    ------
    ConfigError
        No such file, or all that is wrong in it.
    """
    settings = read_yaml(path)
    if isinstance(settings.get("data"), dict):
        settings["data"] = {str(name): given for name, given in settings["data"].items()}  # years are numbers in YAML
    for change in changes:
        apply_change(settings, change)
    for pair in chips:
        name, sign, folder = pair.partition("=")
        known = settings.get("data")
        if not isinstance(known, dict) or not all(isinstance(given, dict) for given in known.values()):
            raise ConfigError(f"{path}: data is {known!r}; expected data sets by name, each with its chips or images")
        if not sign or not folder:
            raise ConfigError(f"--chips {pair}: expected NAME=FOLDER, for instance {next(iter(known), 'bijie')}=chips")
        if name not in known:
            raise ConfigError(f"--chips {pair}: " + unknown_name("data set", name, list(known)))
        known[name]["images" if known[name].get("images") else "chips"] = [folder]
    try:
        experiment = Experiment.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(explain(error, Experiment))) from None
    for row in experiment.rows:
        recipe_of(experiment, row)
    return experiment


def recipe_of(experiment: Experiment, row: Row) -> AnyRecipe:
    """Recipe by which a row is trained: its own, within the budget, with the changes of experiment and row.

    Raises
    ------
    ConfigError
        No such recipe, a change that does not fit it, or a budget of fewer epochs than the recipe has phases.
    """
    try:
        plain = recipes.load(row.recipe)
        if isinstance(plain, ImageClassifier) and not experiment.classifies:
            raise ConfigError(
                f"{row.recipe} classifies whole images, and the data are chips for models of pixels; give `images` in "
                "place of `chips`, or take a recipe that labels pixels (linknet-lite0)"
            )
        if experiment.classifies and not isinstance(plain, ImageClassifier):
            raise ConfigError(
                f"{row.recipe} labels pixels, and the data are images of classes; give `chips` in place of `images`, "
                "or take a classifier (classify-lite0)"
            )
        shared: list[str] = []
        if isinstance(plain, Segmenter | ImageClassifier):
            shared = [*(within(plain, experiment.budget) if experiment.budget else []), *experiment.changes]
        return recipes.load(row.recipe, [*shared, *row.changes])
    except ConfigError as error:
        raise ConfigError(f"the row '{row.name}': {error}") from None


def within(recipe: Segmenter | ImageClassifier, budget: Budget) -> list[str]:
    """Give the changes that make a recipe do the work of a budget, no less and no more.

    Its phases keep their learning rates and what they freeze, and share the epochs in proportion to their own.
    Early stopping is off: it would leave work undone. Classifiers keep the size of their images, by which they differ.
    """
    phases = recipe.phases
    if budget.epochs < len(phases):
        raise ConfigError(
            f"a budget of {budget.epochs} epochs cannot be dealt out to the {len(phases)} phases of its recipe; "
            "give more epochs"
        )
    total = sum(phase.epochs for phase in phases)
    shares, left = [], budget.epochs
    for number, phase in enumerate(phases):
        after = len(phases) - number - 1
        share = left if not after else min(max(1, round(budget.epochs * phase.epochs / total)), left - after)
        shares.append(share)
        left -= share
    changes = [f"steps_per_epoch={budget.steps // budget.epochs}", "patience=null"]
    changes += [f"size={budget.size}"] if isinstance(recipe, Segmenter) else []
    for number, share in enumerate(shares):
        changes += [f"phases.{number}.{key}={value}" for key, value in
                    (("epochs", share), ("batch", budget.batch), ("accumulate", 1))]  # fmt: skip
    return changes


def facts(experiment: Experiment) -> dict[str, Any]:
    """Give the experiment as plain values."""
    return experiment.model_dump(mode="json")
