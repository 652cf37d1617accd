"""Recipes: all that come with geocrack are whole, mistakes are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from geo.errors import ConfigError
from models import recipe
from pipeline.paths import recipe_file

BASE = {"network": {"name": "linknet"}, "phases": [{"epochs": 1, "learning_rate": 0.1}]}


@pytest.mark.parametrize("name", recipe.known())
def test_recipes_that_come_along_are_whole(name):
    loaded = recipe.load(name)
    assert loaded.description
    again = recipe.parse(loaded.model_dump(mode="json"))
    assert again == loaded  # what a model file keeps says all


@pytest.mark.parametrize(
    ("name", "network", "encoder", "weights"),
    [
        ("linknet-resnet34", "linknet", "resnet34", "imagenet"),
        ("linknet-resnet50", "linknet", "resnet50", "imagenet"),
        ("linknet-resnet101", "linknet", "resnet101", "imagenet"),
        ("linknet-resnet50-random", "linknet", "resnet50", "none"),
        ("albunet-resnet34", "albunet", "resnet34", "imagenet"),
        ("resunet", "resunet", None, "none"),
    ],
)
def test_paper_a_is_as_printed(name, network, encoder, weights):
    loaded = recipe.load(name)
    assert (loaded.network.name, loaded.network.settings.get("encoder"), loaded.weights) == (network, encoder, weights)
    assert not {"half_skip", "narrowest", "pool", "normalised_skips", "attention"} & set(loaded.network.settings)
    (phase,) = loaded.phases
    assert (loaded.optimizer.name, phase.learning_rate, phase.batch, phase.freeze) == ("sgd", 0.01, 8, "nothing")
    assert (loaded.loss.name, loaded.loss.dice, loaded.loss.reduction) == ("bce+dice", "image", "sum")
    assert (loaded.loss.background_weight, loaded.loss.landslide_weight) == (1, 1)
    assert (loaded.size, loaded.schedule, loaded.bands) == (256, "constant", None)
    # rotation, flips, +-10 % stretch, colour jitter, Gaussian noise; as many variants of a chip as the paper made
    changes = loaded.augmentation
    assert (changes.stretch, changes.flips, changes.crop, changes.zoom) == (0.1, ["horizontal", "vertical"], 1, 0)
    assert min(changes.rotation_deg, changes.brightness, changes.contrast, changes.colour, changes.noise) > 0
    assert phase.epochs == 25_776 // 179


@pytest.mark.parametrize(
    ("name", "network", "encoder"),
    [
        ("unet-vgg16", "unet", "vgg16"),
        ("unet-resnet50", "unet", "resnet50"),
        ("deeplabv3plus-xception", "deeplabv3plus", "tu-xception65"),
        ("deeplabv3plus-mobilenetv2", "deeplabv3plus", "mobilenet_v2"),
        ("pspnet-mobilenetv2", "pspnet", "mobilenet_v2"),
        ("pspnet-resnet50", "pspnet", "resnet50"),
    ],
)
def test_paper_b_is_as_printed(name, network, encoder):
    loaded = recipe.load(name)
    settings = loaded.network.settings
    assert (loaded.network.name, settings["encoder"], loaded.size) == (network, encoder, 473)
    assert settings.get("output_stride") == (None if network == "unet" else 8)
    assert settings.get("depth") == (5 if network == "pspnet" else None)
    assert loaded.patience is not None
    assert (loaded.augmentation.rotation_probability, loaded.augmentation.flips) == (0.5, ["horizontal"])
    assert loaded.augmentation.flip_probability == 1
    assert [(p.epochs, p.learning_rate, p.batch, p.freeze) for p in loaded.phases] == [
        (50, 1e-4, 8, "encoder"),
        (100, 1e-5, 4, "nothing"),
    ]
    assert (loaded.loss.name, loaded.loss.background_weight, loaded.loss.landslide_weight) == ("focal+dice", 1, 2)
    assert (loaded.augmentation.rotation_deg, loaded.augmentation.crop) == ([20, 90, -90], 0.7)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cracknet", {"encoder": "resnet101", "upsampling": "bilinear"}),
        ("fcn-8s", {"encoder": "vgg16", "finest": 8}),
        ("fcn-32s", {"encoder": "vgg16", "finest": 32}),
    ],
)
def test_paper_c_is_as_printed(name, settings):
    loaded = recipe.load(name)
    assert loaded.network.settings == settings
    (phase,) = loaded.phases
    assert (phase.epochs, phase.learning_rate, phase.batch, phase.freeze) == (100, 0.001, 4, "nothing")
    assert (loaded.optimizer.name, loaded.optimizer.momentum, loaded.loss.name) == ("sgd", 0.9, "cross-entropy")
    assert (loaded.size, loaded.bands, loaded.schedule) == (448, ["grey"], "constant")
    changes = loaded.augmentation  # rotation, stretch, zoom and no others
    assert min(changes.rotation_deg, changes.stretch, changes.zoom) > 0
    assert (changes.flips, changes.crop, changes.brightness, changes.colour, changes.noise) == ([], 1, 0, 0, 0)


def test_svm_is_as_printed():
    loaded = recipe.load("svm")
    assert (loaded.kind, loaded.c) == ("pixel", 1.0)


def test_unknown_recipe_shows_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown recipe 'linknet-resnet5'; did you mean 'linknet-resnet50'"):
        recipe.load("linknet-resnet5")


def test_a_recipe_that_comes_along_is_taken_before_a_file_of_its_name(tmp_path, monkeypatch):
    """The workflow and the command line mean the same by a name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "svm").write_text("something else")
    assert recipe.place("svm") == recipe.folder() / "svm.yaml" == Path(recipe_file("svm"))
    assert recipe.place("./svm") == Path("./svm") == Path(recipe_file("./svm"))


