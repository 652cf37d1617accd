"""An RPC that was made for another image is told, those of delivered products and of parts of images are not."""

import os
from pathlib import Path

import numpy as np
import pytest

from geo.sensors import GenericProduct, open_product, rpb
from geo.sensors.rpc_doubts import rpc_doubts
from geo.sensors.scene import Image
from tests.handmade import ID, RPB, of_pan, write_product, write_raster

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
#: RPCs as of whole images: MSS of 4503 x 4548 pixels of 8 m, PAN of 18000 x 18192.
MSS = RPB.replace("lineOffset = 2.25", "lineOffset = 2400").replace("Offset = 3.123456789012345", "Offset = 2310")
PAN = of_pan(MSS).replace("lineOffset = 2400", "lineOffset = 9600").replace("sampOffset = 2310", "sampOffset = 9240")


def whole(mss, pan):
    """Images of a GF-1 scene with these RPCs."""
    return {
        "mss": Image(Path("m.tiff"), ("blue", "green", "red", "nir"), 8, (4503, 4548), rpb.parse(mss)),
        "pan": Image(Path("p.tiff"), ("pan",), 2, (18000, 18192), rpb.parse(pan)),
    }


def test_rpcs_of_their_images_say_nothing():
    assert rpc_doubts(whole(MSS, PAN)) == []


def test_exchanged_rpcs_are_told_in_one_sentence():
    assert rpc_doubts(whole(PAN, MSS)) == [
        "the RPCs of m.tiff and p.tiff seem to be exchanged: by them pixels of MSS are about 2 m and pixels of PAN "
        "8.2 m; give each image its own"
    ]


def test_one_rpc_for_both_is_told_of_the_image_that_it_does_not_fit():
    assert rpc_doubts(whole(MSS, MSS)) == [
        "p.tiff has an RPC made for about 5376 x 5632 pixels around sample 2310 and line 2400, and 18192 x 18000 "
        "pixels: is it that of another image?"
    ]
    assert rpc_doubts(whole(PAN, PAN)) == [
        "m.tiff has an RPC made for about 21504 x 22528 pixels of about 2 m, and pixels of 8 m: is it that of another "
        "image?"
    ]


def test_an_image_without_an_rpc_is_passed_over():
    images = whole(MSS, PAN)
    assert rpc_doubts({"mss": images["mss"]}) == []
    assert rpc_doubts({"mss": Image(Path("m.tiff"), ("red",), 8, (10, 10))}) == []


def test_a_product_tells_it(tmp_path):
    folder = write_product(tmp_path / ID)
    (folder / f"{ID}-MSS1.rpb").write_text(of_pan(RPB))
    (folder / f"{ID}-PAN1.rpb").write_text(RPB)
    with open_product(folder) as scene:
        (said,) = scene.warnings
    assert said.startswith(f"the RPCs of {ID}-MSS1.tiff and {ID}-PAN1.tiff seem to be exchanged")


def test_a_pair_tells_it_unless_it_lies_on_a_map(tmp_path):
    for name, text, shape in (("mss", of_pan(RPB), (4, 5, 7)), ("pan", RPB, (1, 20, 28))):
        write_raster(tmp_path / f"{name}.tif", np.ones(shape, "uint16"))
        (tmp_path / f"{name}_rpc.txt").write_text(text)
    with open_product(GenericProduct(tmp_path / "mss.tif", tmp_path / "pan.tif")) as scene:
        assert any("seem to be exchanged" in said for said in scene.warnings)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["GF1_PMS1_E69.4_N33.3_20220624_L1A0006547030", "GF2_PMS2_E120.2_S0.0_20181002_L1A0003492622"]
)
def test_delivered_products_are_not_doubted(name):
    folder = REALDATA / "gf_metadata" / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there; set GEOCRACK_REALDATA")
    with open_product(folder) as scene:
        assert rpc_doubts(scene.images) == []
        swapped = {key: Image(i.path, i.bands, i.gsd_m, i.shape, i.rpcs) for key, i in scene.images.items()}
        mss, pan = swapped["mss"], swapped["pan"]
        swapped["mss"] = Image(mss.path, mss.bands, mss.gsd_m, mss.shape, pan.rpcs)
        swapped["pan"] = Image(pan.path, pan.bands, pan.gsd_m, pan.shape, mss.rpcs)
        assert "seem to be exchanged" in rpc_doubts(swapped)[0]


@pytest.mark.realdata
def test_parts_of_images_are_not_doubted():
    folder = REALDATA / "pleiades_ventoux"
    if not folder.exists():
        pytest.skip(f"{folder} is not there; set GEOCRACK_REALDATA")
    for view in ("left", "right"):
        pair = GenericProduct(folder / "PHR1B_ventoux_MS.tif", folder / f"PHR1B_ventoux_PAN_{view}.tif")
        with open_product(pair) as scene:
            assert not any("RPC" in said for said in scene.warnings)
