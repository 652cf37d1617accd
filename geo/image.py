"""An image as tiling and prediction see it: bands by name, values with what is valid, and what was seen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from geo.alpha import data_numbers
from geo.block_cache import block_cache, touched_bytes, worth_caching
from geo.errors import GridError, RasterError
from geo.geobox import GeoBox
from geo.masks import quality_path, seen
from geo.orientation import orientation
from geo.raster import Encoding, geobox_of, open_raster, read
from geo.windows import clip, slices

#: Bands that can be worked out of others, with the weights of a sum (ITU-R BT.601, as photographs are made grey).
DERIVED = {"grey": {"red": 0.299, "green": 0.587, "blue": 0.114}}

_COLOURS = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}


def band_names(src: rasterio.DatasetReader, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of the bands of an opened raster, lower case, without alpha.

    They are those given, else the band descriptions, else red, green and blue where the file says that its
    bands are these colours.

    Parameters
    ----------
    src : rasterio dataset
    given : sequence of str, optional
        One name for each band, in the order of the file.

    Raises
    ------
    RasterError
        As many names as bands were not given, a band has no name, or two have the same; or the bands are
        indices into a table of colours.
    """
    if ColorInterp.palette in src.colorinterp:
        raise RasterError(f"{src.name} holds numbers of a colour table; expected bands: convert it to RGB")
    bands = data_numbers(src)
    if given:
        names = tuple(name.strip().lower() for name in given)
        if len(names) != len(bands):
            raise RasterError(
                f"{src.name} has {len(bands)} bands, but {len(names)} names were given ({', '.join(names)}); "
                "give one for each band, in the order of the file"
            )
    else:
        names = tuple((src.descriptions[b - 1] or _COLOURS.get(src.colorinterp[b - 1], "")).lower() for b in bands)
    if not all(names):
        shown = ", ".join(name or "(unnamed)" for name in names)
        raise RasterError(
            f"{src.name} has the bands {shown}; bands are found by name: give --bands in the order of the file, "
            "such as --bands blue,green,red,nir, or write band descriptions"
        )
    if len(set(names)) != len(names):
        raise RasterError(f"{src.name} has two bands of one name ({', '.join(names)}); name them with --bands")
    return names


