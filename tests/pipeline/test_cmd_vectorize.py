"""``geocrack vectorize`` with what may be given beside the probability."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import masks
from geo.encoding import Encoding
from geo.errors import ConfigError, GeocrackError, GridError, OutputExistsError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.inventory.outputs.formats import SUFFIXES
from geo.raster import PROBABILITY, REFLECTANCE
from pipeline.cli import geocrack
from pipeline.commands.vectorize import FORMATS

X, Y = 402_000.0, 3_456_000.0
SHAPE = (80, 100)
GRID = GeoBox(SHAPE, Affine(2, 0, X, 0, -2, Y), "EPSG:32648")
TAGS = {
    "GEOCRACK_SCENE": "S",
    "GEOCRACK_THRESHOLD": "0.7",
    "GEOCRACK_ACQUIRED": "2015-08-05T03:47:44+00:00",
    "GEOCRACK_SENSOR": "GF1 PMS1",
}


def write(path, values, bands, encoding, tags=TAGS):
    with GeoTiffWriter(path, GRID, bands, encoding, tags=tags) as dst:
        dst.write(np.asarray(values, np.float32), Window(0, 0, *SHAPE[::-1]))
    return path


@pytest.fixture
def scene(tmp_path):
    probability = np.full(SHAPE, 0.1)
    probability[20:50, 20:60] = 0.5
    probability[25:45, 25:55] = 0.9
    probability[60:75, 10:30] = np.nan
    quality = np.zeros(SHAPE)
    quality[60:75, 10:30] = int(masks.Quality.CLOUD)
    write(tmp_path / "p.tif", probability, ["probability"], PROBABILITY)
    write(tmp_path / "fused.tif", np.full((4, *SHAPE), 0.2), ["blue", "green", "red", "nir"], REFLECTANCE)
    write(masks.quality_path(tmp_path / "fused.tif"), quality, ["quality"], masks.QUALITY)
    rows, _ = np.indices((40, 40))
    with rasterio.open(
        tmp_path / "dem.tif", "w", driver="GTiff", height=40, width=40, count=1, dtype="float32", crs="EPSG:32648",
        transform=Affine(10, 0, X - 100, 0, -10, Y + 100),
    ) as dst:  # fmt: skip
        dst.write((900 - 5 * rows).astype(np.float32), 1)
    return tmp_path


def run(*args):
    result = CliRunner().invoke(geocrack, [str(a) for a in args])
    if result.exception:
        raise result.exception
    return result


def test_everything_at_once(scene, caplog):
    out = scene / "out"
    run(
        "vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--image", scene / "fused.tif", "--dem", scene / "dem.tif",
        "--split", "--grow-threshold", 0.4, "--simplify-m", 3, "--smooth", 1, "--position-error-m", 4,
        "--also", "geoparquet,flatgeobuf,geojson,shapefile", "--project", "--stac",
    )  # fmt: skip
    suffixes = [".gpkg", ".gpkg.provenance.json", ".qgz", ".review", ".stac", *SUFFIXES.values()]
    assert {f.name for f in out.iterdir()} == {f"i{suffix}" for suffix in suffixes}
    (it,) = pyogrio.read_dataframe(out / "i.gpkg", layer="landslides").itertuples()
    assert it.area_m2 == 30 * 40 * 4  # grown down to 0.4
    assert it.geometry.area == pytest.approx(it.area_m2, rel=1e-6)
    assert it.slope_mean_deg == pytest.approx(np.degrees(np.arctan(0.5)), abs=0.01)
    assert it.position_error_m == 4
    assert it.plausibility == "plausible"
    record = json.loads((out / "i.gpkg.provenance.json").read_text())
    assert record["results"]["not_searched_km2"] == {"cloud": 300 * 4 / 1e6}
    assert record["results"]["searched_km2"] == pytest.approx((8000 - 300) * 4 / 1e6)
    assert record["results"]["plausibility"] == {"plausible": 1}
    assert record["results"]["outline"]["largest_area_error"] < 1e-6
    assert [i["path"].rsplit("/")[-1] for i in record["inputs"]] == ["p.tif", "fused.tif", "dem.tif"]
    assert record["settings"]["split"] is True
    items = json.loads((out / "i.stac" / "i.json").read_text())
    assert set(items["assets"]) == {"inventory", "parquet", "fgb", "geojson", "zip", "project"}


def test_the_summary_says_what_was_not_searched(scene):
    done = CliRunner().invoke(geocrack, ["vectorize", str(scene / "p.tif"), "-o", str(scene / "i.gpkg")])
    assert done.exit_code == 0
    assert "1 landslides, 0.0024 km2 of 0.0308 km2 searched; not searched: 0.0012 km2 nodata" in done.output
    done = CliRunner().invoke(
        geocrack,
        [
            "vectorize",
            str(scene / "p.tif"),
            "-o",
            str(scene / "i.gpkg"),
            "--image",
            str(scene / "fused.tif"),
            "--overwrite",
        ],
    )
    assert "not searched: 0.0012 km2 cloud" in done.output


def test_zeros_of_the_dem_are_what_the_user_says(scene):
    """As the message about them asks for."""
    with rasterio.open(scene / "dem.tif", "r+") as dst:
        dst.write(np.where(np.arange(40)[:, None] < 17, 0, dst.read(1)), 1)
    found = {}
    for zero in ("auto", "height"):
        args = ["vectorize", scene / "p.tif", "-o", scene / f"{zero}.gpkg", "--dem", scene / "dem.tif"]
        told = run(*args, *([] if zero == "auto" else ["--dem-zero", zero])).output
        assert ("give --dem-zero height if it is a height" in told) == (zero == "auto")
        (found[zero],) = pyogrio.read_dataframe(scene / f"{zero}.gpkg", layer="landslides").itertuples()
    assert np.isnan(found["auto"].toe_m)
    assert found["height"].toe_m == 0
    record = json.loads((scene / "height.gpkg.provenance.json").read_text())
    assert record["settings"]["dem_zero"] == "height"


def test_formats_are_those_there_are(scene):
    assert set(FORMATS) == set(SUFFIXES)
    result = CliRunner().invoke(geocrack, ["vectorize", "p.tif", "-o", "i.gpkg", "--also", "geopaquet"])
    assert result.exit_code == 2
    assert "unknown format 'geopaquet'; did you mean 'geoparquet'?" in " ".join(result.output.split())


@pytest.mark.parametrize(("flags", "there"), [(["--also", "geojson"], "i.geojson"), (["--project"], "i.qgz")])
def test_what_is_there_is_kept(scene, flags, there):
    (scene / there).write_text("mine")
    with pytest.raises(OutputExistsError, match=there):
        run("vectorize", scene / "p.tif", "-o", scene / "i.gpkg", *flags)
    assert (scene / there).read_text() == "mine"
    assert not (scene / "i.gpkg").exists()


def test_nothing_is_left_where_the_last_part_fails(scene):
    bare = write(scene / "bare.tif", np.full(SHAPE, 0.9), ["probability"], PROBABILITY, {"GEOCRACK_THRESHOLD": "0.5"})
    with pytest.raises(RasterError, match="STAC demands a time"):
        run("vectorize", bare, "-o", scene / "out" / "i.gpkg", "--also", "geojson", "--project", "--stac")
    assert not (scene / "out").exists()


ALL = ("--also", "geojson,flatgeobuf", "--project", "--stac")


def files_in(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize(
    "last",
    [
        "geo.inventory.outputs.formats.write_also",
        "geo.inventory.outputs.project.write_project",
        "geo.inventory.outputs.stac.write_catalog",
        "geo.inventory.thumbnails.write",
        "pipeline.provenance._versions",
    ],
)
def test_a_failing_overwrite_brings_the_old_inventory_back(scene, monkeypatch, last):
    out = scene / "out"
    run("vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--image", scene / "fused.tif", *ALL)
    before = files_in(out)

    def fail(*_, **__):
        raise RuntimeError("odd")

    monkeypatch.setattr(last, fail)
    with pytest.raises(RuntimeError, match="odd"):
        run(
            "vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--image", scene / "fused.tif", *ALL, "--overwrite",
            "--threshold", "0.4",
        )  # fmt: skip
    assert files_in(out) == before


def test_a_missing_time_is_told_before_the_work(scene, monkeypatch):
    bare = write(scene / "bare.tif", np.full(SHAPE, 0.9), ["probability"], PROBABILITY, {"GEOCRACK_THRESHOLD": "0.5"})
    run("vectorize", scene / "p.tif", "-o", scene / "i.gpkg")
    before = files_in(scene)
    monkeypatch.setattr("geo.inventory.make_inventory", lambda *_, **__: pytest.fail("the work began"))
    with pytest.raises(RasterError, match=r"bare does not tell when it was acquired .* STAC demands a time"):
        run("vectorize", bare, "-o", scene / "i.gpkg", "--stac", "--overwrite")
    assert files_in(scene) == before


@pytest.mark.parametrize(
    ("flags", "error", "sentence"),
    [
        (["--split"], ConfigError, "no DEM is given; give --dem too"),
        (["--grow-threshold", "0.8"], ConfigError, r"grow down to a probability of 0\.8, but the threshold is 0\.7"),
        (["--dem", "none.tif"], RasterError, r"none\.tif does not exist"),
        (["--image", "p.tif"], GeocrackError, ""),
        (["--spread", "far.tif"], GridError, r"far\.tif lies elsewhere than the probability"),
        (["--spread", "fused.tif"], RasterError, r"fused\.tif has 4 bands; expected one band of standard deviations"),
        (["--dem", "fused.tif"], RasterError, r"fused\.tif has 4 bands; expected one band of heights"),
    ],
)
def test_one_sentence_for_each_mistake(scene, monkeypatch, flags, error, sentence):
    monkeypatch.chdir(scene)
    far = GeoBox(SHAPE, Affine(2, 0, X + 1e5, 0, -2, Y), "EPSG:32648")
    with GeoTiffWriter("far.tif", far, ["spread"], PROBABILITY, tags=TAGS) as dst:
        dst.write(np.zeros(SHAPE, np.float32), Window(0, 0, *SHAPE[::-1]))
    if flags == ["--image", "p.tif"]:  # any raster with bands by name serves: no colours, no attributes
        run("vectorize", "p.tif", "-o", "i.gpkg", *flags)
        return
    with pytest.raises(error, match=sentence):
        run("vectorize", "p.tif", "-o", "i.gpkg", *flags)
    assert not (scene / "i.gpkg").exists()
    assert not list(scene.glob(".part-*"))


@pytest.mark.parametrize("wrong", [255, -0.1, 1.01])
@pytest.mark.parametrize("others", [[], ["p.tif"]])
def test_what_is_no_probability_is_refused(scene, monkeypatch, wrong, others):
    monkeypatch.chdir(scene)
    values = np.full(SHAPE, np.nan)
    values[60:75, 10:30] = wrong  # where the other is nodata
    write("w.tif", values, ["probability"], Encoding("float32", nodata=np.nan))
    with pytest.raises(RasterError, match=rf"w\.tif holds the value {wrong:g}; expected probabilities of 0 to 1: give"):
        run("vectorize", *others, "w.tif", "-o", "i.gpkg")
    assert not (scene / "i.gpkg").exists()


def test_a_judged_inventory_is_kept_before_it_is_replaced(scene):
    """Nobody's week of work goes by --overwrite alone."""
    run("vectorize", scene / "p.tif", "-o", scene / "i.gpkg")
    run("vectorize", scene / "p.tif", "-o", scene / "i.gpkg", "--overwrite")
    assert [f.name for f in scene.glob("i*.gpkg")] == ["i.gpkg"]  # nobody judged
    frame = pyogrio.read_dataframe(scene / "i.gpkg", layer="review").assign(status="rejected")
    pyogrio.write_dataframe(frame, scene / "i.gpkg", layer="review")
    told = run("vectorize", scene / "p.tif", "-o", scene / "i.gpkg", "--overwrite").output
    (kept,) = scene.glob("i-*.gpkg")
    assert pyogrio.read_dataframe(kept, layer="review")["status"].tolist() == ["rejected"]
    assert pyogrio.read_dataframe(scene / "i.gpkg", layer="review")["status"].tolist() == ["candidate"]
    assert f"a copy is kept as {kept}" in told


