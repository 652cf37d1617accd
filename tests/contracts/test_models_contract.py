"""What every registered model keeps, tested by being registered: smallest encoder, 64 x 64, random weights."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import models
from models import model_file, recipe
from models.labeller import Encoding, Labeller
from models.threads import limited_threads


def smallest(name: str) -> dict[str, object]:
    """Settings that make an architecture small."""
    wanted = {"encoder": "tu-test_efficientnet", "channels": 32, "vectors": 20}
    known = inspect.signature(models.architecture(name)).parameters
    return {key: value for key, value in wanted.items() if key in known}


def made(name: str, bands: int, seed: int = 0) -> Labeller:
    torch.manual_seed(seed)
    return models.build(name, bands=bands, **smallest(name))


def recipe_of(name: str) -> recipe.Recipe:
    settings = {"network": {"name": name, **smallest(name)}}
    if not issubclass(models.architecture(name), Encoding):
        return recipe.parse({"kind": "pixel", **settings})
    return recipe.parse({**settings, "weights": "none", "size": 64, "phases": [{"epochs": 1, "learning_rate": 0.1}]})


def save(path, network, made_by, bands) -> None:
    plain = {"mean": [0.0] * len(bands), "std": [1.0] * len(bands)}
    model_file.save(path, network, made_by, bands=bands, **plain, chip_size=64, threshold=0.5, metrics={})


@pytest.fixture(autouse=True)
def one_thread():
    """So small networks only wait for a second thread."""
    with limited_threads(1):
        yield


each = pytest.mark.parametrize("name", models.names())


@each
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_logits_have_the_shape_of_the_image(name, bands):
    network = made(name, bands).eval()
    assert isinstance(network, Labeller)
    with torch.inference_mode():
        logits = network(torch.randn(2, bands, 64, 64 + max(32, network.stride)))
    assert logits.shape == (2, 1, 64, 64 + max(32, network.stride))
    assert torch.isfinite(logits).all()


@each
@pytest.mark.parametrize("size", [(50, 50), (96, 100), (33, 70)])
def test_a_size_that_is_no_multiple_of_the_stride_learns_and_answers(name, size):
    network = made(name, 3)
    logits = network(torch.randn(2, 3, *size))
    assert logits.shape == (2, 1, *size)
    if logits.requires_grad:
        logits.square().mean().backward()
    network.eval()
    image = torch.randn(1, 3, 128, 192)
    with torch.inference_mode():
        if issubclass(models.architecture(name), Encoding) and type(network).forward is Encoding.forward:
            assert torch.equal(network(image), network.logits(image))  # what needs no padding gets none


@each
def test_stride_and_reach_are_stated(name):
    network = made(name, 3)
    assert network.stride >= 1
    assert network.reach >= 0
    assert network.reach % network.stride == 0


@each
def test_same_seed_same_weights(name):
    one, two, other = made(name, 4), made(name, 4), made(name, 4, seed=1)
    same = [torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)]
    assert all(same)
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@each
def test_same_input_same_output(name):
    network = made(name, 4).eval()
    image = torch.randn(1, 4, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(image), network(image))


@each
def test_images_of_a_batch_do_not_mix(name):
    network = made(name, 3).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        together, alone = network(images), torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-4)


@each
def test_every_weight_learns(name):
    network = made(name, 4).train()
    if not list(network.parameters()):
        return  # its weights come from a solver
    network(torch.randn(4, 4, 64, 64)).square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@each
def test_recipe_and_file_bring_it_back(name, tmp_path):
    network = made(name, 3).eval()
    facts = {
        "bands": ["red", "green", "blue"],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "chip_size": 64,
        "threshold": 0.5,
        "metrics": {},
    }
    model_file.save(tmp_path / "model.pt", network, recipe_of(name), **facts)
    loaded = model_file.load(tmp_path / "model.pt")
    assert type(loaded.module) is models.architecture(name)
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(image)))[:, 0].numpy()
    assert np.allclose(loaded.probability(image), expected, atol=1e-5)


@each
def test_odd_sizes_are_padded_inside(name, tmp_path):
    save(tmp_path / "model.pt", made(name, 1), recipe_of(name), ["pan"])
    found = model_file.load(tmp_path / "model.pt").probability(np.full((1, 1, 33, 70), np.nan, dtype=np.float32))
    assert found.shape == (1, 33, 70)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", [n for n in models.names() if issubclass(models.architecture(n), Encoding)])
def test_onnx_says_the_same(name, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    from models.onnx import export

    save(tmp_path / "model.pt", made(name, 3), recipe_of(name), ["red", "green", "blue"])
    loaded = model_file.load(tmp_path / "model.pt")
    export(loaded, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64)).astype(np.float32)
    images[0, :, :9] = np.nan
    (found,) = session.run(None, {"image": images})
    assert found.shape == (3, 64, 64)
    assert np.allclose(found, loaded.probability(images), atol=1e-4)
