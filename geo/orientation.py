"""Photographs as people see them: turned and mirrored by their EXIF tag, as viewers and Labelme do."""

from __future__ import annotations

import numpy as np
import rasterio

#: Orientations that leave height and width, so that no size tells whether something was drawn on the turned picture.
SAME_SIZE = (2, 3, 4)


def orientation(src: rasterio.DatasetReader) -> int:
    """How a photograph lies in its file: the EXIF tag 0x0112 of a JPEG, 1 (upright) to 8.

    What has a place on the ground is never turned: there the transform says where its pixels lie.
    """
    told = src.tags().get("EXIF_Orientation", "").strip()
    return int(told) if told in tuple("12345678") and src.transform.is_identity else 1


def upright(pixels: np.ndarray, how: int) -> np.ndarray:
    """Turn pixels as their EXIF orientation asks for.

    Parameters
    ----------
    pixels : ndarray, shape (..., height, width)
    how : int
        See ``orientation``.

    Returns
    -------
    ndarray
        Of orientation 5 to 8 with height and width exchanged.
    """
    if how >= 5:
        pixels = np.swapaxes(pixels, -1, -2)
    if how in (3, 4, 7, 8):
        pixels = pixels[..., ::-1, :]
    if how in (2, 3, 6, 7):
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels)
