"""How QGIS shows cracks: centre lines coloured by width, outlines as a light veil below them."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

import numpy as np

from geo.geopackage_file import qml_text

#: From narrow to wide, readable on grey concrete and by the colour-blind (viridis turned to its warm end).
COLOURS = ((49, 104, 142), (53, 183, 121), (253, 231, 37), (253, 141, 60), (215, 25, 28))


def lines_qml(widths: np.ndarray, field: str, unit: str) -> str:
    """Style of the centre lines: five classes of equal number by width, or one where all are as wide.

    Parameters
    ----------
    widths : ndarray of float
        Of all lines.
    field : str
        Attribute that holds them.
    unit : str
        For the legend.
    """
    known = widths[np.isfinite(widths)]
    bounds = np.unique(np.quantile(known, np.linspace(0, 1, len(COLOURS) + 1))) if len(known) else np.zeros(1)
    root = _root("1")
    if len(bounds) < 2:
        _single(root, "line", "SimpleLine", {"line_color": _colour(COLOURS[0]), "line_width": "0.6"})
        return qml_text(root)
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="graduatedSymbol", attr=field, symbollevels="0", graduatedMethod="GraduatedColor"
    )
    ranges = ElementTree.SubElement(renderer, "ranges")
    symbols = ElementTree.SubElement(renderer, "symbols")
    colours = [COLOURS[k] for k in np.linspace(0, len(COLOURS) - 1, len(bounds) - 1).round().astype(int)]
    for number, (low, high, colour) in enumerate(zip(bounds[:-1], bounds[1:], colours, strict=True)):
        label = f"{low:.3g} to {high:.3g} {unit} wide"
        ElementTree.SubElement(
            ranges,
            "range",
            lower=repr(float(low)),
            upper=repr(float(high)),
            symbol=str(number),
            label=label,
            render="true",
        )
        _symbol(symbols, number, "line", "SimpleLine", {"line_color": _colour(colour), "line_width": "0.6"})
    return qml_text(root)


def outlines_qml() -> str:
    """Style of the outlines of cracks."""
    root = _root("2")
    shown = {"color": "255,255,255,60", "outline_color": "30,30,30,160", "outline_width": "0.1"}
    _single(root, "fill", "SimpleFill", shown)
    return qml_text(root)


def _root(geometry: str) -> ElementTree.Element:
    root = ElementTree.Element("qgis", version="3.22.0", styleCategories="Symbology")
    ElementTree.SubElement(root, "layerGeometryType").text = geometry
    return root


def _single(root: ElementTree.Element, kind: str, layer: str, options: Mapping[str, str]) -> None:
    renderer = ElementTree.SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0")
    _symbol(ElementTree.SubElement(renderer, "symbols"), 0, kind, layer, options)


def _symbol(symbols: ElementTree.Element, number: int, kind: str, layer: str, options: Mapping[str, str]) -> None:
    symbol = ElementTree.SubElement(symbols, "symbol", name=str(number), type=kind, alpha="1")
    pen = ElementTree.SubElement(symbol, "layer", {"class": layer, "enabled": "1", "locked": "0", "pass": "0"})
    held = ElementTree.SubElement(pen, "Option", type="Map")
    for key, value in options.items():
        ElementTree.SubElement(held, "Option", name=key, value=value, type="QString")


def _colour(colour: tuple[int, int, int]) -> str:
    return ",".join(map(str, colour)) + ",255"
