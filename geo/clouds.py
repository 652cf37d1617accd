"""Clouds and their shadows by the network of ``ukis-csmask``, the optional extra ``geocrack[clouds]``.

The network (U-Net, EfficientNet-B4, bands blue, green, red and near infrared, trained on top-of-atmosphere reflectance
of Landsat and Sentinel-2 at about 30 m) sees the MSS averaged to pixels of about 16 m: coarser ones lose small cumulus,
finer ones show it rooftops that it takes for clouds. It goes by texture and can take ground without any for cloud, so a
pixel is cloud only where its colour allows it too: not where it is darker in blue than haze is, by the test of Fmask::

    blue - red / 2 > 0.08                                               (1)

The image is read in windows; only the map of classes, one byte
for each of these pixels, is held for the scene, and given out on the grid of any image of the product.

References
----------
Wieland, Li & Martinis 2019, Multi-sensor cloud and cloud shadow segmentation with a convolutional neural network,
Remote Sensing of Environment 230, 111203.
Zhu & Woodcock 2012, Object-based cloud and cloud shadow detection in Landsat imagery, Remote Sensing of Environment
118, 83-94: equation (1) is the haze-optimised test of its potential cloud pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from affine import Affine
from rasterio.rpc import RPC
from rasterio.windows import Window

from geo.errors import ConfigError
from geo.geobox import GeoBox
from geo.masks import Quality
from geo.progress import Progress, silent
from geo.stream import cpus
from geo.windows import blocks, clip, grow, slices

#: Bands that the network was trained on.
BANDS = ("blue", "green", "red", "nir")
#: Side of the pixels that it is shown, about.
PIXEL_M = 16.0
#: Side of the windows in its pixels, and what they see beyond: half a tile of the network.
_WINDOW, _MARGIN = 768, 128
#: Least side, in these pixels, of what the network is made for.
SMALLEST = 256
#: Threshold of (1).
_HAZE = 0.08
#: Rows of the image that are in memory at a time, about.
_ROWS = 512
#: MSS pixels by which PAN may lie beside MSS without their RPCs knowing; cloud and shadow on PAN are widened by them.
_UNKNOWN_SHIFT_PX = 2.0
#: Metres above and below the middle height of the RPC at which PAN and MSS are compared.
_RELIEF_M = 3000.0
#: Bit flags of the network's classes.
_FLAGS = np.array([0, int(Quality.CLOUD), int(Quality.SHADOW)], np.uint8)

Read = Callable[[Window], tuple[np.ndarray, np.ndarray]]


def _network() -> Any:
    """Class that runs the network; by name, since it carries no types and may be absent.

    Raises
    ------
    ConfigError
        The extra is not installed.
    """
    try:
        return import_module("ukis_csmask.mask").CSmask
    except ImportError as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(
            f'the cloud mask is not installed ({first}); install it with `pip install "geocrack[clouds]"`, '
            "or go on without clouds (--no-clouds)"
        ) from None


def check(bands: Iterable[str], where: object) -> None:
    """See that an image's clouds can be found, before work is begun.

    Raises
    ------
    ConfigError
        The extra is not installed, or a band is missing.
    """
    there = tuple(bands)
    missing = [band for band in BANDS if band not in there]
    if missing:
        raise ConfigError(
            f"{where} has the bands {', '.join(there)}; the cloud mask needs {', '.join(BANDS)}: name them so, or go "
            "on without clouds (--no-clouds)"
        )
    _network()


def coarsening(gsd_m: float | None) -> int:
    """Pixels of an image, along one side, that make one of the network's; 1 where the pixel size is not known."""
    return max(1, round(PIXEL_M / gsd_m)) if gsd_m else 1


