"""Which pixels of a raster are crack: masks of 0 and 1 or 255, grey pictures of masks, probability."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from geo.colour_table import seen_greys
from geo.errors import RasterError
from geo.raster import open_raster, read
from geo.windows import blocks, clip, grow, slices

log = logging.getLogger(__name__)

#: Probability from which a pixel is crack, where neither the user nor the raster's tag tells another.
THRESHOLD = 0.5
#: A probability may exceed 1 by rounding.
_ONE = 1.001
_UNKNOWN = 255
#: Holes of at most so many pixels are closed, or each would become a ring of centre lines.
PINHOLE_PX = 8
_BLOCK = 2048


class CrackMask:
    """An opened crack mask; safe to read from several threads. Made by ``open_mask``.

    Attributes
    ----------
    shape : (int, int)
        Height and width in pixels.
    threshold : float or None
        Probability from which a pixel is crack; None where the raster holds only yes and no.
    dataset : rasterio dataset
        To ask for its place; not for its pixels, for a dataset may be read by one thread at a time.
    """

    def __init__(self, src: rasterio.DatasetReader, threshold: float | None):
        self.dataset, self._lock = src, threading.Lock()
        self.shape: tuple[int, int] = src.shape
        bands = [b for b, c in zip(src.indexes, src.colorinterp, strict=True) if c != ColorInterp.alpha]
        self._band = bands[0]
        self._greys = seen_greys(src)
        told = src.tags().get("GEOCRACK_THRESHOLD")
        try:
            wanted = threshold if threshold is not None else float(told) if told else THRESHOLD
        except ValueError:
            raise RasterError(
                f"{src.name} has the tag GEOCRACK_THRESHOLD '{told}'; expected a number: give --threshold"
            ) from None
        # zeros that are tagged as nodata are the background of a mask, not ground that nobody has seen
        self._zero_is_known = np.issubdtype(src.dtypes[self._band - 1], np.integer) and src.nodata == 0
        self._unknown: int | None = None
        self.threshold: float | None = wanted
        self._level = wanted
        if _is_probability(src, self._band):
            if len(bands) > 1:
                raise _bands(src, len(bands))
            self._highest = _ONE
        else:
            self._take_stored(bands, wanted)

    def _take_stored(self, bands: list[int], wanted: float) -> None:
        """Find out from its values what a raster of plain integers means."""
        src = self.dataset
        dtype = np.dtype(src.dtypes[self._band - 1] if self._greys is None else self._greys.dtype)
        found: set[int] = set()
        many = False
        self._check_alpha(bands)
        for window in blocks(src.shape, _BLOCK):
            values, valid = self._values(window, bands)
            if (values[1:][:, valid] != values[:1][:, valid]).any():
                raise RasterError(
                    f"{src.name} is a picture in colours; expected a mask of one band, or a probability: "
                    "find its cracks first with `geocrack predict`"
                )
            found |= {int(v) for v in np.unique(values[0][valid])}
            many = len(found) > 256
            if many:
                break
        self._highest = float(np.iinfo(dtype).max)
        if found <= {0, 1, _UNKNOWN} and 1 in found:
            self._unknown = _UNKNOWN
            self._level, self.threshold = 1, None
        elif dtype in (np.uint8, np.uint16) and (not many or dtype == np.uint16):
            self._level = max(wanted * np.iinfo(dtype).max, 1e-6)  # 0 is no crack, whatever the threshold
            if found <= {0, int(np.iinfo(dtype).max)}:
                self.threshold = None
            elif not many and max(found, default=0) < self._level:
                log.warning(
                    "%s holds values up to %d, which is %.2f of the largest %s: no pixel reaches the threshold %.2f",
                    src.name,
                    max(found),
                    max(found) / np.iinfo(dtype).max,
                    dtype,
                    wanted,
                )
        elif found <= {0, _UNKNOWN}:
            self._level, self.threshold = 1, None
        else:
            shown = ", ".join(map(str, sorted(found)[:6])) + (" ..." if len(found) > 6 else "")
            raise RasterError(
                f"{src.name} holds the values {shown} as {dtype}; expected a mask of 0 and 1 or 255, or a probability "
                "from 0 to 1: make one of it first"
            )

    def _values(self, window: Window, bands: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Values of a window, of a colour table its greys, and where they are good."""
        values, valid = read(self.dataset, window, bands=bands)
        if self._greys is not None:
            numbers = np.where(valid, values, 0).astype(np.int64)
            values = np.where(valid, np.take(self._greys, numbers, mode="clip"), np.float32(np.nan))
        return values, valid

    def _check_alpha(self, bands: list[int]) -> None:
        """Raise where the mask is drawn in the transparency: what is not opaque would be taken for not known."""
        src = self.dataset
        alpha = [b for b, c in zip(src.indexes, src.colorinterp, strict=True) if c == ColorInterp.alpha]
        if not alpha:
            return
        colours: set[int] = set()
        clear: set[int] = set()
        for window in blocks(src.shape, _BLOCK):
            colours |= {int(v) for v in np.unique(src.read(bands, window=window))}
            clear |= {int(v) for v in np.unique(src.read(alpha[0], window=window))}
            if len(colours) > 1:
                return
        if len(clear) > 1:
            raise RasterError(
                f"{src.name} has one colour everywhere and differs only in its transparency (alpha); expected a mask "
                "of 0 and 1, or 0 and 255: save it on an opaque black ground"
            )

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Where cracks are, and where that is known.

        Parameters
        ----------
        window : Window
            May reach past the raster, where nothing is known.

        Returns
        -------
        crack, known : ndarray of bool, shape (height, width)
            Pinholes are closed.
        """
        wide = grow(window, PINHOLE_PX + 1)
        crack, known = self._marked(wide)
        inner = slices(window, wide)
        return np.ascontiguousarray(close_pinholes(crack, known)[inner]), np.ascontiguousarray(known[inner])

    def _marked(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Crack and known as the raster has them."""
        with self._lock:
            values, valid = self._values(window, [self._band])
            self._check_finite(window)
        known = valid
        if self._zero_is_known:
            inside = clip(window, self.shape)
            known = np.zeros_like(valid)
            if inside.width and inside.height:
                known[slices(inside, window)] = True
        if self._unknown is not None:
            known = known & (values[0] != self._unknown)
        with np.errstate(invalid="ignore"):
            if (values[0][valid] > self._highest).any():
                raise RasterError(
                    f"{self.dataset.name} holds values up to {values[0][valid].max():g}; expected a probability from 0 "
                    "to 1, or a mask of whole numbers"
                )
            crack = valid & known & (values[0] >= self._level)
        return crack, known

    def _check_finite(self, window: Window) -> None:
        """Raise where values are infinite, which reads as not known: a broken probability, not an unseen place."""
        src, inside = self.dataset, clip(window, self.shape)
        nodata = src.nodatavals[self._band - 1]
        if not np.issubdtype(src.dtypes[self._band - 1], np.floating) or (nodata is not None and np.isinf(nodata)):
            return
        if inside.width and inside.height and np.isinf(src.read(self._band, window=inside)).any():
            raise RasterError(
                f"{src.name} holds infinite values; expected a probability from 0 to 1, or NaN where nothing is known"
            )


