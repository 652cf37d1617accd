"""From tiles of an image to finished rows of probability: rows of windows, seen by the models and blended."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing

import numpy as np
from rasterio.windows import Window

from geo.borders import Borders
from geo.encoding import Encoding
from geo.image import Image
from geo.labels import Area
from geo.stream import stream
from geo.windows import clip, slices
from models.predict.blending import Answer, Blender
from models.predict.grid import Windows, mirrored
from models.predict.members import Ensemble
from models.predict.strips import Strip, Tile

#: A row of windows and first columns of some of its windows, with their tiles; None where nothing is wanted.
Batch = tuple[tuple[int, Sequence[int]], list[Tile | None]]


def read_tile(
    image: Image, bands: Sequence[str], area: Area | None, window: Window, borders: Borders | None = None
) -> Tile | None:
    """Input of a window; None where nothing in it is wanted."""
    inside = clip(window, image.shape)
    wanted = image.seen(window)
    if area is not None:
        wanted &= area.read(window)
    if not wanted.any():
        return None
    height, width = image.shape
    rows = mirrored(window.row_off, window.height, height)
    columns = mirrored(window.col_off, window.width, width)
    top, left = rows.min(), columns.min()
    part = Window(int(left), int(top), int(columns.max() - left) + 1, int(rows.max() - top) + 1)
    values, valid = image.read(part, [band.lower() for band in bands])
    if borders is not None:
        empty = borders.mask(values, part)
        valid &= ~empty
        values[:, empty] = np.nan
    at = slices(inside, window)
    wanted[at] &= valid[slices(inside, part)]
    if not wanted.any():
        return None
    if (part.height, part.width) != (window.height, window.width) or part != inside:
        values = values[:, (rows - top)[:, None], columns - left]
    return Tile(window, values, wanted)


def blend(
    batches: Iterable[Batch],
    ensemble: Ensemble,
    windows: Windows,
    shape: tuple[int, int],
    rows: range,
    *,
    encoding: Encoding,
    threshold: float,
    workers: int = 1,
) -> Generator[Strip]:
    """Run the models on batches and give rows as soon as no window adds to them any more.

    Sums begin ``windows.lead`` rows of windows before those asked for and grow in the order of the windows, so
    that rows come out the same to the last bit wherever a run begins.

    Parameters
    ----------
    batches : iterable
        From ``windows.lead`` rows of windows before ``rows``, or from the first row, on.
    ensemble : Ensemble
    windows : Windows
    shape : (int, int)
        Of the image.
    rows : range
        Rows of windows to finish.
    encoding : Encoding
        Of the strips.
    threshold : float
        Only for the tally.
    workers : int
        Batches that the models see at the same time.

    Yields
    ------
    Strip
    """
    blender = Blender(ensemble.size > 1, windows, shape, rows, encoding, threshold)

    def answer(batch: Batch) -> tuple[list[Tile], Answer | None]:
        there = [tile for tile in batch[1] if tile is not None]
        return there, ensemble.answer(np.stack([tile.values for tile in there])) if there else None

    with closing(stream(answer, batches, workers=workers)) as answers:
        for ((row, _), tiles), (there, answered) in answers:
            if (strip := blender.add(row, len(tiles), there, answered)) is not None:
                yield strip
    if (strip := blender.finish()) is not None:
        yield strip
