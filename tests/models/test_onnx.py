"""A model exported to ONNX says the same, alone and as the backend of a prediction."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from made_pictures import TINY, write_set
from test_predict import write

import models
from geo.errors import ModelError, OutputExistsError
from models import model_file, recipe
from models.classification.train import train
from models.onnx import OnnxModel, OpenVinoModel, export
from models.predict import predict

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def loaded(network):
    return model_file.load(network)


def images(count=3):
    values = np.random.default_rng(0).random((count, 2, 64, 64)).astype(np.float32)
    values[0, :, 10:20, 10:20] = np.nan
    return values


def test_the_exported_model_gives_the_same_mask(loaded, tmp_path):
    export(loaded, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3, 5):
        (found,) = session.run(None, {"image": images(count)})
        expected = loaded.probability(images(count))
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(found >= loaded.threshold, expected >= loaded.threshold)
    assert expected.std() > 0.01
    told = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert told["geocrack_bands"] == "red,nir"
    assert float(told["geocrack_threshold"]) == loaded.threshold
    assert json.loads(told["geocrack_recipe"]) == loaded.recipe


@pytest.mark.parametrize("other", ["onnx", "openvino"])
def test_other_runtimes_map_what_torch_maps(network, tmp_path, other):
    if other == "openvino":
        pytest.importorskip("openvino")
    image = write(tmp_path / "a.tif", np.random.default_rng(1).random((200, 130)).astype(np.float32))
    maps = []
    for backend in ("torch", other):
        predict(image, network, tmp_path / f"{backend}.tif", overlap=16, batch=3, dtype="float32", backend=backend)
        with rasterio.open(tmp_path / f"{backend}.tif") as src:
            maps.append(src.read(1))
    np.testing.assert_allclose(*maps, atol=1e-4)


def test_the_backend_has_all_that_prediction_asks_of_a_model(loaded):
    model = OnnxModel(loaded)
    assert (model.bands, model.chip_size, model.reach, model.stride) == (
        loaded.bands,
        loaded.chip_size,
        loaded.reach,
        loaded.stride,
    )
    assert (model.mean, model.std, model.global_context) == (loaded.mean, loaded.std, False)


@pytest.mark.parametrize(("backend", "package"), [(OnnxModel, "onnxruntime"), (OpenVinoModel, "openvino")])
def test_a_missing_runtime_is_named(loaded, monkeypatch, backend, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ModelError, match=rf"needs the package {package}: pip install .geocrack\[(onnx|openvino)\]"):
        backend(loaded)


def test_what_a_runtime_gave_stays_when_it_is_asked_again(loaded):
    """Its memory may be the same each time: what was given before must not change under the caller."""
    pytest.importorskip("openvino")
    model = OpenVinoModel(loaded)
    first = model.probability(images())
    kept = first.copy()
    model.probability(np.zeros_like(images()))
    np.testing.assert_array_equal(first, kept)


def test_an_export_that_is_there_stays(loaded, tmp_path):
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        export(loaded, tmp_path / "m.onnx")


def test_missing_packages_are_named(loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ModelError, match=r"geocrack\[onnx\]"):
        export(loaded, tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["svm", "forest"])
def test_pixel_models_are_no_networks(name, tmp_path):
    facts = {"bands": ["red"], "mean": [0.0], "std": [1.0], "chip_size": 64, "threshold": 0.5, "metrics": {}}
    model_file.save(tmp_path / "m.pt", models.build(name, bands=1), recipe.load(name), **facts)
    model = model_file.load(tmp_path / "m.pt")
    message = rf"m\.pt is a pixel model \('{name}'\), .* `geocrack predict --backend torch`, or export a network"
    with pytest.raises(ModelError, match=message):
        export(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=message):
        OnnxModel(model)
    assert not (tmp_path / "m.onnx").exists()


def test_the_command_exports_classifiers(tmp_path):
    from click.testing import CliRunner

    from pipeline.cli import geocrack

    write_set(tmp_path / "walls")
    train(recipe.parse(TINY), [tmp_path / "walls"], tmp_path / "m.pt", threads=1)
    result = CliRunner().invoke(geocrack, ["export", str(tmp_path / "m.pt"), "-o", str(tmp_path / "m.onnx")])
    assert result.exit_code == 0, result.output
    shape = onnx.load(tmp_path / "m.onnx").graph.output[0].type.tensor_type.shape
    assert shape.dim[1].dim_value == 2
    record = json.loads((tmp_path / "m.onnx.provenance.json").read_text())
    assert record["results"] == {"bands": ["red", "green", "blue"], "classes": ["crack", "sound"]}


def test_the_command_exports(network, tmp_path):
    from click.testing import CliRunner

    from pipeline.cli import geocrack

    result = CliRunner().invoke(geocrack, ["export", str(network), "-o", str(tmp_path / "m.onnx")])
    assert result.exit_code == 0, result.output
    assert onnx.load(tmp_path / "m.onnx").graph.input[0].name == "image"
    assert json.loads((tmp_path / "m.onnx.provenance.json").read_text())["results"]["bands"] == ["red", "nir"]


@pytest.mark.parametrize("backend", [OnnxModel, OpenVinoModel])
def test_windows_go_through_a_runtime_side_by_side(loaded, backend):
    """Every thread has a session of its own, and no answer is another's."""
    if backend is OpenVinoModel:
        pytest.importorskip("openvino")
    model, values = backend(loaded), images(8)
    alone = [model.probability(values[n : n + 1]) for n in range(8)]
    assert model.parallel
    with ThreadPoolExecutor(4) as threads:
        beside = list(threads.map(lambda n: model.probability(values[n % 8 : n % 8 + 1]), range(40)))
    for number, found in enumerate(beside):
        np.testing.assert_array_equal(found, alone[number % 8])