class Image:
    """An opened image; made by ``open_image``.

    Attributes
    ----------
    path : Path
    bands : tuple of str
        In the order in which ``read`` gives them.
    geobox : GeoBox
    encoding : Encoding
        How values lie on disk; float32 where bands are scaled differently.
    tags : dict
        What steps of the chain hand on (``GEOCRACK_SCENE`` and the like).
    rpcs : rasterio RPC or None
    marks_nodata : bool
        Whether the file says which pixels show no ground, by a nodata value, a mask or an alpha band.
    orientation : int
        How a photograph lies in its file, see ``geo.orientation``; ``read`` gives pixels as they lie there.
    """

    def __init__(
        self, src: rasterio.DatasetReader, quality: rasterio.DatasetReader | None, names: tuple[str, ...]
    ) -> None:
        self._src, self._quality = src, quality
        self.path = Path(src.name)
        self.bands = names
        self.geobox: GeoBox = geobox_of(src)
        self.orientation = orientation(src)
        self.rpcs = src.rpcs
        self.tags = {key: value for key, value in src.tags().items() if key.startswith("GEOCRACK_")}
        self._numbers = [b for b, c in zip(src.indexes, src.colorinterp, strict=True) if c != ColorInterp.alpha]
        self.encoding = _encoding(src, self._numbers)
        self.marks_nodata = any(MaskFlags.all_valid not in src.mask_flag_enums[b - 1] for b in self._numbers)

    @property
    def available(self) -> tuple[str, ...]:
        """Names that ``read`` knows: the bands, and what can be worked out of them."""
        derived = (name for name, parts in DERIVED.items() if name not in self.bands and set(parts) <= set(self.bands))
        return (*self.bands, *derived)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._src.shape

    @property
    def name(self) -> str:
        """Scene that the image shows, or the file's name."""
        return self.tags.get("GEOCRACK_SCENE") or self.path.stem

    def cached_for(self, size: int) -> AbstractContextManager[None]:
        """Let GDAL cache what is worth it while windows of this side are read, row by row; see ``geo.block_cache``."""
        return block_cache(worth_caching(self._block_bytes(size, size), self._block_bytes(size, self.shape[1])))

    def _block_bytes(self, height: int, width: int) -> int | None:
        """Bytes of the decoded blocks that a window of this size lies in, at most; None where files do not tell."""
        total = 0
        for src in (self._src, self._quality):
            touched = 0 if src is None else touched_bytes(src, height, width)
            if touched is None:
                return None
            total += touched
        return total

    def read(self, window: Window, bands: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Values of a window and where they are valid.

        Parameters
        ----------
        window : Window
            May reach past the image.
        bands : sequence of str, optional
            Some of ``self.available``, in the order wanted.

        Returns
        -------
        values : ndarray of float32, shape (bands, height, width)
            Physical units, NaN where not valid.
        valid : ndarray of bool, shape (height, width)
        """
        if bands is None:
            return read(self._src, window, bands=self._numbers)
        parts = {band: {band: 1.0} if band in self.bands else DERIVED[band] for band in bands}
        stored = list(dict.fromkeys(name for weights in parts.values() for name in weights))
        values, valid = read(self._src, window, bands=[self._numbers[self.bands.index(name)] for name in stored])
        if stored == list(bands):
            return values, valid
        sums = [
            sum(np.float32(weight) * values[stored.index(name)] for name, weight in parts[band].items())
            for band in bands
        ]
        return np.stack(sums).astype(np.float32), valid

    def seen(self, window: Window) -> np.ndarray:
        """Where the quality raster says that the ground was seen; everywhere inside where there is none.

        Returns
        -------
        ndarray of bool, shape (height, width)
            False outside the image.
        """
        good = np.zeros((window.height, window.width), dtype=bool)
        inside = clip(window, self.shape)
        if inside.width and inside.height:
            at = slices(inside, window)
            good[at] = True if self._quality is None else seen(self._quality.read(1, window=inside))
        return good


@contextmanager
def open_image(path: str | os.PathLike, names: Sequence[str] | None = None) -> Iterator[Image]:
    """Open an image with its quality raster, where one lies beside it.

    Parameters
    ----------
    path : path
    names : sequence of str, optional
        Names of its bands in the order of the file, where it does not tell them.

    Raises
    ------
    RasterError
        A file cannot be read, or bands have no names.
    GridError
        The quality raster has another grid.
    """
    with ExitStack() as stack:
        src = stack.enter_context(open_raster(path))
        beside = quality_path(path)
        quality = stack.enter_context(open_raster(beside)) if beside.exists() else None
        if quality is not None and (
            quality.shape != src.shape or not quality.transform.almost_equals(src.transform, precision=1e-6)
        ):
            raise GridError(
                f"{beside} has another grid ({quality.height} x {quality.width} pixels) than its image "
                f"({src.height} x {src.width}); make it anew, or remove it to go without"
            )
        yield Image(src, quality, band_names(src, names))


def _encoding(src: rasterio.DatasetReader, numbers: Sequence[int]) -> Encoding:
    """How the bands lie on disk, where one encoding says it without loss for all of them."""
    found = {(src.dtypes[b - 1], src.scales[b - 1], src.offsets[b - 1]) for b in numbers}
    nodata = {None if v is None or np.isnan(v) else v for v in (src.nodatavals[b - 1] for b in numbers)}
    dtype, scale, offset = next(iter(found))
    if len(found) > 1 or len(nodata) > 1 or dtype not in ("uint8", "int8", "uint16", "int16"):
        return Encoding("float32", nodata=float("nan"))
    value = next(iter(nodata))
    if value is not None and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        value = None  # no pixel can have it
    return Encoding(dtype, value, scale, offset)