def _is_probability(src: rasterio.DatasetReader, band: int) -> bool:
    floating = np.issubdtype(src.dtypes[band - 1], np.floating)
    return bool(floating or src.scales[band - 1] != 1 or src.offsets[band - 1] != 0)


def _bands(src: rasterio.DatasetReader, number: int) -> RasterError:
    return RasterError(
        f"{src.name} has {number} bands; expected one band, a mask or a probability as `geocrack predict` writes"
    )


def close_pinholes(crack: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mask without its pinholes: known background of at most ``PINHOLE_PX`` pixels, joined by edges, inside of it."""
    if not crack.any():
        return crack
    _, parts, statistics, _ = cv2.connectedComponentsWithStats((~crack).view(np.uint8), connectivity=4)
    small = statistics[:, cv2.CC_STAT_AREA] <= PINHOLE_PX
    small[0] = False
    small[np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])] = False
    if not small.any():
        return crack
    return crack | (small[parts] & known)


@contextmanager
def open_mask(path: str | os.PathLike, threshold: float | None = None) -> Iterator[CrackMask]:
    """Open a raster as a crack mask.

    Parameters
    ----------
    path : path
        One band (or equal ones, as masks are often saved): 0 and 1, where 255 is not known; 0 and 255, or greys
        between them, which are divided by the largest number of their type; or a probability (floating point, or
        integers with a scale), by name ``geocrack predict``'s output.
    threshold : float, optional
        Probability from which a pixel is crack; by default the raster's tag ``GEOCRACK_THRESHOLD``, else 0.5.

    Yields
    ------
    CrackMask

    Raises
    ------
    RasterError
        It cannot be read, is a picture in colours, or holds values of another kind.
    """
    with open_raster(path) as src:
        yield CrackMask(src, threshold)
