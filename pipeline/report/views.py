"""The maps of the page: which image, which polygons over it, which legend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
from markupsafe import Markup
from odc.geo.geobox import GeoBox

from geo.inventory import truth as truth_of
from geo.inventory.matching import judged
from geo.raster import open_raster
from pipeline.report import maps
from pipeline.report.inventory import Inventory
from pipeline.report.maps import Shapes
from pipeline.report.numbers import area
from pipeline.report.run import Result, RunResults, SceneResults
from pipeline.report.tables import calibration

#: Pixels of the longer side of the maps.
LARGE, SMALL = 1500, 1000


@dataclass(frozen=True)
class Map:
    """A map of the page: an image of the page's store with polygons over it."""

    image: str
    canvas: GeoBox
    shapes: Markup
    title: str
    caption: str
    legend: tuple[tuple[str, str], ...] = ()
    ramp: bool = False

    @property
    def height(self) -> int:
        return self.canvas.shape[0]

    @property
    def width(self) -> int:
        return self.canvas.shape[1]

    @property
    def scale(self) -> tuple[float, str]:
        """Length of the scale bar in pixels, and its words."""
        return maps.scale_bar(self.canvas)


class Album:
    """Images of the page, each stored once however many maps show it, and the PNGs beside the page."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[str, int, int]] = {}
        self.quicklooks: dict[str, np.ndarray] = {}

    def add(self, name: str, picture: np.ndarray, *, quicklook: bool = True) -> str:
        """Store a picture; its name is its id in the page."""
        height, width = picture.shape[:2]
        self.images[name] = (maps.data_uri(picture), width, height)
        if quicklook:
            self.quicklooks[f"{name}.png"] = picture
        return name


def main_map(run: RunResults, inventory: Inventory, album: Album) -> Map | None:
    """Draw the inventory over the scenes that were searched, the newest on top."""
    if inventory.polygons is None or not run.searched:
        return None
    crs = inventory.polygons.crs
    ground = inventory.searched if inventory.searched is not None and len(inventory.searched) else None
    images = [s.fused for s in run.searched if s.fused]
    canvas = _canvas(images[-1], ground, crs, LARGE)
    picture = maps.true_colour(images, canvas)
    name = album.add("inventory", picture, quicklook=False)
    frame = inventory.polygons.to_crs(str(canvas.crs)) if crs is not None else inventory.polygons
    layers = [Shapes("found", list(frame.geometry), _titles(frame))]
    outline = _outline(ground, canvas)
    album.quicklooks["inventory.png"] = maps.drawn_over(picture, [*outline, *layers], canvas)
    return Map(
        image=name,
        canvas=canvas,
        shapes=_svg([*outline, *layers], canvas),
        title="The inventory over the scenes in true colours",
        caption=f"{_scene_days(run.searched)}. Grid north is up; {_crs_name(canvas)}.",
        legend=(("found", "landslide"), *((("searched", "searched ground"),) if outline else ())),
    )


def scene_view(run: RunResults, scene: SceneResults, album: Album) -> dict[str, Any]:
    """Gather facts and maps of one scene."""
    view: dict[str, Any] = {
        "scene": scene,
        "maps": [],
        "more": [],
        "calibration": calibration(scene),
    }
    if not scene.fused:
        return view
    first = scene.results[0] if scene.results else None
    ground = maps.read_polygons(first.polygons, "searched", None) if first and first.polygons else None
    ground = ground if ground is not None and len(ground) else None
    canvas = _canvas(scene.fused, ground, ground.crs if ground is not None else None, SMALL)
    colour = maps.true_colour([scene.fused], canvas)
    image = album.add(f"true_colour_{scene.name}", colour)
    outline = _outline(ground, canvas)
    truth = _truth(scene.truth, canvas) if scene.truth else None
    layers = [*outline, *([Shapes("truth", truth)] if truth is not None else [])]
    legend = [("truth", "true landslide")] if truth is not None else []
    view["maps"].append(Map(image, canvas, _svg(layers, canvas), "True colour", "", tuple(legend)))
    for number, result in enumerate(scene.results):
        made = _result_maps(scene, result, truth, canvas, colour, image, outline, album)
        if number == 0:
            view["maps"] += made
        elif made:
            view["more"].append({"recipe": result.recipe, "pixels": result.score.get("pixels"), "maps": made})
    return view


def _result_maps(
    scene: SceneResults,
    result: Result,
    truth: np.ndarray | None,
    canvas: GeoBox,
    colour: np.ndarray,
    image: str,
    outline: list[Shapes],
    album: Album,
) -> list[Map]:
    made = []
    if result.probability:
        name = f"probability_{scene.name}_{result.recipe}"
        picture = maps.probability_picture(result.probability, canvas)
        title = f"{result.recipe}: probability"
        made.append(Map(album.add(name, picture), canvas, _svg(outline, canvas), title, "", ramp=True))
    frame = maps.read_polygons(result.polygons, "landslides", str(canvas.crs)) if result.polygons else None
    if frame is not None:
        layers, legend = _compared(frame, truth, outline)
        album.quicklooks[f"polygons_{scene.name}_{result.recipe}.png"] = maps.drawn_over(colour, layers, canvas)
        made.append(Map(image, canvas, _svg(layers, canvas), f"{result.recipe}: polygons", "", tuple(legend)))
    return made


def _compared(
    frame: gpd.GeoDataFrame, truth: np.ndarray | None, outline: list[Shapes]
) -> tuple[list[Shapes], list[tuple[str, str]]]:
    """Polygons of a model, told apart by whether they meet the truth where that is known."""
    titles = _titles(frame)
    if truth is None:
        return [*outline, Shapes("found", list(frame.geometry), titles)], [("found", "landslide")]
    inside = shapely.union_all([g for shapes in outline for g in shapes.geometry]) if outline else None
    true = truth if inside is None else truth[shapely.intersects(truth, inside)]
    here = true if inside is None else shapely.intersection(true, inside)
    hit, false_alarm = judged(np.asarray(frame.geometry), here)
    layers = [
        *outline,
        Shapes("miss", true[~hit], ["missed"] * int((~hit).sum())),
        Shapes("hit", list(frame.geometry[~false_alarm]), list(np.asarray(titles, dtype=object)[~false_alarm])),
        Shapes("false_alarm", list(frame.geometry[false_alarm]), list(np.asarray(titles, dtype=object)[false_alarm])),
    ]
    return layers, [("hit", "on a true landslide"), ("miss", "missed"), ("false_alarm", "false alarm")]


def _truth(path: Path, canvas: GeoBox) -> np.ndarray:
    """Read true landslides as polygons; of a raster, as seen at the size of the map."""
    if not truth_of.is_raster(path):
        return truth_of.read_polygons(path, str(canvas.crs)).geometry
    marked = maps.on_canvas(path, canvas, [1], sharp=True)[0] > 0
    found = rasterio.features.shapes(marked.astype(np.uint8), mask=marked, connectivity=8, transform=canvas.affine)
    return np.array([shapely.geometry.shape(geometry) for geometry, _ in found], dtype=object)


def _canvas(image: Path, ground: gpd.GeoDataFrame | None, crs: Any, longest: int) -> GeoBox:
    """Canvas over the searched ground, or over all of an image."""
    with open_raster(image) as src:
        finest, image_crs, bounds = abs(src.transform.a), src.crs.to_wkt() if src.crs else None, src.bounds
    if ground is None or crs is None:
        return maps.canvas_over(tuple(bounds), image_crs, finest, longest)
    around = maps.widened(ground.total_bounds)
    return maps.canvas_over(around, crs, finest, longest)


def _outline(ground: gpd.GeoDataFrame | None, canvas: GeoBox) -> list[Shapes]:
    if ground is None:
        return []
    return [Shapes("searched", list(ground.to_crs(str(canvas.crs)).geometry), ["searched ground"] * len(ground))]


def _svg(layers: Iterable[Shapes], canvas: GeoBox) -> Markup:
    return Markup("".join(maps.svg_paths(shapes, canvas) for shapes in layers))


def _titles(frame: gpd.GeoDataFrame) -> list[str]:
    """Say of each polygon what it says when it is pointed at."""
    areas = frame.get("area_m2", frame.area)
    means = frame["mean_probability"] if "mean_probability" in frame else [None] * len(frame)
    return [
        area(float(square)) + (f", probability {mean:.2f}" if mean is not None and math.isfinite(mean) else "")
        for square, mean in zip(areas, means, strict=True)
    ]


def _scene_days(scenes: Sequence[SceneResults]) -> str:
    return ", ".join(f"{s.facts.get('satellite', '')} {s.facts.get('sensor', '')} {s.day}".strip() for s in scenes)


def _crs_name(canvas: GeoBox) -> str:
    name = str(canvas.crs)
    return name if name.startswith("EPSG:") else "a CRS of its own"
