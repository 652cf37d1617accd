"""Chips as training and evaluation need them: normalised, fitted to one size, decoded once where they fit."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from geo.errors import LabelError, ModelError
from models.augment import augment
from models.chips import IGNORE, open_chips, read_chip
from models.recipe import Augmentation, Recipe
from models.subset import train_on_fewer

#: Reads a chip: ``image`` float32 (bands, h, w) with NaN where not valid, ``label`` uint8, ``valid`` bool (h, w).
Read = Callable[[Any], tuple[np.ndarray, np.ndarray, np.ndarray]]


#: Largest number of float16, after which comes infinity.
_HALF = float(np.finfo(np.float16).max)


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


def _half(values: np.ndarray) -> np.ndarray:
    """Values as float16; those beyond its range, of other units than the training's, become its ends."""
    return np.clip(values, -_HALF, _HALF).astype(np.float16)


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
        return Fitted(np.ascontiguousarray(_half(scaled)), own, valid, inside, own)
    zoom = size / max(height, width)
    shape = max(1, round(height * zoom)), max(1, round(width * zoom))
    top, left = (size - shape[0]) // 2, (size - shape[1]) // 2
    inside = (slice(top, top + shape[0]), slice(left, left + shape[1]))
    bands = scaled.shape[2]
    square = np.zeros((size, size, bands), dtype=np.float16)
    fitted_label = np.full((size, size), IGNORE, dtype=np.uint8)
    fitted_valid = np.zeros((size, size), dtype=bool)
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(scaled), shape[::-1], interpolation=way).reshape(*shape, bands)
    square[inside] = _half(resized)
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


class FittedChips:
    """Fitted chips of one split, by number; read when first asked for and kept while memory lasts.

    A chip that is kept and one that is read again are the same to the last bit, so memory has no influence
    on the result.
    """

    def __init__(
        self,
        records: Sequence[Any],
        read: Read,
        columns: Sequence[int],
        *,
        size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        memory: Memory,
    ):
        self.records, self.size = list(records), size
        self._variants: int | None = None
        self._read, self._columns, self._memory = read, list(columns), memory
        self._mean, self._std = mean, std
        self._kept: dict[int, Fitted] = {}

    def __len__(self) -> int:
        return len(self.records)

    def expanded(self, variants: int) -> FittedChips:
        """Give a view that holds so many variants of each chip; they share what is kept.

        Chip ``i`` has the numbers ``i, i + n, i + 2 n, ...`` of ``n`` chips. How a number is augmented follows from the
        first of the seed and the number alone, so that each epoch sees the same variants.
        """
        found = copy(self)
        found.records, found._variants = self.records * variants, len(self.records)
        return found

    def __getitem__(self, number: int) -> Fitted:
        if self._variants is not None:
            number %= self._variants
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        chip = fit(*self.values(number), self.size, self._mean, self._std)
        size = chip.image.nbytes + chip.label.nbytes + chip.valid.nbytes + chip.own_label.nbytes
        if self._memory.take(size):
            self._kept[number] = chip
        return chip

    def values(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read image, label and valid pixels of a chip as they are stored, with the bands in order."""
        image, label, valid = self._read(self.records[number])
        return image[self._columns], label, valid

    def batch(
        self, numbers: Sequence[int], augmentation: Augmentation | None = None, *, seed: Sequence[int] = (0,)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of some chips of equal size.

        Parameters
        ----------
        numbers : sequence of int
        augmentation : Augmentation, optional
            Each chip is changed at random by ``(*seed, number)`` alone, whatever was drawn before; where chips are
            ``expanded`` by ``(seed[0], number)``.
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
                rng = np.random.default_rng((*(seed if self._variants is None else seed[:1]), number))
                image, label, _ = augment(image, label, chip.valid, augmentation, rng)
            images.append(image)
            labels.append(label)
        return np.stack(images), np.stack(labels)


@dataclass(frozen=True)
class Data:
    """Chips of a training, by split.

    Attributes
    ----------
    bands : tuple of str
        Input bands, in order.
    mean, std : tuple of float
        Of each band over the valid training pixels.
    train, val, test : FittedChips
    landslide_share : float
        Share of landslide in all labelled pixels that train or validate.
    fingerprint : str
        Hash of all of this, to know the same chips again.
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: FittedChips
    val: FittedChips
    test: FittedChips
    landslide_share: float
    fingerprint: str


def gather(
    recipe: Recipe, folders: Sequence[str | os.PathLike], *, train_chips: int | None = None, seed: int = 0
) -> Data:
    """Open chips, find the recipe's bands by name, and check that there is something to learn.

    Parameters
    ----------
    recipe : Segmenter or PixelClassifier
    folders : sequence of path
    train_chips : int, optional
        Train on so many chips only, drawn by ``seed``.
    seed : int

    Raises
    ------
    LabelError
        No training or validation chips, or none with a landslide, or nothing but landslide.
    ModelError
        The chips lack a band of the recipe, or a band is constant.
    """
    chips = open_chips(folders)
    if train_chips is not None:
        chips = train_on_fewer(chips, train_chips, seed=seed)
    there = [band.lower() for band in chips.bands]
    bands = tuple(recipe.bands or chips.bands)
    where = ", ".join(os.fspath(folder) for folder in folders)
    if any(band.lower() not in there for band in bands):
        raise ModelError(
            f"the recipe asks for the bands {', '.join(bands)}, the chips in {where} have {', '.join(chips.bands)}; "
            "change the recipe's bands, or cut chips from an image that has them"
        )
    columns = [there.index(band.lower()) for band in bands]
    for split, role in (("train", "to train on"), ("val", "to choose the weights and the threshold")):
        found = chips.split(split)
        shares = [record.landslide_share for record in found]
        if not found:
            raise LabelError(
                f"none of the {len(chips.records)} chips in {where} is of the split '{split}' {role}; "
                "cut smaller chips or blocks, or label more ground"
            )
        if not any(shares) or all(share == 1 for share in shares):
            shown = "a landslide" if not any(shares) else "ground without landslide"
            raise LabelError(
                f"none of the {len(found)} chips in {where} of the split '{split}' {role} shows {shown}; "
                "check that labels and image lie on the same ground, cut smaller blocks, or label more ground; of "
                "photographs, check the masks, or add photographs that show it"
            )
    mean, std = chips.statistics.mean[columns], chips.statistics.std[columns]
    flat = [band for band, m, s in zip(bands, mean, std, strict=True) if s <= 1e-6 * max(abs(m), 1e-6)]
    if flat:
        raise ModelError(
            f"the band {flat[0]} of the training chips in {where} has one value everywhere; "
            "leave it out with the recipe's bands"
        )
    memory = Memory(recipe.cache_mb if recipe.kind == "segmenter" else 0)
    size = recipe.size if recipe.kind == "segmenter" else None
    sets = {
        split: FittedChips(
            chips.split(split), read_chip, columns, size=size, mean=mean.tolist(), std=std.tolist(), memory=memory
        )
        for split in ("train", "val", "test")
    }
    landslide, background = (counted["train"] + counted["val"] for counted in (chips.landslide, chips.background))
    named = [bands, mean.tolist(), std.tolist(), [[r.id, r.split, r.landslide_share] for r in chips.records]]
    return Data(
        bands=bands,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        **sets,
        landslide_share=landslide / (landslide + background),
        fingerprint=hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16],
    )
