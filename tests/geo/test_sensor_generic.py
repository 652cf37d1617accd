import os
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geo.errors import GridError, ProductError, RasterError
from geo.sensors import GenericProduct, open_product, rpb
from tests.handmade import RPB, write_raster

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
UTM = {"crs": "EPSG:32648", "transform": Affine(8, 0, 357000, 0, -8, 3464000)}


def scene_of(product):
    with open_product(product) as scene:
        return scene


@pytest.fixture
def mss(tmp_path):
    return write_raster(tmp_path / "mss.tif", np.full((4, 10, 12), 1000, "uint16"), **UTM)


@pytest.fixture
def pan(tmp_path):
    dn = np.full((1, 40, 48), 1000, "uint16")
    return write_raster(tmp_path / "pan.tif", dn, crs="EPSG:32648", transform=UTM["transform"] @ Affine.scale(1 / 4))


def test_a_pair_on_a_grid(mss, pan):
    scene = scene_of(GenericProduct(mss, pan, acquired="2015-08-05T11:50:02+08:00", sensor="plane"))
    assert (scene.id, scene.instrument) == ("mss", "plane")
    assert scene.acquired == datetime(2015, 8, 5, 3, 50, 2, tzinfo=UTC)
    assert scene.centre == pytest.approx((103.5, 31.3), abs=0.01)
    assert scene.sun_zenith == pytest.approx(23.43, abs=0.02)
    assert scene.sun_azimuth == pytest.approx(122.63, abs=0.05)
    assert (scene.images["mss"].gsd_m, scene.images["pan"].gsd_m) == (8, 2)
    assert (scene.images["mss"].shape, scene.images["pan"].shape) == ((10, 12), (40, 48))
    assert scene.images["pan"].bands == ("pan",)
    assert scene.images["mss"].calibration_source == "none: taken as reflectance, DN * 0.0001"
    assert scene.images["mss"].scale == 1e-4


def test_a_mapping_and_no_pan(mss):
    scene = scene_of({"mss": mss, "pan": None, "scale": 2.5e-4})
    assert list(scene.images) == ["mss"]
    assert scene.acquired is None
    assert scene.sun_zenith is None
    assert "the time of the image is not given" in scene.warnings[0]


def test_gains_are_dealt_to_mss_and_pan(mss, pan):
    product = GenericProduct(
        mss,
        pan,
        acquired="2015-08-05T03:50:02Z",
        gain=[0.1, 0.2, 0.3, 0.4, 0.5],
        bias=[1, 2, 3, 4, -5],
        esun=[1900, 1800, 1500, 1000, 1400],
        sun_zenith=30,
    )
    scene = scene_of(product)
    assert scene.images["mss"].gain == (0.1, 0.2, 0.3, 0.4)
    assert scene.images["pan"].gain == (0.5,)
    assert (scene.images["mss"].bias, scene.images["pan"].bias) == ((1, 2, 3, 4), (-5,))
    assert scene.images["pan"].esun == (1400,)
    assert scene.images["pan"].calibration_source == "given"
    assert scene.sun_zenith == 30


@pytest.mark.parametrize(
    ("dtype", "bits", "gain", "told"),
    [
        ("uint16", 10, 0.2, None),
        (
            "uint16",
            10,
            20.0,
            r"number, 1023, a reflectance of 33\.8 in blue with .*; sensors are built for 0\.02 to 5: ",
        ),
        ("uint16", 10, 1e-5, "reflectance of 1.69e-05 in blue"),
        ("uint16", None, 0.2, None),  # as of 10 bits
        ("uint8", None, 1.0, None),
        ("uint8", None, 20.0, "number, 255, "),
        ("float32", None, 1.0, None),  # radiance
    ],
)
def test_given_gains_that_no_sensor_has_are_told(tmp_path, dtype, bits, gain, told):
    path = write_raster(tmp_path / "image.tif", np.full((2, 10, 12), 100, dtype), **UTM)
    coefficients = {"gain": [gain, 0.2], "esun": [1900, 1800], "acquired": "2015-08-05T03:50:02Z", "bit_depth": bits}
    warnings = scene_of(GenericProduct(path, bands=["blue", "green"], **coefficients)).warnings
    assert len(warnings) == (told is not None)
    assert told is None or re.search(told, warnings[0])


