"""Grad-CAM: against a network whose map is known by hand, on both kinds of models, and attention in corners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import models
from geo.errors import ModelError
from models import model_file, recipe
from models.classification.classifier import Maps
from models.explain import Corners, corner_share, enlarged, explain_landslides, grad_cam, overlay, shown


def test_it_is_equations_1_and_2_by_hand():
    """Two maps, pooled and weighted by 3 and -1: each weight is its own over the number of places."""
    maps = torch.tensor([[[[1.0, 2.0], [0.0, 4.0]], [[6.0, 1.0], [1.0, 1.0]]]])
    layer = nn.Identity()
    values = maps.requires_grad_(True)
    weights = torch.tensor([3.0, -1.0])
    found = grad_cam(lambda: (layer(values * 1).mean((2, 3)) * weights).sum(), Maps(layer))
    expected = torch.relu((3 * maps[0, 0] - maps[0, 1]) / 4).detach()
    assert torch.allclose(found[0], expected)


def test_it_is_what_captum_says():
    """Numbers of LayerGradCam of captum 0.9.0 with ``relu_attributions``; asked itself where it is installed."""
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.7 * torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape).sin() + 0.1)
    images = torch.linspace(-2, 2, 50).reshape(2, 1, 5, 5).cos().requires_grad_(True)
    classes = torch.tensor([0, 1])
    found = grad_cam(lambda: network(images).gather(1, classes[:, None]).sum(), Maps(network[1]))
    first = [[0.004057, 0.001979, 0.003035, 0.004058, 0.005602], [0.000653, 0, 0.002378, 0.004728, 0.006826]]
    last = [[0.016839, 0.013791, 0.009810, 0.003789, 0.004711], [0.013019, 0.010262, 0.006701, 0.002493, 0.006654]]
    assert torch.allclose(found[0, :2], torch.tensor(first), atol=2e-6)
    assert torch.allclose(found[1, 3:], torch.tensor(last), atol=2e-6)
    captum = pytest.importorskip("captum.attr")
    theirs = captum.LayerGradCam(network, network[1]).attribute(images, target=classes, relu_attributions=True)
    assert torch.allclose(theirs[:, 0], found, atol=1e-6)


@pytest.mark.parametrize("before", [False, True])
def test_images_are_explained_alone(before):
    torch.manual_seed(0)
    layer, network = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
    images = torch.randn(3, 1, 8, 8, requires_grad=True)
    pool = nn.Identity()
    maps = Maps(pool, before=before)

    def run(given):
        return lambda: network(pool(torch.tanh(layer(given))).mean((2, 3)))[:, 1].sum()

    together = grad_cam(run(images), maps)
    alone = torch.cat([grad_cam(run(images[i : i + 1]), maps) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_layer_that_does_not_run_is_told():
    with pytest.raises(ModelError, match="does not run"):
        grad_cam(lambda: torch.zeros(1), Maps(nn.Identity()))


def loaded(name, **settings):
    torch.manual_seed(0)
    network = models.build(name, bands=3, **settings).eval().requires_grad_(False)
    return model_file.LoadedModel(
        "segmenter", {}, ("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3, 32, 0.5, {}, [], {}, network
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("linknet", {"encoder": "tu-test_efficientnet"}),
        ("pspnet", {"encoder": "tu-test_efficientnet"}),
        ("resunet", {"channels": 8}),
    ],
)
def test_segmenters_are_explained_at_any_size(name, settings):
    model = loaded(name, **settings)
    model.module.requires_grad_(False)
    image = np.random.default_rng(0).standard_normal((3, 50, 70)).astype(np.float32)
    attention = explain_landslides(model, image)
    assert attention.shape == (50, 70)
    assert np.isfinite(attention).all()
    assert (attention >= 0).all()


def test_each_level_of_an_encoder_can_be_looked_at():
    model = loaded("linknet", encoder="tu-test_efficientnet")
    image = np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32)
    found = [explain_landslides(model, image, level=level) for level in (2, 3, 4, 5, 9)]
    assert not np.array_equal(found[0], found[2])
    assert np.array_equal(found[3], found[4])  # there is none deeper


def test_maps_that_are_not_used_are_told():
    layer, values = nn.Identity(), torch.ones(1, 1, 2, 2, requires_grad=True)

    def run():
        layer(values * 2)
        return values.sum()

    with pytest.raises(ModelError, match="does not use these maps"):
        grad_cam(run, Maps(layer))


def test_a_model_that_sees_single_pixels_looks_nowhere():
    torch.manual_seed(0)
    pixels = recipe.load("svm")
    assert pixels.kind == "pixel"
    with pytest.raises(ModelError, match="sees each pixel by itself"):
        explain_landslides(loaded("svm", vectors=20), np.zeros((3, 8, 8), np.float32))


def test_corners():
    assert corner_share(np.ones((40, 60))) == pytest.approx(0.25)
    middle = np.zeros((40, 40))
    middle[15:25, 15:25] = 1
    assert corner_share(middle) == 0
    assert corner_share(np.rot90(np.pad(np.ones((4, 4)), ((0, 36), (0, 36))))) == 1
    assert np.isnan(corner_share(np.zeros((8, 8))))
    shares = np.array([0.1, 0.2, np.nan, 0.5, 0.6])
    found = Corners.of(shares, np.array([True, True, True, False, False])).summary()
    assert (found["right"]["images"], found["wrong"]["images"], found["without_attention"]) == (2, 2, 1)
    assert found["difference"] == pytest.approx(0.4)
    assert found["difference_interval"][0] <= 0.4 <= found["difference_interval"][1]
    assert Corners.of(np.array([0.2]), np.array([True])).summary()["wrong"]["mean"] is None


def test_corners_of_maps_of_four_cells_are_not_told():
    """Enlarged by interpolation their share is a quarter whatever they hold."""
    maps = torch.rand(1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert corner_share(enlarged(maps, (40, 40))[0]) == pytest.approx(0.25, abs=1e-6)
    corners = Corners.of(np.array([0.25, 0.25]), np.array([True, False]), (2, 2))
    found = corners.summary()
    assert found["right"]["mean"] is found["difference"] is None
    assert (found["without_attention"], found["cells"]) == (0, [2, 2])
    assert "maps have 2 x 2 cells here, and attention in corners can be told from 4 x 4 on" in found["reason"]
    assert Corners.of(np.array([0.25]), np.array([True]), (4, 4)).summary()["reason"] is None


def test_overlay_keeps_the_picture_where_nothing_was_looked_at():
    picture = np.random.default_rng(0).random((8, 8, 3))
    attention = np.zeros((8, 8))
    assert np.array_equal(overlay(picture, attention), np.rint(255 * picture).astype(np.uint8))
    attention[2, 3] = 7
    changed = (overlay(picture, attention) != np.rint(255 * picture).astype(np.uint8)).any(axis=2)
    assert np.argwhere(changed).tolist() == [[2, 3]]
    assert shown(np.dstack([picture, picture[:, :, :1]]), ["nir", "blue", "green", "red"]).shape == (8, 8, 3)


def test_some_pixels_are_explained_whatever_was_answered():
    """A landslide that was missed has an explanation of its own; pixels elsewhere have another."""
    from made_chips import BANDS, chip
    from test_train import tiny

    from models.loop import start
    from models.model_file import LoadedModel

    module = start(tiny(), BANDS, 0).eval()
    scales = {"mean": (0.08, 0.09, 0.07, 0.3), "std": (0.03,) * 4}
    model = LoadedModel("segmenter", {}, BANDS, **scales, chip_size=64, threshold=1.1, metrics={}, history=[],
                        trained_on={}, module=module)  # fmt: skip
    image, label = chip(1)
    assert not explain_landslides(model, image).any()  # nothing reaches this threshold
    scar = explain_landslides(model, image, pixels=label == 1)
    corner = np.zeros(label.shape, dtype=bool)
    corner[:8, :8] = True
    assert scar.shape == label.shape
    assert scar.any()
    assert not np.allclose(scar, explain_landslides(model, image, pixels=corner))
    assert not explain_landslides(model, image, pixels=np.zeros(label.shape, dtype=bool)).any()
