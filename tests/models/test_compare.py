"""Budgets, cells and tables of an experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_chips import write_chips
from pydantic import ValidationError

from geo.errors import LabelError
from models import recipe as recipes
from models.chips import BandStatistics, open_chips, read_chip
from models.compare.cells import cells_of, content_of
from models.compare.experiment import Budget, Experiment, Published, load, recipe_of, within
from models.compare.tables import contradictions
from models.subset import train_on_fewer

EXPERIMENTS = sorted((Path(__file__).parents[2] / "configs" / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("name", ["pspnet-resnet50", "linknet-resnet50", "albunet-resnet34", "cracknet"])
@pytest.mark.parametrize("epochs", [2, 7, 20])
def test_a_budget_is_kept_to_the_step(name, epochs):
    budget = Budget(steps=20 * epochs, epochs=epochs, batch=8, size=256)
    made = recipes.load(name, within(recipes.load(name), budget))
    assert sum(phase.epochs for phase in made.phases) * made.steps_per_epoch == budget.steps
    assert {phase.batch * phase.accumulate for phase in made.phases} == {8}
    assert made.size == 256
    assert made.patience is None
    before = recipes.load(name)
    assert [(p.learning_rate, p.freeze) for p in made.phases] == [(p.learning_rate, p.freeze) for p in before.phases]


def test_phases_share_a_budget_as_the_paper_dealt_them_out():
    made = recipes.load("pspnet-resnet50", within(recipes.load("pspnet-resnet50"), Budget(steps=300, epochs=15)))
    assert [phase.epochs for phase in made.phases] == [5, 10]  # 50 and 100


def small(chips, **changes):
    rows = [{"name": "SVM", "recipe": "svm"}]
    return Experiment.model_validate({"title": "x", "data": {"a": {"chips": [chips]}}, "rows": rows} | changes)


def test_seeds_are_no_less_than_0():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        small("chips", seeds=[0, -1])


def test_cells_are_known_by_what_they_are_made_of(tmp_path):
    chips = write_chips(tmp_path / "chips")

    def keys(**changes):
        return [cell.folder.name for cell in cells_of(small(chips, **changes), tmp_path)]

    (key,) = keys()
    assert keys() == [key]
    assert keys(rows=[{"name": "Other heading", "recipe": "svm", "mark": "words"}]) == [key]
    assert keys(rows=[{"name": "SVM", "recipe": "svm", "changes": ["c=2"]}]) != [key]
    assert keys(seeds=[1]) != [key]
    assert keys(train_chips=[3]) != [key]
    moved = write_chips(tmp_path / "moved")
    assert [c.folder.name for c in cells_of(small(moved), tmp_path)] == [key]
    label = next((chips / "labels").glob("*.tif"))
    label.write_bytes((chips / "labels" / "c005.tif").read_bytes())
    assert keys() != [key]
    assert content_of(open_chips([chips]).records) != content_of(open_chips([moved]).records)


def test_fewer_chips_are_nested_and_bring_their_own_statistics(tmp_path):
    def bare(number, image, label):
        return image, np.where(label == 1, 0, label).astype(np.uint8) if number % 2 else label

    chips = open_chips([write_chips(tmp_path / "chips", ["train"] * 12 + ["val"] * 2, change=bare)])
    small, large = (train_on_fewer(chips, number, seed=3) for number in (3, 7))
    names = lambda some: {record.id for record in some.split("train")}  # noqa: E731
    assert names(small) < names(large)
    assert (len(names(small)), len(names(large))) == (3, 7)
    assert small.split("val") == chips.split("val")
    assert names(small) != names(train_on_fewer(chips, 3, seed=4))
    pixels = [read_chip(record)[0][:, read_chip(record)[2]] for record in small.split("train")]
    assert small.statistics.mean == pytest.approx(np.concatenate(pixels, axis=1).mean(axis=1), rel=1e-5)
    assert small.landslide["train"] + small.background["train"] == sum(p.shape[1] for p in pixels)
    for seed in range(5):  # one chip alone shows a landslide, whatever the seed
        assert train_on_fewer(chips, 1, seed=seed).landslide["train"] > 0
    whole = train_on_fewer(chips, 12, seed=0)
    assert isinstance(whole.statistics, BandStatistics)
    assert whole.statistics.mean == pytest.approx(chips.statistics.mean, rel=1e-5)
    with pytest.raises(LabelError, match="13 training chips were asked for, there are 12"):
        train_on_fewer(chips, 13, seed=0)


def test_contradictions_in_print():
    figures = {"precision": 81.96, "recall": 85.33, "f1": 83.61}
    assert contradictions(Published(measured_on="x", scores=figures)) == []
    (wrong,) = contradictions(Published(measured_on="x", scores={"precision": 73.97, "recall": 86.05, "f1": 79.74}))
    assert wrong == "precision and recall give F1 0.7955, not 0.7974"
    assert contradictions(Published(measured_on="x", scores={"miou": 91.18})) == []


@pytest.mark.parametrize(
    ("scores", "wrong"),
    [
        (
            {"precision": 50.1, "recall": 60.1, "f1": 54.6},
            [],
        ),  # 54.65 of these, 54.6 of smaller ones
        ({"precision": 81.2, "recall": 83.9, "f1": 82.5}, []),
        ({"precision": 50.1, "recall": 60.1, "f1": 54.8}, ["precision and recall give F1 0.5465, not 0.5480"]),
        ({"precision": 50, "recall": 60, "f1": 55}, []),
        ({"precision": 50.12, "recall": 60.12, "f1": 54.7}, []),
        ({"precision": 50.12, "recall": 60.12, "f1": 54.61}, ["precision and recall give F1 0.5467, not 0.5461"]),
        ({"precision": 0, "recall": 0, "f1": 0, "iou": 0}, []),
        ({"precision": 88.14, "recall": 95.47, "iou": 84.6}, []),
        ({"precision": 88.14, "recall": 95.47, "iou": 84.8}, ["precision and recall give IoU 0.8460, not 0.8480"]),
        ({"iou": 84.6, "background_iou": 97.76, "miou": 91.18}, []),
        (
            {"iou": 81.15, "background_iou": 82.97, "miou": 89.11},
            ["the IoU of both classes gives mIoU 0.8206, not 0.8911"],
        ),
    ],
)
def test_figures_contradict_only_beyond_the_rounding_of_each(scores, wrong):
    assert contradictions(Published(measured_on="x", scores=scores)) == wrong


def test_figures_in_print_that_contradict_themselves_are_marked():
    """Of the shipped experiments: nothing of work E, of work B the class figures of one network."""
    names = ("six-networks-bijie", "classifiers-landslides", "classifiers-landslides-small")
    wrong = {
        row.name
        for path in EXPERIMENTS
        if path.stem in names
        for row in load(path).rows
        for published in row.published
        if contradictions(published)
    }
    assert wrong == {"PSPNet-MobileNetV2"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_that_come_with_geocrack_are_sound(path):
    experiment = load(path)
    for row in experiment.rows:
        made = recipe_of(experiment, row)
        if experiment.budget and made.kind in ("segmenter", "classifier"):
            steps = made.steps_per_epoch or 0
            assert sum(phase.epochs for phase in made.phases) * steps == experiment.budget.steps


def test_there_are_experiments():
    assert len(EXPERIMENTS) >= 5
