"""What all readers of product folders need: its files, and the size of an image that may be damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rasterio

from geo.errors import ProductError, RasterError
from geo.raster import damaged_end, open_raster
from geo.sensors.scene import data_bands

if TYPE_CHECKING:
    from geo.sensors.metadata import Metadata

#: What to do about a product that is torn.
AGAIN = "copy or download the product again"
_LARGEST_TEXT = 64_000_000
_LARGEST_SIDE = 1_000_000
#: Products lie at most so many folders deep in what a user gives.
_DEPTH = 2


def files(product: Path) -> Iterator[Path]:
    """Files in a folder and two folders deeper, without hidden ones, in order of name."""
    for folder, deeper, names in os.walk(product):
        deeper.sort()
        if len(Path(folder).relative_to(product).parts) >= _DEPTH:
            deeper.clear()
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def text(file: Path, what: str) -> bytes:
    """Content of a small file beside an image.

    Parameters
    ----------
    file : Path
    what : str
        What is expected in it, for messages.

    Raises
    ------
    ProductError
        No such file, empty, or too large for what it should be.
    """
    try:
        length = file.stat().st_size
        if length > _LARGEST_TEXT:
            raise ProductError(f"{file} has {length / 1e6:.0f} MB; expected {what}, a few kB: {AGAIN}")
        content = file.read_bytes()
    except FileNotFoundError:
        raise ProductError(f"{file} does not exist; expected {what}: {AGAIN}") from None
    except OSError as error:
        raise ProductError(f"{file} cannot be read ({error.strerror}); expected {what}: {AGAIN}") from error
    if not content.strip():
        raise ProductError(f"{file} is empty ({len(content)} bytes); expected {what}: {AGAIN}")
    return content


def size(
    image: Path, text: Metadata, height: str, width: str, bands: Sequence[str], warnings: list[str]
) -> tuple[int, int]:
    """Height and width in pixels: the image's own where it opens, else those of the metadata.

    Parameters
    ----------
    image : Path
    text : Metadata
    height, width : str
        Names of their elements.
    bands : sequence of str
        Those that the sensor has; another number is told here, and refused when the image is read.
    warnings : list of str
        Receives what was found odd.

    Raises
    ------
    ProductError
        The image does not open, and the metadata does not tell.
    """
    rows, columns = (text.number(name, 1, _LARGEST_SIDE) for name in (height, width))
    told = (int(rows), int(columns)) if rows and columns else None
    try:
        # only the image: GDAL stumbles over damaged files beside it
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), open_raster(image) as src:
            real = (src.height, src.width)
            try:
                data_bands(src, bands)
            except RasterError as error:
                warnings.append(f"{str(error).replace(src.name, image.name)}; as it is, it cannot be calibrated")
            damage = damaged_end(src)
            if damage:
                warnings.append(damage)
    except RasterError as error:
        if told is None:
            raise text.missing(f"{width} and {height}", "the image's size, as it cannot be opened") from error
        warnings.append(str(error).replace(str(image), image.name))
        return told
    if told not in (None, real):
        warnings.append(
            f"{image.name} has {real[1]} x {real[0]} pixels, its XML says {told[1]} x {told[0]}; the image is believed"
        )
    return real
