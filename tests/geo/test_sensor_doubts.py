"""What a Gaofen product says of itself in one place and contradicts in another: one is taken, and both are named."""

from datetime import UTC, datetime

import numpy as np
import pytest

from geo.errors import ProductError
from geo.masks import Quality
from geo.radiometry import quality_flags
from geo.sensors import open_product
from tests.handmade import ID, RPB, XML, change, write_product

UTC_TIME = datetime(2015, 8, 5, 3, 50, 2, tzinfo=UTC)
CORNERS = [f"{v}{h}" for v in ("Top", "Bottom") for h in ("Left", "Right")]


def scene_of(folder):
    with open_product(folder) as scene:
        return scene


def changed(**values):
    xml = XML
    for element, value in values.items():
        xml = change(xml, element, value)
    return xml


def rewrite(folder, image, **values):
    """The folder, with other contents of elements in the XML of one image."""
    file = folder / f"{ID}-{image}.xml"
    text = file.read_text()
    for element, value in values.items():
        text = change(text, element, value)
    file.write_text(text)
    return folder


# place ----------------------------------------------------------------------------------------------------------------

LIES = {
    "one corner": {"TopLeftLongitude": "0"},
    "all corners": {f"{c}Longitude": "101.3" for c in CORNERS},
    "nowhere": {f"{c}{axis}": "0" for c in CORNERS for axis in ("Longitude", "Latitude")},
    "other side": {f"{c}Longitude": "-76.5" for c in CORNERS},
    "centre": {"CenterLongitude": "0", "CenterLatitude": "0"},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_place_degrees_away_is_not_believed(tmp_path, lie):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(**LIES[lie])))
    assert scene.centre == (103.5, 31.3)
    # what the product says of time and sun is right, and stays
    assert (scene.acquired, scene.sun_zenith, scene.sun_azimuth) == (UTC_TIME, 23.4, 122.65)
    (said,) = scene.warnings
    assert said.startswith(f"{ID}-MSS1.xml: the centre or the corners put the scene at longitude ")
    assert said.endswith("the RPC at 103.50, 31.30; the RPC is believed")


def test_a_place_within_the_scene_is_that_of_the_corners(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(CenterLongitude="103.8", CenterLatitude="31.1")))
    assert (scene.centre, scene.warnings) == ((103.8, 31.1), ())


def test_a_scene_on_the_date_line(tmp_path):
    corners = {f"{c}Longitude": v for c, v in zip(CORNERS, ("179.8", "-179.9", "179.9", "-179.8"), strict=True)}
    rpb = RPB.replace("longOffset =  103.5", "longOffset =  -179.95")
    xml = changed(**corners, CenterTime="2015-08-05 06:50:02", SolarAzimuth="", SolarZenith="")
    scene = scene_of(write_product(tmp_path / ID, xml=xml, rpb=rpb))
    assert abs(scene.centre[0]) == pytest.approx(180)
    assert not any("RPC" in w for w in scene.warnings)


# time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", ["0000-00-00 00:00:00", "yesterday"])
def test_a_time_that_cannot_be_read_is_between_beginning_and_end(tmp_path, centre):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(CenterTime=centre)))
    assert scene.acquired == datetime(2015, 8, 5, 3, 50, 2, 500000, tzinfo=UTC)
    assert f"{ID}-MSS1.xml: CenterTime is '{centre}', no time; StartTime and EndTime are taken" in scene.warnings
    with pytest.raises(ProductError, match=f"CenterTime is '{centre}'; expected a time such as"):
        scene_of(write_product(tmp_path / "q", xml=changed(CenterTime=centre, StartTime="never")))


@pytest.mark.parametrize(
    "time", ["2015-8-5 11:50:02", "2015/8/5 11:50:02", "2015-08-05 03:50:02 UTC", "2015-08-05 03:50:02.0 GMT"]
)
def test_times_as_people_write_them(tmp_path, time):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(CenterTime=time)))
    assert (scene.acquired, scene.warnings) == (UTC_TIME, ())


