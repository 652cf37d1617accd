"""``geocrack cracks`` from the command line."""

from __future__ import annotations

import json

import click
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner

from geo.errors import OutputExistsError, RasterError
from pipeline.cli import geocrack


def run(*args):
    result = CliRunner().invoke(geocrack, ["cracks", *map(str, args)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture
def mask(tmp_path):
    values = np.zeros((1, 80, 200), np.uint8)
    values[0, 40:44, 20:180] = values[0, 10:43, 100:103] = 255
    path = tmp_path / "mask.png"
    with rasterio.open(path, "w", driver="PNG", height=80, width=200, count=1, dtype="uint8") as dst:
        dst.write(values)
    return path


def test_a_photographs_mask_is_measured(mask, tmp_path):
    told = run(mask, "-o", tmp_path / "c.gpkg", "--gsd-m", "0.5").output
    assert "1 cracks, 3 centre lines" in told
    assert "depth is not in an image" in told
    lines = pyogrio.read_dataframe(tmp_path / "c.gpkg", layer="centre_lines")
    assert lines["length_m"].sum() == pytest.approx((160 + 32) / 2, rel=0.02)
    assert len(pd.read_csv(tmp_path / "c.centre_lines.csv")) == 3
    assert len(pd.read_csv(tmp_path / "c.cracks.csv")) == 1
    record = json.loads((tmp_path / "c.gpkg.provenance.json").read_text())
    assert record["results"]["cracks"] == 1
    assert record["results"]["depth"] == "Depth is not in an image, so there is none here."
    assert record["settings"] == {"threshold": None, "gsd_m": 0.5, "min_length_px": 10.0}


def test_metres_of_an_ortho(mask, tmp_path):
    with rasterio.open(mask) as src:
        values = src.read()
    kind = {"driver": "GTiff", "height": 80, "width": 200, "count": 1, "dtype": "uint8"}
    place = {"crs": "EPSG:32648", "transform": Affine(0.1, 0, 4e5, 0, -0.1, 3.4e6)}
    with rasterio.open(tmp_path / "o.tif", "w", **kind, **place) as dst:
        dst.write(values)
    run(tmp_path / "o.tif", "-o", tmp_path / "c.gpkg", "--min-length", "30")
    lines = pyogrio.read_dataframe(tmp_path / "c.gpkg", layer="centre_lines")
    assert lines.crs.to_epsg() == 32648
    assert lines["length_m"].sum() == pytest.approx(19.2, rel=0.02)
    run(tmp_path / "o.tif", "-o", tmp_path / "c.gpkg", "--min-length", "300", "--overwrite")
    assert len(pyogrio.read_dataframe(tmp_path / "c.gpkg", layer="cracks")) == 0


def test_what_is_there_is_kept(mask, tmp_path):
    (tmp_path / "c.cracks.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"c\.cracks\.csv is already there; give --overwrite"):
        run(mask, "-o", tmp_path / "c.gpkg")
    assert not (tmp_path / "c.gpkg").exists()
    with pytest.raises(click.BadParameter, match=r"expected the name of a GeoPackage, \*\.gpkg"):
        run(mask, "-o", tmp_path / "c.shp")


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_damaged_mask_leaves_nothing(tmp_path, content):
    path = tmp_path / "m.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RasterError, match=r"m\.png (does not exist|is empty|cannot be read)"):
        run(path, "-o", tmp_path / "c.gpkg")
    assert not list(tmp_path.glob("c.*"))
