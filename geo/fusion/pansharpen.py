"""Pan-sharpening of a whole scene, window by window.

First the statistics of the scene are gathered on the MSS grid; then every PAN window is sharpened with them.
MSS is interpolated once, straight to the PAN pixels, with the measured displacement inside the interpolation.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from rasterio.windows import Window

from geo.atomic import check_free
from geo.displacement import Displacement
from geo.encoding import COMPILED
from geo.errors import GridError, RasterError
from geo.fusion import Method, method
from geo.fusion.mtf import GAIN
from geo.fusion.pair import Pair
from geo.fusion.statistics import Statistics
from geo.fusion.window import Around, sharpen
from geo.geobox import GeoBox
from geo.masks import Quality, quality_path
from geo.ortho.dem import apply
from geo.ortho.warp import filled, one_thread_each, reach, resample_flags
from geo.progress import Counted
from geo.source import Source
from geo.stream import cpus, stream
from geo.windows import clip, grow, spread_windows
from geo.write import write_windows

if TYPE_CHECKING:
    from geo.coregister import Registration

log = logging.getLogger(__name__)

#: Order of the bands of a fused image, where MSS has them by name.
BANDS = ("blue", "green", "red", "nir")
#: Side of an output window in pixels, a multiple of the writer's blocks: what a window needs stays in the CPU's cache.
WINDOW = 512
#: The same for methods that look around the window, which costs more for small ones.
WIDE_WINDOW = 1024
#: Share by which sizes of pixels differ that are one.
_SAME_SIZE = 1e-6
#: Statistics are gathered on windows of this side in MSS pixels, this many along one axis at most.
_SAMPLE, _SAMPLES = 128, 8


@dataclass(frozen=True)
class Fused:
    """What a fusion made.

    Attributes
    ----------
    geobox : GeoBox
        The output grid, which is PAN's.
    bands : tuple of str
    valid_share : float
        Share of the output's pixels that are good.
    statistics : Statistics
    """

    geobox: GeoBox
    bands: tuple[str, ...]
    valid_share: float
    statistics: Statistics


def pansharpen(
    mss: str | os.PathLike | Source,
    pan: str | os.PathLike | Source,
    output: str | os.PathLike,
    *,
    name: str = "mtf-glp-cbd",
    registration: Registration | None = None,
    gain: float = GAIN,
    window: int | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    cog: bool = True,
    compress: str = "zstd",
    progress: Counted | None = None,
) -> Fused:
    """Sharpen an MSS ortho with a PAN ortho and write it, with its quality.

    A pixel is good where both images are; its flags are those of both. The encoding is that of MSS.

    Parameters
    ----------
    mss, pan : path or Source
        Orthos in one CRS; their footprints may differ and their resolutions need no whole ratio.
    output : path
        The fused image; its quality goes to ``geo.masks.quality_path(output)``.
    name : str
        A registered method.
    registration : Registration, optional
        Displacement of MSS against PAN; none where absent.
    gain : float
        MTF of MSS at its Nyquist frequency.
    window : int, optional
        Side of the windows; the pixels do not depend on it.
    threads : int, optional
        CPUs to use at most.
    executor : Executor, optional
        Where to compute instead, see ``geo.stream.stream``; the images must be files that it can read.
    overwrite : bool
        Replace outputs that are there.
    cog, compress
        Layout of the outputs, see ``geo.geotiff.GeoTiffWriter``.
    progress : callable, optional
        Wraps the stream of windows, given with their number.

    Returns
    -------
    Fused

    Raises
    ------
    ConfigError
        There is no method of this name.
    GridError
        The images have different CRSs or no good ground in common, or PAN's pixels are not the finer ones.
    RasterError
        PAN has several bands, the images are at different levels of reflectance, or one cannot be read.
    """
    for path in (output, quality_path(output)):
        check_free(path, overwrite=overwrite)
    with ExitStack() as opened:
        opened.enter_context(one_thread_each())
        fusion = fusion_of(mss, pan, opened, name=name, registration=registration, gain=gain, threads=threads)
        share = write_windows(
            fusion,
            output,
            fusion.grid,
            fusion.bands,
            fusion.encoding,
            window=window or (WIDE_WINDOW if fusion.margin else WINDOW),
            nothing=_apart(f"{fusion.mss.name} and {fusion.pan.name}"),
            tags={**scene_tags(fusion.mss, fusion.pan), "GEOCRACK_FUSION": name},
            threads=threads,
            executor=executor,
            overwrite=overwrite,
            cog=cog,
            compress=compress,
            progress=progress,
        )
    return Fused(fusion.grid, fusion.bands, share, fusion.statistics)


def fusion_of(
    mss: str | os.PathLike | Source,
    pan: str | os.PathLike | Source,
    opened: ExitStack,
    *,
    name: str = "mtf-glp-cbd",
    registration: Registration | None = None,
    gain: float = GAIN,
    threads: int | None = None,
) -> Fusion:
    """Find out all that must be known of two orthos before a window can be fused.

    Parameters are those of ``pansharpen``; ``opened`` closes the files. Windows can be written, or seen as an array
    of dask by ``geo.write.view``.
    """
    chosen = method(name)
    pair = Pair(pan, mss, opened, gain=gain)
    if len(pair.reference.bands) != 1:
        raise RasterError(
            f"{pair.reference.name} has {len(pair.reference.bands)} bands; expected one, PAN: "
            "give the images in the order MSS PAN"
        )
    check_finer(pair.moving, pair.reference)
    check_one_level(pair.moving, pair.reference)
    if told := other_scenes(pair.moving, pair.reference):
        log.warning("%s", told)
    if registration is not None:
        pair.displacement = registration.displacement
    windows = spread_windows(pair.overlap, _SAMPLE, _SAMPLES)
    statistics = Statistics.gather(found for _, found in stream(pair.patches, windows, workers=cpus(threads)))
    if not statistics.count:
        raise _apart(pair.names, pair.saturated())
    return Fusion(pair.reference, pair.moving, chosen, statistics, pair.sigma, pair.displacement)


def check_finer(mss: Source, pan: Source) -> None:
    """Raise ``GridError`` where PAN's pixels are not finer than MSS's, so that it has no detail to give them."""
    ratio = abs(pan.grid.affine.a / mss.grid.affine.a)
    if mss.grid.crs == pan.grid.crs and ratio >= 1 - _SAME_SIZE:
        raise GridError(
            f"{pan.name} has pixels {ratio:.4g} times as large as {mss.name}; expected finer ones of PAN, whose detail "
            "sharpens MSS: give the images in the order MSS PAN, each as `geocrack ortho` lays it out by itself"
        )


def check_one_level(mss: Source, pan: Source) -> None:
    """Raise ``RasterError`` where MSS and PAN are tagged with different levels of reflectance.

    Every method takes details from a comparison of PAN with the bands. Haze that is left in one of them only is
    compared as well, and ratio methods multiply it into the result.
    """
    levels = [image.tags.get("GEOCRACK_LEVEL") for image in (mss, pan)]
    if None not in levels and levels[0] != levels[1]:
        raise RasterError(
            f"{mss.name} holds reflectance of the level '{levels[0]}' and {pan.name} of '{levels[1]}'; expected one: "
            "make both by geocrack reflectance with the same --level"
        )


def other_scenes(mss: Source, pan: Source) -> str | None:
    """Tell that MSS and PAN are tagged with different scenes or times; None where they are not, or have no tags."""
    named = ("GEOCRACK_SCENE", "GEOCRACK_ACQUIRED")
    if not any(_differ(mss, pan, name) for name in named):
        return None
    (of_mss, of_pan) = (
        f"{image.name} is of {', '.join(image.tags[name] for name in named if name in image.tags)}"
        for image in (mss, pan)
    )
    return f"{of_mss}, but {of_pan}: the fused image has the colours of one day and the details of another"


def scene_tags(mss: Source, pan: Source) -> dict[str, str]:
    """Tags of a fused image: those of both, of MSS where they differ, and no time where there are two."""
    tags = {**pan.tags, **mss.tags}
    if _differ(mss, pan, "GEOCRACK_ACQUIRED"):
        del tags["GEOCRACK_ACQUIRED"]
    return tags


def _differ(mss: Source, pan: Source, name: str) -> bool:
    return name in mss.tags and name in pan.tags and mss.tags[name] != pan.tags[name]


def _apart(names: str, why: str = "") -> GridError:
    return GridError(f"{names} have no good pixel in common; {why or 'expected two views of the same ground'}")


class Fusion:
    """Make windows of the fused image; from several threads, or in other processes.

    Parameters
    ----------
    pan, mss : Source
    chosen : Method
    statistics : Statistics
        Bands in the order of MSS.
    sigma : float
        Blur of MSS in PAN pixels.
    displacement : Displacement
        Of MSS against PAN.
    """

    def __init__(
        self,
        pan: Source,
        mss: Source,
        chosen: Method,
        statistics: Statistics,
        sigma: float,
        displacement: Displacement,
    ):
        self.pan, self.mss, self.method, self.sigma, self.displacement = pan, mss, chosen, sigma, displacement
        self.grid, self.encoding = pan.grid, mss.encoding
        self.order, self.bands = _order(mss.bands)
        self.statistics = statistics.ordered(self.order)
        compiled = chosen.injection is not None and self.encoding.dtype in COMPILED
        self.injection = chosen.injection(self.statistics) if chosen.injection and compiled else None
        self.margin = chosen.reach_px(abs(mss.grid.affine.a / pan.grid.affine.a), sigma)

    def __call__(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Make the stored values and the flags of a PAN window."""
        col, row = self.positions(window)
        margin = reach("cubic")
        left, top = int(np.floor(col.min())) - margin, int(np.floor(row.min())) - margin
        right, bottom = int(np.ceil(col.max())) + margin, int(np.ceil(row.max())) + margin
        source = Window(left, top, right - left, bottom - top)
        inside = clip(source, (self.mss.grid.shape[0], self.mss.grid.shape[1]))
        if not (inside.width and inside.height):
            return self._nothing(window)
        pan, pan_valid, pan_flags = self.pan.read(grow(window, self.margin))
        mss, mss_valid, mss_flags = self.mss.read(source)
        if not (pan_valid.any() and mss_valid.any()):
            return self._nothing(window)
        around = Around(
            pan=pan[0],
            pan_valid=pan_valid,
            margin=self.margin,
            mss=mss if self.order == sorted(self.order) else mss[self.order],
            mss_valid=mss_valid,
            col=col - left,
            row=row - top,
            to_mss=_composed(Affine.translation(-left, -top), self.to_mss(window), _corner(window)),
            sigma=self.sigma,
        )
        if self.injection is not None and around.col.shape[0] == around.row.shape[1] == 1:
            stored, good = self._inject(around)
        else:
            fused, good = sharpen(self.method, around, self.statistics)
            stored = self.encoding.encode(fused, None if good.all() else good)
        flags = resample_flags(mss_flags, around.col, around.row, good)
        flags |= around.inner(pan_flags)
        return stored, flags

    def _inject(self, around: Around) -> tuple[np.ndarray, np.ndarray]:
        """Make what ``sharpen`` makes in one compiled pass: the stored values of a window, and where they are good."""
        assert self.injection is not None
        pan, mss = around.inner(around.pan), around.mss
        mss, good = filled(mss, around.mss_valid, around.col, around.row)
        good &= around.inner(around.pan_valid)
        low = pan if self.method.low is None else self.method.low(around)
        if not good.all():
            np.copyto(pan, np.float32(np.nan), where=~good)  # nobody else looks at what was read
        col, row = around.col[0] - 0.5, around.row[:, 0] - 0.5
        return self.injection.stored(mss, col, row, pan, low, self.encoding), good

    def _nothing(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        shape = (window.height, window.width)
        nothing = np.full((len(self.bands), *shape), np.nan, np.float32)
        return self.encoding.encode(nothing), np.full(shape, int(Quality.NODATA), np.uint8)

    def positions(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Where a PAN window's pixels lie in MSS.

        Returns
        -------
        col, row : ndarray of float64
            GDAL pixel coordinates, shapes (1, width) and (height, 1) under a shift, else both (height, width).
        """
        u = (window.col_off + 0.5 + np.arange(window.width))[None, :]
        v = (window.row_off + 0.5 + np.arange(window.height))[:, None]
        pan, mss = self.pan.grid.affine, ~self.mss.grid.affine
        x, y = pan.a * u + pan.c, pan.e * v + pan.f  # rows along x
        # a shift keeps the grids parallel
        dx, dy = self.displacement(x, y) if self.displacement.model != "shift" else self.displacement.coefficients[:, 0]
        col, row = mss.a * (x + dx) + mss.c, mss.e * (y + dy) + mss.f
        return col, row

    def to_mss(self, window: Window) -> Affine:
        """Transform from PAN's to MSS's pixel coordinates; that of a local model holds about the window."""
        middle = window.col_off + window.width / 2, window.row_off + window.height / 2
        x, y = apply(self.pan.grid.affine, *middle)
        dx, dy = (float(np.squeeze(d)) for d in self.displacement(np.array([[x]]), np.array([[y]])))
        (_, b, c), (_, e, f) = self.displacement.coefficients
        shown = Affine(1 + b, c, dx - b * x - c * y, e, 1 + f, dy - e * x - f * y)
        return _composed(~self.mss.grid.affine, shown, self.pan.grid.affine)


def _corner(window: Window) -> Affine:
    """Transform from a window's pixel coordinates to the scene's."""
    return Affine.translation(window.col_off, window.row_off)


def _composed(*affines: Affine) -> Affine:
    """Affine that applies the last one first."""
    product = np.linalg.multi_dot([np.array(tuple(a)).reshape(3, 3) for a in affines])
    return Affine(*product[:2].ravel())


def _order(names: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Give the indices and names of the output's bands, blue, green, red and nir first if these are the names.

    Four bands without names are taken to be in this order already.
    """
    lower = [n.lower() for n in names]
    if lower == ["band1", "band2", "band3", "band4"]:
        return [0, 1, 2, 3], BANDS
    order = sorted(range(len(names)), key=lambda i: BANDS.index(lower[i]) if lower[i] in BANDS else len(BANDS))
    return order, tuple(lower[i] if lower[i] in BANDS else names[i] for i in order)
