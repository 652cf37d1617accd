"""Outlines of Labelme in place of masks, and chips of one grey band."""

import json

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from geo.errors import LabelError, RasterError
from geo.image import open_image
from geo.orientation import upright
from models.chips import open_chips, read_chip
from models.labelme import labelme_mask
from models.mask_files import read_mask
from models.photographs import import_photographs


def outlines(path, *shapes, height=40, width=60):
    content = {"version": "5.0.1", "shapes": list(shapes), "imageHeight": height, "imageWidth": width}
    path.write_text(json.dumps(content))
    return path


def shape(points, label="crack", kind="polygon"):
    return {"label": label, "points": points, "shape_type": kind}


def test_a_polygon_covers_its_pixels(tmp_path):
    path = outlines(tmp_path / "a.json", shape([[10, 5], [30, 5], [30, 25], [10, 25]]))
    mask = labelme_mask(path)
    assert (mask.shape, mask.dtype) == ((40, 60), np.uint8)
    assert mask[5:25, 10:30].all()
    assert abs(int(mask.sum()) - 400) <= 41  # borders through pixel corners may fall to either side


def test_other_kinds_and_background(tmp_path):
    path = outlines(
        tmp_path / "a.json",
        shape([[30, 25], [10, 5]], kind="rectangle"),
        shape([[20, 15], [24, 15]], "background", "circle"),
        shape([[40, 2.5], [59, 2.5]], kind="line"),
        shape([[1, 1], [2, 2]]),  # an outline that was never finished
    )
    mask = labelme_mask(path)
    assert mask[6, 12] == 1
    assert mask[15, 20] == 0
    assert mask[2, 42:58].all()
    assert not mask[10:, 41:].any()


SIZED = '{"imageHeight": 4, "imageWidth": 4, "shapes": [%s]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as outlines of Labelme"),
        ('{"shapes": []}', "no 'imageHeight'"),
        (SIZED % '{"label": "a", "points": [["x", 1]]}', "could not convert"),
        (SIZED % '{"label": "a", "points": [[1, 1]], "shape_type": "point"}', "'point'"),
        (SIZED % '{"label": "a", "points": [[1e10, 1], [5, 30], [30, 30]]}', "a point at 1e.10, far outside"),
        ('{"imageHeight": -1, "imageWidth": 4, "shapes": []}', "an image of -1 x 4 pixels"),
        ('{"imageHeight": 1e999, "imageWidth": 4, "shapes": []}', "cannot convert float infinity"),
        ("[" * 200_000, r"cannot be read as outlines of Labelme \(maximum recursion depth exceeded"),
    ],
    ids=lambda text: text[:20],
)
def test_damaged_outlines_are_told(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(LabelError, match=message):
        labelme_mask(tmp_path / "a.json")


def test_points_beside_the_image_are_cut_at_its_border(tmp_path):
    far = outlines(tmp_path / "a.json", shape([[-1e6, 10], [1e6, 10], [1e6, 20], [-1e6, 20]]))
    mask = labelme_mask(far)
    assert mask[10:20].all()
    assert not mask[:10].any()
    assert not mask[21:].any()


def test_outlines_that_an_editor_marked_or_renamed_are_read(tmp_path):
    path = outlines(tmp_path / "a.JSON", shape([[10, 5], [30, 25]], kind="rectangle"))
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_mask(path)[5:25, 10:30].all()


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"images/p{number}.png"), rng.integers(1, 255, (40, 60, 3)).astype(np.uint8))
        outlines(tmp_path / f"masks/p{number}.json", shape([[10, 5], [30, 5], [30, 25], [10, 25]]))
    return tmp_path


def test_outlines_and_grey_become_chips(photographs):
    import_photographs(
        photographs / "images", photographs / "masks", photographs / "chips", grey=True, val_fraction=0.3
    )
    chips = open_chips([photographs / "chips"])
    assert tuple(chips.bands) == ("grey",)
    record = chips.records[0]
    image, label, valid = read_chip(record)
    blue, green, red = cv2.imread(str(photographs / f"images/{record.id}.png")).transpose(2, 0, 1).astype(float)
    np.testing.assert_allclose(image[0], 0.299 * red + 0.587 * green + 0.114 * blue, rtol=1e-5)
    assert valid.all()
    assert label[10, 15] == 1
    assert label[30, 50] == 0


def test_outlines_of_another_size_are_told_before_a_mask_is_made(photographs):
    outlines(photographs / "masks/p1.json", height=10**7, width=10**7)
    with pytest.raises(LabelError, match=r"p1\.json has 10000000 x 10000000 pixels, its image .*p1\.png 40 x 60"):
        import_photographs(photographs / "images", photographs / "masks", photographs / "chips")


def test_hidden_files_are_passed_over(photographs):
    for folder in ("images", "masks"):
        (photographs / folder / "._p0.png").write_bytes(b"\x00\x05\x16\x07")
    import_photographs(photographs / "images", photographs / "masks", photographs / "chips")
    assert len(open_chips([photographs / "chips"]).records) == 3


@pytest.mark.parametrize("name", ["slides.geojson", "slides.gpkg", "slides.SHP"])
def test_polygons_in_place_of_masks_are_shown_their_way(photographs, name):
    (photographs / "polygons").mkdir()
    (photographs / "polygons" / name).write_text("{}")
    for given in (photographs / "polygons", photographs / "polygons" / name):
        with pytest.raises(RasterError, match=f"{name} go through `geocrack tile IMAGE --labels POLYGONS`"):
            import_photographs(photographs / "images", given, photographs / "chips")


