"""Chips as training and evaluation need them: normalised, fitted to one size, decoded once where they fit."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from geo.errors import LabelError, ModelError
from geo.stream import stream
from models.augment import augment
from models.chips import IGNORE, BandStatistics, open_chips, read_chip
from models.recipe import Augmentation, Recipe


class Chip(Protocol):
    """What is known of a chip before it is read."""

    @property
    def id(self) -> str:
        """Name, unique in its folder."""

    @property
    def split(self) -> str:
        """``train``, ``val`` or ``test``."""


#: Gives ``image`` float32 (bands, h, w) with NaN where not valid, ``label`` uint8 (h, w), ``valid`` bool (h, w).
Read = Callable[[Any], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each band over labelled, valid training pixels, and counts of these."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: int
    landslide_pixels: int


def statistics(records: Sequence[Chip], read: Read, columns: Sequence[int]) -> Statistics:
    """Accumulate statistics of the training chips, one chip in memory at a time for each thread.

    Parameters
    ----------
    records : sequence of Chip
    read : callable
    columns : sequence of int
        Bands to use, from 0.

    Raises
    ------
    LabelError
        No valid pixel has a label, or all have the same one.
    ModelError
        A band is constant.
    """

    def pixels(record: Chip) -> tuple[np.ndarray, np.ndarray, int]:
        image, label, valid = read(record)
        known = valid & (label != IGNORE)
        return image[list(columns)], known, int((label[known] == 1).sum())

    gathered, landslide = BandStatistics(), 0
    for _, (image, known, positive) in stream(pixels, records):
        gathered.add(image, known)
        landslide += positive
    count = gathered.count
    if count == 0 or landslide in (0, count):
        found = (
            "no labelled valid pixel" if count == 0 else ("no landslide" if landslide == 0 else "nothing but landslide")
        )
        raise LabelError(
            f"the {len(records)} training chips show {found}; expected pixels of landslide and of background: "
            "check that labels and image lie on the same ground, or draw some more"
        )
    mean, std = gathered.mean, np.sqrt(gathered.squares / count)
    if (std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)).any():
        at = int(np.argmin(std))
        raise ModelError(
            f"band {at + 1} of the training chips has one value everywhere ({mean[at]:g}); "
            "leave it out with the recipe's bands"
        )
    return Statistics(tuple(mean.tolist()), tuple(std.tolist()), count, landslide)


@dataclass(frozen=True)
class Fitted:
    """A chip at the size of the recipe.

    Attributes
    ----------
    image : ndarray of float16, shape (h, w, bands)
        Normalised, 0 where not valid.
    label : ndarray of uint8, shape (h, w)
        255 where not valid.
    valid : ndarray of bool, shape (h, w)
    inside : (slice, slice)
        Where the chip lies in it; around it is padding.
    own_label : ndarray of uint8
        Label at the chip's own size.
    """

    image: np.ndarray
    label: np.ndarray
    valid: np.ndarray
    inside: tuple[slice, slice]
    own_label: np.ndarray

    def at_own_size(self, probability: np.ndarray) -> np.ndarray:
        """Bring a map of the fitted chip back to the size that the chip has of its own."""
        height, width = self.own_label.shape
        part = probability[self.inside]
        if part.shape == (height, width):
            return part
        return np.clip(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)


def fit(
    image: np.ndarray,
    label: np.ndarray,
    valid: np.ndarray,
    size: int | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> Fitted:
    """Normalise a chip and scale it, sides in proportion, into a square; what is left around it is not valid.

    Parameters
    ----------
    image : ndarray of float32, shape (bands, h, w)
        Physical values, NaN where not valid.
    label : ndarray of uint8, shape (h, w)
    valid : ndarray of bool, shape (h, w)
    size : int or None
        Side of the square; None leaves the chip as it is.
    mean, std : sequence of float
        Of each band.
    """
    centre, spread = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (mean, std))
    scaled = np.where(valid, (image - centre) / spread, 0).astype(np.float32)
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0).transpose(1, 2, 0)
    own = np.where(valid, label, IGNORE).astype(np.uint8)
    height, width = own.shape
    if size is None or (height, width) == (size, size):
        inside = (slice(0, height), slice(0, width))
        return Fitted(np.ascontiguousarray(scaled, dtype=np.float16), own, valid, inside, own)
    zoom = size / max(height, width)
    shape = max(1, round(height * zoom)), max(1, round(width * zoom))
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    inside = (slice(top, top + shape[0]), slice(left, left + shape[1]))
    bands = scaled.shape[2]
    square = np.zeros((size, size, bands), dtype=np.float16)
    fitted_label = np.full((size, size), IGNORE, dtype=np.uint8)
    fitted_valid = np.zeros((size, size), dtype=bool)
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    square[inside] = cv2.resize(np.ascontiguousarray(scaled), shape[::-1], interpolation=way).reshape(*shape, bands)
    fitted_label[inside] = cv2.resize(own, shape[::-1], interpolation=cv2.INTER_NEAREST)
    fitted_valid[inside] = cv2.resize(valid.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    square[~fitted_valid] = 0
    return Fitted(square, fitted_label, fitted_valid, inside, own)


class Memory:
    """Room for decoded chips, shared by all sets of a training."""

    def __init__(self, limit_mb: int):
        self._left = limit_mb * 1_000_000
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Reserve some bytes; False where they are no longer there."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True


class Chips:
    """Fitted chips of one split, by number; read when first asked for and kept while memory lasts.

    A chip that is kept and one that is read again are the same to the last bit, so memory has no influence
    on the result.
    """

    def __init__(
        self,
        records: Sequence[Chip],
        read: Read,
        columns: Sequence[int],
        *,
        size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        memory: Memory,
    ):
        self.records, self.size = list(records), size
        self._read, self._columns, self._memory = read, list(columns), memory
        self._mean, self._std = mean, std
        self._kept: dict[int, Fitted] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Fitted:
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        image, label, valid = self._read(self.records[number])
        chip = fit(image[self._columns], label, valid, self.size, self._mean, self._std)
        size = chip.image.nbytes + chip.label.nbytes + chip.valid.nbytes + chip.own_label.nbytes
        if self._memory.take(size):
            self._kept[number] = chip
        return chip

    def batch(
        self, numbers: Sequence[int], augmentation: Augmentation | None = None, *, seed: Sequence[int] = (0,)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of some chips of equal size.

        Parameters
        ----------
        numbers : sequence of int
        augmentation : Augmentation, optional
            Each chip is changed at random by ``(*seed, number)`` alone, whatever was drawn before.
        seed : sequence of int

        Returns
        -------
        images : ndarray of float32, shape (n, h, w, bands)
        labels : ndarray of uint8, shape (n, h, w)
        """
        images, labels = [], []
        for number in numbers:
            chip = self[number]
            image, label = chip.image.astype(np.float32), chip.label
            if augmentation is not None:
                rng = np.random.default_rng((*seed, number))
                image, label, _ = augment(image, label, chip.valid, augmentation, rng)
            images.append(image)
            labels.append(label)
        return np.stack(images), np.stack(labels)


