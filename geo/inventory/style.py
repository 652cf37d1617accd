"""How QGIS shows the layers: a table ``layer_styles`` in the GeoPackage, which QGIS reads by itself.

The symbols are in ``<layer>.qml`` beside this module, as QGIS would save them; the titles of the attributes
come from the schema. Only QML is loaded by QGIS without being asked, so there is no SLD.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from geo.inventory.schema import layers

_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


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
    return _DOCTYPE + ElementTree.tostring(root, encoding="unicode")


def layer_styles(names: Iterable[str], *, geometry_column: str, updated: datetime) -> pd.DataFrame:
    """Table ``layer_styles`` with one default style per layer, in the columns that QGIS looks for.

    Parameters
    ----------
    names : iterable of str
        Layers.
    geometry_column : str
        Name of the layers' geometry column; QGIS looks a style up by it.
    updated : datetime
        Time of the styles.

    Returns
    -------
    DataFrame
    """
    rows = [
        {
            "f_table_catalog": "",
            "f_table_schema": "",
            "f_table_name": name,
            "f_geometry_column": geometry_column,
            "styleName": name,
            "styleQML": qml(name),
            "styleSLD": "",
            "useAsDefault": True,
            "description": layers()[name].description,
            "owner": "geocrack",
            "ui": "",
            "update_time": updated,
        }
        for name in names
    ]
    return pd.DataFrame(rows).astype({"update_time": "datetime64[ms, UTC]"})
