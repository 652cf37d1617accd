"""Alpha bands, which are left out of an image's bands: transparency, or what GDAL takes for it by its default.

Of four bands of bytes GDAL takes the fourth for alpha where nobody says otherwise, and that may be the infrared.
"""

from __future__ import annotations

import functools
import logging

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from geo.errors import RasterError
from geo.gdal_errors import CPLE_BaseError
from geo.windows import spread_windows

log = logging.getLogger(__name__)

#: Side and number along an axis of the windows that are looked at.
_SAMPLES = 128, 4
#: Distinct values, and the share between the lowest and the highest, over which a band is no transparency: that is all
#: or nothing, but for the rims of images that were joined or resampled.
_VALUES, _BETWEEN = 16, 0.2


def data_numbers(src: rasterio.DatasetReader) -> list[int]:
    """Numbers (from 1) of the bands but alpha; an alpha band that looks like a part of the image is told."""
    numbers = [number for number, colour in zip(src.indexes, _colours(src), strict=True) if colour != ColorInterp.alpha]
    if len(numbers) < src.count:
        _tell(src.name, doubt(src))
    return numbers


def doubt(src: rasterio.DatasetReader) -> str | None:
    """Sentence on an alpha band that looks like a part of the image, and how to say that it is; None without one."""
    colours = _colours(src)
    for number, name in zip(src.indexes, src.descriptions, strict=True):
        if colours[number - 1] != ColorInterp.alpha or not _holds_an_image(src, number):
            continue
        said = ",".join("undefined" if colour == ColorInterp.alpha else colour.name for colour in colours)
        return (
            f"band {number}{f' ({name})' if name else ''} is marked as alpha and left out, though it holds values "
            f"like an image's; if it is one, such as nir, say so: rio edit-info {src.name} --colorinterp {said}"
        )
    return None


def _colours(src: rasterio.DatasetReader) -> tuple[ColorInterp, ...]:
    """Tell what the bands are shown as; also where GDAL stumbles, once, over a sidecar that only we can read."""
    try:
        return src.colorinterp
    except CPLE_BaseError:
        try:
            return src.colorinterp
        except CPLE_BaseError as error:
            raise RasterError(
                f"{src.name} or a file beside it cannot be read ({error}); copy or download it again"
            ) from error


def _holds_an_image(src: rasterio.DatasetReader, number: int) -> bool:
    windows = spread_windows(Window(0, 0, src.width, src.height), *_SAMPLES)
    try:
        read = [src.read(number, window=window).ravel() for window in windows]
    except RasterioIOError:  # told where its pixels are needed
        return False
    values, counts = np.unique(np.concatenate(read), return_counts=True)
    return len(values) > _VALUES and counts[1:-1].sum() > _BETWEEN * counts.sum()


@functools.lru_cache(maxsize=256)  # once for each file, which is opened by many
def _tell(name: str, sentence: str | None) -> None:
    if sentence:
        log.warning("%s: %s", name, sentence)
