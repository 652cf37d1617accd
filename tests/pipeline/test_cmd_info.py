import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
import yaml
from affine import Affine
from click.testing import CliRunner

from geo.errors import ProductError, RasterError
from geo.raster import PROBABILITY
from geo.sensors import rpb
from pipeline.cli import geocrack
from tests.handmade import ID, RPB, XML, write_product, write_raster
from tests.handmade_bundle import write_bundle

UTM = {"crs": "EPSG:32648", "transform": Affine(8, 0, 357000, 0, -8, 3464000)}


def call(*arguments):
    return CliRunner().invoke(geocrack, ["info", *(str(a) for a in arguments)])


def said(*arguments):
    """What is printed, with one blank between words."""
    result = call(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return " ".join(result.stdout.split())


def as_json(*arguments):
    return json.loads(call(*arguments, "--json").stdout)


@pytest.fixture
def product(tmp_path):
    return write_product(tmp_path / "products" / ID)


def test_a_product(tmp_path):
    folder = write_product(tmp_path / ID, xml=XML.replace("2015-08-05", "2020-08-05"))
    (folder / f"{ID}-PAN1.tiff").write_bytes(b"")
    text = said(folder)
    for part in (
        f"{ID} sensor GF1 PMS1, 10 bits",
        "acquired 2020-08-05 03:50:02 UTC (read as UTC+8: SolarAzimuth fits the sun within",
        "centre 31.3000 N, 103.5000 E",
        "level LEVEL1A",
        "view zenith 3.73, azimuth 90.34 degrees",
        "sun zenith 23.40, azimuth 122.65 degrees (product: zenith 23.40 taken as zenith, azimuth 122.65; ",
        "mss blue 450-520 0.149 0 1945.29 green 520-590 0.1328 0 1854.1",
        "pan pan 450-900 0.1381 0 1371.79",
        f"pan {ID}-PAN1.tiff 28 x 19 pixels of 2 m geometry RPC calibration table 2019 (nearest earlier); verified: ",
        f"! {ID}-PAN1.tiff is empty (0 bytes); expected a raster: copy or download it again",
        "! GF1_PMS1 has no coefficients of 2020 for PAN1; those of 2019 are used",
    ):
        assert part in text
    assert "cloud" not in text  # 101 percent stands for: not looked at
    assert not [line for line in call(folder).stdout.splitlines() if line != line.rstrip() or len(line) > 120]


def test_a_product_as_json(product):
    content = as_json(product)
    assert content["type"] == "product"
    assert content["images"]["pan"]["rpc"]["lat_off"] == 31.3
    assert content["images"]["mss"]["shape"] == [5, 7]
    assert content["images"]["mss"]["wavelengths_um"][3] == [0.77, 0.89]
    assert content["images"]["mss"]["calibration_source"] == "table 2015"
    assert content["bit_depth"] == 10
    sun = content["sun"]
    assert (sun["zone"], sun["reading"]) == ("UTC+8", "zenith")
    assert sun["given"] == {"zenith": 23.4, "elevation": None, "azimuth": 122.65}
    assert sun["computed"]["zenith"] == pytest.approx(23.43, abs=0.02)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_says_the_same(product, tmp_path, kind):
    archive = tmp_path / f"{ID}.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in product.iterdir():
                packed.write(file, f"{ID}/{file.name}")
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(product, ID)
    assert as_json(archive) == as_json(product)


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "zip"])
def test_a_truncated_image_of_a_product_is_named(tmp_path, kind):
    folder = write_product(tmp_path / ID, pan=np.ones((1, 190, 280), "uint16"))
    image = folder / f"{ID}-PAN1.tiff"
    os.truncate(image, image.stat().st_size - 5000)
    given = folder
    if kind != "folder":
        form = {"tar.gz": "gztar", "zip": "zip"}[kind]
        given = shutil.make_archive(str(tmp_path / "packed"), form, tmp_path, ID)
    (told,) = [warning for warning in as_json(given)["warnings"] if "truncated" in warning]
    assert told.startswith(f"{ID}-PAN1.tiff is truncated or damaged (")
    assert told.endswith("); copy or download it again")
    assert f"! {ID}-PAN1.tiff is truncated or damaged" in said(given)


def test_truncated_images_of_a_bundle_and_a_generic_pair_are_named(tmp_path):
    folder = write_bundle(tmp_path / "p")
    for image in folder.rglob("*_PAN_*.tif"):
        os.truncate(image, image.stat().st_size - 100)
        assert f"! {image.name} is truncated or damaged" in said(folder)
    image = write_raster(tmp_path / "a.tif", np.ones((4, 60, 70), "uint16"), **UTM)
    os.truncate(image, image.stat().st_size - 100)
    assert "! a.tif is truncated or damaged" in said("--generic", f"{{mss: {image}}}")


