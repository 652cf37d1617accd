"""What a single raster tells of itself: an image of a product, a result of a step, its quality."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.rpc import RPC

from geo.alpha import doubt
from geo.errors import GeocrackError, ProductError
from geo.gdal_errors import CPLE_BaseError
from geo.masks import Quality, quality_path
from geo.raster import crs_name, damaged_end, open_raster
from geo.sensors import rpc_text

#: Side in pixels of the small copy that values and shares are taken from.
_SAMPLE = 1024
#: Without overviews, a raster of more pixels than this is not read for its values.
_QUICK = 64_000_000
_TAG = "GEOCRACK_"


@dataclass(frozen=True)
class Band:
    """One band as it lies on disk, with its physical range where it was looked at."""

    name: str | None
    dtype: str
    nodata: float | None
    scale: float
    offset: float
    #: Lowest, mean and highest value in physical units, of a reduced copy; None where it was not read.
    lowest: float | None = None
    mean: float | None = None
    highest: float | None = None


@dataclass(frozen=True)
class Raster:
    """A raster, without its pixels."""

    path: Path
    #: ``"quality"``, ``"orthophoto"`` (on a map) or ``"image"`` (sensor geometry, or no place at all).
    kind: str
    #: Height and width in pixels.
    shape: tuple[int, int]
    bands: tuple[Band, ...]
    #: ``"EPSG:32648"``; None without a CRS.
    crs: str | None
    #: Pixel size in units of the CRS, and the unit.
    resolution: tuple[float, float] | None
    unit: str | None
    #: Longitude and latitude of the middle; None where nothing tells.
    centre: tuple[float, float] | None
    #: Where the camera model comes from: ``"in the file"``, the name of a file beside it, or None.
    rpc: str | None
    compression: str | None
    block: tuple[int, int]
    overviews: tuple[int, ...]
    cog: bool
    size_mb: float
    #: What the chain wrote: scene, sensor, time, model ...
    tags: dict[str, str]
    #: Name of the quality raster beside it.
    quality: str | None
    #: Share of all pixels that has each flag; of a quality raster, or of the one beside.
    flags: dict[str, float] | None
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"path": str(self.path)}


def describe(path: str | os.PathLike) -> Raster:
    """Look at a raster.

    Values and shares come from a reduced copy (nearest neighbour), so they are near, not exact.

    Parameters
    ----------
    path : path
        Any raster that GDAL reads.

    Returns
    -------
    Raster

    Raises
    ------
    RasterError
        It cannot be opened.
    """
    file = Path(path)
    warnings: list[str] = []
    with open_raster(file) as src:
        placed = src.crs is not None and not src.transform.is_identity
        is_quality = file.name.endswith(".quality.tif") or list(src.descriptions) == ["quality"]
        beside = quality_path(file)
        quality = beside.name if beside.exists() and not is_quality else None
        camera, rpc = _rpc(file, warnings)
        mistaken = doubt(src)
        if mistaken:
            warnings.append(mistaken)
        if not placed and rpc is None and not is_quality:
            warnings.append("there is neither RPC nor a CRS with a geotransform: it has no place on the ground")
        return Raster(
            path=file,
            kind="quality" if is_quality else "orthophoto" if placed else "image",
            shape=(src.height, src.width),
            bands=_bands(src, is_quality, warnings),
            crs=crs_name(src.crs) if src.crs else None,
            resolution=tuple(src.res) if placed else None,
            unit=_unit(src.crs) if placed else None,
            centre=_centre(src) if placed else None if camera is None else (camera.long_off, camera.lat_off),
            rpc=rpc,
            compression=src.compression.value if src.compression else None,
            block=src.block_shapes[0] if src.block_shapes else (src.height, src.width),
            overviews=tuple(src.overviews(1)) if src.count else (),
            cog=src.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG",
            size_mb=round(file.stat().st_size / 1e6, 3),
            tags={k.removeprefix(_TAG).lower(): v for k, v in src.tags().items() if k.startswith(_TAG)},
            quality=quality,
            flags=_flags(file) if is_quality else _flags(beside) if quality else None,
            warnings=tuple(warnings),
        )


def _rpc(file: Path, warnings: list[str]) -> tuple[RPC | None, str | None]:
    try:
        return rpc_text.of(file)
    except ProductError as error:
        warnings.append(str(error).replace(f"{file.parent}{os.sep}", ""))
        return None, None


def _bands(src: rasterio.DatasetReader, is_quality: bool, warnings: list[str]) -> tuple[Band, ...]:
    plain = [
        Band(src.descriptions[i], src.dtypes[i], _finite(src.nodatavals[i]), src.scales[i], src.offsets[i])
        for i in range(src.count)
    ]
    quick = src.width * src.height <= _QUICK or (src.count and src.overviews(1))
    if is_quality or not quick or any(np.issubdtype(np.dtype(d), np.complexfloating) for d in src.dtypes):
        damage = damaged_end(src) if src.count else None
        if damage:
            warnings.append(damage)
        return tuple(plain)
    try:
        values = src.read(out_shape=(src.count, *_reduced(src)), resampling=Resampling.nearest, masked=True)
    except (rasterio.errors.RasterioIOError, MemoryError) as error:
        warnings.append(f"its pixels cannot be read ({error}); copy or download it again")
        return tuple(plain)
    told = []
    for band, stored in zip(plain, values, strict=True):
        good = stored.compressed().astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            good = good[np.isfinite(good)] * band.scale + band.offset
        good = good[np.isfinite(good)]
        if good.size:
            with np.errstate(over="ignore"):
                lowest, mean, highest = (float(f"{v:.6g}") for v in (good.min(), good.mean(), good.max()))
            band = replace(band, lowest=lowest, mean=mean, highest=highest)
        told.append(band)
    return tuple(told)


def _finite(nodata: float | None) -> float | None:
    """JSON knows no NaN; a nodata of NaN needs no mention, since NaN never counts."""
    return None if nodata is None or not np.isfinite(nodata) else nodata


def _reduced(src: rasterio.DatasetReader) -> tuple[int, int]:
    factor = max(1, -(-max(src.height, src.width) // _SAMPLE))
    return -(-src.height // factor), -(-src.width // factor)


def _flags(quality: Path) -> dict[str, float] | None:
    try:
        with open_raster(quality) as src:
            flags = src.read(1, out_shape=_reduced(src), resampling=Resampling.nearest)
    except GeocrackError:
        return None
    if not np.issubdtype(flags.dtype, np.integer) or not flags.size:
        return None
    shares = {str(bit.name).lower(): float(np.mean((flags & int(bit)) != 0)) for bit in Quality}
    return {"good": float(np.mean(flags == 0)), **shares}


def _unit(crs: CRS) -> str:
    """Name the unit of a CRS's coordinates; of a local CRS nobody knows more than that it has one."""
    return str(crs.linear_units) if crs.is_projected else "degree" if crs.is_geographic else "units"


def _centre(src: rasterio.DatasetReader) -> tuple[float, float] | None:
    x, y = src.transform @ (src.width / 2, src.height / 2)
    try:
        (lon,), (lat,) = rasterio.warp.transform(src.crs, "EPSG:4326", [x], [y])
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError, CPLE_BaseError):
        return None  # a local CRS, or numbers beyond the earth
    return (float(lon), float(lat)) if np.isfinite([lon, lat]).all() else None
