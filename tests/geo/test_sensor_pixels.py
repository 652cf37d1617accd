"""How large the pixels of a product are, and what its orthos are therefore laid out with."""

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geo.preprocess import Settings, resolutions
from geo.sensors import open_product, rpb
from geo.sensors.place import own_pixel_m, pixel_m, pixels_m
from tests.handmade import ID, RPB, change, write_product

NO_GRID = GeoBox((10, 10), Affine.identity(), None)


def test_the_pixel_size_comes_from_the_place_on_the_ground():
    # the camera of the handmade product: 0.2 degrees of latitude are 2816 * 1.157 lines, of longitude 2688 * 1.171
    lines = 0.2 * 110_870 / (2816 * 1.157)
    samples = 0.237678 * 95_200 / (2688 * 1.171)
    found = pixel_m((5, 7), rpb.parse(RPB), NO_GRID)
    assert found == pytest.approx((lines + samples) / 2, rel=0.01)
    utm = GeoBox((10, 10), Affine(8, 0, 357000, 0, -8, 3464000), "EPSG:32648")
    assert pixel_m((10, 10), rpb.parse(RPB), utm) == pytest.approx(8, rel=1e-3)
    degrees = GeoBox((10, 10), Affine(1e-4, 0, 103, 0, -1e-4, 31), "EPSG:4326")
    assert pixel_m((10, 10), None, degrees) == pytest.approx((11.09 + 9.55) / 2, rel=0.01)
    assert pixel_m((10, 10), None, NO_GRID) is None


def test_pixels_to_lay_out_with_are_round_but_those_of_a_map_its_own():
    feet = GeoBox((10, 10), Affine(1.5, 0, 2e6, 0, -1.5, 5e5), "EPSG:2263")  # US survey feet
    assert own_pixel_m(None, feet) == pytest.approx(1.5 * 1200 / 3937)
    tilted = GeoBox((10, 10), Affine.rotation(30) @ Affine.scale(0.8123, -0.8123), "EPSG:32648")
    assert own_pixel_m(None, tilted) == pytest.approx(0.8123)
    camera = rpb.parse(RPB)
    found = own_pixel_m(camera, NO_GRID)
    assert found == pytest.approx(pixel_m((10, 10), camera, NO_GRID), rel=0.05)
    assert len(f"{found:g}".replace(".", "").strip("0")) <= 2
    assert own_pixel_m(None, NO_GRID) is None


@pytest.mark.parametrize(
    ("pan", "mss", "laid"),
    [
        (2, 8, 8),
        (0.81, 3.24, 3.24),
        (0.71, 2.8, 2.84),
        (1, 4, 4),
        (2, 5.3, 5.3),
        (8, 2, 2),
        (2, None, None),
        (None, 8, 8),
    ],
)
def test_pixels_of_mss_hold_whole_pixels_of_pan(pan, mss, laid):
    assert pixels_m({"pan": pan, "mss": mss}) == {"pan": pan, "mss": laid}


def test_an_image_alone_keeps_its_pixels():
    assert pixels_m({"mss": 3.2}) == {"mss": 3.2}


@pytest.mark.parametrize(("told", "pixels"), [("2.3", 2.3), ("8", 2.0), ("0.00002", 2.0), ("nan", 2.0), ("", 2.0)])
def test_a_product_is_laid_out_with_the_pixels_that_it_tells_unless_they_cannot_be_its_own(tmp_path, told, pixels):
    folder = write_product(tmp_path / ID)
    (xml,) = folder.glob("*PAN1.xml")
    xml.write_text(change(xml.read_text(), "ImageGSD", told))
    with open_product(folder) as scene:
        assert scene.images["pan"].gsd_m == pixels
        assert resolutions(scene, Settings()) == {"pan": pixels, "mss": 8}
        assert resolutions(scene, Settings(pan_resolution_m=1, mss_resolution_m=5)) == {"pan": 1, "mss": 5}
