import numpy as np
import pytest
import rasterio
import rasterio.transform

from geo.errors import ProductError
from geo.sensors import rpb
from tests.handmade import RPB


def test_every_term_is_read():
    rpc = rpb.parse(RPB)
    assert (rpc.line_off, rpc.samp_off, rpc.lat_off, rpc.long_off) == (2.25, 3.123456789012345, 31.3, 103.5)
    assert (rpc.line_scale, rpc.samp_scale, rpc.height_off, rpc.height_scale) == (2816, 2688, 0, 5000)
    assert (rpc.err_bias, rpc.err_rand) == (1, 0)
    assert rpc.line_num_coeff[:4] == [-2.532239797506085e-03, 0, -1.156969270442303, 3.120296299259800e-03]
    assert rpc.samp_den_coeff[4] == 2.400244062446133e-02
    assert [len(c) for c in (rpc.line_num_coeff, rpc.line_den_coeff, rpc.samp_num_coeff, rpc.samp_den_coeff)] == [
        20
    ] * 4


def test_gdal_reads_the_same_file_the_same(tmp_path):
    with rasterio.open(tmp_path / "a-MSS1.tiff", "w", driver="GTiff", count=1, width=7, height=5, dtype="uint8"):
        pass
    (tmp_path / "a-MSS1.rpb").write_text(RPB)
    with rasterio.open(tmp_path / "a-MSS1.tiff") as src:
        theirs = src.rpcs.to_dict()
    for term, value in rpb.read(tmp_path / "a-MSS1.rpb").to_dict().items():
        np.testing.assert_allclose(value, theirs[term], rtol=1e-14, err_msg=term)


def test_line_and_sample_0_are_the_centre_of_the_first_pixel():
    rpc = rpb.parse(RPB)
    with rasterio.transform.RPCTransformer(rpc) as transformer:
        # the place that the model puts at line 2.25: GDAL says 0.5 more, since it counts from the corner
        row, _ = transformer.rowcol(103.5, 31.3, zs=0, op=lambda v: v)
    line = rpc.line_off + rpc.line_scale * rpc.line_num_coeff[0] / rpc.line_den_coeff[0]
    assert row == pytest.approx(line + 0.5, abs=1e-6)


def test_order_case_and_blanks_do_not_matter():
    lines = RPB.splitlines()
    start = next(i for i, line in enumerate(lines) if "lineNumCoef" in line)
    swapped = "\r\n".join([*lines[start:], *lines[:start]]).replace("lineOffset =   ", "LINEOFFSET=")
    assert rpb.parse(swapped).to_dict() == rpb.parse(RPB).to_dict()


def test_what_does_not_matter_may_be_absent():
    text = "\n".join(line for line in RPB.splitlines() if "Id =" not in line and "err" not in line)
    assert rpb.parse(text).err_bias is None


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("\tlatScale =    0.2;\n", "", "latScale"),
        ("\tlatScale =    0.2;", "\tlatScale = 0;", "latScale"),
        ("lineOffset = 2.25", "lineOffset = nan", "lineOffset"),
        ("lineOffset = 2.25", "lineOffset = ", "lineOffset"),
        ("lineDenCoef", "lineDenominator", "lineDenCoef"),
        ("+1.170889041220501E+00,", "", "sampNumCoef"),
        ("+1.170889041220501E+00", "1,17", "sampNumCoef"),
        ("+1.170889041220501E+00", "x", "sampNumCoef"),
    ],
)
def test_terms_that_are_wrong_are_named(old, new, named):
    assert old in RPB
    with pytest.raises(ProductError, match=f"a.rpb lacks a usable {named}; expected"):
        rpb.parse(RPB.replace(old, new, 1), source="a.rpb")


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(
        ProductError, match=r"lacks a usable lineOffset, .*, heightScale, lineNumCoef, .*, sampDenCoef;"
    ):
        rpb.parse("")


def test_a_denominator_of_zeros():
    text = RPB.replace("+1.000000000000000E+00", "0").replace("+2.400244062446133E-02", "0")
    with pytest.raises(ProductError, match="lacks a usable sampDenCoef"):
        rpb.parse(text)


def test_no_file(tmp_path):
    with pytest.raises(ProductError, match="does not exist; expected the camera model"):
        rpb.read(tmp_path / "a.rpb")
