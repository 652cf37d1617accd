"""Import folders of photographs and masks as chips: their sizes stay, and duplicates stay together."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rasterio.transform import Affine
from rasterio.windows import Window

from geo.atomic import atomic
from geo.errors import LabelError, RasterError
from geo.geobox import GeoBox
from geo.image import open_image
from geo.labels import BACKGROUND
from geo.orientation import SAME_SIZE, orientation, upright
from geo.progress import Progress, silent
from geo.raster import Encoding, open_raster
from geo.stream import stream
from models.chip_writer import ChipsWriter, NewChip
from models.copies import content
from models.mask_files import read_mask
from models.photo_files import Photograph, listed_in, paired, some_of

log = logging.getLogger(__name__)


def import_photographs(
    images: str | os.PathLike | None,
    masks: str | os.PathLike | None,
    output: str | os.PathLike,
    *,
    bands: Sequence[str] = ("red", "green", "blue"),
    grey: bool = False,
    negatives: str | os.PathLike | None = None,
    test_list: str | os.PathLike | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.0,
    negatives_test_fraction: float | None = None,
    seed: int = 0,
    black_px: int = 100,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a folder of chips.

    Parameters
    ----------
    images, masks : path or None
        Folders; an image and its mask have the same name but for the suffix. Masks are 0 and 1, or 0 and 255, or
        outlines drawn in Labelme (``.json``). None where there are only negatives.
    output : path
        Folder to make; it appears whole or not at all.
    bands : sequence of str
        Names of the bands, in the order of the files.
    grey : bool
        Chips have one band, ``grey``, worked out of red, green and blue.
    negatives : path, optional
        Folder of images without landslide, which have no masks.
    test_list : path, optional
        Text file with a name in each line: these are only tested on.
    val_fraction, test_fraction : float
        Shares drawn, by hashes of names, among those not in the list; the same of images and of negatives.
    negatives_test_fraction : float, optional
        Another share of the negatives that tests; 1 takes all of them for it.
    seed : int
        Another one draws others.
    black_px : int
        Areas of purely black pixels that touch the border and have at least as many pixels show no ground:
        they are not valid, see ``wedges``. 0 keeps them all.
    overwrite : bool
    threads : int, optional
    progress : callable

    Returns
    -------
    dict
        What ``chips.json`` holds.

    Raises
    ------
    LabelError
        A mask is missing, has other values or another size; a name of the list is unknown; an image is both
        among those with a mask and among the negatives.
    RasterError
        An image cannot be read, or has other bands.
    OutputExistsError, OutputError
    """
    pair = (Path(images), Path(masks)) if images and masks else None
    photographs = paired(pair, Path(negatives) if negatives else None)
    listed = listed_in(Path(test_list), photographs) if test_list else set()
    with atomic(output, overwrite=overwrite, folder=True, known_by="chips.json") as part:
        looked_at = progress(stream(_content, photographs, workers=threads), "Comparing images", len(photographs))
        contents, doubtful = {}, []
        for photograph, (digest, sized_alike) in looked_at:
            contents[photograph.id] = digest
            doubtful += [photograph.image.name] if sized_alike and photograph.mask else []
        if doubtful:
            log.warning(
                "%d images are turned or mirrored by their EXIF orientation, as viewers and Labelme show them, and no "
                "size tells whether their masks were drawn on what is seen; remove the tag where one was drawn on the "
                "pixels as stored: %s",
                len(doubtful),
                some_of(doubtful),
            )
        splits, moved, copies = deal(
            photographs,
            contents,
            listed,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            negatives_test_fraction=negatives_test_fraction,
            seed=seed,
        )
        empty = [splits[photograph.id] for photograph in photographs if photograph.mask is None]
        if empty and "test" not in empty and "test" in splits.values():
            log.warning(
                "none of the %d negatives is tested on, so false alarms on images without landslide will not be seen; "
                "give --negatives-test-fraction, or name some in the list",
                len(empty),
            )
        if copies:
            log.warning(
                "%d images are copies of others, perhaps turned or mirrored; copies stay in the split of the first",
                copies,
            )
        if moved:
            log.warning(
                "%d copies of images of the test list were not in it and are tested on too: %s",
                len(moved),
                some_of(moved),
            )
        writer = ChipsWriter(part, ["grey"] if grey else [band.lower() for band in bands], crs=None)

        def chips() -> Iterator[NewChip]:
            for photograph in progress(photographs, "Importing images", len(photographs)):
                yield _chip(photograph, splits[photograph.id], bands, grey, black_px)

        writer.write(chips(), workers=threads)
        return writer.finish(
            resolution_m=None,
            sources=[
                {
                    "image": str(images) if images else None,
                    "labels": str(masks) if masks else None,
                    "negatives": str(negatives) if negatives else None,
                    "test_list": str(test_list) if test_list else None,
                }
            ],
            split={
                "val_fraction": val_fraction,
                "test_fraction": test_fraction,
                "negatives_test_fraction": negatives_test_fraction,
                "seed": seed,
                "black_px": black_px,
            },
            copies=copies,
        )


def _content(photograph: Photograph) -> tuple[str, bool]:
    """Hash of the picture: copies have the same, also turned or mirrored; and whether only a tag tells how it lies."""
    with open_raster(photograph.image) as src:
        how = orientation(src)
        return content(src.read()), how in SAME_SIZE or (how > 1 and src.height == src.width)


