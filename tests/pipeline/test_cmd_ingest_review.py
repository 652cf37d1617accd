"""``geocrack ingest-review`` and ``geocrack tile --review``: from edits to chips that know what was judged."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.features import rasterize

from geo.errors import LabelError, OutputExistsError
from models.chips import open_chips, read_chip
from pipeline.cli import geocrack
from tests.review_scene import CRS, NEWER, OLDER, SCARS, Edited, box, image, make

SMALL = ("--size", 64, "--gap-m", 8, "--block-chips", 1)


def run(*arguments):
    result = CliRunner().invoke(geocrack, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return make(folder), image(folder / "fused.tif")


@pytest.fixture
def edited(made, tmp_path):
    path = tmp_path / "inventory.gpkg"
    path.write_bytes(made[0].read_bytes())
    return Edited(path)


@pytest.fixture
def judged(edited, tmp_path):
    edited.judge(0, "confirmed").judge(1, "rejected").judge(2, "edited", box(20, 140, 15, 20)).save()
    run("ingest-review", edited.path, "-o", tmp_path / "judged.gpkg")
    return tmp_path / "judged.gpkg"


def test_what_was_done_is_told_and_recorded(edited, tmp_path):
    edited.judge(0, "Confirmed").judge(2, "candidate", box(20, 140, 15, 20)).delete(3).save()
    output = run("ingest-review", edited.path, "-o", tmp_path / "judged.gpkg").output
    assert "1 confirmed, 1 edited, 0 drawn, 0 rejected, 1 deleted, 4 left as candidates; 1 hard negatives" in output
    assert "1 features were changed while their status stayed candidate" in output
    assert "1 features were deleted: their ground counts as rejected" in output
    assert "1 statuses were spelt differently" in output
    record = json.loads((tmp_path / "judged.gpkg.provenance.json").read_text())
    assert record["results"]["confirmed"] == 1
    assert record["results"]["reviewed_km2"][NEWER] > 0
    assert record["settings"] == {"around_m": 20.0, "deleted": "rejected"}
    assert [p["path"].rsplit("/", 1)[1] for p in record["inputs"]] == ["inventory.gpkg"]


def test_outputs_are_checked_before_anything_is_read(edited, tmp_path):
    assert "expected the name of a GeoPackage" in run("ingest-review", edited.path, "-o", tmp_path / "a.shp").output
    with pytest.raises(OutputExistsError):
        run("ingest-review", edited.path, "-o", edited.path)
    with pytest.raises(OutputExistsError, match="would replace the input"):
        run("ingest-review", edited.path, "-o", edited.path, "--overwrite")
    with pytest.raises(LabelError, match="nobody has judged"):
        run("ingest-review", edited.path, "-o", tmp_path / "judged.gpkg")
    assert not list(tmp_path.glob("judged*"))


def test_chips_know_what_was_judged_and_nothing_else(made, judged, tmp_path):
    run("tile", made[1], "--review", judged, "-o", tmp_path / "chips", *SMALL, "--min-valid", 0.05)
    ground, labels = (gpd.read_file(judged, layer=name) for name in ("reviewed", "labels"))
    with rasterio.open(made[1]) as src:
        here = {"out_shape": src.shape, "transform": src.transform}
        expected = np.where(rasterize(ground.geometry, **here) > 0, 0, 255)
        expected[rasterize(labels.geometry, **here) > 0] = 1
        chips = open_chips([tmp_path / "chips"])
        assert 0 < len(chips.records) < 20
        for record in chips.records:
            _, label, _ = read_chip(record)
            assert (label != 255).any(), "a chip of which nothing is known"
            with rasterio.open(record.image) as chip:
                row, column = src.index(*chip.transform @ (0.5, 0.5))
            inside = [(max(0, s), min(s + 64, n)) for s, n in zip((row, column), src.shape, strict=True)]
            part = label[inside[0][0] - row : inside[0][1] - row, inside[1][0] - column : inside[1][1] - column]
            np.testing.assert_array_equal(part, expected[slice(*inside[0]), slice(*inside[1])])
    counts = json.loads((tmp_path / "chips" / "chips.json").read_text())["counts"]
    assert sum(c["landslide_pixels"] for c in counts.values()) > 0.5 * (600 + 300), "but for gaps between blocks"
    record = json.loads((tmp_path / "chips" / "provenance.json").read_text())
    assert "judged.gpkg" in [p["path"].rsplit("/", 1)[1] for p in record["inputs"]]


def test_reviews_stand_above_labels_and_later_ones_above_earlier(made, edited, judged, tmp_path):
    truth = gpd.GeoDataFrame(geometry=[box(*scar) for scar in SCARS], crs=CRS)
    truth.to_file(tmp_path / "truth.gpkg", layer="landslides")
    Edited(edited.path).judge(0, "rejected").judge(1, "candidate").save()
    run("ingest-review", edited.path, "-o", tmp_path / "later.gpkg")
    run("tile", made[1], "--labels", tmp_path / "truth.gpkg", "-o", tmp_path / "plain", *SMALL)
    options = ("--labels", tmp_path / "truth.gpkg", "--review", judged, "--review", tmp_path / "later.gpkg")
    run("tile", made[1], *options, "-o", tmp_path / "chips", *SMALL)
    plain, chips = (open_chips([tmp_path / name]) for name in ("plain", "chips"))
    assert [r.id for r in plain.records] == [r.id for r in chips.records]
    found = {0: 0, 1: 0}
    for before, after in zip(plain.records, chips.records, strict=True):
        one, two = read_chip(before)[1], read_chip(after)[1]
        found[0] += int(((one == 1) & (two == 0)).sum())
        found[1] += int(((one == 0) & (two == 1)).sum())
    refused = 600 * 2 + 300  # two scars, and the half that was cut away
    assert 0.6 * refused < found[0] <= refused
    assert found[1] == 0


def test_an_image_of_another_date_is_not_trained_on_this_review(judged, tmp_path):
    with pytest.raises(LabelError, match=f"holds reviews of {NEWER}, none of {OLDER}"):
        run("tile", image(tmp_path / "old.tif", OLDER), "--review", judged, "-o", tmp_path / "chips", *SMALL)
    untagged = image(tmp_path / "plain.tif", None)
    run("tile", untagged, "--review", judged, "-o", tmp_path / "chips", *SMALL)
    assert open_chips([tmp_path / "chips"]).records


def test_an_inventory_is_not_taken_for_a_review(made, tmp_path):
    with pytest.raises(LabelError, match=r"`geocrack ingest-review` writes: run it on this inventory first"):
        run("tile", made[1], "--review", made[0], "-o", tmp_path / "chips", *SMALL)
    gpd.GeoDataFrame(geometry=[box(0, 0)], crs=CRS).to_file(tmp_path / "a.gpkg")
    with pytest.raises(LabelError, match="give such a file"):
        run("tile", made[1], "--review", tmp_path / "a.gpkg", "-o", tmp_path / "chips", *SMALL)
    assert not (tmp_path / "chips").exists()
