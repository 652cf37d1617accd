"""Labels lie where they were drawn, whatever their file, CRS and pixels."""

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.errors import GridError, LabelError, RasterError
from geo.labels import open_labels, read_area
from geo.windows import blocks

UTM = "EPSG:32648"
LEFT, TOP = 357_240.0, 3_464_000.0


def grid(shape=(40, 60), *, pixel=2.0, turn=0.0):
    return GeoBox(shape, Affine.translation(LEFT, TOP) @ Affine.rotation(turn) @ Affine.scale(pixel, -pixel), UTM)


def write_polygons(path, shapes, *, crs=UTM, layer="scars", geobox=None):
    geobox = geobox or grid()
    moved = [shapely.transform(s, lambda p: np.column_stack(geobox.affine @ (p[:, 0], p[:, 1]))) for s in shapes]
    frame = gpd.GeoDataFrame(geometry=moved, crs=UTM)
    frame = frame.to_crs(crs) if crs else frame.set_crs(None, allow_override=True)
    frame.to_file(path, layer=layer, driver="GeoJSON" if path.suffix == ".geojson" else "GPKG")
    return path


def write_raster(path, values, *, geobox=None, crs=UTM, **profile):
    geobox = geobox or grid()
    height, width = values.shape
    transform = {"transform": geobox.affine, "crs": crs} if crs else {}
    profile = {"driver": "GTiff", "dtype": values.dtype, **transform, **profile}
    with rasterio.open(path, "w", count=1, height=height, width=width, **profile) as dst:
        dst.write(values, 1)
    return path


def whole(path, geobox=None, **options):
    geobox = geobox or grid()
    with open_labels(path, geobox, **options) as labels:
        return labels.read(Window(0, 0, *geobox.shape[::-1]))


def inside(shape, geobox):
    """Oracle of the pixel-centre rule: shapely asked pixel by pixel, in pixel coordinates."""
    rows, columns = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    return shapely.contains_xy(shape, columns, rows)


TONGUE = shapely.Polygon([(10.2, 3.1), (33.7, 8.4), (41.3, 30.2), (20.9, 36.6), (25.1, 15.3)])
HOLED = shapely.box(44.3, 5.2, 58.7, 20.6).difference(shapely.box(48.2, 9.1, 52.4, 14.3))


@pytest.mark.parametrize("turn", [0.0, 13.4])
@pytest.mark.parametrize(("name", "crs"), [("a.gpkg", UTM), ("a.gpkg", "EPSG:32647"), ("a.geojson", "EPSG:4326")])
def test_polygons_of_any_crs_are_burnt_by_pixel_centres(tmp_path, name, crs, turn):
    geobox = grid(turn=turn)
    path = write_polygons(tmp_path / name, [TONGUE, HOLED], crs=crs, geobox=geobox)
    expected = inside(TONGUE, geobox) | inside(HOLED, geobox)
    assert expected.sum() > 400
    np.testing.assert_array_equal(whole(path, geobox), expected)


def test_windows_that_reach_past_the_image_are_unknown_there_and_the_same_inside(tmp_path):
    path = write_polygons(tmp_path / "a.gpkg", [TONGUE])
    everything = whole(path)
    with open_labels(path, grid()) as labels:
        for window in blocks((40, 60), 16):
            rows, columns = window.toslices()
            np.testing.assert_array_equal(labels.read(window), everything[rows, columns])
        past = labels.read(Window(-5, 30, 20, 20))
        outside = labels.read(Window(200, 200, 3, 3))
    np.testing.assert_array_equal(past[:10, 5:], everything[30:, :15])
    assert (past[10:] == 255).all()
    assert (past[:, :5] == 255).all()
    assert (outside == 255).all()


def test_invalid_polygons_are_repaired_and_counted(tmp_path):
    bow = shapely.Polygon([(5, 5), (25, 25), (25, 5), (5, 25)])
    path = write_polygons(tmp_path / "a.gpkg", [bow, TONGUE, shapely.Polygon()])
    with open_labels(path, grid()) as labels:
        assert labels.findings == {"features": 3, "repaired": 1, "dropped": 1}
        assert labels.read(Window(0, 0, 60, 40))[15, 8] == 1


def test_the_layer_is_the_only_one_or_landslides_or_the_one_named(tmp_path):
    path = write_polygons(tmp_path / "a.gpkg", [TONGUE], layer="scars")
    write_polygons(path, [HOLED], layer="roads")
    with pytest.raises(LabelError, match="has the layers scars, roads"), open_labels(path, grid()):
        pass
    np.testing.assert_array_equal(whole(path, layer="roads"), inside(HOLED, grid()))
    with pytest.raises(LabelError, match="unknown layer 'road'; did you mean 'roads'"):
        whole(path, layer="road")
    write_polygons(path, [TONGUE.buffer(-2)], layer="landslides")
    np.testing.assert_array_equal(whole(path), inside(TONGUE.buffer(-2), grid()))


def test_labels_without_crs_are_refused(tmp_path):
    vector = write_polygons(tmp_path / "a.gpkg", [TONGUE], crs=None)
    raster = write_raster(tmp_path / "a.tif", np.zeros((40, 60), np.uint8), crs=None)
    for path in (vector, raster):
        with pytest.raises(LabelError, match="has no CRS"):
            whole(path)


