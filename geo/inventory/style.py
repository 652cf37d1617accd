"""How QGIS shows the layers.

The symbols are in ``<layer>.qml`` beside this module, as QGIS would save them; the titles of the attributes
come from the schema.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from geo.geopackage_file import qml_text
from geo.inventory.schema import layers


def qml(layer: str) -> str:
    """QGIS style of a layer, with the attributes' titles and units as aliases."""
    # our own file, not a user's
    root = ElementTree.parse(Path(__file__).with_name(f"{layer}.qml")).getroot()
    aliases = root.find("aliases")
    if aliases is None:
        raise ValueError(f"{layer}.qml has no element <aliases>")
    for number, attribute in enumerate(layers()[layer].attributes):
        unit = f" ({attribute.unit})" if attribute.unit not in ("", "1") else ""
        title = f"{attribute.title}{unit}"
        ElementTree.SubElement(aliases, "alias", index=str(number), field=attribute.name, name=title)
    return qml_text(root)
