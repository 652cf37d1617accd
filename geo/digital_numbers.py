"""Digital numbers as they are read from a product, and what they say against it before anything is made of them.

Windows spread over an image are looked at, not all of it: what concerns a whole product shows there too, and a scene
of a billion pixels is read in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from geo.errors import ProductError
from geo.radiometry import valid_dn
from geo.raster import REFLECTANCE, open_raster
from geo.sensors.scene import AS_GIVEN, Image, Scene, data_bands
from geo.windows import spread_windows

#: Side and number along an axis of the windows that are looked at.
_SAMPLES = 128, 8
#: What makes a pile at the highest number: pixels that hold it at least, and times the mean of so many next lower
#: numbers; and the share of all pixels that must hold one that is not 2^n - 1.
_LEAST, _PILE, _BELOW, _SHARE = 20, 10, 16, 0.001
#: Good pixels from which it says something that a band holds one number.
_ENOUGH = 100
#: Reflectance that no ground has in the middle of a scene; and what is more than its darkest has in all bands.
_NO_REFLECTANCE, _NO_LIGHT = 2.0, 0.005
#: So few steps of the encoding are no image, where they are what becomes of so many times as many numbers.
_FEW_STEPS, _FLATTENED = 16, 4


@dataclass(frozen=True)
class Numbers:
    """Good pixels of windows spread over an image.

    Attributes
    ----------
    image : Image
    values, counts : tuple of ndarray
        Distinct digital numbers of each band, ascending, and how many pixels hold them; the same pixels in all bands.
    """

    image: Image
    values: tuple[np.ndarray, ...]
    counts: tuple[np.ndarray, ...]

    @property
    def pixels(self) -> int:
        """Good pixels that were looked at."""
        return int(self.counts[0].sum())

    @property
    def highest(self) -> float:
        """Highest digital number of all bands; 0 where no pixel is good."""
        return float(max((values[-1] for values in self.values if values.size), default=0))

    @property
    def tops(self) -> tuple[float | None, ...]:
        """Number at the end of each band's histogram that its saturated pixels pile up at; None where none do."""
        return tuple(map(_top, self.values, self.counts))

    @property
    def medians(self) -> list[float]:
        """Median of each band, in digital numbers."""
        return [
            float(values[np.searchsorted(counts.cumsum(), counts.sum() / 2)])
            for values, counts in zip(self.values, self.counts, strict=True)
        ]


def _top(values: np.ndarray, counts: np.ndarray) -> float | None:
    """Highest of these numbers, ascending, where far more pixels hold it than hold the next lower ones."""
    below = counts[-1 - _BELOW : -1]
    if not np.issubdtype(values.dtype, np.integer) or len(below) < _BELOW:
        return None
    top, held = int(values[-1]), int(counts[-1])
    if held < _LEAST or held < _PILE * below.mean():
        return None
    bits = (top + 1).bit_length() - 1
    of_bits = bits >= 8 and top + 1 == 2**bits
    return float(top) if of_bits or held >= _SHARE * counts.sum() else None


def look(image: Image) -> Numbers:
    """Look at the digital numbers of an image.

    Raises
    ------
    RasterError
        It cannot be read, or has other bands than its sensor.
    """
    with open_raster(image.path) as src, rasterio.Env(GTIFF_DIRECT_IO=True):
        windows = spread_windows(Window(0, 0, src.width, src.height), *_SAMPLES)
        found = [dn[:, valid] for _, dn, valid in read_numbers(src, image, windows)]
    bands = [np.unique(band, return_counts=True) for band in np.concatenate(found, axis=1)]
    return Numbers(image, tuple(values for values, _ in bands), tuple(counts for _, counts in bands))


def doubts(scene: Scene, looked: Mapping[str, Numbers]) -> list[str]:
    """Tell what the numbers of a scene's images say against what is made of them.

    Parameters
    ----------
    scene : Scene
    looked : mapping
        Numbers of its images.
    """
    told = []
    for key, numbers in looked.items():
        if numbers.pixels:
            told += beyond_bits(key, numbers.highest, scene.bit_depth) + _no_reflectance(key, numbers)
        if scene.bit_depth is None:
            told += _piled_up(key, numbers)
    return told + _dead_bands(looked)


def beyond_bits(key: str, highest: float, bit_depth: int | None) -> list[str]:
    """Tell of an image whose highest digital number is more than its sensor makes."""
    if bit_depth is None or highest < 2**bit_depth:
        return []
    return [f"{key}: digital numbers reach {highest:g}, more than {bit_depth} bits hold; is the product rescaled?"]


