"""Random changes of a training chip: geometry on image, label and valid alike, radiometry on any bands.

Images are normalised (mean 0, standard deviation 1 of each band), so shifts and noise are in standard
deviations and fit any sensor. Pixels that are not valid hold 0, the mean.

Geometry is one affine map by OpenCV: image (256 x 256, 4 bands), label and valid take 1.2 to 3 ms on one thread of a
CPU, where training waits for its chips. The affine map of torchvision's transforms v2 takes 4 to 7 ms, knows one scale
for both axes alike, and mirrors nothing beyond the edge; with padding before and a crop after it takes 16 to 25 ms.
"""

from __future__ import annotations

import cv2
import numpy as np

from models.chips import IGNORE
from models.recipe import Augmentation

cv2.setNumThreads(0)  # chips are small: threads of OpenCV would only fight with those of torch


def augment(
    image: np.ndarray, label: np.ndarray, valid: np.ndarray, settings: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Change a chip at random.

    Parameters
    ----------
    image : ndarray of float32, shape (h, w, bands)
        Normalised.
    label : ndarray of uint8, shape (h, w)
    valid : ndarray of bool, shape (h, w)
    settings : Augmentation
    rng : Generator
        The only source of chance.

    Returns
    -------
    image, label, valid
        New arrays of the same shapes; the label is 255 where the chip is not valid, the image 0.
    """
    if rng.random() >= settings.probability:
        return image.copy(), np.where(valid, label, IGNORE).astype(np.uint8), valid.copy()
    image, label, valid = _move(image, label, valid, settings, rng)
    bands = image.shape[2]
    gain = 1 + rng.uniform(-settings.contrast, settings.contrast)
    common = rng.uniform(-settings.brightness, settings.brightness)
    shift = common + settings.colour * rng.uniform(-1, 1, size=(bands,))
    image = image * np.float32(gain) + shift.astype(np.float32)
    if settings.noise:
        sigma = np.float32(rng.uniform(0, settings.noise))
        image += sigma * rng.standard_normal(image.shape, dtype=np.float32)
    image[~valid] = 0
    label = np.where(valid, label, IGNORE).astype(np.uint8)
    return image, label, valid


def _move(
    image: np.ndarray, label: np.ndarray, valid: np.ndarray, settings: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flip, turn, stretch and crop in one resampling; what comes in over the edge is mirrored."""
    flip_x = "horizontal" in settings.flips and rng.random() < settings.flip_probability
    flip_y = "vertical" in settings.flips and rng.random() < settings.flip_probability
    if flip_x:
        image, label, valid = image[:, ::-1], label[:, ::-1], valid[:, ::-1]
    if flip_y:
        image, label, valid = image[::-1], label[::-1], valid[::-1]
    angle = 0.0
    if rng.random() < settings.rotation_probability:
        turns = settings.rotation_deg
        angle = float(rng.choice(turns)) if isinstance(turns, list) else rng.uniform(-turns, turns)
    scale_x, scale_y = rng.uniform(1 - settings.stretch, 1 + settings.stretch, 2)
    if settings.zoom:  # drawn only where asked for: other recipes keep their chance
        scale_x, scale_y = np.array([scale_x, scale_y]) * rng.uniform(1 - settings.zoom, 1 + settings.zoom)
    free = (1 - settings.crop) / 2
    offset = rng.uniform(-free, free, 2)
    if angle == 0 and scale_x == scale_y == settings.crop == 1:
        return np.ascontiguousarray(image), np.ascontiguousarray(label), np.ascontiguousarray(valid)

    height, width = label.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale_x, scale_y]) / settings.crop
    shift = centre - turn @ (centre + offset * (width, height))
    matrix = np.column_stack([turn, shift])

    def warp(layer: np.ndarray, interpolation: int) -> np.ndarray:
        return cv2.warpAffine(
            np.ascontiguousarray(layer), matrix, (width, height), flags=interpolation, borderMode=cv2.BORDER_REFLECT_101
        )

    # OpenCV warps up to four channels at once
    bands = image.shape[2]
    parts = [warp(image[:, :, b : b + 4], cv2.INTER_LINEAR) for b in range(0, bands, 4)]
    moved = np.concatenate([p.reshape(height, width, -1) for p in parts], axis=2)
    return (
        moved,
        warp(label, cv2.INTER_NEAREST),
        warp(valid.astype(np.uint8), cv2.INTER_NEAREST).astype(bool),
    )
