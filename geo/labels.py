"""Labels and areas on the pixels of an image: polygons or rasters, of any CRS, window by window.

A label is 0 for ground, 1 for landslide and 255 where nobody knows. A pixel is inside a polygon where its
centre is; a label raster on other pixels gives its nearest one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from rasterio.windows import Window

from geo.errors import GridError, LabelError
from geo.geobox import GeoBox
from geo.image import Image
from geo.inventory import reviewed
from geo.inventory.truth import Drawn, Marked, is_raster, mended, open_marked, read_polygons
from geo.raster import crs_name
from geo.windows import clip, slices

log = logging.getLogger(__name__)

BACKGROUND, LANDSLIDE, UNKNOWN = 0, 1, 255

#: Attribute of the polygons of a screening (``geocrack classify predict --screen``), by which one is known.
SCREENING = "recall_wanted"


class Labels:
    """Labels of an image; made by ``open_labels``.

    Attributes
    ----------
    findings : dict
        What was found in a vector file: ``features``, ``repaired``, ``dropped`` (without area).
    """

    def __init__(self, source: Drawn | Marked | None, shape: tuple[int, int], findings: dict[str, int]):
        self._source, self._shape, self.findings = source, shape, findings

    def read(self, window: Window) -> np.ndarray:
        """Label of a window.

        Parameters
        ----------
        window : Window
            May reach past the image.

        Returns
        -------
        ndarray of uint8, shape (height, width)
            0 ground, 1 landslide, 255 outside the image or the label raster, or where nothing is labelled.
        """
        label = np.full((window.height, window.width), UNKNOWN, dtype=np.uint8)
        inside = clip(window, self._shape)
        if inside.width and inside.height and self._source is not None:
            if isinstance(self._source, Marked):
                landslide, known = self._source.read(inside)
                label[slices(inside, window)] = np.where(known, landslide, UNKNOWN)
            else:
                label[slices(inside, window)] = self._source.read(inside)
        return label


@contextmanager
def open_labels(path: str | os.PathLike | None, geobox: GeoBox, *, layer: str | None = None) -> Iterator[Labels]:
    """Open the labels of an image.

    Parameters
    ----------
    path : path or None
        Polygons in any vector format and CRS, or a raster of 0 and 1 or 255 (nodata: not known). None where
        nothing is labelled.
    geobox : GeoBox
        Grid of the image.
    layer : str, optional
        Layer of a vector file; by default the only one with polygons, or ``landslides``.

    Raises
    ------
    LabelError
        No CRS, no polygons, nothing on the ground of the image; or, when read, values of a raster other than
        0 and 1 or 255.
    RasterError
        The file cannot be read.
    """
    height, width = geobox.shape
    with ExitStack() as stack:
        if path is None:
            yield Labels(None, (height, width), {})
        elif is_raster(path):
            marked = stack.enter_context(open_marked(path, geobox))
            _check_meets(path, np.array([shapely.box(*marked.bounds)]), geobox, LabelError)
            yield Labels(marked, (height, width), {})
        else:
            polygons = read_polygons(path, geobox.crs, layer=layer)
            if not polygons.features:
                log.warning("%s holds no landslide: all ground counts as background", path)
            elif not len(polygons.geometry):
                raise LabelError(f"{path} has {polygons.features} polygons, all without an area; draw them again")
            else:
                _check_meets(path, polygons.geometry, geobox, LabelError)
            found = {"features": polygons.features, "repaired": polygons.repaired, "dropped": polygons.dropped}
            yield Labels(Drawn(polygons.geometry, geobox), (height, width), found)


class Judged:
    """Labels of ground that persons looked at; made by ``read_reviews``."""

    def __init__(self, drawn: Sequence[tuple[Drawn, Drawn]], shape: tuple[int, int]):
        self._drawn, self._shape = drawn, shape

    def over(self, label: np.ndarray, window: Window) -> np.ndarray:
        """Labels of a window with what was judged in place of what they say; the last review decides.

        Parameters
        ----------
        label : ndarray of uint8, shape (height, width)
        window : Window
            May reach past the image.
        """
        inside = clip(window, self._shape)
        if not (inside.width and inside.height):
            return label
        told = label.copy()
        part = told[slices(inside, window)]
        for landslides, ground in self._drawn:
            part[ground.read(inside)] = BACKGROUND
            part[landslides.read(inside)] = LANDSLIDE
        return told


def read_reviews(paths: Sequence[str | os.PathLike], image: Image) -> Judged:
    """Read what persons judged in inventories of an image (``geo.inventory.reviewed``).

    Parameters
    ----------
    paths : sequence of path
        Later reviews decide where they overlap earlier ones.
    image : Image
        What was judged in other scenes is left out. An image that does not tell its scene is taken for that of a
        review with one scene.

    Raises
    ------
    LabelError
        A file is no review, or holds nothing of this scene or on this ground.
    RasterError
        A file cannot be read.
    """
    geobox = image.geobox
    drawn = []
    for path in paths:
        found = reviewed.read(path)
        there = [str(scene) for scene in found.reviewed["scene"]]
        scene = image.name
        if scene not in there and "GEOCRACK_SCENE" not in image.tags and len(there) == 1:
            scene = there[0]
        if scene not in there:
            raise LabelError(
                f"{path} holds reviews of {', '.join(there) or 'no scene'}, none of {scene}, which {image.path} shows; "
                "give the image that was reviewed"
            )
        ground, landslides = (_of_scene(frame, scene, geobox) for frame in (found.reviewed, found.labels))
        _check_meets(path, ground, geobox, LabelError)
        drawn.append((Drawn(landslides, geobox), Drawn(ground, geobox)))
    height, width = geobox.shape
    return Judged(drawn, (height, width))


def _of_scene(frame: gpd.GeoDataFrame, scene: str, geobox: GeoBox) -> np.ndarray:
    """Take the outlines of one scene, valid and in the CRS of a grid."""
    mine = frame[frame["scene"].astype(str) == scene].to_crs(str(geobox.crs))
    return mended(np.asarray(mine.geometry))[0]


class Area:
    """Polygons to which work is confined, on the grid of an image; made by ``read_area``."""

    def __init__(self, geometry: np.ndarray, geobox: GeoBox):
        height, width = geobox.shape
        self._drawn, self._geobox, self._shape = Drawn(geometry, geobox), geobox, (height, width)
        self.polygon = shapely.union_all(geometry)
        shapely.prepare(self.polygon)

    @property
    def empty(self) -> bool:
        """Whether it holds no ground: a screening kept none."""
        return bool(self.polygon.is_empty)

    def read(self, window: Window) -> np.ndarray:
        """Where pixels lie inside, by their centres.

        Returns
        -------
        ndarray of bool, shape (height, width)
            False outside the image.
        """
        within = np.zeros((window.height, window.width), dtype=bool)
        inside = clip(window, self._shape)
        if inside.width and inside.height and self.polygon.intersects(footprint(self._geobox, inside)):
            within[slices(inside, window)] = self._drawn.read(inside)
        return within

    def holds(self, window: Window) -> bool:
        """Whether a window lies inside as a whole."""
        return self.polygon.covers(footprint(self._geobox, window))


def read_area(path: str | os.PathLike, geobox: GeoBox, *, layer: str | None = None) -> Area:
    """Read polygons that confine work on an image.

    Parameters
    ----------
    path : path
        Any vector format and CRS.
    geobox : GeoBox
        Grid of the image.
    layer : str, optional
        By default the only one with polygons.

    Raises
    ------
    LabelError
        No CRS or no polygons, but in a screening that kept nothing.
    GridError
        None of them meets the image.
    RasterError
        The file cannot be read.
    """
    polygons = read_polygons(path, geobox.crs, layer=layer)
    if len(polygons.geometry):
        _check_meets(path, polygons.geometry, geobox, GridError)
    elif polygons.features or SCREENING not in pyogrio.read_info(path, layer=layer)["fields"]:
        raise LabelError(f"{path} holds no polygon with an area; draw the ground that is meant")
    return Area(polygons.geometry, geobox)


def footprint(geobox: GeoBox, window: Window) -> shapely.Polygon:
    """Outline of a window, which may reach past the grid, in its CRS."""
    left, top = window.col_off, window.row_off
    right, bottom = left + window.width, top + window.height
    return shapely.Polygon([geobox.affine @ p for p in ((left, top), (left, bottom), (right, bottom), (right, top))])


def _check_meets(
    path: str | os.PathLike, geometry: np.ndarray, geobox: GeoBox, kind: type[LabelError] | type[GridError]
) -> None:
    """Raise where no geometry meets the ground of the image."""
    height, width = geobox.shape
    ground = footprint(geobox, Window(0, 0, width, height))
    shapely.prepare(ground)
    if not shapely.intersects(ground, geometry).any():
        raise kind(
            f"{path} lies outside the image: it covers {_shown(shapely.total_bounds(geometry))}, the image "
            f"{_shown(ground.bounds)} (left, bottom, right, top in {crs_name(geobox.crs)}); check the CRS of both, "
            "or take the file of this place"
        )


def _shown(bounds: Sequence[float]) -> str:
    return ", ".join(f"{v:.0f}" if abs(v) >= 1000 else f"{v:.6g}" for v in bounds)
