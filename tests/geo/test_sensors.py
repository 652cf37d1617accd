"""Gaofen products: every oddity of delivered ones."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from geo import sensors
from geo.errors import ConfigError, GeocrackError, ProductError
from geo.sensors import open_product, tables
from tests.handmade import ID, RPB, XML, change, write_product

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))


def scene_of(folder: Path):
    with open_product(folder) as scene:
        return scene


@pytest.fixture
def product(tmp_path):
    return write_product(tmp_path / ID)


def test_a_product_is_understood(product):
    scene = scene_of(product)
    assert (scene.id, scene.satellite, scene.sensor, scene.instrument) == (ID, "GF1", "PMS1", "GF1 PMS1")
    assert scene.acquired == datetime(2015, 8, 5, 3, 50, 2, tzinfo=UTC)
    assert (scene.sun_zenith, scene.sun_azimuth) == (23.40, 122.65)
    assert scene.centre == pytest.approx((103.5, 31.3))
    assert scene.bit_depth == 10
    assert scene.warnings == ()
    mss, pan = scene.images["mss"], scene.images["pan"]
    assert mss.bands == ("blue", "green", "red", "nir")
    assert mss.gain == (0.2110, 0.1802, 0.1806, 0.1870)
    assert mss.bias == (0, 0, 0, 0)
    assert mss.esun == (1945.29, 1854.1, 1542.9, 1080.77)
    assert (mss.gsd_m, pan.gsd_m) == (8, 2)
    assert (pan.bands, pan.gain, pan.esun) == (("pan",), (0.1956,), (1371.79,))
    assert mss.calibration_source == pan.calibration_source == "table 2015"
    assert mss.calibration_detail.startswith("verified: ")


def test_pan_is_not_four_times_mss(product):
    scene = scene_of(product)
    assert scene.images["mss"].shape == (5, 7)
    assert scene.images["pan"].shape == (19, 28)


def test_view_zenith_is_written_as_an_elevation(product):
    assert scene_of(product).view_zenith == pytest.approx(90 - 86.267)


def test_a_small_view_zenith_is_one(tmp_path):
    assert scene_of(write_product(tmp_path / ID, xml=change(XML, "SatelliteZenith", "12.5"))).view_zenith == 12.5


def test_missing_view_angles_are_none(tmp_path):
    xml = change(change(XML, "SatelliteZenith", ""), "SatelliteAzimuth", None)
    scene = scene_of(write_product(tmp_path / ID, xml=xml))
    assert scene.view_zenith is None
    assert scene.view_azimuth is None


def test_folder_name_is_not_the_product_name_and_files_may_lie_deeper(tmp_path):
    write_product(tmp_path / "order 7" / "inner")
    assert scene_of(tmp_path / "order 7").id == ID


def test_overflowed_product_number(tmp_path):
    name = "GF1_PMS1_E103.5_N31.3_20150805_L1A2147483647"
    assert scene_of(write_product(tmp_path / "p", id=name, xml=change(XML, "ProductID", "12889847001"))).id == name


def test_suffixes_in_capitals(product):
    for file in list(product.iterdir()):
        file.rename(file.with_suffix(file.suffix.upper()))
    assert scene_of(product).images["pan"].rpcs.samp_off == 13.99382715604938


def test_files_of_a_mac_are_passed_over(product):
    for file in list(product.iterdir()):
        file.with_name("._" + file.name).write_bytes(b"resource fork")
    assert scene_of(product).id == ID


def test_centre_of_newer_products(tmp_path):
    xml = change(change(XML, "CenterLatitude", "31.31"), "CenterLongitude", "103.52")
    assert scene_of(write_product(tmp_path / ID, xml=xml)).centre == (103.52, 31.31)


def test_centre_from_the_name_when_a_corner_is_missing(tmp_path):
    assert scene_of(write_product(tmp_path / ID, xml=change(XML, "TopLeftLatitude", ""))).centre == (103.5, 31.3)


def test_corners_that_lie_do_not_move_the_image(tmp_path):
    # delivered corners are off by a kilometre and more: the camera model alone says where the image is
    xml = change(XML, "BottomLeftLatitude", "31.214")
    scene = scene_of(write_product(tmp_path / ID, xml=xml))
    assert scene.images["mss"].rpcs == scene_of(write_product(tmp_path / "straight")).images["mss"].rpcs
    assert scene.images["mss"].rpcs.lat_off == 31.3


def test_order_and_depth_of_elements_do_not_matter(tmp_path):
    lines = XML.splitlines()
    xml = "\n".join([*lines[:2], "<Inner>", *lines[2:-1][::-1], "</Inner>", lines[-1]])
    scene = scene_of(
        write_product(tmp_path / ID, xml=xml.replace("<ProductMetaData>", "<ProductMetaData xmlns='u:x'>"))
    )
    assert scene.acquired == datetime(2015, 8, 5, 3, 50, 2, tzinfo=UTC)
    assert scene.sun_zenith == 23.40


def test_gb2312_metadata(product):
    for file in product.glob("*.xml"):
        text = (
            file.read_text().replace("UTF-8", "GB2312").replace("<ProductQuality />", "<RegionName>四川</RegionName>")
        )
        file.write_bytes(text.encode("gb2312"))
    assert scene_of(product).sun_azimuth == 122.65


def test_time_without_centre_time_is_the_middle(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "CenterTime", "")))
    assert scene.acquired == datetime(2015, 8, 5, 3, 50, 2, 500000, tzinfo=UTC)


# calibration -----------------------------------------------------------------------------------------------


def in_year(year: int) -> str:
    return XML.replace("2015-08-05", f"{year}-08-05")


def test_gains_of_the_xml_come_first(tmp_path):
    folder = write_product(tmp_path / ID, xml=change(XML, "AbsCeof", "0.1458,0.1213,0.123,0.1185"))
    pan = folder / f"{ID}-PAN1.xml"
    pan.write_text(change(pan.read_text(), "AbsCeof", "0.1306"))
    scene = scene_of(folder)
    assert scene.images["mss"].gain == (0.1458, 0.1213, 0.123, 0.1185)
    assert scene.images["mss"].bias == (0, 0, 0, 0)
    assert scene.images["pan"].gain == (0.1306,)
    assert {i.calibration_source for i in scene.images.values()} == {"XML AbsCeof"}
    assert scene.warnings == ()


@pytest.mark.parametrize("value", ["", "NULL", "null"])
def test_gains_of_the_xml_that_are_not_there(tmp_path, value):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "AbsCeof", value)))
    assert scene.images["mss"].calibration_source == "table 2015"
    assert scene.warnings == ()


@pytest.mark.parametrize("value", ["0.1,0.2,0.3", "0.1,0.2,0.3,x", "0,0,0,0", "0.1,0.2,0.3,nan", "-1 1 1 1"])
def test_gains_of_the_xml_that_cannot_be(tmp_path, value):
    scene = scene_of(write_product(tmp_path / ID, xml=change(XML, "AbsCeof", value)))
    assert scene.images["mss"].gain == (0.2110, 0.1802, 0.1806, 0.1870)
    assert any("AbsCeof is" in w and "the table is used" in w for w in scene.warnings)


def test_a_year_without_a_row_takes_the_nearest_earlier_one(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=in_year(2020)))
    assert scene.images["mss"].gain == (0.1490, 0.1328, 0.1311, 0.1217)
    assert scene.images["mss"].calibration_source == "table 2019 (nearest earlier)"
    assert "GF1_PMS1 has no coefficients of 2020 for MSS1; those of 2019 are used" in scene.warnings


def test_nothing_is_interpolated_over_the_step_of_2016():
    mss = tables.sensor("GF1_PMS1").images["mss"]
    assert mss.coefficients(2016)[1].gain[0] == 0.2320
    assert mss.coefficients(2017)[1].gain[0] == 0.1424
    assert mss.coefficients(2030)[0] == 2022


def test_biases_of_2013():
    mss, pan = (tables.sensor("GF1_PMS2").images[key].coefficients(2013)[1] for key in ("mss", "pan"))
    assert mss.gain == (0.2072, 0.1776, 0.1770, 0.1909)
    assert mss.bias == (7.5348, 3.9395, -1.7445, -7.2053)
    assert (pan.gain, pan.bias, pan.confidence) == ((0.1878,), (-7.9731,), "one source")


def test_a_year_before_the_table(tmp_path):
    with pytest.raises(
        ProductError, match="no calibration coefficients of MSS1 for 2012 or before; the table begins in 2013"
    ):
        scene_of(write_product(tmp_path / ID, xml=in_year(2012)))


# other sensors ---------------------------------------------------------------------------------------------


GAOFEN = [name for name in sensors.names() if sensors.sensor(name).format == "gaofen"]


@pytest.mark.parametrize("name", GAOFEN)
def test_every_gaofen_sensor_reads_a_product_of_its_own(tmp_path, name):
    known = sensors.sensor(name)
    year = max(known.images["mss"].calibration)
    id = f"{known.name}_E103.5_N31.3_{year}0805_L1A0000101003"
    xml = change(change(in_year(year), "SatelliteID", known.satellite), "SensorID", known.camera)
    suffixes = tuple(known.images[key].suffix for key in ("mss", "pan"))
    scene = scene_of(write_product(tmp_path / "p", id=id, xml=xml, suffixes=suffixes))
    assert scene.instrument == f"{known.satellite} {known.camera}"
    for key, image in scene.images.items():
        table = known.images[key]
        assert image.calibration_source == f"table {year}"
        assert len(image.gain) == len(image.bias) == len(image.esun) == len(image.bands) == len(table.wavelengths_um)
        assert image.wavelengths_um == table.wavelengths_um
        for row in table.calibration.values():
            assert all(0.02 < g < 0.3 for g in row.gain)
            assert all(abs(b) < 15 for b in row.bias)
    assert (known.bit_depth is None) == any("bit depth" in w for w in scene.warnings)


@pytest.mark.parametrize("name", sensors.names())
def test_every_table_is_plausible(name):
    known = sensors.sensor(name)
    assert known.format in sensors.READERS
    for key, table in known.images.items():
        assert all(0.3 < low < high < 1.1 for low, high in table.wavelengths_um)
        assert all(900 < e < 2100 for e in table.esun)
        assert table.esun_source
        assert 0.5 < table.gsd_m < 10
        assert list(table.bands) == (["pan"] if key == "pan" else ["blue", "green", "red", "nir"])


def test_pms2_files_end_in_2(tmp_path):
    id = ID.replace("PMS1", "PMS2")
    folder = write_product(tmp_path / id, id=id, xml=change(XML, "SensorID", "PMS2"), suffixes=("MSS2", "PAN2"))
    assert scene_of(folder).images["mss"].gain == (0.2242, 0.1887, 0.1882, 0.1963)


def test_gain_element_of_gf6(tmp_path):
    id = ID.replace("GF1_PMS1", "GF6_PMS")
    xml = change(change(in_year(2020), "SatelliteID", "GF6"), "SensorID", "PMS")
    folder = write_product(
        tmp_path / id, id=id, xml=change(xml, "AGain", "0.08 0.06 0.05 0.03"), suffixes=("MUX", "PAN")
    )
    assert scene_of(folder).images["mss"].calibration_source == "XML AGain"
    assert scene_of(folder).images["mss"].gain == (0.08, 0.06, 0.05, 0.03)


def test_sensor_from_the_name_where_the_xml_is_silent(tmp_path):
    assert scene_of(write_product(tmp_path / ID, xml=change(XML, "SensorID", ""))).sensor == "PMS1"


def test_an_unknown_sensor_shows_the_known_ones(tmp_path):
    with pytest.raises(ProductError, match=r"unknown sensor 'GF1_PMS3'; did you mean 'GF1_PMS[12]'.*GF2_PMS2"):
        scene_of(write_product(tmp_path / ID, xml=change(XML, "SensorID", "PMS3")))


def test_a_sensor_without_pms_files_is_named(tmp_path):
    (tmp_path / "GF1_WFV3_E89.0_N23.9_20200523_L1A0004819525.xml").write_text("<ProductMetaData/>")
    with pytest.raises(ProductError, match="unknown sensor 'GF1_WFV3'"):
        scene_of(tmp_path)


def test_neither_name_nor_xml_tell_the_sensor(tmp_path):
    with pytest.raises(ProductError, match="unknown sensor: neither its name 'renamed' nor SatelliteID"):
        scene_of(write_product(tmp_path / "p", id="renamed", xml=change(XML, "SatelliteID", "")))


def test_a_sensor_is_registered_once():
    with pytest.raises(ConfigError, match="GF1_PMS1 is registered twice"):
        sensors.register(sensors.sensor("GF1_PMS1"))


@pytest.mark.parametrize(
    ("change_to", "message"),
    [
        ({"cameras": {"A": {"mss": {"suffix": "M", "esun": [1.0], "esun_source": "x", "calibration": {}}}}}, "esun is"),
        ({"bit_depth": ...}, "bit_depth: field required"),
        ({"cameras": 3}, "is no sensor table: cameras: .*dictionary"),
        ({"gain_elment": "AbsCeof"}, "gain_elment: unknown key; did you mean 'gain_element'"),
        ({"gain_rule": "plus"}, "gain_rule: .*'multiply' or 'divide'"),
        ({"images": {"mss": {"gsd_m": 8, "bands": {"red": [0.7, 0.6]}}}}, "red reaches from 0.7 to 0.6 um"),
        ({"images": {"pan": {"gsd_m": 2, "bands": {"pan": [0.5, 0.8]}}}}, "images has no mss, which A has"),
        ({"format": "jpeg"}, "unknown format 'jpeg'; known: dimap, gaofen"),
    ],
)
def test_a_table_that_is_wrong_says_where(change_to, message):
    table = {
        "satellite": "X",
        "format": "gaofen",
        "bit_depth": 10,
        "gain_element": "AbsCeof",
        "images": {"mss": {"gsd_m": 8, "bands": {"red": [0.6, 0.7], "nir": [0.8, 0.9]}}},
        "cameras": {"A": {"mss": {"suffix": "M", "esun": [1.0, 2.0], "esun_source": "x", "calibration": {}}}},
    } | change_to
    with pytest.raises(ConfigError, match=f"x.yaml.*{message}"):
        tables.parse({k: v for k, v in table.items() if v is not ...}, source="x.yaml")


# what is broken --------------------------------------------------------------------------------------------


def test_no_product(tmp_path):
    with pytest.raises(ProductError, match=r"does not exist; expected a product folder or its .tar.gz"):
        scene_of(tmp_path / "nothing")
    with pytest.raises(ProductError, match=r"holds no product; expected a folder with files such as <id>-MSS1.tiff"):
        scene_of(tmp_path)


def test_two_products(tmp_path):
    write_product(tmp_path / "a")
    write_product(tmp_path / "b", id=ID.replace("0805", "0806"))
    write_product(tmp_path / "b" / ID)
    shown = rf"holds 3 products \(a/{ID}, b/{ID.replace('0805', '0806')}, b/{ID}\); give the folder of one of them"
    with pytest.raises(ProductError, match=shown):
        scene_of(tmp_path)


def test_missing_files_are_named_together(product):
    (product / f"{ID}-PAN1.tiff").unlink()
    (product / f"{ID}-MSS1.rpb").unlink()
    with pytest.raises(ProductError, match=rf"lacks {ID}-MSS1.rpb, {ID}-PAN1.tiff; .*copy or download it again"):
        scene_of(product)


def test_all_xml_missing(product):
    for file in product.glob("*.xml"):
        file.unlink()
    with pytest.raises(ProductError, match=rf"lacks {ID}-MSS1.xml, {ID}-PAN1.xml"):
        scene_of(product)


@pytest.mark.parametrize("kind", ["xml", "rpb"])
@pytest.mark.parametrize("content", [b"", b"\n  \n"])
def test_empty_sidecars(product, kind, content):
    (product / f"{ID}-PAN1.{kind}").write_bytes(content)
    with pytest.raises(
        ProductError, match=rf"{ID}-PAN1.{kind} is empty \(\d bytes\).*copy or download the product again"
    ):
        scene_of(product)


@pytest.mark.parametrize(
    "content", [b"not XML", XML.encode()[:700], b"\xff\xfe\x00", b"<?xml version='1.0' encoding='x-no'?><a/>"]
)
def test_xml_that_is_none(product, content):
    (product / f"{ID}-MSS1.xml").write_bytes(content)
    with pytest.raises(ProductError, match=rf"{ID}-MSS1.xml is not valid XML"):
        scene_of(product)


def test_xml_with_entities_is_refused(product):
    bomb = XML.replace("<ProductMetaData>", '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>\n<ProductMetaData>', 1)
    (product / f"{ID}-MSS1.xml").write_text(bomb)
    with pytest.raises(ProductError, match="declares entities or a DTD"):
        scene_of(product)


@pytest.mark.parametrize(
    ("element", "value", "message"),
    [
        ("CenterTime", "yesterday", "CenterTime is 'yesterday'; expected a time such as"),
        ("CenterTime", "0001-01-01 00:00:00", "CenterTime is '0001-01-01 00:00:00'; expected a time"),
    ],
)
def test_elements_that_cannot_be(tmp_path, element, value, message):
    with pytest.raises(ProductError, match=message):
        scene_of(write_product(tmp_path / ID, xml=change(change(XML, "StartTime", ""), element, value)))


def test_no_time_at_all(tmp_path):
    xml = change(change(XML, "CenterTime", ""), "StartTime", None)
    with pytest.raises(ProductError, match="has no usable CenterTime; expected the time of the image"):
        scene_of(write_product(tmp_path / ID, xml=xml))


def test_no_place_at_all(tmp_path):
    xml, nowhere = change(XML, "TopLeftLatitude", ""), RPB.replace("latOffset =   31.3", "latOffset =   131.3")
    assert scene_of(write_product(tmp_path / "q", id="renamed", xml=xml)).centre == (103.5, 31.3)  # of the RPC
    with pytest.raises(ProductError, match="has no usable CenterLongitude and CenterLatitude"):
        scene_of(write_product(tmp_path / "p", id="renamed", xml=xml, rpb=nowhere))


def test_an_empty_image_does_not_hide_the_metadata(product):
    (product / f"{ID}-PAN1.tiff").write_bytes(b"")
    scene = scene_of(product)
    assert scene.images["pan"].shape == (19, 28)
    assert any(w.startswith(f"{ID}-PAN1.tiff is empty (0 bytes)") for w in scene.warnings)


def test_an_empty_image_and_no_size_in_the_xml(tmp_path):
    folder = write_product(tmp_path / ID, xml=change(XML, "WidthInPixels", ""))
    (folder / f"{ID}-MSS1.tiff").write_bytes(b"")
    with pytest.raises(ProductError, match="has no usable WidthInPixels and HeightInPixels"):
        scene_of(folder)


def test_the_image_is_believed_where_the_xml_has_another_size(product):
    xml = product / f"{ID}-MSS1.xml"
    xml.write_text(change(xml.read_text(), "WidthInPixels", "4548"))
    scene = scene_of(product)
    assert scene.images["mss"].shape == (5, 7)
    assert f"{ID}-MSS1.tiff has 7 x 5 pixels, its XML says 4548 x 5; the image is believed" in scene.warnings


def test_every_error_is_ours(tmp_path):
    # a folder in the place of a file
    folder = write_product(tmp_path / ID)
    (folder / f"{ID}-MSS1.tiff").unlink()
    (folder / f"{ID}-MSS1.tiff").mkdir()
    with pytest.raises(GeocrackError, match=r"lacks .*MSS1.tiff"):
        scene_of(folder)


# delivered products ----------------------------------------------------------------------------------------

GF1 = "GF1_PMS1_E69.4_N33.3_20220624_L1A0006547030"
GF2 = "GF2_PMS2_E120.2_S0.0_20181002_L1A0003492622"


def real(name: str) -> Path:
    folder = REALDATA / "gf_metadata" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set GEOCRACK_REALDATA")
    return folder


@pytest.mark.realdata
def test_real_gf1():
    scene = scene_of(real(GF1))
    assert scene.acquired == datetime(2022, 6, 24, 5, 39, 9, tzinfo=UTC)
    assert (scene.sun_zenith, scene.sun_azimuth) == (25.1707, 106.266)
    assert (scene.view_zenith, scene.view_azimuth) == (pytest.approx(3.733), 90.3444)
    assert scene.centre == pytest.approx((69.383475, 33.303875))
    mss, pan = scene.images["mss"], scene.images["pan"]
    assert (mss.shape, pan.shape) == ((4503, 4548), (18000, 18192))
    assert (mss.gsd_m, pan.gsd_m) == (8, 2)
    assert (mss.gain, pan.gain) == ((0.1458, 0.1213, 0.123, 0.1185), (0.1306,))
    assert mss.calibration_source == "table 2022"
    assert mss.rpcs.line_off == 2458.823571647805693
    assert mss.rpcs.line_num_coeff[2] == -1.156969270442303e00
    assert mss.rpcs.samp_den_coeff[19] == 1.187661771232606e-06
    assert len(scene.warnings) == 2
    assert all("is empty (0 bytes)" in w for w in scene.warnings)


@pytest.mark.realdata
def test_real_gf2():
    scene = scene_of(real(GF2))
    assert scene.instrument == "GF2 PMS2"
    assert scene.acquired == datetime(2018, 10, 2, 2, 54, 23, tzinfo=UTC)
    assert (scene.sun_zenith, scene.view_zenith) == (14.05, pytest.approx(0.9661))
    assert scene.centre == pytest.approx((120.157, -0.0162), abs=1e-3)
    mss, pan = scene.images["mss"], scene.images["pan"]
    assert (mss.shape, pan.shape) == ((6908, 7300), (27620, 29200))
    assert (mss.gsd_m, pan.gsd_m) == (3.24, 0.81)
    assert mss.gain == (0.1859, 0.2072, 0.1934, 0.218)
    assert pan.esun == (1362.16,)


@pytest.mark.realdata
@pytest.mark.parametrize("name", [GF1, GF2])
def test_rpb_is_read_as_gdal_reads_it(tmp_path, name):
    import rasterio

    for file in real(name).glob("*.rpb"):
        stem = tmp_path / file.stem
        with rasterio.open(stem.with_suffix(".tiff"), "w", driver="GTiff", count=1, width=2, height=2, dtype="uint8"):
            pass
        shutil.copy(file, stem.with_suffix(".rpb"))
        with rasterio.open(stem.with_suffix(".tiff")) as src:
            theirs = src.rpcs.to_dict()
        ours = sensors.rpc_text.read(file).to_dict()
        assert ours.keys() == theirs.keys()
        for term, value in theirs.items():
            np.testing.assert_allclose(ours[term], value, rtol=1e-14, err_msg=term)


@pytest.mark.realdata
def test_real_wide_field_product_is_no_pms():
    with pytest.raises(ProductError, match=r"unknown sensor 'GF1_WFV3'; .*known: .*GF1_PMS1"):
        scene_of(real("GF1_WFV3_E89.0_N23.9_20200523_L1A0004819525"))
