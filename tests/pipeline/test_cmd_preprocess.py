import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from geo.errors import (
    ClusterError,
    ConfigError,
    GridError,
    OutputExistsError,
    ProductError,
    RegistrationError,
)
from geo.ortho.dem import open_dem
from geo.raster import open_raster
from pipeline.cli import geocrack
from tests.geo.terrain import camera_rpcs, landscape, look, write_dem, write_image
from tests.handmade import ID, RPB, of_pan, write_product, write_raster


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Options of a pair that no sensor's table knows, and its DEM."""
    folder = tmp_path_factory.mktemp("product")
    dem = write_dem(folder / "dem.tif")
    scene = landscape(256, 5)
    for name, shape, gsd in (("pan", (292, 288), 2.0), ("mss", (73, 72), 8.0)):
        rpcs = camera_rpcs(shape, gsd)
        with open_dem(dem) as heights:
            x, y = look(rpcs, shape, lambda lon, lat: heights.heights(lon, lat).astype(float))
        col, row = (((np.nan_to_num(a)) / 4).astype(int) % 256 for a in (x - 356300, 3464700 - y))
        values = scene[:, row, col]
        values = values[:1] if name == "pan" else np.stack([values[0], 0.9 * values[0], 1.1 * values[0], values[1]])
        bands = ["pan"] if name == "pan" else ["blue", "green", "red", "nir"]
        write_image(folder / f"{name}.tif", values, rpcs=rpcs, bands=bands)
    pair = {"mss": str(folder / "mss.tif"), "pan": str(folder / "pan.tif")}
    return ["--generic", json.dumps(pair), "--dem", dem]


def call(*arguments):
    return CliRunner().invoke(geocrack, ["preprocess", *(str(a) for a in arguments)])


def test_a_product_becomes_a_fused_image(described, tmp_path):
    result = call(*described, "-o", tmp_path / "fused.tif", "--no-cog", "--compress", "none", "--threads", 1)
    assert result.exception is None, result.stderr
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        f"fused.{end}"
        for end in (
            "tif",
            "quality.tif",
            "coregistration.json",
            "coregistration.gpkg",
            "coregistration.png",
            "fusion.json",
        )
    } | {"fused.tif.provenance.json"}
    with open_raster(tmp_path / "fused.tif") as src:
        assert (src.res, src.descriptions, src.compression) == ((2, 2), ("blue", "green", "red", "nir"), None)
        assert (src.profile["tiled"], src.overviews(1)) == (True, [])
    record = json.loads((tmp_path / "fused.tif.provenance.json").read_text())
    assert record["step"] == "preprocess"
    assert record["results"]["coregistration"]["status"] == "measured"
    assert record["results"]["scene"]["reflectance"]["mss"] == {"level": "as given"}
    assert record["results"]["check"]["spectral"]
    assert record["settings"]["geoid"] == "auto"
    heights = record["results"]["heights"]
    assert (heights["geoid"], heights["source"]) == ("none", "assumed")
    assert len(record["inputs"]) == 3


def test_the_steps_are_kept_where_asked(described, tmp_path):
    kept = tmp_path / "kept"
    result = call(*described, "-o", tmp_path / "fused.tif", "--keep", kept, "--no-coregister", "-q", "--geoid", "egm96")
    assert result.exception is None, result.stderr
    assert (kept / "ortho" / "pan.tif").exists()
    assert json.loads((kept / "scene.json").read_text())["reflectance"]["pan"] == {"level": "as given"}
    for name in ("fused.tif", "fused.quality.tif", "kept/pan.tif", "kept/ortho/mss.tif"):
        with open_raster(tmp_path / name) as src:
            assert src.tags()["GEOCRACK_LEVEL"] == "as given"
    assert json.loads((tmp_path / "fused.tif.provenance.json").read_text())["results"]["heights"]["geoid"] == "egm96"
    report = json.loads((tmp_path / "fused.coregistration.json").read_text())
    assert report["status"] == "not asked"


def test_mistakes_are_told_and_leave_nothing(described, tmp_path):
    out = tmp_path / "out" / "fused.tif"
    assert isinstance(call(tmp_path / "none", "-o", out).exception, ProductError)
    error = call(*described, "-o", out, "--scheduler", "tcp://127.0.0.1:1").exception
    assert isinstance(error, ClusterError)
    error = call("--generic", described[1], "-o", out).exception
    assert "give a DEM with --dem" in str(error)
    assert call("-o", out).exit_code == 2
    assert not out.parent.exists() or not list(out.parent.iterdir())
    (tmp_path / "fused.fusion.json").write_text("{}")
    error = call(*described, "-o", tmp_path / "fused.tif").exception
    assert isinstance(error, OutputExistsError)


def test_pan_coarser_than_mss_is_one_error_before_any_work(described, tmp_path):
    sizes = ("--pan-resolution-m", 8, "--mss-resolution-m", 2)
    result = call(*described, "-o", tmp_path / "out" / "fused.tif", *sizes)
    assert isinstance(result.exception, GridError)
    assert "is laid out with pixels of 8 m and MSS with 2 m; expected finer ones of PAN" in str(result.exception)
    assert result.stderr == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["folder", "xml"])
@pytest.mark.parametrize("name", ["PAN1.tiff", "MSS1.tiff"])
def test_a_file_of_the_product_is_never_replaced(tmp_path, given, name):
    folder = write_product(tmp_path / ID)
    file = folder / f"{ID}-{name}"
    before = file.read_bytes()
    error = call(folder if given == "folder" else folder / f"{ID}-MSS1.xml", "-o", file, "--overwrite").exception
    assert isinstance(error, OutputExistsError)
    assert str(error) == f"{file} would replace the input {file}; choose another name for the output"
    assert file.read_bytes() == before


