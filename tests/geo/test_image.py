"""Bands are found by name, and what was not seen is told apart from what is not valid."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from geo.errors import GridError, RasterError
from geo.image import open_image
from geo.masks import Quality
from geo.raster import REFLECTANCE, Encoding

PLACE = {"crs": "EPSG:32648", "transform": Affine(2, 0, 357_240, 0, -2, 3_464_000)}


def write(path, stored, *, names=None, colours=None, tags=None, scales=None, **profile):
    count, height, width = stored.shape
    profile = {"driver": "GTiff", "dtype": stored.dtype, **PLACE, **profile}
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as dst:
        dst.write(stored)
        if names:
            dst.descriptions = names
        if colours:
            dst.colorinterp = [ColorInterp[c] for c in colours]
        if scales:
            dst.scales = scales
        dst.update_tags(**tags or {})
    return path


def test_names_come_from_descriptions_from_colours_or_from_the_user(tmp_path):
    bytes_ = np.zeros((3, 4, 5), np.uint8)
    described = write(tmp_path / "a.tif", np.zeros((2, 4, 5), np.uint16), names=("NIR", "red"))
    coloured = write(tmp_path / "b.tif", bytes_, photometric="RGB")
    with open_image(described) as image:
        assert image.bands == ("nir", "red")
    with open_image(coloured) as image:
        assert image.bands == ("red", "green", "blue")
    with open_image(coloured, ("blue", "Green", "red")) as image:
        assert image.bands == ("blue", "green", "red")


def test_bands_are_read_in_the_order_asked_for(tmp_path):
    stored = np.stack([np.full((4, 5), v, np.uint16) for v in (1001, 2001, 3001)])
    path = write(tmp_path / "a.tif", stored, names=("blue", "green", "red"), nodata=0, scales=(1e-4,) * 3)
    with open_image(path) as image:
        values, valid = image.read(Window(-1, 0, 3, 2), ("red", "blue"))
    np.testing.assert_allclose(values[:, 0, 1], [0.3001, 0.1001], rtol=1e-6)
    assert valid.tolist() == [[False, True, True]] * 2
    assert np.isnan(values[:, :, 0]).all()


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        ((None, "red"), None, r"\(unnamed\), red.*give --bands"),
        (("red", "red"), None, "two bands of one name"),
        (("a", "b"), ("red",), "has 2 bands, but 1 names were given"),
    ],
)
def test_names_that_do_not_tell_bands_apart(tmp_path, names, given, message):
    path = write(tmp_path / "a.tif", np.zeros((2, 4, 5), np.uint16), names=names)
    with pytest.raises(RasterError, match=message), open_image(path, given):
        pass


def test_a_colour_table_is_no_image(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 4, 5), np.uint8), photometric="PALETTE")
    with rasterio.open(path, "r+") as dst:
        dst.write_colormap(1, {0: (1, 2, 3)})
    with pytest.raises(RasterError, match="colour table"), open_image(path):
        pass


def test_alpha_says_what_is_valid_and_is_no_band(tmp_path):
    stored = np.full((4, 3, 3), 7, np.uint8)
    stored[3] = [[255, 255, 0]] * 3
    path = write(tmp_path / "a.tif", stored, photometric="RGB", alpha="YES")
    with open_image(path) as image:
        assert image.bands == ("red", "green", "blue")
        _, valid = image.read(Window(0, 0, 3, 3))
    assert valid.tolist() == [[True, True, False]] * 3


def test_what_is_hidden_is_valid_but_not_seen(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((1, 3, 4), np.float32), names=("pan",), tags={"GEOCRACK_SCENE": "s1"})
    flags = np.zeros((1, 3, 4), np.uint8)
    flags[0, 0] = [Quality.CLOUD, Quality.SATURATED, Quality.NODATA, 0]
    write(tmp_path / "a.quality.tif", flags)
    with open_image(path) as image:
        assert image.name == "s1"
        assert image.seen(Window(0, -1, 5, 2)).tolist() == [[False] * 5, [False, True, False, True, False]]
        assert image.read(Window(0, 0, 4, 1))[1].all()
    (tmp_path / "a.quality.tif").unlink()
    with open_image(path) as image:
        assert image.seen(Window(0, 0, 4, 3)).all()


def test_a_quality_raster_of_another_grid_is_told(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((1, 3, 4), np.uint8), names=("pan",))
    write(tmp_path / "a.quality.tif", np.zeros((1, 4, 4), np.uint8))
    with (
        pytest.raises(GridError, match=r"a\.quality\.tif has another grid \(4 x 4 pixels\).*\(3 x 4\)"),
        open_image(path),
    ):
        pass


@pytest.mark.parametrize(
    ("stored", "profile", "scales", "expected"),
    [
        (np.uint8, {}, None, Encoding("uint8", None)),
        (np.uint8, {"nodata": 0}, None, Encoding("uint8", 0)),
        (np.int16, {"nodata": -32768}, (0.1, 0.1), Encoding("int16", -32768, 0.1)),
        (np.uint16, {"nodata": 0}, (0.1, 0.2), "float32"),
        (np.float64, {"nodata": -9999}, None, "float32"),
        (np.float32, {}, (2.0, 2.0), "float32"),
    ],
)
def test_the_encoding_is_that_of_the_file_where_one_says_it(tmp_path, stored, profile, scales, expected):
    path = write(tmp_path / "a.tif", np.ones((2, 3, 4), stored), names=("red", "nir"), scales=scales, **profile)
    with open_image(path) as image:
        if expected == "float32":
            assert image.encoding.dtype == "float32"
            assert np.isnan(image.encoding.nodata)
            assert image.encoding.scale == 1
        else:
            assert image.encoding == expected


def test_every_stored_reflectance_survives_reading_and_writing(tmp_path):
    stored = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    path = write(tmp_path / "a.tif", stored, names=("red",), nodata=0, scales=(1e-4,))
    with rasterio.open(path, "r+") as dst:
        dst.offsets = (-0.1,)
    with open_image(path) as image:
        assert image.encoding == REFLECTANCE
        values, valid = image.read(Window(0, 0, 256, 256))
        np.testing.assert_array_equal(image.encoding.encode(values, valid), stored)