def deal(
    photographs: Sequence[Photograph],
    contents: dict[str, str],
    listed: set[str],
    *,
    val_fraction: float,
    test_fraction: float,
    negatives_test_fraction: float | None = None,
    seed: int,
) -> tuple[dict[str, str], list[str], int]:
    """Deal photographs to the splits; those of one picture go together.

    Parameters
    ----------
    photographs : sequence of Photograph
    contents : dict
        Hash of the picture of each.
    listed : set of str
        Chips to be tested on.
    val_fraction, test_fraction : float
        Of the others.
    negatives_test_fraction : float, optional
        Of the negatives, where it is another.
    seed : int

    Returns
    -------
    splits : dict
        Split of each chip.
    moved : list of str
        Chips that are tested on only because a copy of theirs is.
    copies : int
        Chips whose picture an earlier one shows too.

    Raises
    ------
    LabelError
        One picture is there with a mask and as a negative.
    """
    groups: dict[str, list[Photograph]] = {}
    for photograph in photographs:
        groups.setdefault(contents[photograph.id], []).append(photograph)
    for group in groups.values():
        if len({photograph.mask is None for photograph in group}) > 1:
            raise LabelError(
                f"{some_of([str(p.image) for p in group])} show the same picture, once with a mask and once as a "
                "negative; keep one of them"
            )
    splits: dict[str, str] = {}
    moved: list[str] = []
    for kind in (False, True):
        free = []
        for group in (g for g in groups.values() if (g[0].mask is None) == kind):
            if any(p.id in listed for p in group):
                splits |= {p.id: "test" for p in group}
                moved += [p.id for p in group if p.id not in listed]
            else:
                free.append(group)
        free.sort(key=lambda group: hashlib.sha256(f"{seed} {min(p.id for p in group)}".encode()).digest())
        count = sum(map(len, free))
        wanted = {"val": round(val_fraction * count), "test": round(test_fraction * count)}
        if kind and negatives_test_fraction is not None:  # those who are not tested on validate by their share
            tested = round(negatives_test_fraction * count)
            wanted = {"val": round(val_fraction * (count - tested)), "test": tested}
        for group in free:
            split = next((name for name, left in wanted.items() if left > 0), "train")
            if split != "train":
                wanted[split] -= len(group)
            splits |= {p.id: split for p in group}
    return splits, moved, len(photographs) - len(groups)


def _chip(photograph: Photograph, split: str, bands: Sequence[str], grey: bool, black_px: int) -> NewChip:
    with open_image(photograph.image, bands) as image:
        height, width = image.shape
        whole = Window(0, 0, width, height)
        values, valid = image.read(whole)
        valid &= ~wedges(values, black_px)
        encoding, how = image.encoding, image.orientation
        if grey and "grey" not in image.available:
            raise RasterError(
                f"{photograph.image} has the bands {', '.join(image.bands)}; grey is worked out of red, green and "
                "blue: name them with --bands, or leave --grey away"
            )
        if grey:
            values, encoding = image.read(whole, ["grey"])[0], Encoding("float32", nodata=float("nan"))
    values, valid = upright(values, how), upright(valid, how)
    label = np.full(valid.shape, BACKGROUND, dtype=np.uint8)
    if photograph.mask is not None:
        label = _label(photograph, photograph.mask, valid.shape, how)
    return NewChip(
        id=photograph.id,
        split=split,
        source=photograph.image.name,
        values=np.where(valid, values, np.float32(np.nan)),
        label=label,
        good=valid,
        geobox=GeoBox(valid.shape, Affine.identity(), None),
        encoding=encoding,
    )


def _label(photograph: Photograph, mask: Path, shape: tuple[int, int], how: int) -> np.ndarray:
    """Label of an upright photograph; a mask that fits only the pixels as stored is turned with them."""
    stored = shape[::-1] if how >= 5 else shape

    def check(found: tuple[int, int]) -> None:
        if found not in (shape, stored):
            raise LabelError(
                f"{mask} has {found[0]} x {found[1]} pixels, its image {photograph.image} {shape[0]} x {shape[1]}; "
                "give masks of the size of their images"
            )

    label = read_mask(mask, check)
    return label if label.shape == shape else upright(label, how)


def wedges(values: np.ndarray, least_px: int) -> np.ndarray:
    """Areas of purely black pixels that touch the border, as warped images have beyond their ground.

    Black is 0 in all bands, or 1 in all, as tools make it that keep 0 for nodata. Deep shadow is a little
    brighter and not as even.

    Parameters
    ----------
    values : ndarray, shape (bands, height, width)
        Whole numbers.
    least_px : int
        Smaller areas are kept: shadows and black cars. 0 finds none.

    Returns
    -------
    ndarray of bool, shape (height, width)
    """
    black = (values == 0).all(axis=0) | (values == 1).all(axis=0)
    if not least_px or not black.any():
        return np.zeros(black.shape, dtype=bool)
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(black.view(np.uint8), connectivity=4)
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    large = np.flatnonzero(statistics[:, cv2.CC_STAT_AREA] >= least_px)
    chosen = [number for number in np.intersect1d(border, large) if number != 0]
    return np.isin(parts, chosen)
