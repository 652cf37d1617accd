"""Ground control points as people keep them: a vector file, a table, or the points of QGIS's georeferencer."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError

from geo.errors import ConfigError, RasterError, RegistrationError
from geo.geoid import undulation
from geo.ortho.dem import LON_LAT, horizontal, transform
from geo.ortho.heights import told_by

#: Names that tables use for a column, in lower case; the first is ours.
_COLUMNS = {
    "col": ("col", "column", "pixel", "sample", "sourcex", "pixelx"),
    "row": ("row", "line", "sourcey", "pixely"),
    "x": ("x", "lon", "longitude", "easting", "mapx"),
    "y": ("y", "lat", "latitude", "northing", "mapy"),
    "z": ("z", "height", "elevation"),
    "name": ("name", "id"),
}


@dataclass(frozen=True)
class ControlPoints:
    """Points known in the image and on the ground; arrays of shape (n,).

    Attributes
    ----------
    source : str
        Where they come from, for messages.
    names : tuple of str
    col, row : ndarray of float64
        GDAL pixel coordinates: (0, 0) is the image's upper left corner, (0.5, 0.5) the centre of its first pixel.
    lon, lat : ndarray of float64
        WGS 84, degrees.
    height : ndarray of float64
        Metres above the ellipsoid; NaN where the DEM shall say it.
    """

    source: str
    names: tuple[str, ...]
    col: np.ndarray
    row: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    height: np.ndarray


def read_control_points(path: str | os.PathLike, *, crs: str | None = None) -> ControlPoints:
    """Read ground control points.

    Parameters
    ----------
    path : path
        A vector file (GeoPackage, GeoJSON, shapefile) of points with the fields ``col`` and ``row``; a table
        (``.csv``) with the columns ``col, row, x, y`` and perhaps ``z`` and ``name``; or the ``.points`` of QGIS's
        georeferencer. A ``z`` is metres above the ellipsoid, or above the geoid that the CRS's vertical part names.
    crs : str, optional
        Of ``x, y[, z]``, instead of the file's own; of a table, longitude and latitude by default.

    Raises
    ------
    RasterError
        There is no such file, or it cannot be read.
    RegistrationError
        A column is missing, or holds what is no number.
    ConfigError
        The CRS is not understood.
    """
    file = Path(path)
    if not file.exists():
        raise RasterError(f"{file} does not exist; expected ground control points (.gpkg, .geojson, .csv or .points)")
    table = file.suffix.lower() in (".csv", ".txt", ".points")
    columns, own = _read_table(file) if table else _read_vector(file)
    try:
        known = CRS.from_user_input(crs or own or LON_LAT)
    except CRSError as error:
        raise ConfigError(
            f"the CRS '{crs or own}' of {file} is not understood; expected a code such as EPSG:32648"
        ) from error
    numbers = {key: _numbers(file, key, columns[key]) for key in ("col", "row", "x", "y", "z") if key in columns}
    missing = [key for key in ("col", "row", "x", "y") if key not in numbers]
    if missing:
        raise RegistrationError(
            f"{file} has no {' and no '.join(missing)}; expected the columns col and row (pixels from the image's "
            "upper left corner), x and y (or points), and perhaps z (metres)"
        )
    lon, lat = transform(horizontal(known), LON_LAT, numbers["x"], numbers["y"])
    places = np.column_stack([lon, lat, numbers["col"], numbers["row"]])
    with np.errstate(invalid="ignore"):
        bad = ~np.isfinite(places).all(axis=1) | (np.abs(lat) > 90) | (np.abs(lon) > 360)
    if bad.any():
        raise RegistrationError(
            f"{file}: point {int(np.flatnonzero(bad)[0]) + 1} has no place in the image or on the ground; expected "
            f"numbers in the CRS {known.name}: mend it, or give --gcp-crs"
        )
    model, unit = told_by(known, os.fspath(file)) if "z" in numbers else (None, 1.0)
    height = unit * numbers.get("z", np.full(len(lon), np.nan))
    if model:
        height = height + undulation(lon, lat, model)
    given = columns.get("name") or [None] * len(lon)
    names = tuple(str(v) if v not in (None, "") else str(i) for i, v in enumerate(given, 1))
    return ControlPoints(os.fspath(file), names, numbers["col"], numbers["row"], lon, lat, height)


def _read_table(file: Path) -> tuple[dict[str, list[Any]], str | None]:
    """Columns of a table under our names, and its CRS if it says so (QGIS: ``#CRS: ...`` above the header)."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RasterError(f"{file} cannot be read ({error}); expected a table of ground control points") from error
    crs = next((line[5:].strip() for line in lines if line.startswith("#CRS:")), None)
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    separator = max(",;\t", key=(lines[0] if lines else "").count)
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    rows = list(reader)
    fields = {(name or "").strip().lower(): name for name in (rows[0] if rows else reader.fieldnames or ())}
    if not rows and any(name in fields for names in _COLUMNS.values() for name in names):
        raise RegistrationError(f"{file} holds no points; expected a line below its header for each")
    if "enable" in fields:
        rows = [row for row in rows if (row[fields["enable"]] or "").strip() != "0"]
    columns = {
        key: [row[fields[name]] for row in rows]
        for key, names in _COLUMNS.items()
        for name in names[::-1]
        if name in fields
    }
    if {"sourcey", "pixely"} & set(fields) and not {"row", "line"} & set(
        fields
    ):  # QGIS counts the rows of an image without a CRS downwards from 0
        columns["row"] = [str(-float(v)) if _is_number(v) else v for v in columns["row"]]
    return columns, crs


def _read_vector(file: Path) -> tuple[dict[str, list[Any]], str | None]:
    """Fields of a vector file under our names, with the places of its points, and its CRS."""
    import geopandas

    try:
        frame = geopandas.read_file(file)
    except Exception as error:  # pyogrio's and GDAL's, of many kinds
        cause = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise RasterError(f"{file} cannot be read ({cause}); expected points (.gpkg, .geojson) or a .csv") from error
    fields = {str(name).lower(): name for name in frame.columns}
    columns = {
        key: frame[fields[name]].tolist() for key, names in _COLUMNS.items() for name in names[::-1] if name in fields
    }
    geometry = getattr(frame, "geometry", None) if isinstance(frame, geopandas.GeoDataFrame) else None
    if geometry is None:
        return columns, None
    if not (geometry.geom_type == "Point").all():
        raise RegistrationError(f"{file} holds other things than points; expected one point for each ground control")
    columns |= {"x": geometry.x.tolist(), "y": geometry.y.tolist()}
    if geometry.has_z.any() and "z" not in columns:
        columns["z"] = geometry.z.tolist()
    return columns, frame.crs.to_wkt() if frame.crs else None


def _numbers(file: Path, key: str, values: list[Any]) -> np.ndarray:
    """Numbers of a column; NaN where a height is left empty."""
    found = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        empty = value is None or (isinstance(value, str) and not value.strip())
        if _is_number(value):
            found[i] = float(value)
        elif not (empty and key == "z"):
            raise RegistrationError(
                f"{file}: point {i + 1} has {key} = {value!r}; expected a number with a decimal point"
            )
    return found


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
