"""Whole images: digital numbers in, reflectance and quality out, by values worked by hand."""

import math
import threading

import numpy as np
import pytest
import rasterio
from affine import Affine

from geo import clouds, digital_numbers, reflectance
from geo.clouds import CloudMap
from geo.errors import OutputExistsError, ProductError, RasterError
from geo.masks import Quality
from geo.raster import open_raster, read
from geo.reflectance import write_reflectance
from geo.sensors import GenericProduct, open_product, rpb
from geo.surface import Surface
from tests.handmade import ID, RPB, XML, change, of_pan, write_product, write_raster

UTM = {"crs": "EPSG:32648", "transform": Affine(8, 0, 357000, 0, -8, 3464000)}


def run(product, folder, **options):
    with open_product(product) as scene:
        return write_reflectance(scene, folder, **options)[0]


def values_of(path):
    with open_raster(path) as src:
        return read(src)


def test_reflectance_by_hand(tmp_path):
    # 5 August 2015, sun zenith 23.40, d = 1.0145 AU; PMS1 of 2015
    mss = np.zeros((4, 5, 7), "uint16")
    mss[:, 1, 2] = (100, 200, 300, 400)
    mss[:, 4, 6] = (1023, 1, 0, 1)
    pan = np.zeros((1, 19, 28), "uint16")
    pan[0, 18, 27] = 500
    found = run(write_product(tmp_path / ID, mss=mss, pan=pan), tmp_path / "out")

    factor = math.pi * 1.0145**2 / math.cos(math.radians(23.40))  # 3.5231
    expected = [
        factor * 21.10 / 1945.29,  # 0.0382
        factor * 36.04 / 1854.10,  # 0.0685
        factor * 54.18 / 1542.90,  # 0.1237
        factor * 74.80 / 1080.77,  # 0.2438
    ]
    assert expected == pytest.approx([0.0382, 0.0685, 0.1237, 0.2438], abs=5e-5)
    values, valid = values_of(tmp_path / "out" / "mss.tif")
    assert valid.sum() == 2
    assert values[:, 1, 2] == pytest.approx(expected, abs=6e-5)
    assert values[0, 4, 6] == pytest.approx(factor * 1023 * 0.2110 / 1945.29, abs=8e-5)
    assert values[2, 4, 6] == pytest.approx(0, abs=1e-6)  # one band may be 0
    values, valid = values_of(tmp_path / "out" / "pan.tif")
    assert valid.sum() == 1
    assert values[0, 18, 27] == pytest.approx(factor * 500 * 0.1956 / 1371.79, abs=6e-5)

    with rasterio.open(tmp_path / "out" / "mss.quality.tif") as src:
        flags = src.read(1)
        assert (src.dtypes[0], src.nodata, src.shape) == ("uint8", None, (5, 7))
    assert flags[0, 0] == Quality.NODATA
    assert flags[1, 2] == 0
    assert flags[4, 6] == Quality.SATURATED
    assert found["mss"]["valid_share"] == pytest.approx(2 / 35, abs=1e-6)
    assert found["mss"]["saturated_share"] == 0.5
    assert found["mss"]["highest_dn"] == 1023
    assert found["mss"]["earth_sun_distance_au"] == pytest.approx(1.0145, abs=1e-4)
    assert found["pan"]["calibration_source"] == "table 2015"


def test_negative_radiance_is_kept_and_flagged(tmp_path):
    # 2013: nir 0.1883 * 40 - 9.4771 = -1.9451
    mss = np.full((4, 5, 7), 40, "uint16")
    folder = write_product(tmp_path / ID, xml=XML.replace("2015-08-05", "2013-08-05"), mss=mss)
    found = run(folder, tmp_path / "out")
    values, valid = values_of(tmp_path / "out" / "mss.tif")
    with open_product(folder) as scene:
        zenith = scene.sun_zenith
    expected = math.pi * 1.0145**2 / math.cos(math.radians(zenith)) * -1.9451 / 1080.77
    assert valid.all()
    assert values[3, 0, 0] == pytest.approx(expected, abs=6e-5)
    assert expected == pytest.approx(-0.0063, abs=5e-5)
    with rasterio.open(tmp_path / "out" / "mss.quality.tif") as src:
        assert set(np.unique(src.read())) == {int(Quality.NEGATIVE)}
    assert found["mss"]["negative_share"] == 1


