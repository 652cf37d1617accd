"""GeoPackages of samples, tracks and cracks: styled in QGIS, the same bit for bit when made again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import pandas as pd
import pyogrio
from pyogrio.errors import DataSourceError

from geo.atomic import atomic
from geo.geopackage_file import qml_text, write_layer, write_styles, writing

_KINDS = {"Point": ("marker", "SimpleMarker"), "MultiPolygon": ("fill", "SimpleFill")}


@dataclass(frozen=True)
class Category:
    """One class of a layer as QGIS shows it: value, words and colour ``(red, green, blue)``."""

    value: str
    label: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """How QGIS shows a layer.

    Attributes
    ----------
    field : str
        Attribute by which features are coloured.
    categories : sequence of Category
        An empty value stands for all others.
    choices : mapping
        Values that a person may choose from in QGIS, by attribute.
    hidden : sequence of str
        Attributes that QGIS' form does not show.
    """

    field: str
    categories: Sequence[Category]
    choices: Mapping[str, Sequence[str]]
    hidden: Sequence[str] = ()


@dataclass(frozen=True)
class Layer:
    """A layer to be written: its features, geometry type, style (or a ready one, as QML) and what it says of itself."""

    frame: gpd.GeoDataFrame
    geometry_type: str
    style: Style | str
    description: str = ""


def write(
    path: str | os.PathLike,
    layers: Mapping[str, Layer],
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    overwrite: bool = False,
) -> None:
    """Write layers, tables without geometry, and the table ``layer_styles`` that QGIS reads by itself.

    Raises
    ------
    OutputExistsError, OutputError
    """
    with atomic(path, overwrite=overwrite) as part, writing(path):
        for name, layer in layers.items():
            write_layer(
                part,
                name,
                layer.frame,
                geometry_type=layer.geometry_type,
                promote_to_multi=layer.geometry_type == "MultiPolygon",
                **({"DESCRIPTION": layer.description} if layer.description else {}),
            )
        for name, table in (tables or {}).items():
            write_layer(part, name, table)
        about = {name: layer.description or f"How {name} is shown" for name, layer in layers.items()}
        write_styles(part, {name: (qml(layer), about[name]) for name, layer in layers.items()})


def layer_names(path: str | os.PathLike) -> list[str]:
    """Names of all layers and tables of a vector file; none where it cannot be read."""
    try:
        return [str(name) for name, _ in pyogrio.list_layers(Path(path))]
    except DataSourceError:
        return []


def qml(layer: Layer) -> str:
    """Style of a layer in QGIS' own form."""
    style = layer.style
    if isinstance(style, str):
        return style
    symbol_type, symbol_class = _KINDS[layer.geometry_type]
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|Forms")
    configuration = ElementTree.SubElement(root, "fieldConfiguration")
    for name in layer.frame.columns.drop(layer.frame.geometry.name):
        _widget(ElementTree.SubElement(configuration, "field", name=name), style, name)
    renderer = ElementTree.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=style.field, symbollevels="0")
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, category in enumerate(style.categories):
        ElementTree.SubElement(
            categories,
            "category",
            value=category.value,
            symbol=str(number),
            label=category.label,
            render="true",
            type="string",
        )
        symbol = ElementTree.SubElement(symbols, "symbol", name=str(number), type=symbol_type, alpha="1")
        pen = ElementTree.SubElement(
            symbol, "layer", {"class": symbol_class, "enabled": "1", "locked": "0", "pass": "0"}
        )
        options = ElementTree.SubElement(pen, "Option", type="Map")
        colour = ",".join(map(str, category.colour))
        shown = {"color": f"{colour},{255 if symbol_type == 'marker' else 90}", "outline_width": "0.4"}
        outline = "0,0,0" if symbol_type == "marker" else colour
        for key, value in {**shown, "outline_color": f"{outline},255", "name": "circle", "size": "2.6"}.items():
            ElementTree.SubElement(options, "Option", name=key, value=value, type="QString")
    ElementTree.SubElement(root, "layerGeometryType").text = "0" if symbol_type == "marker" else "2"
    return qml_text(root)


def _widget(field: ElementTree.Element, style: Style, name: str) -> None:
    """Say how QGIS' form edits an attribute."""
    kind = "ValueMap" if name in style.choices else "Hidden" if name in style.hidden else "TextEdit"
    config = ElementTree.SubElement(ElementTree.SubElement(field, "editWidget", type=kind), "config")
    options = ElementTree.SubElement(config, "Option", type="Map")
    if name in style.choices:
        choices = ElementTree.SubElement(options, "Option", name="map", type="List")
        for choice in style.choices[name]:
            entry = ElementTree.SubElement(choices, "Option", type="Map")
            ElementTree.SubElement(entry, "Option", name=choice, value=choice, type="QString")
