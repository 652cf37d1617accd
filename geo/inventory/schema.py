"""The layers of an inventory and their attributes, from ``schema.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import yaml

#: Column types: a column without rows, or without a known value, has its type all the same.
_DTYPES = {"text": "str", "integer": "int64", "real": "float64", "time": "datetime64[ms, UTC]"}


@dataclass(frozen=True)
class Attribute:
    """One attribute: its name in the file and (short) in a Shapefile, type, unit (empty: none), title and meaning."""

    name: str
    type: str
    title: str
    description: str
    unit: str = ""
    short: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer: its name, meaning and attributes in their order."""

    name: str
    description: str
    attributes: tuple[Attribute, ...]

    def frame(self, columns: Mapping[str, Any], geometry: np.ndarray, crs: Any) -> gpd.GeoDataFrame:
        """Put columns into the order and types of the layer.

        Parameters
        ----------
        columns : mapping
            A sequence for each attribute of the layer, or None where nothing is known of it.
        geometry : ndarray of shapely.MultiPolygon, shape (n,)
        crs : CRS

        Returns
        -------
        GeoDataFrame
        """
        names = [a.name for a in self.attributes]
        if set(columns) != set(names):
            raise ValueError(f"layer {self.name} has the attributes {names}, got {list(columns)}")
        unknown = [None] * len(geometry)
        typed = {
            a.name: pd.Series(unknown if columns[a.name] is None else columns[a.name], dtype=_DTYPES[a.type])
            for a in self.attributes
        }
        return gpd.GeoDataFrame(typed, geometry=gpd.GeoSeries(geometry, crs=crs), crs=crs)


@cache
def layers() -> dict[str, Layer]:
    """Layers of an inventory by name."""
    content = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8"))
    return {
        name: Layer(name, layer["description"], tuple(Attribute(**a) for a in layer["attributes"]))
        for name, layer in content.items()
    }
