"""How far a single threshold gets: the world must not be separable by colour alone."""

from __future__ import annotations

import numpy as np


def best_threshold_f1(feature: np.ndarray, truth: np.ndarray) -> tuple[float, float, str]:
    """Best F1 that any threshold on a feature reaches, on either side, knowing the truth.

    Parameters
    ----------
    feature : ndarray of float
        One number per pixel.
    truth : ndarray of bool, same shape

    Returns
    -------
    f1, threshold : float
    side : str
        ``">"`` or ``"<"``: where landslides are said to be.
    """
    low, high = np.percentile(feature, [0.01, 99.99])
    edges = np.linspace(low, high, 2001)
    inside = np.histogram(np.clip(feature[truth], low, high), edges)[0].astype(float)
    outside = np.histogram(np.clip(feature[~truth], low, high), edges)[0].astype(float)
    best = (0.0, float(low), ">")
    for side, step in ((">", -1), ("<", 1)):
        hits, false = np.cumsum(inside[::step]), np.cumsum(outside[::step])
        f1 = 2 * hits / np.maximum(inside.sum() + hits + false, 1)
        at = int(np.argmax(f1))
        if f1[at] > best[0]:
            threshold = edges[::step][at + 1]
            best = (float(f1[at]), float(threshold), side)
    return best


def threshold_oracle(reflectance: np.ndarray, truth: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """Best F1 of thresholds on NDVI and on brightness.

    Parameters
    ----------
    reflectance : ndarray of float32, shape (4, height, width)
        blue, green, red, nir at the top of the atmosphere, without noise.
    truth : ndarray of bool, shape (height, width)
    where : ndarray of bool
        Ground that counts.

    Returns
    -------
    dict
        F1 by name of the feature.
    """
    blue, green, red, nir = (band[where] for band in reflectance)
    mine = truth[where]
    features = {
        "ndvi": (nir - red) / (nir + red),
        "brightness": (blue + green + red) / 3,
        "red": red,
        "nir": nir,
    }
    return {name: round(best_threshold_f1(f, mine)[0], 4) for name, f in features.items()}
