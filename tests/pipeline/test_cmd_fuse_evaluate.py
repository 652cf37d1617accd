"""``geocrack fuse`` checks what it wrote, and judges all methods where asked to."""

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from geo.errors import ConfigError, GridError, OutputExistsError
from geo.fusion import names
from geo.raster import open_raster, read
from pipeline import fusion_evaluation
from pipeline.cli import geocrack
from tests.geo.pair_scene import MSS_M, write_pair
from tests.geo.terrain import map_grid, write_image


def call(*arguments):
    return CliRunner().invoke(geocrack, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A product, and all that was written beside it."""
    folder = tmp_path_factory.mktemp("judged")
    pan, mss, _ = write_pair(folder, size=96, shift_px=(0.4, 0.2), noise=0.001)
    result = call("fuse", mss, pan, "-o", folder / "fused.tif", "--evaluate", "--mtf-gain", "0.29", "--threads", "1")
    if result.exception:
        raise result.exception
    return folder / "fused.tif", result


def test_the_table_is_complete(judged):
    found = json.loads(fusion_evaluation.evaluation_path(judged[0]).read_text())
    assert (found["format"], found["version"]) == ("geocrack-fusion-evaluation", 1)
    assert found["used"] == "mtf-glp-cbd"
    assert found["mtf_gain"] == 0.29
    assert found["rows"][0]["method"] == "exp"
    assert sorted(row["method"] for row in found["rows"][1:]) == names()
    for row in found["rows"]:
        assert all(isinstance(row["reduced"][key], float) for key, _, _ in fusion_evaluation.REDUCED)
        assert all(isinstance(row["full"][key], float) for key, _, _ in fusion_evaluation.FULL)
    assert f"best {found['best']}" in judged[1].stderr


def test_the_page_reads_the_same_numbers(judged):
    found = fusion_evaluation.read(judged[0])
    text = fusion_evaluation.evaluation_path(judged[0], "md").read_text()
    used = next(row for row in found["rows"] if row["used"])
    assert (used["method"], used["title"]) == ("mtf-glp-cbd", "MTF-GLP-CBD")
    assert "| MTF-GLP-CBD (used) |" in text
    assert "| EXP (interpolation) |" in text
    assert f"{used['reduced']['ergas']:.4f}" in text
    best = {column["key"]: column for column in found["columns"]}
    assert best["ergas"]["best"] == min(row["reduced"]["ergas"] for row in found["rows"][1:])
    assert best["hqnr"]["more_is_better"]
    assert f"**{best['q2n']['best']:.4f}**" in text


def test_the_picture_shows_every_method(judged):
    image = cv2.imread(str(fusion_evaluation.evaluation_path(judged[0], "png")))
    assert image.shape[1] > 1000  # four panels, PAN and EXP and ten methods: three rows
    assert image.std() > 30


def test_the_check_is_beside_the_product_and_in_its_record(judged):
    found = json.loads(fusion_evaluation.check_path(judged[0]).read_text())
    record = json.loads(judged[0].with_name("fused.tif.provenance.json").read_text())
    assert record["results"]["check"] == found
    assert record["results"]["evaluation"]["used"]["method"] == "mtf-glp-cbd"
    assert record["settings"]["mtf_gain"] == 0.29
    assert found["warnings"] == []
    assert set(found["spectral"]["relative_rmse"]) == {"blue", "green", "red", "nir"}
    assert "seen as MSS sees, it differs from MSS by blue" in judged[1].stderr
    assert "times as wide as in PAN" in judged[1].stderr


def test_a_scene_too_small_for_q2n_has_no_best_method(tmp_path):
    """Blocks of 32 x 32 MSS pixels do not fit: what comes first by its name is no judgement."""
    pan, mss, _ = write_pair(tmp_path, size=28)
    fused = tmp_path / "fused.tif"
    result = call("fuse", mss, pan, "-o", fused, "--no-coregister", "--evaluate", "--threads", "1")
    assert result.exception is None
    found = fusion_evaluation.read(fused)
    assert found["best"] is None
    assert {row["reduced"]["q2n"] for row in found["rows"]} == {None}
    assert "fused.tif: the scene is too small, or has too many holes, to tell which method is the best" in result.stderr
    assert "windows of up to 28 x 28 held none" in result.stderr
    assert "nan" not in result.stderr
    text = fusion_evaluation.evaluation_path(fused, "md").read_text()
    assert text.endswith("windows of up to 28 x 28 held none.\n")
    assert "| MTF-GLP-CBD (used) |" in text


@pytest.mark.parametrize(("q2n", "words"), [(0.0, "gsa 0.0000"), (0.91234, "gsa 0.9123"), (None, "gsa not measured")])
def test_a_quality_of_zero_is_a_number(q2n, words):
    assert fusion_evaluation.with_quality({"method": "gsa", "reduced": {"q2n": q2n}}) == words


def test_without_asking_nothing_is_judged(tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=64)
    result = call("fuse", mss, pan, "-o", tmp_path / "fused.tif", "--no-coregister", "--method", "pca")
    assert result.exception is None
    assert (tmp_path / "fused.fusion.json").exists()
    assert not list(tmp_path.glob("fused.evaluation.*"))
    assert fusion_evaluation.read(tmp_path / "fused.tif") is None


def test_a_method_that_changes_the_spectra_is_warned_of(tmp_path):
    """PCA of a scene whose first component is the infrared."""
    pan, mss, _ = write_pair(tmp_path, size=96, pan_mix=np.array([1.0, 0.0]))
    result = call("fuse", mss, pan, "-o", tmp_path / "fused.tif", "--no-coregister", "--method", "pca")
    assert result.exception is None
    assert "degraded to MSS, the fused image differs from it by" in result.stderr
    assert "another --method may keep the spectra better" in result.stderr


def test_mistakes_are_told_and_leave_nothing(tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=26)
    with open_raster(mss) as src:
        values, _ = read(src)
    values[:, 8:] = np.nan
    holed = write_image(tmp_path / "holed.tif", values, grid=map_grid(values.shape[1:], MSS_M))
    out = tmp_path / "out" / "fused.tif"
    error = call("fuse", holed, pan, "-o", out, "--no-coregister", "--evaluate").exception
    assert isinstance(error, GridError)
    assert "good pixels in common when both are degraded by 4; expected larger images" in str(error)
    assert not out.parent.exists() or not list(out.parent.iterdir())
    result = call("fuse", mss, pan, "-o", out, "--mtf-gain", "1.5")
    assert result.exit_code == 2
    assert "less than 1, got 1.5" in result.stderr
    (tmp_path / "fused.evaluation.png").touch()
    error = call("fuse", mss, pan, "-o", tmp_path / "fused.tif", "--evaluate").exception
    assert isinstance(error, OutputExistsError)
    assert "fused.evaluation.png is already there; give --overwrite" in str(error)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": "other", "version": 1}', '{"format": 1}', "[" * 200_000], ids=lambda text: text[:20]
)
def test_another_file_is_no_evaluation(tmp_path, text):
    (tmp_path / "fused.evaluation.json").write_text(text)
    with pytest.raises(ConfigError, match=r"fused\.evaluation\.json is no evaluation of a fusion"):
        fusion_evaluation.read(tmp_path / "fused.tif")
