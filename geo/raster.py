"""Read windows, write GeoTIFFs: the only place that opens rasters and builds a profile.

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
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.rpc import RPC
from rasterio.windows import Window

from geo.atomic import atomic
from geo.encoding import PROBABILITY, PROBABILITY_FLOAT, REFLECTANCE, Encoding, physical
from geo.errors import OutputError, RasterError
from geo.stream import cpus
from geo.windows import clip, slices

__all__ = [
    "COMPRESSIONS",
    "PROBABILITY",
    "PROBABILITY_FLOAT",
    "REFLECTANCE",
    "Encoding",
    "GeoTiffWriter",
    "band_numbers",
    "crs_name",
    "damage_told",
    "geobox_of",
    "open_dataset",
    "open_raster",
    "overview",
    "read",
]

# Products in sensor geometry have no geotransform, by nature. The warning is silenced once and for all threads:
# silencing it around single calls, as rasterio does itself, does not hold while another thread does the same.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


#: What the bands are shown as, so that a viewer opens an image in its true colours.
COLOURS = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}
#: Ways to compress, with the level that is worth its time.
COMPRESSIONS = {"zstd": 1, "deflate": 6, "none": 0}
#: Bytes of a pixel, all bands, up to which a row of blocks of a whole scene fits into GDAL's cache.
_PIXEL_BYTES = 8
_GDAL_ERRORS = (RasterioError, CPLE_BaseError)


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
        raise RasterError(f"{file} cannot be read as a raster ({_first(error)}); expected a GeoTIFF") from error
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
        raise RasterError(f"{path} is truncated or damaged ({_first(error)}); copy or download it again") from error


def _first(error: Exception) -> str:
    cause = error.__cause__ or error
    return str(cause).splitlines()[0].rstrip(".") if str(cause) else type(error).__name__


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
        values, valid = _physical(src, bands, src.read(bands, window=inside), masks)
        if inside == window:
            return values, valid
    wide = np.full((len(bands), window.height, window.width), np.nan, dtype=np.float32)
    wide_valid = np.zeros((window.height, window.width), dtype=bool)
    if inside.width and inside.height:
        at = slices(inside, window)
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
    src: rasterio.DatasetReader, bands: list[int], stored: np.ndarray, masks: np.ndarray | None
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


def _block(side: int) -> int:
    """Side of the tiles of a raster: a small one (a chip) is one tile, not a corner of a large one."""
    return min(512, -(-side // 16) * 16)


class GeoTiffWriter:
    """Write a GeoTIFF window by window; it appears under its name when complete, or not at all.

    Parameters
    ----------
    path : path
        The output.
    geobox : GeoBox
        Its grid; ``crs`` None for sensor geometry.
    bands : sequence of str
        Names, written as band descriptions.
    encoding : Encoding
        dtype, nodata, scale and offset on disk.
    overwrite : bool
        Replace an output that is there.
    cog : bool
        Give it the Cloud Optimized layout with overviews (not for sensor geometry); else plain tiles.
    compress : str
        A name in ``COMPRESSIONS``.
    resampling : str
        Of the overviews: ``"average"`` for quantities, ``"mode"`` or ``"nearest"`` for classes.
    rpcs : rasterio RPC, optional
        Camera model kept in the file.
    tags : dict, optional
        Metadata items.

    Raises
    ------
    OutputExistsError, OutputError
    """

    def __init__(
        self,
        path: str | os.PathLike,
        geobox: GeoBox,
        bands: Sequence[str],
        encoding: Encoding,
        *,
        overwrite: bool = False,
        cog: bool = True,
        compress: str = "zstd",
        resampling: str = "average",
        rpcs: RPC | None = None,
        tags: dict[str, str] | None = None,
    ):
        self.path = Path(path)
        self.encoding = encoding
        self._cog, self._compress, self._resampling = cog, compress, resampling
        self._atomic = atomic(path, overwrite=overwrite)
        self._geobox, self._bands, self._rpcs, self._tags = geobox, list(bands), rpcs, tags or {}

    def __enter__(self) -> GeoTiffWriter:
        self._part = self._atomic.__enter__()
        self._strips = self._part.with_name(self._part.name + ".strips.tif") if self._cog else self._part
        height, width = self._geobox.shape
        try:
            self._dst = rasterio.open(
                self._strips,
                "w",
                driver="GTiff",
                height=height,
                width=width,
                count=len(self._bands),
                dtype=self.encoding.dtype,
                nodata=self.encoding.nodata,
                crs=self._geobox.crs.to_wkt() if self._geobox.crs else None,
                transform=self._geobox.affine if self._geobox.crs else None,
                rpcs=self._rpcs,
                tiled=True,
                blockxsize=_block(width),
                blockysize=_block(height),
                interleave=self._interleave,
                photometric="MINISBLACK",  # or GDAL takes four bands of bytes for RGB with alpha
                alpha="NO",
                bigtiff="IF_SAFER",
                num_threads=cpus(),
                **self._compression("zstd" if self._cog else self._compress),
            )
            for number, name in enumerate(self._bands, 1):
                self._dst.set_band_description(number, name)
            self._dst.scales = [self.encoding.scale] * len(self._bands)
            self._dst.offsets = [self.encoding.offset] * len(self._bands)
            self._dst.colorinterp = [COLOURS.get(name.lower(), ColorInterp.undefined) for name in self._bands]
            self._dst.update_tags(**self._tags)
        except _GDAL_ERRORS as error:
            failed = self._failed(error)
            self.__exit__(OutputError, failed, None)
            raise failed from error
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    @property
    def _interleave(self) -> str:
        """Order of the bands in the file that is written first.

        The COG driver reads band after band: blocks that hold many bands are read again for each of them as soon as
        one row of blocks is larger than GDAL's cache.
        """
        many = self._cog and len(self._bands) * np.dtype(self.encoding.dtype).itemsize > _PIXEL_BYTES
        return "pixel" if self._geobox.crs and not many else "band"

    def _compression(self, name: str) -> dict[str, Any]:
        """Creation options of plain tiles."""
        if name == "none":
            return {}
        predictor = 3 if np.issubdtype(self.encoding.dtype, np.floating) else 2
        # what is read again at once, and what is large, is not worth more time
        level = {"zstd_level": 1 if self._geobox.crs else 9} if name == "zstd" else {"zlevel": 6}
        return {"compress": name.upper(), "predictor": predictor, **level}

    def write(self, values: np.ndarray, window: Window, valid: np.ndarray | None = None) -> None:
        """Encode and write a window.

        Parameters
        ----------
        values : ndarray of float, shape (bands, height, width) or (height, width)
            Physical values, NaN where not valid.
        window : Window
            Inside the raster.
        valid : ndarray of bool, shape (height, width), optional
        """
        self.write_stored(self.encoding.encode(values, valid), window)

    def write_stored(self, stored: np.ndarray, window: Window) -> None:
        """Write numbers that are already as they lie on disk."""
        stored = stored[None] if stored.ndim == 2 else stored
        try:
            self._dst.write(stored, window=window)
        except _GDAL_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(
            f"{self.path} could not be written whole: its disk is full or failed ({_first(error)}); "
            "free some space, or choose another place, and run again"
        )

    def __exit__(self, kind, error, trace) -> bool | None:
        try:
            if hasattr(self, "_dst"):
                self._close(finish=kind is None)
        except BaseException as failure:
            if kind is None:
                self._atomic.__exit__(type(failure), failure, failure.__traceback__)
                raise
        return self._atomic.__exit__(kind, error, trace)

    def _close(self, finish: bool) -> None:
        try:
            # inside an environment of rasterio what GDAL says is logged, not printed past our own sentence
            with rasterio.Env():
                self._dst.close()
                if finish:
                    self._finish()
        except (*_GDAL_ERRORS, RasterError) as failure:
            raise self._failed(failure) from failure

    def _finish(self) -> None:
        """Turn the written file into a Cloud Optimized GeoTIFF, and see that the end of the file is there."""
        if self._cog:
            rasterio.shutil.copy(
                self._strips,
                self._part,
                driver="COG",
                compress=self._compress.upper(),
                # level 9 of ZSTD takes five times as long for a file an eighth smaller
                **({} if self._compress == "none" else {"level": COMPRESSIONS[self._compress], "predictor": "YES"}),
                blocksize=512,
                overview_resampling=self._resampling,
                bigtiff="IF_SAFER",
                num_threads=cpus(),
            )
            self._strips.unlink()
        with open_raster(self._part) as src:
            (tall, wide), (height, width) = src.block_shapes[0], src.shape
            row, col = (height - 1) // tall * tall, (width - 1) // wide * wide
            src.read(window=Window(col, row, width - col, height - row))
