"""Pictures of what should be looked at first show the right ground, outlined."""

import shutil

import cv2
import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from geo.errors import OutputExistsError, RasterError
from geo.inventory import thumbnails
from geo.raster import REFLECTANCE
from tests.review_scene import CRS, GRID, NEWER, SCARS, box, image, make, write


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return gpd.read_file(make(folder), layer="review"), image(folder / "fused.tif")


def seen(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).astype(int)


def line(picture):
    """Where the outline is drawn."""
    return (np.abs(picture - np.array([0, 220, 255])) < 60).all(axis=2)


def test_the_first_by_rank_get_a_picture(place):
    review, path = place
    pictures = thumbnails.draw(review, {NEWER: path}, 3)
    ranked = review[review["scene"] == NEWER].sort_values("look_first")
    assert list(pictures) == ranked["id"].tolist()[:3]
    assert len(thumbnails.draw(review, {NEWER: path}, 100)) == len(SCARS), "none of the scene without an image"
    assert thumbnails.draw(review, {}, 3) == {}


@pytest.mark.parametrize("crs", ["EPSG:32648", "EPSG:32649"])
def test_the_outline_lies_around_the_scar(place, crs):
    review, path = place
    scar = review[review.geometry.contains(shapely.Point(GRID.affine @ (SCARS[4][1] + 5.5, SCARS[4][0] + 5.5)))]
    (content,) = thumbnails.draw(scar.to_crs(crs), {NEWER: path}, 1).values()
    picture = seen(content)
    assert picture.shape == (256, 256, 3)
    side = 30 + 2 * 20  # pixels of the image: the scar, and 40 m on both sides
    rows, columns = np.nonzero(line(picture))
    expected = [v * 256 / side for v in (20, 50, 25, 45)]
    np.testing.assert_allclose([rows.min(), rows.max(), columns.min(), columns.max()], expected, atol=3.5)
    inside, outside = picture[120:136, 120:136].mean(axis=(0, 1)), picture[5:30, 5:30].mean(axis=(0, 1))
    assert inside[2] > outside[2] + 50
    assert outside[1] > outside[2], "forest"


def test_red_is_red(place, tmp_path):
    values = np.full((4, *GRID.shape), 0.1) * np.random.default_rng(0).uniform(0.5, 1.5, GRID.shape)
    values[2, 100:130, 80:100] = 0.5
    path = write(tmp_path / "red.tif", values, ["blue", "green", "red", "nir"], REFLECTANCE, GEOCRACK_SCENE=NEWER)
    frame = gpd.GeoDataFrame({"id": ["a"], "scene": [NEWER], "look_first": [1]}, geometry=[box(100, 80)], crs=CRS)
    blue, green, red = seen(thumbnails.draw(frame, {NEWER: path}, 1)["a"])[100:156, 110:146].mean(axis=(0, 1))
    assert red > 200 > 150 > max(green, blue)


def test_ground_past_the_image_and_nodata_are_grey(place, tmp_path):
    review, path = place
    corner = gpd.GeoDataFrame(
        {"id": ["a"], "scene": [NEWER], "look_first": [1]}, geometry=[box(-20, -20, 30, 30)], crs=review.crs
    )
    picture = seen(thumbnails.draw(corner, {NEWER: path}, 1)["a"])
    assert (picture[:60, :60] == 40).all()
    assert (picture[-30:, -30:] > 200).all(), "the first scar"
    far = corner.assign(geometry=[box(5000, 5000)])
    assert (seen(thumbnails.draw(far, {NEWER: path}, 1)["a"])[:40] == 40).all()


def test_holes_are_outlined_too(place):
    review, path = place
    ring = box(100, 80, 60, 60).difference(box(120, 100, 20, 20))
    frame = gpd.GeoDataFrame({"id": ["a"], "scene": [NEWER], "look_first": [1]}, geometry=[ring], crs=review.crs)
    picture = seen(thumbnails.draw(frame, {NEWER: path}, 1)["a"])
    assert line(picture)[100:156, 100:156].any()


def test_window_is_a_square_that_holds_the_outline():
    rotated = Affine.rotation(30) @ GRID.affine
    for outline in (box(3, 5, 2, 90), box(3, 5, 70, 1), box(0, 0, 1, 1)):
        moved = shapely.transform(outline, lambda p: np.column_stack(Affine.rotation(30) @ (p[:, 0], p[:, 1])))
        window = thumbnails._around(moved, rotated, 20)
        assert window.width == window.height
        columns, rows = ~rotated @ tuple(shapely.get_coordinates(moved).T)
        assert window.col_off <= columns.min() < columns.max() <= window.col_off + window.width
        assert window.row_off <= rows.min() < rows.max() <= window.row_off + window.height


def test_folder_is_named_after_the_inventory_and_is_whole_or_absent(place, tmp_path):
    review, path = place
    pictures = thumbnails.draw(review, {NEWER: path}, 2)
    named = thumbnails.named(review, tmp_path / "my map.gpkg", pictures)
    told = dict(zip(named["id"], named["thumbnail"], strict=True))
    assert {told[i] for i in pictures} == {f"my map.review/{i}.png" for i in pictures}
    assert named["thumbnail"].notna().sum() == 2
    thumbnails.write(tmp_path / "my map.gpkg", pictures)
    assert all((tmp_path / told[i]).read_bytes() == pictures[i] for i in pictures)
    with pytest.raises(OutputExistsError):
        thumbnails.write(tmp_path / "my map.gpkg", pictures)
    thumbnails.write(tmp_path / "my map.gpkg", {"b": b"x"}, overwrite=True)
    assert [p.name for p in (tmp_path / "my map.review").iterdir()] == ["b.png"]
    (tmp_path / "other.review").mkdir()
    (tmp_path / "other.review" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="folder of other files"):
        thumbnails.write(tmp_path / "other.gpkg", pictures, overwrite=True)


def test_a_torn_image_is_told(place, tmp_path):
    review, path = place
    torn = tmp_path / "torn.tif"
    shutil.copy(path, torn)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size * 2 // 3])
    with pytest.raises(RasterError, match=r"torn\.tif"):
        thumbnails.draw(review, {NEWER: torn}, 6)
