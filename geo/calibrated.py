"""An image of a product as a source of reflectance: calibrated window by window, as it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from geo.calibration import Calibration
from geo.digital_numbers import read_numbers
from geo.masks import Quality
from geo.raster import REFLECTANCE
from geo.reflectance import Clouds, calibrated
from geo.sensors.scene import data_bands
from geo.source import FileSource
from geo.windows import clip, slices, spread_windows

#: Side and number along an axis of the windows that shares of negative ground are found on.
_SAMPLES = 256, 4


class Calibrated(FileSource):
    """An image of a product as reflectance, in the geometry of its sensor, calibrated as it is read.

    Parameters
    ----------
    calibration : Calibration
    clouds : Clouds, optional
    tags : dict
        Of the scene.
    """

    def __init__(self, calibration: Calibration, clouds: Clouds | None, tags: dict[str, str]):
        image = calibration.image
        super().__init__(image.path)
        self.calibration, self.clouds = calibration, clouds
        with self.opened() as (src, _):
            self.grid, self.numbers = image.grid(src), data_bands(src, image.bands)
        self.rpcs, self.bands, self.encoding, self.tags = image.rpcs, image.bands, REFLECTANCE, tags

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = (window.height, window.width)
        stored = np.full((len(self.bands), *shape), REFLECTANCE.nodata, REFLECTANCE.dtype)
        flags = np.full(shape, int(Quality.NODATA), np.uint8)
        inside = clip(window, (self.grid.shape[0], self.grid.shape[1]))
        if inside.width and inside.height:
            # products are strips as wide as the scene: of those that are not compressed, only the window is read
            with self.opened() as (src, _), rasterio.Env(GTIFF_DIRECT_IO=True):
                ((_, dn, valid),) = read_numbers(src, self.calibration.image, [inside], self.numbers)
            at = slices(inside, window)
            stored[:, *at], flags[at] = calibrated(self.calibration, self.clouds, inside, dn, valid)
        valid = (flags & np.uint8(Quality.NODATA)) == 0
        return REFLECTANCE.decode(stored, valid), valid, flags

    def sampled(self) -> dict[str, Any]:
        """Shares of negative and clipped ground on windows spread over the image, as all of it is only made in parts.

        Returns
        -------
        dict
            ``negative_share``, ``clipped_share`` and ``clipped_above_share`` of the valid pixels looked at, 0 to 1, and
            ``calibration_source``.
        """
        height, width = self.grid.shape
        low, high = (number * REFLECTANCE.scale + REFLECTANCE.offset for number in REFLECTANCE.limits)
        low, high = low + REFLECTANCE.scale / 2, high - REFLECTANCE.scale / 2
        good = negative = below = above = 0
        for window in spread_windows(Window(0, 0, width, height), *_SAMPLES):
            values, valid, flags = self.read(window)
            good += int(np.count_nonzero(valid))
            negative += int(np.count_nonzero(flags & np.uint8(Quality.NEGATIVE)))
            below += int(np.count_nonzero((values < low).any(axis=0) & valid))
            unsaturated = valid & ((flags & np.uint8(Quality.SATURATED)) == 0)
            above += int(np.count_nonzero((values > high).any(axis=0) & unsaturated))
        counts = {"negative_share": negative, "clipped_share": below, "clipped_above_share": above}
        shares = {name: count / max(1, good) for name, count in counts.items()}
        return {**shares, "calibration_source": self.calibration.image.calibration_source}
