"""Small pictures of the polygons that should be looked at first, for the form of the layer ``review`` in QGIS.

They lie in a folder beside the inventory (``inventory.gpkg`` -> ``inventory.review/<id>.png``) and are found by the
attribute ``thumbnail``, relative to the inventory; the two move together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from geo.atomic import atomic
from geo.image import band_names
from geo.png import png
from geo.raster import open_raster, overview
from geo.windows import clip

#: Side of a picture in pixels.
SIDE = 256
#: Ground around a polygon: a share of its longer side, and metres at least.
_AROUND, _LEAST_M = 0.4, 40.0
#: Quantiles of the image that become black and white, and pixels of the look that they are taken from.
_DARK, _BRIGHT, _LOOK = 1.0, 99.0, 512
#: Below the outline, so that it stands out on bright ground too; colours are blue, green, red.
_SHADOW, _LINE = (0, 0, 0), (0, 220, 255)
_EMPTY = 40
#: Files by which a folder of pictures is known.
KNOWN_BY = "*.png"


def folder_of(inventory: str | os.PathLike) -> Path:
    """Folder of the pictures of an inventory: ``inventory.gpkg`` -> ``inventory.review``."""
    return Path(inventory).with_suffix(".review")


def draw(review: gpd.GeoDataFrame, images: Mapping[str, str | os.PathLike], number: int) -> dict[str, bytes]:
    """Draw the polygons that are ranked first over their image in true colour.

    Parameters
    ----------
    review : GeoDataFrame
        The layer ``review``.
    images : mapping of str to path
        Image of each scene; polygons of other scenes get no picture.
    number : int
        Pictures at most.

    Returns
    -------
    dict of str to bytes
        PNG of ``SIDE`` x ``SIDE`` pixels by identifier.

    Raises
    ------
    RasterError
        An image cannot be read.
    """
    chosen = review[review["scene"].isin(list(images))].nsmallest(number, "look_first")
    pictures: dict[str, bytes] = {}
    for scene, rows in chosen.groupby("scene", sort=False):
        with open_raster(images[str(scene)]) as src:
            pictures |= _of_image(src, rows.to_crs(src.crs))
    return pictures


def _of_image(src: rasterio.DatasetReader, rows: gpd.GeoDataFrame) -> dict[str, bytes]:
    names = list(band_names(src)) if all(src.descriptions) or src.count == 3 else []
    colours = (
        [names.index(name) + 1 for name in ("blue", "green", "red")] if {"red", "green", "blue"} <= set(names) else [1]
    )
    values, valid, _ = overview(src, _LOOK, bands=colours)
    limits = [np.percentile(band[valid], (_DARK, _BRIGHT)) if valid.any() else (0.0, 1.0) for band in values]
    metres = math.sqrt(abs(src.transform.determinant))
    found = {}
    for identifier, outline in zip(rows["id"], rows.geometry, strict=True):
        window = _around(outline, src.transform, _LEAST_M / metres)
        picture = _crop(src, window, colours, limits)
        found[str(identifier)] = png(_outlined(picture, outline, src.transform, window))
    return found


def _around(outline: shapely.Geometry, transform: Affine, least: float) -> Window:
    """Square of whole pixels around an outline."""
    corners = shapely.get_coordinates(shapely.envelope(outline))
    columns, rows = ~transform @ (corners[:, 0], corners[:, 1])
    longer = max(np.ptp(columns), np.ptp(rows))
    side = math.ceil(longer + 2 * max(_AROUND * longer, least))
    left, top = (round((axis.min() + axis.max() - side) / 2) for axis in (columns, rows))
    return Window(left, top, side, side)


def _crop(src: rasterio.DatasetReader, window: Window, bands: list[int], limits: list) -> np.ndarray:
    """Stretched colours of a window that may reach past the image: uint8, shape (SIDE, SIDE, 3), blue first."""
    picture = np.full((SIDE, SIDE, 3), _EMPTY, np.uint8)
    inside = clip(window, src.shape)
    if not (inside.width and inside.height):
        return picture
    zoom = SIDE / window.width
    top, left = round((inside.row_off - window.row_off) * zoom), round((inside.col_off - window.col_off) * zoom)
    height, width = (max(1, min(SIDE, round(side * zoom))) for side in (inside.height, inside.width))
    values, valid, _ = overview(src, SIDE, inside, bands=bands)
    shown = [
        255 * np.clip((band - low) / max(high - low, 1e-9), 0, 1)
        for band, (low, high) in zip(values, limits, strict=True)
    ]
    small = np.where(valid[..., None], np.stack(shown * (3 // len(shown)), axis=-1), _EMPTY)
    full = cv2.resize(np.nan_to_num(small, nan=_EMPTY).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    place = picture[top : top + height, left : left + width]
    place[:] = full[: place.shape[0], : place.shape[1]]
    return picture


def _outlined(picture: np.ndarray, outline: shapely.Geometry, transform: Affine, window: Window) -> np.ndarray:
    """Picture with the outline, holes too, drawn to a sixteenth of a pixel."""
    bits = 4
    lines = []
    for ring in shapely.get_rings(shapely.get_parts(outline)):
        columns, rows = ~transform @ tuple(shapely.get_coordinates(ring).T)
        points = np.column_stack([columns - window.col_off, rows - window.row_off]) * (SIDE / window.width) - 0.5
        lines.append(np.round(points * 2**bits).astype(np.int32)[:, None])
    for colour, width in ((_SHADOW, 3), (_LINE, 1)):
        cv2.polylines(picture, lines, isClosed=True, color=colour, thickness=width, lineType=cv2.LINE_AA, shift=bits)
    return picture


def named(review: gpd.GeoDataFrame, inventory: str | os.PathLike, drawn: Iterable[str]) -> gpd.GeoDataFrame:
    """Layer ``review`` whose attribute ``thumbnail`` names the pictures that there are, relative to the inventory."""
    there = set(drawn)
    folder = folder_of(inventory).name
    told = [f"{folder}/{identifier}.png" if identifier in there else None for identifier in review["id"]]
    return review.assign(thumbnail=np.array(told, dtype=object)).astype({"thumbnail": "str"})


def write(inventory: str | os.PathLike, pictures: Mapping[str, bytes], *, overwrite: bool = False) -> None:
    """Write the pictures of an inventory; their folder appears whole or not at all.

    Raises
    ------
    OutputExistsError
        The folder is there, and is not to be replaced or holds other files.
    OutputError
    """
    target = folder_of(inventory)
    with atomic(target, overwrite=overwrite, folder=True, known_by=KNOWN_BY) as part:
        for identifier, content in pictures.items():
            (part / f"{identifier}.png").write_bytes(content)
