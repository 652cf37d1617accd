"""An inventory as one GeoPackage that opens styled in QGIS and is the same bit for bit when made again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio
from affine import Affine
from pyogrio.errors import DataSourceError

from geo.atomic import atomic
from geo.errors import RasterError
from geo.geobox import GeoBox
from geo.geopackage_file import gdal_option, write_layer, write_styles, writing
from geo.inventory.schema import layers
from geo.inventory.style import qml

LANDSLIDES, SEARCHED = "landslides", "searched"
#: Layers beside these two, in the order in which they are written.
MORE = ("not_searched", "footprints", "review")
_GRID, _SETTINGS = "GEOCRACK_GRID", "GEOCRACK_SETTINGS"


@dataclass(frozen=True)
class Inventory:
    """Landslides, the ground on which they were searched, and how.

    Attributes
    ----------
    landslides : GeoDataFrame
        Attributes as in ``schema.yaml``.
    searched : GeoDataFrame or None
        No two of its features overlap; None where an inventory of another origin does not tell.
    grid : GeoBox or None
        Pixels that the polygons were made of.
    settings : mapping
        Threshold and the like.
    not_searched : GeoDataFrame or None
        Ground where nobody could look, by reason.
    footprints : GeoDataFrame or None
        Outlines of the scenes.
    review : GeoDataFrame or None
        The landslides once more, to be judged by a person.
    """

    landslides: gpd.GeoDataFrame
    searched: gpd.GeoDataFrame | None
    grid: GeoBox | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    not_searched: gpd.GeoDataFrame | None = None
    footprints: gpd.GeoDataFrame | None = None
    review: gpd.GeoDataFrame | None = None

    @property
    def landslide_km2(self) -> float:
        """Area of the landslides, by pixels."""
        return float(self.landslides["area_m2"].sum()) / 1e6

    @property
    def searched_km2(self) -> dict[str, float]:
        """Area searched in each scene, counted once where scenes overlap."""
        if self.searched is None:
            return {}
        return {str(k): float(v) for k, v in self.searched.groupby("scene", sort=False)["area_km2"].sum().items()}

    @property
    def not_searched_km2(self) -> dict[str, float]:
        """Area not searched, by reason."""
        if self.not_searched is None:
            return {}
        return {str(k): float(v) for k, v in self.not_searched.groupby("reason", sort=False)["area_km2"].sum().items()}


def write(path: str | os.PathLike, inventory: Inventory, *, overwrite: bool = False) -> None:
    """Write an inventory; it appears whole or not at all.

    Layers ``landslides``, ``searched`` and those of ``MORE`` that there are (MultiPolygon, also where they are
    empty), the grid and settings as metadata, and the table ``layer_styles``.

    Raises
    ------
    OutputExistsError, OutputError
    """
    if inventory.grid is None or inventory.searched is None:
        raise ValueError("an inventory is written with its grid and its searched ground")
    metadata = {
        _GRID: json.dumps({"shape": list(inventory.grid.shape), "transform": list(inventory.grid.affine)[:6]}),
        _SETTINGS: json.dumps(dict(inventory.settings), sort_keys=True),
    }
    frames = {LANDSLIDES: inventory.landslides, SEARCHED: inventory.searched}
    frames |= {name: frame for name in MORE if (frame := getattr(inventory, name)) is not None}
    with atomic(path, overwrite=overwrite) as part, writing(path):
        for name, frame in frames.items():
            about = metadata if name == LANDSLIDES else None
            write_layer(part, name, frame, geometry_type="MultiPolygon", dataset_metadata=about)
        write_styles(part, {name: (qml(name), layers()[name].description) for name in frames})


def read(path: str | os.PathLike) -> Inventory:
    """Read an inventory, ours or of another origin (then the only polygon layer is taken for landslides).

    Raises
    ------
    RasterError
        The file cannot be read, or which layer holds the landslides is not clear.
    """
    file = Path(path)
    names = polygon_layers(file)
    if LANDSLIDES in names:
        chosen = LANDSLIDES
    elif len(names) == 1:
        chosen = names[0]
    else:
        found = f"the polygon layers {', '.join(names)}" if names else "no layer of polygons"
        raise RasterError(f"{file} has {found}; expected a layer 'landslides', as `geocrack vectorize` writes")
    wanted = [chosen, *(n for n in (SEARCHED, *MORE) if n in names and chosen == LANDSLIDES)]
    with without_side_files():
        frames = {name: _typed(read_layer(file, name), name) for name in wanted}
        metadata = pyogrio.read_info(file, layer=chosen)["dataset_metadata"] or {}
    landslides = frames.pop(chosen)
    grid = None
    if _GRID in metadata:
        content = json.loads(metadata[_GRID])
        grid = GeoBox(tuple(content["shape"]), Affine(*content["transform"]), landslides.crs.to_wkt())
    settings = json.loads(metadata.get(_SETTINGS, "{}"))
    return Inventory(landslides, frames.pop(SEARCHED, None), grid, settings, **frames)


def _typed(frame: gpd.GeoDataFrame, layer: str) -> gpd.GeoDataFrame:
    """Give columns of text their type also where no value is known."""
    texts = [a.name for a in layers()[layer].attributes if a.type == "text"] if layer in layers() else []
    return frame.astype({name: "str" for name in texts if name in frame})


def polygon_layers(file: Path) -> list[str]:
    """Layers of a vector file that may hold polygons.

    Raises
    ------
    RasterError
        There is no such file, or it cannot be read.
    """
    if not file.exists():
        raise RasterError(f"{file} does not exist; expected a vector file such as a GeoPackage")
    try:
        with without_side_files():
            found = pyogrio.list_layers(file)
    except DataSourceError as error:
        raise RasterError(
            f"{file} cannot be read as a vector file ({error}); expected a GeoPackage or the like"
        ) from error
    return [name for name, kind in found if kind and ("Polygon" in kind or kind in ("Unknown", "GeometryCollection"))]


def read_layer(file: Path, layer: str, columns: Sequence[str] | None = None) -> gpd.GeoDataFrame:
    """Read features of a layer, by default with all attributes.

    Geometries that shapely has no form for, such as a TIN or a polyhedral surface, or a ring that is not closed, are
    None, as those of features without one.
    """
    return pyogrio.read_dataframe(file, layer=layer, columns=columns, on_invalid="ignore")


def without_side_files() -> AbstractContextManager[None]:
    """Keep GDAL from writing ``.aux.xml`` beside a GeoPackage with metadata that is only read."""
    return gdal_option("GDAL_PAM_ENABLED", "NO")
