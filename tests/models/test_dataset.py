"""Chips as networks see them: statistics without nodata, sizes there and back, memory without influence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from made_chips import BANDS, chip, write_chips

from geo.errors import LabelError, ModelError
from models import recipe
from models.chips import IGNORE, open_chips, read_chip
from models.dataset import FittedChips, Memory, fit, gather
from models.recipe import Augmentation

RECIPE = recipe.load("linknet-lite0", ["size=64"])


def made(number: int, *, split: str = "train", **how):
    image, label = chip(number, **how)
    return SimpleNamespace(id=str(number), split=split, image=image, label=label)


def read(record):
    return record.image, record.label, np.isfinite(record.image).all(axis=0)


def test_normalisation_sees_only_valid_training_pixels(tmp_path):
    folder = write_chips(tmp_path / "chips")
    data = gather(RECIPE.model_copy(update={"bands": ["nir", "red"]}), [folder])
    images = [chip(n, wedge=n % 3 == 0)[0][[3, 2]] for n in range(6)]
    pixels = np.concatenate([image[:, np.isfinite(image[0])] for image in images], axis=1).astype(np.float64)
    assert np.allclose(data.mean, pixels.mean(axis=1), atol=1e-5)
    assert np.allclose(data.std, pixels.std(axis=1), atol=1e-5)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("value", "words"), [(0, "shows a landslide"), (1, "shows ground without landslide")])
def test_labels_of_one_kind_are_refused(tmp_path, split, value, words):
    def change(number, image, label):
        spoilt = (number < 6) == (split == "train")
        return image, np.where(label == IGNORE, IGNORE, value).astype(np.uint8) if spoilt else label

    folder = write_chips(tmp_path / "chips", change=change)
    with pytest.raises(LabelError, match=f"none of the . chips in .* of the split '{split}' .* {words}"):
        gather(RECIPE, [folder])


def test_a_constant_band_is_refused(tmp_path):
    def change(number, image, label):
        image[2, np.isfinite(image[2])] = 0.5
        return image, label

    folder = write_chips(tmp_path / "chips", change=change)
    with pytest.raises(ModelError, match=r"the band red of the training chips in .* has one value everywhere"):
        gather(RECIPE, [folder])


@pytest.mark.parametrize("size", [(64, 64), (50, 80), (81, 33), (200, 140)])
def test_fitting_keeps_proportions_and_comes_back(size):
    image, label = chip(1, size)
    valid = np.isfinite(image[0])
    fitted = fit(image, label, valid, 64, [0.1] * 4, [0.05] * 4)
    assert fitted.image.shape == (64, 64, 4)
    rows, cols = fitted.inside
    shown = (rows.stop - rows.start, cols.stop - cols.start)
    assert max(shown) == 64
    assert shown[0] / shown[1] == pytest.approx(size[0] / size[1], rel=0.05)
    outside = np.ones((64, 64), dtype=bool)
    outside[fitted.inside] = False
    assert (fitted.label[outside] == IGNORE).all()
    assert not fitted.valid[outside].any()
    back = fitted.at_own_size((fitted.label == 1).astype(np.float32))
    assert back.shape == size
    assert ((back > 0.5) == (label == 1)).mean() > 0.97


@pytest.mark.parametrize("size", [32, 64])
def test_values_beyond_half_precision_become_its_ends(size):
    image = np.linspace(-70_000, 70_000, 32 * 32, dtype=np.float32).reshape(1, 32, 32)
    plain, all_valid = np.zeros((32, 32), np.uint8), np.ones((32, 32), bool)
    found = fit(image, plain, all_valid, size, [0.0], [1.0]).image[..., 0]
    assert (found.min(), found.max()) == (-65504, 65504)
    if size == 32:
        inside = np.abs(image[0]) < 65504
        assert np.array_equal(found[inside], image[0][inside].astype(np.float16))


def test_nodata_becomes_the_mean():
    image, label = chip(0, wedge=True)
    fitted = fit(image, label, np.isfinite(image[0]), None, [0.1] * 4, [0.05] * 4)
    assert (fitted.image[:, :16] == 0).all()
    assert (fitted.label[:, :16] == IGNORE).all()


def test_memory_has_no_influence():
    records = [made(n, wedge=n % 2 == 0) for n in range(5)]
    settings = {"size": 48, "mean": [0.1] * 4, "std": [0.05] * 4}
    kept = FittedChips(records, read, range(4), memory=Memory(100), **settings)
    again = FittedChips(records, read, range(4), memory=Memory(0), **settings)
    for _ in range(2):
        ours, theirs = (
            c.batch([3, 0, 3], Augmentation(rotation_deg=20, noise=0.1), seed=(1, 2)) for c in (kept, again)
        )
        assert (ours[0] == theirs[0]).all()
        assert (ours[1] == theirs[1]).all()
    assert kept[0] is kept[0]
    assert again[0] is not again[0]


def test_gather_finds_bands_by_name(tmp_path):
    folder = write_chips(tmp_path / "chips")
    data = gather(RECIPE.model_copy(update={"bands": ["nir", "Red"]}), [folder])
    whole = gather(RECIPE, [folder])
    assert data.mean == (whole.mean[3], whole.mean[2])
    assert (data.train[0].image[:, :, 1] == whole.train[0].image[:, :, 2]).all()
    assert (len(data.train), len(data.val), len(data.test)) == (6, 2, 2)
    assert data.fingerprint != whole.fingerprint


def test_gather_names_missing_bands(tmp_path):
    folder = write_chips(tmp_path / "chips")
    with pytest.raises(ModelError, match=r"asks for the bands red, swir, the chips in .* have blue, green, red, nir"):
        gather(RECIPE.model_copy(update={"bands": ["red", "swir"]}), [folder])


@pytest.mark.parametrize("split", ["train", "val"])
def test_gather_needs_chips_of_each_split(tmp_path, split):
    other = {"train": "val", "val": "train"}[split]
    folder = write_chips(tmp_path / "chips", [other] * 3)
    with pytest.raises(LabelError, match=f"none of the 3 chips in .* is of the split '{split}'"):
        gather(RECIPE, [folder])


def test_chips_are_read_as_written(tmp_path):
    folder = write_chips(tmp_path / "chips", size=[(64, 64), (40, 72)])
    records = open_chips([folder]).records
    image, label, valid = read_chip(records[1])
    expected, expected_label = chip(1, (40, 72), BANDS)
    assert np.allclose(image, expected, atol=6e-5)
    assert (label == expected_label).all()
    assert valid.all()
