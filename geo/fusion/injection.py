"""The form that most pan-sharpening methods have: what PAN shows beyond a low-pass image of it goes into every band.

With interpolated bands ``M_b``, PAN ``P`` and a low-pass image ``L``, which is made of the bands or is PAN blurred::

    L   = c + sum_b w_b M_b             (1)   or P_L
    F_b = M_b + g_b (P - L)             (2)   with gains,
    F_b = M_b (P / L)                   (3)   without

In (3) the ratio is ``max(0, 1 + (P - L) / max(L, floor))``: the same where ``L`` is over the floor, continuous below.
A method that is given in this form is computed in one compiled pass from MSS to the numbers on disk
(``geo.kernels.inject``); what is here is the same in NumPy, for samples and tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo import kernels
from geo.encoding import Encoding


@dataclass(frozen=True)
class Injection:
    """A method, for one scene.

    Attributes
    ----------
    weights : ndarray of float, shape (bands,), optional
        ``w_b`` of (1); None takes PAN blurred.
    constant : float
        ``c`` of (1).
    gains : ndarray of float, shape (bands,), optional
        ``g_b`` of (2); None is the ratio (3).
    floor : float
        Of (3); positive.
    """

    weights: np.ndarray | None = None
    constant: float = 0.0
    gains: np.ndarray | None = None
    floor: float = 0.0

    def __call__(self, mss: np.ndarray, pan: np.ndarray, pan_low: np.ndarray) -> np.ndarray:
        """Sharpen a window; parameters and result as of ``geo.fusion.Fuse``."""
        low = pan_low
        if self.weights is not None:  # band by band: a matrix product would start threads of its own
            low = np.full(pan.shape, self.constant, np.float32)
            for band, weight in zip(mss, self.weights, strict=True):
                low += band * np.float32(weight)
        detail = pan - low
        if self.gains is not None:
            return mss + self.gains.astype(np.float32)[:, None, None] * detail
        return mss * np.maximum(1 + detail / np.maximum(low, np.float32(self.floor)), np.float32(0))

    def stored(
        self,
        mss: np.ndarray,
        col: np.ndarray,
        row: np.ndarray,
        pan: np.ndarray,
        pan_low: np.ndarray,
        encoding: Encoding,
    ) -> np.ndarray:
        """Interpolate, sharpen and encode a window in one compiled pass.

        Parameters
        ----------
        mss : ndarray of float32, shape (bands, rows, cols)
            All of it good.
        col, row : ndarray of float, shapes (width,) and (height,)
            Where the window's columns and rows lie in ``mss``, counted from the centre of the first pixel.
        pan : ndarray of float32, shape (height, width)
            NaN where not good.
        pan_low : ndarray of float32, shape (height, width)
            Looked at where there are no weights.
        encoding : Encoding
            Of integers.

        Returns
        -------
        ndarray of the encoding's dtype, shape (bands, height, width)
        """
        low, high = encoding.limits
        stored = np.empty((len(mss), *pan.shape), encoding.dtype)
        kernels.inject(
            np.ascontiguousarray(mss),
            *kernels.cubic_weights(col),
            *kernels.cubic_weights(row),
            pan,
            pan_low,
            _numbers(self.weights),
            np.float32(self.constant),
            _numbers(self.gains),
            np.float32(self.floor),
            np.float32(encoding.scale),
            np.float32(encoding.offset),
            np.float32(low),
            np.float32(high),
            stored.dtype.type(encoding.nodata or 0),
            stored,
        )
        return stored


def _numbers(values: np.ndarray | None) -> np.ndarray:
    return np.zeros(0, np.float32) if values is None else values.astype(np.float32)
