"""The random forest: our trees are scikit-learn's, a model file holds only tensors, indices are those of the books."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chips import BANDS, write_chips
from sklearn.ensemble import RandomForestClassifier
from test_svm import chips, data

from geo.errors import ConfigError, ModelError
from models import forest, indices, model_file, recipe
from models.pixel_sample import sample
from models.train import train

RECIPE = recipe.load("forest", ["sample=1200", "validation_sample=3000", "leaf=[2, 8]", "trees=20"])


def grown(seed=0, *, trees=15, depth=9, features=4):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((1500, features)).astype(np.float32)
    labels = (values[:, 0] + values[:, 1] ** 2 + rng.standard_normal(1500) > 0.5).astype(int)
    return RandomForestClassifier(trees, max_depth=depth, random_state=seed).fit(values, labels)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_votes_are_those_of_scikit_learn(seed, depth):
    oracle = grown(seed, trees=5, depth=depth)
    model = forest.from_trees([tree.tree_ for tree in oracle.estimators_], indices.Features(4, 0))
    seen = (2 * np.random.default_rng(seed + 1).standard_normal((3000, 4))).astype(np.float32)
    for way in (model.votes, model._votes_by_steps):
        assert np.abs(way(torch.from_numpy(seen)).numpy() - oracle.predict_proba(seen)[:, 1]).max() < 1e-6


def test_a_value_on_the_split_goes_the_same_way():
    oracle = grown()
    model = forest.from_trees([tree.tree_ for tree in oracle.estimators_], indices.Features(4, 0))
    splits = model.split[model.feature >= 0].numpy()
    near = np.concatenate([splits, np.nextafter(splits, np.float32(9)), np.nextafter(splits, np.float32(-9))])
    seen = np.random.default_rng(0).choice(near, (4000, 4)).astype(np.float32)
    assert np.abs(model.votes(torch.from_numpy(seen)).numpy() - oracle.predict_proba(seen)[:, 1]).max() < 1e-6


def test_pieces_and_threads_do_not_matter(monkeypatch):
    oracle = grown()
    model = forest.from_trees([tree.tree_ for tree in oracle.estimators_], indices.Features(4, 0))
    pixels = torch.randn(5000, 4)
    whole = model.votes(pixels)
    monkeypatch.setattr(forest, "_PART", 77)
    monkeypatch.setattr(forest, "_TOGETHER", 10)
    assert torch.equal(model.votes(pixels), whole)


def test_fit_learns_and_says_what_it_tried():
    made, history = forest.fit(RECIPE, data(chips(range(6)), chips(range(6, 9))), seed=0)
    assert [row["leaf"] for row in history] == [2, 8]
    assert max(row["f1"] for row in history) > 0.8
    assert made.features.above.shape == (4, 5)
    again, _ = forest.fit(RECIPE, data(chips(range(6)), chips(range(6, 9))), seed=0)
    pixels = torch.randn(500, 4)
    assert torch.equal(made.decision(pixels), again.decision(pixels))


def test_it_trains_by_the_same_command_into_a_file_of_tensors(tmp_path):
    folder = write_chips(tmp_path / "chips")
    found = train(RECIPE, [folder], tmp_path / "model.pt", threads=1)
    assert found["test"]["pooled"]["f1"] > 0.8
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in content["state"].values())
    loaded = model_file.load(tmp_path / "model.pt")
    assert loaded.reach == 0
    images = np.random.default_rng(0).random((2, 4, 30, 40), dtype=np.float32)
    images[0, :, :5] = np.nan
    probability = loaded.probability(images)
    assert probability.shape == (2, 30, 40)
    assert np.isfinite(probability).all()


def test_probabilities_are_calibrated():
    val = chips(range(6, 9))
    share = float((sample(val, 10**6, seed=0)[1]).mean())
    made, _ = forest.fit(RECIPE, data(chips(range(6)), val, share), seed=0)
    pixels, labels = sample(val, 3000, seed=5)
    probability = torch.sigmoid(made.slope * made.decision(torch.from_numpy(pixels)) + made.offset).numpy()
    assert probability.mean() == pytest.approx(labels.mean(), abs=0.02)


def test_indices_by_hand():
    mean, std = (0.1, 0.1, 0.1, 0.2), (0.05, 0.05, 0.05, 0.1)
    names = indices.resolve(["auto"], BANDS)
    assert names == ["ndvi", "ndwi", "bare", "excess-green", "green-red"]
    blue, green, red, nir = 0.05, 0.08, 0.06, 0.3
    pixel = (np.array([[blue, green, red, nir]]) - mean) / std
    found = indices.Features.of(names, BANDS, mean, std)(torch.from_numpy(pixel.astype(np.float32)))[0].numpy()
    expected = [(nir - red) / (nir + red), (green - nir) / (green + nir), (red - blue) / (red + blue)]
    expected += [(2 * green - red - blue) / (red + green + blue), (green - red) / (green + red)]
    assert found[:4] == pytest.approx(pixel[0], abs=1e-6)
    assert found[4:] == pytest.approx(expected, abs=1e-5)


def test_indices_of_nothing_are_a_number():
    names = indices.resolve(["ndvi"], BANDS)
    features = indices.Features.of(names, BANDS, (0.0,) * 4, (1.0,) * 4)
    seen = torch.tensor([[0.0, 0, 0, 0], [0, 0, -0.1, 0.1], [0, 0, -0.1, 0.100002]])
    assert features(seen)[:, 4].tolist() == [0, 0, 4]


@pytest.mark.parametrize(
    ("wanted", "bands", "message"),
    [
        (["ndwii"], BANDS, "unknown index 'ndwii'; did you mean 'ndwi'"),
        (["ndvi"], ("red", "green", "blue"), "the index 'ndvi' needs the band nir, the chips have red, green, blue"),
    ],
)
def test_unfit_indices_are_told(wanted, bands, message):
    with pytest.raises(ModelError, match=message):
        indices.resolve(wanted, bands)
    assert indices.resolve(["auto"], ("red", "green", "blue")) == ["bare", "excess-green", "green-red"]
    assert indices.resolve(["auto"], ("grey",)) == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("svm", "trees=5", "trees is no setting of 'svm'; leave it out"),
        ("forest", "landmarks=50", "landmarks is no setting of 'forest'; leave it out"),
        ("forest", "leaf=[0]", "a leaf holds at least 1 pixel"),
        ("forest", "tres=5", "tres: unknown key; did you mean 'trees'"),
    ],
)
def test_settings_of_the_other_baseline_are_told(name, change, message):
    with pytest.raises(ConfigError, match=message):
        recipe.load(name, [change])
