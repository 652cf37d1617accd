"""Write GeoTIFFs window by window: the only place that builds a profile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.windows import Window

from geo.atomic import atomic
from geo.encoding import Encoding
from geo.errors import OutputError, RasterError
from geo.gdal_errors import GDAL_ERRORS, first_line
from geo.geobox import GeoBox
from geo.raster import open_raster
from geo.stream import cpus

#: What the bands are shown as, so that a viewer opens an image in its true colours.
COLOURS = {"red": ColorInterp.red, "green": ColorInterp.green, "blue": ColorInterp.blue}
#: Ways to compress, with the level that is worth its time.
COMPRESSIONS = {"zstd": 1, "deflate": 6, "none": 0}
#: Bytes of a pixel, all bands, up to which a row of blocks of a whole scene fits into GDAL's cache.
_PIXEL_BYTES = 8


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
        except GDAL_ERRORS as error:
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
        except GDAL_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(
            f"{self.path} could not be written whole: its disk is full or failed ({first_line(error)}); "
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
        except (*GDAL_ERRORS, RasterError) as failure:
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
