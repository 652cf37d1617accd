"""Where the network looked, for the places of the report at which a person would want to know."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from rasterio.windows import Window

from geo.errors import ModelError
from geo.geobox import GeoBox
from geo.inventory import truth as truth_of
from geo.raster import open_raster, read
from pipeline.paths import recipe_name
from pipeline.report import maps
from pipeline.report.inventory import Inventory, known
from pipeline.report.maps import Shapes
from pipeline.report.numbers import area
from pipeline.report.run import RunResults, SceneResults
from pipeline.report.views import Album
from pipeline.report.worst import Answer, Answers, all_answers

log = logging.getLogger(__name__)

#: Pixels of a panel's side, and between panels.
SIDE, GAP = 320, 4
#: Sides of the window that the network sees, in pixels of the scene.
_LEAST, _MOST = 128, 768
#: As many as the rule of the workflow reckons with.
_THREADS = 2

CAPTION = (
    "Left the image with outlines: white true, yellow true but missed, blue mapped, pink mapped in vain, orange the "
    "polygon to look at; right the same with Grad-CAM over it: "
    "places whose features raised the network's answer inside the outline that the picture is about, from nothing over "
    "violet to yellow, each picture scaled to its own highest value. It shows where an answer came from. It does not "
    "prove that the answer is right, that the network knows what a landslide is, or that it would look there on other "
    "ground; it is as coarse as the encoder's map that it is made of, so light just outside an outline says little."
)


@dataclass(frozen=True)
class Place:
    """One outline to be explained, in the CRS of its scene, with what else is drawn there."""

    scene: SceneResults
    geometry: shapely.Geometry
    crs: Any
    words: str
    kind: str
    layers: tuple[tuple[str, np.ndarray], ...]


def attention(run: RunResults, inventory: Inventory, album: Album, number: int) -> dict[str, Any] | None:
    """Overlays of the first model's attention at the polygons to look at first and at its largest mistakes.

    Parameters
    ----------
    run : RunResults
    inventory : Inventory
    album : Album
        Pictures are added to it, and to the PNGs beside the page.
    number : int
        Pictures of each kind at most; 0 makes none, and needs no model.

    Returns
    -------
    dict or None
        ``caption, kinds`` (each ``title, pictures``, which have ``image, width, height, words``) and ``corners``, a
        sentence where a truth tells right from wrong; None where there is nothing to show: no model, or one that sees
        each pixel by itself.
    """
    file = _model(run) if number else None
    if file is None:
        if number:
            log.warning("%s holds no model of its own, so its report shows no attention", run.folder)
        return None
    from models import model_file  # torch is loaded only where it is needed
    from models.threads import limited_threads

    kinds, corners = [], None
    try:
        model = model_file.load(file)
        with limited_threads(_THREADS):
            answers = all_answers(run)
            for title, places in _places(run, inventory, answers, number):
                pictures = [_shown(model, place, album) for place in places]
                if pictures:
                    kinds.append({"title": title, "pictures": pictures})
            corners = _corners(model, answers) if kinds else None
    except ModelError as error:  # an SVM looks nowhere; a report is whole without
        log.warning("the report shows no attention: %s", error)
        return None
    return {"caption": CAPTION, "kinds": kinds, "corners": corners} if kinds else None


def _model(run: RunResults) -> Path | None:
    """File of the model that made the first results; of several together the first."""
    given = (run.settings.get("training") or {}).get("model")
    if given:
        found = [Path(given), run.folder.resolve().parents[1] / given]
    else:
        together = (run.settings.get("prediction") or {}).get("ensemble") or []
        names = [recipe_name(recipe) for recipe in together]
        names += [result.recipe for scene in run.searched for result in scene.results if result.polygons]
        found = [run.folder / "models" / f"{name}.pt" for name in names[:1]]
    return next((path for path in found if path.is_file()), None)


def _places(run: RunResults, inventory: Inventory, answers: Answers, number: int) -> list[tuple[str, list[Place]]]:
    return [
        ("Look here first", _first(run, inventory, number)),
        ("The largest that were missed", [_answer(m, "missed", "miss") for m in _largest(answers.misses, number)]),
        (
            "The largest false alarms",
            [_answer(m, "false alarm", "false_alarm") for m in _largest(answers.alarms, number)],
        ),
    ]


def _largest(mistakes: Sequence[Answer], number: int) -> list[Answer]:
    return sorted(mistakes, key=lambda m: -m.square_m)[:number]


def _answer(answer: Answer, words: str, kind: str) -> Place:
    told = f"{words}, {area(answer.square_m)}, {answer.scene.day}"
    layers = (("truth", answer.true), ("hit", answer.found))
    return Place(answer.scene, answer.geometry, answer.crs, told, kind, layers)


def _first(run: RunResults, inventory: Inventory, number: int) -> list[Place]:
    """Polygons that the review ranks first, each in the newest scene that shows it."""
    if inventory.review is None or "look_first" not in inventory.review or inventory.review.crs is None:
        return []
    frame = known(inventory.review).sort_values("look_first").head(number)
    places = []
    for row, geometry in zip(frame.to_dict("records"), frame.geometry, strict=True):
        point = gpd.GeoSeries([geometry.representative_point()], crs=frame.crs)
        scene = next((s for s in reversed(run.searched) if _shows(s, point)), None)
        if scene is not None:
            words = f"{row['look_first']:.0f}. polygon {row.get('id', '')}, {area(float(geometry.area))}, {scene.day}"
            places.append(Place(scene, geometry, frame.crs, words, "found", _truth(scene, frame.crs)))
    return places


def _truth(scene: SceneResults, crs: Any) -> tuple[tuple[str, np.ndarray], ...]:
    """Read the true landslides to be drawn, where polygons tell them."""
    if scene.truth is None or truth_of.is_raster(scene.truth):
        return ()
    return (("truth", np.asarray(truth_of.read_polygons(scene.truth, str(crs)).geometry, dtype=object)),)


def _shows(scene: SceneResults, point: gpd.GeoSeries) -> bool:
    assert scene.fused
    with open_raster(scene.fused) as src:
        if src.crs is None:
            return False
        here = point.to_crs(src.crs.to_wkt()).iloc[0]
        column, row = (math.floor(v) for v in ~src.transform @ (here.x, here.y))
        return bool(read(src, Window(column, row, 1, 1))[1].all())


@dataclass(frozen=True)
class _Seen:
    """A place as the network sees it: its attention, the pixels' transform and CRS, and all outlines in that CRS."""

    found: np.ndarray
    transform: Affine
    crs: str
    target: np.ndarray
    others: list[np.ndarray]


