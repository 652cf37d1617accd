"""What several tests of predictions share."""

import numpy as np
import pytest
import torch
from test_predict import write

import models
from models import model_file, recipe


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small network that says something else of each pixel."""
    torch.manual_seed(0)
    module = models.build("linknet", bands=2, encoder="tu-test_efficientnet")
    *_, last = (layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d))
    torch.nn.init.normal_(last.weight)
    path = tmp_path_factory.mktemp("model") / "net.pt"
    made_by = recipe.parse(
        {
            "network": {"name": "linknet", "encoder": "tu-test_efficientnet"},
            "weights": "none",
            "size": 64,
            "phases": [{"epochs": 1, "learning_rate": 1}],
        }
    )
    model_file.save(
        path, module, made_by, bands=["red", "nir"], mean=[0.5, 0.5], std=[0.3, 0.3], chip_size=64, threshold=0.4,
        metrics={},
    )  # fmt: skip
    return path


@pytest.fixture
def image(tmp_path):
    red = np.random.default_rng(0).random((330, 150)).astype(np.float32)
    invalid = np.zeros(red.shape, bool)
    invalid[40:60, 30:50] = True
    return write(tmp_path / "image.tif", red, invalid=invalid)
