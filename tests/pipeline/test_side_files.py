"""What lies beside a product goes with it when another one takes its place, and comes back when that one fails."""

import json
import shutil

import pytest
from click.testing import CliRunner

from geo.atomic import together
from pipeline.cli import geocrack
from pipeline.provenance import provenance_path, sha256
from pipeline.side_files import side_files
from tests.geo.date_scene import write_dates
from tests.geo.pair_scene import write_pair

ALWAYS = {"f.tif", "f.quality.tif", "f.tif.provenance.json"}
REGISTERED = {f"f.coregistration.{suffix}" for suffix in ("json", "gpkg", "png")}
JUDGED = {"f.fusion.json", *(f"f.evaluation.{suffix}" for suffix in ("json", "md", "png"))}


def call(*arguments):
    return CliRunner().invoke(geocrack, [str(a) for a in arguments])


def succeeded(*arguments):
    result = call(*arguments)
    if result.exception:
        raise result.exception
    return result


def names(folder):
    return {entry.name for entry in folder.iterdir()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pan, mss, _ = write_pair(tmp_path_factory.mktemp("pair"), size=96, shift_px=(0.4, 0.2), noise=0.001)
    return mss, pan


@pytest.fixture(scope="module")
def made(pair):
    """Folder of a fused image with all that can be written beside it."""
    out = pair[0].parent / "made" / "f.tif"
    succeeded("fuse", *pair, "-o", out, "--evaluate", "--method", "gsa", "--threads", 1, "-q")
    assert names(out.parent) == ALWAYS | REGISTERED | JUDGED
    told = json.loads(provenance_path(out).read_text())["results"]["beside"]
    assert set(told) == REGISTERED | JUDGED
    return out.parent


@pytest.fixture
def fused(made, tmp_path):
    return shutil.copytree(made, tmp_path / "out") / "f.tif"


PLAIN = ("--no-coregister", "--no-check", "--method", "brovey", "--threads", 1)


def test_the_checks_and_tables_of_a_replaced_image_go_with_it(pair, fused):
    """They said of the new image that it was made by another method, and lay elsewhere."""
    said = succeeded("fuse", *pair, "-o", fused, *PLAIN, "--overwrite").stderr
    assert names(fused.parent) == ALWAYS | {"f.coregistration.json"}
    assert "beside" not in said
    told = json.loads(provenance_path(fused).read_text())["results"]["beside"]
    assert told == {"f.coregistration.json": sha256(fused.with_name("f.coregistration.json"))}


def test_so_do_those_of_another_command(fused, tmp_path):
    dates = write_dates(tmp_path, size=256, warp=lambda c, r: (6.4 + 0 * c, -3.3 + 0 * r), bands=2)
    succeeded("coregister", *dates, "-o", fused, "--overwrite", "-q")
    assert names(fused.parent) == ALWAYS | REGISTERED
    succeeded("stack", dates[0], "--before", dates[1], "-o", fused, "--overwrite", "-q")
    assert names(fused.parent) == ALWAYS


@pytest.mark.parametrize("where", ["geo.fusion.pansharpen.write_windows", "pipeline.provenance._versions"])
def test_an_interrupted_overwrite_leaves_the_old_set(pair, fused, monkeypatch, where):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = {file: file.read_bytes() for file in fused.parent.iterdir()}
    monkeypatch.setattr(where, interrupt)
    assert call("fuse", *pair, "-o", fused, *PLAIN, "--overwrite").exit_code
    assert {file: file.read_bytes() for file in fused.parent.iterdir()} == before


def test_what_somebody_changed_or_brought_stays_and_is_named(pair, fused):
    fused.with_name("f.evaluation.md").write_text("with my remarks")
    fused.with_name("f.gcps.json").write_text("from elsewhere")
    fused.with_name("f.notes.json").write_text("mine")
    said = succeeded("fuse", *pair, "-o", fused, *PLAIN, "--overwrite").stderr
    mine = {"f.evaluation.md", "f.gcps.json", "f.notes.json"}
    assert names(fused.parent) == ALWAYS | {"f.coregistration.json"} | mine
    assert f"f.evaluation.md, f.gcps.json lie beside {fused} and are not of it: move them away" in said


def test_nothing_is_removed_that_was_not_to_be_replaced(pair, fused):
    """Who keeps the table of an image that is gone has not asked for its end."""
    for name in (*ALWAYS - {"f.tif.provenance.json"}, "f.coregistration.json"):
        fused.with_name(name).unlink()
    left = names(fused.parent)
    assert "lie beside" in succeeded("fuse", *pair, "-o", fused, *PLAIN).stderr
    assert names(fused.parent) == left | ALWAYS | {"f.coregistration.json"}


@pytest.mark.parametrize("told", [None, [], {"../notes.json": ""}, {"f.notes.json": ""}, {"f.gcps.json": None}])
def test_a_record_cannot_name_other_files(tmp_path, told):
    product = tmp_path / "out" / "f.tif"
    product.parent.mkdir()
    files = [tmp_path / "notes.json", product.with_name("f.notes.json"), product.with_name("f.gcps.json")]
    for file in files:
        file.write_text("mine")
    if isinstance(told, dict):
        told = {name: hash if hash is None else sha256(files[0]) for name, hash in told.items()}
    provenance_path(product).write_text(json.dumps({"results": {"beside": told}}))
    record = {"results": {}}
    with together() as also, side_files(product, [], record, also, overwrite=True):
        product.write_text("new")
    assert [file.read_text() for file in files] == ["mine"] * 3
    assert record == {"results": {}}


def test_an_input_is_not_removed(tmp_path):
    """A band that was written as PAN of a scene may be described as its MSS."""
    facts, pan = tmp_path / "scene.json", tmp_path / "pan.tif"
    pan.write_text("reflectance")
    provenance_path(facts).write_text(json.dumps({"results": {"beside": {"pan.tif": sha256(pan)}}}))
    for inputs, there in (([pan], True), ([], False)):
        with together() as also, side_files(facts, [], {"results": {}}, also, overwrite=True, inputs=inputs):
            pass
        assert pan.exists() == there