def _look(model: Any, place: Place) -> _Seen:
    """Explain a place's outline in a square window around it."""
    from models.explain import explain_landslides

    assert place.scene.fused
    with open_raster(place.scene.fused) as src:
        crs = src.crs.to_wkt()
        groups: list[Sequence[Any]] = [[place.geometry], *(list(shapes) for _, shapes in place.layers)]
        target, *others = (np.asarray(gpd.GeoSeries(g, crs=place.crs).to_crs(crs), dtype=object) for g in groups)
        window = _window(target[0], src, model)
        order = model.check_bands([d or "" for d in src.descriptions], source=str(place.scene.fused))
        values, _ = read(src, window, bands=[i + 1 for i in order])
        transform = src.transform @ Affine.translation(window.col_off, window.row_off)
    inside = rasterio.features.geometry_mask(target, values.shape[1:], transform, invert=True, all_touched=True)
    return _Seen(explain_landslides(model, values, pixels=inside), transform, crs, target, others)


def _shown(model: Any, place: Place, album: Album) -> dict[str, Any]:
    """Draw a place, beside it the same with the network's attention."""
    from models.explain import overlay

    assert place.scene.fused
    seen = _look(model, place)
    height, width = seen.found.shape
    found = cv2.resize(seen.found, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    canvas = GeoBox((SIDE, SIDE), seen.transform @ Affine.scale(width / SIDE, height / SIDE), seen.crs)
    picture = maps.true_colour([place.scene.fused], canvas)
    near = shapely.box(*canvas.boundingbox.bbox)
    drawn = [shapes[shapely.intersects(shapes, near)] for shapes in seen.others]
    layers = [Shapes(kind, shapes) for (kind, _), shapes in zip(place.layers, drawn, strict=True)]
    about = Shapes(place.kind, seen.target)
    left = maps.drawn_over(picture, [*layers, about], canvas)
    over = picture.copy()
    over[:, :, :3] = overlay(picture[:, :, 2::-1].astype(np.float32) / 255, found)[:, :, ::-1]
    right = maps.drawn_over(over, [about], canvas)
    between = np.zeros((SIDE, GAP, 4), np.uint8)
    at = sum(name.startswith("attention_") for name in album.images)
    name = album.add(f"attention_{at}", np.concatenate([left, between, right], axis=1))
    words = place.words if found.any() else f"{place.words}: nothing there raised its answer"
    return {"image": name, "width": 2 * SIDE + GAP, "height": SIDE, "words": words}


def _corners(model: Any, answers: Answers) -> str | None:
    """Tell the share of attention in corners of windows around mapped outlines, right against wrong; None unknown."""
    from models.explain import Corners, corner_share

    about = [(answer, True) for answer in answers.hits] + [(answer, False) for answer in answers.alarms]
    shares = [corner_share(_look(model, _answer(answer, "", "found")).found) for answer, _ in about]
    found = Corners.of(np.array(shares), np.array([right for _, right in about], bool)).summary()
    if found["difference"] is None:
        return None
    right, wrong = found["right"], found["wrong"]
    spread = found["difference_interval"]
    interval = "" if spread is None else f" (95 % interval {100 * spread[0]:+.0f} to {100 * spread[1]:+.0f})"
    return (
        f"Of the attention in these windows {100 * right['mean']:.0f} % lies in the four corners, a quarter of the "
        f"window, around the {right['images']} largest mapped outlines that are right, and {100 * wrong['mean']:.0f} % "
        f"around the {wrong['images']} largest false alarms: {100 * found['difference']:+.0f} points{interval}. A "
        "network that looks aside where it errs goes by surroundings, not by the ground inside the outline."
    )


def _window(geometry: shapely.Geometry, src: Any, model: Any) -> Window:
    """Square of pixels around an outline, in the scene where that is large enough.

    It is as large as the model's chips, or as twice the outline where that is more.
    """
    transform = src.transform
    left, bottom, right, top = geometry.bounds
    longest = max((right - left) / abs(transform.a), (top - bottom) / abs(transform.e))
    side = min(_MOST, max(_LEAST, model.chip_size, 2 * math.ceil(longest)))
    column, row = ~transform @ ((left + right) / 2, (bottom + top) / 2)
    at = []
    for middle, length in ((column, src.width), (row, src.height)):
        first = math.floor(middle) - side // 2
        at.append(min(max(first, 0), length - side) if length >= side else first)
    return Window(*at, side, side)
