"""Photographs are turned by their EXIF orientation as viewers turn them."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image, ImageOps

from geo.orientation import orientation, upright
from geo.raster import open_raster


def photograph(path, how):
    pixels = np.random.default_rng(how).integers(0, 255, (24, 40)).astype(np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = how
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("how", range(1, 9))
def test_a_photograph_is_turned_as_pillow_turns_it(tmp_path, how):
    path = photograph(tmp_path / "a.jpg", how)
    with open_raster(path) as src:
        assert orientation(src) == how
        ours = upright(src.read(), how)
    theirs = np.asarray(ImageOps.exif_transpose(Image.open(path))).astype(int)[None]
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 4  # two decoders of JPEG
    assert np.abs(ours - theirs).mean() < 0.5


def test_what_has_a_place_or_a_nonsense_tag_is_not_turned(tmp_path):
    with rasterio.open(photograph(tmp_path / "a.jpg", 6), "r+") as dst:
        dst.transform = Affine(0.1, 0, 500, 0, -0.1, 900)
    with open_raster(tmp_path / "a.jpg") as src:
        assert orientation(src) == 1
    with open_raster(photograph(tmp_path / "b.jpg", 9)) as src:
        assert orientation(src) == 1
