"""The model file: nothing is lost on the way, nothing in it is run, and what is wrong with it is said."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

import models
from geo.errors import ConfigError, ModelError, OutputExistsError
from models import model_file, recipe

NETWORK = {"name": "linknet", "encoder": "tu-test_efficientnet"}
RECIPE = recipe.parse(
    {"network": NETWORK, "weights": "none", "size": 64, "phases": [{"epochs": 1, "learning_rate": 1}]}
)
FACTS = {
    "bands": ["green", "red", "nir"],
    "mean": [0.1, 0.2, 0.3],
    "std": [0.05, 0.05, 0.1],
    "chip_size": 64,
    "threshold": 0.422,
    "metrics": {"validation": {"pooled": {"f1": 0.9, "iou": None}}},
    "history": [{"epoch": 1, "loss": 0.5}],
    "trained_on": {"chips": ["chips"], "seed": 3},
}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = models.build("linknet", bands=3, encoder="tu-test_efficientnet")
    model_file.save(tmp_path / "model.pt", network, RECIPE, **FACTS)
    return tmp_path / "model.pt", network.eval()


def test_all_comes_back(saved):
    path, network = saved
    loaded = model_file.load(path)
    assert (loaded.kind, loaded.bands, loaded.chip_size, loaded.threshold) == (
        "segmenter",
        ("green", "red", "nir"),
        64,
        0.422,
    )
    assert (loaded.metrics, loaded.history, loaded.trained_on) == (
        FACTS["metrics"],
        FACTS["history"],
        FACTS["trained_on"],
    )
    assert loaded.recipe == RECIPE.model_dump(mode="json")
    assert (loaded.stride, loaded.reach % loaded.stride) == (32, 0)
    for name, value in network.state_dict().items():
        assert torch.equal(value, loaded.module.state_dict()[name])


def test_file_holds_what_the_format_says(saved):
    content = torch.load(saved[0], weights_only=True)
    assert (content["format"], content["version"]) == ("geocrack-model", 1)
    assert set(content) >= {"kind", "recipe", "bands", "mean", "std", "chip_size", "threshold", "state", "metrics"}


def test_probability_normalises_pads_and_fills(saved):
    path, network = saved
    loaded = model_file.load(path)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.5, (2, 3, 50, 70)).astype(np.float32)
    images[0, :, :10] = np.nan
    found = loaded.probability(images)
    assert (found.shape, found.dtype) == ((2, 50, 70), np.float32)
    assert np.isfinite(found).all()
    by_hand = (images - np.array(FACTS["mean"])[:, None, None]) / np.array(FACTS["std"])[:, None, None]
    padded = np.zeros((2, 3, 64, 96), dtype=np.float32)
    padded[:, :, :50, :70] = np.nan_to_num(by_hand)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(padded)))[:, 0, :50, :70].numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_probability_refuses_other_shapes(saved):
    loaded = model_file.load(saved[0])
    with pytest.raises(
        ModelError, match=r"takes \(n, 3, height, width\) .* green, red, nir, got the shape \(1, 4, 8, 8\)"
    ):
        loaded.probability(np.zeros((1, 4, 8, 8), dtype=np.float32))


def test_bands_are_found_by_name(saved):
    loaded = model_file.load(saved[0])
    assert loaded.check_bands(["Blue", "Green", "Red", "NIR"]) == [1, 2, 3]
    with pytest.raises(ModelError, match=r"trained on the bands green, red, nir, a.tif has red, green, blue"):
        loaded.check_bands(["red", "green", "blue"], source="a.tif")


def test_pixel_models_know_their_size(tmp_path):
    torch.manual_seed(0)
    network = models.build("svm", bands=3, vectors=37)
    model_file.save(tmp_path / "svm.pt", network, recipe.load("svm"), **FACTS)
    loaded = model_file.load(tmp_path / "svm.pt")
    assert (loaded.kind, loaded.reach, loaded.stride) == ("pixel", 0, 1)
    images = np.random.default_rng(0).uniform(0, 0.5, (1, 3, 7, 9)).astype(np.float32)
    alone = loaded.probability(images[:, :, 2:3, 4:5])
    assert loaded.probability(images)[0, 2, 4] == pytest.approx(alone[0, 0, 0], abs=1e-6)


def test_existing_model_stays(saved):
    path, network = saved
    with pytest.raises(OutputExistsError):
        model_file.save(path, network, RECIPE, **FACTS)


def spoil(path, **change):
    content = torch.load(path, weights_only=True)
    content.update(change)
    torch.save({k: v for k, v in content.items() if v is not None}, path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


def test_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="is a Python pickle, which is refused"):
        model_file.load(tmp_path / "model.pt")
    torch.save(Evil(), tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"\(a pickle\), which is refused"):
        model_file.load(tmp_path / "model.pt")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; expected a model written by 'geocrack train'"),
        (b"", r"is empty \(0 bytes\)"),
        (b"II*\0 tiff", "is a TIFF"),
        (b"\x89HDF\r\n", "is an HDF5 file"),
        (b"PK\x03\x04 broken", "is a truncated archive"),
        (b"hello", "is no model file, or a damaged one"),
    ],
)
def test_other_files_are_named(tmp_path, content, message):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        model_file.load(path)


def test_truncated_model_is_refused(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="is a truncated archive"):
        model_file.load(path)


def flip(path, part):
    """Turn one bit of a part of an archive, in the middle of its content."""
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith(part))
    content = bytearray(path.read_bytes())
    names = int.from_bytes(content[info.header_offset + 26 : info.header_offset + 28], "little")
    extra = int.from_bytes(content[info.header_offset + 28 : info.header_offset + 30], "little")
    content[info.header_offset + 30 + names + extra + info.file_size // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("part", ["data.pkl", "data/0", "byteorder"])
def test_one_wrong_bit_is_told(saved, part):
    path, _ = saved
    flip(path, part)
    with pytest.raises(ModelError, match=rf"is damaged \(by its checksum its part 'model/{part}' is not what was"):
        model_file.load(path)


def test_a_wrong_bit_in_the_directory_is_told(saved):
    path, _ = saved
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02")
    path.write_bytes(content[:at] + b"PK\x01\x03" + content[at + 4 :])
    with pytest.raises(ModelError, match=r"is damaged \(Bad magic number"):
        model_file.load(path)


def test_a_file_without_checksums_is_read(saved):
    path, network = saved
    with zipfile.ZipFile(path) as archive:
        assert all(part.CRC for part in archive.infolist())  # torch writes them unless it is told not to
    content = torch.load(path, weights_only=True)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, path)
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(path) as archive:
        assert not any(part.CRC for part in archive.infolist())
        assert archive.testzip()  # zipfile alone would take it for damaged
    state = model_file.load(path).module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "says its format is 'other'"),
        ({"format": None}, "is a file of torch with other content"),
        ({"version": 9}, "is a model of version 9, this geocrack reads version 1"),
        ({"threshold": None, "std": None}, "lacks std, threshold"),
        ({"mean": [0.1, 0.2]}, "3 bands have 2 means and 3 standard deviations"),
        ({"bands": [1, 2, 3]}, r"holds what no training writes \(bands.0: input should be a valid string \(found 1\)"),
        ({"bands": ["red", "Red", "nir"]}, "bands: 'red' is given twice"),
        ({"bands": [], "mean": [], "std": []}, "bands: list should have at least 1 item"),
        ({"mean": ["a", "b", "c"]}, r"mean.0: input should be a valid number \(found 'a'\)"),
        ({"mean": [0.1, float("nan"), 0.3]}, "mean.1: input should be a finite number"),
        ({"std": [0.1, 0.0, 0.1]}, r"std.1: input should be greater than 0 \(found 0.0\)"),
        ({"std": [0.1, -1.0, 0.1]}, "std.1: input should be greater than 0"),
        ({"chip_size": 0}, r"chip_size: input should be greater than or equal to 1 \(found 0\)"),
        ({"chip_size": True}, "chip_size: input should be a valid integer"),
        ({"threshold": 5.0}, "threshold: input should be less than or equal to 1"),
        ({"threshold": float("nan")}, "threshold: input should be a finite number"),
        ({"trained_on": {"pictures": 5}}, "trained_on.pictures: input should be a valid list"),
        ({"trained_on": [1]}, "trained_on: input should be a valid dictionary"),
        ({"history": [1]}, "history.0: input should be a valid dictionary"),
        ({"state": {"a": 1}}, "state.a: input should be an instance of Tensor"),
        ({"kind": "pixel"}, "says it is of kind 'pixel', its recipe is of kind 'segmenter'"),
        ({"kind": ["x"]}, "kind: input should be 'segmenter' or 'pixel'"),
        ({"mean": ["a"] * 40, "bands": ["b"] * 40}, "mean.4: .*; and 35 more"),
        ({"state": {"a": torch.zeros(1)}}, "holds weights of another architecture than its recipe's 'linknet'"),
    ],
)
def test_unfit_content_is_told(saved, change, message):
    path, _ = saved
    spoil(path, **change)
    with pytest.raises(ModelError, match=message):
        model_file.load(path)


@pytest.mark.parametrize("kind", [["x"], 5, None])
def test_a_recipe_of_an_odd_kind_is_told(saved, kind):
    path, _ = saved
    spoil(path, recipe={**RECIPE.model_dump(mode="json"), "kind": kind})
    with pytest.raises(ConfigError, match=r"model\.pt: unknown kind '.*'; known: classifier, pixel, segmenter"):
        model_file.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(saved, value):
    path, network = saved
    state = network.state_dict()
    name = list(state)[-1]
    spoil(path, state={**state, name: torch.full(state[name].shape, value)})
    with pytest.raises(ModelError, match=r"weights that are no finite numbers \(1 of \d+ parts, such as \S+\); train"):
        model_file.load(path)


def test_too_little_memory_is_no_other_architecture(saved, monkeypatch):
    def build(*_, **__):
        return torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(models, "build", build)
    with pytest.raises(RuntimeError, match="allocate memory"):
        model_file.load(saved[0])


def test_too_little_memory_is_no_damaged_archive(saved, monkeypatch):
    def load(*_, **__):
        return torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RuntimeError, match="allocate memory"):
        model_file.load(saved[0])


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("weight", lambda value: value.to(torch.complex64), "complex numbers in 1 of"),
        ("running_var", lambda value: -value, "negative variances in 1 of"),
    ],
)
def test_numbers_that_no_training_writes_are_refused(saved, part, change, message):
    path, network = saved
    state = network.state_dict()
    name = next(key for key in state if key.endswith(part))
    spoil(path, state={**state, name: change(state[name])})
    with pytest.raises(
        ModelError, match=rf"holds what no training writes \({message} \d+ parts, such as {name}\); train"
    ):
        model_file.load(path)


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda value: value.to("meta")])
def test_other_kinds_of_tensors_are_told(saved, change):
    path, network = saved
    state = network.state_dict()
    name = next(key for key in state if key.endswith("running_var"))
    spoil(path, state={**state, name: change(state[name])})
    with pytest.raises(ModelError, match="holds weights of another architecture"):
        model_file.load(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("svm", {"vectors": torch.zeros(())}, "weights of another architecture than its recipe's 'svm'"),
        ("forest", {"feature": torch.zeros(())}, "weights of another architecture than its recipe's 'forest'"),
        ("forest", {"features.above": torch.zeros(3)}, "weights of another architecture than its recipe's 'forest'"),
        ("forest", {"feature": torch.tensor([0], dtype=torch.int32)}, "holds trees whose nodes lead nowhere"),
        ("forest", {"roots": torch.tensor([5], dtype=torch.int32)}, "holds trees whose roots are in no order"),
    ],
)
def test_odd_weights_of_pixel_models_are_told(tmp_path, name, change, message):
    network = models.build(name, bands=3)
    path = tmp_path / "model.pt"
    model_file.save(path, network, recipe.load(name), **FACTS)
    assert model_file.load(path).kind == "pixel"
    spoil(path, state={**network.state_dict(), **change})
    with pytest.raises(ModelError, match=message):
        model_file.load(path)


def test_a_bare_state_dict_is_refused(saved):
    path, network = saved
    torch.save(network.state_dict(), path)
    with pytest.raises(ModelError, match="is a file of torch with other content"):
        model_file.load(path)
