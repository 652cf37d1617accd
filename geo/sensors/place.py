"""Where a scene lies: as its metadata says, unless its camera model lies elsewhere; and how large its pixels are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pyproj import Geod, Transformer
from rasterio.rpc import RPC

from geo.geobox import GeoBox
from geo.sensors.metadata import Metadata

#: Sizes of a scene (twice the RPC's scale) by which metadata and camera model may differ; delivered corners are off by
#: kilometres, not by a whole scene.
_SIZES = 1.0
#: Degrees within which nothing is said whatever the RPC's scale; the sun is the same there.
_LEAST = 0.05
#: Share of a pixel's size by which it is changed to nest.
_NEARLY = 0.05


def settle(
    told: tuple[float, float] | None, camera: RPC | None, text: Metadata, warnings: list[str]
) -> tuple[float, float] | None:
    """Longitude and latitude of a scene's centre.

    The image is laid on the ground by its camera model, so where that and the metadata lie apart by more than the
    scene's size, the camera model is believed: zone, sun and time would be those of another place.

    Parameters
    ----------
    told : (float, float), optional
        As the metadata says, degrees.
    camera : RPC, optional
        Of the image.
    text : Metadata
        Named in the warning.
    warnings : list of str
        Receives what was found odd.

    Returns
    -------
    (float, float) or None
        None where nothing tells.
    """
    if camera is None or abs(camera.long_off) > 180 or abs(camera.lat_off) > 90:
        return told
    seen = camera.long_off, camera.lat_off
    if told is None:
        return seen
    east = abs((told[0] - seen[0] + 180) % 360 - 180)
    north = abs(told[1] - seen[1])
    across, along = (max(_LEAST, 2 * _SIZES * abs(scale)) for scale in (camera.long_scale, camera.lat_scale))
    if east <= across and north <= along:
        return told
    warnings.append(
        f"{Path(text.source).name}: the centre or the corners put the scene at longitude {told[0]:.2f}, latitude "
        f"{told[1]:.2f}, the RPC at {seen[0]:.2f}, {seen[1]:.2f}; the RPC is believed"
    )
    return seen


def own_pixel_m(rpcs: RPC | None, grid: GeoBox) -> float | None:
    """Pixel size to lay an image out with, metres; None where nothing tells its place.

    That of a projected CRS is taken as it is. What is measured in the middle of an image varies over it, so only two
    digits of it are kept.
    """
    if grid.crs is not None and grid.crs.projected:
        unit = grid.crs.proj.axis_info[0].unit_conversion_factor
        return math.hypot(grid.affine.a, grid.affine.d) * unit
    measured = pixel_m((grid.shape[0], grid.shape[1]), rpcs, grid)
    return measured and float(f"{measured:.2g}")


def pixel_m(shape: tuple[int, int], rpcs: RPC | None, grid: GeoBox) -> float | None:
    """Side of the pixel in the middle of an image on the ground, metres; None where nothing tells its place.

    Parameters
    ----------
    shape : (int, int)
        Height and width.
    rpcs : rasterio RPC, optional
    grid : GeoBox
        Goes before the RPC where it has a CRS.
    """
    middle = shape[1] / 2, shape[0] / 2
    col, row = (np.array([c, c + 1, c]) for c in middle)
    row[1:] = middle[1], middle[1] + 1
    if grid.crs is not None:
        x, y = (np.array(v) for v in zip(*(grid.affine @ point for point in zip(col, row, strict=True)), strict=True))
        lon, lat = Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True).transform(x, y)
    elif rpcs is not None:
        from geo.ortho.rpc import CameraModel

        camera = CameraModel.from_rpcs(rpcs)
        lon, lat = camera.to_ground(col, row, camera.mean_height)
    else:
        return None
    _, _, sides = Geod(ellps="WGS84").inv(lon[[0, 0]], lat[[0, 0]], lon[[1, 2]], lat[[1, 2]])
    side = float(np.mean(sides))
    return side if math.isfinite(side) and side > 0 else None


def pixels_m(told: Mapping[str, float | None]) -> dict[str, float | None]:
    """Pixel sizes that the images of a scene are laid out with: the sensor's own, MSS a whole multiple of PAN if near.

    Then pixels of MSS hold whole pixels of PAN, though the sizes by a camera model hardly ever are such multiples.

    Parameters
    ----------
    told : dict of float
        Ground sampled distance of ``"pan"`` and ``"mss"``, metres; None where it is not known.

    Returns
    -------
    dict of float
        Of the same images.
    """
    pan, mss = told.get("pan"), told.get("mss")
    if not pan or not mss:
        return dict(told)
    nested = pan * max(1, round(mss / pan))
    return {**told, "mss": float(f"{nested:.6g}")} if abs(nested - mss) < _NEARLY * mss else dict(told)
