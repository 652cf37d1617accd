"""An experiment as a person writes it in ``configs/experiments/<name>.yaml``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from geo.errors import ConfigError, unknown_name
from geo.settings import Section, explain, read_yaml
from models import recipe as recipes
from models.recipe import Recipe, Segmenter

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
}


class Published(Section):
    """Figures of a publication, in per cent: printed beside ours, never mixed with them."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    measured_on: str = Field(description="Data of the publication.")
    data: str | None = Field(None, description="Data set of this experiment beside which they stand; absent: all.")
    scores: dict[str, float] = Field(min_length=1, description="Score to per cent, as printed.")

    @field_validator("scores")
    @classmethod
    def _known(cls, scores: dict[str, float]) -> dict[str, float]:
        for name, value in scores.items():
            if name not in SCORES:
                raise ValueError(unknown_name("score", name, list(SCORES)))
            if not 0 <= value <= 100:
                raise ValueError(f"{name} is {value:g}; expected per cent, from 0 to 100")
        return scores


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
    size: int = Field(256, ge=32, description="Height and width in pixels to which chips are fitted.")

    @model_validator(mode="after")
    def _whole(self) -> Budget:
        if self.steps % self.epochs:
            raise ValueError(f"{self.steps} steps cannot be cut into {self.epochs} equal epochs; give a multiple")
        return self


class DataSet(Section):
    """Chips to train, validate and test on."""

    chips: list[Path] = Field(min_length=1, description="Folders of chips, from where the command runs.")
    title: str = Field("", description="Words for the tables.")


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
    columns: list[str] = Field(["precision", "recall", "f1", "iou", "miou"], description="Scores of the table.")
    panels: int = Field(4, ge=0, le=20, description="Chips in the picture of all systems, the worst first.")

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        wrong = []
        for what, names in (("rows", [row.name for row in self.rows]), ("seeds", self.seeds)):
            twice = sorted({str(n) for n in names if list(names).count(n) > 1})
            wrong += [f"{what}: '{name}' is given twice" for name in twice]
        for row in self.rows:
            wrong += [
                f"rows: '{row.name}': " + unknown_name("data set", p.data, list(self.data))
                for p in row.published
                if p.data is not None and p.data not in self.data
            ]
        wrong += [
            unknown_name("score", name, list(SCORES)) for name in (self.metric, *self.columns) if name not in SCORES
        ]
        wrong += [f"train_chips: {n} is too few" for n in self.train_chips if n != "all" and n < 1]
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
        ``"bijie=folder"``: folder of chips of a data set.

    Raises
    ------
    ConfigError
        No such file, or all that is wrong in it.
    """
    settings = read_yaml(path)
    if isinstance(settings.get("data"), dict):
        settings["data"] = {str(name): given for name, given in settings["data"].items()}  # years are numbers in YAML
    for change in changes:
        recipes.apply_change(settings, change)
    for pair in chips:
        name, sign, folder = pair.partition("=")
        known = settings.get("data", {})
        if not sign or not folder:
            raise ConfigError(f"--chips {pair}: expected NAME=FOLDER, for instance {next(iter(known), 'bijie')}=chips")
        if name not in known:
            raise ConfigError(f"--chips {pair}: " + unknown_name("data set", name, list(known)))
        known[name]["chips"] = [folder]
    try:
        experiment = Experiment.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(explain(error, Experiment))) from None
    for row in experiment.rows:
        recipe_of(experiment, row)
    return experiment


def recipe_of(experiment: Experiment, row: Row) -> Recipe:
    """Recipe by which a row is trained: its own, within the budget, with the changes of experiment and row.

    Raises
    ------
    ConfigError
        No such recipe, a change that does not fit it, or a budget of fewer epochs than the recipe has phases.
    """
    try:
        plain = recipes.load(row.recipe)
        shared: list[str] = []
        if isinstance(plain, Segmenter):
            shared = [*(within(plain, experiment.budget) if experiment.budget else []), *experiment.changes]
        return recipes.labelling(recipes.load(row.recipe, [*shared, *row.changes]), row.recipe)
    except ConfigError as error:
        raise ConfigError(f"the row '{row.name}': {error}") from None


def within(recipe: Segmenter, budget: Budget) -> list[str]:
    """Give the changes that make a recipe do the work of a budget, no less and no more.

    Its phases keep their learning rates and what they freeze, and share the epochs in proportion to their own.
    Early stopping is off: it would leave work undone.
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
    changes = [f"size={budget.size}", f"steps_per_epoch={budget.steps // budget.epochs}", "patience=null"]
    for number, share in enumerate(shares):
        changes += [f"phases.{number}.{key}={value}" for key, value in
                    (("epochs", share), ("batch", budget.batch), ("accumulate", 1))]  # fmt: skip
    return changes


def facts(experiment: Experiment) -> dict[str, Any]:
    """Give the experiment as plain values."""
    return experiment.model_dump(mode="json")
