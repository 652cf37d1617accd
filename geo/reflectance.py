"""Calibrate a whole scene to reflectance: windows in, GeoTIFFs with quality out.

Up to three passes over the files: one for the dark objects where the level needs them, one for clouds where they are
asked for, and the one that writes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from geo import clouds as cloud_mask
from geo import surface as surface_level
from geo.atmosphere import Histogram
from geo.atomic import check_apart, together
from geo.calibration import Calibration
from geo.digital_numbers import beyond_bits, check_steps, doubts, look, read_numbers
from geo.errors import RasterError
from geo.geotiff import GeoTiffWriter
from geo.masks import QUALITY, Quality, quality_path
from geo.progress import Progress, silent
from geo.raster import REFLECTANCE, open_raster
from geo.sensors.place import pixel_m
from geo.sensors.scene import Image, Scene, data_bands
from geo.stream import cpus, stream
from geo.surface import Correction, Surface
from geo.windows import blocks

log = logging.getLogger(__name__)

#: Rows and columns that are in work at a time: whole blocks of the output, a few rows of strips of the input.
BLOCK = (512, 2048)


@dataclass(frozen=True)
class Clouds:
    """Clouds as one image of the scene sees them."""

    map: cloud_mask.CloudMap
    to_mss: Affine
    report: dict[str, Any]

    def at(self, window: Window) -> np.ndarray:
        """Give the flags of a window of the image, uint8: cloud, shadow, or 0."""
        return self.map.at(window, self.to_mss)


def write_reflectance(
    scene: Scene,
    folder: Path,
    *,
    surface: Surface = Surface(),  # noqa: B008 - a frozen value
    clouds: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """Write ``<key>.tif`` and ``<key>.quality.tif`` of every image of a scene, in the geometry of its sensor.

    The images appear together when all are complete; RPC, or CRS and transform, are kept.

    Parameters
    ----------
    scene : Scene
    folder : Path
        Where to.
    surface : Surface
        Level of reflectance, and what is told of the air.
    clouds : bool
        Flag clouds and their shadows, found on the MSS at the top of the atmosphere, in all images.
    overwrite : bool
        Replace outputs that are there.
    threads : int, optional
        By default as many as CPUs.
    progress : callable
        Passes windows on, e.g. with a progress bar.

    Returns
    -------
    findings : dict
        For each image: shares of valid, saturated and negative pixels, and of those clipped at the bottom and, though
        not saturated, at the top of the encoding (``clipped_above_share``); highest DN, distance and angle used,
        every coefficient of the level, and shares of cloud and shadow where they were looked for.
    warnings : tuple of str
        What had to be assumed, and is odd; all of it was logged, before what may fail because of it.

    Raises
    ------
    RasterError
        An image is empty, truncated, has other bands than its sensor, or holds nothing but nodata.
    ProductError
        The level needs what the product does not tell, or the scale of a generic image leaves nothing of its numbers.
    ConfigError
        There is no such level, or it or the clouds need an extra that is not installed.
    OutputExistsError, OutputError
    """
    findings = {}
    rasters = [folder / f"{key}.tif" for key in scene.images]
    for target in (*rasters, *map(quality_path, rasters)):
        check_apart(target, scene.files)
    workers = cpus(threads)
    calibrations, found, warnings = prepare(scene, surface=surface, clouds=clouds, threads=threads, progress=progress)
    with together(*rasters, *map(quality_path, rasters)), contextlib.ExitStack() as outputs:
        for key, calibration in calibrations.items():
            tags = tags_of(scene, calibration)
            with open_raster(calibration.image.path) as src:
                findings[key] = _stream_image(
                    src, calibration, tags, folder / f"{key}.tif", outputs, overwrite, workers, progress, found.get(key)
                )
    late = surface_level.too_dark(findings) + surface_level.too_bright(findings)
    for key, calibration in calibrations.items():
        if not beyond_bits(key, calibration.highest, scene.bit_depth):  # else it was told already
            late += beyond_bits(key, findings[key]["highest_dn"], scene.bit_depth)
    return findings, (*warnings, *tell(scene, late))


def prepare(
    scene: Scene,
    *,
    surface: Surface = Surface(),  # noqa: B008 - a frozen value
    clouds: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Calibration], dict[str, Clouds], tuple[str, ...]]:
    """Find out all that must be known of the whole scene before a window of it can be calibrated.

    Parameters are those of ``write_reflectance``.

    Returns
    -------
    calibrations, clouds : dict
        For each image; no clouds where they are not looked for.
    warnings : tuple of str
        What had to be assumed, and is odd; it was logged, after the warnings of the scene.
    """
    surface_level.check(scene, surface)
    if clouds:
        cloud_mask.check(scene.images["mss"].bands, scene.images["mss"].path)
    workers = cpus(threads)
    calibrations = {key: Calibration.of(scene, key) for key in scene.images}
    looked = {key: look(image) for key, image in scene.images.items()}
    check_steps(looked.values())
    odd = doubts(scene, looked)
    tell(scene, (*scene.warnings, *odd))  # not before the look: an image that cannot be read is told by its error
    found, unsure = _clouds(calibrations, workers, progress) if clouds else ({}, ())
    corrections, assumed = _corrections(scene, calibrations, found, surface, workers, progress)
    calibrations = {
        key: replace(c, correction=corrections.get(key), highest=looked[key].highest, tops=looked[key].tops)
        for key, c in calibrations.items()
    }
    return calibrations, found, (*odd, *tell(scene, (*unsure, *assumed)))


def tell(scene: Scene, warnings: Iterable[str]) -> tuple[str, ...]:
    """Log warnings of a scene, and give them back for its record."""
    told = tuple(warnings)
    for warning in told:
        log.warning("%s: %s", scene.id, warning)
    return told


def tags_of(scene: Scene, calibration: Calibration) -> dict[str, str]:
    """Tags that the raster of an image carries, and all that is made of it."""
    return scene.tags() | {"GEOCRACK_LEVEL": calibration.report["level"]}


def _corrections(
    scene: Scene,
    calibrations: dict[str, Calibration],
    clouds: dict[str, Clouds],
    surface: Surface,
    workers: int,
    progress: Progress,
) -> tuple[dict[str, Correction], tuple[str, ...]]:
    """Correct each image to the level; nothing for the top of the atmosphere."""
    if surface.level == "6s":
        return surface_level.by_6s(scene, surface)
    corrections = {}
    for key, calibration in calibrations.items() if surface.needs_dark else ():
        averaged = max(1, round(_pixel_m(calibrations["mss"].image) / _pixel_m(calibration.image)))
        dark = _histogram(calibration, clouds.get(key), averaged, workers, progress).percentile(surface.dark_percent)
        distance = calibration.distance_au
        assert distance is not None  # all images have gains, and with them a time
        corrections[key] = surface_level.dark_object(scene, key, surface, dark, averaged=averaged, distance_au=distance)
    return corrections, ()


def _pixel_m(image: Image) -> float:
    """Pixel size of an image, metres; from its place on the ground where the product does not tell it."""
    if image.gsd_m:
        return image.gsd_m
    with open_raster(image.path) as src:
        return pixel_m(src.shape, image.rpcs, image.grid(src)) or cloud_mask.PIXEL_M


def _histogram(
    calibration: Calibration, clouds: Clouds | None, averaged: int, workers: int, progress: Progress
) -> Histogram:
    """Histogram of an image at the top of the atmosphere, of means of so many good pixels along a side.

    What is flagged as cloud or shadow does not count: air over a shadow is darker than over the ground beside it.
    """
    image = calibration.image
    total = Histogram(len(image.bands))

    def count(block: tuple[Window, np.ndarray, np.ndarray]) -> Histogram:
        window, dn, valid = block
        height, width = window.height // averaged, window.width // averaged
        part = Histogram(len(image.bands))
        if height and width:
            clear = valid if clouds is None else valid & (clouds.at(window) == 0)
            values = np.where(clear, calibration.toa(dn), np.float32(np.nan))
            values = values[:, : height * averaged, : width * averaged]
            if averaged > 1:
                values = np.stack([cv2.resize(v, (width, height), interpolation=cv2.INTER_AREA) for v in values])
            part.add(values)
        return part

    with open_raster(image.path) as src:
        windows = list(blocks(src.shape, BLOCK))
        items = read_numbers(src, image, progress(windows, f"dark objects of {image.path.name}", len(windows)))
        for _, part in stream(count, items, workers=workers):
            total = total + part
    if not total.counts.any():
        if clouds is None:
            raise _nothing_in(image)
        raise RasterError(
            f"{image.path} shows nothing but cloud, shadow and nodata, so it has no dark object; choose --level toa, "
            "or go on without clouds (--no-clouds)"
        )
    return total


def _clouds(
    calibrations: dict[str, Calibration], workers: int, progress: Progress
) -> tuple[dict[str, Clouds], tuple[str, ...]]:
    """Clouds of the MSS, for every image; wider by what is not known of its place beside the MSS."""
    mss = calibrations["mss"]
    image = mss.image
    with contextlib.ExitStack() as opened:
        sources = {key: opened.enter_context(open_raster(c.image.path)) for key, c in calibrations.items()}
        src = sources["mss"]
        numbers = data_bands(src, image.bands)
        order = [image.bands.index(band) for band in cloud_mask.BANDS]

        def toa(window: Window) -> tuple[np.ndarray, np.ndarray]:
            ((_, dn, valid),) = read_numbers(src, image, [window], numbers)
            return mss.toa(dn)[order], valid

        found = cloud_mask.find_clouds(toa, src.shape, gsd_m=_pixel_m(image), threads=workers, progress=progress)
        result = {}
        for key, other in sources.items():
            where = cloud_mask.Alignment(Affine.identity(), 0.0)
            if key != "mss":
                where = cloud_mask.align(
                    other.shape,
                    calibrations[key].image.rpcs,
                    calibrations[key].image.grid(other),
                    mss_shape=src.shape,
                    mss_rpcs=image.rpcs,
                    mss_grid=image.grid(src),
                )
            report = {
                "clouds": "ukis-csmask, 4 bands, on the MSS at the top of the atmosphere",
                "clouds_pixel_mss_px": found.factor,
                "clouds_widened_mss_px": round(where.error_px, 2),
            }
            result[key] = Clouds(found.widened(where.error_px), where.to_mss, report)
    return result, found.warnings


def calibrated(
    calibration: Calibration, clouds: Clouds | None, window: Window, dn: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Make the stored reflectance and the quality flags of a window's digital numbers."""
    reflectance, flags = calibration(dn, valid)
    if clouds is not None:
        flags |= np.where(valid, clouds.at(window), np.uint8(0))
    return REFLECTANCE.encode(reflectance), flags


