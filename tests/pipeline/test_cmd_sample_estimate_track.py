"""``geocrack sample``, ``estimate``, ``sizes`` and ``track`` from the command line."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from click import UsageError
from click.testing import CliRunner
from shapely import affinity, box

from geo.errors import GridError, LabelError, OutputExistsError, RasterError
from pipeline.cli import geocrack

X, Y = 402_000.0, 3_456_000.0


def run(*args):
    result = CliRunner().invoke(geocrack, [str(a) for a in args], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def inventory(path, polygons, *, acquired="2013-08-12", crs="EPSG:32648", error=None):
    """Inventory of 200 x 200 pixels of 2 m, searched all over."""
    facts = {"id": [f"s{n}" for n in range(len(polygons))], "position_error_m": error}
    frame = gpd.GeoDataFrame(facts, geometry=list(polygons), crs=crs)
    metadata = {
        "GEOCRACK_GRID": json.dumps({"shape": [200, 200], "transform": [2, 0, X, 0, -2, Y]}),
        "GEOCRACK_SETTINGS": json.dumps({"min_area_m2": 100.0}),
    }
    pyogrio.write_dataframe(frame, path, layer="landslides", geometry_type="Polygon", dataset_metadata=metadata)
    ground = gpd.GeoDataFrame(
        {"acquired": pd.to_datetime([acquired], utc=True)}, geometry=[box(X, Y - 400, X + 400, Y)], crs=crs
    )
    pyogrio.write_dataframe(ground, path, layer="searched", append=True)
    return path


SCARS = [box(X + 40, Y - 120, X + 100, Y - 40), box(X + 240, Y - 300, X + 280, Y - 200)]


@pytest.fixture
def mapped(tmp_path):
    return inventory(tmp_path / "i.gpkg", SCARS)


def label(path, truth):
    """Answer every point, as a person in QGIS would."""
    points = gpd.read_file(path, layer="sample")
    landslide = points.within(shapely.union_all(truth))
    with sqlite3.connect(path) as base:
        for (name,) in base.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            base.execute(f'drop trigger "{name}"')
        for number, yes in zip(points["id"], landslide, strict=True):
            answer = "landslide" if yes else "not landslide"
            base.execute("update sample set reference = ? where id = ?", (answer, int(number)))


def test_from_sample_to_estimate(tmp_path, mapped):
    sample, out = tmp_path / "out" / "s.gpkg", tmp_path / "out" / "e.json"
    run("sample", mapped, "-n", 240, "--seed", 4, "-o", sample)
    record = json.loads((tmp_path / "out" / "s.gpkg.provenance.json").read_text())
    assert record["settings"] == {"number": 240, "near_m": 30.0, "by_size": False, "seed": 4}
    assert record["results"]["points"] == 240
    with pytest.raises(LabelError, match=r"s\.gpkg: 240 of 240 points are not labelled"):
        run("estimate", sample, "-o", out)
    assert not out.exists()
    truth = [SCARS[0].buffer(6), box(X + 300, Y - 120, X + 360, Y - 60)]  # one larger, one missed, one that is none
    label(sample, truth)
    said = run("estimate", sample, "-o", out, "--inventory", mapped).output
    assert "of 0.16 km2 searched; the map says 0.0088 km2" in said
    found = json.loads(out.read_text())
    assert found["drawn_anew"]
    assert found["searched_km2"] == pytest.approx(0.16)
    assert found["mapped_km2"] == pytest.approx(sum(s.area for s in SCARS) / 1e6)
    low, high = found["area_km2"]["interval"]
    assert low < sum(t.area for t in truth) / 1e6 < high
    assert found["users"]["landslide"]["estimate"] == pytest.approx(4800 / 8800, abs=0.2)
    assert set(json.loads((tmp_path / "out" / "e.json.provenance.json").read_text())["results"]) >= {
        "area_km2",
        "searched_km2",
    }
    with pytest.raises(OutputExistsError, match=r"e\.json is already there; give --overwrite"):
        run("estimate", sample, "-o", out)
    run("estimate", sample, "-o", out, "--overwrite")
    with pytest.raises(OutputExistsError, match=r"s\.gpkg is already there"):
        run("sample", mapped, "-o", sample)


def test_the_same_sample_again(tmp_path, mapped):
    for name in ("a", "b"):
        run("sample", mapped, "-n", 60, "-o", tmp_path / f"{name}.gpkg", "--by-size")
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()


def test_more_points_than_pixels_are_told(tmp_path, mapped):
    area = gpd.GeoDataFrame(geometry=[box(X + 30, Y - 50, X + 50, Y - 30)], crs="EPSG:32648")
    area.to_file(tmp_path / "a.gpkg")
    told = run("sample", mapped, "-n", 5000, "-o", tmp_path / "s.gpkg", "--area", tmp_path / "a.gpkg").output
    assert "5000 points were asked for, but the ground has 100 pixels: each of them is a point" in told
    assert len(gpd.read_file(tmp_path / "s.gpkg", layer="sample")) == 100
    told = run("sample", mapped, "-n", 50, "-o", tmp_path / "t.gpkg", "--area", tmp_path / "a.gpkg").output
    assert "census" not in told
    with pytest.raises(UsageError, match="less than or equal to 100000"):
        run("sample", mapped, "-n", 10**6, "-o", tmp_path / "u.gpkg")


def test_a_sample_of_another_origin(tmp_path, mapped):
    with pytest.raises(LabelError, match="holds no design of a random sample"):
        run("estimate", mapped, "-o", tmp_path / "e.json")
    with pytest.raises(UsageError, match="give --inventory too"):
        run("estimate", mapped, "-o", tmp_path / "e.json", "--area", mapped)
    with pytest.raises(OutputExistsError, match="would replace the input"):
        run("sample", mapped, "-o", mapped, "--overwrite")
    assert not list(tmp_path.glob("*.json"))


def test_track(tmp_path, mapped):
    later = inventory(tmp_path / "j.gpkg", [SCARS[0], box(X, Y - 380, X + 40, Y - 340)], acquired="2014-10-02")
    said = run("track", mapped, later, "-o", tmp_path / "t.gpkg").output
    assert "2014-10-02: 1 new, 1 unchanged, 1 gone; searched: 0.16 km2" in said
    tracks = pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="tracks")
    assert tracks["status"].tolist() == ["unchanged", "gone", "new"]
    assert tracks["not_before"].tolist()[2] == "2013-08-12"
    record = json.loads((tmp_path / "t.gpkg.provenance.json").read_text())
    assert [row["gone"] for row in record["results"]["dates"]] == [0, 1]
    assert len(record["inputs"]) == 2
    with pytest.raises(OutputExistsError, match="already there"):
        run("track", mapped, later, "-o", tmp_path / "t.gpkg")
    run("track", f"{mapped}:landslides", later, "-o", tmp_path / "t.gpkg", "--overwrite", "--tolerance-m", 2)


def test_track_takes_its_tolerance_from_the_inventories_and_warns_of_a_smaller_one(tmp_path):
    one = inventory(tmp_path / "i.gpkg", SCARS, error=15.0)
    aside = [affinity.translate(scar, 14) for scar in SCARS]
    other = inventory(tmp_path / "j.gpkg", aside, acquired="2014-10-02", error=15.0)
    said = run("track", one, other, "-o", tmp_path / "t.gpkg").output
    assert "linked within 42.4 m" in said
    assert "less than" not in said
    tracks = pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="tracks")
    assert tracks["status"].tolist() == ["unchanged"] * 2
    found = json.loads((tmp_path / "t.gpkg.provenance.json").read_text())["results"]
    assert found["tolerance_m"] == pytest.approx(2 * np.hypot(15, 15))
    assert [row["position_error_m"] for row in found["dates"]] == [15, 15]
    said = run("track", one, other, "-o", tmp_path / "u.gpkg", "--tolerance-m", 8).output
    assert "a tolerance of 8 m is less than the 21.2 m by which two of the inventories may lie apart" in said


def test_track_mistakes(tmp_path, mapped):
    with pytest.raises(UsageError, match="one inventory is no history"):
        run("track", mapped, "-o", tmp_path / "t.gpkg")
    with pytest.raises(UsageError, match="1 dates for 2 inventories"):
        run("track", mapped, mapped, "-o", tmp_path / "t.gpkg", "--date", "2013-08-12")
    with pytest.raises(LabelError, match="are both of 2013-08-12"):
        run("track", mapped, mapped, "-o", tmp_path / "t.gpkg")
    with pytest.raises(RasterError, match="does not exist"):
        run("track", mapped, tmp_path / "none.gpkg", "-o", tmp_path / "t.gpkg")
    with pytest.raises(UsageError, match="should be greater than 0"):
        run("track", mapped, mapped, "-o", tmp_path / "t.gpkg", "--overlap", 0)
    assert not list(tmp_path.glob("t.gpkg*"))


def test_sizes(tmp_path):
    random = np.random.default_rng(0)
    side = np.sqrt(1000 * (1 - random.random(200)) ** (-1 / 1.4))
    many = [box(400 * n, 0, 400 * n + s, s) for n, s in enumerate(side)]
    path = inventory(tmp_path / "i.gpkg", many)
    said = run("sizes", path, "-o", tmp_path / "s.json", "--replicates", 20).output
    assert "km2 in all, on 0.16 km2 searched" in said
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["landslides"], found["searched_km2"]) == (200, pytest.approx(0.16))
    assert found["least_m2"] == 100
    assert found["power_law"]["exponent"] == pytest.approx(2.4, abs=0.5)
    assert (tmp_path / "s.png").stat().st_size > 10_000
    with pytest.raises(OutputExistsError, match="already there"):
        run("sizes", path, "-o", tmp_path / "s.json")
    run("sizes", path, "-o", tmp_path / "s.json", "--replicates", 20, "--overwrite", "--least-m2", 1000)
    assert json.loads((tmp_path / "s.json").read_text())["least_m2"] == 1000


def test_a_failing_overwrite_brings_curve_and_picture_back(tmp_path, monkeypatch, mapped):
    run("sizes", mapped, "-o", tmp_path / "s.json", "--replicates", 20)
    outputs = [tmp_path / "s.json", tmp_path / "s.png"]
    before = [file.read_bytes() for file in outputs]
    monkeypatch.setattr("json.dumps", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("odd")))
    with pytest.raises(RuntimeError, match="odd"):  # after the new picture is in its place
        run("sizes", mapped, "-o", tmp_path / "s.json", "--overwrite", "--block-m", 100)
    assert [file.read_bytes() for file in outputs] == before
    monkeypatch.undo()
    run("sizes", inventory(tmp_path / "e.gpkg", []), "-o", tmp_path / "s.json", "--overwrite")
    assert not outputs[1].exists()  # the old picture shows other landslides


def test_sizes_of_a_layer(tmp_path, mapped):
    run("sizes", f"{mapped}:landslides", "-o", tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["landslides"] == 2
    record = json.loads((tmp_path / "s.json.provenance.json").read_text())
    assert [given["path"] for given in record["inputs"]] == [str(mapped)]


def test_an_empty_inventory(tmp_path):
    path = inventory(tmp_path / "i.gpkg", [])
    run("sizes", path, "-o", tmp_path / "s.json")
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["landslides"], found["searched_km2"]) == (0, pytest.approx(0.16))
    assert "too few" in found["notes"][0]
    assert not (tmp_path / "s.png").exists()
    run("sample", path, "-n", 20, "-o", tmp_path / "p.gpkg")
    run("track", path, inventory(tmp_path / "j.gpkg", SCARS, acquired="2014-10-02"), "-o", tmp_path / "t.gpkg")
    assert pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="tracks")["status"].tolist() == ["new", "new"]


def test_without_crs(tmp_path):
    frame = gpd.GeoDataFrame(geometry=SCARS)
    with pytest.warns(UserWarning, match="crs"):
        pyogrio.write_dataframe(frame, tmp_path / "n.gpkg", layer="landslides")
    with pytest.raises(GridError, match="has no CRS"):
        run("sizes", tmp_path / "n.gpkg", "-o", tmp_path / "s.json")
    with pytest.raises(GridError, match="has no CRS"):
        run("sample", tmp_path / "n.gpkg", "-o", tmp_path / "s.gpkg")


@pytest.mark.parametrize("command", ["sample", "estimate", "sizes", "track", "score"])
def test_help_is_instant(command):
    code = (
        "import sys; from click.testing import CliRunner; from pipeline.cli import geocrack\n"
        f"print(CliRunner().invoke(geocrack, ['{command}', '--help']).output)\n"
        "heavy = {'numpy', 'rasterio', 'geopandas', 'shapely', 'torch', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
