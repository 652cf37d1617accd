"""More input bands: an image with terrain, spectral indices and another date, on its own grid.

A stack is an image like any other: its bands have names, so a recipe takes those it names. All of it is made window by
window. A pixel is good where every band is, because a model needs all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyproj import CRS
from rasterio.windows import Window
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from geo.atomic import check_free
from geo.encoding import Encoding
from geo.errors import ConfigError, GridError, RasterError, unknown_name
from geo.geobox import GeoBox
from geo.image import band_names
from geo.indices import DIFFERENCES, VISIBLE, brightness, normalised_difference
from geo.masks import Quality, quality_path
from geo.ortho import on_a_map
from geo.ortho.geometry import MapGeometry
from geo.ortho.warp import KERNELS, Warp, one_thread_each
from geo.progress import Counted
from geo.raster import crs_name, open_raster
from geo.source import FileSource, Source
from geo.terrain import Relief, Terrain, open_terrain
from geo.windows import grow, slices
from geo.write import write_windows

#: Bands from a DEM, in the order in which they are made where none is named.
TERRAIN = ("elevation", "slope", "aspect_sin", "aspect_cos", "relief")
#: Bands from those of the image.
SPECTRAL = (*DIFFERENCES, "brightness")
#: What a DEM gives where nothing is named.
USUAL_TERRAIN = TERRAIN[:4]
#: Of another date, every band's name ends so.
BEFORE = "_before"
#: Side of the square in which relief is taken, in metres.
RELIEF_M = 200.0
WINDOW = 512
#: Bands of different units in one file: no scaled integer holds them all.
ENCODING = Encoding("float32", nodata=float("nan"))
#: Gradient below which ground has no aspect, in metres per metre.
_FLAT = 1e-6
#: Largest square for relief, in pixels.
_WIDEST = 2048

Bands = dict[str, np.ndarray]


@dataclass(frozen=True)
class Stacked:
    """What was written.

    Attributes
    ----------
    shape : (int, int)
    bands : tuple of str
    valid_share : float
        Share of the pixels that are good in all bands.
    """

    shape: tuple[int, int]
    bands: tuple[str, ...]
    valid_share: float


def stack(
    image: str | os.PathLike,
    output: str | os.PathLike,
    *,
    dem: str | os.PathLike | None = None,
    add: Sequence[str] | None = None,
    before: str | os.PathLike | None = None,
    names: Sequence[str] | None = None,
    relief_m: float = RELIEF_M,
    dem_zero: str = "auto",
    resampling: str = "cubic",
    window: int = WINDOW,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Counted | None = None,
) -> Stacked:
    """Write an image with more bands, and its quality, on its own grid.

    Parameters
    ----------
    image : path
        Its bands, ``GEOCRACK_`` tags and quality raster are carried over.
    output : path
        float32, NaN where not valid; its quality goes to ``geo.masks.quality_path(output)``.
    dem : path, optional
        Heights in any CRS, see ``geo.ortho.dem.open_dem``; needed for the bands of ``TERRAIN``.
    add : sequence of str, optional
        Some of ``TERRAIN`` and ``SPECTRAL``, in the order wanted; by default ``USUAL_TERRAIN`` where there is a DEM.
    before : path, optional
        Image of another date in any CRS, resampled to the grid; its bands, and the spectral bands wanted, get names
        that end in ``BEFORE``. Register it first (``geocrack coregister``).
    names : sequence of str, optional
        Names of the image's bands in the order of the file, where it does not tell them.
    relief_m : float
        Side of the square in which relief is taken.
    dem_zero : str
        Whether 0 in the DEM is a ``"height"`` or a ``"void"``; ``"auto"`` decides by the ground beside it.
    resampling : str
        Of the other date, a name in ``geo.ortho.warp.KERNELS``.
    window : int
        Side of the windows; the pixels do not depend on it.
    threads : int, optional
        CPUs to use at most.
    overwrite : bool
        Replace outputs that are there.
    progress : callable, optional
        Wraps the stream of windows, given with their number.

    Returns
    -------
    Stacked

    Raises
    ------
    ConfigError
        An unknown band, nothing to add, terrain without a DEM or a DEM without terrain.
    RasterError
        A file cannot be read, or lacks the bands that an index needs.
    GridError
        An image has no CRS in metres where terrain or another date asks for one, or no pixel is valid in all.
    """
    if resampling not in KERNELS:
        raise GridError(unknown_name("resampling", resampling, list(KERNELS)))
    wanted = chosen(add, dem=dem is not None, before=before is not None)
    for path in (output, quality_path(output)):
        check_free(path, overwrite=overwrite)
    with ExitStack() as opened:
        source = _ortho(opened.enter_context(FileSource(image)))
        opened.enter_context(one_thread_each())
        colours = _Colours(source, _names(image, names), [n for n in wanted if n in SPECTRAL])
        layers: list[_Colours | _Ground] = [colours]
        bands = [*colours.bands, *wanted]
        tags = dict(source.tags)
        if dem is not None:
            terrain = open_terrain(dem, _in_metres(source), opened, zero=dem_zero)
            layers.append(_Ground(terrain, [n for n in wanted if n in TERRAIN], _reach(relief_m, source.grid)))
        if before is not None:
            other = _ortho(opened.enter_context(FileSource(before)))
            names_before = _names(before, None)
            indices = [n for n in wanted if n in SPECTRAL and _needs(n, names_before) is None]
            layers.append(_Colours(_laid(other, source.grid, resampling), names_before, indices, BEFORE))
            bands += [name + BEFORE for name in (*names_before, *indices)]
            tags["GEOCRACK_BEFORE"] = other.tags.get("GEOCRACK_SCENE") or Path(before).stem
        twice = sorted({name for name in bands if bands.count(name) > 1})
        if twice:
            raise ConfigError(f"{image} has a band {twice[0]} already; leave it out of what is added")

        def one(at: Window) -> tuple[np.ndarray, np.ndarray]:
            found: Bands = {}
            flags = np.zeros((at.height, at.width), np.uint8)
            for layer in layers:
                values, told = layer.read(at)
                found |= values
                flags |= told
            nodata = (flags & int(Quality.NODATA)) > 0
            for band in found.values():
                nodata |= ~np.isfinite(band)
            flags[nodata] |= int(Quality.NODATA)
            return ENCODING.encode(np.stack([found[name] for name in bands]), ~nodata), flags

        valid_share = write_windows(
            one,
            output,
            source.grid,
            bands,
            ENCODING,
            window=window,
            nothing=GridError(
                f"no pixel of {image} is valid in all of {', '.join(bands)}; expected that the image, the DEM and the "
                "other date show the same ground: look at them on a map"
            ),
            tags=tags,
            threads=threads,
            overwrite=overwrite,
            progress=progress,
        )
    height, width = source.grid.shape
    return Stacked((height, width), tuple(bands), valid_share)


def chosen(add: Sequence[str] | None, *, dem: bool, before: bool) -> list[str]:
    """Names of the bands to add, lower case and each once.

    Raises
    ------
    ConfigError
        As of ``stack``.
    """
    wanted = list(dict.fromkeys(name.strip().lower() for name in add or () if name.strip()))
    for name in wanted:
        if name not in (*TERRAIN, *SPECTRAL):
            raise ConfigError(unknown_name("band", name, (*TERRAIN, *SPECTRAL)))
    if not wanted and dem:
        wanted = list(USUAL_TERRAIN)
    ground = [name for name in wanted if name in TERRAIN]
    if ground and not dem:
        raise ConfigError(f"the band {ground[0]} is made from a DEM, and there is none; give --dem, or leave it out")
    if dem and not ground:
        raise ConfigError(
            f"a DEM is given, and nothing of it is added ({', '.join(wanted)}); add one of {', '.join(TERRAIN)}, or "
            "leave out --dem"
        )
    if not wanted and not before:
        raise ConfigError("there is nothing to add to the image; give --add, --dem or --before")
    return wanted


class _Colours:
    """Bands of an image, and indices of them."""

    def __init__(self, source: Source, bands: Sequence[str], indices: Sequence[str], suffix: str = ""):
        self._source, self.bands, self._indices, self._suffix = source, bands, indices, suffix
        for name in indices:
            missing = _needs(name, bands)
            if missing is not None:
                raise RasterError(
                    f"{source.name} has the bands {', '.join(bands)}; {name} needs {missing}: leave it out, or name "
                    "the bands with --bands in the order of the file"
                )

    def read(self, window: Window) -> tuple[Bands, np.ndarray]:
        """Bands by name, and quality flags."""
        values, _, flags = self._source.read(window)
        found = dict(zip(self.bands, values, strict=True))
        indices = {name: _spectral(name, found) for name in self._indices}
        return {name + self._suffix: band for name, band in (found | indices).items()}, flags


class _Ground:
    """Bands from a DEM."""

    def __init__(self, terrain: Terrain, names: Sequence[str], reach: int):
        self._terrain, self._names = terrain, names
        self._reach = reach if "relief" in names else 0

    def read(self, window: Window) -> tuple[Bands, np.ndarray]:
        """Bands by name, NaN where the DEM is void; it has no quality flags."""
        wide = grow(window, self._reach)
        found = ground_bands(self._terrain.read(wide), self._names, self._reach)
        inner = slices(window, wide)
        return {name: band[inner] for name, band in found.items()}, np.zeros((window.height, window.width), np.uint8)


def ground_bands(relief: Relief, names: Sequence[str], reach: int = 0) -> Bands:
    """Bands from heights and slopes.

    Parameters
    ----------
    relief : Relief
    names : sequence of str
        Some of ``TERRAIN``. ``elevation`` in metres; ``slope`` in degrees; ``aspect_sin`` and ``aspect_cos`` of the
        direction in which the ground falls, clockwise from the y axis of the map (0, 0 where it is flat); ``relief``,
        the range of heights in a square about the pixel, in metres.
    reach : int
        Pixels of that square on each side.

    Returns
    -------
    dict of str to ndarray of float32
        NaN where the DEM is void, or a void lies beside it for slope and aspect.
    """
    made: dict[str, Callable[[], np.ndarray]] = {
        "elevation": lambda: relief.height,
        "slope": lambda: relief.slope,
        "aspect_sin": lambda: _towards(relief.east, relief),
        "aspect_cos": lambda: _towards(relief.north, relief),
        "relief": lambda: _range(relief.height, reach),
    }
    return {name: made[name]().astype(np.float32, copy=False) for name in names}


def _towards(rise: np.ndarray, relief: Relief) -> np.ndarray:
    """How much of the fall line goes along an axis, from -1 to 1."""
    steep = np.hypot(relief.east, relief.north)
    with np.errstate(invalid="ignore"):
        return np.where(steep > _FLAT, -rise / np.maximum(steep, _FLAT), steep * 0)


def _range(height: np.ndarray, reach: int) -> np.ndarray:
    """Highest less lowest known height within some pixels, in rows and columns."""
    known = np.isfinite(height)
    high, low = np.where(known, height, -np.inf), np.where(known, height, np.inf)
    for axis in (0, 1):
        high = maximum_filter1d(high, 2 * reach + 1, axis=axis, mode="nearest")
        low = minimum_filter1d(low, 2 * reach + 1, axis=axis, mode="nearest")
    with np.errstate(invalid="ignore"):
        return np.where(known, high - low, np.nan)


def _spectral(name: str, bands: Mapping[str, np.ndarray]) -> np.ndarray:
    """Index of bands, float32: 0 where a normalised difference has none, as in deep shade, and within -1 and 1."""
    if name == "brightness":
        return brightness(bands).astype(np.float32)
    a, b = (bands[band] for band in DIFFERENCES[name])
    known = np.isfinite(a) & np.isfinite(b)
    index = np.clip(np.nan_to_num(normalised_difference(a, b), nan=0.0), -1, 1)
    return np.where(known, index, np.nan).astype(np.float32)


def _needs(name: str, bands: Sequence[str]) -> str | None:
    """Say which bands an index lacks; None where all are there."""
    if name == "brightness":
        return None if set(VISIBLE) & set(bands) else f"one of {', '.join(VISIBLE)}"
    missing = [band for band in DIFFERENCES[name] if band not in bands]
    return " and ".join(missing) or None


def _names(path: str | os.PathLike, given: Sequence[str] | None) -> tuple[str, ...]:
    with open_raster(path) as src:
        return band_names(src, given)


def _ortho(source: FileSource) -> FileSource:
    """See that an image lies on a map."""
    if not on_a_map(source):
        raise GridError(f"{source.name} has no place on a map; expected an ortho: make one with `geocrack ortho`")
    return source


def _in_metres(source: FileSource) -> GeoBox:
    """Grid of an image on which slopes can be taken."""
    crs = CRS.from_user_input(source.grid.crs)
    if not crs.is_projected or abs(crs.axis_info[0].unit_conversion_factor - 1) > 1e-9:
        raise GridError(
            f"{source.name} has the CRS {crs_name(crs)}, whose units are not metres, so heights have no slope in it; "
            "expected a projected CRS such as UTM: bring it there with `geocrack ortho`"
        )
    return source.grid


def _laid(other: FileSource, grid: GeoBox, resampling: str) -> Source:
    """Another date on the grid of the image."""
    if other.grid.shape == grid.shape and other.grid.crs == grid.crs:
        offset = ~grid.affine @ other.grid.affine
        if np.allclose(tuple(offset)[:6], (1, 0, 0, 0, 1, 0), atol=1e-4 / max(grid.shape)):
            return other
    height, width = other.grid.shape
    crs = CRS.from_user_input(grid.crs)
    place = MapGeometry(other.grid.affine, (height, width), CRS.from_user_input(other.grid.crs), crs)
    return Warp(other, place, grid, resampling)


def _reach(relief_m: float, grid: GeoBox) -> int:
    """Pixels on each side of the square in which relief is taken."""
    reach = max(1, round(relief_m / 2 / float(np.sqrt(abs(grid.affine.determinant)))))
    if 2 * reach > _WIDEST:
        raise ConfigError(
            f"relief in a square of {relief_m:g} m would look at {2 * reach} pixels; expected at most {_WIDEST}: give "
            "a smaller --relief-m"
        )
    return reach
