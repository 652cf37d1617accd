"""How every GeoPackage is written: in a form that older software reads, and the same bit for bit when written again."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import pandas as pd
import pyogrio
from pyogrio.errors import DataSourceError

from geo.atomic import unfinished

_GEOMETRY = "geom"
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
#: Form that GDAL 3.6 and QGIS 3.22 read without a warning.
_READABLE = {"VERSION": "1.3", "DATETIME_PRECISION": "MILLISECOND"}
#: GeoPackages say when they changed; the clock would make each one another file.
_CHANGED = datetime(2000, 1, 1, tzinfo=UTC)


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Say what could not be written, in the name that the user knows, where the block fails to.

    Raises
    ------
    OutputError
    """
    try:
        yield
    except (DataSourceError, RuntimeError) as error:
        raise unfinished(path, error) from error


def write_layer(path: str | os.PathLike, layer: str, frame: pd.DataFrame, **options: Any) -> None:
    """Write a layer, or a table where ``frame`` has no geometry, into a GeoPackage that may hold others.

    Parameters
    ----------
    path : path
        Most often what ``geo.atomic.atomic`` gives; see also ``writing``.
    layer : str
    frame : DataFrame
    **options
        For ``pyogrio.write_dataframe`` and GDAL's driver: ``geometry_type``, ``dataset_metadata``, ``DESCRIPTION``.
    """
    if isinstance(frame, gpd.GeoDataFrame):
        options |= {"GEOMETRY_NAME": _GEOMETRY}
    with gdal_option("OGR_CURRENT_DATE", _CHANGED.strftime("%Y-%m-%dT%H:%M:%S.000Z")), warnings.catch_warnings():
        # what lies on an image without a map has no CRS
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.write_dataframe(frame, path, layer=layer, driver="GPKG", **options, **_READABLE)


def write_styles(path: str | os.PathLike, styles: Mapping[str, tuple[str, str]]) -> None:
    """Write the table ``layer_styles`` that QGIS reads by itself, with one default style per layer.

    Only QML is loaded by QGIS without being asked, so there is no SLD.

    Parameters
    ----------
    path : path
    styles : mapping
        Style (see ``qml_text``) and what it says of itself, by layer.
    """
    rows = [
        {
            "f_table_catalog": "",
            "f_table_schema": "",
            "f_table_name": layer,
            "f_geometry_column": _GEOMETRY,  # QGIS looks a style up by it
            "styleName": layer,
            "styleQML": qml,
            "styleSLD": "",
            "useAsDefault": True,
            "description": description,
            "owner": "geocrack",
            "ui": "",
            "update_time": _CHANGED,
        }
        for layer, (qml, description) in styles.items()
    ]
    table = pd.DataFrame(rows).astype({"update_time": "datetime64[ms, UTC]"})
    write_layer(path, "layer_styles", table, FID="id")


def qml_text(root: ElementTree.Element) -> str:
    """Give a style in QGIS' own form as text."""
    return _DOCTYPE + ElementTree.tostring(root, encoding="unicode")


@contextmanager
def gdal_option(key: str, value: str) -> Iterator[None]:
    """Set an option of the GDAL that reads and writes vectors, and set it back."""
    before = pyogrio.get_gdal_config_option(key)
    pyogrio.set_gdal_config_options({key: value})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({key: before})
