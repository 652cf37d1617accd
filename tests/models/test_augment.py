"""Random changes: the same on image, label and valid; any number of bands; decided by the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from models.augment import augment
from models.chips import IGNORE
from models.recipe import Augmentation

ALL = Augmentation(
    rotation_deg=180, flips=["horizontal", "vertical"], stretch=0.1, brightness=0.2, contrast=0.2, colour=0.1, noise=0.1
)
GEOMETRY = Augmentation(rotation_deg=180, flips=["horizontal", "vertical"], stretch=0.1, crop=0.8)


def blob(bands: int, size: int = 48):
    """A chip whose first band is 1 inside the landslide, 0 outside."""
    y, x = np.mgrid[:size, :size]
    label = (((x - 18) / 14) ** 2 + ((y - 26) / 8) ** 2 < 1).astype(np.uint8)
    image = np.repeat(label[:, :, None].astype(np.float32), bands, axis=2)
    return image, label, np.ones((size, size), dtype=bool)


@pytest.mark.parametrize("bands", [1, 3, 4, 7])
def test_shapes_and_types_stay(bands):
    image, label, valid = augment(*blob(bands), ALL, np.random.default_rng(0))
    assert (image.shape, image.dtype) == ((48, 48, bands), np.float32)
    assert (label.shape, label.dtype, valid.dtype) == ((48, 48), np.uint8, bool)
    assert np.isfinite(image).all()


@pytest.mark.parametrize("seed", range(8))
def test_image_and_label_move_together(seed):
    image, label, _ = augment(*blob(5), GEOMETRY, np.random.default_rng(seed))
    for band in range(5):
        inside, outside = image[:, :, band][label == 1], image[:, :, band][label == 0]
        assert inside.mean() > 0.9
        assert outside.mean() < 0.1
    assert 0.5 < label.mean() / blob(1)[1].mean() < 2.2


def test_chance_is_the_generators_alone():
    one, two, other = (augment(*blob(4), ALL, np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    assert (one == two).all()
    assert not np.allclose(one, other)


def test_what_is_not_valid_stays_out():
    image, label, valid = blob(4)
    valid[:, :10] = False
    image[~valid] = 0
    moved, moved_label, moved_valid = augment(image, label, valid, ALL, np.random.default_rng(1))
    assert 0.1 < (~moved_valid).mean() < 0.35
    assert (moved_label[~moved_valid] == IGNORE).all()
    assert (moved_label[moved_valid] != IGNORE).all()
    assert (moved[~moved_valid] == 0).all()


def test_nothing_asked_changes_nothing():
    image, label, valid = blob(4)
    same, same_label, same_valid = augment(image, label, valid, Augmentation(), np.random.default_rng(0))
    assert (same == image).all()
    assert (same_label == label).all()
    assert (same_valid == valid).all()


def test_flips_are_exact():
    settings = Augmentation(flips=["horizontal"], flip_probability=1)
    image, label, _ = augment(*blob(4), settings, np.random.default_rng(0))
    assert (image == blob(4)[0][:, ::-1]).all()
    assert (label == blob(4)[1][:, ::-1]).all()


def test_right_angles_are_exact():
    settings = Augmentation(rotation_deg=[90])
    image, label, _ = augment(*blob(4), settings, np.random.default_rng(0))
    assert np.allclose(image, np.rot90(blob(4)[0], -1), atol=1e-5)
    assert (label == np.rot90(blob(4)[1], -1)).all()


def test_a_share_of_chips_stays_as_it_is():
    settings = GEOMETRY.model_copy(update={"probability": 0.25})
    kept = sum((augment(*blob(1), settings, np.random.default_rng(i))[1] == blob(1)[1]).all() for i in range(80))
    assert 45 <= kept <= 75


def test_noise_and_jitter_are_in_standard_deviations():
    flat = np.zeros((64, 64, 4), dtype=np.float32), np.zeros((64, 64), np.uint8), np.ones((64, 64), bool)
    settings = Augmentation(brightness=0.2, colour=0.1, noise=0.1)
    drawn = [augment(*flat, settings, np.random.default_rng(i))[0] for i in range(40)]
    assert max(abs(d.mean()) for d in drawn) < 0.3
    assert 0.01 < np.mean([d.std(axis=(0, 1)).mean() for d in drawn]) < 0.1
    assert np.std([d.mean() for d in drawn]) > 0.05
