"""Maps of a run: images made small on one canvas, and polygons drawn over them.

A map is a picture (BGRA, clear where nothing is known) on a canvas, which is a small ``GeoBox``. Polygons lie
over it as SVG paths in the page, and are burnt into the PNG quick-looks.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window, from_bounds

from geo.errors import GridError
from geo.geobox import GeoBox
from geo.raster import open_raster, overview
from geo.windows import clip, grow

#: Colours of polygons over images, told apart by people who see red and green as one: BGR for pictures.
COLOURS = {
    "found": (30, 96, 255),
    "hit": (255, 214, 0),
    "false_alarm": (168, 60, 255),
    "miss": (0, 214, 255),
    "truth": (255, 255, 255),
    "searched": (255, 255, 255),
}
#: So many polygons of a map say what they are when pointed at; the others are drawn as one.
NAMED = 1500


@dataclass(frozen=True)
class Shapes:
    """Polygons of one kind on a map."""

    kind: str
    geometry: Sequence[shapely.Geometry] | np.ndarray
    titles: Sequence[str] | np.ndarray = ()


def canvas_over(bounds: tuple[float, float, float, float], crs: Any, finest_m: float, longest: int) -> GeoBox:
    """Make a canvas of square pixels over bounds.

    Parameters
    ----------
    bounds : (left, bottom, right, top)
    crs : CRS
        Of the bounds and the canvas.
    finest_m : float
        Pixel size below which the images hold no more, in units of the CRS.
    longest : int
        Pixels of the longer side at most.

    Returns
    -------
    GeoBox
    """
    left, bottom, right, top = bounds
    pixel = max(finest_m, (right - left) / longest, (top - bottom) / longest)
    width, height = max(1, math.ceil((right - left) / pixel)), max(1, math.ceil((top - bottom) / pixel))
    return GeoBox((height, width), rasterio.Affine(pixel, 0, left, 0, -pixel, top), crs)


def widened(bounds: Sequence[float], share: float = 0.03) -> tuple[float, float, float, float]:
    """Bounds with a margin, a share of their longer side."""
    left, bottom, right, top = bounds
    margin = share * max(right - left, top - bottom)
    return left - margin, bottom - margin, right + margin, top + margin


def on_canvas(path: Path, canvas: GeoBox, bands: Sequence[int], *, sharp: bool = False) -> np.ndarray:
    """Read what a raster shows of a canvas, through its overviews.

    Parameters
    ----------
    path : Path
    canvas : GeoBox
    bands : sequence of int
        From 1.
    sharp : bool
        Nearest pixel instead of interpolation.

    Returns
    -------
    ndarray of float32, shape (bands, height, width)
        NaN where the raster has nothing.
    """
    out = np.full((len(bands), *canvas.shape), np.nan, np.float32)
    with open_raster(path) as src:
        if src.crs is None:
            raise GridError(f"{path} has no CRS; expected a georeferenced raster: run geocrack ortho on it first")
        box = canvas.boundingbox
        bounds = transform_bounds(str(canvas.crs), src.crs, box.left, box.bottom, box.right, box.top)
        window = from_bounds(*bounds, transform=src.transform)
        factor = max(window.height / canvas.shape[0], window.width / canvas.shape[1], 1e-9)
        reach = 2 + math.ceil(factor)
        left, top = math.floor(window.col_off), math.floor(window.row_off)
        whole = grow(Window(left, top, math.ceil(window.width) + 1, math.ceil(window.height) + 1), reach)
        inside = clip(whole, src.shape)
        if not (inside.width and inside.height):
            return out
        longest = max(1, round(max(inside.height, inside.width) / factor))
        values, _, transform = overview(src, longest, inside, bands=bands)
        reproject(
            values,
            out,
            src_transform=transform,
            src_crs=src.crs,
            src_nodata=math.nan,
            dst_transform=canvas.affine,
            dst_crs=str(canvas.crs),
            dst_nodata=math.nan,
            resampling=Resampling.nearest if sharp else Resampling.bilinear,
        )
    return out


def colour_bands(path: Path) -> list[int]:
    """Band numbers of red, green and blue; of one band where there are fewer than three."""
    with open_raster(path) as src:
        names = [(d or "").lower() for d in src.descriptions]
        if {"red", "green", "blue"} <= set(names):
            return [names.index(n) + 1 for n in ("red", "green", "blue")]
        return [1, 2, 3] if src.count >= 3 else [1]


def true_colour(paths: Sequence[Path], canvas: GeoBox) -> np.ndarray:
    """Paint scenes over each other in true colours, the last on top.

    Each scene is stretched by itself between its 1st and 99th percentiles, one for all dark ends and one for
    all bright ends, so that hues stay and haze goes.

    Returns
    -------
    ndarray of uint8, shape (height, width, 4)
        BGRA.
    """
    picture = np.zeros((*canvas.shape, 4), np.uint8)
    for path in paths:
        values = on_canvas(path, canvas, colour_bands(path))
        good = np.isfinite(values).all(axis=0)
        if not good.any():
            continue
        low = np.percentile(values[:, good], 1, axis=1)[:, None, None]
        values = values - low
        high = max(float(np.percentile(values[:, good], 99)), 1e-6)
        shown = 255 * np.clip(np.nan_to_num(values) / high, 0, 1) ** (1 / 1.5)
        colours = np.broadcast_to(shown[::-1], (3, *canvas.shape))
        picture[good, :3] = np.moveaxis(colours, 0, -1)[good].astype(np.uint8)
        picture[good, 3] = 255
    return picture


def probability_picture(path: Path, canvas: GeoBox) -> np.ndarray:
    """Paint probability from 0 (dark) to 1 (bright); clear where it was not searched.

    Returns
    -------
    ndarray of uint8, shape (height, width, 4)
        BGRA.
    """
    values = on_canvas(path, canvas, [1])[0]
    good = np.isfinite(values)
    level = (255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return np.dstack([cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), np.where(good, 255, 0).astype(np.uint8)])


def probability_ramp(steps: int = 12) -> list[str]:
    """Colours of the probability maps from 0 to 1, as ``#rrggbb``."""
    ramp = cv2.applyColorMap(np.linspace(0, 255, steps).astype(np.uint8)[None], cv2.COLORMAP_INFERNO)[0]
    return [f"#{r:02x}{g:02x}{b:02x}" for b, g, r in ramp]


