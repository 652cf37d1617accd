"""Sets of images: classes, splits that copies and photographs do not cross, tags, and a sentence for each mistake."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from made_chips import write_chips
from made_pictures import picture, write_set

from geo.errors import LabelError, ModelError, RasterError
from models.classification.pictures import check_learnable, images_below, open_sets
from models.classification.reading import Scale, change, measure, read_picture
from models.classification.recipe import ImageAugmentation
from models.classification.tags import TagTable, fit_tags, read_tags


def opened(*folders, val=0.2, test=0.2, seed=0, **more):
    return open_sets(folders, val_fraction=val, test_fraction=test, seed=seed, threads=1, **more)


def test_folders_of_classes_are_dealt_class_by_class(tmp_path):
    sets = opened(write_set(tmp_path / "walls", 10))
    assert sets.classes == ("crack", "sound")
    for label in (0, 1):
        counts = {s: sum(p.label == label for p in sets.split(s)) for s in ("train", "val", "test")}
        assert counts == {"train": 6, "val": 2, "test": 2}
    assert opened(tmp_path / "walls").fingerprint == sets.fingerprint
    assert opened(tmp_path / "walls", seed=1).fingerprint != sets.fingerprint


def test_hidden_files_and_folders_are_no_images(tmp_path):
    folder = write_set(tmp_path / "walls", 5)
    (folder / "crack/.thumbs").mkdir()
    for name in ("._000.png", ".DS_Store", ".thumbs/000.png", "Thumbs.db"):
        (folder / "crack" / name).write_bytes(b"\x00\x05\x16\x07")
    assert len(opened(folder).pictures) == len(images_below(folder)) == 10


def test_copies_and_parts_of_a_photograph_stay_together(tmp_path):
    folder = write_set(tmp_path / "walls", 12)
    for number in range(4):
        original = cv2.imread(str(folder / "crack" / f"00{number}.png"))
        turned = (original, np.rot90(original), original[:, ::-1], original.transpose(1, 0, 2))[number]
        cv2.imwrite(str(folder / "crack" / f"copy{number}.png"), np.ascontiguousarray(turned))
        for kind in ("crack", "sound"):  # one photograph with parts of both classes, one of them a copy
            cv2.imwrite(str(folder / kind / f"wall{number}__{kind}.png"), picture(500 + number, kind == "crack"))
    sets = opened(folder)
    assert sets.copies == 4
    where = {p.path.relative_to(folder).as_posix(): p.split for p in sets.pictures}
    for number in range(4):
        assert where[f"crack/00{number}.png"] == where[f"crack/copy{number}.png"]
        assert where[f"crack/wall{number}__crack.png"] == where[f"sound/wall{number}__sound.png"]


def test_an_absurd_pixel_is_told_with_its_image(tmp_path):
    from models.classification.reading import measure

    folder = write_set(tmp_path / "walls", 6)
    sets = opened(folder)
    bands = sets.pictures[0].bands
    assert len(measure(sets.pictures, bands, None)[0]) == len(bands)
    image = np.asarray(cv2.imread(str(folder / "crack" / "003.png")), dtype=np.float32)
    image[5, 5, 0] = 1e30
    (folder / "crack" / "003.png").unlink()
    cv2.imwrite(str(folder / "crack" / "003.tif"), image)
    sets = opened(folder)
    with pytest.raises(RasterError, match=r"003\.tif holds the value 1e\+30 in the band"):
        measure(sets.pictures, sets.pictures[0].bands, None)


def test_a_copy_in_another_set_goes_where_the_first_is(tmp_path):
    one, two = write_set(tmp_path / "one", 10), write_set(tmp_path / "two", 10, first=100)
    for number in range(10):
        shutil.copy(one / "crack" / f"{number:03d}.png", two / "crack" / f"again{number}.png")
    sets = opened(one, two)
    split = {p.id: p.split for p in sets.pictures}
    assert all(split[f"one/crack/{n:03d}.png"] == split[f"two/crack/again{n}.png"] for n in range(10))


def test_splits_made_by_hand_are_kept_and_copies_across_them_refused(tmp_path):
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        write_set(tmp_path / "hand" / split, 3, first=first)
    sets = opened(tmp_path / "hand")
    assert {p.path.parts[-3] == p.split for p in sets.pictures} == {True}
    shutil.copy(tmp_path / "hand/train/crack/000.png", tmp_path / "hand/test/crack/leak.png")
    with pytest.raises(LabelError, match=r"of the split '.*show the same picture, or parts of one; keep them in one"):
        opened(tmp_path / "hand")


def test_chips_of_scenes_are_a_set_too(tmp_path):
    sets = opened(write_chips(tmp_path / "chips"))
    assert sets.classes == ("background", "landslide")
    assert [len(sets.split(s)) for s in ("train", "val", "test")] == [6, 2, 2]
    assert sets.pictures[0].bands == ("blue", "green", "red", "nir")


def spoil_one_class(folder):
    shutil.rmtree(folder / "sound")


def spoil_empty_class(folder):
    for file in (folder / "sound").iterdir():
        file.unlink()


def spoil_no_class(folder):
    spoil_one_class(folder)
    shutil.rmtree(folder / "crack")


def spoil_bands(folder):
    cv2.imwrite(str(folder / "sound" / "grey.png"), picture(5, False)[:, :, 0])


def spoil_zero_bytes(folder):
    (folder / "sound" / "000.png").write_bytes(b"")


def spoil_damaged(folder):
    file = folder / "sound" / "000.png"
    file.write_bytes(file.read_bytes()[:900])


def spoil_two_classes(folder):
    shutil.copy(folder / "crack" / "001.png", folder / "sound" / "same.png")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            spoil_one_class,
            LabelError,
            "holds only the class 'crack'; a classifier needs a folder of images for each of",
        ),
        (spoil_empty_class, LabelError, r"sound holds no images; expected files such as"),
        (spoil_no_class, LabelError, "holds no folder of a class"),
        (spoil_bands, RasterError, r"grey\.png has the bands grey, .* has red, green, blue; give images with the same"),
        (spoil_zero_bytes, RasterError, r"000\.png is empty \(0 bytes\)"),
        (spoil_damaged, RasterError, r"000\.png is truncated or damaged"),
        (spoil_two_classes, LabelError, "show the same picture, one in the class 'crack', one in 'sound'; keep one"),
    ],
)
def test_mistakes_have_a_sentence(tmp_path, spoil, error, message):
    spoil(write_set(tmp_path / "walls", 4))
    with pytest.raises(error, match=message):
        opened(tmp_path / "walls")


def test_sets_must_fit_each_other(tmp_path):
    one = write_set(tmp_path / "a" / "walls", 3)
    with pytest.raises(LabelError, match="have one name, 'walls'"):
        opened(one, write_set(tmp_path / "b" / "walls", 3, first=50))
    with pytest.raises(LabelError, match=r"has the classes crack, rust, .* has crack, sound"):
        opened(one, write_set(tmp_path / "other", 3, classes=("crack", "rust"), first=90))
    with pytest.raises(LabelError, match="is no folder"):
        opened(tmp_path / "missing")
    with pytest.raises(LabelError, match=r"no image of the class 'crack' is to choose the weights by \(split 'val'\)"):
        check_learnable(opened(one, val=0.01))


def test_images_of_any_size_are_fitted_from_their_middle(tmp_path):
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 200
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    scale = Scale(("red", "green", "blue"), (100.0,) * 3, (50.0,) * 3, 10)
    values, valid = read_picture(tmp_path / "wide.png", scale.bands)
    image, good = scale.fit(values, valid)
    assert image.shape == (10, 10, 3)
    assert np.allclose(image, 2)
    assert good.all()
    valid[:, :20] = False
    image, good = scale.fit(np.where(valid, values, np.nan).astype(np.float32), valid)
    assert (image[~good] == 0).all()
    assert good.mean() == 0.5
    with pytest.raises(ModelError, match=r"looks at the bands nir, .* has red, green, blue"):
        read_picture(tmp_path / "wide.png", ["nir"])


def test_photographs_are_seen_upright(tmp_path):
    stored = Image.fromarray(np.dstack([np.repeat(np.uint8([[0], [200]]), 24, axis=1).repeat(8, axis=0)] * 3))
    exif = stored.getexif()
    exif[0x0112] = 6  # what lies on top is to be seen at the right
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    values, valid = read_picture(tmp_path / "a.jpg", ["red"])
    assert values.shape == (1, 24, 16)
    assert valid.shape == (24, 16)
    assert (values[0, :, :7] > 190).all()
    assert (values[0, :, 9:] < 10).all()


def test_bands_without_any_difference_are_refused(tmp_path):
    folder = write_set(tmp_path / "walls", 2)
    for file in folder.rglob("*.png"):
        image = cv2.imread(str(file))
        image[:, :, 0] = 7
        cv2.imwrite(str(file), image)
    with pytest.raises(ModelError, match="the band blue of the training images has one value everywhere"):
        measure(opened(folder).pictures, ("red", "green", "blue"), None)


def test_hue_turns_colours_around_grey_whatever_the_order_of_bands():
    scale = Scale(("nir", "blue", "green", "red"), (1.0, 10.0, 20.0, 30.0), (1.0, 2.0, 4.0, 5.0), 8)
    matrix, shift = scale.hue_turn(120)
    physical = np.array([0.5, 1.0, 2.0, 3.0])  # blue 1, green 2, red 3
    turned = (matrix @ ((physical - scale.mean) / scale.std) + shift) * scale.std + scale.mean
    assert turned == pytest.approx([0.5, 2.0, 3.0, 1.0])  # a third of a turn hands red on to green, green to blue
    assert Scale(("pan",), (0.0,), (1.0,), 8).hue_turn(30) is None
    grey = np.array([7.0, 5.0, 5.0, 5.0])
    matrix, shift = scale.hue_turn(33)
    assert (matrix @ ((grey - scale.mean) / scale.std) + shift) * scale.std + scale.mean == pytest.approx(grey)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_changes_follow_chance_alone_and_take_any_bands(bands):
    names = ("red", "green", "blue", "nir", "slope")[:bands]
    scale = Scale(names, (0.0,) * bands, (1.0,) * bands, 16)
    settings = ImageAugmentation(
        rotation_deg=20, flips=["horizontal"], zoom=0.1, crop=0.8, centre_crop=0.5, brightness=0.2, contrast=0.2,
        hue_deg=30,
    )  # fmt: skip
    image = np.random.default_rng(0).standard_normal((16, 16, bands)).astype(np.float32)
    valid = np.ones((16, 16), bool)
    one, two, other = (change(image, valid, settings, np.random.default_rng(s), scale) for s in (1, 1, 2))
    assert one.shape == image.shape
    assert one.dtype == np.float32
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_middle_is_cut_out_where_asked():
    scale = Scale(("red",), (0.0,), (1.0,), 16)
    image = np.zeros((16, 16, 1), np.float32)
    image[4:12, 4:12] = 1
    settings = ImageAugmentation(crop=0.5, centre_crop=1.0)
    found = change(image, np.ones((16, 16), bool), settings, np.random.default_rng(0), scale)
    assert np.allclose(found, 1)


def test_tags_become_numbers(tmp_path):
    folder = write_set(tmp_path / "walls", 2)
    sets = opened(folder)
    rows = ["image,km,setting", "crack/000.png,2,cut", "crack/001.png,4,", "sound/000.png,,mine", "sound/001.png,6,cut"]
    (folder / "tags.csv").write_text("\n".join(rows))
    read = read_tags(sets.pictures, sets.folders, ["km", "setting"])
    table = fit_tags(list(read.values()), ["km"], ["setting"])
    assert table == TagTable({"km": (4.0, pytest.approx(1.632993))}, {"setting": ("cut", "mine")})
    assert TagTable.from_plain(table.plain()) == table
    assert table.encode(read["walls/sound/000.png"]).tolist() == [0, 1, 0, 1]
    assert table.encode(read["walls/crack/001.png"]).tolist() == [0, 0, 0, 0]
    assert table.encode({"image": "", "km": "4", "setting": "new"}).tolist() == [0, 0, 0, 0]
    with pytest.raises(LabelError, match="holds 'far' under 'km'"):
        table.encode({"image": "a", "km": "far", "setting": ""})
    with pytest.raises(LabelError, match="'size' is missing"):
        read_tags(sets.pictures, sets.folders, ["size"])
    (folder / "tags.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(LabelError, match="1 images have no row in tags"):
        read_tags(sets.pictures, sets.folders, ["km"])
    (folder / "tags.csv").unlink()
    with pytest.raises(LabelError, match=r"tags\.csv does not exist"):
        read_tags(sets.pictures, sets.folders, ["km"])


@pytest.mark.parametrize("content", ["image,km\nä.png,1\n".encode("latin-1"), b"image,km\n" + b"a" * 200_000 + b",1\n"])
def test_tags_that_are_no_csv_in_utf_8_are_told(tmp_path, content):
    (tmp_path / "tags.csv").write_bytes(content)
    with pytest.raises(LabelError, match=r"tags\.csv is no CSV in UTF-8 \(.*\); save it as CSV UTF-8"):
        read_tags([], {"walls": tmp_path}, ["km"])


def test_a_row_of_tags_that_ends_before_its_image_is_passed_over(tmp_path):
    (tmp_path / "tags.csv").write_text("km,image\n1,a.png\n2\n")
    assert read_tags([], {"walls": tmp_path}, ["km"])["walls/a.png"]["km"] == "1"


def test_two_rows_of_one_image_must_say_the_same(tmp_path):
    file = tmp_path / "tags.csv"
    file.write_text("image,km,note\na.png,1,old\na.png, 1,new\n,5\n,6\n")
    assert read_tags([], {"walls": tmp_path}, ["km"])["walls/a.png"]["note"] == "new"
    with pytest.raises(LabelError, match=r"tags\.csv has two rows of a\.png: note is 'old' and 'new'; keep the one"):
        read_tags([], {"walls": tmp_path}, ["note"])
    file.write_text("image,km\na.png,1\n./a.png,2\n")
    with pytest.raises(LabelError, match=r"has two rows of \./a\.png: km is '1' and '2'"):
        read_tags([], {"walls": tmp_path}, ["km"])
