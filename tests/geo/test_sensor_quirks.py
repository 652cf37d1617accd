"""What delivered products taught, one test for each; more of them where the reader is tested."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geo.errors import ProductError
from geo.masks import Quality
from geo.reflectance import write_reflectance
from geo.sensors import GenericProduct, open_product, rpb
from tests.handmade import ID, RPB, XML, change, write_product, write_raster

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
UTC_TIME = datetime(2015, 8, 5, 3, 50, 2, tzinfo=UTC)


def scene_of(folder):
    with open_product(folder) as scene:
        return scene


@pytest.mark.parametrize(("percent", "told"), [("101", None), ("-1", None), ("", None), ("0", 0), ("37.5", 37.5)])
def test_cloud_percent_101_is_none(tmp_path, percent, told):
    assert scene_of(write_product(tmp_path / ID, xml=change(XML, "CloudPercent", percent))).cloud_percent == told


@pytest.mark.parametrize("satellite", ['"XXX"', '"GF2"', '""'])
def test_the_satellite_in_the_rpb_does_not_matter(tmp_path, satellite):
    text = RPB.replace('satId = "XXX"', f"satId = {satellite}")
    assert scene_of(write_product(tmp_path / ID, rpb=text)).satellite == "GF1"


def as_text(camera):
    """An RPC in the syntax of ``_rpc.txt``."""
    lines = []
    for name, value in camera.to_dict().items():
        values = {f"_{i}": v for i, v in enumerate(value, 1)} if isinstance(value, list) else {"": value}
        lines += [f"{name.upper()}{number}: {v!r}" for number, v in values.items() if v is not None]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("place", ["_rpc.txt", "_RPC.TXT", ".rpc", "in the tags", "both"])
def test_the_camera_of_a_gaofen_product_may_be_in_another_file_than_rpb(tmp_path, place):
    folder = write_product(tmp_path / ID)
    expected = {key: image.rpcs.to_dict() for key, image in scene_of(folder).images.items()}
    for file in folder.glob("*.rpb"):
        image = file.with_suffix(".tiff")
        camera = rpb.read(file)
        if place == "in the tags":
            with rasterio.open(image) as src:
                numbers = src.read()
            # written in its place, GDAL would take what lies beside it away
            write_raster(tmp_path / image.name, numbers, rpcs=camera).rename(image)
        elif place == "both":  # .rpb goes first
            (folder / f"{image.stem}_rpc.txt").write_text(as_text(camera).replace("LAT_OFF: 31", "LAT_OFF: 61"))
        else:
            (folder / f"{image.stem}{place}").write_text(as_text(camera))
        if place != "both":
            file.unlink()
    scene = scene_of(folder)
    for key, image in scene.images.items():
        for name, value in image.rpcs.to_dict().items():
            if name != "err_rand":  # rasterio writes an error of 0 as not known
                assert value == pytest.approx(expected[key][name], rel=1e-12), name
    assert scene.warnings == ()
    assert len(scene.files) == (4 if place == "in the tags" else 6)


def test_a_gaofen_product_without_any_camera_is_told_what_it_lacks(tmp_path):
    folder = write_product(tmp_path / ID)
    (folder / f"{ID}-MSS1.rpb").unlink()
    with pytest.raises(ProductError, match=rf"lacks {ID}-MSS1.rpb; a product of GF1_PMS1 has .tiff, .xml and .rpb"):
        scene_of(folder)
    (folder / f"{ID}-MSS1.tiff").write_bytes(b"damaged")
    with pytest.raises(ProductError, match=rf"lacks {ID}-MSS1.rpb; "):
        scene_of(folder)


def test_an_overflowed_product_number_is_a_name_like_any_other(tmp_path):
    id = "GF1_PMS1_E51.6_N49.8_20150805_L1A2147483647"
    scene = scene_of(write_product(tmp_path / id, id=id, xml=change(XML, "ProductID", "12889847001")))
    assert scene.id == id


@pytest.mark.parametrize("time", ["2015-08-05T03:50:02Z", "2015-08-05T03:50:02+00:00", "2015-08-05 11:50:02+08:00"])
def test_a_time_with_a_zone_is_believed(tmp_path, time):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "CenterTime", time)))
    assert (scene.acquired, scene.sun.zone, scene.warnings) == (UTC_TIME, "as written", ())


@pytest.mark.parametrize("time", ["2015-08-05 11:50:02", "2015-08-05 11:50:02.0", "2015/08/05 11:50:02"])
def test_a_time_without_zone_is_that_of_china(tmp_path, time):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "CenterTime", time)))
    assert (scene.acquired, scene.sun.zone) == (UTC_TIME, "UTC+8")
    assert "SolarAzimuth fits the sun within 0.0 degrees" in scene.sun.zone_reason


def test_a_time_in_utc_without_saying_so(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "CenterTime", "2015-08-05 03:50:02")))
    assert (scene.acquired, scene.sun.zone) == (UTC_TIME, "UTC")
    assert "CenterTime is read as UTC, because SolarAzimuth does not fit UTC+8" in scene.warnings


def test_without_an_azimuth_the_height_of_the_sun_tells_the_zone(tmp_path):
    xml = change(change(XML, "CenterTime", "2015-08-05 03:50:02"), "SolarAzimuth", "")
    scene = scene_of(write_product(tmp_path / ID, xml=xml))
    assert (scene.acquired, scene.sun.zone) == (UTC_TIME, "UTC")


def test_a_sun_angle_that_is_an_elevation(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "SolarZenith", "66.6")))
    assert (scene.sun_zenith, scene.sun.reading) == (pytest.approx(23.4), "elevation")
    assert any("SolarZenith 66.6 is the sun's elevation" in w for w in scene.warnings)


def test_a_sun_angle_that_is_nothing(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "SolarZenith", "45")))
    assert scene.sun_zenith == pytest.approx(23.43, abs=0.01)
    assert scene.sun.reading == "computed"
    assert any("neither as zenith nor as elevation; the computed angle is used" in w for w in scene.warnings)


@pytest.mark.parametrize(("written", "zenith"), [("86.267", 3.733), ("79.3", 10.7), ("55.0", 55), ("12.5", 12.5)])
def test_a_view_angle_beyond_the_side_swing_is_an_elevation(tmp_path, written, zenith):
    assert scene_of(write_product(tmp_path / ID, xml=change(XML, "SatelliteZenith", written))).view_zenith == (
        pytest.approx(zenith)
    )


def test_a_year_before_the_first_row_names_the_first(tmp_path):
    xml = XML.replace("2015-08-05", "2012-08-05")
    message = rf"{ID}-MSS1\.xml is of GF1_PMS1, and there are no calibration coefficients of MSS1 for 2012 or before; "
    with pytest.raises(
        ProductError, match=message + "the table begins in 2013: check the product's time, or give gain and bias"
    ):
        scene_of(write_product(tmp_path / ID, xml=xml))


@pytest.mark.parametrize("value", ["14.58,12.13,12.3,11.85", "0.0001,0.0001,0.0001,0.0001"])
def test_gains_of_the_xml_beyond_what_a_sensor_can_be_built_for(tmp_path, value):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "AbsCeof", value)))
    assert scene.images["mss"].calibration_source == "table 2015"
    assert any("which no sensor is built for; the table is used" in w for w in scene.warnings)


def test_negative_radiance_is_kept_and_flagged(tmp_path):
    # the bias of the near infrared of 2013 is -9.4771: DN 30 is -3.8 W m-2 sr-1 um-1
    xml = XML.replace("2015-08-05", "2013-08-05")
    folder = write_product(tmp_path / ID, xml=xml, mss=np.full((4, 5, 7), 30, "uint16"))
    with open_product(folder) as scene:
        write_reflectance(scene, tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        nir = src.read(4) * src.scales[3] + src.offsets[3]
    assert nir == pytest.approx(
        np.full((5, 7), (0.1883 * 30 - 9.4771) * np.pi * 1.0142**2 / 1080.77 / np.cos(0.4085)), abs=2e-4
    )
    with rasterio.open(tmp_path / "out" / "mss.quality.tif") as src:
        assert (src.read(1) == Quality.NEGATIVE).all()


@pytest.mark.parametrize("kind", ["xml", "rpb"])
def test_a_sidecar_that_would_fill_the_memory(tmp_path, kind):
    folder = write_product(tmp_path / ID)
    with open(folder / f"{ID}-MSS1.{kind}", "r+b") as file:
        file.truncate(200_000_000)
    with pytest.raises(ProductError, match=rf"MSS1\.{kind} has 200 MB; expected"):
        scene_of(folder)


@pytest.mark.realdata
def test_a_pleiades_image_as_delivered_brings_its_camera(tmp_path):
    """IMG_, DIM_ and RPC_ files: GDAL knows them, so a description of the pair is all that is needed."""
    rpc = REALDATA / "pleiades_ventoux/raw/phr_ventoux/RPC_PHR1B_P_201308051042194_SEN_690908101-001.XML"
    if not rpc.is_file():
        pytest.skip(f"{rpc} is not there; set GEOCRACK_REALDATA")
    name = "PHR1B_P_201308051042194_SEN_690908101-001"
    shutil.copy(rpc, tmp_path / rpc.name)
    (tmp_path / f"DIM_{name}.XML").write_text("<Dimap_Document><Metadata_Identification/></Dimap_Document>")
    image = write_raster(tmp_path / f"IMG_{name}_R1C1.TIF", np.ones((1, 5, 7), "uint16"))
    scene = scene_of(GenericProduct(image, bands=["red"]))
    assert scene.images["mss"].rpcs is not None
    assert scene.centre == pytest.approx((5.2, 44.2), abs=0.2)


def test_a_generic_image_finds_an_rpc_of_any_name_and_case(tmp_path):
    image = write_raster(tmp_path / "a.tif", np.ones((1, 5, 7), "uint16"))
    (tmp_path / "A.RPC").write_text(RPB)  # a syntax that GDAL does not expect in a file of this name
    with open_product(GenericProduct(image, bands=["red"])) as scene:
        assert scene.images["mss"].rpcs.lat_off == 31.3
        write_reflectance(scene, tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        assert src.rpcs.lat_off == 31.3