def svg_paths(shapes: Shapes, canvas: GeoBox) -> str:
    """Draw polygons as SVG paths in pixels of a canvas; their outlines are simplified to half a pixel."""
    if not len(shapes.geometry):
        return ""
    drawn = shapely.simplify(np.asarray(shapes.geometry, dtype=object), 0.5 * canvas.resolution.x)
    paths = [_path(g, ~canvas.affine) for g in drawn]
    titles = [*shapes.titles, *[""] * (len(paths) - len(shapes.titles))]
    named = [
        f'<path class="{shapes.kind}" d="{path}"><title>{escape(title)}</title></path>'
        for path, title in list(zip(paths, titles, strict=True))[:NAMED]
    ]
    rest = "".join(paths[NAMED:])
    return "".join(named) + (f'<path class="{shapes.kind}" d="{rest}"/>' if rest else "")


def _path(geometry: shapely.Geometry, to_pixel: rasterio.Affine) -> str:
    text = []
    for ring in _rings(geometry):
        columns, rows = to_pixel @ tuple(shapely.get_coordinates(ring)[:-1].T)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(columns, rows, strict=True))
        text.append(f"M{points}Z")
    return "".join(text)


def _rings(geometry: shapely.Geometry) -> list[shapely.LinearRing]:
    polygons = [g for g in shapely.get_parts(geometry) if g.geom_type == "Polygon" and not g.is_empty]
    return [ring for p in polygons for ring in (p.exterior, *p.interiors)]


def drawn_over(picture: np.ndarray, layers: Sequence[Shapes], canvas: GeoBox) -> np.ndarray:
    """Burn polygon outlines into a picture.

    Returns
    -------
    ndarray of uint8, shape (height, width, 4)
        BGRA.
    """
    out = picture.copy()
    for shapes in layers:
        rings = [shapely.get_coordinates(r) for g in shapes.geometry for r in _rings(g)]
        points = [np.column_stack(~canvas.affine @ tuple(ring.T)) for ring in rings]
        fixed = [np.rint(p * 16 - 8).astype(np.int32) for p in points]  # cv2: sixteenths, from pixel centres
        cv2.polylines(out, fixed, True, (*COLOURS[shapes.kind], 255), 2, cv2.LINE_AA, 4)
    return out


def data_uri(picture: np.ndarray, quality: int = 82) -> str:
    """Encode a picture as WebP for a page that holds its images itself."""
    content = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    return "data:image/webp;base64," + base64.b64encode(content).decode()


def scale_bar(canvas: GeoBox, share: float = 0.22) -> tuple[float, str]:
    """Length of a scale bar in pixels of the canvas, and what to write at it (projected CRS in metres)."""
    longest = share * canvas.shape[1] * canvas.resolution.x
    step = 10 ** math.floor(math.log10(longest))
    length = next(f * step for f in (5, 2, 1) if f * step <= longest)
    return length / canvas.resolution.x, f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