def test_labels_outside_the_image_name_both_extents(tmp_path):
    far = shapely.transform(TONGUE, lambda p: p + np.array([5000, 0]))
    vector = write_polygons(tmp_path / "a.gpkg", [far])
    raster = write_raster(
        tmp_path / "a.tif", np.zeros((40, 60), np.uint8), geobox=GeoBox((40, 60), Affine(2, 0, 5e5, 0, -2, 3e6), UTM)
    )
    message = r"lies outside the image: it covers 367\d+, 346\d+, .*the image 357240, 3463920, .* in EPSG:32648\)"
    with pytest.raises(LabelError, match=message):
        whole(vector)
    with pytest.raises(LabelError, match=r"lies outside the image: it covers 500000, 2999920"):
        whole(raster)
    # nor does it help that the box around all polygons holds the image
    around = [shapely.transform(TONGUE, lambda p, s=s: p + s) for s in (-5000, 5000)]
    with pytest.raises(LabelError, match="lies outside the image"):
        whole(write_polygons(tmp_path / "b.gpkg", around))


def test_an_empty_layer_is_all_background_with_a_warning(tmp_path, caplog):
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs=UTM)).to_file(path, layer="none", geometry_type="Polygon")
    assert (whole(path) == 0).all()
    assert "holds no landslide" in caplog.text


def test_points_are_no_landslides(tmp_path):
    path = write_polygons(tmp_path / "a.gpkg", [shapely.Point(4, 4)])
    with pytest.raises(LabelError, match="no layer of polygons"):
        whole(path)


@pytest.mark.parametrize("high", [1, 255])
def test_rasters_of_0_and_1_or_255_on_the_same_pixels(tmp_path, high):
    marks = inside(TONGUE, grid())
    path = write_raster(tmp_path / "a.tif", (marks * high).astype(np.uint8))
    np.testing.assert_array_equal(whole(path), marks)


def test_a_raster_on_other_pixels_gives_its_nearest(tmp_path):
    """4 m labels of another zone, compared with each centre asked for by pyproj."""
    there = pyproj.Transformer.from_crs(UTM, "EPSG:32647").transform(LEFT, TOP)
    coarse = GeoBox((80, 90), Affine(4, 0, there[0] - 20, 0, -4, there[1] + 40), "EPSG:32647")
    marks = np.random.default_rng(0).integers(0, 2, (80, 90)).astype(np.uint8)
    path = write_raster(tmp_path / "a.tif", marks, geobox=coarse, crs="EPSG:32647")
    rows, columns = np.mgrid[:40, :60] + 0.5
    x, y = pyproj.Transformer.from_crs(UTM, "EPSG:32647").transform(*(grid().affine @ (columns, rows)))
    column, row = ~coarse.affine @ (x, y)
    near_edge = (np.abs(column - np.rint(column)) < 0.02) | (np.abs(row - np.rint(row)) < 0.02)
    known = (column >= 0) & (column < 90) & (row >= 0) & (row < 80)
    assert known.mean() > 0.5
    expected = np.full((40, 60), 255)
    expected[known] = marks[row[known].astype(int), column[known].astype(int)]
    found = whole(path)
    np.testing.assert_array_equal(found[~near_edge], expected[~near_edge])


def test_nodata_of_a_raster_is_unknown_but_marked_zero_is_ground(tmp_path):
    values = np.zeros((40, 60), np.uint8)
    values[:10], values[10:20] = 1, 9
    np.testing.assert_array_equal(np.unique(whole(write_raster(tmp_path / "a.tif", values, nodata=9))), [0, 1, 255])
    values[10:20] = 0
    np.testing.assert_array_equal(whole(write_raster(tmp_path / "b.tif", values, nodata=0)), values)


@pytest.mark.parametrize("values", [(0, 7), (0, 1, 255), (0, 128, 255), (-1, 1)])
def test_other_values_are_told(tmp_path, values):
    marks = np.resize(np.array(values, np.int16), (40, 60))
    with pytest.raises(LabelError, match=rf"holds the values {', '.join(map(str, values))}; expected 0 .* 1 or 255"):
        whole(write_raster(tmp_path / "a.tif", marks))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(RasterError, match=r"none\.gpkg does not exist"):
        whole(tmp_path / "none.gpkg")
    (tmp_path / "torn.gpkg").write_bytes(b"SQLite format 3\0" + b"\0" * 100)
    with pytest.raises(RasterError, match="cannot be read"):
        whole(tmp_path / "torn.gpkg")
    (tmp_path / "empty.tif").write_bytes(b"")
    with pytest.raises(RasterError, match="is empty"):
        whole(tmp_path / "empty.tif")


def test_nothing_labelled():
    assert (whole(None) == 255).all()


def test_an_area_holds_windows_and_marks_pixels(tmp_path):
    area = read_area(
        write_polygons(tmp_path / "a.gpkg", [shapely.box(0, 0, 20, 40), shapely.box(20, 0, 30, 40)]), grid()
    )
    assert area.holds(Window(10, 0, 20, 20))  # across the seam of two polygons
    assert not area.holds(Window(11, 0, 20, 20))
    marks = area.read(Window(25, -2, 10, 10))
    assert marks[2:, :5].all()
    assert not marks[:2].any()
    assert not marks[:, 5:].any()
    far = write_polygons(tmp_path / "b.gpkg", [shapely.box(900, 0, 920, 40)])
    with pytest.raises(GridError, match="lies outside the image"):
        read_area(far, grid())
    gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs=UTM)).to_file(tmp_path / "c.gpkg", geometry_type="Polygon")
    with pytest.raises(LabelError, match="holds no polygon"):
        read_area(tmp_path / "c.gpkg", grid())
