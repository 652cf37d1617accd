"""From the digital numbers of one image to its reflectance and quality, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geo.errors import ProductError
from geo.radiometry import earth_sun_distance, quality_flags, radiance, toa_reflectance
from geo.sensors.scene import Image, Scene
from geo.surface import Correction


@dataclass(frozen=True)
class Calibration:
    """All that turns the digital numbers of one image into reflectance."""

    image: Image
    bit_depth: int | None
    sun_zenith: float | None
    distance_au: float | None
    #: From the top of the atmosphere to the surface; None: it stays there.
    correction: Correction | None = None
    #: Highest number, all bands together, that was seen when the image was looked at.
    highest: float = 0
    #: Numbers of each band that are taken as saturated where the bits are not known.
    tops: tuple[float | None, ...] = ()

    @classmethod
    def of(cls, scene: Scene, key: str) -> Calibration:
        """Calibration of one image of a scene.

        Raises
        ------
        ProductError
            The image has gains, but irradiance, time or the sun's angle are not known, or the sun is down.
        """
        image = scene.images[key]
        if image.gain is None:
            return cls(image, scene.bit_depth, None, None)
        missing = [
            name
            for name, value in (("esun", image.esun), ("acquired", scene.acquired), ("sun_zenith", scene.sun_zenith))
            if value is None
        ]
        if missing or image.esun is None or scene.acquired is None or scene.sun_zenith is None:
            raise ProductError(
                f"{image.path} has gains, but {', '.join(missing)} is not known; reflectance needs all of them: "
                "give them, or give no gain and let `scale` turn its numbers into reflectance"
            )
        # an angle that cannot be is told before an output is begun
        toa_reflectance(np.zeros((1, 1, 1)), image.esun[:1], distance_au=1, sun_zenith=scene.sun_zenith)
        return cls(image, scene.bit_depth, scene.sun_zenith, earth_sun_distance(scene.acquired))

    def toa(self, dn: np.ndarray) -> np.ndarray:
        """Top-of-atmosphere reflectance of digital numbers, float32; or what the file holds where it has no gain."""
        image = self.image
        if image.gain is None or image.esun is None or self.distance_au is None or self.sun_zenith is None:
            return dn.astype(np.float32) * np.float32(image.scale) + np.float32(image.offset)
        light = radiance(dn, image.gain, image.bias or [0.0] * len(image.gain))
        return toa_reflectance(light, image.esun, distance_au=self.distance_au, sun_zenith=self.sun_zenith)

    @property
    def report(self) -> dict[str, Any]:
        """Level of the values, with every coefficient that led there."""
        return self.correction.report if self.correction else {"level": self.image.level}

    def __call__(self, dn: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reflectance at the level asked for, and quality flags, of digital numbers.

        Parameters
        ----------
        dn : ndarray, shape (bands, height, width)
        valid : ndarray of bool, shape (height, width)

        Returns
        -------
        values : ndarray of float32, shape (bands, height, width)
            NaN where not valid.
        flags : ndarray of uint8, shape (height, width)
        """
        values = self.toa(dn)
        if self.correction is not None:
            values = self.correction.apply(values)
        flags = quality_flags(dn, values, valid, bit_depth=self.bit_depth, tops=self.tops)
        return np.where(valid, values, np.float32(np.nan)), flags
