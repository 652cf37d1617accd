"""Every GeoPackage is in the form that older software reads, and the same bit for bit when written again."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
import shapely

from geo.errors import OutputError
from geo.geopackage_file import write_layer, write_styles, writing

ROOT = Path(__file__).parents[2]


def points(crs="EPSG:32648"):
    return gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[shapely.Point(1, 2), shapely.Point(3, 4)], crs=crs)


def write(path):
    write_layer(path, "points", points(), geometry_type="Point")
    write_layer(path, "table", pd.DataFrame({"value": [1.5]}))
    write_styles(path, {"points": ("<qgis/>", "Points")})
    return path


def test_the_same_each_time_bit_for_bit(tmp_path):
    first = write(tmp_path / "a.gpkg").read_bytes()
    time.sleep(0.01)  # files of another time differ by their milliseconds
    assert write(tmp_path / "b.gpkg").read_bytes() == first
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_the_form_is_that_of_qgis_3_22(tmp_path):
    with closing(sqlite3.connect(write(tmp_path / "a.gpkg"))) as base:
        assert base.execute("pragma user_version").fetchone() == (10300,)
        assert set(base.execute("select last_change from gpkg_contents")) == {("2000-01-01T00:00:00.000Z",)}
        assert base.execute("select f_table_name, f_geometry_column, useAsDefault from layer_styles").fetchall() == [
            ("points", "geom", 1)
        ]
        assert base.execute("select table_name, column_name from gpkg_geometry_columns").fetchall() == [
            ("points", "geom")
        ]


def test_what_lies_nowhere_is_written_without_a_warning(tmp_path, recwarn):
    write_layer(tmp_path / "a.gpkg", "points", points(crs=None))
    assert len(recwarn) == 0
    assert pyogrio.read_info(tmp_path / "a.gpkg")["features"] == 2


def test_what_fails_is_told_in_the_users_name(tmp_path):
    with pytest.raises(OutputError, match=r"mine\.gpkg could not be written whole"), writing(tmp_path / "mine.gpkg"):
        write_layer(tmp_path / "absent" / "part.gpkg", "points", points())


def test_no_other_module_writes_geopackages():
    """But the synthetic world, which uses nothing of the chain."""
    modules = [path for floor in ("geo", "models", "pipeline") for path in (ROOT / floor).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in modules if '"GPKG"' in path.read_text(encoding="utf-8")}
    assert found == {"geo/geopackage_file.py", "geo/synthetic/truth.py"}
