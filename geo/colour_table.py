"""Masks with a colour table: whether their numbers mean what they are, or the colours that people see."""

from __future__ import annotations

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from geo.errors import RasterError
from geo.windows import blocks

_BLOCK = 2048
_BLACK = (0, 0, 0)


def seen_greys(src: rasterio.DatasetReader) -> np.ndarray | None:
    """Grey level of each number of a mask's colour table; None where the numbers stand as they are.

    Tools number colours as they like: of a black and white mask 0 may be white. So a table of greys is looked through.
    Where 0 is black and other numbers are colours (Pascal VOC and its like), numbers are those of classes.

    Parameters
    ----------
    src : rasterio dataset
        An opened raster; only the entries that its pixels use count.

    Returns
    -------
    ndarray of uint8, shape (numbers,), or None
        None too where there is no colour table.

    Raises
    ------
    RasterError
        The table says neither: 0 is not black and there are colours, or all numbers have one colour.
    """
    if src.colorinterp[0] != ColorInterp.palette:
        return None
    try:
        table = src.colormap(1)
    except ValueError:  # marked as one that has a table, which it lacks
        return None
    used = _used(src)
    entries = {number: table.get(number) for number in used}
    black = table.get(0, ())[:3] == _BLACK
    others = [entry for number, entry in entries.items() if number]
    if all(entry is not None and _grey(entry) for entry in entries.values()):
        if black and used <= {0, 1} and all(entry[:3] != _BLACK for entry in others if entry):
            return None  # the same where 1 is white, and a yes where it is some grey
        if len(used) < 2 or len({entry[:3] for entry in entries.values() if entry}) > 1:
            greys = np.zeros(max(table) + 1, np.uint8)
            for number, entry in table.items():
                greys[number] = entry[0]
            return greys
    elif black and all(entry is None or entry[:3] != _BLACK for entry in others):
        return None
    shown = ", ".join(f"{number} is {_told(entry)}" for number, entry in sorted(entries.items())[:4])
    raise RasterError(
        f"{src.name} has a colour table that does not tell what is marked ({shown}{', ...' if len(used) > 4 else ''}); "
        "expected black and white, or black for 0 and colours for the others: save the mask as grey levels, 0 and 255"
    )


def _used(src: rasterio.DatasetReader) -> set[int]:
    """Numbers of the pixels but nodata; zeros tagged as nodata are the background of a mask."""
    found: set[int] = set()
    for window in blocks(src.shape, _BLOCK):
        found |= {int(number) for number in np.unique(src.read(1, window=window))}
    return found - ({src.nodata} if src.nodata else set())


def _grey(entry: tuple[int, ...]) -> bool:
    """Whether an entry is an opaque grey, or black."""
    red, green, blue, alpha = entry
    return red == green == blue and (alpha == 255 or red == 0)


def _told(entry: tuple[int, ...] | None) -> str:
    if entry is None:
        return "missing"
    if entry[3] == 0:
        return "transparent"
    red, green, blue, _ = entry
    return {_BLACK: "black", (255, 255, 255): "white"}.get((red, green, blue), f"#{red:02x}{green:02x}{blue:02x}")
