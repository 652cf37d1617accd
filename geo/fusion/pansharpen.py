"""Pan-sharpening of a whole scene, window by window.

First the statistics of the scene are gathered on the MSS grid; then every PAN window is sharpened with them.
MSS is interpolated once, straight to the PAN pixels, with the measured displacement inside the interpolation.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.atomic import check_free, together
from geo.coregister import Registration
from geo.errors import GridError, RasterError
from geo.fusion import Method, method
from geo.fusion.mtf import GAIN
from geo.fusion.pair import Pair, spread_windows
from geo.fusion.statistics import Statistics
from geo.fusion.window import Around, sharpen
from geo.masks import QUALITY, Quality, quality_path
from geo.ortho import Progress
from geo.ortho.warp import one_thread_each, reach, resample_flags
from geo.raster import Encoding, GeoTiffWriter, geobox_of, open_raster
from geo.source import band_names, encoding_of
from geo.stream import cpus, stream
from geo.windows import blocks, clip, grow

#: Order of the bands of a fused image, where MSS has them by name.
BANDS = ("blue", "green", "red", "nir")
#: Side of an output window in pixels; a multiple of the writer's blocks.
WINDOW = 1024
#: Statistics are gathered on windows of this side in MSS pixels, this many along one axis at most.
_SAMPLE, _SAMPLES = 256, 8
#: Positions in MSS are rounded to this part of a pixel, as OpenCV does, but from the scene's origin: so that
#: the pixels do not depend on the windows.
_STEPS = 32


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
    mss: str | os.PathLike,
    pan: str | os.PathLike,
    output: str | os.PathLike,
    *,
    name: str = "gsa",
    registration: Registration | None = None,
    gain: float = GAIN,
    window: int = WINDOW,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Fused:
    """Sharpen an MSS ortho with a PAN ortho and write it, with its quality, as Cloud Optimized GeoTIFFs.

    A pixel is good where both images are; its flags are those of both. The encoding is that of MSS.

    Parameters
    ----------
    mss, pan : path
        Orthos in one CRS; their footprints may differ and their resolutions need no whole ratio.
    output : path
        The fused image; its quality goes to ``geo.masks.quality_path(output)``.
    name : str
        A registered method.
    registration : Registration, optional
        Displacement of MSS against PAN; none where absent.
    gain : float
        MTF of MSS at its Nyquist frequency.
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
    Fused

    Raises
    ------
    ConfigError
        There is no method of this name.
    GridError
        The images have different CRSs or no good ground in common.
    RasterError
        PAN has several bands, or an image cannot be read.
    """
    chosen = method(name)
    quality, workers = quality_path(output), cpus(threads)
    for path in (output, quality):
        check_free(path, overwrite=overwrite)
    with ExitStack() as opened:
        mss_src, pan_src = opened.enter_context(open_raster(mss)), opened.enter_context(open_raster(pan))
        if len(band_names(pan_src)) != 1:
            raise RasterError(
                f"{pan} has {len(band_names(pan_src))} bands; expected one, PAN: give the images in the order MSS PAN"
            )
        opened.enter_context(one_thread_each())
        pair = Pair(pan, mss, opened, gain=gain)
        if registration is not None:
            pair.displacement = registration.displacement
        sharpen = _Sharpen(pair, chosen, registration, mss_src, pan_src)
        sharpen.statistics = _statistics(pair, workers)
        tags = {k: v for s in (pan_src, mss_src) for k, v in s.tags().items() if k.startswith("GEOCRACK_")}
        tags["GEOCRACK_FUSION"] = name
        geobox, encoding = geobox_of(pan_src), encoding_of(mss_src)
        good = 0
        with (
            together(Path(output), quality),
            GeoTiffWriter(
                quality, geobox, ["quality"], QUALITY, overwrite=overwrite, resampling="nearest", tags=tags
            ) as quality_writer,
            GeoTiffWriter(output, geobox, sharpen.bands, encoding, overwrite=overwrite, tags=tags) as writer,
        ):
            windows = list(blocks(pan_src.shape, window))
            done = stream(lambda w: sharpen.stored(w, encoding), windows, workers=workers)
            for at, (stored, flags) in progress(done, len(windows)) if progress else done:
                writer.write_stored(stored, at)
                quality_writer.write_stored(flags, at)
                good += int(np.count_nonzero((flags & int(Quality.NODATA)) == 0))
            if not good:
                raise GridError(f"{mss} and {pan} have no good pixel in common; expected two views of the same ground")
    return Fused(geobox, tuple(sharpen.bands), good / (pan_src.height * pan_src.width), sharpen.statistics)


def _statistics(pair: Pair, workers: int) -> Statistics:
    """Moments of the scene, from windows spread evenly over what both images show."""
    windows = spread_windows(pair.overlap, _SAMPLE, _SAMPLES)
    statistics = Statistics.gather(result for _, result in stream(pair.patches, windows, workers=workers))
    if not statistics.count:
        raise GridError(f"{pair.names} have no good pixel in common; expected two views of the same ground")
    return statistics


class _Sharpen:
    """Sharpen PAN windows; called from several threads."""

    statistics: Statistics

    def __init__(
        self,
        pair: Pair,
        chosen: Method,
        registration: Registration | None,
        mss_src: rasterio.DatasetReader,
        pan_src: rasterio.DatasetReader,
    ):
        self.pair, self.method = pair, chosen
        self.pan_shape, self.mss_shape = pan_src.shape, mss_src.shape
        self.to_mss = _composed(~mss_src.transform, _displaced(registration), pan_src.transform)
        self.to_map, self.from_map = pan_src.transform, ~mss_src.transform
        self.field = registration.displacement.field if registration else None
        self.ratio = float(1 / np.hypot(self.to_mss.a, self.to_mss.d))
        self.order, self.bands = _order(band_names(mss_src))

    def stored(self, window: Window, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
        """Make the stored values and the flags of a PAN window."""
        shape = (window.height, window.width)
        nothing = np.full((len(self.bands), *shape), np.nan, np.float32)
        missing = np.full(shape, int(Quality.NODATA), np.uint8)
        col, row = self._positions(window)
        margin = reach("cubic")
        left, top = int(np.floor(col.min())) - margin, int(np.floor(row.min())) - margin
        right, bottom = int(np.ceil(col.max())) + margin, int(np.ceil(row.max())) + margin
        source = Window(left, top, right - left, bottom - top)
        inside = clip(source, self.mss_shape)
        if not (inside.width and inside.height):
            return encoding.encode(nothing), missing
        margin = self.method.reach_px(self.ratio, self.pair.sigma)
        pan, pan_valid, pan_flags = self.pair.reference.read(grow(window, margin))
        values, valid, flags = self.pair.moving.read(source)
        if not (pan_valid.any() and valid.any()):
            return encoding.encode(nothing), missing
        around = Around(
            pan=pan[0],
            pan_valid=pan_valid,
            margin=margin,
            mss=values[self.order],
            mss_valid=valid,
            col=col - left,
            row=row - top,
            to_mss=_composed(
                Affine.translation(-left, -top),
                self._at_middle(window),
                self.to_mss,
                Affine.translation(window.col_off, window.row_off),
            ),
            sigma=self.pair.sigma,
        )
        fused, good = sharpen(self.method, around, self._ordered)
        flags = resample_flags(flags, *around.positions(), good) | around.inner(pan_flags)
        return encoding.encode(fused, good), flags

    @property
    def _ordered(self) -> Statistics:
        """Statistics in the order of the output's bands."""
        return self.statistics.ordered(self.order)

    def _positions(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Where a PAN window's pixels lie in MSS, GDAL pixel coordinates, to be broadcast to the window."""
        u = (window.col_off + 0.5 + np.arange(window.width))[None, :]
        v = (window.row_off + 0.5 + np.arange(window.height))[:, None]
        a = self.to_mss
        # unless the model turns or shears, a column depends on u alone and a row on v alone
        col = a.a * u + a.c + (a.b * v if a.b else 0)
        row = a.e * v + a.f + (a.d * u if a.d else 0)
        if self.field is not None:
            more_col, more_row = self._local(u, v)
            col, row = col + more_col, row + more_row
        return np.round(col * _STEPS) / _STEPS, np.round(row * _STEPS) / _STEPS

    def _local(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """MSS pixels that the field of a local model adds at PAN's columns (1, n) and rows (m, 1)."""
        assert self.field is not None
        dx, dy = self.field(self.to_map.c + self.to_map.a * u, self.to_map.f + self.to_map.e * v)
        return self.from_map.a * dx, self.from_map.e * dy

    def _at_middle(self, window: Window) -> Affine:
        """Give the shift in MSS pixels that a local model adds to its affine in the middle of a PAN window."""
        if self.field is None:
            return Affine.identity()
        u, v = window.col_off + window.width / 2, window.row_off + window.height / 2
        col, row = self._local(np.array([[u]]), np.array([[v]]))
        return Affine.translation(float(col[0, 0]), float(row[0, 0]))


def _composed(*affines: Affine) -> Affine:
    """Affine that applies the last one first."""
    product = np.linalg.multi_dot([np.array(tuple(a)).reshape(3, 3) for a in affines])
    return Affine(*product[:2].ravel())


def _displaced(registration: Registration | None) -> Affine:
    """Map transform from where PAN shows a thing to where MSS shows it."""
    if registration is None:
        return Affine.identity()
    (a, b, c), (d, e, f) = registration.coefficients
    x0, y0 = registration.origin
    return Affine(1 + b, c, a - b * x0 - c * y0, e, 1 + f, d - e * x0 - f * y0)


def _order(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Give the indices and names of the output's bands, blue, green, red and nir first if these are the names.

    Four bands without names are taken to be in this order already.
    """
    lower = [n.lower() for n in names]
    if lower == ["band1", "band2", "band3", "band4"]:
        return [0, 1, 2, 3], list(BANDS)
    order = sorted(range(len(names)), key=lambda i: BANDS.index(lower[i]) if lower[i] in BANDS else len(BANDS))
    return order, [lower[i] if lower[i] in BANDS else names[i] for i in order]
