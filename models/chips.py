"""Chips on disk: small images with their labels, an index, and statistics of the bands.

A folder of chips holds ``images/<id>.tif``, ``labels/<id>.tif`` (0 background, 1 landslide, 255 not known),
``index.gpkg`` with the footprint, split and shares of each chip in its layer ``chips``, and ``chips.json``
with what is common to all. Chips have one size where they are cut from a scene, and sizes of their own where
they come from photographs.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from geo.errors import LabelError, RasterError
from geo.labels import UNKNOWN
from geo.raster import Encoding, band_numbers, open_raster, read
from geo.split import SPLITS

log = logging.getLogger(__name__)

FORMAT = "geocrack-chips"
IGNORE = UNKNOWN
LABEL = Encoding("uint8", nodata=IGNORE)


@dataclass
class BandStatistics:
    """Mean and standard deviation of each band, gathered chip by chip in one pass (Chan et al. 1979).

    Attributes
    ----------
    count : int
        Pixels seen.
    mean, squares : ndarray of float64, shape (bands,)
        Mean, and sum of squared distances from it.
    """

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, values: np.ndarray, good: np.ndarray) -> None:
        """Add the good pixels (height, width) of values (bands, height, width)."""
        pixels = values[:, good].astype(np.float64)
        if pixels.shape[1]:
            mean = pixels.mean(axis=1)
            self.join(BandStatistics(pixels.shape[1], mean, ((pixels - mean[:, None]) ** 2).sum(axis=1)))

    def join(self, other: BandStatistics) -> None:
        """Add the pixels that another has seen."""
        if not self.count:
            self.count, self.mean, self.squares = other.count, other.mean, other.squares
        elif other.count:
            total = self.count + other.count
            apart = other.mean - self.mean
            self.mean = self.mean + apart * (other.count / total)
            self.squares = self.squares + other.squares + apart**2 * (self.count * other.count / total)
            self.count = total

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of each band."""
        return np.sqrt(self.squares / max(1, self.count))

    def summary(self) -> dict[str, Any] | None:
        """Pixels, mean and standard deviation for JSON; None before any pixel."""
        if not self.count:
            return None
        return {"pixels": self.count, "mean": self.mean.tolist(), "std": self.std.tolist()}


@dataclass(frozen=True)
class Record:
    """What is known of a chip before it is read.

    Attributes
    ----------
    id : str
        Unique among chips that were opened together.
    split : {"train", "val", "test"}
    image, label : Path
    valid_share : float
        Share of pixels that are valid and were seen.
    landslide_share : float
        Share of landslide among labelled pixels; 0 where none is labelled.
    source : str
        Scene or photograph.
    bands : tuple of str
        In the order in which ``read_chip`` gives them.
    """

    id: str
    split: str
    image: Path
    label: Path
    valid_share: float
    landslide_share: float
    source: str
    bands: tuple[str, ...]


@dataclass(frozen=True)
class Chips:
    """Chips of one or several folders with the same bands; made by ``open_chips``.

    Attributes
    ----------
    bands : tuple of str
    size : int or None
        Height and width of the chips; None where they differ.
    records : tuple of Record
        In the order of the folders, then of the index.
    statistics : BandStatistics
        Of the valid training pixels of all folders; ``count`` is 0 where there are none.
    background, landslide : dict of str to int
        Labelled pixels of each split.
    """

    bands: tuple[str, ...]
    size: int | None
    records: tuple[Record, ...]
    statistics: BandStatistics
    background: dict[str, int]
    landslide: dict[str, int]

    def split(self, name: str) -> list[Record]:
        """Chips of one split."""
        return [record for record in self.records if record.split == name]


