"""Images as a classifier sees them: normalised, square, changed at random where it learns."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rasterio.windows import Window

from geo.errors import ModelError
from geo.image import open_image
from geo.orientation import upright
from geo.raster import open_raster
from models.augment import augment
from models.chips import BandStatistics
from models.classification.pictures import Picture, names_of
from models.classification.recipe import ImageAugmentation
from models.dataset import Memory
from models.extremes import MOST, Extremes

#: Images that means and deviations of the bands are taken from, at most, evenly over all.
SAMPLE = 2000
#: Pixels of each of them that tell where most values lie, about.
_PIXELS = 256


@dataclass(frozen=True)
class Scale:
    """What normalises an image.

    Attributes
    ----------
    bands : tuple of str
        In the order of the input.
    mean, std : tuple of float
        Of each band, in physical units.
    size : int
        Height and width of the input.
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int

    def fit(self, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normalise an image and fit it: its shorter side is scaled, the middle of the longer one taken.

        Parameters
        ----------
        values : ndarray of float32, shape (bands, h, w)
            Physical values, NaN where not valid.
        valid : ndarray of bool, shape (h, w)

        Returns
        -------
        image : ndarray of float32, shape (size, size, bands)
            0, the mean, where not valid.
        valid : ndarray of bool, shape (size, size)
        """
        centre, spread = (np.asarray(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
        scaled = np.where(valid, (values - centre) / spread, 0).astype(np.float32)
        scaled = np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0)
        height, width = valid.shape
        side = min(height, width)
        at = (slice((height - side) // 2, (height + side) // 2), slice((width - side) // 2, (width + side) // 2))
        image = np.ascontiguousarray(scaled[:, *at].transpose(1, 2, 0))
        good = np.ascontiguousarray(valid[at])
        if side != self.size:
            way = cv2.INTER_AREA if side > self.size else cv2.INTER_LINEAR
            shape = (self.size, self.size)
            parts = [cv2.resize(image[:, :, b : b + 4], shape, interpolation=way) for b in range(0, len(scaled), 4)]
            image = np.concatenate([part.reshape(*shape, -1) for part in parts], axis=2)
            good = cv2.resize(good.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST) > 0
            image[~good] = 0
        return image, good

    def hue_turn(self, degrees: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Matrix and shift that turn the colours of a normalised image around grey; None without three colours.

        A turn by Rodrigues' formula about the axis (1, 1, 1) of physical red, green and blue, so grey stays grey and
        brightness stays; the bands need not be in that order, and others are not touched.
        """
        names = [band.lower() for band in self.bands]
        if not {"red", "green", "blue"} <= set(names):
            return None
        places = [names.index(colour) for colour in ("red", "green", "blue")]
        angle = np.radians(degrees)
        axis = np.full(3, 1 / np.sqrt(3))
        cross = np.cross(np.eye(3), axis)
        turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
        whole = np.eye(len(names))
        whole[np.ix_(places, places)] = turn
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return whole * std / std[:, None], (whole @ mean - mean) / std


def read_picture(path: Path, bands: Sequence[str], given: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Physical values (bands, h, w) of an image, NaN where not valid, and where it is; photographs are upright.

    Raises
    ------
    RasterError
        It cannot be read.
    ModelError
        It lacks a band.
    """
    with open_raster(path) as src:
        names = names_of(src, given)
    with open_image(path, names) as image:
        wanted = [band.lower() for band in bands]
        if any(band not in image.available for band in wanted):
            raise ModelError(
                f"the model looks at the bands {', '.join(bands)}, {path} has {', '.join(image.bands)}; name its bands "
                "with --bands in the order of the file, or take a model trained on these bands"
            )
        whole = Window(0, 0, image.shape[1], image.shape[0])
        values, valid = image.read(whole, wanted)
        return upright(values, image.orientation), upright(valid & image.seen(whole), image.orientation)


def measure(pictures: Sequence[Picture], bands: Sequence[str], given: Sequence[str] | None) -> tuple[list, list]:
    """Mean and deviation of each band over training images.

    Raises
    ------
    ModelError
        A band has one value everywhere.
    RasterError
        An image holds a value far beyond all others.
    """
    statistics, extremes, sample = BandStatistics(), Extremes(), []
    for number in np.unique(np.linspace(0, len(pictures) - 1, min(SAMPLE, len(pictures))).astype(int)):
        values, good = read_picture(pictures[number].path, bands, given)
        statistics.add(values, good)
        extremes.add(values, good, str(pictures[number].path))
        pixels = values[:, good]
        sample.append(pixels[:, :: max(1, pixels.shape[1] // _PIXELS)])
    if statistics.count:
        extremes.check(bands, *np.quantile(np.concatenate(sample, axis=1).astype(np.float64), MOST, axis=1))
    mean, std = statistics.mean, statistics.std
    flat = [b for b, m, s in zip(bands, mean, std, strict=True) if s <= 1e-6 * max(abs(m), 1e-6)] if len(mean) else []
    if flat or not len(mean):
        what = f"the band {flat[0]} of the training images has one value everywhere" if flat else "no pixel is valid"
        raise ModelError(f"{what}; leave it out with the recipe's bands, or look at the images")
    return mean.tolist(), std.tolist()


class FittedPictures:
    """Fitted images of a split, by number; read when first asked for and kept while memory lasts.

    Parameters
    ----------
    pictures : sequence of Picture
    scale : Scale
    memory : Memory
    tags : mapping, optional
        Numbers of the tags of each image, by its id.
    given : sequence of str, optional
        Names of the bands in the order of the files.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        scale: Scale,
        memory: Memory,
        *,
        tags: Mapping[str, np.ndarray] | None = None,
        given: Sequence[str] | None = None,
    ):
        self.pictures, self.scale, self._tags, self._given = list(pictures), scale, tags, given
        self._memory, self._lock = memory, threading.Lock()
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def labels(self) -> np.ndarray:
        """Number of the class of each image, int64."""
        return np.array([picture.label for picture in self.pictures], dtype=np.int64)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        kept = self._kept.get(number)
        if kept is None:
            image, valid = self.scale.fit(
                *read_picture(self.pictures[number].path, self.scale.bands, self._given)
            )  # fmt: skip
            kept = image.astype(np.float16), valid
            with self._lock:
                if number not in self._kept and self._memory.take(kept[0].nbytes + valid.nbytes):
                    self._kept[number] = kept
        return kept

    def batch(
        self, numbers: Sequence[int], augmentation: ImageAugmentation | None = None, *, seed: tuple[int, ...] = ()
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Images ``(n, size, size, bands)`` float32, labels ``(n,)`` int64 and tags ``(n, tags)`` of some numbers.

        Parameters
        ----------
        numbers : sequence of int
        augmentation : ImageAugmentation, optional
        seed : tuple of int
            With the place in the batch the only source of chance.
        """
        images = []
        for place, number in enumerate(numbers):
            image, valid = self[number]
            image = image.astype(np.float32)
            if augmentation is not None:
                image = change(image, valid, augmentation, np.random.default_rng((*seed, place)), self.scale)
            images.append(image)
        tags = None
        if self._tags is not None:
            tags = np.stack([self._tags[self.pictures[number].id] for number in numbers])
        return np.stack(images), self.labels[list(numbers)], tags


def change(
    image: np.ndarray, valid: np.ndarray, settings: ImageAugmentation, rng: np.random.Generator, scale: Scale
) -> np.ndarray:
    """Change a normalised image (h, w, bands) at random: hue and the crop of the centre here, the rest as for chips."""
    plain = settings
    if settings.centre_crop and rng.random() < settings.centre_crop:
        height, width = valid.shape
        tall, wide = round(settings.crop * height), round(settings.crop * width)
        at = (slice((height - tall) // 2, (height + tall) // 2), slice((width - wide) // 2, (width + wide) // 2))
        parts = [
            cv2.resize(np.ascontiguousarray(image[at][:, :, b : b + 4]), (width, height)).reshape(height, width, -1)
            for b in range(0, image.shape[2], 4)
        ]
        image = np.concatenate(parts, axis=2)
        valid = cv2.resize(valid[at].astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        plain = settings.model_copy(update={"crop": 1.0})
    if settings.hue_deg:
        turn = scale.hue_turn(rng.uniform(-settings.hue_deg, settings.hue_deg))
        if turn is not None:
            matrix, shift = turn
            image = (image @ matrix.T + shift).astype(np.float32)
    return augment(image, np.zeros(valid.shape, dtype=np.uint8), valid, plain, rng)[0]
