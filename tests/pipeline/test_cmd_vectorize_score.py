"""``geocrack vectorize`` and ``geocrack score`` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from shapely import box

from geo.errors import GridError, OutputExistsError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.raster import PROBABILITY
from pipeline import __version__
from pipeline.cli import geocrack

X, Y = 402_000.0, 3_456_000.0


def probability(path, *, left=X, top=Y, scar=True, **tags):
    values = np.full((60, 60), 0.1, np.float32)
    if scar:
        values[20:40, 30:60] = 0.9
        values[2:4, 2:4] = 0.9
    grid = GeoBox(values.shape, Affine(2, 0, left, 0, -2, top), "EPSG:32648")
    with GeoTiffWriter(path, grid, ["probability"], PROBABILITY, cog=False, tags=tags) as dst:
        dst.write(values, Window(0, 0, 60, 60))
    return str(path)


def run(*args):
    result = CliRunner().invoke(geocrack, [str(a) for a in args])
    if result.exception:
        raise result.exception
    return result


def test_from_probability_to_scores(tmp_path):
    p = probability(tmp_path / "p.tif", GEOCRACK_SCENE="S", GEOCRACK_THRESHOLD="0.5", GEOCRACK_MODEL="0123456789ab")
    run("vectorize", p, "-o", tmp_path / "out" / "i.gpkg")
    frame = pyogrio.read_dataframe(tmp_path / "out" / "i.gpkg", layer="landslides")
    assert frame["area_m2"].tolist() == [600 * 4.0]  # the small one is below the configuration's 200 m2
    assert frame["version"].tolist() == [__version__]
    record = json.loads((tmp_path / "out" / "i.gpkg.provenance.json").read_text())
    assert record["results"] == {
        "landslides": 1,
        "landslide_km2": 0.0024,
        "searched_km2": 0.0144,
        "searched_km2_by_scene": {"S": 0.0144},
        "not_searched_km2": {},
        "thresholds": {"S": 0.5},
    }
    told = {"threshold": None, "min_area_m2": 200.0, "connectivity": 4, "prefer": "newest"}
    assert {name: record["settings"][name] for name in told} == told

    gpd.GeoDataFrame(geometry=[box(X + 60, Y - 80, X + 120, Y - 50)], crs="EPSG:32648").to_file(tmp_path / "t.gpkg")
    args = ("score", tmp_path / "out" / "i.gpkg", "--truth", tmp_path / "t.gpkg", "-o", tmp_path / "metrics.json")
    run(*args, "--probability", p)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["pixels"]["tp"] == 15 * 30
    assert metrics["pixels"]["fp"] == 5 * 30
    assert metrics["objects"]["hits"] == 1
    assert metrics["probability"]["best"]["recall"] == 1
    assert (tmp_path / "metrics.json.provenance.json").exists()
    with pytest.raises(OutputExistsError, match=r"metrics\.json is already there; give --overwrite"):
        run(*args)
    run(*args, "--overwrite")
    assert "probability" not in json.loads((tmp_path / "metrics.json").read_text())


def test_two_scenes_make_one_inventory(tmp_path):
    first = probability(tmp_path / "a.tif", GEOCRACK_ACQUIRED="2014-01-01T00:00:00Z")
    second = probability(tmp_path / "b.tif", left=X + 100, scar=False, GEOCRACK_ACQUIRED="2015-01-01T00:00:00Z")
    run(
        "vectorize",
        first,
        second,
        "-o",
        tmp_path / "i.gpkg",
        "--threshold",
        "0.5",
        "--min-area-m2",
        "0",
        "--threads",
        "1",
    )
    assert len(pyogrio.read_dataframe(tmp_path / "i.gpkg", layer="landslides")) == 2
    record = json.loads((tmp_path / "i.gpkg.provenance.json").read_text())
    assert record["results"]["searched_km2"] == pytest.approx((60 + 50) * 60 * 4 / 1e6)


def test_an_output_that_is_there_is_kept(tmp_path):
    p = probability(tmp_path / "p.tif")
    (tmp_path / "i.gpkg").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"i\.gpkg is already there; give --overwrite"):
        run("vectorize", p, "-o", tmp_path / "i.gpkg")
    assert (tmp_path / "i.gpkg").read_text() == "mine"
    run("vectorize", p, "-o", tmp_path / "i.gpkg", "--threshold", "0.5", "--overwrite")
    assert len(pyogrio.read_dataframe(tmp_path / "i.gpkg", layer="landslides")) == 1


@pytest.mark.parametrize("damage", ["missing", "zero", "truncated"])
def test_a_damaged_probability_leaves_nothing(tmp_path, damage):
    p = tmp_path / "p.tif"
    if damage == "zero":
        p.touch()
    elif damage == "truncated":
        probability(p)
        p.write_bytes(p.read_bytes()[:-40])
    sentence = {"missing": "does not exist", "zero": "is empty", "truncated": "(is truncated|cannot be read)"}[damage]
    with pytest.raises(RasterError, match=rf"p\.tif {sentence}"):
        run("vectorize", p, "-o", tmp_path / "i.gpkg")
    assert [f.name for f in tmp_path.iterdir() if f != p] == []


def test_a_bad_overwrite_loses_nothing(tmp_path):
    p = probability(tmp_path / "p.tif")
    run("vectorize", p, "-o", tmp_path / "i.gpkg", "--threshold", "0.5")
    before = (tmp_path / "i.gpkg").read_bytes()
    (tmp_path / "p.tif").write_bytes(b"")
    with pytest.raises(RasterError, match="is empty"):
        run("vectorize", p, "-o", tmp_path / "i.gpkg", "--overwrite")
    assert (tmp_path / "i.gpkg").read_bytes() == before


def test_an_inventory_is_a_geopackage(tmp_path):
    result = CliRunner().invoke(geocrack, ["vectorize", "p.tif", "-o", str(tmp_path / "i.shp")])
    assert result.exit_code == 2
    assert "i.shp; expected the name of a GeoPackage, *.gpkg" in " ".join(result.output.split())


def test_truth_elsewhere_leaves_no_metrics(tmp_path):
    run("vectorize", probability(tmp_path / "p.tif"), "-o", tmp_path / "i.gpkg", "--threshold", "0.5")
    gpd.GeoDataFrame(geometry=[box(0, 0, 9, 9)], crs="EPSG:32648").to_file(tmp_path / "t.gpkg")
    with pytest.raises(GridError, match=r"t\.gpkg lies elsewhere: its extent is 0 0 9 9 .* both in EPSG:32648;"):
        run("score", tmp_path / "i.gpkg", "--truth", tmp_path / "t.gpkg", "-o", tmp_path / "m.json")
    assert not list(tmp_path.glob("*m.json*"))


def test_a_full_disk_ends_in_one_sentence(tmp_path):
    p = probability(tmp_path / "p.tif")
    (tmp_path / "out").mkdir()
    # files may grow to 50 kB, as on a disk that has no more
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
        f"sys.argv = ['geocrack', 'vectorize', {p!r}, '-o', {str(tmp_path / 'out' / 'i.gpkg')!r}]; "
        "from pipeline.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "i.gpkg could not be written whole" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("command", ["vectorize", "score"])
def test_help_is_instant(command):
    code = (
        f"import sys; sys.argv = ['geocrack', {command!r}, '--help']\n"
        "from pipeline.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'rasterio', 'geopandas', 'torch', 'cv2', 'shapely'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--overwrite" in done.stdout
