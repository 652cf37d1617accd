"""A small folder of chips with known truth: landslides are bright in red and dark in NIR, on textured ground."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geo.raster import REFLECTANCE
from models.chip_writer import ChipsWriter, NewChip
from models.chips import IGNORE

BANDS = ("blue", "green", "red", "nir")
GROUND = {"blue": 0.08, "green": 0.09, "red": 0.07, "nir": 0.30}
SCAR = {"blue": 0.12, "green": 0.15, "red": 0.20, "nir": 0.22}


def chip(number: int, size: tuple[int, int] = (64, 64), bands=BANDS, *, wedge: bool = False):
    """Image (bands, h, w), label, of one chip; with a wedge of nodata where asked."""
    rng = np.random.default_rng(number)
    height, width = size
    label = np.zeros(size, dtype=np.uint8)
    centre = (int(rng.integers(width // 4, 3 * width // 4)), int(rng.integers(height // 4, 3 * height // 4)))
    cv2.ellipse(label, centre, (width // 4, height // 8), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    texture = 1 + 0.15 * rng.standard_normal(size).astype(np.float32)
    image = np.stack([np.where(label == 1, SCAR[b], GROUND[b]) * texture for b in bands]).astype(np.float32)
    image += 0.005 * rng.standard_normal(image.shape).astype(np.float32)
    if wedge:
        image[:, :, : width // 4] = np.nan
    return image, np.where(np.isfinite(image[0]), label, IGNORE).astype(np.uint8)


def write_chips(
    folder: Path,
    splits=("train",) * 6 + ("val",) * 2 + ("test",) * 2,
    *,
    size: tuple[int, int] | list[tuple[int, int]] = (64, 64),
    bands=BANDS,
    change=None,
) -> Path:
    """Write chips of the given splits; ``change(number, image, label)`` may spoil them."""
    folder.mkdir(parents=True)

    def made():
        for number, split in enumerate(splits):
            shape = size[number % len(size)] if isinstance(size, list) else size
            image, label = chip(number, shape, bands, wedge=number % 3 == 0)
            if change is not None:
                image, label = change(number, image, label)
            grid = GeoBox(shape, Affine(2, 0, 300_000 + 1000 * number, 0, -2, 3_500_000), "EPSG:32648")
            good = np.isfinite(image).all(axis=0)
            yield NewChip(f"c{number:03d}", split, "made", image, label, good, grid, REFLECTANCE)

    writer = ChipsWriter(folder, bands, "EPSG:32648")
    writer.write(made(), workers=1)
    writer.finish()
    return folder