def test_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"mine\.yaml does not exist; expected a YAML file"):
        recipe.load("mine.yaml")


def test_all_mistakes_are_told_at_once():
    wrong = BASE | {"los": {}, "network": {"name": "linknet", "encoderr": "x"}, "optimizer": {"name": "sdg"}, "size": 8}
    with pytest.raises(ConfigError) as caught:
        recipe.parse(wrong, source="mine.yaml")
    message = str(caught.value)
    for part in (
        "mine.yaml: ",
        "los: unknown key; did you mean 'loss'?",
        "encoderr: unknown key; did you mean 'encoder'?",
        "optimizer.name: input should be 'sgd', 'adam' or 'adamw' (found 'sdg')",
        "size: input should be greater than or equal to 32 (found 8)",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "imagnet"}, "weights: expected imagenet, wheel:<name>, none, or a file and its sha256"),
        ({"weights": {"file": "a.pth", "sha256": "12"}}, "sha256"),
        ({"kind": "segmentor"}, "unknown kind 'segmentor'; did you mean 'segmenter'"),
        ({"network": {"name": "svm"}}, "'svm' is trained by a recipe of kind pixel"),
        ({"statistics": "pretrained", "weights": "none"}, "statistics: pretrained needs weights"),
        ({"phases": []}, "phases"),
        ({"kind": ["segmenter"]}, r"unknown kind '\['segmenter'\]'"),
        ({"bands": ["red", "Red"]}, "bands: 'red' is given twice; name each band once"),
        (
            {"phases": [{"epochs": 1, "learning_rate": 1e38}]},
            "learning_rate: input .* less than or equal to 1000",
        ),
        ({"phases": [{"epochs": 1, "learning_rate": float("nan")}]}, "learning_rate: input should be a finite number"),
        ({"optimizer": {"weight_decay": float("inf")}}, "weight_decay: input should be a finite number"),
        ({"augmentation": {"rotation_deg": []}}, "rotation_deg: the list of angles is empty; give some, or 0"),
        ({"augmentation": {"rotation_deg": -20}}, r"rotation_deg: expected the largest angle .* \(found -20\)$"),
        ({"augmentation": {"rotation_deg": [20, -1e30]}}, "rotation_deg: expected angles from -360 to 360$"),
        ({"phases": [{"epochs": 1, "learning_rate": 1, "freeze": -1}]}, r"freeze: expected nothing.* \(found -1\)$"),
        ({"phases": [{"epochs": 1, "learning_rate": 1, "freeze": True}]}, "freeze: expected nothing, encoder, or how"),
        ({"kind": "pixel", "network": {"name": "svm"}, "gamma": [-1]}, r"gamma\.0: input should be greater than 0"),
        ({"kind": "pixel", "network": {"name": "svm"}, "gamma": [1e30]}, r"gamma\.0: input .* equal to 1000"),
        ({"augmentation": {"crop": 0.001}}, "crop: input should be greater than or equal to 0.1"),
        ({"augmentation": {"brightness": 1e308}}, "brightness: input should be less than or equal to 100"),
        ({"kind": "pixel", "network": {"name": "svm"}, "bands": ["a", "a"]}, "'a' is given twice"),
    ],
)
def test_mistakes_have_a_sentence(change, message):
    with pytest.raises(ConfigError, match=message):
        recipe.parse(BASE | change)


def test_a_classifier_needs_bands_that_differ():
    with pytest.raises(ConfigError, match="bands: 'red' is given twice"):
        recipe.load("classify-lite0", ["bands=[red, green, red]"])


def test_values_can_be_changed_by_key():
    loaded = recipe.load("linknet-lite0", ["phases.0.epochs=3", "weights=none", "bands=[red, green]", "patience=2"])
    assert (loaded.phases[0].epochs, loaded.weights, loaded.bands, loaded.patience) == (3, "none", ["red", "green"], 2)
    assert loaded.phases[0].learning_rate == recipe.load("linknet-lite0").phases[0].learning_rate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("phases", "expected key=value"),
        ("phases.4.epochs=2", "'4' is no place in a list of 1"),
        ("size.x=2", "'size' holds a value"),
        ("loss.nam=x", "nam: unknown key; did you mean 'name'"),
        ("bands=[red", "not valid YAML"),
        ("size=2023-13-45", "not valid YAML"),  # read as a date, which there is not
        ("size=" + "[" * 5000, "not valid YAML"),
    ],
)
def test_a_wrong_change_is_told(change, message):
    with pytest.raises(ConfigError, match=message):
        recipe.load("linknet-lite0", [change])
