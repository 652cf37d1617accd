"""PAN and MSS orthos of one landscape, with a displacement that is known because it was put there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from tests.geo.terrain import landscape, map_grid, write_image

RATIO = 4
PAN_M, MSS_M = 2.0, 8.0
#: Shares of visible and infrared light in PAN, and of the landscape's two spectra in the four bands.
PAN_MIX = np.array([0.7, 0.3])
BAND_MIX = np.array([[0.8, 0.02], [1.0, 0.05], [1.1, 0.0], [0.2, 0.9]])


def displaced(image: np.ndarray, size: int, col, row) -> np.ndarray:
    """Periodic fine image seen by MSS: blurred by its MTF and sampled where ``col, row`` say, in fine pixels."""
    blurred = ndimage.gaussian_filter(image, RATIO * np.sqrt(-2 * np.log(0.3)) / np.pi, mode="wrap")
    v, u = np.mgrid[:size, :size] + 0.5
    x, y = col(u * RATIO, v * RATIO), row(u * RATIO, v * RATIO)
    return ndimage.map_coordinates(blurred, [y - 0.5, x - 0.5], order=3, mode="grid-wrap")


def high_clouds(size: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cover (0 to 1, with soft rims) and brightness of clouds over a share of a periodic image."""
    field = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 25, mode="wrap")
    cover = np.clip((field - np.quantile(field, 1 - share)) / field.std() / 0.1 + 0.5, 0, 1)
    texture = ndimage.gaussian_filter(rng.normal(size=(size, size)), 6, mode="wrap")
    return cover, 0.6 + 0.06 * texture / texture.std()


def write_pair(
    folder: Path,
    *,
    size: int = 160,
    shift_px: tuple[float, float] = (0.0, 0.0),
    stretch: float = 0.0,
    noise: float = 0.0,
    cloud: float = 0.0,
    parallax_px: tuple[float, float] | None = None,
    seed: int = 0,
    pan_mix: np.ndarray = PAN_MIX,
) -> tuple[Path, Path, np.ndarray]:
    """PAN and MSS orthos, and the bands that MSS would have at PAN's resolution.

    Parameters
    ----------
    size : int
        Side of MSS in pixels.
    shift_px : (float, float)
        Columns and rows, in MSS pixels, by which MSS shows things further right and down.
    stretch : float
        MSS pixels by which the shift grows from the left edge to the right one.
    noise : float
        Standard deviation of reflectance.
    cloud : float
        Share of the ground under bright patches that lie elsewhere in MSS than in PAN.
    parallax_px : (float, float), optional
        Then the patches are the same in both, like clouds high over the ground: so many MSS pixels further right and
        down in MSS than the ground.
    pan_mix : ndarray
        Shares of visible and infrared light in PAN.
    """
    fine = landscape(size * RATIO, seed)
    rng = np.random.default_rng(seed + 100)
    dx, dy = (RATIO * s for s in shift_px)
    slope = stretch / size
    pan = np.tensordot(pan_mix, fine, 1)
    bands = np.tensordot(BAND_MIX, fine, 1)
    mss = np.stack([displaced(b, size, lambda x, _: x - dx - slope * x, lambda _, y: y - dy) for b in bands])
    if cloud and parallax_px is not None:
        px, py = (RATIO * p for p in parallax_px)
        cover, bright = high_clouds(size * RATIO, cloud, rng)
        seen = [displaced(i, size, lambda x, _: x - dx - px, lambda _, y: y - dy - py) for i in (cover, bright)]
        pan = pan * (1 - cover) + cover * bright
        mss = mss * (1 - seen[0]) + seen[0] * seen[1]
    elif cloud:
        for image, scale in ((pan[None], RATIO), (mss, 1)):
            field = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 25, mode="wrap")
            patch = np.kron(field > np.quantile(field, 1 - cloud), np.ones((scale, scale), bool))
            image[:, patch] = 0.6 + 0.02 * rng.normal(size=patch.sum())
    pan = pan + noise * rng.normal(size=pan.shape)
    mss = mss + noise * rng.normal(size=mss.shape)
    pan_path = write_image(folder / "pan.tif", pan[None], grid=map_grid(pan.shape, PAN_M))
    mss_path = write_image(folder / "mss.tif", mss, grid=map_grid(mss.shape[1:], MSS_M))
    return pan_path, mss_path, bands