@pytest.mark.parametrize(
    ("start", "end", "seconds", "doubt"),
    [
        ("11:50:00", "11:50:05", 2.5, False),
        ("11:50:00", "00:00:00", 0, True),
        ("11:50:00", "11:49:00", 0, True),
        ("11:50:00", "13:50:00", 0, True),
        ("11:50:00", "", 0, False),
    ],
)
def test_an_end_that_cannot_be_does_not_move_the_time(tmp_path, start, end, seconds, doubt):
    xml = changed(CenterTime="", StartTime=f"2015-08-05 {start}", EndTime=end and f"2015-08-05 {end}")
    scene = scene_of(write_product(tmp_path / ID, xml=xml))
    assert (scene.acquired - datetime(2015, 8, 5, 3, 50, tzinfo=UTC)).total_seconds() == seconds
    told = [w for w in scene.warnings if f"EndTime 2015-08-05 {end} is no end of an image that began at" in w]
    assert bool(told) == doubt


def test_an_image_over_midnight_may_end_on_the_day_it_began(tmp_path):
    # at 24 hours of China's clock the sun is up over the Atlantic
    rpb = RPB.replace("longOffset =  103.5", "longOffset =  -59.5")
    times = {"CenterTime": "", "StartTime": "2015-08-05 23:59:58", "EndTime": "2015-08-05 00:00:02"}
    xml = changed(**times, SolarAzimuth="", SolarZenith="", TopLeftLatitude="")
    scene = scene_of(write_product(tmp_path / ID, xml=xml, rpb=rpb))
    assert scene.acquired == datetime(2015, 8, 5, 16, tzinfo=UTC)
    assert not any("is no end" in w for w in scene.warnings)


@pytest.mark.parametrize(("level", "told"), [("LEVEL2A", True), ("level1a", False), ("", False)])
def test_pan_and_mss_of_two_levels_are_told(tmp_path, level, told):
    scene = scene_of(rewrite(write_product(tmp_path / ID), "PAN1", ProductLevel=level))
    assert scene.level == "LEVEL1A"
    said = (
        f"{ID}-MSS1.xml says that the image is of level LEVEL1A, {ID}-PAN1.xml that it is of LEVEL2A; images of two "
        "levels need not lie alike: get both of one level, or look at the registration"
    )
    assert scene.warnings == ((said,) if told else ())


# year and sensor, which decide the gains ------------------------------------------------------------------------------


def test_a_year_that_is_not_that_of_the_name_is_told(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=XML.replace("2015-08-05", "2018-08-05")))
    assert scene.images["mss"].calibration_source == "table 2018"
    assert [w for w in scene.warnings if "the product's name" in w] == [
        f"{ID}-MSS1.xml says that the image was taken on 2018-08-05, the product's name on 2015-08-05; the XML is "
        "believed, and a table's gains are those of its year"
    ]


@pytest.mark.parametrize("day", ["20150804", "20150805", "20150806"])
def test_a_day_of_another_zone_is_no_contradiction(tmp_path, day):
    id = ID.replace("20150805", day)
    assert scene_of(write_product(tmp_path / id, id=id)).warnings == ()


def test_a_name_without_a_day_is_told(tmp_path):
    id = ID.replace("20150805", "20151399")
    assert (
        "the product's name says that it was taken on 20151399, which is no day"
        in scene_of(write_product(tmp_path / id, id=id)).warnings
    )


@pytest.mark.parametrize("time", ["2018-08-05 11:50:02", "2018-08-05T03:50:02Z", "2015-08-05 12:50:02"])
def test_pan_of_another_time_is_told(tmp_path, time):
    scene = scene_of(rewrite(write_product(tmp_path / ID), "PAN1", CenterTime=time))
    assert scene.acquired == UTC_TIME
    assert scene.images["pan"].calibration_source == "table 2015"
    (said,) = scene.warnings
    assert f"{ID}-PAN1.xml at {time[:10]}" in said
    assert said.endswith(f"{ID}-MSS1.xml is believed for both")


