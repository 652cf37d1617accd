"""Whole-scene inference: a grid of windows, their answers blended to rows, blocks of rows kept and joined."""

from models.predict.grid import Windows
from models.predict.scene import predict

__all__ = ["Windows", "predict"]