def test_grey_is_known_of_any_image_with_the_three_colours(photographs):
    with open_image(photographs / "images/p0.png") as image:
        assert image.available == ("red", "green", "blue", "grey")
        both, _ = image.read(Window(0, 0, 5, 4), ["grey", "red"])
        red, _ = image.read(Window(0, 0, 5, 4), ["red"])
    np.testing.assert_array_equal(both[1], red[0])
    with open_image(photographs / "images/p0.png", ["a", "b", "c"]) as image:
        assert image.available == ("a", "b", "c")


def test_grey_of_other_bands_is_told(photographs):
    with pytest.raises(RasterError, match="grey is worked out of red, green and blue"):
        import_photographs(
            photographs / "images",
            photographs / "masks",
            photographs / "chips",
            bands=("nir", "red", "green"),
            grey=True,
        )


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (128, 0, 0)


def with_table(path, numbers, *colours):
    """Write a mask whose numbers stand for colours."""
    profile = {
        "driver": "PNG" if path.suffix == ".png" else "GTiff",
        "height": numbers.shape[0],
        "width": numbers.shape[1],
        "count": 1,
        "dtype": "uint8",
    }
    with rasterio.open(path, "w", **profile) as dst:
        dst.write_colormap(1, {number: (*colour, 255) for number, colour in enumerate(colours)})
        dst.write(numbers, 1)
    return path


@pytest.mark.parametrize(
    ("colours", "yes"),
    [
        ((BLACK, WHITE), 1),
        ((WHITE, BLACK), 0),
        ((WHITE, BLACK, RED), 0),  # no pixel has the red
        ((BLACK, RED), 1),
        ((BLACK, RED, BLACK, BLACK), 1),
        ((BLACK, (64, 64, 64)), 1),
    ],
)
def test_a_mask_with_a_colour_table_is_read_as_people_see_it(tmp_path, colours, yes):
    numbers = np.eye(20, dtype=np.uint8)
    mask = read_mask(with_table(tmp_path / "mask.png", numbers, *colours))
    np.testing.assert_array_equal(mask, numbers == yes)


def test_numbers_without_a_colour_stand(tmp_path):
    numbers = np.eye(20, dtype=np.uint8)
    drawn = Image.new("P", (20, 20))
    drawn.putdata(numbers.ravel().tolist())
    drawn.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), numbers)


@pytest.mark.parametrize("colours", [(RED, BLACK), (WHITE, RED), (BLACK, BLACK)])
def test_a_colour_table_that_says_neither_is_refused(tmp_path, colours):
    with pytest.raises(LabelError, match="does not tell what is marked"):
        read_mask(with_table(tmp_path / "mask.png", np.eye(20, dtype=np.uint8), *colours))


def test_a_mask_that_lacks_its_colour_table_is_read_by_its_numbers(tmp_path):
    numbers = np.eye(9, dtype=np.uint8)
    with rasterio.open(tmp_path / "mask.tif", "w", driver="GTiff", height=9, width=9, count=1, dtype="uint8") as dst:
        dst.write(numbers, 1)
        dst.colorinterp = [ColorInterp.palette]
    with rasterio.open(tmp_path / "mask.tif") as src:
        assert src.colorinterp == (ColorInterp.palette,)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), numbers)


def test_nodata_of_a_colour_table_is_not_known(tmp_path):
    path = with_table(tmp_path / "mask.tif", np.arange(9, dtype=np.uint8).reshape(3, 3) % 3, WHITE, BLACK, RED)
    with rasterio.open(path, "r+") as dst:
        dst.nodata = 2
    np.testing.assert_array_equal(read_mask(path), [[1, 0, 255]] * 3)


def turned_photographs(tmp_path, how, size=(40, 60)):
    """Images with bright squares that people see at rows 5 to 15, columns 8 to 20; their files hold them turned."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    inverse = {6: 8, 8: 6}.get(how, how)
    for number in range(2):
        seen = np.full((*size, 3), 60, np.uint8)
        seen[5:15, 8:20] = 220
        seen[30 + number, 3] = 200
        stored = Image.fromarray(upright(seen.transpose(2, 0, 1), inverse).transpose(1, 2, 0))
        exif = stored.getexif()
        exif[0x0112] = how
        stored.save(tmp_path / f"images/p{number}.jpg", exif=exif, quality=95)
    return tmp_path


def imported(folder):
    import_photographs(folder / "images", folder / "masks", folder / "chips", val_fraction=0)
    return [read_chip(record)[:2] for record in open_chips([folder / "chips"]).records]


@pytest.mark.parametrize("how", [3, 5, 6, 8])
def test_photographs_are_turned_as_they_were_seen_when_outlined(tmp_path, how, caplog):
    folder = turned_photographs(tmp_path, how)
    for number in range(2):
        outlines(folder / f"masks/p{number}.json", shape([[8, 5], [20, 15]], kind="rectangle"))
    with caplog.at_level("WARNING"):
        chips = imported(folder)
    assert sum("EXIF orientation" in record.message for record in caplog.records) == (how == 3)
    for image, label in chips:
        assert image.shape[1:] == label.shape == (40, 60)
        inner = np.zeros(label.shape, bool)
        inner[6:14, 9:19] = True
        assert label[inner].all()
        assert image[:, inner].min() > 200
        assert label.sum() <= 13 * 11


def test_a_mask_that_fits_only_the_stored_pixels_is_turned_with_them(tmp_path):
    folder = turned_photographs(tmp_path, 6)
    seen = np.zeros((40, 60), np.uint8)
    seen[5:15, 8:20] = 255
    for number in range(2):
        cv2.imwrite(str(folder / f"masks/p{number}.png"), upright(seen, 8))
    for _, label in imported(folder):
        np.testing.assert_array_equal(label, seen > 0)
