"""Several models, or several looks of one, answer together."""

import numpy as np
import pytest
import rasterio
from test_predict import Fake, ramp, run, write

import models
from geo.errors import ModelError
from models.predict import Windows
from models.predict.members import Ensemble


def read(path):
    with rasterio.open(path) as src:
        return src.read(1)


# ------------------------------------------------------------------------------------------ several answers
def test_eight_looks_make_a_lopsided_model_upright(tmp_path):
    """A model that looks to the left sees, turned and mirrored, as much of every side."""
    red = np.random.default_rng(2).random((100, 130)).astype(np.float32)
    lopsided = Fake(function=lambda x: np.roll(x[:, 0], 1, axis=-1), chip_size=64)
    path = write(tmp_path / "a.tif", red)
    found, told = run(path, lopsided, tmp_path / "p.tif", augment="d4", overlap=32, spread=tmp_path / "s.tif")
    near = np.stack([np.roll(red, shift, axis) for axis in (0, 1) for shift in (-1, 1)])
    inside = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(found[inside], near.mean(axis=0)[inside], atol=2e-3)
    np.testing.assert_allclose(read(tmp_path / "s.tif")[inside], near.std(axis=0)[inside], atol=2e-2)
    assert told["answers"] == 8


def test_models_answer_together_as_mean_and_spread(tmp_path):
    path = write(tmp_path / "a.tif", ramp((90, 90)))
    answers = [0.2, 0.5, 0.6]
    fakes = [Fake(function=lambda x, v=v: np.full((len(x), *x.shape[2:]), v, np.float32)) for v in answers]
    found, told = run(path, fakes, tmp_path / "p.tif", spread=tmp_path / "s.tif")
    np.testing.assert_allclose(found, np.mean(answers), atol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "s.tif"), np.std(answers), atol=1e-6)
    assert told["answers"] == 3


def test_windows_suit_all_models_of_an_ensemble():
    together = Ensemble((Fake(chip_size=64, reach=8, stride=16), Fake(chip_size=96, reach=40, stride=24)))
    assert (together.chip_size, together.reach, together.stride, together.size) == (96, 40, 48, 2)


def test_a_model_that_pools_keeps_its_windows_in_company():
    class Pooling(Fake):
        global_context = True

    for together in [(Pooling(chip_size=64), Fake(chip_size=96)), (Fake(chip_size=96), Pooling(chip_size=64))]:
        with pytest.raises(ModelError, match=r"pools over windows of 64 pixels, but .* together need those of 96"):
            Ensemble(together)
    assert Windows.of(Ensemble((Fake(chip_size=64), Pooling(chip_size=96)))).size == 96


def test_models_of_other_bands_do_not_answer_together(tmp_path):
    path = write(tmp_path / "a.tif", ramp((90, 90)))
    with pytest.raises(
        ModelError, match="trained on the bands red, the model on red, nir; models that answer together"
    ):
        run(path, [Fake(), Fake(bands=("red",))], tmp_path / "p.tif")


def test_the_spread_of_one_answer_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", ramp((90, 90)))
    with pytest.raises(ModelError, match="--augment d4"):
        run(path, Fake(), tmp_path / "p.tif", spread=tmp_path / "s.tif")


def test_models_that_pool_over_their_window_keep_its_size():
    class Pooling(Fake):
        global_context = True

    assert Windows.of(Pooling(chip_size=64), overlap=48).size == 64
    assert Windows.of(Fake(chip_size=64), overlap=48).size == 96
    with pytest.raises(ModelError, match=r"pools over its whole window.*leave --window away"):
        Windows.of(Pooling(chip_size=64), overlap=16, window=128)
    assert models.architecture("pspnet").global_context
    assert not models.architecture("linknet").global_context


def test_turning_a_window_is_spared_where_each_pixel_stands_alone(tmp_path):
    path = write(tmp_path / "a.tif", ramp((90, 90)))
    once, alone = Fake(reach=0), Fake(reach=0)
    run(path, once, tmp_path / "once.tif")
    found, told = run(path, alone, tmp_path / "p.tif", augment="d4")
    np.testing.assert_allclose(found, ramp((90, 90)), atol=1e-6)
    assert told["answers"] == 1
    assert len(alone.calls) == len(once.calls)
    both = [Fake(function=lambda x: np.full((len(x), *x.shape[2:]), 0.2, np.float32)), Fake(reach=0)]
    found, told = run(path, both, tmp_path / "q.tif", augment="d4")
    np.testing.assert_allclose(found, (ramp((90, 90)) + 0.2) / 2, atol=1e-6)
    assert told["answers"] == 16