@dataclass(frozen=True)
class CloudMap:
    """Cloud and shadow over an MSS image.

    Attributes
    ----------
    flags : ndarray of uint8, shape (height, width)
        ``Quality.CLOUD`` or ``Quality.SHADOW``, else 0.
    factor : int
        MSS pixels along a side of one of its pixels.
    """

    flags: np.ndarray
    factor: int

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user of the map must know."""
        if min(self.flags.shape) >= SMALLEST:
            return ()
        height, width = self.flags.shape
        return (
            f"the cloud mask saw an image of {width} x {height} pixels; it is made for {SMALLEST} x {SMALLEST} and "
            "more, and may find clouds and shadows that are none: look at it",
        )

    def widened(self, mss_px: float) -> CloudMap:
        """Map whose clouds and shadows reach further by so many MSS pixels, rounded up to pixels of the map."""
        reach = math.ceil(mss_px / self.factor - 0.01)  # a hair more is not worth a pixel
        if not reach:
            return self
        kernel = np.ones((2 * reach + 1,) * 2, np.uint8)
        layers = (cv2.dilate(self.flags & int(flag), kernel) for flag in (Quality.CLOUD, Quality.SHADOW))
        return CloudMap(np.bitwise_or.reduce(list(layers)), self.factor)

    def at(self, window: Window, to_mss: Affine) -> np.ndarray:
        """Give the flags of a window: each pixel's are those of the map where its centre lies.

        Parameters
        ----------
        window : Window
        to_mss : Affine
            From pixel coordinates of the window's image to those of MSS.

        Returns
        -------
        ndarray of uint8, shape (height, width)
        """
        to_map = Affine.scale(1 / self.factor) @ to_mss @ Affine.translation(window.col_off, window.row_off)
        corners = [to_map @ (x, y) for x in (0, window.width) for y in (0, window.height)]
        (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
        height, width = self.flags.shape
        cols = np.clip([math.floor(left), math.ceil(right) + 1], 0, width)
        rows = np.clip([math.floor(top), math.ceil(bottom) + 1], 0, height)
        if cols[0] == cols[1]:  # beside the map: its edge holds
            cols = np.clip([cols[0] - 1, cols[1] + 1], 0, width)
        if rows[0] == rows[1]:
            rows = np.clip([rows[0] - 1, rows[1] + 1], 0, height)
        part = self.flags[rows[0] : rows[1], cols[0] : cols[1]]
        if not part.any():
            return np.zeros((window.height, window.width), np.uint8)
        # OpenCV counts from pixel centres
        to_part = Affine.translation(-cols[0] - 0.5, -rows[0] - 0.5) @ to_map @ Affine.translation(0.5, 0.5)
        how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        matrix = np.array([to_part[:3], to_part[3:6]])
        size = (window.width, window.height)
        return cv2.warpAffine(part, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)


def find_clouds(
    read: Read,
    shape: tuple[int, int],
    *,
    gsd_m: float | None,
    threads: int | None = None,
    progress: Progress = silent,
) -> CloudMap:
    """Find the clouds and shadows of a scene, window by window.

    Parameters
    ----------
    read : callable
        Gives top-of-atmosphere reflectance of a window, float of shape (4, height, width) in the order of ``BANDS``,
        and where it is valid.
    shape : (int, int)
        Height and width of the image.
    gsd_m : float, optional
        Its pixel size; where it is not known the network sees the pixels as they are.
    threads : int, optional
    progress : callable
        Passes windows on, e.g. with a progress bar.

    Returns
    -------
    CloudMap
        Nothing is cloud or shadow where no pixel is valid.

    Raises
    ------
    ConfigError
        The extra is not installed.
    """
    factor = coarsening(gsd_m)
    small = math.ceil(shape[0] / factor), math.ceil(shape[1] / factor)
    flags = np.zeros(small, np.uint8)
    windows = list(blocks(small, _WINDOW))
    for core in progress(windows, "finding clouds", len(windows)):
        window = _around(core, small)
        image, known = _coarse(read, window, factor, shape)
        if known[slices(core, window)].any():
            found = _FLAGS[_classes(image, threads)]
            found[~known | ((found == int(Quality.CLOUD)) & ~_may_be_cloud(image))] = 0
            flags[slices(core)] = found[slices(core, window)]
    return CloudMap(flags, factor)


def _around(core: Window, shape: tuple[int, int]) -> Window:
    """Grow a window by the margin, and at the far edges back to full size: the network needs to see ground around."""
    window = clip(grow(core, _MARGIN), shape)
    bottom, right = window.row_off + window.height, window.col_off + window.width
    top, left = (
        max(0, min(first, last - _WINDOW)) for first, last in ((window.row_off, bottom), (window.col_off, right))
    )
    return Window(left, top, right - left, bottom - top)


def _may_be_cloud(image: np.ndarray) -> np.ndarray:
    """Test (1) on reflectance of shape (4, height, width)."""
    blue, red = (image[BANDS.index(band)] for band in ("blue", "red"))
    return blue - red / 2 > _HAZE


def _coarse(read: Read, window: Window, factor: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the valid pixels of each ``factor`` x ``factor`` block of a window, and where there are any.

    Blocks without any have the mean of the window, which is neither cloud nor shadow.
    """
    image = np.empty((len(BANDS), window.height, window.width), np.float32)
    known = np.empty((window.height, window.width), bool)
    step = max(1, _ROWS // factor)
    for first in range(0, window.height, step):
        rows = min(step, window.height - first)
        fine = Window(window.col_off * factor, (window.row_off + first) * factor, window.width * factor, rows * factor)
        values, valid = read(clip(fine, shape))
        part = slice(first, first + rows)
        # the last row and column of blocks may be cut by the image's edge
        cut = fine.height - valid.shape[0], fine.width - valid.shape[1]
        share = _means(valid.astype(np.float32), cut, factor)
        known[part] = share > 0
        for band, layer in zip(image, values, strict=True):
            means = _means(np.where(valid, layer, 0).astype(np.float32), cut, factor)
            np.divide(means, share, out=band[part], where=share > 0)
    if known.any():
        image[:, ~known] = image[:, known].mean(axis=1)[:, None]
    return image, known


def _means(layer: np.ndarray, cut: tuple[int, int], factor: int) -> np.ndarray:
    """Mean of each ``factor`` x ``factor`` block of a layer, to which so many rows and columns of 0 are added first."""
    whole = cv2.copyMakeBorder(layer, 0, cut[0], 0, cut[1], cv2.BORDER_CONSTANT, value=0) if any(cut) else layer
    height, width = whole.shape
    return cv2.resize(whole, (width // factor, height // factor), interpolation=cv2.INTER_AREA)


def _classes(image: np.ndarray, threads: int | None) -> np.ndarray:
    """Classes of the network, 0 ground, 1 cloud, 2 shadow, of reflectance of shape (4, height, width)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input image is smaller", category=UserWarning)
        found = _network()(
            np.ascontiguousarray(np.moveaxis(image, 0, -1)),
            list(BANDS),
            product_level="l1c",
            intra_op_num_threads=cpus(threads),
            providers=["CPUExecutionProvider"],
        )
    return found.csm[..., 0]


@dataclass(frozen=True)
class Alignment:
    """How one image of a product lies on its MSS.

    Attributes
    ----------
    to_mss : Affine
        From its pixel coordinates to those of MSS.
    error_px : float
        MSS pixels by which the two may lie apart in spite of it, with what their RPCs do not know.
    """

    to_mss: Affine
    error_px: float


def align(
    shape: tuple[int, int],
    rpcs: RPC | None,
    grid: GeoBox,
    *,
    mss_shape: tuple[int, int],
    mss_rpcs: RPC | None,
    mss_grid: GeoBox,
) -> Alignment:
    """Find where the pixels of an image (PAN) lie in the MSS of the same product.

    With CRS and transform it is known. With RPCs an affine is fitted to points that go from the image to the ground and
    into MSS, at three heights over 6 km; what it misses adds to the error. With neither, both are taken to show the
    same ground, which the sizes of the files of a product do to a few pixels.

    Parameters
    ----------
    shape, mss_shape : (int, int)
        Height and width.
    rpcs, mss_rpcs : rasterio RPC, optional
    grid, mss_grid : GeoBox

    Returns
    -------
    Alignment
    """
    from geo.ortho.rpc import CameraModel  # only here, because orthorectification is much to load

    height, width = shape
    scale = Affine.scale(mss_shape[1] / width, mss_shape[0] / height)
    if grid.crs is not None and grid.crs == mss_grid.crs:
        return Alignment(~mss_grid.affine @ grid.affine, _UNKNOWN_SHIFT_PX)
    if rpcs is None or mss_rpcs is None:
        return Alignment(scale, 2 * _UNKNOWN_SHIFT_PX)
    here, there = CameraModel.from_rpcs(rpcs), CameraModel.from_rpcs(mss_rpcs)
    heights = here.mean_height + np.array([-_RELIEF_M, 0, _RELIEF_M])
    points = np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9), heights)
    col, row, level = (axis.ravel() for axis in points)
    lon, lat = here.to_ground(col, row, level)
    found = np.stack(there.to_image(lon, lat, level), axis=1)
    good = np.isfinite(found).all(axis=1)
    if good.sum() < 8:
        return Alignment(scale, 2 * _UNKNOWN_SHIFT_PX)
    design = np.stack([col, row, np.ones_like(col)], axis=1)[good]
    solution, *_ = np.linalg.lstsq(design, found[good], rcond=None)
    left = float(np.abs(design @ solution - found[good]).max())
    return Alignment(Affine(*solution[:, 0], *solution[:, 1]), left + _UNKNOWN_SHIFT_PX)