def test_what_is_written_beside_the_output_replaces_no_input(described, tmp_path):
    pair = json.loads(described[1])
    (tmp_path / "fused.quality.tif").symlink_to(pair["pan"])
    pair["pan"] = str(tmp_path / "fused.quality.tif")
    (tmp_path / "pair.yaml").write_text(json.dumps(pair))
    for options in (["--generic", json.dumps(pair)], ["--generic", tmp_path / "pair.yaml"]):
        error = call(*options, *described[2:], "-o", tmp_path / "fused.tif", "--overwrite").exception
        assert str(error).startswith(f"{tmp_path / 'fused.quality.tif'} would replace the input ")
    (tmp_path / "pair.tif").write_text(json.dumps(pair))
    options[1] = tmp_path / "pair.tif"
    error = call(*options, *described[2:], "-o", tmp_path / "pair.tif", "--overwrite").exception
    assert str(error).startswith(f"{tmp_path / 'pair.tif'} would replace the input ")


@pytest.mark.parametrize("name", ["k.tif/ortho/pan.tif", "k.tif/mss.tif", "k.tif/ortho/mss.quality.tif", "k.tif"])
def test_an_output_is_no_file_that_is_kept(tmp_path, name):
    folder = write_product(tmp_path / ID)
    for options in ([], ["--overwrite"]):
        error = call(folder, "-o", tmp_path / name, "--keep", tmp_path / "k.tif", *options).exception
        assert isinstance(error, ConfigError)
        assert str(error).startswith(f"{tmp_path / name} stands where --keep writes {tmp_path / 'k.tif'}")
    assert not (tmp_path / "k.tif").exists()


def test_the_quality_of_the_output_is_no_file_that_is_kept(tmp_path):
    # of pan.tiff the quality is pan.quality.tif too
    error = call(write_product(tmp_path / ID), "-o", tmp_path / "k" / "pan.tiff", "--keep", tmp_path / "k").exception
    assert f"stands where --keep writes {tmp_path / 'k' / 'pan.quality.tif'}" in str(error)


def test_kept_files_that_are_there_are_told_before_the_work(tmp_path):
    folder = write_product(tmp_path / ID)
    file = write_raster(tmp_path / "mss.tif", np.ones((1, 4, 4), "uint8"))
    (tmp_path / "k" / "ortho").mkdir(parents=True)
    file.rename(tmp_path / "k" / "ortho" / "mss.tif")
    error = call(folder, "-o", tmp_path / "fused.tif", "--keep", tmp_path / "k").exception
    assert isinstance(error, OutputExistsError)
    assert "ortho/mss.tif is already there" in str(error)
    assert not (tmp_path / "k" / "mss.tif").exists()


def test_what_the_numbers_say_is_told_before_what_may_fail_because_of_it(tmp_path):
    for name, bands, size in (("mss", 4, 20), ("pan", 1, 80)):
        write_raster(tmp_path / f"{name}.tif", np.full((bands, size, size), 300, "uint16"))
        (tmp_path / f"{name}.rpb").write_text(RPB if name == "mss" else of_pan(RPB))
    pair = {"mss": str(tmp_path / "mss.tif"), "pan": str(tmp_path / "pan.tif"), "scale": 1}
    result = call("--generic", json.dumps(pair), "-o", tmp_path / "fused.tif")
    assert isinstance(result.exception, GridError)  # there is no DEM
    assert "mss: pan is taken as reflectance, DN * 1, but half of pan is above 300" in result.stderr
    assert "mss: mss is taken as reflectance, DN * 1, but half of blue, green, red, nir is above 300" in result.stderr


def test_numbers_beyond_the_bits_are_told_before_the_registration_fails_of_them(described, tmp_path):
    pair = json.loads(described[1]) | {"bit_depth": 8}
    result = call("--generic", json.dumps(pair), *described[2:], "-o", tmp_path / "fused.tif")
    assert isinstance(result.exception, RegistrationError)
    assert re.search(r"mss: pan: digital numbers reach \d+, more than 8 bits hold; is the product resc", result.stderr)
    assert re.search(r" (100|9\d) % of .*pan\.tif is flagged as saturated and left out", str(result.exception))


def test_ground_control_corrects_pan_and_is_told(described, tmp_path):
    result = call(*described, "-o", tmp_path / "first.tif", "--keep", tmp_path / "kept", "-q")
    assert result.exception is None, result.stderr
    known = ("--reference", tmp_path / "kept" / "ortho" / "pan.tif")
    result = call(*described, "-o", tmp_path / "fused.tif", *known)
    assert result.exception is None, result.stderr
    assert "ground control points" in result.stderr
    told = json.loads((tmp_path / "fused.gcps.json").read_text())
    record = json.loads((tmp_path / "fused.tif.provenance.json").read_text())
    assert record["results"]["gcps"] == told
    assert told["rmse_before_px"] < 0.2  # it lay right
    assert str(known[1]) in [entry["path"] for entry in record["inputs"]]
    plain = ("--no-coregister", "--no-check", "--method", "brovey", "--overwrite")
    assert call(*described, "-o", tmp_path / "fused.tif", *plain).exception is None
    left = {f"fused.{end}" for end in ("tif", "quality.tif", "coregistration.json", "tif.provenance.json")}
    assert {file.name for file in tmp_path.glob("fused.*")} == left  # nothing of the image that was replaced
    error = call(*described, "-o", tmp_path / "no.tif", *known, "--no-coregister").exception
    assert isinstance(error, ConfigError)
    assert "MSS is registered" in str(error)
