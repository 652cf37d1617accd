"""Cut a scene and its labels into chips, split by spatial blocks."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.windows import Window

from geo.atomic import atomic
from geo.errors import GridError, LabelError, RasterError
from geo.geobox import GeoBox
from geo.image import Image, open_image
from geo.labels import UNKNOWN, Area, Judged, Labels, open_labels, read_area, read_reviews
from geo.progress import Progress, silent
from geo.split import SPLITS, Blocks, Cell, blocks_of
from models.chip_writer import ChipsWriter, NewChip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cut:
    """How a scene is cut; the fields are those of the configuration's section ``tiling``.

    Attributes
    ----------
    size, overlap : int
        Pixels of a chip's side, and those shared by neighbours in a block.
    block_chips : int
    gap_m : float
    fractions : (float, float, float)
        Of blocks that train, validate and test.
    min_valid : float
        Least share of pixels of a chip that are valid and were seen.
    seed : int
    """

    size: int
    overlap: int
    block_chips: int
    gap_m: float
    fractions: tuple[float, float, float]
    min_valid: float
    seed: int

    def blocks(self, geobox: GeoBox) -> Blocks:
        """Blocks on the pixels of a scene."""
        settings = asdict(self)
        del settings["min_valid"]
        return blocks_of(geobox, **settings)


def tile(
    path: str | os.PathLike,
    output: str | os.PathLike,
    cut: Cut,
    *,
    labels: str | os.PathLike | None = None,
    labels_layer: str | None = None,
    reviews: Sequence[str | os.PathLike] = (),
    areas: str | os.PathLike | None = None,
    areas_layer: str | None = None,
    bands: Sequence[str] | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a folder of chips.

    Chips keep bands, encoding and tags of the image. What lies past its edge is nodata. Pixels that are not
    valid, or that the quality raster says were not seen, are labelled 255. Without labels all is 255; the
    chips are dealt to the splits all the same, so that labels that come later find the same split.

    Parameters
    ----------
    path : path
        An image with a projected CRS.
    output : path
        Folder to make; it appears whole or not at all.
    cut : Cut
    labels : path, optional
        Polygons or a raster, see ``geo.labels.open_labels``.
    labels_layer : str, optional
    reviews : sequence of path
        What persons judged (``geocrack ingest-review``); it stands above the labels. Chips of which nothing is known
        are left out.
    areas : path, optional
        Polygons; only chips that lie wholly inside are cut.
    areas_layer : str, optional
    bands : sequence of str, optional
        Names of the bands in the order of the file, where it does not tell them.
    overwrite : bool
    threads : int, optional
    progress : callable

    Returns
    -------
    dict
        What ``chips.json`` holds.

    Raises
    ------
    RasterError
        The image cannot be read, has unnamed bands, or too few valid pixels for a single chip.
    GridError
        The image has no projected CRS, or no chip fits into the areas.
    LabelError
        Labels or areas without CRS, elsewhere, or with unknown values; reviews of other scenes.
    OutputExistsError, OutputError
    """
    with ExitStack() as stack:
        image = stack.enter_context(open_image(path, bands))
        blocks = cut.blocks(image.geobox)
        area = read_area(areas, image.geobox, layer=areas_layer) if areas else None
        label = stack.enter_context(open_labels(labels, image.geobox, layer=labels_layer))
        judged = read_reviews(reviews, image) if reviews else None
        scene = list(blocks.chips(image.geobox))
        cells = [cell for cell in scene if area is None or area.holds(cell.window)]
        if not cells:
            raise GridError(
                f"no chip of {cut.size} x {cut.size} pixels lies wholly inside {areas}; give larger areas, a smaller "
                "--size, or more chips to a block"
            )
        part = stack.enter_context(atomic(output, overwrite=overwrite, folder=True, known_by="chips.json"))
        writer = ChipsWriter(part, image.bands, _crs_name(image.geobox))
        reader = _Reader(image, label, judged, cut.min_valid, scene[0].block)
        writer.write(reader.chips(progress(cells, "Cutting chips", len(cells)), blocks), workers=threads)
        if not reader.taken and reader.unknown:
            raise LabelError(
                f"no chip of {image.path} that is valid to {100 * cut.min_valid:.0f} % shows ground that was judged in "
                f"{', '.join(map(str, reviews))}; judge more features, or give a lower --min-valid"
            )
        if not reader.taken:
            raise _nothing_valid(image.path, reader.best_share, cut.min_valid, area)
        content = writer.finish(
            resolution_m=round(float(np.sqrt(abs(image.geobox.affine.determinant)) * _metres(image.geobox)), 6),
            sources=[_source(image, labels, areas) | ({"reviews": [str(r) for r in reviews]} if reviews else {})],
            tiling={**asdict(cut), "gap_px": list(blocks.gap)},
            left_out=reader.left_out,
            labels=label.findings if labels else None,
            **({"unknown": reader.unknown} if reviews else {}),
        )
    if not reviews:  # they are few, and join the chips of whole scenes
        _warn(content, cut, labelled=labels is not None)
    return content


