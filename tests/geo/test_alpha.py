"""A band that GDAL takes for alpha though it is a part of the image is told; transparency is not."""

import logging

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from rasterio.rio.main import main_group as rio

from geo.errors import RasterError
from geo.image import band_names
from geo.sensors import GenericProduct, open_product
from geo.sensors.raster import describe
from geo.source import FileSource
from tests.handmade import write_raster

UTM = {"crs": "EPSG:32648", "transform": Affine(8, 0, 357000, 0, -8, 3464000)}


@pytest.fixture
def mss(tmp_path):
    """Four bands of bytes: GDAL takes the fourth for alpha."""
    dn = np.random.default_rng(0).integers(1, 200, (4, 40, 50)).astype("uint8")
    return write_raster(tmp_path / "mss.tif", dn, **UTM)


def test_a_fourth_band_that_is_no_transparency_is_told_with_the_way_to_say_so(mss, caplog):
    with FileSource(mss) as image:
        assert len(image.bands) == 3
    command = f"rio edit-info {mss} --colorinterp red,green,blue,undefined"
    said = (
        "band 4 is marked as alpha and left out, though it holds values like an image's; if it is one, such as nir, "
        f"say so: {command}"
    )
    assert caplog.messages == [f"{mss}: {said}"]
    assert describe(mss).warnings == (said,)
    with FileSource(mss):
        assert len(caplog.messages) == 1  # once for each file
    assert CliRunner().invoke(rio, command.split()[1:]).exit_code == 0
    with FileSource(mss) as image:
        assert image.bands == ("band1", "band2", "band3", "band4")
    assert describe(mss).warnings == ()


def test_whoever_names_bands_tells_it(mss, caplog):
    with rasterio.open(mss) as src:
        assert len(band_names(src, ["blue", "green", "red"])) == 3
    assert "band 4 is marked as alpha" in caplog.text
    caplog.clear()
    other = mss.rename(mss.with_name("other.tif"))
    with pytest.raises(RasterError, match="has 3 bands and alpha; expected 4: blue, green, red, nir"):
        open_product(GenericProduct(other)).__enter__()
    assert f"{other}: band 4 is marked as alpha" in caplog.text


@pytest.mark.parametrize("rim", [0, 2])
def test_transparency_is_left_out_without_a_word(tmp_path, caplog, rim):
    rgba = np.random.default_rng(0).integers(1, 200, (4, 60, 60)).astype("uint8")
    rgba[3] = 255
    rgba[3, :20] = 0
    rgba[3, 20 : 20 + rim] = np.linspace(5, 250, 60).astype("uint8")
    path = write_raster(tmp_path / "rgba.tif", rgba, **UTM)
    with caplog.at_level(logging.WARNING), FileSource(path) as image:
        assert len(image.bands) == 3
    assert caplog.messages == []
