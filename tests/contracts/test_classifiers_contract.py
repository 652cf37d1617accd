"""What every registered classifier keeps, tested by being registered: smallest networks, random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models import classification, recipe
from models.classification import classifier_file
from models.classification.classifier import Classifier
from models.classification.classifier_file import LoadedClassifier
from models.classification.reading import Scale
from models.classification.tags import TagTable
from models.explain import class_maps
from models.threads import limited_threads

SETTINGS: dict[str, dict] = {
    "timm": {"encoder": "test_efficientnet"},
    "multimodal": {"encoder": "test_efficientnet", "hidden": 4},
}
SIZES = {"lenet5": 32}
TAGS = {"multimodal": 3}


@pytest.fixture(autouse=True)
def one_thread():
    with limited_threads(1):
        yield


each = pytest.mark.parametrize("name", classification.names())


def made(name: str, bands: int = 3, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    size, tags = SIZES.get(name, 64), TAGS.get(name, 0)
    return classification.build(name, bands=bands, classes=2, size=size, tags=tags, **SETTINGS.get(name, {}))


def given(name: str, count: int = 2, bands: int = 3):
    size = SIZES.get(name, 64)
    tags = torch.randn(count, TAGS[name]) if name in TAGS else None
    return torch.randn(count, bands, size, size), tags


@each
@pytest.mark.parametrize("bands", [1, 4])
def test_one_logit_a_class(name, bands):
    logits = made(name, bands).eval()(*given(name, bands=bands))
    assert logits.shape == (2, 2)
    assert torch.isfinite(logits).all()


@each
def test_same_seed_same_weights(name):
    one, two = made(name).state_dict(), made(name).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@each
def test_images_of_a_batch_do_not_mix_and_every_weight_learns(name):
    network = made(name).eval()
    images, tags = given(name, 3)
    with torch.inference_mode():
        together = network(images, tags)
        alone = [network(images[i : i + 1], None if tags is None else tags[i : i + 1]) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    network.train()(images, tags).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@each
def test_stages_and_layers_of_the_encoder_can_be_frozen(name):
    network = made(name)
    assert len(network.encoder_layers()) >= len(network.encoder_stages()) >= 2


def saved(name: str, network: Classifier, path: Path, mean=(0.0,) * 3, std=(1.0,) * 3) -> LoadedClassifier:
    """Write a classifier and read it again."""
    settings = {"kind": "classifier", "network": {"name": name, **SETTINGS.get(name, {})}, "weights": "none"}
    settings |= {"size": SIZES.get(name, 64), "phases": [{"epochs": 1, "learning_rate": 0.1}]}
    tags = None
    if name in TAGS:
        settings["tags"] = {"numbers": ["km"], "categories": ["setting"]}
        tags = TagTable({"km": (1.0, 2.0)}, {"setting": ("cut",)})
    made_by = recipe.parse(settings)
    classifier_file.save(
        path, network, made_by, classes=["crack", "sound"], positive="crack",
        scale=Scale(("red", "green", "blue"), mean, std, made_by.size), window=64, tags=tags,
        validation=np.zeros((2, 251), int), seen={"train": [], "val": []}, metrics={}, history=[], trained_on={},
    )  # fmt: skip
    return classifier_file.load(path)


@each
def test_file_brings_it_back_and_it_can_be_explained(name, tmp_path):
    network = made(name).eval()
    loaded = saved(name, network, tmp_path / "m.pt")
    images, more = given(name)
    plain = images.permute(0, 2, 3, 1).numpy()
    numbers = None if more is None else more.numpy()
    expected = torch.softmax(network(images, more), dim=1).detach().numpy()
    assert np.allclose(loaded.probability(plain, numbers), expected, atol=1e-5)
    found = class_maps(loaded, plain, [0, 1], numbers)
    assert (found.ndim, len(found)) == (3, len(plain))
    assert (found >= 0).all()


@each
def test_onnx_says_the_same(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    from models.onnx import export_classifier

    mean, std = (0.2, 0.3, 0.4), (0.1, 0.2, 0.3)
    loaded = saved(name, made(name).eval(), tmp_path / "m.pt", mean, std)
    export_classifier(loaded, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    images, tags = given(name, 3)
    numbers = None if tags is None else tags.numpy()
    physical = images.numpy() * np.array(std)[:, None, None] + np.array(mean)[:, None, None]
    physical[0, :, :5] = np.nan
    images[0, :, :5] = 0  # what is not valid is the mean
    fed = {"image": physical.astype(np.float32)} | ({} if numbers is None else {"tags": numbers})
    (found,) = session.run(["probability"], fed)
    assert np.allclose(found, loaded.probability(images.permute(0, 2, 3, 1).numpy(), numbers), atol=1e-4)
    told = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert (told["geocrack_classes"], told["geocrack_positive"]) == ("crack,sound", "crack")
    assert told["geocrack_size"] == str(loaded.scale.size)
    assert ("geocrack_tags" in told) == (name in TAGS)
