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

from geo.geobox import GeoBox
from geo.inventory import geopackage
from geo.inventory import truth as truth_of
from geo.inventory.matching import judged
from geo.raster import crs_name, open_raster
from pipeline.report import maps
from pipeline.report.inventory import Inventory, known
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
    def upright(self) -> bool:
        """Whether it is so much higher than wide that there is room beside it."""
        return self.height > 1.1 * self.width

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
        caption=f"{_scene_days(_deciding(run, ground))}. Grid north is up; {crs_name(canvas.crs)}.",
        legend=(("found", "landslide"), *((("searched", "searched ground"),) if outline else ())),
    )


def scene_view(scene: SceneResults, album: Album) -> dict[str, Any]:
    """Gather facts and maps of one scene: true colours and the models' polygons, and their probabilities."""
    view: dict[str, Any] = {"scene": scene, "maps": [], "probabilities": [], "calibration": calibration(scene)}
    if scene.fused:
        drawer = _SceneMaps(scene, scene.fused, album)
        view["maps"] = [drawer.true_colour(), *(drawer.polygons(r) for r in scene.results if r.polygons)]
        view["probabilities"] = [drawer.probability(r) for r in scene.results if r.probability]
        view["scored"] = any(r.score.get("pixels") for r in scene.results)
    return view


class _SceneMaps:
    """Draws the maps of a scene, all on one canvas."""

    def __init__(self, scene: SceneResults, fused: Path, album: Album) -> None:
        self.scene, self.album = scene, album
        ground = _first_ground(scene)
        self.canvas = _canvas(fused, ground, ground.crs if ground is not None else None, SMALL)
        self.outline = _outline(ground, self.canvas)
        self.colour = maps.true_colour([fused], self.canvas)
        self.image = album.add(f"true_colour_{scene.name}", self.colour)
        self.truth = _truth(scene.truth, self.canvas) if scene.truth else None
        with open_raster(fused) as src:
            self.pixel_m2 = abs(src.transform.determinant)

    def _map(self, image: str, title: str, layers: list[Shapes], **more: Any) -> Map:
        return Map(image, self.canvas, _svg(layers, self.canvas), title, "", **more)

    def true_colour(self) -> Map:
        """Draw the image, with the truth where it is known."""
        if self.truth is None:
            return self._map(self.image, "True colour", self.outline)
        layers = [*self.outline, Shapes("truth", self.truth)]
        return self._map(self.image, "True colour", layers, legend=(("truth", "true landslide"),))

    def probability(self, result: Result) -> Map:
        """Draw how likely a model takes the ground for landslide."""
        assert result.probability
        picture = maps.probability_picture(result.probability, self.canvas)
        name = self.album.add(f"probability_{self.scene.name}_{result.recipe}", picture)
        return self._map(name, f"{result.recipe}: probability", self.outline, ramp=True)

    def polygons(self, result: Result) -> Map:
        """Draw what a model found, told apart by whether it meets the truth where that is known."""
        assert result.polygons
        frame = known(geopackage.read(result.polygons).landslides).to_crs(str(self.canvas.crs))
        layers, legend = self._compared(np.asarray(frame.geometry), np.array(_titles(frame), dtype=object))
        name = f"polygons_{self.scene.name}_{result.recipe}.png"
        self.album.quicklooks[name] = maps.drawn_over(self.colour, layers, self.canvas)
        return self._map(self.image, f"{result.recipe}: polygons", layers, legend=legend)

    def _compared(self, found: np.ndarray, titles: np.ndarray) -> tuple[list[Shapes], tuple[tuple[str, str], ...]]:
        if self.truth is None:
            return [*self.outline, Shapes("found", found, titles)], (("found", "landslide"),)
        true = self.truth
        if self.outline:  # as in the scores: only searched ground counts, and slivers at its edge do not
            true = shapely.intersection(true, shapely.union_all(self.outline[0].geometry))
            true = true[shapely.area(true) >= self.pixel_m2]
        hit, false_alarm = judged(found, true)
        layers = [
            *self.outline,
            Shapes("miss", true[~hit], ["missed"] * int((~hit).sum())),
            Shapes("hit", found[~false_alarm], titles[~false_alarm]),
            Shapes("false_alarm", found[false_alarm], titles[false_alarm]),
        ]
        return layers, (("hit", "on a true landslide"), ("miss", "missed"), ("false_alarm", "false alarm"))


def _first_ground(scene: SceneResults) -> gpd.GeoDataFrame | None:
    """Ground that was searched in a scene, from the first model's polygons."""
    path = next((r.polygons for r in scene.results if r.polygons), None)
    ground = geopackage.read(path).searched if path else None
    return ground if ground is not None and len(ground) else None


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


def _deciding(run: RunResults, ground: gpd.GeoDataFrame | None) -> list[SceneResults]:
    """Scenes whose view decides somewhere, as far as the inventory tells."""
    names = set() if ground is None or "scene" not in ground else set(ground["scene"])
    return [s for s in run.searched if s.facts.get("id") in names] or run.searched


def _scene_days(scenes: Sequence[SceneResults]) -> str:
    return ", ".join(f"{s.facts.get('satellite', '')} {s.facts.get('sensor', '')} {s.day}".strip() for s in scenes)