def test_a_truncated_image_that_is_too_large_to_be_read_is_told(tmp_path, monkeypatch):
    image = write_raster(tmp_path / "a.tif", np.ones((1, 60, 70), "uint16"), **UTM)
    monkeypatch.setattr("geo.sensors.raster._QUICK", 100)
    assert "truncated" not in said(image)
    os.truncate(image, image.stat().st_size - 100)
    assert "! a.tif is truncated or damaged" in said(image)


def test_an_xml_chooses_among_products(product):
    other = ID.replace("0805", "0806")
    write_product(product, id=other)
    with pytest.raises(ProductError, match=r"holds 2 products .* or one of its \.xml"):
        raise call(product).exception
    assert as_json(product / f"{other}-PAN1.xml")["id"] == other


def test_gains_of_the_user(tmp_path):
    folder = write_bundle(tmp_path / "p", product=None)
    assert "none: digital numbers, not reflectance (stored as DN * 0.0001)" in said(folder)
    text = said(folder, "--gain", "0.1,0.2,0.3,0.4,0.5", "--bias", "0 0 0 0 -1")
    assert "pan pan 450-650 0.5 -1 1834.03" in text
    assert "calibration given; by the user" in text
    assert "not reflectance" not in text
    assert "values digital numbers: no reflectance" in said(folder)
    assert as_json(folder)["images"]["pan"]["level"] == "digital numbers"
    assert "values" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bias", "1,2"], "--bias needs --gain"),
        (["--gain", "a,b"], "'a,b' is no list of numbers such as"),
    ],
)
def test_gains_that_are_none(product, options, message):
    result = call(product, *options)
    assert result.exit_code == 2
    assert message in result.output


def test_gains_reach_reflectance(tmp_path):
    folder = write_bundle(tmp_path / "p")
    gains = ["--gain", "0.1,0.2,0.3,0.4,0.5"]
    result = CliRunner().invoke(geocrack, ["reflectance", str(folder), "-o", str(tmp_path / "out"), *gains])
    assert result.exit_code == 0, result.output
    scene = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert scene["images"]["mss"]["gain"] == [0.1, 0.2, 0.3, 0.4]
    record = json.loads((tmp_path / "out" / "scene.json.provenance.json").read_text())
    assert record["settings"]["gain"] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_generic_image(tmp_path):
    write_raster(tmp_path / "image.tif", np.full((3, 10, 12), 120, "uint8"), **UTM)
    file = tmp_path / "generic.yaml"
    file.write_text(yaml.safe_dump({"mss": str(tmp_path / "image.tif"), "bands": ["red", "green", "blue"]}))
    text = said("--generic", file)
    assert "acquired not known" in text
    assert "calibration none: taken as reflectance, DN * 0.0001" in text


# rasters --------------------------------------------------------------------------------------------------------------


def test_a_single_image_with_rpc(tmp_path):
    write_raster(tmp_path / "a.tif", np.arange(70, dtype="uint16").reshape(2, 5, 7), rpcs=rpb.parse(RPB))
    text = said(tmp_path / "a.tif")
    assert "kind image in sensor geometry pixels 7 x 5" in text
    assert "RPC in the file" in text
    assert "centre 31.3000 N, 103.5000 E" in text
    assert "2 uint16 - 1 0 35 52 69" in text
    (tmp_path / "a_RPC.TXT").write_text("LINE_OFF: x")
    assert "! a_RPC.TXT lacks a usable LINE_OFF" in said(tmp_path / "a.tif")


def test_an_image_without_place(tmp_path):
    write_raster(tmp_path / "a.tif", np.ones((1, 5, 7), "uint8"))
    assert "there is neither RPC nor a CRS with a geotransform: it has no place on the ground" in said(
        tmp_path / "a.tif"
    )


def test_a_result_of_the_chain_with_its_quality(tmp_path):
    stored = np.full((1, 64, 64), 250, "uint8")
    stored[0, :16] = 255
    write_raster(tmp_path / "map.tif", stored, nodata=255, **UTM)
    flags = np.zeros((1, 64, 64), "uint8")
    flags[0, :16] = 1
    flags[0, 32:, :32] = 2 | 16
    write_raster(tmp_path / "map.quality.tif", flags, **UTM)
    import rasterio

    with rasterio.open(tmp_path / "map.tif", "r+") as dst:
        dst.scales = (PROBABILITY.scale,)
        dst.update_tags(GEOCRACK_SCENE="A scene", GEOCRACK_VIEW_ZENITH="3.7", OTHER="x")
    content = as_json(tmp_path / "map.tif")
    assert content["type"] == "raster"
    assert (content["kind"], content["crs"], content["resolution"]) == ("orthophoto", "EPSG:32648", [8, 8])
    assert content["bands"][0]["mean"] == 1
    assert content["tags"] == {"scene": "A scene", "view_zenith": "3.7"}
    assert content["quality"] == "map.quality.tif"
    expected = {"good": 0.5, "nodata": 0.25, "saturated": 0.25, "cloud": 0, "shadow": 0, "negative": 0.25}
    assert content["flags"] == expected
    assert as_json(tmp_path / "map.quality.tif")["flags"] == expected
    text = said(tmp_path / "map.quality.tif")
    assert "kind quality: bit flags" in text
    assert "good 50.00 % nodata 25.00 % saturated 25.00 %" in text
    assert "view zenith 3.7" in said(tmp_path / "map.tif")


