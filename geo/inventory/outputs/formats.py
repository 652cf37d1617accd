"""The landslides of an inventory in other formats, for software that does not read GeoPackages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas as gpd
import pyogrio
from pyogrio.errors import DataSourceError

from geo.atomic import atomic, unfinished
from geo.inventory.schema import layers

#: Name of a format -> what replaces the suffix ``.gpkg``. A Shapefile is one file, zipped: its parts belong together.
SUFFIXES = {"geoparquet": ".parquet", "flatgeobuf": ".fgb", "geojson": ".geojson", "shapefile": ".shp.zip"}
#: GeoJSON is in degrees (RFC 7946); the seventh decimal is a centimetre.
_DEGREES = 7


def path_of(inventory: str | os.PathLike, name: str) -> Path:
    """Where the landslides of an inventory lie in a format: ``inventory.gpkg`` -> ``inventory.parquet``."""
    file = Path(inventory)
    return file.with_name(file.stem + SUFFIXES[name])


def write_also(
    inventory: str | os.PathLike, landslides: gpd.GeoDataFrame, names: Sequence[str], *, overwrite: bool = False
) -> list[Path]:
    """Write landslides in other formats beside their inventory; each file appears whole or not at all.

    Parameters
    ----------
    inventory : path
        The GeoPackage.
    landslides : GeoDataFrame
        Attributes as in ``schema.yaml``; a Shapefile has their short names, and times as text.
    names : sequence of str
        Some of ``SUFFIXES``.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    list of Path

    Raises
    ------
    OutputExistsError, OutputError
    """
    written = []
    for name in names:
        target = path_of(inventory, name)
        with atomic(target, overwrite=overwrite) as part:
            try:
                _WRITERS[name](landslides, part)
            except (DataSourceError, RuntimeError) as error:
                raise unfinished(target, error) from error
        written.append(target)
    return written


def _geoparquet(frame: gpd.GeoDataFrame, part: Path) -> None:
    frame.to_parquet(part, index=False, compression="zstd", write_covering_bbox=True, schema_version="1.1.0")


def _flatgeobuf(frame: gpd.GeoDataFrame, part: Path) -> None:
    pyogrio.write_dataframe(frame, part, driver="FlatGeobuf", geometry_type="MultiPolygon")


def _geojson(frame: gpd.GeoDataFrame, part: Path) -> None:
    pyogrio.write_dataframe(
        frame.to_crs(4326), part, driver="GeoJSON", RFC7946="YES", COORDINATE_PRECISION=str(_DEGREES)
    )


def _shapefile(frame: gpd.GeoDataFrame, part: Path) -> None:
    known = layers()["landslides"].attributes
    plain = frame.copy()
    for attribute in known:
        if attribute.type == "time":
            plain[attribute.name] = plain[attribute.name].dt.strftime("%Y-%m-%dT%H:%M:%SZ").astype("str")
    plain = plain.rename(columns={a.name: a.short for a in known if a.short})
    pyogrio.write_dataframe(plain, part, driver="ESRI Shapefile", encoding="UTF-8", geometry_type="MultiPolygon")


_WRITERS: dict[str, Callable[[gpd.GeoDataFrame, Path], None]] = {
    "geoparquet": _geoparquet,
    "flatgeobuf": _flatgeobuf,
    "geojson": _geojson,
    "shapefile": _shapefile,
}
