"""The SVM: our kernel sums are scikit-learn's, samples are fair, gamma and threshold come from validation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_chips import BANDS, chip
from sklearn.svm import SVC

from geo.errors import LabelError
from models import recipe, svm
from models.chips import IGNORE
from models.dataset import FittedChips, Memory
from models.pixel_sample import sample, sample_of_both

RECIPE = recipe.load("svm", ["sample=400", "validation_sample=3000", "gamma=[0.25, 1.0]"])


def chips(numbers, *, label=None):
    records = []
    for number in numbers:
        image, truth = chip(number, wedge=number % 2 == 0)
        records.append(
            SimpleNamespace(id=str(number), split="train", image=image, label=truth if label is None else label)
        )
    read = lambda r: (r.image, r.label, np.isfinite(r.image).all(axis=0))  # noqa: E731
    mean, std = [0.08, 0.1, 0.09, 0.28], [0.02, 0.03, 0.05, 0.05]
    return FittedChips(records, read, range(4), size=None, mean=mean, std=std, memory=Memory(0))


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_decision_is_that_of_scikit_learn(gamma):
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((1500, 4)).astype(np.float32)
    labels = (pixels[:, 0] + 0.5 * pixels[:, 1] ** 2 + rng.standard_normal(1500) > 0.5).astype(int)
    seen = (3 * rng.standard_normal((2000, 4))).astype(np.float32)
    oracle = SVC(C=1, gamma=gamma).fit(pixels.astype(np.float64), labels).decision_function(seen.astype(np.float64))
    ours = svm._solve(pixels, labels, 1.0, gamma).decision(torch.from_numpy(seen)).numpy()
    assert np.abs(ours - oracle).max() < 1e-4


def test_pieces_do_not_matter(monkeypatch):
    torch.manual_seed(0)
    import models

    model = models.build("svm", bands=3, vectors=50)
    pixels = torch.randn(1000, 3)
    whole = model.decision(pixels)
    monkeypatch.setattr(svm, "_CHUNK", 70)
    monkeypatch.setattr(svm, "_PART", 130)
    assert torch.allclose(model.decision(pixels), whole, atol=1e-4)


def test_threads_are_given_back():
    import models

    before = torch.get_num_threads()
    models.build("svm", bands=3)(torch.randn(1, 3, 20, 20))
    assert torch.get_num_threads() == before


def test_sample_is_of_known_pixels_and_seeded():
    some = chips(range(6))
    pixels, labels = sample(some, 300, seed=1)
    assert pixels.shape == (300, 4)
    assert set(labels) <= {0, 1}
    again = sample(some, 300, seed=1)[0]
    assert (pixels == again).all()
    assert not (pixels == sample(some, 300, seed=2)[0]).all()


def test_sample_of_a_class_is_of_that_class():
    some = chips(range(6))
    for value in (0, 1):
        pixels, labels = sample(some, 200, seed=0, label=value)
        assert (labels == value).all()
        assert len(pixels) == 200


def test_sample_takes_all_where_there_are_few():
    label = np.full((64, 64), IGNORE, dtype=np.uint8)
    label[10, 10:17] = 1
    pixels, labels = sample(chips([1], label=label), 100, seed=0)
    assert len(pixels) == 7
    assert (labels == 1).all()


def test_sample_is_even_over_chips():
    """Every pixel has the same chance, also where pieces had to be merged on the way."""
    records = []
    for number in range(40):
        image = np.full((1, 16, 16), float(number), dtype=np.float32)
        records.append(SimpleNamespace(id=str(number), split="train", image=image, label=np.zeros((16, 16), np.uint8)))
    read = lambda r: (r.image, r.label, np.ones((16, 16), bool))  # noqa: E731
    many = FittedChips(records, read, [0], size=None, mean=[0.0], std=[1.0], memory=Memory(0))
    drawn = np.bincount(sample(many, 400, seed=0)[0][:, 0].astype(int), minlength=40)
    assert drawn.sum() == 400
    assert drawn.max() < 25
    assert drawn[:20].sum() == pytest.approx(200, abs=50)


def rare(value):
    """Chips with four pixels of a class."""
    label = np.full((64, 64), 1 - value, dtype=np.uint8)
    label[30:32, 30:32] = value
    return chips([1, 3], label=label)


@pytest.mark.parametrize("value", [0, 1])
def test_a_class_that_chance_has_not_drawn_is_drawn_apart(value):
    some = rare(value)
    assert set(sample(some, 100, seed=0)[1]) == {1 - value}
    assert np.bincount(sample_of_both(some, 100, seed=0)[1]).tolist() == ([8, 50] if value == 0 else [50, 8])


def test_a_sample_that_has_both_classes_stays_as_it_is():
    some = chips(range(6))
    for found, expected in zip(sample_of_both(some, 300, seed=1), sample(some, 300, seed=1), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(("value", "words"), [(0, "with landslide"), (1, "without landslide"), (IGNORE, "labelled")])
def test_validation_pixels_of_one_class_are_refused(value, words):
    one = chips([1, 3], label=np.full((64, 64), value, dtype=np.uint8))
    with pytest.raises(LabelError, match=f"the 2 validation chips hold no .*{words}.*; label more ground"):
        sample_of_both(one, 100, seed=0)


def test_fit_weighs_a_rare_class_to_its_share():
    """Probabilities of a sample drawn in halves are those of the ground."""
    settings = RECIPE.model_copy(update={"validation_sample": 100, "gamma": [0.25]})
    share = 4 / 64**2
    model, _ = svm.fit(settings, data(chips(range(6)), rare(1), share), seed=0)
    pixels, _ = sample(rare(1), 10**6, seed=0)
    logits = model.slope * model.decision(torch.from_numpy(pixels)) + model.offset
    assert torch.sigmoid(logits).mean() == pytest.approx(share, abs=share)


def data(train, val, share=0.1):
    """What ``fit`` needs of a training's chips."""
    mean, std = (0.08, 0.1, 0.09, 0.28), (0.02, 0.03, 0.05, 0.05)
    return SimpleNamespace(train=train, val=val, landslide_share=share, bands=BANDS, mean=mean, std=std)