def test_camera_model_names_and_tags_are_kept(tmp_path):
    run(write_product(tmp_path / ID), tmp_path / "out")
    for key, bands, rpc in (("mss", ("blue", "green", "red", "nir"), RPB), ("pan", ("pan",), of_pan(RPB))):
        expected = rpb.parse(rpc).to_dict() | {"err_rand": -1}  # rasterio writes an error of 0 as not known
        with rasterio.open(tmp_path / "out" / f"{key}.tif") as src:
            assert src.crs is None
            assert src.descriptions == bands
            assert (src.dtypes[0], src.nodata, src.scales[0], src.offsets[0]) == ("uint16", 0, 1e-4, -0.1)
            tags = src.tags()
            for term, value in src.rpcs.to_dict().items():
                np.testing.assert_allclose(value, expected[term], rtol=1e-12, err_msg=term)
        assert tags["GEOCRACK_SCENE"] == ID
        assert tags["GEOCRACK_SENSOR"] == "GF1 PMS1"
        assert tags["GEOCRACK_ACQUIRED"] == "2015-08-05T03:50:02+00:00"
        assert float(tags["GEOCRACK_VIEW_ZENITH"]) == pytest.approx(3.733)
        with rasterio.open(tmp_path / "out" / f"{key}.quality.tif") as src:
            assert src.rpcs is not None
            assert src.tags()["GEOCRACK_SCENE"] == ID
    # the camera model is in the file itself: nothing lies beside it
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == [
        "mss.quality.tif",
        "mss.tif",
        "pan.quality.tif",
        "pan.tif",
    ]


def test_windows_and_threads_change_nothing(tmp_path, monkeypatch):
    dn = np.random.default_rng(0).integers(0, 1024, (4, 70, 90), "uint16")
    folder = write_product(tmp_path / ID, mss=dn)
    whole = run(folder, tmp_path / "whole", threads=1)
    monkeypatch.setattr(reflectance, "BLOCK", (16, 32))
    monkeypatch.setattr("geo.stream.cpus", lambda wanted=None: 4)
    parts = run(folder, tmp_path / "parts", threads=4)
    assert whole == parts
    for name in ("mss.tif", "mss.quality.tif"):
        with rasterio.open(tmp_path / "whole" / name) as a, rasterio.open(tmp_path / "parts" / name) as b:
            np.testing.assert_array_equal(a.read(), b.read())


def test_one_thread_reads(tmp_path, monkeypatch):
    # a GDAL dataset must not be read by two threads at once
    readers = set()
    original = digital_numbers.valid_dn

    def noted(*arguments, **named):
        readers.add(threading.get_ident())
        return original(*arguments, **named)

    monkeypatch.setattr(reflectance, "BLOCK", (2, 2))
    monkeypatch.setattr(digital_numbers, "valid_dn", noted)
    run(write_product(tmp_path / ID), tmp_path / "out", threads=2)
    assert len(readers) == 1


def test_all_nodata_leaves_nothing(tmp_path):
    for key in ("mss", "pan"):
        dn = {"mss": np.zeros((4, 5, 7), "uint16"), "pan": np.zeros((1, 19, 28), "uint16")}
        folder = write_product(tmp_path / key / ID, **{key: dn[key]})
        with pytest.raises(RasterError, match=r"holds nothing but nodata .*nothing was written"):
            run(folder, tmp_path / key / "out")
        assert not [f for f in (tmp_path / key / "out").rglob("*") if f.is_file()]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_wrong_band_count_names_the_expected_bands(tmp_path, count):
    folder = write_product(tmp_path / ID, mss=np.ones((count, 5, 7), "uint16"))
    with pytest.raises(RasterError, match=f"MSS1.tiff has {count} bands?; expected 4: blue, green, red, nir"):
        run(folder, tmp_path / "out")
    assert not [f for f in (tmp_path / "out").rglob("*") if f.is_file()]
    with open_product(folder) as scene:  # as `geocrack info` does, which reads no pixels
        told = [w for w in scene.warnings if f"{ID}-MSS1.tiff has {count} band" in w]
    assert told
    assert told[0].endswith("expected 4: blue, green, red, nir; as it is, it cannot be calibrated")


