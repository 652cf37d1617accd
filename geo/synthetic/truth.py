"""What is known of the made world: true landslides, areas, and how hard it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
from affine import Affine

from geo.synthetic.cover import Cover
from geo.synthetic.difficulty import threshold_oracle
from geo.synthetic.fields import CELL_M, Fields
from geo.synthetic.scars import VEGETATION_LIMIT, Scar
from geo.synthetic.world import CRS

#: Imaged ground west of the gap trains, ground east of it is mapped; shares of the common width.
TRAIN_SHARE, MAP_SHARE = 0.58, 0.37
#: Truth below this is left out, m2.
LEAST_M2 = 100.0


def true_ground(scars: list[Scar], fields: Fields, day: date) -> np.ndarray:
    """Give the number of the scar in each 1 m cell that is landslide on a day, 0 elsewhere.

    Parameters
    ----------
    scars : list of Scar
        Oldest first: what a younger one covers is its own.
    fields : Fields
    day : date

    Returns
    -------
    ndarray of uint16
    """
    number = np.zeros(fields.ground.shape, np.uint16)
    for scar in scars:
        if scar.born <= day:
            number[scar.window][scar.mask] = scar.number if scar.vegetation(day) < VEGETATION_LIMIT else 0
    return number


def true_polygons(
    number: np.ndarray, scars: list[Scar], fields: Fields, day: date, imaged: shapely.Geometry
) -> gpd.GeoDataFrame:
    """Landslides of a day as polygons; scars that touch are one.

    Parameters
    ----------
    number : ndarray of uint16
        ``true_ground``.
    scars : list of Scar
    fields : Fields
    day : date
    imaged : geometry
        Only polygons that touch this ground are given.

    Returns
    -------
    GeoDataFrame
        Columns id, year, vegetation (fraction of the polygon's ground under plants); from north to south.
    """
    vegetation = np.zeros(len(scars) + 1, np.float32)
    for scar in scars:
        vegetation[scar.number] = scar.vegetation(day)
    found = []
    for shape, _ in rasterio.features.shapes((number > 0).astype(np.uint8), number > 0, 4, fields.ground.transform()):
        polygon = _simple(shapely.geometry.shape(shape))
        if polygon.area < LEAST_M2 or not polygon.intersects(imaged):
            continue
        u, v = fields.ground.to_local(*np.array(polygon.exterior.coords).T)
        box = slice(max(int(v.min()), 0), int(v.max()) + 1), slice(max(int(u.min()), 0), int(u.max()) + 1)
        t = fields.ground.transform()
        corner = fields.ground.to_map(np.array(box[1].start), np.array(box[0].start))
        place = Affine(t.a, t.b, float(corner[0]), t.d, t.e, float(corner[1]))
        inside = rasterio.features.geometry_mask([polygon], number[box].shape, place, invert=True)
        mine = number[box][inside & (number[box] > 0)]
        found.append((round(float(vegetation[mine].mean()), 3), polygon))
    found.sort(key=lambda item: (-item[1].bounds[3], item[1].bounds[0]))
    return gpd.GeoDataFrame(
        {
            "id": np.arange(1, len(found) + 1),
            "year": np.full(len(found), day.year),
            "vegetation": [fraction for fraction, _ in found],
        },
        geometry=[polygon for _, polygon in found],
        crs=CRS,
    )


def _simple(polygon: shapely.Polygon) -> shapely.Polygon:
    """Outline without the steps of cells, valid, in one part."""
    smooth = shapely.make_valid(polygon.simplify(0.7))
    parts = [p for p in shapely.get_parts(smooth) if p.geom_type == "Polygon"]
    return max(parts, key=lambda p: p.area) if parts else polygon


def footprints(
    fields: Fields, edges: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]
) -> dict[int, shapely.Geometry]:
    """Ground that both images of a pass see, in the CRS.

    Parameters
    ----------
    fields : Fields
    edges : dict
        By (year, kind of image), row and column of a footprint grid whose border is the image's.
    """
    seen: dict[int, shapely.Geometry] = {}
    for (year, _), (row, col) in edges.items():
        border = [np.concatenate([g[0], g[:, -1], g[-1, ::-1], g[::-1, 0]]) for g in (row, col)]
        corners = fields.ground.to_map((border[1] + 0.5) * CELL_M, (border[0] + 0.5) * CELL_M)
        ring = shapely.Polygon(np.column_stack(corners)).buffer(0)
        seen[year] = seen[year].intersection(ring) if year in seen else ring
    return seen


def areas(fields: Fields, imaged: dict[int, shapely.Geometry]) -> dict[str, shapely.Geometry]:
    """Where to train and where to map: west and east of a gap, inside what all images see."""
    common = shapely.intersection_all(list(imaged.values()))
    inner = common.buffer(-(24 + 0.005 * common.area**0.5)).simplify(1.0)
    flat = _moved(inner, fields.ground.to_local)
    left, top, right, bottom = flat.bounds
    width = right - left
    halves = {
        "train": shapely.box(left, top, left + TRAIN_SHARE * width, bottom),
        "map": shapely.box(right - MAP_SHARE * width, top, right, bottom),
    }
    return {name: _moved(flat.intersection(half), fields.ground.to_map) for name, half in halves.items()}


def _moved(geometry: shapely.Geometry, to: Callable) -> shapely.Geometry:
    return shapely.transform(geometry, lambda xy: np.column_stack(to(xy[:, 0], xy[:, 1])))


def measure(
    reflectance: np.ndarray, cloud: np.ndarray, number: np.ndarray, fields: Fields, ground: dict[str, shapely.Geometry]
) -> tuple[dict[str, float], dict[str, float]]:
    """Say how far single thresholds get, and how much of the ground slid.

    Parameters
    ----------
    reflectance : ndarray, shape (4, rows, cols)
        At the top of the atmosphere in 1 m cells, free of noise, in any unit.
    cloud : ndarray
        Opacity of clouds and their shadows in 5 m cells; such ground does not count for the thresholds.
    number : ndarray
        ``true_ground``.
    fields : Fields
    ground : dict
        ``areas``.

    Returns
    -------
    oracle : dict
        Best F1 of a threshold on each feature, at 2 m on the map area.
    shares : dict
        Share of landslide in each area.
    """
    shape = fields.ground.cells(2)
    clear = cv2.resize(cloud, shape[::-1], interpolation=cv2.INTER_LINEAR) < 0.05
    slid = cv2.resize((number > 0).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) >= 0.5
    inside = {
        name: rasterio.features.geometry_mask([polygon], shape, fields.ground.transform(2), invert=True)
        for name, polygon in ground.items()
    }
    small = np.stack([cv2.resize(b, shape[::-1], interpolation=cv2.INTER_AREA) for b in reflectance])
    oracle = threshold_oracle(small.astype(np.float32), slid, inside["map"] & clear)
    return oracle, {name: round(float(slid[where].mean()), 4) for name, where in inside.items()}


def cover_shares(cover: np.ndarray, fields: Fields, ground: dict[str, shapely.Geometry]) -> dict[str, dict[str, float]]:
    """Share of each class of cover (``Cover``, scars left aside) in each area, from every fourth cell.

    Parameters
    ----------
    cover : ndarray of uint8
        In 1 m cells.
    fields : Fields
    ground : dict
        ``areas``.
    """
    thin = cover[::4, ::4]
    shares = {}
    for name, polygon in ground.items():
        inside = rasterio.features.geometry_mask([polygon], thin.shape, fields.ground.transform(4), invert=True)
        counts = np.bincount(thin[inside], minlength=len(Cover)) / inside.sum()
        shares[name] = {kind.name.lower(): round(float(counts[kind]), 4) for kind in Cover}
    return shares


def write_vector(path: Path, layer: str, frame: gpd.GeoDataFrame) -> None:
    """Write a layer of polygons into a GeoPackage, without the time of writing: same content, same bytes."""
    with _fixed_date():
        frame.to_file(path, layer=layer, driver="GPKG", engine="pyogrio", geometry_type="Polygon")


@contextmanager
def _fixed_date() -> Iterator[None]:
    import pyogrio

    option = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: "2015-08-05T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})
