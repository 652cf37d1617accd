"""A small mountain scene with known geometry: a camera, a DEM, and images that show where they look."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.rpc import RPC

from geo.geotiff import GeoTiffWriter
from geo.ortho.rpc import CameraModel
from geo.raster import REFLECTANCE, Encoding
from geo.windows import blocks, slices

LON, LAT = 103.5, 31.3
UTM = "EPSG:32648"
HEIGHT = 1500.0
FLOAT = Encoding("float32", nodata=float("nan"))


def camera_rpcs(shape: tuple[int, int], gsd_m: float = 2.0, *, tilt: float = 0.3, lon: float = LON) -> RPC:
    """RPC of a camera that looks ``atan(tilt)`` off nadir, with every kind of term in use."""
    height, width = shape
    half_w, half_h = width / 2 * gsd_m, height / 2 * gsd_m
    rng = np.random.default_rng(3)
    small = rng.uniform(-1, 1, (4, 20)) * 1e-5
    small[:, 4:] *= 0.1
    samp, line = small[0].copy(), small[2].copy()
    samp[[1, 2, 3]] += 1.0, 0.03, tilt * 500 / half_w
    line[[1, 2, 3]] += 0.03, -1.0, 0.05 * 500 / half_h
    samp_den, line_den = small[1].copy(), small[3].copy()
    samp_den[0] = line_den[0] = 1.0
    return RPC(
        height_off=HEIGHT,
        height_scale=500.0,
        lat_off=LAT,
        lat_scale=half_h / 110900,
        long_off=lon,
        long_scale=half_w / (111320 * np.cos(np.radians(LAT))),
        line_off=height / 2 - 0.5,
        line_scale=height / 2,
        samp_off=width / 2 - 0.5,
        samp_scale=width / 2,
        line_num_coeff=line.tolist(),
        line_den_coeff=line_den.tolist(),
        samp_num_coeff=samp.tolist(),
        samp_den_coeff=samp_den.tolist(),
    )


def read_rpb(path: Path) -> RPC:
    """Coefficients of an .rpb file, by regular expressions alone."""
    text = path.read_text()

    def number(key: str) -> float:
        return float(re.search(rf"{key}\s*=\s*([-+.\deE]+)", text)[1])

    def numbers(key: str) -> list[float]:
        return [float(v) for v in re.search(rf"{key}\s*=\s*\(([^)]*)\)", text)[1].split(",")]

    names = {"line": "line", "samp": "samp", "lat": "lat", "long": "long", "height": "height"}
    simple = {
        f"{k}_{end}": number(f"{v}{word}")
        for k, v in names.items()
        for end, word in (("off", "Offset"), ("scale", "Scale"))
    }
    lists = {
        f"{axis}_{part}_coeff": numbers(f"{axis}{part.title()}Coef")
        for axis in ("line", "samp")
        for part in ("num", "den")
    }
    return RPC(**simple, **lists)


def mountains(size: int, seed: int = 1, relief: float = 150.0) -> np.ndarray:
    """Heights with slopes up to about 45 degrees at a 30 m pixel."""
    rough = np.random.default_rng(seed).normal(size=(size, size))
    smooth = cv2.GaussianBlur(rough, (0, 0), 4)
    return (HEIGHT + relief * smooth / smooth.std()).astype(np.float32)


def write_dem(
    path: Path,
    *,
    size: int = 64,
    arcsec: float = 1.0,
    shift_deg: float = 0.0,
    heights: np.ndarray | None = None,
    **profile,
) -> Path:
    """DEM in longitude and latitude, centred on the scene unless shifted eastwards."""
    heights = mountains(size) if heights is None else heights
    step = arcsec / 3600
    left, top = LON + shift_deg - heights.shape[1] / 2 * step, LAT + heights.shape[0] / 2 * step
    settings = {"dtype": heights.dtype, "crs": "EPSG:4326", "transform": Affine(step, 0, left, 0, -step, top)} | profile
    with rasterio.open(
        path, "w", driver="GTiff", width=heights.shape[1], height=heights.shape[0], count=1, **settings
    ) as dst:
        dst.write(heights, 1)
    return path


def write_image(
    path: Path,
    values: np.ndarray,
    *,
    rpcs: RPC | None = None,
    bands: list[str] | None = None,
    encoding: Encoding = REFLECTANCE,
    grid: GeoBox | None = None,
    tags: dict[str, str] | None = None,
    cog: bool = False,
) -> Path:
    """Image in sensor geometry, or on a grid; ``values`` of shape (bands, height, width), NaN for nodata."""
    shape = values.shape[1:]
    grid = grid or GeoBox(shape, Affine.identity(), None)
    names = bands or (["pan"] if len(values) == 1 else ["blue", "green", "red", "nir"][: len(values)])
    with GeoTiffWriter(path, grid, names, encoding, rpcs=rpcs, tags=tags, cog=cog, overwrite=True) as dst:
        for window in blocks(shape, 512):
            dst.write(values[:, *slices(window)].astype(np.float32), window)
    return path


def map_grid(shape: tuple[int, int], resolution_m: float, left: float = 356000.0, top: float = 3464000.0) -> GeoBox:
    """Grid in the scene's UTM zone."""
    return GeoBox(shape, Affine(resolution_m, 0, left, 0, -resolution_m, top), UTM)


def look(
    rpcs: RPC, shape: tuple[int, int], height_at, *, camera: CameraModel | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Easting and northing that each pixel's ray meets, by plain iteration on ``height_at(lon, lat)``."""
    camera = camera or CameraModel.from_rpcs(rpcs)
    col, row = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    height = np.full(shape, HEIGHT)
    for _ in range(30):
        lon, lat = camera.to_ground(col, row, height)
        change = 0.7 * (height_at(lon, lat) - height)
        height = height + change
        if np.abs(change).max() < 1e-3:
            break
    return Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(lon, lat)


def landscape(size: int, seed: int = 0) -> np.ndarray:
    """Reflectance of visible and near infrared ground, shape (2, size, size): fields, texture and edges."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf

    def fractal(slope: float) -> np.ndarray:
        field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) / frequency**slope).real
        return (field - field.mean()) / field.std()

    fields = (fractal(1.4) > 0) * 1.0 + (fractal(1.3) > 0.7)
    visible = 0.1 + 0.05 * fields + 0.01 * fractal(0.8)
    infrared = 0.15 + 0.2 * (fractal(1.2) > 0) + 0.02 * fractal(0.9) - 0.03 * fields
    return np.stack([visible, infrared])
