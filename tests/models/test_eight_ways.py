"""A segmenter that sees chips in eight ways, for scores of what a prediction in eight ways would map."""

import numpy as np
import pytest
import torch
from test_train import tiny

from models import loop
from models.evaluation import EightWays
from models.predict.members import Ensemble


class Alone:
    """A network as predictions know it, without normalisation."""

    bands, chip_size, reach, stride = ("red", "green", "blue"), 64, 64, 32

    def __init__(self, module):
        self.module = module

    def probability(self, images):
        return torch.sigmoid(self.module(torch.from_numpy(images)))[:, 0].numpy()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return loop.start(tiny(), Alone.bands, 0).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)


def test_it_says_what_a_prediction_in_eight_ways_says(network, images):
    expected, _ = Ensemble((Alone(network),), augment="d4").answer(images)
    found = torch.sigmoid(EightWays(network)(torch.from_numpy(images)))[:, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = Alone(network).probability(images)
    assert np.abs(found - alone).max() > 1e-3  # one way says something else


@pytest.mark.parametrize("turns", [1, 2])
def test_the_way_an_image_lies_does_not_matter(network, images, turns):
    upright = EightWays(network)(torch.from_numpy(images)).numpy()
    turned = EightWays(network)(torch.from_numpy(np.ascontiguousarray(np.rot90(images, turns, (2, 3))))).numpy()
    np.testing.assert_allclose(np.rot90(turned, -turns, (2, 3)), upright, atol=1e-4)


def test_certain_answers_stay_finite_and_what_is_no_number_stays_none():
    for value in (-200.0, 200.0):
        logits = EightWays(lambda x, value=value: torch.full((1, 1, 4, 4), value))(torch.zeros(1, 3, 4, 4))
        assert torch.isfinite(logits).all()
        assert torch.sigmoid(logits).round().unique().item() == (value > 0)
    assert torch.isnan(EightWays(lambda x: torch.full((1, 1, 4, 4), torch.nan))(torch.zeros(1, 3, 4, 4))).all()