def _stream_image(
    src: rasterio.DatasetReader,
    calibration: Calibration,
    tags: dict[str, str],
    target: Path,
    outputs: contextlib.ExitStack,
    overwrite: bool,
    workers: int,
    progress: Progress,
    clouds: Clouds | None,
) -> dict[str, Any]:
    image = calibration.image
    grid = image.grid(src)
    common: dict[str, Any] = {"overwrite": overwrite, "cog": False, "rpcs": image.rpcs, "tags": tags}
    values = outputs.enter_context(GeoTiffWriter(target, grid, image.bands, REFLECTANCE, **common))
    quality = outputs.enter_context(GeoTiffWriter(quality_path(target), grid, ["quality"], QUALITY, **common))

    def calibrate(block: tuple[Window, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, int, tuple[int, int]]:
        window, dn, valid = block
        stored, flags = calibrated(calibration, clouds, window, dn, valid)
        return stored, flags, int(dn.max(where=valid, initial=0)), _clipped(stored, flags)

    told = (Quality.SATURATED, Quality.NEGATIVE, *((Quality.CLOUD, Quality.SHADOW) if clouds is not None else ()))
    flagged = dict.fromkeys(told, 0)
    good = highest = below = above = 0
    windows = list(blocks(src.shape, BLOCK))
    # one reader feeds the threads: a dataset must not be read by two of them at once
    items = read_numbers(src, image, progress(windows, f"calibrating {image.path.name}", len(windows)))
    for (window, _, valid), (stored, flags, top, clipped) in stream(calibrate, items, workers=workers):
        values.write_stored(stored, window)
        quality.write_stored(flags, window)
        good += int(np.count_nonzero(valid))
        if flags.any():
            for flag in flagged:
                flagged[flag] += int(np.count_nonzero(flags & int(flag)))
        highest = max(highest, top)
        below, above = below + clipped[0], above + clipped[1]
    if good == 0:
        raise _nothing_in(image)
    return {
        "valid_share": round(good / (src.width * src.height), 6),
        **{f"{str(flag.name).lower()}_share": round(count / good, 6) for flag, count in flagged.items()},
        "clipped_share": round(below / good, 6),
        "clipped_above_share": round(above / good, 6),
        "highest_dn": highest,
        "calibration_source": image.calibration_source,
        "sun_zenith": calibration.sun_zenith,
        "earth_sun_distance_au": calibration.distance_au,
        **(clouds.report if clouds is not None else {}),
        "surface": calibration.report,
    }


def _clipped(stored: np.ndarray, flags: np.ndarray) -> tuple[int, int]:
    """Count pixels at the lowest number of the encoding, and unsaturated ones at the highest, in any band."""
    low, high = REFLECTANCE.limits
    below = above = 0
    if (flags & Quality.NEGATIVE).any():
        below = int(np.count_nonzero((stored == low).any(axis=0)))
    if stored.max() == high:
        above = int(np.count_nonzero((stored == high).any(axis=0) & ((flags & Quality.SATURATED) == 0)))
    return below, above


def _nothing_in(image: Image) -> RasterError:
    return RasterError(
        f"{image.path} holds nothing but nodata (all digital numbers are 0 or marked as nodata); "
        "nothing was written: copy or download it again"
    )
