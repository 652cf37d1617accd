"""TripleSat and Vision-1: bundles with the image's name in the middle of their files' names."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geo.errors import ProductError
from geo.reflectance import write_reflectance
from geo.sensors import Given, open_product, rpb, rpc_text
from tests.handmade import RPB, write_raster
from tests.handmade_bundle import BANDS, REST, RPC_TXT, SCENE_META, dimap, write_bundle

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
MOMENT = datetime(2019, 11, 7, 2, 19, 47, tzinfo=UTC)


def scene_of(folder, **options):
    with open_product(folder, **options) as scene:
        return scene


# TripleSat ------------------------------------------------------------------------------------------------------------


def test_a_triplesat_bundle_is_understood(tmp_path):
    scene = scene_of(write_bundle(tmp_path / "p"))
    assert (scene.id, scene.instrument) == (f"TRIPLESAT_2_MS_{REST}", "TRIPLESAT PMS")
    assert scene.acquired == MOMENT
    assert (scene.sun_zenith, scene.sun_azimuth) == (pytest.approx(90 - 30.48), 137.35)
    assert scene.sun.zone == "as written"
    assert scene.sun.reading == "elevation"
    assert (scene.view_zenith, scene.view_azimuth) == (pytest.approx(8.1), 82.1)
    assert scene.centre == pytest.approx((103.5, 31.3))
    assert (scene.bit_depth, scene.cloud_percent, scene.level) == (10, 3, "RAW")
    mss, pan = scene.images["mss"], scene.images["pan"]
    assert (mss.bands, mss.gsd_m, mss.shape) == (BANDS, 3.2, (5, 7))
    assert (pan.bands, pan.gsd_m, pan.shape) == (("pan",), 0.8, (20, 28))
    assert mss.esun == (2005.35, 1829.56, 1617.65, 1042.3)
    assert pan.wavelengths_um == ((0.45, 0.65),)
    assert mss.rpcs.samp_off == 3.123456789012345
    # L = DN / gain + bias
    assert mss.gain == (0.125,) * 4
    assert mss.calibration_source == "XML PHYSICAL_GAIN"
    assert "L = DN / gain + bias" in mss.calibration_detail
    assert scene.warnings == ()


def test_the_files_that_were_read_are_known(tmp_path):
    folder = write_bundle(tmp_path / "p")
    images = [f for f in folder.iterdir() if f.suffix != ".jpg"]
    assert sorted(set(scene_of(folder).files)) == sorted(images)


def test_the_root_of_gaofen_products_is_known_too(tmp_path):
    product = (
        "<ProductMetaData><SatelliteID>TRIPLESAT_2</SatelliteID><CenterTime>2019-11-07 10:19:47</CenterTime>"
        "<SolarAzimuth>137.35</SolarAzimuth><SolarZenith>59.5</SolarZenith>"
        "<CenterLatitude>31.3</CenterLatitude><CenterLongitude>103.5</CenterLongitude></ProductMetaData>"
    )
    scene = scene_of(write_bundle(tmp_path / "p", meta=None, product=product))
    assert (scene.acquired, scene.sun_zenith, scene.sun.zone) == (MOMENT, 59.5, "UTC+8")


def test_without_sun_angles_the_name_tells_the_zone(tmp_path):
    # Begin_Time is 10:19 without a zone, the name says 02:19 in UTC
    scene = scene_of(write_bundle(tmp_path / "p", product=None))
    assert scene.acquired == MOMENT
    assert scene.sun.zone == "UTC+8"
    assert "the product's name" in scene.sun.zone_reason
    in_utc = scene_of(write_bundle(tmp_path / "q", product=None, meta=SCENE_META.replace(" 10:", " 02:")))
    assert (in_utc.acquired, in_utc.sun.zone) == (MOMENT, "UTC")
    assert in_utc.sun_zenith == pytest.approx(59.5, abs=0.1)


def test_a_time_that_nobody_writes_is_that_of_the_name(tmp_path):
    meta = SCENE_META.replace("2019-11-07 10:19:46", "").replace("2019-11-07 10:19:48", "")
    assert scene_of(write_bundle(tmp_path / "p", product=None, meta=meta)).acquired == MOMENT


@pytest.mark.parametrize(
    ("begin", "end", "time", "doubt"),
    [
        ("10:19:46", "00:00:00", (2, 19, 46), "End_Time 2019-11-07 00:00:00 is no end"),
        ("10:19:46", "12:19:46", (2, 19, 46), "the beginning is taken"),
        ("10:19:46", "soon", (2, 19, 46), "End_Time 2019-11-07 soon is no end"),
        ("10:19:46", "10:19:52", (2, 19, 49), None),
    ],
)
def test_an_end_that_cannot_be_does_not_move_the_time(tmp_path, begin, end, time, doubt):
    meta = SCENE_META.replace("10:19:46", begin).replace("10:19:48", end)
    scene = scene_of(write_bundle(tmp_path / "p", product=None, meta=meta))
    assert scene.acquired == datetime(2019, 11, 7, *time, tzinfo=UTC)
    assert any(doubt in w for w in scene.warnings) if doubt else not any("is no end" in w for w in scene.warnings)


def test_a_time_that_is_not_that_of_the_name_is_told(tmp_path):
    folder = write_bundle(tmp_path / "p")
    xml = folder / f"TRIPLESAT_2_MS_{REST}.xml"
    xml.write_text(dimap(BANDS, time="2019-11-07T03:19:46Z", stop="2019-11-07T03:19:48Z"))
    scene = scene_of(folder)
    assert scene.acquired == datetime(2019, 11, 7, 3, 19, 47, tzinfo=UTC)
    assert any(
        "taken at 2019-11-07 03:19:47 UTC, the product's name at 2019-11-07 02:19:47;" in w for w in scene.warnings
    )
    xml.write_text(dimap(BANDS, time="at night"))
    scene = scene_of(folder)
    assert scene.acquired == MOMENT
    assert any("IMAGING_START_TIME is 'at night'" in w and "the product's name is taken" in w for w in scene.warnings)


def test_a_centre_far_from_the_camera_is_not_believed(tmp_path):
    meta = SCENE_META.replace("<Central_Lat>31.3<", "<Central_Lat>0<").replace("<Central_Lon>103.5<", "<Central_Lon>0<")
    scene = scene_of(write_bundle(tmp_path / "p", meta=meta))
    assert scene.centre == pytest.approx((103.5, 31.3))
    assert scene.sun.reading == "elevation"
    assert any("the RPC is believed" in w for w in scene.warnings)


def test_without_gains_it_stays_in_digital_numbers_and_says_so(tmp_path):
    with open_product(write_bundle(tmp_path / "p", product=None)) as scene:
        assert {image.gain for image in scene.images.values()} == {None}
        assert {image.calibration_source for image in scene.images.values()} == {
            "none: digital numbers, not reflectance"
        }
        (said,) = [w for w in scene.warnings if "digital numbers" in w]
        assert "no PHYSICAL_GAIN for blue, green, red, nir in TRIPLESAT_2_MS" in said
        assert "give gain and bias to calibrate them" in said
        write_reflectance(scene, tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        stored = src.read()[0, 0, 0] * src.scales[0] + src.offsets[0]
    assert stored == pytest.approx(100 * 1e-4)


def test_one_image_without_gains_leaves_the_other_in_digital_numbers_too(tmp_path):
    folder = write_bundle(tmp_path / "p")
    pan = folder / f"TRIPLESAT_2_PAN_{REST}.xml"
    pan.write_text(pan.read_text().replace("<PHYSICAL_GAIN>8.0<", "<PHYSICAL_GAIN>NULL<"))
    assert {image.gain for image in scene_of(folder).images.values()} == {None}


@pytest.mark.parametrize("gain", ["0.0625", "0.01", "100000", "0", "-8", "nan", "x"])
def test_a_gain_that_cannot_be_is_not_used(tmp_path, gain):
    # 0.0625, by L = DN / gain, would make DN 1023 a reflectance of 26
    folder = write_bundle(tmp_path / "p")
    for name, bands in (("MS", BANDS), ("PAN", ("pan",))):
        (folder / f"TRIPLESAT_2_{name}_{REST}.xml").write_text(dimap(bands, gain=gain))
    scene = scene_of(folder)
    assert scene.images["mss"].gain is None
    assert any("stay in digital numbers" in w for w in scene.warnings)


def test_the_user_gives_gains(tmp_path):
    folder = write_bundle(tmp_path / "p", product=None)
    scene = scene_of(folder, given=Given([0.1, 0.2, 0.3, 0.4, 0.5], [1, 2, 3, 4, -5]))
    assert scene.images["mss"].gain == (0.1, 0.2, 0.3, 0.4)
    assert (scene.images["pan"].gain, scene.images["pan"].bias) == ((0.5,), (-5,))
    assert scene.images["pan"].calibration_source == "given"
    assert not any("digital numbers" in w for w in scene.warnings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given([0.1] * 4), r"gain has 4 values, expected 5 \(blue, green, red, nir, pan\)"),
        (Given([0.1] * 5, [0.0]), "bias has 1 values, expected 5"),
        (Given([0.1, 0.1, 0.1, 0.1, 0]), "expected positive numbers"),
        (Given([0.1] * 5, [0, 0, 0, 0, float("inf")]), "expected finite numbers"),
    ],
)
def test_gains_of_the_user_that_cannot_be(tmp_path, given, message):
    with pytest.raises(ProductError, match=message):
        scene_of(write_bundle(tmp_path / "p"), given=given)


def test_the_metadata_names_the_order_of_the_bands(tmp_path):
    folder = write_bundle(tmp_path / "p")
    (folder / f"TRIPLESAT_2_MS_{REST}.xml").write_text(dimap(("NIR", "RED", "GREEN", "BLUE")))
    image = scene_of(folder).images["mss"]
    assert image.bands == ("nir", "red", "green", "blue")
    assert image.esun == (1042.3, 1617.65, 1829.56, 2005.35)
    assert image.wavelengths_um[0] == (0.76, 0.91)


@pytest.mark.parametrize("end", ["_rpc.txt", "_RPC.TXT", "_rpc.TXT", "_RPC.txt", ".rpc", ".RPB"])
def test_the_camera_lies_in_a_file_of_any_case(tmp_path, end):
    rpc = RPB if end == ".RPB" else RPC_TXT
    scene = scene_of(write_bundle(tmp_path / "p", rpc_end=end, rpc=rpc))
    assert scene.images["mss"].rpcs.to_dict() | {"err_bias": None, "err_rand": None} == rpb.parse(RPB).to_dict() | {
        "err_bias": None,
        "err_rand": None,
    }


def test_metadata_named_after_the_bundle_serves_both(tmp_path):
    folder = write_bundle(tmp_path / "p", product=None, meta=None)
    (folder / "TRIPLESAT_2_PMS_20191107021947_001FFCVI_002_meta.xml").write_text(SCENE_META)
    assert scene_of(folder).acquired == MOMENT


def test_numbers_behind_the_time_may_differ_between_the_images(tmp_path):
    other = "L1_20191107021947_001FFCVI_002_0120200811001001_002"
    scene = scene_of(write_bundle(tmp_path / "p", pan_rest=other))
    assert scene.images["pan"].path.stem == f"TRIPLESAT_2_PAN_{other}"


def test_images_may_lie_in_folders_of_their_own(tmp_path):
    folder = write_bundle(tmp_path / "p")
    for name in ("MS", "PAN"):
        (folder / name).mkdir()
        for file in folder.glob(f"TRIPLESAT_2_{name}_*"):
            file.rename(folder / name / file.name)
    assert set(scene_of(folder).images) == {"mss", "pan"}


def test_an_mss_without_pan_is_a_scene_with_a_warning(tmp_path):
    scene = scene_of(write_bundle(tmp_path / "p", names=("MS", None)))
    assert list(scene.images) == ["mss"]
    assert any("no PAN image; nothing can be fused" in w for w in scene.warnings)


def test_two_products_and_the_xml_of_one(tmp_path):
    folder = write_bundle(tmp_path / "p")
    later = REST.replace("021947", "021950")
    write_bundle(folder, rest=later)
    with pytest.raises(ProductError, match=r"holds 2 products \(.*\); give the folder of one of them, or one of its"):
        scene_of(folder)
    assert scene_of(folder / f"TRIPLESAT_2_PAN_{later}.xml").id == f"TRIPLESAT_2_MS_{later}"


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("MS_*.tif", r"holds no MS image of TRIPLESAT_PMS; expected one such as TRIPLESAT_1_MS_<id>.tif"),
        ("MS_*_rpc.txt", r"lacks TRIPLESAT_2_MS_.*_rpc.txt, the camera model"),
        ("*.tif", r"holds no image; expected files such as TRIPLESAT_1_MS_<id>.tif"),
        ("*.xml", r"lacks TRIPLESAT_2_MS_.*_meta.xml, the metadata of"),
    ],
)
def test_what_is_missing_is_named(tmp_path, lost, message):
    folder = write_bundle(tmp_path / "p")
    for file in folder.glob(f"TRIPLESAT_2_{lost}"):
        file.unlink()
    with pytest.raises(ProductError, match=message):
        scene_of(folder)


def test_metadata_of_the_scene_that_is_damaged_beside_that_of_the_image(tmp_path):
    folder = write_bundle(tmp_path / "p")
    name = f"TRIPLESAT_2_MS_{REST}_meta.xml"
    (folder / name).write_bytes(b"")
    scene = scene_of(folder)
    assert (scene.acquired, scene.images["mss"].gain) == (MOMENT, (0.125,) * 4)
    assert any(w.startswith(f"{name} is empty (0 bytes)") for w in scene.warnings)
    (folder / f"TRIPLESAT_2_MS_{REST}.xml").unlink()
    with pytest.raises(ProductError, match=rf"{name} is empty \(0 bytes\)"):
        scene_of(folder)


@pytest.mark.parametrize("end", [".xml", "_rpc.txt"])
def test_empty_sidecars(tmp_path, end):
    folder = write_bundle(tmp_path / "p")
    (folder / f"TRIPLESAT_2_MS_{REST}{end}").write_bytes(b"")
    with pytest.raises(ProductError, match=rf"TRIPLESAT_2_MS_.*{end} is empty \(0 bytes\)"):
        scene_of(folder)


def test_tiles_are_told_how_to_be_joined(tmp_path):
    folder = write_bundle(tmp_path / "p")
    whole = folder / f"TRIPLESAT_2_MS_{REST}.tif"
    for tile in ("R1C1", "R1C2"):
        shutil.copy(whole, whole.with_name(f"{whole.stem}_{tile}.tif"))
    whole.unlink()
    with pytest.raises(ProductError, match=r"lies in 2 files .*`gdalbuildvrt"):
        scene_of(folder)


# Vision-1 -------------------------------------------------------------------------------------------------------------

VISION = "20191107021947_PRJ_103935_14e5"


def vision(folder, **options):
    folder = write_bundle(
        folder, prefix="VIS1", names=("MS4", "PAN"), rest=VISION, rpc_end=".rpc", meta=None, product=None, **options
    )
    return folder


def write_vision(tmp_path, processing="PROJECTED", **options):
    folder = vision(tmp_path / "v", **options)
    for name, bands, shape in (("MS4", BANDS, (5, 7)), ("PAN", ("pan",), (20, 28))):
        text = dimap(bands, gain=0.01, processing=processing, shape=shape, root="Metadata_Document")
        (folder / f"VIS1_{name}_{VISION}_Meta.xml").write_text(text)
    return folder


def test_a_vision_bundle_multiplies_its_gain(tmp_path):
    scene = scene_of(write_vision(tmp_path))
    assert scene.instrument == "VISION1 PMS"
    assert scene.images["mss"].gain == (0.01,) * 4
    assert scene.images["mss"].calibration_detail.endswith("L = gain * DN + bias")


def test_a_projected_image_keeps_its_camera_and_loses_its_place(tmp_path):
    # such an image lies on a map, but was projected to a plain: the RPC alone knows the relief
    place = {"crs": "EPSG:4326", "transform": Affine(3e-5, 0, 103.4, 0, -3e-5, 31.4)}
    with open_product(write_vision(tmp_path, **place)) as scene:
        write_reflectance(scene, tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        assert src.crs is None
        assert src.rpcs.lat_off == 31.3


def test_pan_and_mss_of_two_levels_are_told(tmp_path):
    folder = write_vision(tmp_path)
    assert not any("level" in warning for warning in scene_of(folder).warnings)
    file = folder / f"VIS1_PAN_{VISION}_Meta.xml"
    file.write_text(file.read_text().replace("PROJECTED", "ORTHORECTIFIED"))
    told = [warning for warning in scene_of(folder).warnings if "level" in warning]
    assert told == [
        f"VIS1_MS4_{VISION}_Meta.xml says that the image is of level PROJECTED, VIS1_PAN_{VISION}_Meta.xml that it is "
        "of ORTHORECTIFIED; images of two levels need not lie alike: get both of one level, or look at the registration"
    ]


def test_an_orthorectified_image_keeps_its_place(tmp_path):
    place = {"crs": "EPSG:4326", "transform": Affine(3e-5, 0, 103.4, 0, -3e-5, 31.4)}
    with open_product(write_vision(tmp_path, "ORTHORECTIFIED", **place)) as scene:
        assert scene.images["mss"].rpcs is None
        write_reflectance(scene, tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        assert src.crs.to_epsg() == 4326
        assert src.rpcs is None


# _rpc.txt -------------------------------------------------------------------------------------------------------------


def test_rpc_text_is_read_as_gdal_reads_it(tmp_path):
    write_raster(tmp_path / "a.tif", np.ones((1, 2, 2), "uint8"))
    (tmp_path / "a_rpc.txt").write_text(RPC_TXT)
    with rasterio.open(tmp_path / "a.tif") as src:
        theirs = src.rpcs.to_dict()
    ours = rpc_text.read(tmp_path / "a_rpc.txt").to_dict()
    for term, value in theirs.items():
        if not term.startswith("err"):
            np.testing.assert_allclose(ours[term], value, rtol=1e-14, err_msg=term)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RPC_TXT.replace("LAT_SCALE: +00.2", "LAT_SCALE: +00.0"), "lacks a usable LAT_SCALE"),
        (RPC_TXT.replace("LINE_NUM_COEFF_7:", "LINE_NUM_COEFF_77:"), "lacks a usable LINE_NUM_COEFF_1 to 20"),
        (RPC_TXT.replace("SAMP_OFF: +000003", "SAMP_OFF: +x"), "lacks a usable SAMP_OFF"),
        ("hello", "lacks a usable LINE_OFF, SAMP_OFF, .*SAMP_DEN_COEFF_1 to 20"),
    ],
)
def test_rpc_text_that_is_wrong(text, message):
    with pytest.raises(ProductError, match=message):
        rpc_text.parse(text)


# delivered products ---------------------------------------------------------------------------------------------------


def real(tmp_path, key: str, *images: str) -> Path:
    folder = REALDATA / "gf_metadata" / "Vision-1"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set GEOCRACK_REALDATA")
    for file in folder.glob(f"*{key}*"):
        shutil.copy(file, tmp_path)
    for image in images:
        (tmp_path / image).write_bytes(b"")  # the images were not collected
    return tmp_path


@pytest.mark.realdata
def test_real_projected_vision(tmp_path):
    stem = "VIS1_{}_20200722023318_PRJ_103935_14e5.jp2"
    scene = scene_of(real(tmp_path, "PRJ_103935", stem.format("MS4"), stem.format("PAN")))
    assert scene.acquired == datetime(2020, 7, 22, 2, 33, 19, 500000, tzinfo=UTC)
    assert scene.sun_zenith == pytest.approx(90 - 58.70302)
    assert scene.sun.computed_zenith == pytest.approx(scene.sun_zenith, abs=0.1)
    assert scene.sun.computed_azimuth == pytest.approx(scene.sun_azimuth, abs=0.2)
    assert (scene.view_zenith, scene.view_azimuth) == (pytest.approx(8.08707), 82.17336)
    assert scene.centre == pytest.approx((119.890375, -1.019995))
    mss, pan = scene.images["mss"], scene.images["pan"]
    assert (mss.shape, pan.shape) == ((7274, 7424), (29096, 29698))
    assert (mss.gsd_m, pan.gsd_m) == (3.48, 0.87)
    assert mss.gain == (0.01,) * 4
    assert mss.rpcs.line_num_coeff[2] == -1.006108649121513e00
    assert pan.rpcs.samp_off == 14849.5
    assert mss.sensor_geometry


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("key", "images", "acquired"),
    [
        (
            "ORT_103091",
            ["VIS1_MS4_20200722023318_ORT_103091_14e5.jp2", "VIS1_PAN_20200722023318_ORT_103091_14e5.jp2"],
            datetime(2020, 7, 22, 2, 33, 22, tzinfo=UTC),
        ),
        (
            "S105354",
            ["VIS1_MS4_20210114224140_ORTP_S105354_1e08.tif", "VIS1_PAN_20210114224140_ORTP_S105354_1e08.tif"],
            datetime(2021, 1, 14, 22, 41, 44, 500000, tzinfo=UTC),
        ),
        (
            "S105563",
            ["VIS1_PSH_20200722023318_ORTP_S105563_14e5.tif"],
            datetime(2020, 7, 22, 2, 33, 22, 500000, tzinfo=UTC),
        ),
        ("103280", ["VIS1_PMS4_20200722023318_ORT_103280_14e5.jp2"], datetime(2020, 7, 22, 2, 33, 25, tzinfo=UTC)),
    ],
)
def test_real_orthorectified_vision(tmp_path, key, images, acquired):
    scene = scene_of(real(tmp_path, key, *images))
    assert scene.acquired == acquired
    assert len(scene.images) == len(images)
    for image in scene.images.values():
        assert image.rpcs is None
        assert set(image.gain) == {0.01}
    assert abs(scene.sun.computed_zenith - scene.sun_zenith) < 0.15
    assert all("is empty (0 bytes)" in w or "bit depth" in w for w in scene.warnings)


@pytest.mark.realdata
def test_real_folder_of_many_products(tmp_path):
    folder = real(
        tmp_path, "VIS1", *(f"VIS1_MS4_20200722023318_{rest}_14e5.jp2" for rest in ("PRJ_103935", "ORT_103091"))
    )
    with pytest.raises(ProductError, match=r"holds 2 products .*or one of its .xml"):
        scene_of(folder)
    chosen = scene_of(folder / "VIS1_MS4_20200722023318_ORT_103091_14e5_Meta.xml")
    assert chosen.level == "ORTHORECTIFIED"