BESIDE = {"i.gpkg", "i.gpkg.provenance.json"}
EVERYTHING = ("--also", "geoparquet,geojson,shapefile", "--project", "--stac")


def test_files_of_the_replaced_inventory_go_with_it(scene):
    """An i.parquet of the old landslides beside the new i.gpkg would be taken for the same inventory."""
    out = scene / "out"
    run("vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--image", scene / "fused.tif", *EVERYTHING)
    told = json.loads((out / "i.gpkg.provenance.json").read_text())["results"]["beside"]
    assert set(told) == {f.name for f in out.iterdir()} - BESIDE
    run("vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--overwrite", "--threshold", "0.4", "--also", "geojson")
    assert {f.name for f in out.iterdir()} == BESIDE | {"i.geojson"}
    assert pyogrio.read_dataframe(out / "i.geojson")["area_m2"].tolist() == [30 * 40 * 4]


def test_files_that_somebody_changed_or_brought_stay_and_are_named(scene):
    out = scene / "out"
    run("vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--image", scene / "fused.tif", *EVERYTHING)
    (out / "i.qgz").write_bytes(b"my layout")
    (out / "i.stac" / "notes.txt").write_text("mine")
    (out / "i.fgb").write_bytes(b"from elsewhere")
    (out / "i.txt").write_text("mine")
    said = run("vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--overwrite").output
    assert {f.name for f in out.iterdir()} == BESIDE | {"i.qgz", "i.stac", "i.fgb", "i.txt"}
    assert (out / "i.qgz").read_bytes() == b"my layout"
    assert "i.fgb, i.qgz, i.stac lie beside" in said