@dataclass(frozen=True)
class Data:
    """Chips of a training, by split, with what was found out about them."""

    bands: tuple[str, ...]
    statistics: Statistics
    train: Chips
    val: Chips
    test: Chips
    fingerprint: str


def gather(recipe: Recipe, folders: Sequence[str | os.PathLike]) -> Data:
    """Open chips, find the recipe's bands by name and gather statistics of the training chips.

    Raises
    ------
    LabelError
        No training or validation chips, or none with a landslide.
    ModelError
        The chips lack a band of the recipe.
    """
    chips = open_chips(folders)
    there = [band.lower() for band in chips.bands]
    bands = tuple(recipe.bands or chips.bands)
    missing = [band for band in bands if band.lower() not in there]
    where = ", ".join(os.fspath(folder) for folder in folders)
    if missing:
        raise ModelError(
            f"the recipe asks for the bands {', '.join(bands)}, the chips in {where} have {', '.join(chips.bands)}; "
            "change the recipe's bands, or cut chips from an image that has them"
        )
    columns = [there.index(band.lower()) for band in bands]
    by_split: dict[str, list[Chip]] = {"train": [], "val": [], "test": []}
    for record in chips.records:
        if record.split not in by_split:
            raise LabelError(f"the chip {record.id} is of the split '{record.split}'; expected train, val or test")
        by_split[record.split].append(record)
    for split, role in (("train", "to train on"), ("val", "to choose the weights and the threshold")):
        if not by_split[split]:
            raise LabelError(
                f"none of the {len(chips.records)} chips in {where} is of the split '{split}' {role}; "
                "cut smaller chips or blocks, or label more ground"
            )
    found = statistics(by_split["train"], read_chip, columns)
    memory = Memory(recipe.cache_mb if recipe.kind == "segmenter" else 0)
    size = recipe.size if recipe.kind == "segmenter" else None
    sets = {
        split: Chips(records, read_chip, columns, size=size, mean=found.mean, std=found.std, memory=memory)
        for split, records in by_split.items()
    }
    named = json.dumps([bands, found.mean, found.std, [[r.id, r.split] for r in chips.records]])
    return Data(
        bands=bands,
        statistics=found,
        train=sets["train"],
        val=sets["val"],
        test=sets["test"],
        fingerprint=hashlib.sha256(named.encode()).hexdigest()[:16],
    )
