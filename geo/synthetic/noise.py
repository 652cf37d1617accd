"""Random fields: smooth fractal noise over a grid, and periodic tiles of fine texture.

All fields have mean 0 and standard deviation 1 (about), so that a caller's amplitude is in his own unit.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import cKDTree


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    largest: float,
    smallest: float = 2.0,
    persistence: float = 0.5,
) -> np.ndarray:
    """Fractal value noise: octaves of smoothly interpolated random numbers.

    Parameters
    ----------
    rng : numpy Generator
        Source of the random numbers.
    shape : (height, width)
        Of the field, in cells.
    largest, smallest : float
        Longest and shortest spacing of the random numbers, in cells; each octave halves it.
    persistence : float
        Amplitude of an octave relative to the one twice as long.

    Returns
    -------
    ndarray of float32, shape ``shape``
    """
    height, width = shape
    field = np.zeros(shape, np.float32)
    power, amplitude, spacing = 0.0, 1.0, float(largest)
    while spacing >= smallest:
        rows, cols = int(np.ceil(height / spacing)) + 4, int(np.ceil(width / spacing)) + 4
        knots = rng.standard_normal((rows, cols), np.float32)
        dx, dy = rng.uniform(1, 2, 2)
        to_knots = np.array([[1 / spacing, 0, dx], [0, 1 / spacing, dy]], np.float64)
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        field += amplitude * cv2.warpAffine(knots, to_knots, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT)
        power += amplitude**2
        amplitude *= persistence
        spacing /= 2
    # cubic interpolation of white knots keeps about half of their variance
    return field / np.float32(0.72 * np.sqrt(power))


def tile(rng: np.random.Generator, size: int, *, sigma: tuple[float, float] | float) -> np.ndarray:
    """Periodic tile of Gaussian noise with a correlation length.

    Parameters
    ----------
    rng : numpy Generator
    size : int
        Height and width in cells.
    sigma : float or (float, float)
        Standard deviation of the smoothing Gaussian in cells, along rows and columns.

    Returns
    -------
    ndarray of float32, shape (size, size)
        Mean 0, standard deviation 1; its edges fit together.
    """
    sy, sx = (sigma, sigma) if isinstance(sigma, int | float) else sigma
    white = np.fft.rfft2(rng.standard_normal((size, size)))
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    smooth = np.fft.irfft2(white * np.exp(-2 * np.pi**2 * ((sy * fy) ** 2 + (sx * fx) ** 2)), s=(size, size))
    smooth -= smooth.mean()
    return (smooth / smooth.std()).astype(np.float32)


def take(texture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values of a periodic tile at integer cell coordinates, wrapped around.

    Parameters
    ----------
    texture : ndarray, shape (size, size)
    y, x : ndarray of int
        Coordinates: of equal shapes, or a column and a row that span a grid.

    Returns
    -------
    ndarray, broadcast shape
    """
    y, x = np.mod(y, texture.shape[0]), np.mod(x, texture.shape[1])
    if y.ndim == 2 and y.shape[1] == 1 and x.shape[0] == 1:
        return texture[y[:, 0]][:, x[0]]
    return texture[y, x]


def blocks(rng: np.random.Generator, size: int, *, cell: float = 9.5) -> tuple[np.ndarray, np.ndarray]:
    """Periodic tile of jointed rock.

    Parameters
    ----------
    rng : numpy Generator
    size : int
        Height and width in cells.
    cell : float
        Mean diameter of a block in cells.

    Returns
    -------
    face, joint : ndarray of float32, shape (size, size)
        Brightness of the block, standard deviation 1; and 0..1, 1 on the joints between blocks.
    """
    count = round((size / cell) ** 2)
    seeds = rng.uniform(0, size, (count, 2))
    rows, cols = np.mgrid[0:size, 0:size] + 0.5
    distance, owner = cKDTree(seeds, boxsize=size).query(np.column_stack([cols.ravel(), rows.ravel()]), k=2)
    face = rng.standard_normal(count)[owner[:, 0]].reshape(size, size)
    joint = np.clip(1 - (distance[:, 1] - distance[:, 0]) / 1.6, 0, 1).reshape(size, size)
    return face.astype(np.float32), joint.astype(np.float32)
