"""The worst mistakes as pictures: the largest landslides that were missed and the largest false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import geopandas as gpd
import numpy as np
import shapely
from affine import Affine

from geo.geobox import GeoBox
from geo.inventory import geopackage
from geo.inventory import truth as truth_of
from geo.inventory.matching import judged
from geo.raster import open_raster
from pipeline.report import maps
from pipeline.report.inventory import known
from pipeline.report.maps import Shapes
from pipeline.report.numbers import area
from pipeline.report.run import Result, RunResults, SceneResults

#: Pictures of each kind.
SHOWN = 6
#: Pixels of a picture's side.
SIDE = 320


@dataclass(frozen=True)
class Answer:
    """One outline that was mapped or missed: how large, where, and what else lies there."""

    square_m: float
    scene: SceneResults
    geometry: shapely.Geometry
    found: np.ndarray
    true: np.ndarray
    crs: Any


class Answers(NamedTuple):
    """True outlines that were missed, mapped ones where nothing is, and mapped ones that are right."""

    misses: list[Answer]
    alarms: list[Answer]
    hits: list[Answer]


def worst(run: RunResults, images: dict[str, tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Pictures of the first model's largest misses and false alarms over all scenes with a truth of polygons.

    Parameters
    ----------
    run : RunResults
    images : dict
        The page's store; pictures are added to it.

    Returns
    -------
    list of dict
        ``title, why, pictures`` (each ``image, words``) of each kind that there is.
    """
    answers = all_answers(run)
    kinds = (
        ("missed", "The largest that were missed", "true outline yellow, mapped blue", answers.misses),
        ("false", "The largest false alarms", "mapped outline pink, true white", answers.alarms),
    )
    shown = []
    for key, title, why, mistakes in kinds:
        largest = sorted(mistakes, key=lambda m: -m.square_m)[:SHOWN]
        pictures = []
        for number, mistake in enumerate(largest):
            name = f"worst_{key}_{number}"
            images[name] = (maps.data_uri(_picture(mistake, key)), SIDE, SIDE)
            pictures.append(
                {"image": name, "words": f"{area(mistake.square_m)}, {mistake.scene.day}, {_place(mistake)}"}
            )
        if pictures:
            shown.append({"title": title, "why": why, "pictures": pictures, "side": SIDE})
    return shown


def all_answers(run: RunResults) -> Answers:
    """Gather the first model's largest misses, false alarms and hits of each scene with a truth of polygons."""
    answers = Answers([], [], [])
    for scene in run.searched:
        result = next((r for r in scene.results if r.polygons), None)
        if result is None or scene.truth is None or scene.fused is None or truth_of.is_raster(scene.truth):
            continue
        for kind, found in zip(answers, _answers(scene, result), strict=True):
            kind.extend(found)
    return answers


def _answers(scene: SceneResults, result: Result) -> Answers:
    assert scene.truth
    assert result.polygons
    layers = geopackage.read(result.polygons)
    frame = known(layers.landslides)
    if frame.crs is None:
        return Answers([], [], [])
    found = np.asarray(frame.geometry, dtype=object)
    true = np.asarray(truth_of.read_polygons(scene.truth, str(frame.crs)).geometry, dtype=object)
    if layers.searched is not None and len(layers.searched):
        true = shapely.intersection(true, layers.searched.to_crs(frame.crs).union_all())
        true = true[shapely.area(true) > 0]
    hit, false_alarm = judged(found, true)

    def made(geometry: np.ndarray) -> list[Answer]:
        largest = geometry[np.argsort(-shapely.area(geometry))][:SHOWN]
        return [Answer(float(g.area), scene, g, found, true, frame.crs) for g in largest]

    return Answers(made(true[~hit]), made(found[false_alarm]), made(found[~false_alarm]))


def _picture(mistake: Answer, key: str) -> np.ndarray:
    """Draw true colours around a mistake with outlines of what is true and what was mapped, BGRA."""
    assert mistake.scene.fused
    left, bottom, right, top = mistake.geometry.bounds
    with open_raster(mistake.scene.fused) as src:
        finest = abs(src.transform.a)
    half = max(0.75 * max(right - left, top - bottom), 40 * finest)
    x, y = (left + right) / 2, (bottom + top) / 2
    pixel = 2 * half / SIDE
    canvas = GeoBox((SIDE, SIDE), Affine(pixel, 0, x - half, 0, -pixel, y + half), str(mistake.crs))
    picture = maps.true_colour([mistake.scene.fused], canvas)
    near = shapely.box(x - half, y - half, x + half, y + half)
    mapped = mistake.found[shapely.intersects(mistake.found, near)]
    true = mistake.true[shapely.intersects(mistake.true, near)]
    kinds = (("hit", mapped), ("miss", true)) if key == "missed" else (("truth", true), ("false_alarm", mapped))
    drawn = maps.drawn_over(picture, [Shapes(kind, geometry) for kind, geometry in kinds], canvas)
    length, words = maps.scale_bar(canvas)
    cv2.line(drawn, (12, SIDE - 12), (12 + round(length), SIDE - 12), (255, 255, 255, 255), 2, cv2.LINE_AA)
    cv2.putText(drawn, words, (12, SIDE - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255, 255), 1, cv2.LINE_AA)
    return drawn


def _place(mistake: Answer) -> str:
    at = gpd.GeoSeries([mistake.geometry.representative_point()], crs=mistake.crs).to_crs(4326).iloc[0]
    return f"{abs(at.y):.4f}° {'NS'[at.y < 0]}, {abs(at.x):.4f}° {'EW'[at.x < 0]}"