def test_a_cloud_optimized_geotiff_is_called_one(tmp_path):
    write_raster(tmp_path / "a.tif", np.ones((1, 600, 600), "uint8"), **UTM)
    import rasterio.shutil

    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "cog.tif", driver="COG", compress="DEFLATE")
    assert "Cloud Optimized GeoTIFF, DEFLATE, blocks of 512 x 512, overviews 2" in said(tmp_path / "cog.tif")


def test_odd_rasters(tmp_path):
    write_raster(tmp_path / "c.tif", np.ones((1, 5, 7), "complex64"), **UTM)
    write_raster(tmp_path / "n.tif", np.full((1, 5, 7), np.nan, "float32"), nodata=np.nan, **UTM)
    for name in ("c", "n"):
        (band,) = as_json(tmp_path / f"{name}.tif")["bands"]
        assert band["mean"] is None
    half = tmp_path / "half.tif"
    noise = np.random.default_rng(0).integers(0, 255, (1, 400, 400), dtype="uint8")
    whole = write_raster(tmp_path / "whole.tif", noise, tiled=True, blockxsize=64, blockysize=64, **UTM)
    half.write_bytes(whole.read_bytes()[:60_000])
    result = call(half)
    assert result.exit_code == 0 or isinstance(result.exception, RasterError)
    assert "cannot be read" in (result.stdout + str(result.exception))


LOCAL = {"crs": 'LOCAL_CS["x",UNIT["metre",1]]', "transform": Affine(2, 0, 3, 0, -2, 3)}
NO_PLACE = {"crs": "EPSG:32648", "transform": Affine(np.nan, 0, 0, 0, -1, 0)}


@pytest.mark.parametrize(
    ("profile", "scale", "value"),
    [(LOCAL, 1, 1), (NO_PLACE, 1, 1), ({}, np.nan, 1), ({}, 1e300, 1e300), ({}, 1, 1.7e308), ({}, 1, np.inf)],
)
def test_what_json_does_not_know_is_null(tmp_path, profile, scale, value):
    import rasterio

    write_raster(tmp_path / "a.tif", np.full((1, 5, 7), value, "float64"), **profile)
    with rasterio.open(tmp_path / "a.tif", "r+") as dst:
        dst.scales = (scale,)
    text = call(tmp_path / "a.tif", "--json").stdout
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content["centre"] is None
    assert said(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"", b"text", b"II*\0"])
def test_no_raster_at_all(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(RasterError, match=r"a\.tif (is empty|cannot be read)"):
        raise call(tmp_path / "a.tif").exception


def test_markup_in_names_is_text(tmp_path):
    write_raster(tmp_path / "[red]a[bold].tif", np.ones((1, 5, 7), "uint8"), **UTM)
    assert "[red]a[bold].tif" in said(tmp_path / "[red]a[bold].tif")


def test_a_terminal_gets_colours_and_its_width(product):
    if shutil.which("script") is None:
        pytest.skip("the program `script`, which plays a terminal, is not installed")
    command = f"COLUMNS=70 {sys.executable} -m pipeline.cli info {product}"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=False)
    assert "\x1b[" in done.stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert "GF1 PMS1, 10 bits" in plain
    assert max(len(line) for line in plain.splitlines()) <= 70


def test_a_model_shows_its_card(tmp_path):
    content = {"format": "geocrack-model", "version": 1, "kind": "segmenter", "bands": ["red", "nir"], "state": {}}
    made_by = {"network": {"name": "linknet"}, "weights": "imagenet", "size": 256}
    content |= {"recipe": {**made_by, "phases": [{"epochs": 1, "learning_rate": 0.1}]}, "mean": [0.1, 0.3]}
    content |= {"std": [0.1, 0.1], "threshold": 0.4, "chip_size": 256}
    content |= {"metrics": {}, "history": [], "trained_on": {"chips": ["/a/valley"], "counts": {"train": 3, "val": 1}}}
    for name in ("model.pt", "model.other"):  # torch's archives are known by what they hold
        torch.save(content, tmp_path / name)
        text = said(tmp_path / name)
        assert text.startswith(f"# {name} Gives each pixel of an image the probability")
        assert "| bands | red, nir |" in text
        assert "| started from | ImageNet weights of the encoder |" in text
        told = as_json(tmp_path / name)
        assert (told["type"], told["threshold"]) == ("model", 0.4)
        assert told["data"]["folders"] == [{"name": "valley"}]
    assert call(tmp_path / "model.pt", "--gain", "1").exit_code == 2


def test_a_damaged_model_is_named(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"PK")
    assert "model.pt is a truncated archive; expected a model" in str(call(tmp_path / "model.pt").exception)
