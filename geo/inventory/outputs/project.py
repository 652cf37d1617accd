"""A QGIS project that opens an inventory over its images, with paths relative to itself.

The styles are those inside the GeoPackage. A project is XML in a zip; QGIS fills in what it does not say.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyproj
import rasterio

from geo.atomic import atomic
from geo.image import band_names
from geo.inventory.style import qml
from geo.raster import open_raster, overview

#: Layers from top to bottom, and whether they are shown at first.
_SHOWN = {"review": False, "landslides": True, "not_searched": True, "searched": True, "footprints": False}
#: Pixels of the look that the brightness of an image is taken from, and the quantiles that become black and white.
_LONGEST = 512
_DARK, _BRIGHT = 1.0, 99.0
#: A zip tells when its files changed; the clock would make each project another file.
_CHANGED = (2000, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Layer:
    id: str
    name: str
    source: str
    provider: str
    shown: bool
    element: ElementTree.Element


def project_path(inventory: str | os.PathLike) -> Path:
    """Where the project of an inventory lies: ``inventory.gpkg`` -> ``inventory.qgz``."""
    return Path(inventory).with_suffix(".qgz")


def write_project(
    inventory: str | os.PathLike,
    crs: Any,
    bounds: Sequence[float],
    *,
    images: Sequence[str | os.PathLike] = (),
    overwrite: bool = False,
) -> Path:
    """Write the project of an inventory beside it.

    Parameters
    ----------
    inventory : path
        A GeoPackage with the layers of ``schema.yaml``.
    crs : CRS
        Of the map.
    bounds : sequence of float
        Left, bottom, right, top that the map shows.
    images : sequence of path
        Rasters below, the lowest first; the last is shown.
    overwrite : bool
        Replace a project that is there.

    Returns
    -------
    Path

    Raises
    ------
    OutputExistsError, OutputError, RasterError
    """
    target = project_path(inventory)
    here = target.parent.absolute()
    wanted = pyproj.CRS.from_user_input(crs)
    source = f"./{Path(inventory).name}"
    layers = [_vector(source, name, shown, wanted) for name, shown in _SHOWN.items()]
    for number, path in reversed(list(enumerate(images))):
        relative = os.path.relpath(Path(path).absolute(), here)
        layers.append(_raster(path, relative, number, shown=number == len(images) - 1))
    content = ElementTree.tostring(_document(layers, wanted, bounds, target.stem), encoding="unicode")
    text = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + content
    with atomic(target, overwrite=overwrite) as part, zipfile.ZipFile(part, "w") as archive:
        entry = zipfile.ZipInfo(f"{target.stem}.qgs", _CHANGED)
        archive.writestr(entry, text, zipfile.ZIP_DEFLATED)
    return target


def _document(layers: Sequence[_Layer], crs: pyproj.CRS, bounds: Sequence[float], title: str) -> ElementTree.Element:
    root = ElementTree.Element("qgis", projectname=title, version="3.22.0")
    _text(root, "title", title)
    _spatial_reference(ElementTree.SubElement(root, "projectCrs"), crs)
    tree = ElementTree.SubElement(root, "layer-tree-group")
    for layer in layers:
        ElementTree.SubElement(
            tree,
            "layer-tree-layer",
            id=layer.id,
            name=layer.name,
            source=layer.source,
            providerKey=layer.provider,
            checked="Qt::Checked" if layer.shown else "Qt::Unchecked",
            expanded="0",
        )
    canvas = ElementTree.SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    _text(canvas, "units", "meters")
    extent = ElementTree.SubElement(canvas, "extent")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True):
        _text(extent, name, repr(float(value)))
    _spatial_reference(ElementTree.SubElement(canvas, "destinationsrs"), crs)
    ElementTree.SubElement(root, "projectlayers").extend(layer.element for layer in layers)
    order = ElementTree.SubElement(root, "layerorder")
    for layer in layers:
        ElementTree.SubElement(order, "layer", id=layer.id)
    properties = ElementTree.SubElement(root, "properties")
    _text(ElementTree.SubElement(properties, "Paths"), "Absolute", "false").set("type", "bool")
    # without this QGIS takes the CRS for switched off
    _text(ElementTree.SubElement(properties, "SpatialRefSys"), "ProjectionsEnabled", "1").set("type", "int")
    return root


def _vector(source: str, name: str, shown: bool, crs: pyproj.CRS) -> _Layer:
    layer = _Layer(f"geocrack_{name}", name.replace("_", " "), f"{source}|layername={name}", "ogr", shown, _map_layer())
    element = layer.element
    element.attrib |= {"type": "vector", "geometry": "Polygon", "wkbType": "MultiPolygon"}
    _common(layer, crs)
    _text(element, "provider", "ogr").set("encoding", "UTF-8")
    style = ElementTree.fromstring(qml(name).split("\n", 1)[1])
    element.extend(child for child in style if child.tag != "layerGeometryType")
    return layer


def _raster(path: str | os.PathLike, relative: str, number: int, *, shown: bool) -> _Layer:
    with open_raster(path) as src:
        crs = pyproj.CRS.from_user_input(src.crs)
        name = src.tags().get("GEOCRACK_SCENE") or Path(path).stem
        renderer = _renderer(src)
    source = relative if relative.startswith(".") else f"./{relative}"
    layer = _Layer(f"geocrack_image_{number}", name, source, "gdal", shown, _map_layer())
    layer.element.set("type", "raster")
    _common(layer, crs)
    _text(layer.element, "provider", "gdal")
    ElementTree.SubElement(layer.element, "pipe").append(renderer)
    return layer


def _renderer(src: rasterio.DatasetReader) -> ElementTree.Element:
    """Show true colours where there are such bands, else the first in grey; stretched between two quantiles."""
    names = list(band_names(src)) if all(src.descriptions) else []
    coloured = {"red", "green", "blue"} <= set(names)
    bands = [names.index(name) + 1 for name in ("red", "green", "blue")] if coloured else [1]
    values, valid, _ = overview(src, _LONGEST, bands=bands)
    kind = "multibandcolor" if coloured else "singlebandgray"
    element = ElementTree.Element("rasterrenderer", type=kind, opacity="1", alphaBand="-1")
    tags = ("redContrastEnhancement", "greenContrastEnhancement", "blueContrastEnhancement")
    for name, band, tag, layer in zip(
        ("redBand", "greenBand", "blueBand") if coloured else ("grayBand",),
        bands,
        tags if coloured else ("contrastEnhancement",),
        values,
        strict=True,
    ):
        element.set(name, str(band))
        low, high = np.percentile(layer[valid], (_DARK, _BRIGHT)) if valid.any() else (0.0, 1.0)
        stretch = ElementTree.SubElement(element, tag)
        _text(stretch, "minValue", f"{low:.6g}")
        _text(stretch, "maxValue", f"{max(high, low + 1e-6):.6g}")
        _text(stretch, "algorithm", "StretchToMinimumMaximum")
    return element


def _map_layer() -> ElementTree.Element:
    return ElementTree.Element("maplayer")


def _common(layer: _Layer, crs: pyproj.CRS) -> None:
    _text(layer.element, "id", layer.id)
    _text(layer.element, "datasource", layer.source)
    _text(layer.element, "layername", layer.name)
    _spatial_reference(ElementTree.SubElement(layer.element, "srs"), crs)


def _spatial_reference(parent: ElementTree.Element, crs: pyproj.CRS) -> None:
    element = ElementTree.SubElement(parent, "spatialrefsys")
    _text(element, "wkt", crs.to_wkt())
    authority = crs.to_authority()
    if authority:
        _text(element, "authid", ":".join(authority))


def _text(parent: ElementTree.Element, tag: str, value: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = value
    return element