def test_fit_learns_and_says_what_it_tried():
    model, history = svm.fit(RECIPE, data(chips(range(6)), chips(range(6, 9))), seed=0)
    assert [row["gamma"] for row in history] == [0.25, 1.0]
    assert float(model.gamma) == max(history, key=lambda row: row["f1"])["gamma"]
    assert max(row["f1"] for row in history) > 0.8
    assert float(model.slope) > 0


def test_platt_makes_probabilities():
    val = chips(range(6, 9))
    share = float((sample(val, 10**6, seed=0)[1]).mean())
    model, _ = svm.fit(RECIPE, data(chips(range(6)), val, share), seed=0)
    pixels, labels = sample(val, 3000, seed=5)
    logits = model.slope * model.decision(torch.from_numpy(pixels)) + model.offset
    probability = torch.sigmoid(logits).numpy()
    assert probability.mean() == pytest.approx(labels.mean(), abs=0.02)


def test_landmarks_are_the_nystroem_machine_of_scikit_learn():
    from sklearn.kernel_approximation import Nystroem
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((3000, 4)).astype(np.float32)
    labels = (pixels[:, 0] + 0.5 * pixels[:, 1] ** 2 + 0.5 * rng.standard_normal(3000) > 0.5).astype(int)
    seen = rng.standard_normal((2000, 4)).astype(np.float32)
    settings = RECIPE.model_copy(update={"landmarks": 200})
    ours = svm._solve_by_landmarks(pixels, labels, settings, 0.25, None, seed=0)
    assert len(ours.vectors) == 200
    mapped = Nystroem(kernel="rbf", gamma=0.25, n_components=200, random_state=1).fit(pixels.astype(np.float64))
    oracle = LinearSVC(C=1, dual=False).fit(mapped.transform(pixels.astype(np.float64)), labels)
    expected = oracle.decision_function(mapped.transform(seen.astype(np.float64)))
    found = ours.decision(torch.from_numpy(seen)).numpy()
    assert ((found > 0) == (expected > 0)).mean() > 0.98
    assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_landmarks_cost_little():
    """F1 of the approximate machine on chips that neither saw, beside that of the exact one."""
    train, val = chips(range(6)), chips(range(6, 9))
    exact, _ = svm.fit(RECIPE, data(train, val), seed=0)
    settings = RECIPE.model_copy(update={"landmarks": 60, "sample": 2000})
    about, history = svm.fit(settings, data(train, val), seed=0)
    assert history[0]["vectors"] == 60
    pixels, labels = sample(chips(range(9, 15)), 10_000, seed=3)
    found = []
    for model in (exact, about):
        answer = (model.slope * model.decision(torch.from_numpy(pixels)) + model.offset).numpy() > 0
        found.append(2 * (answer & (labels == 1)).sum() / (answer.sum() + (labels == 1).sum()))
    assert found[0] > 0.9
    assert found[1] > found[0] - 0.03


def test_indices_are_features_too(tmp_path):
    from models import model_file

    settings = RECIPE.model_copy(update={"indices": ["ndvi"], "gamma": [0.25]})
    made, _ = svm.fit(settings, data(chips(range(6)), chips(range(6, 9))), seed=0)
    assert made.vectors.shape[1] == 5
    facts = {"bands": BANDS, "mean": [0.1] * 4, "std": [0.1] * 4, "chip_size": 64, "threshold": 0.5, "metrics": {}}
    model_file.save(tmp_path / "svm.pt", made, settings, **facts)
    pixels = torch.randn(1, 4, 9, 9)
    assert torch.equal(model_file.load(tmp_path / "svm.pt").module(pixels), made(pixels))
