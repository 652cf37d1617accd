"""Read rasters by window: the only place that opens them.

Inside the program a raster is ``values`` (float32, physical units, NaN where not valid) with ``valid``
(bool, True where data is good). On disk it may be scaled integers: an ``Encoding`` says how, and its scale
and offset are written as the tags that GDAL and QGIS apply.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window

from geo.encoding import PROBABILITY, PROBABILITY_FLOAT, REFLECTANCE, Encoding, physical
from geo.errors import RasterError
from geo.gdal_errors import first_line
from geo.geobox import GeoBox
from geo.windows import clip, slices

__all__ = [
    "PROBABILITY",
    "PROBABILITY_FLOAT",
    "REFLECTANCE",
    "Encoding",
    "band_numbers",
    "crs_name",
    "damage_told",
    "damaged_end",
    "geobox_of",
    "open_dataset",
    "open_raster",
    "overview",
    "read",
]

# Products in sensor geometry have no geotransform, by nature. The warning is silenced once and for all threads:
# silencing it around single calls, as rasterio does itself, does not hold while another thread does the same.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


@contextmanager
def open_raster(path: str | os.PathLike) -> Iterator[rasterio.DatasetReader]:
    """Open a raster for reading.

    Raises
    ------
    RasterError
        There is no such file, it is empty, or GDAL cannot read it; and where a block inside turns out to
        be damaged while it is read.
    """
    with open_dataset(path) as src, damage_told(path):
        yield src


def open_dataset(path: str | os.PathLike) -> rasterio.DatasetReader:
    """Open a raster that is closed by whoever asks for it, in any thread: ``open_raster`` binds it to its own.

    Raises
    ------
    RasterError
        There is no such file, it is empty, or GDAL cannot read it.
    """
    file = Path(path)
    if not file.exists():
        raise RasterError(f"{file} does not exist; expected a raster such as a GeoTIFF")
    if file.is_file() and file.stat().st_size == 0:
        raise RasterError(f"{file} is empty (0 bytes); expected a raster: copy or download it again")
    try:
        opened = rasterio.open(file)
    except RasterioError as error:
        raise RasterError(f"{file} cannot be read as a raster ({first_line(error)}); expected a GeoTIFF") from error
    if opened.driver == "PNG" and file.is_file():
        _check_whole_png(file)
    return opened


def _check_whole_png(path: Path) -> None:
    """Raise where a PNG ends too early: GDAL reads what is missing as black and says nothing."""
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4096))
        if b"IEND" not in stream.read():
            raise RasterError(f"{path} is truncated or damaged (its end is missing); copy or download it again")


@contextmanager
def damage_told(path: str | os.PathLike) -> Iterator[None]:
    """Turn an error of GDAL while a raster is read into a ``RasterError`` that names it."""
    try:
        yield
    except RasterioIOError as error:
        raise RasterError(f"{path} is truncated or damaged ({first_line(error)}); copy or download it again") from error


def damaged_end(src: rasterio.DatasetReader) -> str | None:
    """Sentence on an opened raster whose last pixel cannot be read, as where a copy was interrupted; else None.

    It costs one block, whatever the size of the file; what is damaged before it, reading all pixels tells.
    """
    try:
        with damage_told(Path(src.name).name):
            src.read(window=Window(src.width - 1, src.height - 1, 1, 1))
    except RasterError as error:
        return str(error)
    return None


def geobox_of(src: rasterio.DatasetReader) -> GeoBox:
    """Grid (shape, transform, crs) of an opened raster; its crs is None for sensor geometry."""
    return GeoBox((src.height, src.width), src.transform, src.crs)


def crs_name(crs: Any) -> str:
    """Short name of a CRS for a sentence: ``EPSG:32648``, or its name where it has no code; ``none``."""
    if crs is None:
        return "none"
    known = pyproj.CRS.from_user_input(crs)
    code = known.to_epsg()
    return f"EPSG:{code}" if code else known.name


def read(
    src: rasterio.DatasetReader,
    window: Window | None = None,
    *,
    bands: Sequence[int] | None = None,
    zero_fill: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Values of a window in physical units, and where they are good.

    Scale and offset tags are applied. A pixel is good where every band asked for is: not nodata, not NaN,
    not masked by an alpha band or a mask. What lies outside the raster is not good.

    Parameters
    ----------
    src : rasterio dataset
        An opened raster.
    window : Window, optional
        May reach past the raster; by default all of it.
    bands : sequence of int, optional
        Band numbers from 1; by default all but alpha.
    zero_fill : bool
        What is stored as 0 in all bands is not good either.

    Returns
    -------
    values : ndarray of float32, shape (bands, height, width)
        NaN where not good.
    valid : ndarray of bool, shape (height, width)
    """
    window = window or Window(0, 0, src.width, src.height)
    bands = list(bands or _no_alpha(src))
    inside = clip(window, src.shape)
    if inside.width and inside.height:
        masks = src.read_masks(bands, window=inside) if _masked(src, bands) else None
        values, valid = _physical(src, bands, src.read(bands, window=inside), masks, zero_fill)
        if inside == window:
            return values, valid
    wide = np.empty((len(bands), window.height, window.width), dtype=np.float32)
    wide_valid = np.zeros((window.height, window.width), dtype=bool)
    if not (inside.width and inside.height):
        wide[:] = np.nan
        return wide, wide_valid
    rows, cols = at = slices(inside, window)
    for outside in (slice(0, rows.start), slice(rows.stop, None)):
        wide[:, outside] = np.nan
    for beside in (slice(0, cols.start), slice(cols.stop, None)):
        wide[:, rows, beside] = np.nan
    wide[:, *at], wide_valid[at] = values, valid
    return wide, wide_valid


