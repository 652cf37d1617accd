"""Reviews in the configuration: what they plan, that nothing else changes, and that no review is lost."""

from __future__ import annotations

import copy
import shutil

import pytest
import yaml
from conftest import ROOT, Workplace, jobs

from pipeline import paths
from pipeline.config import parse
from tests.review_scene import Edited, make

pytestmark = pytest.mark.workflow

DEMO = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workplace:
    """A clone in which a review of the newest scene lies; its path has a blank, as people's have."""
    place = Workplace(tmp_path_factory.mktemp("run"))
    (place.folder / "my reviews").mkdir()
    (place.folder / "my reviews/2015.gpkg").touch()
    return place


def reviewed(place, name="reviewed.yaml", **scene) -> str:
    settings = copy.deepcopy(DEMO)
    settings["scenes"][2] |= {"reviews": ["my reviews/2015.gpkg"], **scene}
    return place.write(name, settings)


def test_a_review_adds_one_job_and_is_trained_on(place):
    plain = place.planned()
    done = place.snakemake("-n", "-p", "inventory", "--configfile", reviewed(place))
    said = done.stdout + done.stderr
    assert {name: n for name, n in jobs(done).items() if name != "tile_reviewed"} == plain
    assert jobs(done)["tile_reviewed"] == 1
    lines = [line for line in said.splitlines() if "geocrack tile" in line and "--review" in line]
    assert len(lines) == 1
    assert "--review 'my reviews/2015.gpkg' --size 256 --overlap 128 --block-chips 3" in lines[0]
    assert "--areas" not in lines[0], "what was judged lies where the map is"
    trainings = [line for line in said.splitlines() if "geocrack train" in line]
    assert len(trainings) == 2
    assert all("--chips results/demo/scenes/gf1_20150805/reviewed_chips" in line for line in trainings)
    assert all(line.count("--chips") == 4 for line in trainings)


def test_without_reviews_the_commands_are_the_same(place):
    said = place.snakemake("-n", "-p", "inventory").stdout
    assert "--review" not in said
    assert "reviewed_chips" not in said
    options = paths.tiling_options(parse(DEMO))
    assert (
        options
        == "--size 256 --overlap 128 --block-chips 3 --gap-m 64.0 --fractions 0.8 0.2 0.0 --min-valid 0.5 --seed 0"
    )


def test_reviews_alone_can_be_trained_on(place):
    settings = copy.deepcopy(DEMO)
    for scene in settings["scenes"]:
        del scene["labels"]
    settings["scenes"][2]["reviews"] = ["my reviews/2015.gpkg"]
    planned = place.planned("--configfile", place.write("alone.yaml", settings))
    assert planned["tile_reviewed"] == 1
    assert "tile" not in planned


def test_a_review_that_is_not_there_is_missed_before_anything_runs(place):
    done = place.snakemake("-n", "inventory", "--configfile", reviewed(place, reviews=["none.gpkg"]), check=False)
    assert done.returncode
    assert "none.gpkg" in done.stdout + done.stderr


def test_reviews_beside_a_given_model_are_refused(place):
    settings = copy.deepcopy(DEMO)
    settings["scenes"][2]["reviews"] = ["my reviews/2015.gpkg"]
    settings["training"]["model"] = "model.pt"
    done = place.snakemake("-n", "inventory", "--configfile", place.write("given.yaml", settings), check=False)
    assert "`reviews` are trained on, but `training.model` is given" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


def test_a_review_is_kept_before_the_inventory_is_made_anew(made, tmp_path):
    inventory = tmp_path / "inventory.gpkg"
    assert paths.keep_review(inventory, tmp_path / "reviews") is None, "there is none"
    inventory.write_bytes(made.read_bytes())
    assert paths.keep_review(inventory, tmp_path / "reviews") is None, "nobody judged"
    assert not (tmp_path / "reviews").exists()
    Edited(inventory).judge(0, "rejected").save()
    kept = paths.keep_review(inventory, tmp_path / "reviews")
    assert kept is not None
    assert Edited(kept).frame["status"].tolist().count("rejected") == 1
    assert paths.keep_review(inventory, tmp_path / "reviews") == kept, "once"
    assert len(list((tmp_path / "reviews").glob("*.gpkg"))) == 1


@pytest.mark.parametrize("edit", ["draw", "delete", "reshape"])
def test_edits_without_a_status_are_kept_too(made, tmp_path, edit):
    from tests.review_scene import box

    shutil.copy(made, tmp_path / "inventory.gpkg")
    mine = Edited(tmp_path / "inventory.gpkg")
    if edit == "draw":
        mine.draw(box(180, 40))
    elif edit == "delete":
        mine.delete(1)
    else:
        mine.judge(0, "candidate", box(20, 20, 10, 10))
    mine.save()
    assert paths.keep_review(tmp_path / "inventory.gpkg", tmp_path / "reviews") is not None


def test_what_is_no_inventory_is_left_alone(tmp_path):
    (tmp_path / "inventory.gpkg").write_text("not one")
    assert paths.keep_review(tmp_path / "inventory.gpkg", tmp_path / "reviews") is None
