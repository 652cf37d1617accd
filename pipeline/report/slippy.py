"""A map to look around in: scenes, probabilities and polygons over each other, all of it inside the page.

Leaflet (BSD 2-Clause, ``leaflet/``) draws it. Pictures are warped to Web Mercator, in which it thinks; it asks no
server for anything, so the page works from a file and years later.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from markupsafe import Markup
from rasterio.warp import transform_bounds

from geo.geobox import GeoBox
from geo.inventory import truth as truth_of
from geo.raster import open_raster
from pipeline.report import maps
from pipeline.report.inventory import Inventory
from pipeline.report.run import RunResults, SceneResults

#: Pixels of the longer side of its pictures.
LONGEST = 1800
#: Polygons that are embedded at most, the largest; the caption says where there are more.
MOST = 20_000
_LEAFLET = Path(__file__).parent / "leaflet"
_MERCATOR, _LON_LAT = "EPSG:3857", "EPSG:4326"
#: What a polygon says when it is clicked, where the inventory knows it: column, words, unit, decimals.
_TOLD = (
    ("id", "id", "", None),
    ("area_m2", "area", "m²", 0),
    ("mean_probability", "probability", "", 2),
    ("uncertainty", "uncertainty", "", 2),
    ("acquired", "seen", "", None),
    ("scene", "scene", "", None),
    ("slope_mean_deg", "slope", "°", 0),
    ("plausibility", "plausible", "", None),
    ("plausibility_reason", "because", "", None),
)


@dataclass(frozen=True)
class Slippy:
    """The map's parts for the template."""

    script: Markup
    style: Markup
    data: Markup
    caption: str


def slippy(run: RunResults, inventory: Inventory) -> Slippy | None:
    """Gather the map of a run; None where there is no inventory, or it has no place on the earth.

    Parameters
    ----------
    run : RunResults
    inventory : Inventory

    Returns
    -------
    Slippy or None
    """
    if inventory.polygons is None or inventory.polygons.crs is None or not run.searched:
        return None
    canvas = _canvas(run, inventory)
    images, shapes = [], []
    newest = run.searched[-1]
    for scene in reversed(run.searched):
        assert scene.fused
        picture = maps.true_colour([scene.fused], canvas)
        images.append({"name": f"true colour {scene.day}", "href": maps.data_uri(picture, 78), "on": scene is newest})
        for result in scene.results[:1]:
            if result.probability:
                picture = maps.probability_picture(result.probability, canvas)
                name = f"probability {scene.day}"
                images.append({"name": name, "href": maps.data_uri(picture, 70), "on": False, "opacity": 0.75})
    pixel = canvas.resolution.x
    order = np.argsort(-inventory.areas)[:MOST]
    shapes.append(_layer("landslides", "#ff601e", inventory.polygons.iloc[order], pixel, told=True))
    if inventory.searched is not None and len(inventory.searched):
        shapes.append(_layer("searched ground", "#ffffff", inventory.searched, pixel, dash="6 5"))
    true = _truth(newest)
    if true is not None:
        shapes.append(_layer(f"true landslides {newest.day}", "#ffd600", true, pixel, on=False))
    left, bottom, right, top = transform_bounds(_MERCATOR, _LON_LAT, *canvas.boundingbox)
    content = {"bounds": [[bottom, left], [top, right]], "images": images, "shapes": shapes}
    hidden = len(inventory.polygons) - len(order)
    caption = f"The {len(order)} largest landslides are shown, {hidden} are not." if hidden else ""
    return Slippy(
        script=Markup(_script((_LEAFLET / "leaflet.js").read_text(encoding="utf-8"))),
        style=Markup(_style((_LEAFLET / "leaflet.css").read_text(encoding="utf-8"))),
        data=Markup(_for_script(content)),
        caption=caption,
    )


def _canvas(run: RunResults, inventory: Inventory) -> GeoBox:
    """Canvas in Web Mercator over the searched ground, or over the newest scene."""
    ground = inventory.searched
    with open_raster(run.searched[-1].fused or "") as src:
        bounds, crs, finest = tuple(src.bounds), src.crs, abs(src.transform.a)
    if ground is not None and len(ground):
        bounds, crs = maps.widened(ground.total_bounds), ground.crs.to_wkt()
    _, south, _, north = transform_bounds(crs, _LON_LAT, *bounds)
    stretch = 1 / math.cos(math.radians((south + north) / 2))  # a metre of the ground in metres of the map
    return maps.canvas_over(transform_bounds(crs, _MERCATOR, *bounds), _MERCATOR, finest * stretch, LONGEST)


def _layer(
    name: str,
    colour: str,
    frame: gpd.GeoDataFrame,
    pixel: float,
    *,
    told: bool = False,
    dash: str = "",
    on: bool = True,
) -> dict[str, Any]:
    """Polygons of one kind as GeoJSON, simplified to half a pixel of the pictures."""
    drawn = frame.to_crs(_MERCATOR)
    drawn = drawn.set_geometry(drawn.geometry.simplify(0.5 * pixel)).to_crs(_LON_LAT)
    features = [
        {
            "type": "Feature",
            "properties": {"told": _words(row)} if told else {},
            "geometry": json.loads(shapely.to_geojson(shapely.set_precision(geometry, 1e-6, mode="pointwise"))),
        }
        for row, geometry in zip(
            frame.drop(columns=frame.geometry.name).to_dict("records"), drawn.geometry, strict=True
        )
    ]
    return {"name": name, "colour": colour, "dash": dash, "on": on, "features": features}


def _words(row: dict[str, Any]) -> list[list[str]]:
    said = []
    for column, words, unit, decimals in _TOLD:
        value = row.get(column)
        if value is None or value != value or value == "":  # NaN is not itself
            continue
        text = f"{value:,.{decimals}f}".replace(",", "\u2009") if decimals is not None else str(value)
        said.append([words, f"{text} {unit}".strip()])
    return said


def _truth(scene: SceneResults) -> gpd.GeoDataFrame | None:
    if scene.truth is None or truth_of.is_raster(scene.truth):
        return None
    return gpd.GeoDataFrame(geometry=list(truth_of.read_polygons(scene.truth, _LON_LAT).geometry), crs=_LON_LAT)


def _script(text: str) -> str:
    """Leaflet without addresses: the page names no server, not even its author's."""
    return _without_addresses(text).replace("</script", "<\\/script")


def _style(text: str) -> str:
    """Leaflet's style without the icons that this map does not use."""
    return re.sub(r"[\w-]+:\s*url\([^)]*\);?", "", _without_addresses(text))


def _without_addresses(text: str) -> str:
    return re.sub(r"https?://(?!www\.w3\.org/2000/svg)[\w./?=-]+", "", text)


def _for_script(content: Any) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