def test_a_time_of_pan_that_cannot_be_read_does_not_matter(tmp_path):
    folder = rewrite(write_product(tmp_path / ID), "PAN1", CenterTime="x", StartTime="", EndTime="y")
    assert scene_of(folder).warnings == ()


def test_a_satellite_that_is_not_that_of_the_name_is_told(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(SatelliteID="GF2")))
    assert scene.instrument == "GF2 PMS1"
    assert scene.warnings == (
        f"{ID}-MSS1.xml says that the sensor is GF2_PMS1, the product's name that it is GF1_PMS1; GF2_PMS1 is taken, "
        "with its gains",
    )


def test_a_satellite_that_is_not_that_of_the_other_xml_is_told(tmp_path):
    scene = scene_of(rewrite(write_product(tmp_path / ID), "PAN1", SatelliteID="GF2"))
    assert scene.instrument == "GF1 PMS1"
    assert any(f"{ID}-PAN1.xml that it is GF2_PMS1; GF1_PMS1 is taken" in w for w in scene.warnings)


def test_the_name_tells_which_of_two_cameras(tmp_path):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(SensorID="PMS")))
    assert (scene.instrument, scene.warnings) == ("GF1 PMS1", ())


def test_gains_of_two_sources_are_told(tmp_path):
    folder = rewrite(write_product(tmp_path / ID), "MSS1", AbsCeof="0.1458,0.1213,0.123,0.1185")
    said = [w for w in scene_of(folder).warnings if "not of one source" in w]
    assert said == [
        "the gains are not of one source: mss by XML AbsCeof and pan by table 2015; PAN and MSS may differ by some "
        "percent"
    ]


@pytest.mark.parametrize("written", ["93.7", "-3.7", "steep"])
def test_a_view_angle_that_is_none_is_told(tmp_path, written):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(SatelliteZenith=written)))
    assert scene.view_zenith is None
    assert any(f"SatelliteZenith is '{written}', no angle from 0 to 90 degrees" in w for w in scene.warnings)


@pytest.mark.parametrize("written", ["23.40 deg", "23.4 degrees", "23.4°"])
def test_units_behind_numbers_do_not_matter(tmp_path, written):
    scene = scene_of(write_product(tmp_path / ID, xml=changed(SolarZenith=written)))
    assert (scene.sun_zenith, scene.warnings) == (23.4, ())


# images ---------------------------------------------------------------------------------------------------------------


def test_a_product_without_pan_is_a_scene_with_a_warning(tmp_path):
    folder = write_product(tmp_path / ID)
    for file in folder.glob("*PAN1*"):
        file.unlink()
    scene = scene_of(folder)
    assert list(scene.images) == ["mss"]
    assert scene.warnings == ("there is no PAN1 image; nothing can be fused",)


@pytest.mark.parametrize(("written", "bits"), [("11", 11), ("", None), ("1e9", None)])
def test_the_product_tells_the_bits_that_the_table_does_not(tmp_path, written, bits):
    id = ID.replace("GF1_PMS1", "GF6_PMS").replace("2015", "2020")
    xml = changed(SatelliteID="GF6", SensorID="PMS", ValidPixelBits=written).replace("2015-08-05", "2020-08-05")
    scene = scene_of(write_product(tmp_path / id, id=id, xml=xml, suffixes=("MUX", "PAN")))
    assert scene.bit_depth == bits
    assert any("only numbers that pile up are flagged" in w for w in scene.warnings) == (bits is None)
    if bits:
        dn = np.full((1, 1, 1), 2**bits - 1, "uint16")
        flags = quality_flags(dn, np.ones((1, 1, 1), "float32"), np.ones((1, 1), bool), bit_depth=scene.bit_depth)
        assert flags[0, 0] & Quality.SATURATED


def test_the_table_comes_before_the_bits_of_the_product(tmp_path):
    assert scene_of(write_product(tmp_path / ID, xml=changed(ValidPixelBits="12"))).bit_depth == 10