def open_chips(folders: Sequence[str | os.PathLike]) -> Chips:
    """Join the chips of several folders.

    Bands are matched by name, whatever their order in the files.

    Parameters
    ----------
    folders : sequence of path
        Made by ``geocrack tile`` or ``geocrack chips import``.

    Returns
    -------
    Chips

    Raises
    ------
    LabelError
        A folder holds no chips, or other bands than the first; both are named.
    """
    if not folders:
        raise LabelError("no folder of chips was given; make one with `geocrack tile` or `geocrack chips import`")
    opened = [(Path(folder), *_open(Path(folder))) for folder in folders]
    first, facts, _ = opened[0]
    bands = tuple(facts["bands"])
    records: list[Record] = []
    pooled = BandStatistics()
    for number, (folder, facts, index) in enumerate(opened):
        here = facts["bands"]
        if sorted(here) != sorted(bands):
            raise LabelError(
                f"{folder} has chips of the bands {', '.join(here)}, {first} of {', '.join(bands)}; "
                "join only chips of images with the same bands"
            )
        found = facts["statistics"]
        if found:
            order = [here.index(band) for band in bands]
            mean, std = np.asarray(found["mean"])[order], np.asarray(found["std"])[order]
            pooled.join(BandStatistics(found["pixels"], mean, std**2 * found["pixels"]))
        prefix = f"{number}/" if len(opened) > 1 else ""
        records += [
            Record(
                f"{prefix}{row.id}",
                row.split,
                folder / row.image,
                folder / row.label,
                float(row.valid_share),
                float(row.landslide_share),
                row.source,
                bands,
            )
            for row in index.itertuples()
        ]
    _warn_of_leaks(opened)
    sizes = {facts["size"] for _, facts, _ in opened}
    background, landslide = (
        {split: sum(facts["counts"][split][f"{kind}_pixels"] for _, facts, _ in opened) for split in SPLITS}
        for kind in ("background", "landslide")
    )
    size = sizes.pop() if len(sizes) == 1 else None
    return Chips(bands, size, tuple(records), pooled, background, landslide)


def _open(folder: Path) -> tuple[dict[str, Any], gpd.GeoDataFrame]:
    try:
        facts = json.loads((folder / "chips.json").read_text(encoding="utf-8"))
        index = pyogrio.read_dataframe(folder / "index.gpkg", layer="chips")
        whole = facts.get("format") == FORMAT and {"bands", "size", "statistics", "counts"} <= facts.keys()
    except (OSError, ValueError, AttributeError, RecursionError, DataSourceError, DataLayerError) as error:
        missing = isinstance(error, FileNotFoundError) and Path(str(error.filename)).name
        reason = f"there is no {missing}" if missing else (str(error) or type(error).__name__).splitlines()[0]
        raise LabelError(
            f"{folder} is no folder of chips ({reason}); expected chips.json and index.gpkg, as `geocrack tile` and "
            "`geocrack chips import` write"
        ) from None
    if not whole:
        raise LabelError(f"{folder}/chips.json is not one of geocrack's; cut or import the chips again")
    return facts, index


def _warn_of_leaks(opened: Sequence[tuple[Path, dict[str, Any], gpd.GeoDataFrame]]) -> None:
    """Say where ground trains in one folder and is tested on in another: they were not split alike."""
    for number, (folder, facts, index) in enumerate(opened):
        for other, facts_of_other, index_of_other in opened[number + 1 :]:
            if facts["crs"] is None or facts["crs"] != facts_of_other["crs"]:
                continue
            one, two = np.asarray(index.geometry), np.asarray(index_of_other.geometry)
            left, right = shapely.STRtree(two).query(one, predicate="intersects")
            trains, trains_there = index.split == "train", index_of_other.split == "train"
            differ = np.asarray(trains)[left] != np.asarray(trains_there)[right]
            left, right = left[differ], right[differ]
            shared = shapely.area(shapely.intersection(one[left], two[right])) > 1e-6 * shapely.area(one[left])
            if shared.any():
                log.warning(
                    "%d pairs of chips of %s and %s lie on the same ground, one to train on and one not: scores will "
                    "flatter; cut both with the same size, resolution and split settings",
                    int(shared.sum()),
                    folder,
                    other,
                )


def read_chip(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a chip.

    Returns
    -------
    image : ndarray of float32, shape (bands, height, width)
        Physical values, NaN where not valid.
    label : ndarray of uint8, shape (height, width)
        0 background, 1 landslide, 255 not known; always 255 where not valid.
    valid : ndarray of bool, shape (height, width)

    Raises
    ------
    RasterError
        A file is missing or damaged, or image and label differ in size.
    """
    with open_raster(record.image) as src:
        image, valid = read(src, bands=band_numbers(src, record.bands))
    with open_raster(record.label) as src:
        label = src.read(1)
    if label.shape != valid.shape:
        raise RasterError(
            f"{record.label} has {label.shape[0]} x {label.shape[1]} pixels, its image {valid.shape[0]} x "
            f"{valid.shape[1]}; cut or import these chips again"
        )
    return image, np.where(valid, label, IGNORE).astype(np.uint8), valid