def test_scale_tags_of_the_file_are_believed(mss):
    with rasterio.open(mss, "r+") as dst:
        dst.scales, dst.offsets = [1e-4] * 4, [-0.1] * 4
    image = scene_of(GenericProduct(mss)).images["mss"]
    assert (image.scale, image.offset) == (1e-4, -0.1)
    assert image.calibration_source == "none: taken as reflectance, DN * 0.0001 + -0.1 by the tags of the file"


def test_scale_tags_that_differ(mss):
    with rasterio.open(mss, "r+") as dst:
        dst.scales = [1e-4, 1e-4, 1e-4, 2e-4]
    with pytest.raises(RasterError, match="another scale or offset tag for each band"):
        scene_of(GenericProduct(mss))


def test_rpc_in_the_tags_or_beside_the_file(tmp_path):
    dn = np.ones((1, 5, 7), "uint16")
    write_raster(tmp_path / "tags.tif", dn, rpcs=rpb.parse(RPB))
    write_raster(tmp_path / "beside.tif", dn)
    (tmp_path / "beside.RPB").write_text(RPB)
    for name in ("tags", "beside"):
        scene = scene_of(GenericProduct(tmp_path / f"{name}.tif", bands=["red"]))
        assert scene.centre == (103.5, 31.3)
        assert scene.images["mss"].rpcs.samp_off == pytest.approx(3.123456789012345, rel=1e-14)
        assert scene.images["mss"].gsd_m == pytest.approx(7.05, abs=0.1)


def test_an_alpha_band_is_no_band(tmp_path):
    path = write_raster(tmp_path / "rgba.tif", np.ones((4, 5, 7), "uint8"), photometric="RGB", alpha="yes", **UTM)
    assert scene_of(GenericProduct(path, bands=["red", "green", "blue"])).images["mss"].shape == (5, 7)


def test_an_image_without_place(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.ones((4, 5, 7), "uint16"))
    with pytest.raises(GridError, match=r"a.tif has neither RPC nor a CRS with a geotransform; .*a.RPB or a_RPC.TXT"):
        scene_of(GenericProduct(path))


def test_other_bands_than_named(mss):
    with pytest.raises(RasterError, match=r"mss.tif has 4 bands; expected 3: red, green, blue"):
        scene_of(GenericProduct(mss, bands=["red", "green", "blue"]))


def described(path, *names):
    with rasterio.open(path, "r+") as dst:
        dst.descriptions = names
    return path


def test_names_of_the_image_are_taken_where_the_user_names_none(mss):
    scene = scene_of(GenericProduct(described(mss, "Red", "green", "blue", "nir")))
    assert scene.images["mss"].bands == ("red", "green", "blue", "nir")
    assert scene.warnings[0] == (
        "mss.tif names its bands red, green, blue, nir, and they are taken so, not as blue, green, red, nir: give "
        "`bands` where its names are wrong"
    )
    coefficients = {"gain": [0.1] * 4, "esun": [1900] * 4, "acquired": "2015-08-05T03:50:02Z"}
    (told,) = scene_of(GenericProduct(mss, **coefficients)).warnings
    assert "all that is given for each band is taken in this order too" in told


def test_as_many_bands_as_the_image_names(tmp_path):
    path = write_raster(tmp_path / "rgb.tif", np.full((3, 10, 12), 1000, "uint16"), **UTM)
    assert scene_of(GenericProduct(described(path, "red", "green", "blue"))).images["mss"].bands[0] == "red"


@pytest.mark.parametrize(
    "names",
    [
        ("blue", "green", "red", "nir"),
        ("red", "green", "blue", None),
        ("red", "red", "blue", "nir"),
        ("red", "green", "blue", "height"),
        (),
    ],
)
def test_names_that_tell_nothing_else(mss, names):
    scene = scene_of(GenericProduct(described(mss, *names) if names else mss))
    assert scene.images["mss"].bands == ("blue", "green", "red", "nir")
    assert len(scene.warnings) == 1  # of the time