@pytest.mark.parametrize("record", [None, "", "[]", '{"results": {}}', '{"results": {"beside": ["i.geojson"]}}'])
def test_without_a_record_nothing_beside_is_removed(scene, record):
    run("vectorize", scene / "p.tif", "-o", scene / "i.gpkg", "--also", "geojson")
    place = scene / "i.gpkg.provenance.json"
    place.unlink() if record is None else place.write_text(record)
    assert "i.geojson lie" in run("vectorize", scene / "p.tif", "-o", scene / "i.gpkg", "--overwrite").output
    assert (scene / "i.geojson").exists()


def test_a_failing_overwrite_keeps_the_files_it_would_remove(scene, monkeypatch):
    out = scene / "out"
    run("vectorize", scene / "p.tif", "-o", out / "i.gpkg", *EVERYTHING)
    before = files_in(out)
    remove = shutil.rmtree

    def fail(path, *args, **more):
        if path == out / "i.stac":
            raise OSError("odd")
        remove(path, *args, **more)

    monkeypatch.setattr("shutil.rmtree", fail)
    with pytest.raises(OSError, match="odd"):  # at the catalogue, after the files are gone
        run("vectorize", scene / "p.tif", "-o", out / "i.gpkg", "--overwrite")
    assert files_in(out) == before
