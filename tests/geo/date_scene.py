"""Orthos of two dates: the same ground under other light, with new scars and clouds, displaced as told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from tests.geo.terrain import landscape, map_grid, write_image

#: Fine pixels along one of the images' pixels.
FINE = 2
PIXEL_M = 2.0
#: Columns and rows, in pixels, by which moving shows the reference's (col, row) further right and down.
Warp = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def seen(image: np.ndarray, col: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Periodic fine image as a sensor of this blur sees it at positions in pixels."""
    blurred = ndimage.gaussian_filter(image, FINE * 0.45, mode="wrap")
    return ndimage.map_coordinates(blurred, [row * FINE - 0.5, col * FINE - 0.5], order=3, mode="grid-wrap")


def source_of(warp: Warp, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the reference shows what the pixels of moving show: the warp inverted."""
    row, col = np.mgrid[:size, :size] + 0.5
    at_col, at_row = col, row
    for _ in range(30):
        dx, dy = warp(at_col, at_row)
        at_col, at_row = col - dx, row - dy
    return at_col, at_row


def blobs(size: int, share: float, width: float, rng: np.random.Generator) -> np.ndarray:
    """Patches that cover a share of the ground."""
    field = ndimage.gaussian_filter(rng.normal(size=(size, size)), width, mode="wrap")
    return field > np.quantile(field, 1 - share)


def write_dates(
    folder: Path,
    *,
    size: int = 256,
    warp: Warp = lambda col, row: (0 * col, 0 * row),
    noise: float = 0.004,
    cloud: float = 0.0,
    scars: float = 0.05,
    seed: int = 0,
    bands: int = 1,
    coarser: int = 1,
) -> tuple[Path, Path]:
    """Reference and moving image.

    Parameters
    ----------
    size : int
        Side of both in pixels of ``PIXEL_M``.
    warp : callable
        Displacement in pixels at columns and rows of the reference; rows run against y.
    noise : float
        Standard deviation of reflectance.
    cloud : float
        Share of each image under clouds, elsewhere in each.
    scars : float
        Share of the ground that turned bright between the dates.
    bands : int
        Of the moving image: 1, or 2 with visible and infrared.
    coarser : int
        The reference's pixels are this many times as large.
    """
    fine, rng = landscape(size * FINE, seed), np.random.default_rng(seed + 100)
    row, col = np.mgrid[:size, :size] + 0.5
    before = 0.7 * seen(fine[0], col, row) + 0.3 * seen(fine[1], col, row)
    at_col, at_row = source_of(warp, size)
    after = np.stack([seen(layer, at_col, at_row) for layer in fine])
    # other light and haze, greener ground, and slides that were not there before
    after = 0.7 * after + 0.06 + 0.02 * np.array([0.0, 1.0])[:, None, None]
    after[:, blobs(size, scars, size / 60, rng)] = 0.35
    after = after if bands == 2 else (0.6 * after[:1] + 0.4 * after[1:])
    if cloud:
        for image in (before[None], after):
            patch = blobs(size, cloud, size / 25, rng)
            image[:, patch] = 0.6 + 0.02 * rng.normal(size=patch.sum())
    before, after = (image + noise * rng.normal(size=image.shape) for image in (before, after))
    if coarser > 1:
        before = before.reshape(size // coarser, coarser, size // coarser, coarser).mean(axis=(1, 3))
    names = ["pan"] if bands == 1 else ["red", "nir"]
    reference = write_image(folder / "before.tif", before[None], grid=map_grid(before.shape, PIXEL_M * coarser))
    moving = write_image(folder / "after.tif", after, grid=map_grid(after.shape[1:], PIXEL_M), bands=names)
    return reference, moving
