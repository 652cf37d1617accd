"""Outlines drawn in Labelme as masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from geo.errors import LabelError

#: Parts of a pixel that OpenCV keeps when it fills an outline.
_BITS = 4
#: Pixels from the corner of an image beyond which a point is damage: nobody clicks there, and OpenCV counts in 32 bits.
_FAR = 1 << 20


def labelme_mask(path: Path, check: Callable[[tuple[int, int]], None] = lambda shape: None) -> np.ndarray:
    """Fill the outlines of a Labelme file: polygons, rectangles, circles, and lines as wide as drawn (one pixel).

    Every shape counts, whatever its label says, but those labelled ``background``, which are cut out again in the order
    of the file. Shapes with fewer points than they need are passed over, as Labelme leaves them when one stops drawing.

    Parameters
    ----------
    path : Path
        As Labelme saves it, with ``shapes``, ``imageHeight`` and ``imageWidth``.
    check : callable
        Raises where height and width are not those of the image; asked before a mask of this size is made.

    Returns
    -------
    ndarray of uint8, shape (imageHeight, imageWidth)
        1 inside a shape, 0 elsewhere.

    Raises
    ------
    LabelError
        The file is damaged, lacks an element, holds a kind of shape that has no area, or a point far from the image.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors mark UTF-8
        shape = int(content["imageHeight"]), int(content["imageWidth"])
        if min(shape) < 1:
            raise ValueError(f"an image of {shape[0]} x {shape[1]} pixels")
        outlines = [(str(s["label"]), str(s.get("shape_type") or "polygon"), _points(s)) for s in content["shapes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise LabelError(
            f"{path} cannot be read as outlines of Labelme ({reason}); expected shapes, imageHeight and imageWidth: "
            "save it again in Labelme"
        ) from None
    check(shape)
    mask = np.zeros(shape, np.uint8)
    for label, kind, points in outlines:
        _draw(mask, kind, points, 0 if label.lower() == "background" else 1, path)
    return mask


def _points(shape: dict[str, Any]) -> np.ndarray:
    points = np.asarray(shape["points"], dtype=float).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("a point is no number")
    if (np.abs(points) > _FAR).any():
        raise ValueError(f"a point at {np.abs(points).max():g}, far outside of any image")
    return points


def _draw(mask: np.ndarray, kind: str, points: np.ndarray, value: int, path: Path) -> None:
    least = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2}
    if kind not in least:
        raise LabelError(
            f"{path} holds a shape of the kind '{kind}'; expected {', '.join(least)}: "
            "outline what is meant, or remove it"
        )
    if len(points) < least[kind]:
        return
    # Labelme counts from the corner of the first pixel, OpenCV from its centre
    fixed = np.rint((points - 0.5) * 2**_BITS).astype(np.int32)
    if kind == "circle":
        radius = round(float(np.hypot(*(points[1] - points[0]))) * 2**_BITS)
        cv2.circle(mask, fixed[0].tolist(), radius, value, cv2.FILLED, shift=_BITS)
    elif kind == "rectangle":
        (left, top), (right, bottom) = np.sort(fixed[:2], axis=0)
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.int32)
        cv2.fillPoly(mask, [corners], value, shift=_BITS)
    elif kind == "polygon":
        cv2.fillPoly(mask, [fixed], value, shift=_BITS)
    else:
        cv2.polylines(mask, [fixed], False, value, 1, shift=_BITS)
