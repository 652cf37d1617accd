"""A STAC catalogue of an inventory: one item for it, and one for each scene that it was made of.

Items are checked against the schemas of STAC, which come with pystac, and against those in ``schemas`` for the
extensions; nothing is fetched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyproj
import pystac
import rasterio
import shapely
from pystac.validation import JsonSchemaSTACValidator

from geo.atomic import atomic
from geo.errors import RasterError
from geo.geobox import GeoBox
from geo.inventory.geopackage import Inventory
from geo.masks import quality_path
from geo.mosaic import view_of
from geo.raster import open_raster

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
GEOCRACK = "https://raw.githubusercontent.com/geocrack/geocrack/main/geo/inventory/outputs/schemas/geocrack.json"
_SCHEMAS = {PROJECTION: "projection.json", GEOCRACK: "geocrack.json"}
#: A file in every such folder, by which it is known.
CATALOG = "catalog.json"
_TYPES = {
    ".gpkg": pystac.MediaType.GEOPACKAGE,
    ".parquet": pystac.MediaType.PARQUET,
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": pystac.MediaType.GEOJSON,
    ".zip": "application/zip",
    ".qgz": "application/x-qgis-project",
    ".tif": pystac.MediaType.COG,
}
_TITLES = {
    ".gpkg": "Inventory with all layers and styles",
    ".parquet": "Landslides as GeoParquet",
    ".fgb": "Landslides as FlatGeobuf",
    ".geojson": "Landslides as GeoJSON",
    ".zip": "Landslides as Shapefile",
    ".qgz": "QGIS project",
}


def catalog_path(inventory: str | os.PathLike) -> Path:
    """Folder of the catalogue of an inventory: ``inventory.gpkg`` -> ``inventory.stac``."""
    return Path(inventory).with_suffix(".stac")


def check_dated(rasters: Sequence[str | os.PathLike]) -> None:
    """Raise ``RasterError`` where probability rasters do not tell the time that STAC demands."""
    views = []
    for path in rasters:
        with open_raster(path) as src:
            views.append(view_of(src, path))
    _check_dated([view.scene for view in views if view.acquired is None])


def _check_dated(undated: Sequence[str]) -> None:
    if undated:
        raise RasterError(
            f"{', '.join(undated)} does not tell when it was acquired (tag GEOCRACK_ACQUIRED), and STAC demands a "
            "time; give rasters with the tag, or go without --stac"
        )


def write_catalog(
    path: str | os.PathLike,
    inventory: Inventory,
    *,
    rasters: Mapping[str, Mapping[str, str | os.PathLike]],
    also: Sequence[Path] = (),
    overwrite: bool = False,
) -> Path:
    """Write the catalogue of an inventory beside it.

    Parameters
    ----------
    path : path
        Of the GeoPackage.
    inventory : Inventory
    rasters : mapping
        Scene -> ``{"probability": path, "image": path}``, what there is of them.
    also : sequence of Path
        Other files with the same landslides.
    overwrite : bool
        Replace a catalogue that is there.

    Returns
    -------
    Path

    Raises
    ------
    RasterError
        A scene does not tell when it was acquired: STAC demands a time.
    OutputExistsError, OutputError
    """
    target = catalog_path(path)
    if inventory.footprints is None or inventory.grid is None:
        raise ValueError("a catalogue is written of an inventory that was made here")
    prints = inventory.footprints
    _check_dated([str(scene) for scene in prints["scene"][prints["acquired"].isna()]])
    with atomic(target, overwrite=overwrite, folder=True, known_by=CATALOG) as folder:
        version = str(inventory.settings.get("version", ""))
        # paths are told as seen from the finished folder
        scenes = [
            _scene(row, rasters.get(str(row["scene"]), {}), target, prints.crs, version)
            for row in prints.to_dict("records")
        ]
        whole = _inventory(Path(path), inventory, prints, inventory.grid, [*also], target, scenes)
        items = [whole, *scenes]
        catalog = pystac.Catalog(
            whole.id, f"Landslides of {len(scenes)} scene{'s' * (len(scenes) > 1)}, and what they were made of."
        )
        validator = offline_validator()
        for item in items:
            item.add_link(pystac.Link("root", f"./{CATALOG}", pystac.MediaType.JSON))
            item.add_link(pystac.Link("parent", f"./{CATALOG}", pystac.MediaType.JSON))
            catalog.add_link(pystac.Link("item", f"./{item.id}.json", pystac.MediaType.GEOJSON, item.id))
            document = item.to_dict(include_self_link=False, transform_hrefs=False)
            pystac.validation.validate_dict(document, validator=validator)
            _write(folder / f"{item.id}.json", document)
        catalog.add_link(pystac.Link("root", f"./{CATALOG}", pystac.MediaType.JSON))
        _write(folder / CATALOG, _catalog(catalog))
    return target


def offline_validator() -> JsonSchemaSTACValidator:
    """Give a validator of pystac that knows all schemas our items need."""
    validator = JsonSchemaSTACValidator()
    for uri, name in _SCHEMAS.items():
        text = (Path(__file__).parent / "schemas" / name).read_text(encoding="utf-8")
        validator.schema_cache[uri] = json.loads(text)
    return validator


def _catalog(catalog: pystac.Catalog) -> dict[str, Any]:
    document = catalog.to_dict(include_self_link=False, transform_hrefs=False)
    links = {(link["rel"], link["href"]): link for link in document["links"] if isinstance(link["href"], str)}
    return document | {"links": list(links.values())}


def _inventory(
    path: Path,
    inventory: Inventory,
    prints: gpd.GeoDataFrame,
    grid: GeoBox,
    also: list[Path],
    target: Path,
    scenes: Sequence[pystac.Item],
) -> pystac.Item:
    thresholds = {str(scene): float(value) for scene, value in inventory.settings.get("thresholds", {}).items()}
    box, times = grid.boundingbox, prints["acquired"]
    crs = pyproj.CRS.from_user_input(grid.crs)
    item = _item(
        path.stem,
        prints,
        times.min(),
        times.max(),
        {
            **_code(crs),
            "proj:bbox": [float(v) for v in (box.left, box.bottom, box.right, box.top)],
            "geocrack:product": "inventory",
            "geocrack:version": str(inventory.settings.get("version", "")),
            "geocrack:scenes": [str(s) for s in prints["scene"]],
            "geocrack:models": sorted({str(m) for m in prints["model"] if m}),
            "geocrack:thresholds": thresholds,
            "geocrack:landslides": len(inventory.landslides),
            "geocrack:landslide_km2": inventory.landslide_km2,
            "geocrack:searched_km2": sum(inventory.searched_km2.values()),
            "geocrack:not_searched_km2": inventory.not_searched_km2,
        },
    )
    for file in (path, *also):
        suffix = file.suffix
        asset = pystac.Asset(_relative(file, target), _TITLES.get(suffix), None, _TYPES.get(suffix), ["data"])
        item.add_asset({".gpkg": "inventory", ".qgz": "project"}.get(suffix, suffix.lstrip(".")), asset)
    for scene in scenes:
        item.add_link(pystac.Link("derived_from", f"./{scene.id}.json", pystac.MediaType.GEOJSON))
    return item


def _scene(
    row: Mapping[str, Any],
    rasters: Mapping[str, str | os.PathLike],
    target: Path,
    crs: Any,
    version: str,
) -> pystac.Item:
    outline = gpd.GeoDataFrame([{"geometry": row["geometry"]}], crs=crs)
    properties: dict[str, Any] = {"geocrack:product": "scene", "geocrack:version": version}
    if row["sensor"]:
        satellite, _, instrument = str(row["sensor"]).partition(" ")
        properties |= {"platform": satellite.lower()} | ({"instruments": [instrument.lower()]} if instrument else {})
    if row["model"]:
        properties["geocrack:models"] = [str(row["model"])]
    if not pd.isna(row["position_error_m"]):
        properties["geocrack:position_error_m"] = float(row["position_error_m"])
    item = _item(str(row["scene"]), outline, row["acquired"], row["acquired"], properties)
    for name, path in rasters.items():
        item.add_asset(name, _raster_asset(Path(path), name, target))
        beside = quality_path(path)
        if name == "image" and beside.exists():
            item.add_asset("quality", _raster_asset(beside, "quality", target))
    return item


def _item(
    name: str, outline: gpd.GeoDataFrame, begin: datetime, end: datetime, properties: dict[str, Any]
) -> pystac.Item:
    degrees = shapely.union_all(outline.to_crs(4326).geometry)
    degrees = shapely.orient_polygons(shapely.set_precision(degrees, 1e-7), exterior_cw=False)
    several = begin != end
    return pystac.Item(
        id=name,
        geometry=json.loads(shapely.to_geojson(degrees)),
        bbox=[float(v) for v in degrees.bounds],
        datetime=None if several else begin,
        start_datetime=begin if several else None,
        end_datetime=end if several else None,
        properties=properties,
        stac_extensions=[PROJECTION, GEOCRACK],
    )


def _raster_asset(path: Path, name: str, target: Path) -> pystac.Asset:
    roles = {"probability": ["data"], "image": ["data", "reflectance"], "quality": ["metadata"]}[name]
    with open_raster(path) as src:
        fields = _grid(src) | {"bands": _bands(src)}
    return pystac.Asset(_relative(path, target), name, None, _TYPES[".tif"], roles, fields)


def _grid(src: rasterio.DatasetReader) -> dict[str, Any]:
    crs = pyproj.CRS.from_user_input(src.crs)
    return {
        **_code(crs),
        "proj:shape": [src.height, src.width],
        "proj:transform": [float(v) for v in list(src.transform)[:6]],
    }


def _code(crs: pyproj.CRS) -> dict[str, Any]:
    authority = crs.to_authority()
    return {"proj:code": ":".join(authority)} if authority else {"proj:code": None, "proj:wkt2": crs.to_wkt()}


def _bands(src: rasterio.DatasetReader) -> list[dict[str, Any]]:
    """Bands in the words of STAC 1.1."""
    bands = []
    for number in src.indexes:
        band: dict[str, Any] = {
            "name": src.descriptions[number - 1] or f"band {number}",
            "data_type": src.dtypes[number - 1],
        }
        nodata = src.nodatavals[number - 1]
        if nodata is not None:
            band["nodata"] = "nan" if nodata != nodata else nodata
        bands.append(band)
    return bands


def _relative(path: Path, target: Path) -> str:
    relative = Path(os.path.relpath(path.absolute(), target.absolute())).as_posix()
    return relative if relative.startswith(".") else f"./{relative}"


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
