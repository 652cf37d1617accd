"""Masks of photographs as labels: pictures of 0 and 1 or 255, or outlines drawn in Labelme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from geo.colour_table import seen_greys
from geo.errors import LabelError, RasterError
from geo.labels import UNKNOWN
from geo.orientation import orientation, upright
from geo.raster import open_raster
from models.labelme import labelme_mask

#: Outlines drawn in Labelme may take a mask's place.
LABELME = ".json"


def read_mask(path: Path, check: Callable[[tuple[int, int]], None] = lambda shape: None) -> np.ndarray:
    """Read the label that a mask or outlines give.

    Parameters
    ----------
    path : Path
    check : callable
        Raises where height and width are not those of the image; asked before the mask is read.

    Returns
    -------
    ndarray of uint8, shape (height, width)
        1 landslide or crack, 0 background, 255 where a mask is nodata.

    Raises
    ------
    LabelError
        Other values than 0 and 1, 0 and 255, or 0 and the highest of the type; colours, or a colour table that tells
        neither; or a mask that is drawn in the transparency only, of which nothing would be read.
    """
    return labelme_mask(path, check) if path.suffix.lower() == LABELME else _pixels(path, check)


def _pixels(path: Path, check: Callable[[tuple[int, int]], None]) -> np.ndarray:
    """Label of a mask file: 0, 1, or 255 where it is nodata."""
    with open_raster(path) as src:
        how = orientation(src)
        check(src.shape if how < 5 else src.shape[::-1])
        interp = src.colorinterp
        bands = [b for b, c in zip(src.indexes, interp, strict=True) if c != ColorInterp.alpha]
        alpha = [b for b, c in zip(src.indexes, interp, strict=True) if c == ColorInterp.alpha]
        stored = src.read(bands)
        clear = src.read(alpha[0]) if alpha else None
        nodata, greys = src.nodata, _greys(src)
    if clear is not None and (clear != clear.flat[0]).any() and (stored == stored.flat[0]).all():
        raise LabelError(
            f"{path} has one colour everywhere and differs only in its transparency (alpha); expected a mask of 0 and "
            "1, or 0 and 255: save it on an opaque black ground"
        )
    if (stored != stored[:1]).any():
        raise LabelError(f"{path} is a picture in colours; expected a mask of 0 and 1, or 0 and 255")
    values = stored[0]
    unknown = np.zeros(values.shape, dtype=bool) if nodata in (None, 0) else values == nodata
    if greys is not None:
        values = np.take(greys, values, mode="clip")
    found = np.unique(values[~unknown])
    # the highest value of the file's type says yes, as 255 does in bytes
    most = float(np.iinfo(values.dtype).max) if np.issubdtype(values.dtype, np.integer) else 1.0
    if not any(set(found) <= {0, yes} for yes in (1, 255, most)):
        shown = ", ".join(f"{v:g}" for v in found[:8]) + (" ..." if len(found) > 8 else "")
        if set(found) <= {0, 1, 255}:
            hint = "if 255 is what nobody knows, say so in the file: gdal_edit.py -a_nodata 255"
        else:
            hint = "a JPEG blurs masks: save them as PNG"
        raise LabelError(f"{path} holds the values {shown}; expected 0 and 1, or 0 and {max(255, most):g} ({hint})")
    return upright(np.where(unknown, UNKNOWN, values > 0).astype(np.uint8), how)


def _greys(src: rasterio.DatasetReader) -> np.ndarray | None:
    try:
        return seen_greys(src)
    except RasterError as error:  # it can be read, but is no label
        raise LabelError(str(error)) from None