def test_names_of_the_user_are_believed_and_a_contradiction_told(mss):
    described(mss, "red", "green", "blue", "nir")
    scene = scene_of(GenericProduct(mss, bands=["blue", "green", "red", "nir"]))
    assert scene.images["mss"].bands == ("blue", "green", "red", "nir")
    assert scene.warnings[0] == (
        "mss.tif names its bands red, green, blue, nir, `bands` blue, green, red, nir; `bands` is believed: leave it "
        "out where the image is right"
    )
    for same in (["RED", "green", "blue", "nir"], ["b1", "b2", "b3", "b4"]):
        assert len(scene_of(GenericProduct(mss, bands=same)).warnings) == 1


def test_a_pan_of_many_bands(mss):
    with pytest.raises(RasterError, match=r"mss.tif has 4 bands; expected 1: pan"):
        scene_of(GenericProduct(mss, mss))


def test_complex_numbers(tmp_path):
    path = write_raster(tmp_path / "sar.tif", np.ones((1, 5, 7), "complex64"), **UTM)
    with pytest.raises(RasterError, match="holds complex numbers"):
        scene_of(GenericProduct(path, bands=["hh"]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gain": [1.0] * 3}, r"gain has 3 values, expected 4 \(blue, green, red, nir\)"),
        ({"gain": [1.0] * 4}, "gain is given without esun; gain is given without acquired"),
        ({"esun": [1.0] * 4}, "esun is given without gain"),
        ({"gain": [1.0, 0.0, 1.0, 1.0]}, r"gain is \[1.0, 0.0, 1.0, 1.0\], expected positive numbers"),
        ({"bands": ["red", "red"]}, "bands are red, red, expected different names"),
        ({"bit_depth": 0}, "bit_depth is 0, expected 1 to 32"),
        ({"acquired": "2015-08-05 11:50"}, "expected ISO 8601 with its zone"),
        ({"acquired": "summer"}, "acquired is 'summer'"),
    ],
)
def test_what_the_user_got_wrong(mss, given, message):
    with pytest.raises(ProductError, match=message):
        scene_of(GenericProduct(mss, **given))


@pytest.mark.realdata
def test_real_pleiades_pair():
    folder = REALDATA / "pleiades_ventoux"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set GEOCRACK_REALDATA")
    product = GenericProduct(
        folder / "PHR1B_ventoux_MS.tif", folder / "PHR1B_ventoux_PAN_left.tif", bit_depth=12, sensor="Pleiades"
    )
    scene = scene_of(product)
    assert scene.images["mss"].shape == (145, 145)
    assert scene.images["pan"].shape == (500, 500)
    assert scene.centre == pytest.approx((5.2, 44.2), abs=0.1)
    theirs = rpb.read(folder / "PHR1B_ventoux_PAN_left.RPB").to_dict()
    for term, value in scene.images["pan"].rpcs.to_dict().items():
        np.testing.assert_allclose(value, theirs[term], rtol=1e-12, err_msg=term)


def test_limits_of_bands_are_dealt_to_mss_and_pan(mss, pan):
    limits = [(0.45, 0.52), (0.52, 0.59), (0.63, 0.69), (0.77, 0.89), (0.45, 0.9)]
    given = {"gain": [0.2] * 5, "esun": [1900] * 5, "acquired": "2015-08-05T03:50:02Z"}
    scene = scene_of(GenericProduct(mss, pan, wavelengths_um=limits, **given))
    assert scene.images["mss"].wavelengths_um == tuple(limits[:4])
    assert scene.images["pan"].wavelengths_um == (limits[4],)
    with pytest.raises(ProductError, match=r"wavelengths_um has 4 pairs, expected 5 \(blue, green, red, nir, pan\)"):
        scene_of(GenericProduct(mss, pan, wavelengths_um=limits[:4], **given))
    with pytest.raises(ProductError, match="expected the shorter and the longer limit of each band in micrometres"):
        scene_of(GenericProduct(mss, pan, wavelengths_um=[*limits[:4], (450, 900)], **given))
