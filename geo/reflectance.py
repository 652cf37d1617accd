"""Calibrate a whole scene to reflectance: windows in, GeoTIFFs with quality out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from geo.atomic import check_apart, together
from geo.errors import ProductError, RasterError
from geo.masks import QUALITY, Quality, quality_path
from geo.radiometry import earth_sun_distance, quality_flags, radiance, toa_reflectance, valid_dn
from geo.raster import REFLECTANCE, GeoTiffWriter, geobox_of, open_raster
from geo.sensors.scene import Image, Scene, data_bands
from geo.stream import cpus, stream
from geo.windows import blocks

#: Rows and columns that are in work at a time: whole blocks of the output, a few rows of strips of the input.
BLOCK = (512, 2048)

Progress = Callable[[Iterable, str, int], Iterable]


@dataclass(frozen=True)
class Calibration:
    """All that turns the digital numbers of one image into reflectance."""

    image: Image
    bit_depth: int | None
    sun_zenith: float | None
    distance_au: float | None

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

    def __call__(self, dn: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reflectance and quality flags of digital numbers.

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
        image = self.image
        if image.gain is None or image.esun is None or self.distance_au is None or self.sun_zenith is None:
            values = dn.astype(np.float32) * np.float32(image.scale) + np.float32(image.offset)
        else:
            light = radiance(dn, image.gain, image.bias or [0.0] * len(image.gain))
            values = toa_reflectance(light, image.esun, distance_au=self.distance_au, sun_zenith=self.sun_zenith)
        flags = quality_flags(dn, values, valid, bit_depth=self.bit_depth)
        return np.where(valid, values, np.float32(np.nan)), flags


def write_reflectance(
    scene: Scene,
    folder: Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = lambda items, label, total: items,
) -> dict[str, dict[str, Any]]:
    """Write ``<key>.tif`` and ``<key>.quality.tif`` of every image of a scene, in the geometry of its sensor.

    The images appear together when all are complete; RPC, or CRS and transform, are kept.

    Parameters
    ----------
    scene : Scene
    folder : Path
        Where to.
    overwrite : bool
        Replace outputs that are there.
    threads : int, optional
        By default as many as CPUs.
    progress : callable
        Passes windows on, e.g. with a progress bar.

    Returns
    -------
    dict
        For each image: shares of valid, saturated and negative pixels, highest DN, distance and angle used.

    Raises
    ------
    RasterError
        An image is empty, truncated, has other bands than its sensor, or holds nothing but nodata.
    ProductError, OutputExistsError, OutputError
    """
    findings = {}
    calibrations = {key: Calibration.of(scene, key) for key in scene.images}
    rasters = [folder / f"{key}.tif" for key in calibrations]
    for raster in rasters:
        check_apart(raster, [image.path for image in scene.images.values()])
    with together(*rasters, *map(quality_path, rasters)), contextlib.ExitStack() as outputs:
        for key, calibration in calibrations.items():
            with open_raster(calibration.image.path) as src:
                findings[key] = _stream_image(
                    src, calibration, scene, folder / f"{key}.tif", outputs, overwrite, cpus(threads), progress
                )
    return findings


def _stream_image(
    src: rasterio.DatasetReader,
    calibration: Calibration,
    scene: Scene,
    target: Path,
    outputs: contextlib.ExitStack,
    overwrite: bool,
    workers: int,
    progress: Progress,
) -> dict[str, Any]:
    image = calibration.image
    numbers = data_bands(src, image.bands)
    grid = geobox_of(src)
    common: dict[str, Any] = {"overwrite": overwrite, "cog": False, "rpcs": image.rpcs, "tags": scene.tags()}
    values = outputs.enter_context(GeoTiffWriter(target, grid, image.bands, REFLECTANCE, **common))
    quality = outputs.enter_context(GeoTiffWriter(quality_path(target), grid, ["quality"], QUALITY, **common))

    def calibrate(block: tuple[Window, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
        _, dn, valid = block
        reflectance, flags = calibration(dn, valid)
        return REFLECTANCE.encode(reflectance), flags, int(dn.max(where=valid, initial=0))

    counts = dict.fromkeys(("valid", "saturated", "negative"), 0)
    highest = 0
    windows = list(blocks(src.shape, BLOCK))
    # one reader feeds the threads: a dataset must not be read by two of them at once
    items = _read(src, numbers, progress(windows, f"calibrating {image.path.name}", len(windows)))
    for (window, _, valid), (stored, flags, top) in stream(calibrate, items, workers=workers):
        values.write_stored(stored, window)
        quality.write_stored(flags, window)
        counts["valid"] += int(valid.sum())
        counts["saturated"] += int(((flags & int(Quality.SATURATED)) != 0).sum())
        counts["negative"] += int(((flags & int(Quality.NEGATIVE)) != 0).sum())
        highest = max(highest, top)
    if counts["valid"] == 0:
        raise RasterError(
            f"{image.path} holds nothing but nodata (all digital numbers are 0 or marked as nodata); "
            "nothing was written: copy or download it again"
        )
    shares = {
        "valid_share": counts["valid"] / (src.width * src.height),
        "saturated_share": counts["saturated"] / counts["valid"],
        "negative_share": counts["negative"] / counts["valid"],
    }
    return {
        **{name: round(share, 6) for name, share in shares.items()},
        "highest_dn": highest,
        "calibration_source": image.calibration_source,
        "sun_zenith": calibration.sun_zenith,
        "earth_sun_distance_au": calibration.distance_au,
    }


def _read(
    src: rasterio.DatasetReader, numbers: list[int], windows: Iterable[Window]
) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    """Windows with their digital numbers and where they are valid."""
    nodata = src.nodatavals[numbers[0] - 1]
    masked = any(
        flag in (MaskFlags.per_dataset, MaskFlags.alpha) for n in numbers for flag in src.mask_flag_enums[n - 1]
    )
    for window in windows:
        dn = src.read(numbers, window=window)
        valid = valid_dn(dn, nodata)
        if masked:
            valid &= src.dataset_mask(window=window) > 0
        yield window, dn, valid