def _piled_up(key: str, numbers: Numbers) -> list[str]:
    """Tell which number of each band is taken as saturated because nobody tells the sensor's bits."""
    piles = [
        f"{top:g} ({100 * counts[-1] / counts.sum():.2g} % of {band})"
        for band, top, counts in zip(numbers.image.bands, numbers.tops, numbers.counts, strict=True)
        if top is not None
    ]
    if not piles:
        return []
    return [f"numbers of {key} pile up at the highest, {', '.join(piles)}, and are flagged as saturated there"]


def _dead_bands(looked: Mapping[str, Numbers]) -> list[str]:
    """Tell of bands that hold one number wherever others of the scene differ."""
    enough = {key: numbers for key, numbers in looked.items() if numbers.pixels >= _ENOUGH}
    if not any(len(values) > 1 for numbers in enough.values() for values in numbers.values):
        return []
    return [
        f"{band} of {key} is {values[0]:g} wherever it was looked at: the band is dead or was lost; all that is made "
        "of it tells nothing"
        for key, numbers in enough.items()
        for band, values in zip(numbers.image.bands, numbers.values, strict=True)
        if len(values) == 1
    ]


def _no_reflectance(key: str, numbers: Numbers) -> list[str]:
    """Tell of an image that is given as reflectance and is none."""
    image = numbers.image
    if image.level != AS_GIVEN:
        return []
    middles = {b: m * image.scale + image.offset for b, m in zip(image.bands, numbers.medians, strict=True)}
    if max(middles.values()) < _NO_LIGHT and any(len(values) > 1 for values in numbers.values):
        return [
            f"{key} is taken as reflectance, {_scaling(image)}, but half of every band is below {_NO_LIGHT:g}, which "
            "is darker than water; give the scale that makes its numbers reflectance"
        ]
    above = {band: middle for band, middle in middles.items() if middle > _NO_REFLECTANCE}
    if not above:
        return []
    return [
        f"{key} is taken as reflectance, {_scaling(image)}, but half of {', '.join(above)} is above "
        f"{min(above.values()):.3g}, which no ground reflects: nothing was calibrated; give gain and esun, or the "
        "scale that makes its numbers reflectance"
    ]


def _scaling(image: Image) -> str:
    return f"DN * {image.scale:g}" + (f" + {image.offset:g}" if image.offset else "")


def check_steps(looked: Iterable[Numbers]) -> None:
    """Raise where the numbers of an image that is taken as reflectance would be lost on disk.

    Floats of 0 to 1 that are scaled as if they were integers all become one step of the encoding. An image that is
    flat by itself is none of these: its numbers are as few as its steps.

    Raises
    ------
    ProductError
    """
    for numbers in looked:
        image = numbers.image
        if image.level != AS_GIVEN or not numbers.pixels:
            continue
        held = [len(values) for values in numbers.values]
        steps = [len(np.unique(REFLECTANCE.encode(v * image.scale + image.offset))) for v in numbers.values]
        lost = [k <= _FEW_STEPS and n >= _FLATTENED * k for n, k in zip(held, steps, strict=True) if n > 1]
        if lost and all(lost):
            low, high = (pick(pick(v) for v in numbers.values) for pick in (min, max))
            raise ProductError(
                f"{image.path} holds numbers from {low:.3g} to {high:.3g}; taken as reflectance, {_scaling(image)}, up "
                f"to {max(held)} of them become {max(steps)} on disk{_advice(numbers)}"
            )


def _advice(numbers: Numbers) -> str:
    """Say which scale is wanted of numbers that are lost: a smaller one where they are far above any reflectance."""
    image = numbers.image
    if min(numbers.medians) * image.scale + image.offset > _NO_REFLECTANCE:
        return (
            ", for they are far above any reflectance: give the scale that makes them reflectance, such as "
            "`scale: 0.0001`, or gain and esun where they are digital numbers"
        )
    return ": give the scale that makes them reflectance, `scale: 1` where they are reflectance already"


def read_numbers(
    src: rasterio.DatasetReader, image: Image, windows: Iterable[Window], numbers: list[int] | None = None
) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    """Windows of an image with their digital numbers and where they are valid.

    Parameters
    ----------
    src : rasterio dataset
        The image, opened.
    image : Image
    windows : iterable of Window
    numbers : list of int, optional
        Its bands in the file, where they are known already.

    Raises
    ------
    RasterError
        It cannot be read, or has other bands than its sensor.
    """
    numbers = numbers or data_bands(src, image.bands)
    nodata = [src.nodatavals[number - 1] for number in numbers]
    masked = any(
        flag in (MaskFlags.per_dataset, MaskFlags.alpha) for n in numbers for flag in src.mask_flag_enums[n - 1]
    )
    for window in windows:
        dn = src.read(numbers, window=window)
        valid = valid_dn(dn, nodata, as_given=image.level == AS_GIVEN)
        if masked:
            valid &= src.dataset_mask(window=window) > 0
        yield window, dn, valid
