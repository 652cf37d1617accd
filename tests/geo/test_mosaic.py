"""Several probability rasters as one: order of the views, snapping, other grids, bad tags."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.warp import transform
from rasterio.windows import Window

from geo.errors import GridError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.mosaic import open_mosaic
from geo.raster import PROBABILITY, read

X, Y = 402_000.0, 3_456_000.0


def write(path, values, *, left=X, top=Y, pixel=2.0, crs="EPSG:32648", **tags):
    values = np.asarray(values, np.float32)
    box = GeoBox(values.shape, Affine(pixel, 0, left, 0, -pixel, top), crs)
    named = {f"GEOCRACK_{k.upper()}": str(v) for k, v in tags.items()}
    with GeoTiffWriter(path, box, ["probability"], PROBABILITY, cog=False, tags=named) as dst:
        dst.write(values, Window(0, 0, *values.shape[::-1]))
    return path


def whole(mosaic):
    height, width = mosaic.geobox.shape
    return mosaic.read(Window(0, 0, width, height))


def two_dates(tmp_path):
    old = np.full((4, 6), 0.2)
    new = np.full((4, 6), 0.8)
    new[1, 0] = np.nan
    write(tmp_path / "old.tif", old, acquired="2013-08-12T03:40:00+00:00", scene="old", view_zenith=2)
    # two columns to the right and one row up
    write(tmp_path / "new.tif", new, left=X + 4, top=Y + 2, acquired="2014-08-12T03:40:00", scene="new", view_zenith=-9)
    return [tmp_path / "old.tif", tmp_path / "new.tif"]


def test_newest_view_decides_where_it_is_valid(tmp_path):
    with open_mosaic(two_dates(tmp_path), prefer="newest") as mosaic:
        assert mosaic.geobox.shape == (5, 8)
        assert mosaic.geobox.affine == Affine(2, 0, X, 0, -2, Y + 2)
        probability, view = whole(mosaic)
    expected = np.full((5, 8), -1)
    expected[1:, :6] = 0
    expected[:4, 2:] = 1
    expected[1, 2] = 0  # not valid in the newer one
    np.testing.assert_array_equal(view, expected)
    np.testing.assert_allclose(
        probability, np.where(expected < 0, np.nan, np.where(expected == 0, 0.2, 0.8)), atol=1e-6
    )


def test_the_most_vertical_view_decides(tmp_path):
    with open_mosaic(two_dates(tmp_path), prefer="nadir") as mosaic:
        view = whole(mosaic)[1]
    assert (view[1:, :6] == 0).all()
    assert (view[0, 2:] == 1).all()
    assert (view[:4, 6:] == 1).all()


def test_windows_give_what_the_whole_gives(tmp_path):
    with open_mosaic(two_dates(tmp_path)) as mosaic:
        probability, view = whole(mosaic)
        for row in range(5):
            p, v = mosaic.read(Window(1, row, 6, 1))
            np.testing.assert_array_equal(p[0], probability[row, 1:7])
            np.testing.assert_array_equal(v[0], view[row, 1:7])


def test_a_view_without_its_tag_comes_last_and_is_told(tmp_path, caplog):
    paths = two_dates(tmp_path)
    write(tmp_path / "bare.tif", np.full((4, 6), 0.5))
    with open_mosaic([tmp_path / "bare.tif", *paths]) as mosaic:
        assert mosaic.order == [2, 1, 0]
        assert mosaic.views[0].scene == "bare"
    assert "bare.tif does not tell when it was acquired" in caplog.text


def test_grid_shifted_by_half_a_pixel_is_snapped_to_the_first(tmp_path):
    write(tmp_path / "a.tif", np.full((3, 3), np.nan))
    values = np.arange(16).reshape(4, 4) * 0.004
    write(tmp_path / "b.tif", values, left=X + 0.8, top=Y - 0.8)
    with open_mosaic([tmp_path / "a.tif", tmp_path / "b.tif"]) as mosaic:
        probability, _ = whole(mosaic)
        assert mosaic.geobox.affine.c == X
        assert mosaic.geobox.affine.f == Y
    np.testing.assert_allclose(probability[:4, :4], values, atol=1e-6)  # centres moved by less than half a pixel


def test_another_crs_by_nearest_pixels(tmp_path):
    (lon,), (lat,) = transform("EPSG:32648", "EPSG:32647", [X], [Y])
    write(tmp_path / "a.tif", np.full((40, 40), np.nan))
    values = np.random.default_rng(1).integers(0, 251, (60, 60)) * 0.004
    write(tmp_path / "b.tif", values, left=round(lon) - 20.0, top=round(lat) + 20.0, crs="EPSG:32647")
    with open_mosaic([tmp_path / "a.tif", tmp_path / "b.tif"]) as mosaic:
        probability, view = whole(mosaic)
        affine = mosaic.geobox.affine
    rows, columns = np.nonzero(view == 1)
    assert len(rows) == pytest.approx(3600, rel=0.02)
    # oracle: the centre of each pixel in the other zone, by PROJ
    east, north = affine.a * (columns + 0.5) + affine.c, affine.e * (rows + 0.5) + affine.f
    x, y = np.array(transform("EPSG:32648", "EPSG:32647", east, north))
    column, row = (x - (round(lon) - 20)) / 2, ((round(lat) + 20) - y) / 2
    clear = (np.abs(column % 1 - 0.5) < 0.47) & (np.abs(row % 1 - 0.5) < 0.47)  # not on the edge between two pixels
    np.testing.assert_allclose(
        probability[rows[clear], columns[clear]], values[row[clear].astype(int), column[clear].astype(int)], atol=1e-6
    )


def test_warped_raster_without_nodata_is_not_valid_outside_itself(tmp_path):
    write(tmp_path / "a.tif", np.full((10, 10), np.nan))
    with rasterio.open(
        tmp_path / "b.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="float32", crs="EPSG:32648",
        transform=Affine.translation(X + 10, Y - 4) @ Affine.rotation(-45) @ Affine.scale(2, -2),
    ) as dst:  # fmt: skip
        dst.write(np.full((1, 4, 4), 0.7, np.float32))
    with open_mosaic([tmp_path / "a.tif", tmp_path / "b.tif"]) as mosaic:
        probability, view = whole(mosaic)
    assert (view == 1).sum() == pytest.approx(16, abs=4)
    np.testing.assert_allclose(probability[view == 1], 0.7)


def test_a_raster_without_a_place(tmp_path):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", width=3, height=3, count=1, dtype="uint8") as dst:
        dst.write(np.zeros((1, 3, 3), np.uint8))
    with pytest.raises(GridError, match=r"a\.tif has no CRS"), open_mosaic([tmp_path / "a.tif"]):
        pass


def test_degrees_have_no_area(tmp_path):
    write(tmp_path / "a.tif", np.zeros((3, 3)), left=103, top=31, pixel=1e-5, crs="EPSG:4326")
    with pytest.raises(GridError, match="units are not metres; expected a projected CRS"):
        open_mosaic([tmp_path / "a.tif"]).__enter__()


def test_an_image_is_no_probability(tmp_path):
    with GeoTiffWriter(
        tmp_path / "a.tif",
        GeoBox((3, 3), Affine(2, 0, X, 0, -2, Y), "EPSG:32648"),
        ["red", "nir"],
        PROBABILITY,
        cog=False,
    ) as dst:
        dst.write(np.zeros((2, 3, 3)), Window(0, 0, 3, 3))
    with pytest.raises(RasterError, match="2 bands; expected one band of probability"):
        open_mosaic([tmp_path / "a.tif"]).__enter__()


def test_a_tag_that_is_no_time(tmp_path):
    write(tmp_path / "a.tif", np.zeros((3, 3)), acquired="yesterday")
    with pytest.raises(RasterError, match="tag that cannot be understood"):
        open_mosaic([tmp_path / "a.tif"]).__enter__()


def test_the_damaged_one_of_several_is_named(tmp_path):
    values = np.random.default_rng(0).random((600, 600))
    write(tmp_path / "bad.tif", values)
    write(tmp_path / "good.tif", values)
    whole_file = (tmp_path / "bad.tif").read_bytes()
    (tmp_path / "bad.tif").write_bytes(whole_file[: len(whole_file) // 2])
    with (
        pytest.raises(RasterError, match=r"bad\.tif (is truncated|cannot be read)"),
        open_mosaic([tmp_path / "bad.tif", tmp_path / "good.tif"]) as mosaic,
    ):
        whole(mosaic)


def test_unknown_preference(tmp_path):
    write(tmp_path / "a.tif", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="newest"):
        open_mosaic([tmp_path / "a.tif"], prefer="best").__enter__()


@pytest.mark.parametrize("nodata", [255, 0, None, 300])
@pytest.mark.parametrize(("scale", "offset"), [(0.004, 0.0), (1 / 255, -0.1), (1.0, 0.0)])
def test_bytes_are_read_by_a_table_as_they_are_read_without(tmp_path, nodata, scale, offset):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    told = {} if nodata == 300 else {"nodata": nodata}
    with rasterio.open(
        tmp_path / "p.tif", "w", driver="GTiff", width=16, height=16, count=1, dtype="uint8", crs="EPSG:32648",
        transform=Affine(2, 0, X, 0, -2, Y), **told,
    ) as dst:  # fmt: skip
        dst.write(stored, 1)
        dst.scales, dst.offsets = [scale], [offset]
        if nodata == 300:
            dst.write_mask(stored > 9)
    with open_mosaic([tmp_path / "p.tif"]) as mosaic, rasterio.open(tmp_path / "p.tif") as src:
        for window in (Window(0, 0, 16, 16), Window(-3, 4, 12, 20)):
            values, valid = read(src, window, bands=[1])
            probability, view = mosaic.read(window)
            np.testing.assert_array_equal(probability, values[0])
            np.testing.assert_array_equal(view >= 0, valid)