class _Reader:
    """Read the chips of a scene one after the other and count what is left out."""

    def __init__(
        self, image: Image, labels: Labels, judged: Judged | None, min_valid: float, first_block: tuple[int, int]
    ):
        self._image, self._labels, self._judged = image, labels, judged
        self._min_valid, self._first = min_valid, first_block
        self._prefix = re.sub(r"[^A-Za-z0-9_.-]+", "_", image.name)
        self.taken = self.left_out = self.unknown = 0
        self.best_share = 0.0

    def chips(self, cells: Iterable[Cell], blocks: Blocks) -> Iterator[NewChip]:
        image = self._image
        for cell in cells:
            window = cell.window
            values, valid = image.read(window)
            good = valid & image.seen(window)
            share = float(good.mean())
            self.best_share = max(self.best_share, share)
            if share < self._min_valid or share == 0:
                self.left_out += 1
                continue
            label = np.where(good, self._label(window), UNKNOWN).astype(np.uint8)
            if self._judged is not None and (label == UNKNOWN).all():
                self.unknown += 1
                continue
            self.taken += 1
            yield NewChip(
                id=f"{self._prefix}_{self._number(cell, blocks)}",
                split=cell.split,
                source=image.name,
                values=values,
                label=label,
                good=good,
                geobox=_grid_of(image.geobox, window),
                encoding=image.encoding,
                tags=image.tags,
            )

    def _label(self, window: Window) -> np.ndarray:
        label = self._labels.read(window)
        return label if self._judged is None else self._judged.over(label, window)

    def _number(self, cell: Cell, blocks: Blocks) -> str:
        """Row and column of a chip among all that meet the scene."""
        return "_".join(
            f"{letter}{(block - first) * blocks.block_chips + chip:03d}"
            for letter, block, first, chip in zip("rc", cell.block, self._first, cell.chip, strict=True)
        )


def _grid_of(geobox: GeoBox, window: Window) -> GeoBox:
    """Grid of a window, which may reach past the scene."""
    affine = geobox.affine @ Affine.translation(window.col_off, window.row_off)
    return GeoBox((window.height, window.width), affine, geobox.crs)


def _crs_name(geobox: GeoBox) -> str | None:
    """``EPSG:32648``, or WKT where the CRS has no code."""
    crs = geobox.crs
    return None if crs is None else (f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt())


def _metres(geobox: GeoBox) -> float:
    """Metres in a unit of the CRS."""
    crs = geobox.crs
    return crs.proj.axis_info[0].unit_conversion_factor if crs else 1.0


def _source(image: Image, labels: object, areas: object) -> dict[str, str | None]:
    return {
        "image": str(image.path),
        "name": image.name,
        "labels": str(labels) if labels else None,
        "areas": str(areas) if areas else None,
    }


def _nothing_valid(path: Path, best_share: float, min_valid: float, area: Area | None) -> RasterError:
    where = " inside the areas" if area else ""
    if not best_share:
        return RasterError(
            f"{path} has no valid pixel{where}: all is nodata, cloud or shadow; expected an image with data"
        )
    return RasterError(
        f"{path} has no chip{where} of which {100 * min_valid:.0f} % is valid (the best has {100 * best_share:.0f} %); "
        "give a lower --min-valid or a smaller --size"
    )


def _warn(content: dict[str, Any], cut: Cut, *, labelled: bool) -> None:
    """Say what makes a training on these chips fail or flatter."""
    counts = content["counts"]
    for name, fraction in zip(SPLITS, cut.fractions, strict=True):
        if fraction > 0 and not counts[name]["chips"]:
            log.warning(
                "no chip is of the split '%s', of which %.0f %% was wanted: the ground holds too few blocks; give a "
                "smaller --size, --block-chips 1, or another --seed",
                name,
                100 * fraction,
            )
    if labelled and counts["train"]["chips"] and not counts["train"]["landslide_pixels"]:
        log.warning("no training chip shows a landslide; check that labels and image are of one place and date")
