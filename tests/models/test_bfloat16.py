"""Prediction in bfloat16 says nearly the same, and never where small differences decide."""

import json

import numpy as np
import rasterio
import torch
from click.testing import CliRunner
from test_predict import write

from models.predict import predict
from models.predict.search import _loaded
from pipeline.cli import geocrack


def test_a_network_in_bfloat16_maps_nearly_the_same(network, tmp_path):
    image = write(tmp_path / "a.tif", np.random.default_rng(1).random((200, 130)).astype(np.float32))
    maps = []
    for backend in ("torch", "bfloat16"):
        predict(image, network, tmp_path / f"{backend}.tif", overlap=16, batch=3, dtype="float32", backend=backend)
        with rasterio.open(tmp_path / f"{backend}.tif") as src:
            maps.append(src.read(1))
    apart = np.abs(maps[0] - maps[1])
    assert 0 < apart.max() < 0.05
    assert ((maps[0] >= 0.5) == (maps[1] >= 0.5)).mean() > 0.98


def test_layers_are_computed_in_bfloat16_and_logits_are_float32(network):
    seen = []
    loaded = _loaded(network, "bfloat16", None)
    for layer in loaded.module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _given, found: seen.append(found.dtype))
    with torch.inference_mode():
        logits = loaded.module(torch.rand(1, 2, 64, 64))
    assert set(seen) == {torch.bfloat16}
    assert logits.dtype == torch.float32
    assert (loaded.reach, loaded.stride) == (_loaded(network, "torch", None).reach, loaded.module.network.stride)


def test_the_command_takes_it_and_notes_it(network, tmp_path):
    image = write(tmp_path / "a.tif", np.random.default_rng(1).random((100, 90)).astype(np.float32))
    asked = ["predict", image, "--model", network, "-o", tmp_path / "p.tif", "--backend", "bfloat16", "--overlap", 16]
    result = CliRunner().invoke(geocrack, list(map(str, asked)))
    assert result.exception is None, result.output
    assert json.loads((tmp_path / "p.tif.provenance.json").read_text())["settings"]["backend"] == "bfloat16"