def overview(
    src: rasterio.DatasetReader,
    longest: int,
    window: Window | None = None,
    *,
    bands: Sequence[int] | None = None,
    resampling: str = "average",
) -> tuple[np.ndarray, np.ndarray, Affine]:
    """Read a raster made small, through its overviews where it has them; for pictures.

    Parameters
    ----------
    src : rasterio dataset
        An opened raster.
    longest : int
        Pixels of the longer side; what is smaller stays as it is.
    window : Window, optional
        Inside the raster; by default all of it.
    bands : sequence of int, optional
        Band numbers from 1; by default all but alpha.
    resampling : str
        ``"average"`` for quantities, ``"nearest"`` for classes. Pixels that are not valid are passed over.

    Returns
    -------
    values : ndarray of float32, shape (bands, height, width)
        NaN where not good.
    valid : ndarray of bool, shape (height, width)
    transform : Affine
        Of the small raster.
    """
    bands = list(bands or _no_alpha(src))
    window = window or Window(0, 0, src.width, src.height)
    factor = max(1.0, max(window.height, window.width) / longest)
    height, width = (max(1, round(side / factor)) for side in (window.height, window.width))
    shape = (len(bands), height, width)
    masks = src.read_masks(bands, window=window, out_shape=shape) if _masked(src, bands) else None
    stored = src.read(bands, window=window, out_shape=shape, resampling=Resampling[resampling])
    values, valid = _physical(src, bands, stored, masks)
    scale = Affine.scale(window.width / width, window.height / height)
    return values, valid, src.transform @ Affine.translation(window.col_off, window.row_off) @ scale


def _no_alpha(src: rasterio.DatasetReader) -> list[int]:
    return [b for b, c in zip(src.indexes, src.colorinterp, strict=True) if c != ColorInterp.alpha]


def _physical(
    src: rasterio.DatasetReader,
    bands: list[int],
    stored: np.ndarray,
    masks: np.ndarray | None,
    zero_fill: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Values in physical units (NaN where not good) and where all bands are good, of numbers as stored."""
    integers = np.issubdtype(stored.dtype, np.integer)
    good = np.ones(stored.shape[1:], bool) if integers else np.isfinite(stored).all(axis=0)
    for band, layer in zip(bands, stored, strict=True):
        nodata = _as_stored(src.nodatavals[band - 1], layer.dtype)
        if nodata is not None:
            good &= layer != nodata
    if masks is not None:
        good &= (masks > 0).all(axis=0)
    if zero_fill:
        good &= (stored != 0).any(axis=0)
    scale, offset = ([values[b - 1] for b in bands] for values in (src.scales, src.offsets))
    return physical(stored, good, scale, offset), good


def _as_stored(nodata: float | None, dtype: np.dtype) -> np.generic | None:
    """Nodata as a number of the raster's own type; None where no number of the raster equals it.

    GDAL gives a float, to compare with which NumPy would turn whole integer rasters into float64 first.
    """
    if nodata is None or np.isnan(nodata):
        return None
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        if not (limits.min <= nodata <= limits.max and float(nodata).is_integer()):
            return None
        return dtype.type(int(nodata))
    return dtype.type(nodata)


def _masked(src: rasterio.DatasetReader, bands: list[int]) -> bool:
    """Whether an alpha band or a mask says more than nodata does."""
    return any({MaskFlags.per_dataset, MaskFlags.alpha} & set(src.mask_flag_enums[b - 1]) for b in bands)


def band_numbers(src: rasterio.DatasetReader, names: Sequence[str]) -> list[int]:
    """Band numbers (from 1) of bands found by name in the raster's band descriptions.

    Raises
    ------
    RasterError
        A name is not among the descriptions.
    """
    there = [(d or "").lower() for d in src.descriptions]
    missing = [n for n in names if n.lower() not in there]
    if missing:
        shown = ", ".join(d or "(unnamed)" for d in there)
        raise RasterError(
            f"{src.name} has the bands {shown}; expected {', '.join(names)}: "
            "name its bands (band descriptions), or give --bands in the order of the file"
        )
    return [there.index(n.lower()) + 1 for n in names]
