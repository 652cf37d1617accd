"""``geocrack chips import``: photographs keep their pixels, and no picture is in two splits."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from click.testing import CliRunner

from geo.errors import LabelError, RasterError
from models.chips import open_chips, read_chip
from models.photographs import Photograph, deal, wedges
from pipeline.cli import geocrack

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))


def run(*arguments):
    result = CliRunner().invoke(geocrack, [str(a) for a in ("chips", "import", *arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def picture(seed, shape=(40, 50)):
    return np.random.default_rng(seed).integers(2, 256, (*shape, 3)).astype(np.uint8)


def mask(shape=(40, 50), high=255):
    marks = np.zeros(shape, np.uint8)
    marks[5:15, 8:20] = high
    return marks


def save(path, rgb):
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb, [cv2.IMWRITE_WEBP_QUALITY, 101])
    return path


@pytest.fixture
def folders(tmp_path):
    """Twenty images of several formats and sizes, and their masks."""
    for i in range(20):
        shape = (40 + i, 50)
        save(tmp_path / "images" / f"a{i:02d}{('.png', '.webp', '.tif')[i % 3]}", picture(i, shape))
        save(tmp_path / "masks" / f"a{i:02d}.png", mask(shape, high=(255, 1)[i % 2]))
    return tmp_path / "images", tmp_path / "masks"


def test_images_keep_pixels_and_sizes(tmp_path, folders):
    run(*folders, "-o", tmp_path / "chips")
    chips = open_chips([tmp_path / "chips"])
    assert (chips.bands, chips.size, len(chips.records)) == (("red", "green", "blue"), None, 20)
    for i, record in enumerate(chips.records):
        assert record.id == f"a{i:02d}"
        image, label, valid = read_chip(record)
        np.testing.assert_array_equal(np.moveaxis(image, 0, -1), picture(i, (40 + i, 50)))
        np.testing.assert_array_equal(label, mask((40 + i, 50), high=1))
        assert valid.all()
    assert [len(chips.split(s)) for s in ("train", "val", "test")] == [18, 2, 0]
    facts = json.loads((tmp_path / "chips" / "chips.json").read_text())
    assert (facts["crs"], facts["resolution_m"], facts["size"]) == (None, None, None)
    assert json.loads((tmp_path / "chips" / "provenance.json").read_text())["step"] == "chips import"


def test_the_list_is_tested_on_and_the_rest_is_drawn(tmp_path, folders):
    (tmp_path / "test.txt").write_text("# held out\na03\na07.webp\n\n")
    run(*folders, "-o", tmp_path / "chips", "--test-list", tmp_path / "test.txt", "--val-fraction", 0.25)
    chips = open_chips([tmp_path / "chips"])
    assert [r.id for r in chips.split("test")] == ["a03", "a07"]
    assert [len(chips.split(s)) for s in ("train", "val")] == [14, 4]
    run(*folders, "-o", tmp_path / "other", "--test-fraction", 0.2, "--seed", 1)
    assert [len(open_chips([tmp_path / "other"]).split(s)) for s in ("train", "val", "test")] == [14, 2, 4]
    (tmp_path / "test.txt").write_text("a03\nb99\n")
    with pytest.raises(LabelError, match=r"test\.txt names images that are not there: b99"):
        run(*folders, "-o", tmp_path / "none", "--test-list", tmp_path / "test.txt")
    result = run(*folders, "-o", tmp_path / "none", "--test-list", tmp_path / "test.txt", "--test-fraction", 0.1)
    assert result.exit_code == 2
    assert "either --test-list or --test-fraction" in result.output


def test_copies_of_a_picture_go_together(tmp_path, folders):
    images, masks = folders
    for name in ("copy1", "copy2"):
        save(images / f"{name}.webp", picture(3, (43, 50)))
        save(masks / f"{name}.png", mask((43, 50)))
    (tmp_path / "test.txt").write_text("a03\n")
    told = run(images, masks, "-o", tmp_path / "chips", "--test-list", tmp_path / "test.txt").output
    assert "2 images are copies of others" in told
    assert "2 copies of images of the test list were not in it and are tested on too: copy1, copy2" in told
    assert {r.id for r in open_chips([tmp_path / "chips"]).split("test")} == {"a03", "copy1", "copy2"}


@pytest.mark.parametrize("seed", range(3))
def test_turned_and_mirrored_copies_go_together_and_train(tmp_path, folders, seed):
    images, masks = folders
    for number in range(8):
        shape = (40 + number, 50)
        save(images / f"turned{number}.webp", np.rot90(picture(number, shape), 1 + number % 3))
        save(masks / f"turned{number}.png", np.rot90(mask(shape), 1 + number % 3))
        save(images / f"mirrored{number}.webp", picture(number, shape)[:, ::-1])
        save(masks / f"mirrored{number}.png", mask(shape)[:, ::-1])
    shares = ("--val-fraction", 0.3, "--test-fraction", 0.3, "--seed", seed)
    told = run(images, masks, "-o", tmp_path / "c", *shares).output
    assert "16 images are copies of others, perhaps turned or mirrored" in told
    splits = {r.id: r.split for r in open_chips([tmp_path / "c"]).records}
    assert all(splits[f"a{i:02d}"] == splits[f"turned{i}"] == splits[f"mirrored{i}"] for i in range(8))


@pytest.mark.parametrize("seed", range(5))
def test_splits_hold_their_shares_and_never_part_copies(seed):
    photographs = [Photograph(f"p{i:03d}", Path(f"p{i:03d}.png"), Path("m")) for i in range(300)]
    photographs += [Photograph(f"n{i:03d}", Path(f"n{i:03d}.png"), None) for i in range(100)]
    contents = {p.id: p.id[0] + str(int(p.id[1:]) // 2 if int(p.id[1:]) < 60 else p.id) for p in photographs}
    splits, moved, copies = deal(photographs, contents, {"p000"}, val_fraction=0.1, test_fraction=0, seed=seed)
    assert (copies, moved, splits["p001"]) == (60, ["p001"], "test")
    for i in range(0, 60, 2):
        assert splits[f"p{i:03d}"] == splits[f"p{i + 1:03d}"]
    for kind, count in (("p", 30), ("n", 10)):
        assert abs(sum(s == "val" for name, s in splits.items() if name[0] == kind) - count) <= 1
    again = deal(photographs[::-1], contents, {"p000"}, val_fraction=0.1, test_fraction=0, seed=seed)[0]
    assert again == splits, "the order of files has no influence"


def test_negatives_are_all_background(tmp_path, folders):
    save(tmp_path / "calm" / "a01.png", picture(901))
    save(tmp_path / "calm" / "b.png", picture(902))
    run(*folders, "-o", tmp_path / "chips", "--negatives", tmp_path / "calm")
    records = {r.id: r for r in open_chips([tmp_path / "chips"]).records}
    assert len(records) == 22
    for name, seed in (("negative_a01", 901), ("b", 902)):
        image, label, _ = read_chip(records[name])
        np.testing.assert_array_equal(np.moveaxis(image, 0, -1), picture(seed))
        assert (label == 0).all()
    save(tmp_path / "calm" / "c.png", picture(0))
    with pytest.raises(
        LabelError, match=r"a00\.png, .*c\.png show the same picture, once with a mask and once as a neg"
    ):
        run(*folders, "-o", tmp_path / "other", "--negatives", tmp_path / "calm")


def test_negatives_are_tested_on(tmp_path, folders):
    for number in range(4):
        save(tmp_path / "calm" / f"n{number}.png", picture(900 + number))
    (tmp_path / "test.txt").write_text("a03\na07\n")
    given = ("--negatives", tmp_path / "calm")
    listed = (*folders, "--test-list", tmp_path / "test.txt", *given)
    assert "none of the 4 negatives is tested on" in run(*listed, "-o", tmp_path / "none").output
    run(*listed, "-o", tmp_path / "half", "--negatives-test-fraction", 0.5)
    tested = {r.id for r in open_chips([tmp_path / "half"]).split("test")}
    assert {"a03", "a07"} < tested
    assert sum(name.startswith("n") for name in tested) == 2
    run(*given, "--negatives-test-fraction", 1, "-o", tmp_path / "alone")
    alone = open_chips([tmp_path / "alone"])
    assert [r.split for r in alone.records] == ["test"] * 4
    assert all(r.landslide_share == 0 for r in alone.records)
    for arguments, message in (
        ((), "give IMAGES and MASKS, or --negatives"),
        ((folders[0], *given), "give MASKS beside IMAGES"),
        ((*folders, "--negatives-test-fraction", 1), "is of --negatives, which are not given"),
    ):
        result = run(*arguments, "-o", tmp_path / "wrong")
        assert result.exit_code == 2
        assert message in result.output


def test_masks_in_the_transparency_are_not_read_as_background(tmp_path, folders):
    _, masks = folders
    drawn = np.zeros((40, 50, 4), np.uint8)
    drawn[..., 3] = mask()
    assert cv2.imwrite(str(masks / "a00.png"), drawn)
    with pytest.raises(LabelError, match=r"a00\.png has one colour everywhere and differs only in its transparency"):
        run(*folders, "-o", tmp_path / "chips")
    drawn[..., :3], drawn[..., 3] = mask()[..., None], 255
    assert cv2.imwrite(str(masks / "a00.png"), drawn)
    run(*folders, "-o", tmp_path / "chips")
    record = next(r for r in open_chips([tmp_path / "chips"]).records if r.id == "a00")
    np.testing.assert_array_equal(read_chip(record)[1], mask(high=1))


def test_masks_of_16_bits_and_of_three_values(tmp_path, folders):
    _, masks = folders
    assert cv2.imwrite(str(masks / "a00.png"), mask().astype(np.uint16) * 257)
    run(*folders, "-o", tmp_path / "chips")
    record = next(r for r in open_chips([tmp_path / "chips"]).records if r.id == "a00")
    np.testing.assert_array_equal(read_chip(record)[1], mask(high=1))
    marks = mask(high=1)
    marks[30:] = 255
    save(masks / "a00.png", marks)
    with pytest.raises(LabelError, match=r"holds the values 0, 1, 255; .*if 255 is what nobody knows, say so"):
        run(*folders, "-o", tmp_path / "other")


def test_black_wedges_show_no_ground(tmp_path, folders):
    images, masks = folders
    holed = picture(950, (60, 60))
    holed[:20, :30] = 0  # touches the border
    holed[30:45, 30:45] = 0  # does not
    holed[:2, 50:] = 0  # too small
    holed[55:, :30] = 1  # kept from 0 by a tool
    save(images / "w.png", holed)
    save(masks / "w.png", np.full((60, 60), 255, np.uint8))
    run(images, masks, "-o", tmp_path / "chips")
    record = next(r for r in open_chips([tmp_path / "chips"]).records if r.id == "w")
    image, label, valid = read_chip(record)
    expected = np.ones((60, 60), bool)
    expected[:20, :30] = expected[55:, :30] = False
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(label == 255, ~expected)
    assert (image[:, 30:45, 30:45] == 1).all(), "black inside is kept, one above nodata"
    run(images, masks, "-o", tmp_path / "kept", "--black-px", 0)
    record = next(r for r in open_chips([tmp_path / "kept"]).records if r.id == "w")
    np.testing.assert_array_equal(np.moveaxis(read_chip(record)[0], 0, -1), holed)
    assert not wedges(np.full((3, 9, 9), 2.0), 1).any()
    assert wedges(np.zeros((3, 9, 9)), 1).all()


def test_missing_masks_are_named(tmp_path, folders):
    images, masks = folders
    (masks / "a04.png").unlink()
    (masks / "a05.png").unlink()
    with pytest.raises(LabelError, match=r"2 of 20 images in .* have no mask .*: a04\.webp, a05\.tif; .*--negatives"):
        run(images, masks, "-o", tmp_path / "chips")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 1, 255), "holds the values 0, 1, 255; expected 0 and 1, or 0 and 255"),
        ((0, 128), "holds the values 0, 128"),
        (tuple(range(256)), r"holds the values 0, 1, 2, 3, 4, 5, 6, 7 \.\.\.; .*JPEG blurs masks"),
    ],
)
def test_masks_of_other_values(tmp_path, folders, values, message):
    save(folders[1] / "a00.png", np.resize(np.array(values, np.uint8), (40, 50)))
    with pytest.raises(LabelError, match=message):
        run(*folders, "-o", tmp_path / "chips")
    assert not (tmp_path / "chips").exists()


def test_an_alpha_band_beside_a_mask_is_passed_over(tmp_path, folders):
    images, masks = folders
    plain = mask()
    assert cv2.imwrite(str(masks / "a00.png"), np.dstack([plain, plain, plain, np.full_like(plain, 255)]))
    run(images, masks, "-o", tmp_path / "chips")
    (record,) = (r for r in open_chips([tmp_path / "chips"]).records if r.id == "a00")
    np.testing.assert_array_equal(read_chip(record)[1] == 1, plain > 0)


def test_masks_of_another_shape_or_in_colours(tmp_path, folders):
    images, masks = folders
    save(masks / "a00.png", mask((41, 50)))
    with pytest.raises(LabelError, match=r"a00\.png has 41 x 50 pixels, its image .*a00\.png 40 x 50"):
        run(images, masks, "-o", tmp_path / "chips")
    save(masks / "a00.png", picture(0))
    with pytest.raises(LabelError, match="is a picture in colours"):
        run(images, masks, "-o", tmp_path / "chips")
    save(masks / "a00.png", np.dstack([mask()] * 3))  # grey as three bands is one mask
    run(images, masks, "-o", tmp_path / "chips")
    assert (read_chip(open_chips([tmp_path / "chips"]).records[0])[1] == mask(high=1)).all()


def test_folders_and_files_that_cannot_be_used(tmp_path, folders):
    images, masks = folders
    with pytest.raises(RasterError, match=r"none is no folder; expected one of images"):
        run(tmp_path / "none", masks, "-o", tmp_path / "chips")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RasterError, match="holds no images"):
        run(tmp_path / "empty", masks, "-o", tmp_path / "chips")
    with pytest.raises(RasterError, match="has 3 bands, but 4 names were given"):
        run(images, masks, "-o", tmp_path / "chips", "--bands", "blue,green,red,nir")
    save(images / "a00.jpg", picture(0))
    with pytest.raises(LabelError, match=r"holds both a00\.jpg and a00\.png"):
        run(images, masks, "-o", tmp_path / "chips")
    (images / "a00.jpg").unlink()
    (images / "a02.tif").write_bytes(b"")
    with pytest.raises(RasterError, match=r"a02\.tif is empty"):
        run(images, masks, "-o", tmp_path / "chips")
    assert not (tmp_path / "chips").exists()


@pytest.mark.realdata
@pytest.mark.slow
def test_bijie_imports_with_its_75_test_chips(tmp_path):
    source = REALDATA / "bijie"
    if not source.is_dir():
        pytest.skip(f"{source} is not there; set GEOCRACK_REALDATA to the folder of the real data")
    options = ("--test-list", source / "test.txt", "--negatives", REALDATA / "bijie_negatives")
    run(source / "images", source / "masks", "-o", tmp_path / "chips", *options)
    chips = open_chips([tmp_path / "chips"])
    positive = [r for r in chips.records if r.landslide_share > 0]
    assert (len(chips.records), len(positive)) == (818, 698)
    listed = set((source / "test.txt").read_text().split())
    assert {r.id for r in chips.split("test")} == listed
    assert len(listed) == 75
    assert sum(r.split == "val" for r in positive) == 62  # a tenth of the rest
    assert sum(r.split == "val" for r in chips.records) == 74
    wedged = {r.id: r.valid_share for r in chips.records if r.valid_share < 1}
    assert len(wedged) == 10
    assert wedged["ls_0385"] == pytest.approx(1 - 22430 / (351 * 451), abs=1e-4)
    record = positive[0]
    with rasterio.open(source / "images" / f"{record.id}.webp") as src:
        np.testing.assert_array_equal(read_chip(record)[0], src.read())
