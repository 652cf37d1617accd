"""Pictures as PNG."""

from __future__ import annotations

import cv2
import numpy as np


def png(picture: np.ndarray) -> bytes:
    """Encode a picture of uint8, shape (height, width) or (height, width, 3 or 4), blue first."""
    return cv2.imencode(".png", picture)[1].tobytes()