def test_empty_image(tmp_path):
    folder = write_product(tmp_path / ID)
    (folder / f"{ID}-PAN1.tiff").write_bytes(b"")
    with pytest.raises(RasterError, match=r"PAN1.tiff is empty \(0 bytes\).*copy or download it again"):
        run(folder, tmp_path / "out")
    assert not [f for f in (tmp_path / "out").rglob("*") if f.is_file()]


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9])
@pytest.mark.parametrize("profile", [{}, {"compress": "lzw"}, {"tiled": True, "blockxsize": 64, "blockysize": 64}])
def test_truncated_image(tmp_path, keep, profile):
    folder = write_product(tmp_path / ID)
    tiff = folder / f"{ID}-MSS1.tiff"
    # made elsewhere, because GDAL removes the sidecars of a file that it replaces
    dn = np.random.default_rng(0).integers(1, 1024, (4, 200, 200), "uint16")
    content = write_raster(tmp_path / "whole.tiff", dn, **profile).read_bytes()
    tiff.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(RasterError, match=r"MSS1.tiff (is truncated or damaged|cannot be read as a raster)"):
        run(folder, tmp_path / "out")
    assert not [f for f in (tmp_path / "out").rglob("*") if f.is_file()]


def test_sun_below_the_horizon_is_told_before_anything_is_written(tmp_path):
    xml = change(change(XML, "SolarZenith", ""), "SolarAzimuth", "")
    folder = write_product(tmp_path / ID, xml=xml.replace("2015-08-05 11:50:02", "2015-08-05 20:50:02"))
    with pytest.raises(ProductError, match="sun above the horizon"):
        run(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_outputs_that_are_there(tmp_path):
    folder = write_product(tmp_path / ID)
    run(folder, tmp_path / "out")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run(folder, tmp_path / "out")
    run(folder, tmp_path / "out", overwrite=True)


def test_a_generic_image_keeps_its_grid_and_scale(tmp_path):
    dn = np.full((4, 6, 8), 2500, "uint16")
    dn[:, 0, 0] = 0
    mss = write_raster(tmp_path / "a.tif", dn, **UTM)
    run(GenericProduct(mss), tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        assert src.crs.to_epsg() == 32648
        assert src.transform == UTM["transform"]
        assert src.rpcs is None
        assert "GEOCRACK_ACQUIRED" not in src.tags()
    values, valid = values_of(tmp_path / "out" / "mss.tif")
    assert valid.sum() == 47
    assert values[:, 5, 7] == pytest.approx([0.25] * 4, abs=1e-6)


def test_nodata_and_masks_of_generic_images(tmp_path):
    dn = np.full((1, 4, 5), 0.25, "float32")
    dn[0, 0, 0], dn[0, 0, 1] = np.nan, -9999
    path = write_raster(tmp_path / "a.tif", dn, nodata=-9999, **UTM)
    run(GenericProduct(path, bands=["red"], scale=1), tmp_path / "out")
    values, valid = values_of(tmp_path / "out" / "mss.tif")
    assert valid.sum() == 18
    assert values[0, 3, 3] == pytest.approx(0.25)

    rgba = np.full((4, 4, 5), 200, "uint8")
    rgba[3, 2, 2] = 0
    path = write_raster(tmp_path / "b.tif", rgba, photometric="RGB", alpha="yes", **UTM)
    found = run(GenericProduct(path, bands=["red", "green", "blue"], scale=1 / 255), tmp_path / "b")
    assert found["mss"]["valid_share"] == 19 / 20
    assert not values_of(tmp_path / "b" / "mss.tif")[1][2, 2]


def test_floats_of_reflectance_are_not_flattened(tmp_path):
    values = np.random.default_rng(0).uniform(0.02, 0.4, (4, 30, 30)).astype("float32")
    mss = write_raster(tmp_path / "a.tif", values, **UTM)
    with pytest.raises(
        ProductError, match=r"a.tif holds numbers from 0.0201 to 0.4; .* become \d on disk: .*`scale: 1`"
    ):
        run(GenericProduct(mss), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    run(GenericProduct(mss, scale=1), tmp_path / "out")
    np.testing.assert_allclose(values_of(tmp_path / "out" / "mss.tif")[0], values, atol=6e-5)


def test_digital_numbers_are_no_reflectance_without_a_scale(tmp_path):
    """The opposite fault: the scale that was given is not what is advised."""
    values = np.random.default_rng(0).integers(180, 3000, (4, 30, 30)).astype("uint16")
    mss = write_raster(tmp_path / "a.tif", values, **UTM)
    with pytest.raises(
        ProductError,
        match=r"become 1 on disk, for they are far above any reflectance: .* such as `scale: 0.0001`, or gain",
    ) as caught:
        run(GenericProduct(mss, scale=1), tmp_path / "out")
    assert "scale: 1`" not in str(caught.value)
    run(GenericProduct(mss), tmp_path / "out")


@pytest.mark.parametrize("dn", [np.full((4, 30, 30), 0.5), np.arange(3600).reshape(4, 30, 30) % 12 + 800])
def test_an_image_that_is_flat_by_itself_is_taken_as_it_is(tmp_path, dn):
    run(GenericProduct(write_raster(tmp_path / "a.tif", dn.astype("float32"), **UTM)), tmp_path / "out")


def test_percent_taken_as_reflectance_is_told(tmp_path, caplog):
    values = np.random.default_rng(0).uniform(2, 40, (4, 30, 30)).astype("float32")
    run(GenericProduct(write_raster(tmp_path / "a.tif", values, **UTM)), tmp_path / "out")
    assert "half of every band is below 0.005, which is darker than water" in caplog.text


@pytest.mark.parametrize("profile", [{"nodata": 65535}, {"dtype": "float32"}, {"dtype": "float32", "nodata": np.nan}])
def test_zero_fill_is_no_dark_object(tmp_path, profile):
    folder = scene_with_lake(tmp_path, np.random.default_rng(0))
    expected = run(folder, tmp_path / "plain", surface=Surface("dos1", dark_percent=1))
    for key in ("MSS1", "PAN1"):
        beside = {file: file.read_bytes() for file in folder.glob(f"{ID}-{key}.*") if file.suffix != ".tiff"}
        with rasterio.open(folder / f"{ID}-{key}.tiff") as src:
            dn, dtype = src.read(), profile.get("dtype", "uint16")
        write_raster(folder / f"{ID}-{key}.tiff", dn.astype(dtype), **{k: profile[k] for k in profile if k != "dtype"})
        for file, content in beside.items():
            file.write_bytes(content)
    found = run(folder, tmp_path / "out", surface=Surface("dos1", dark_percent=1))
    for key in ("mss", "pan"):
        assert found[key]["valid_share"] == expected[key]["valid_share"] < 1
        assert found[key]["surface"] == expected[key]["surface"]


def test_scale_tags_go_round(tmp_path):
    # our own reflectance given as a generic image comes out as it went in
    run(write_product(tmp_path / ID, mss=np.arange(1, 141, dtype="uint16").reshape(4, 5, 7)), tmp_path / "one")
    run(GenericProduct(tmp_path / "one" / "mss.tif"), tmp_path / "two")
    for name in ("mss.tif",):
        with rasterio.open(tmp_path / "one" / name) as a, rasterio.open(tmp_path / "two" / name) as b:
            np.testing.assert_array_equal(a.read(), b.read())


def test_given_gains(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.full((1, 4, 5), 100, "uint16"), **UTM)
    product = GenericProduct(
        path, bands=["red"], acquired="2015-08-05T03:50:02Z", gain=[0.5], bias=[10], esun=[1500], sun_zenith=60
    )
    run(product, tmp_path / "out")
    # pi * (0.5 * 100 + 10) * 1.0145**2 / (1500 * 0.5)
    expected = math.pi * 60 * 1.0145**2 / 750
    assert values_of(tmp_path / "out" / "mss.tif")[0][0, 0, 0] == pytest.approx(expected, abs=8e-5)


# --- the surface ------------------------------------------------------------------------------------------------------


def scene_with_lake(tmp_path, rng):
    """MSS of 40 x 60 and PAN of 158 x 240 pixels: ground of 200 DN and more, a dark lake, a black edge."""
    mss = rng.integers(200, 900, (4, 40, 60)).astype("uint16")
    mss[:, 5:15, 10:20] = np.array([90, 70, 60, 50])[:, None, None]
    pan = rng.integers(200, 900, (1, 158, 240)).astype("uint16")
    pan[:, 20:60, 40:80] = rng.integers(60, 81, (1, 40, 40))
    mss[:, :, 0], pan[:, :, :4] = 0, 0
    return write_product(tmp_path / ID, mss=mss, pan=pan)


@pytest.mark.parametrize("level", ["dos1", "cost"])
def test_the_dark_object_of_a_scene_reflects_one_percent(tmp_path, level, monkeypatch):
    monkeypatch.setattr(reflectance, "BLOCK", (16, 32))  # the histogram is gathered from windows
    folder = scene_with_lake(tmp_path, np.random.default_rng(0))
    found = run(folder, tmp_path / "out", surface=Surface(level, dark_percent=1))
    toa = run(folder, tmp_path / "toa")
    values, valid = values_of(tmp_path / "out" / "mss.tif")
    assert values[:, 10, 15] == pytest.approx([0.01] * 4, abs=1.1e-4)
    # one slope for all bands, PAN too
    slope = {"dos1": 1.0, "cost": 1 / (math.cos(math.radians(23.40)) * math.cos(math.radians(3.733)))}[level]
    for key in ("mss", "pan"):
        after, good = values_of(tmp_path / "out" / f"{key}.tif")
        before, _ = values_of(tmp_path / "toa" / f"{key}.tif")
        path = [b["path_reflectance"] for b in found[key]["surface"]["bands"].values()]
        expected = (before - np.array(path)[:, None, None]) * slope
        np.testing.assert_allclose(after[:, good], expected[:, good], atol=2e-4)
    assert toa["mss"]["surface"] == {"level": "toa"}
    assert valid.sum() == 40 * 59
    with rasterio.open(tmp_path / "out" / "pan.tif") as src:
        assert src.tags()["GEOCRACK_LEVEL"] == level


def test_pan_s_dark_object_is_as_large_as_that_of_the_bands(tmp_path):
    folder = scene_with_lake(tmp_path, np.random.default_rng(0))
    found = run(folder, tmp_path / "out", surface=Surface("dos1", dark_percent=1))
    band = found["pan"]["surface"]["bands"]["pan"]
    factor = math.pi * 1.0145**2 / math.cos(math.radians(23.40)) * 0.1956 / 1371.79
    # means of 4 x 4 pixels between 60 and 80 DN: not 60, which single pixels reach
    assert band["dark_reflectance"] == pytest.approx(factor * 67, abs=factor * 2)
    assert "means of 4 x 4 pixels" in found["pan"]["surface"]["source"]


def test_a_path_below_the_dark_object_flags_negative_ground(tmp_path):
    mss = np.random.default_rng(0).integers(300, 900, (4, 40, 60)).astype("uint16")
    mss[:, 3, 3] = 20
    found = run(write_product(tmp_path / ID, mss=mss), tmp_path / "out", surface=Surface("dos1", dark_percent=1))
    with rasterio.open(tmp_path / "out" / "mss.quality.tif") as src:
        flags = src.read(1)
    assert flags[3, 3] == Quality.NEGATIVE
    assert (flags == Quality.NEGATIVE).sum() == 1
    assert found["mss"]["negative_share"] == pytest.approx(1 / 2400, abs=1e-6)
    assert values_of(tmp_path / "out" / "mss.tif")[0][0, 3, 3] < 0


def test_an_empty_scene_is_told_by_name_at_the_surface_too(tmp_path):
    folder = write_product(tmp_path / ID, mss=np.zeros((4, 5, 7), "uint16"))
    with pytest.raises(RasterError, match=r"MSS1\.tiff holds nothing but nodata"):
        run(folder, tmp_path / "out", surface=Surface("dos1"))
    assert not [f for f in (tmp_path / "out").rglob("*") if f.is_file()]


def test_a_level_that_cannot_be_is_told_before_anything_is_written(tmp_path):
    mss = write_raster(tmp_path / "a.tif", np.full((4, 5, 7), 100, "uint16"), **UTM)
    with pytest.raises(ProductError, match="has no gain"):
        run(GenericProduct(mss), tmp_path / "out", surface=Surface("dos1"))
    assert not (tmp_path / "out").exists()


# --- saturation where the bits are not known --------------------------------------------------------------------------


def numbers_up_to(top, share, seed=0):
    """MSS of 60 x 80 pixels whose numbers fall off towards 1000, with a share of them at the top."""
    rng = np.random.default_rng(seed)
    dn = np.clip(rng.gamma(9, 40, (4, 60, 80)), 1, 1000).astype("uint16")
    dn[1, rng.random((60, 80)) < share] = top
    return dn


@pytest.mark.parametrize(
    ("top", "share", "found"),
    [(1023, 0.01, True), (2047, 0.01, True), (1023, 0.001, False), (255, 0, False), (1500, 0.02, True)],
)
def test_a_pile_at_the_highest_number_is_saturated(tmp_path, caplog, top, share, found):
    dn = numbers_up_to(top, share)
    mss = write_raster(tmp_path / "a.tif", dn, **UTM)
    run(GenericProduct(mss), tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.quality.tif") as src:
        flagged = (src.read(1) & Quality.SATURATED) > 0
    np.testing.assert_array_equal(flagged, (dn[1] == top) & found)
    percent = 100 * flagged.mean()
    said = (
        f"numbers of mss pile up at the highest, {top} ({percent:.2g} % of green), and are flagged as saturated there"
    )
    assert (f"a: {said}" in caplog.messages) == found


def test_where_numbers_are_clipped_they_pile_up_and_classes_do_not(tmp_path):
    dn = np.random.default_rng(0).integers(1, 900, (4, 60, 80)).astype("uint16")
    clipped = np.minimum(dn, 700)
    for name, values, found in (("even", dn, False), ("clipped", clipped, True)):
        write_raster(tmp_path / f"{name}.tif", values, **UTM)
        shares = run(GenericProduct(tmp_path / f"{name}.tif"), tmp_path / name)["mss"]
        assert shares["saturated_share"] == pytest.approx((clipped == 700).any(axis=0).mean() * found, abs=1e-6)
    # classes and numbers in steps: the highest is nothing but the last of them
    write_raster(tmp_path / "classes.tif", dn // 300 * 100 + 55, **UTM)
    assert run(GenericProduct(tmp_path / "classes.tif"), tmp_path / "classes")["mss"]["saturated_share"] == 0


def test_known_bits_go_before_a_pile(tmp_path):
    mss = write_raster(tmp_path / "a.tif", numbers_up_to(1023, 0.05), **UTM)
    assert run(GenericProduct(mss, bit_depth=11), tmp_path / "out")["mss"]["saturated_share"] == 0


# --- clouds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cloudy(monkeypatch):
    """A network that finds cloud where MSS is brighter than 0.3 in red, and shadow where NIR is under 0.02."""
    monkeypatch.setattr(clouds, "check", lambda bands, where: None)
    monkeypatch.setattr(clouds, "_HAZE", -9)
    monkeypatch.setattr(
        clouds, "_classes", lambda image, threads: np.where(image[2] > 0.3, 1, np.where(image[3] < 0.02, 2, 0))
    )


@pytest.mark.parametrize("level", ["toa", "dos1"])
def test_cloud_and_shadow_are_flagged_on_mss_and_pan(tmp_path, cloudy, level):
    mss = np.full((4, 30, 40), 200, "uint16")
    mss[:, 10:14, 20:24] = 1000
    mss[:, 20:24, 4:8] = 5
    mss[:, 10, 20] = 0  # nodata in the cloud stays nodata and nothing else
    pan = np.full((1, 120, 160), 200, "uint16")
    folder = write_product(tmp_path / ID, mss=mss, pan=pan)
    found = run(folder, tmp_path / "out", clouds=True, surface=Surface(level))
    with rasterio.open(tmp_path / "out" / "mss.quality.tif") as src:
        flags = src.read(1)
    expected = np.zeros((30, 40), "uint8")
    expected[10:14, 20:24] = Quality.CLOUD
    expected[20:24, 4:8] = Quality.SHADOW
    expected[10, 20] = Quality.NODATA
    hides = int(Quality.CLOUD | Quality.SHADOW | Quality.NODATA)
    np.testing.assert_array_equal(flags & hides, expected)
    with rasterio.open(tmp_path / "out" / "pan.quality.tif") as src:
        flags = src.read(1)
    # widened by the 2 MSS pixels that the RPCs may not know of: to the next pixel of the map
    expected = np.zeros((120, 160), "uint8")
    expected[32:64, 72:104] = Quality.CLOUD
    expected[72:104, 8:40] = Quality.SHADOW
    np.testing.assert_array_equal(flags & hides, expected)
    assert found["mss"]["cloud_share"] == pytest.approx(15 / 1199, abs=1e-6)
    assert found["pan"]["shadow_share"] == pytest.approx(32 * 32 / (120 * 160), abs=1e-6)
    assert found["pan"]["clouds_widened_mss_px"] == pytest.approx(2, abs=0.01)


def test_clouds_and_their_shadows_set_no_dark_object(tmp_path, cloudy):
    rng = np.random.default_rng(0)
    mss, pan = (rng.integers(200, 300, shape).astype("uint16") for shape in ((4, 30, 40), (1, 120, 160)))
    mss[:, 20:24, 4:8], pan[:, 80:96, 16:32] = 5, 5
    mss[:, 10:14, 20:24] = 1000
    folder = write_product(tmp_path / ID, mss=mss, pan=pan)

    def dark(name, **options):
        found = run(folder, tmp_path / name, surface=Surface("dos1", dark_percent=0.5), **options)
        return {
            band: coefficients["dark_reflectance"]
            for image in found.values()
            for band, coefficients in image["surface"]["bands"].items()
        }

    factor = math.pi * 1.0145**2 / math.cos(math.radians(23.40))
    of_shadow, of_ground = dark("shadow"), dark("ground", clouds=True)
    for band, gain, esun in (("blue", 0.2110, 1945.29), ("nir", 0.1870, 1080.77), ("pan", 0.1956, 1371.79)):
        assert of_shadow[band] == pytest.approx(factor * gain * 5 / esun, abs=2e-4)
        lowest = {"pan": 230}.get(band, 200)  # PAN's are means of 4 x 4
        assert of_ground[band] == pytest.approx(factor * gain * lowest / esun, rel=0.03)


def test_a_scene_of_clouds_alone_has_no_dark_object(tmp_path, cloudy):
    folder = write_product(tmp_path / ID, mss=np.full((4, 30, 40), 1000, "uint16"))
    with pytest.raises(RasterError, match=r"nothing but cloud, shadow and nodata, so it has no dark object"):
        run(folder, tmp_path / "out", clouds=True, surface=Surface("dos1"))


def test_without_clouds_none_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(clouds, "find_clouds", lambda *a, **k: pytest.fail("not asked for"))
    found = run(write_product(tmp_path / ID), tmp_path / "out")
    assert "cloud_share" not in found["mss"]


def test_clouds_are_looked_for_at_the_top_of_the_atmosphere(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(clouds, "check", lambda bands, where: None)

    def look(read, shape, **_):
        from rasterio.windows import Window

        shown.append(read(Window(0, 0, 7, 5))[0])
        return CloudMap(np.zeros((3, 4), np.uint8), 2)

    monkeypatch.setattr(clouds, "find_clouds", look)
    folder = write_product(tmp_path / ID)
    run(folder, tmp_path / "toa", clouds=True)
    run(folder, tmp_path / "cost", clouds=True, surface=Surface("cost"))
    np.testing.assert_array_equal(shown[0], shown[1])
    assert shown[0][0, 0, 0] == pytest.approx(0.0382, abs=1e-4)
