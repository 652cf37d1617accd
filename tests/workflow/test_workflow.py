"""The workflow as a person runs it: what is done, done again, and not done again."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np
import pyogrio
import pytest
import rasterio
import yaml
from conftest import ENVIRONMENT, ROOT, jobs

pytestmark = pytest.mark.workflow

FLOW = {"reflectance": 2, "ortho": 4, "fuse": 2, "tile": 2, "train": 1, "predict": 2, "vectorize_scene": 2, "score": 2}
SMALL = ("--configfile", "small.yaml")


def test_lint_is_clean(workplace):
    done = workplace.snakemake("--lint")
    assert "your workflow is in a good condition" in done.stdout + done.stderr


def test_without_a_configuration_the_default_is_planned(workplace):
    """Three dates, two models; the products are there already, so `demo` itself may be spared."""
    planned = workplace.planned()
    assert planned["reflectance"] == 3
    assert planned["train"] == 2
    assert planned["predict"] == 6


def test_config_option_alone_changes_the_default(workplace):
    done = workplace.snakemake("-n", "inventory", "--config", "run=other")
    assert "results/other/inventory.gpkg" in done.stdout + done.stderr


def test_a_report_that_explains_is_told_to_and_waits_for_the_model(workplace):
    said = {}
    for number in (0, 3):
        done = workplace.snakemake("-n", "-p", "inventory", "--config", f"report={{explain: {number}}}")
        rule = (done.stdout + done.stderr).split("Writing the report of")[1].split("Job ")[0]
        said[number] = "--explain 3" in rule, "models/linknet-lite0-fast.pt" in rule
    assert said == {0: (False, False), 3: (True, True)}


def test_limits_of_tracking_reach_the_rule(workplace):
    done = workplace.snakemake("-n", "-p", "inventory", "--config", "tracking={tolerance_m: 20, change: 0.3}")
    rule = (done.stdout + done.stderr).split("Linking the landslides of several dates")[1].split("Job ")[0]
    assert "--tolerance-m 20.0 --overlap 0.5 --change 0.3 --seen 0.5" in rule


def test_ground_control_reaches_pan_alone(workplace):
    (workplace.folder / "control.tif").touch()
    done = workplace.snakemake("-n", "-p", "inventory", "--config", "ortho={dem: demo/dem.tif, reference: control.tif}")
    said = (done.stdout + done.stderr).split("Orthorectifying ")[1:]
    assert {rule.split(" of ")[0]: "--reference control.tif" in rule.split("Job ")[0] for rule in said} == {
        "pan": True,
        "mss": False,
    }


def commands(done, name):
    """Commands of a dry run that begin with a word, each with its options."""
    words = " ".join((done.stdout + done.stderr).split())
    return [line.split(" > ")[0] for line in words.split("geocrack ") if line.startswith(f"{name} ")]


def test_the_spread_of_several_looks_reaches_the_inventory(workplace):
    """Of eight looks and of models together; an SVM gives one answer however a window is turned."""
    done = workplace.snakemake("-n", "-p", "inventory")
    spread = "results/demo/scenes/gf1_20150805/linknet-lite0-fast/spread.tif"
    told = {rule: [line for line in commands(done, rule) if "--spread" in line] for rule in ("predict", "vectorize")}
    assert len(told["predict"]) == 3
    assert len(told["vectorize"]) == 3 + 1
    assert sum(f"--spread {spread}" in line for line in told["predict"] + told["vectorize"]) == 3  # and merged
    assert not any("svm" in line for line in told["predict"] + told["vectorize"])
    (merged,) = [line for line in told["vectorize"] if "inventory.gpkg" in line]
    assert merged.count("--spread") == 3
    for off in ("prediction={spread: false}", "prediction={augment: none}"):
        done = workplace.snakemake("-n", "-p", "inventory", "--config", off)
        assert not any("--spread" in line for name in told for line in commands(done, name))


def test_models_that_answer_together_make_the_inventory(workplace):
    members = "prediction={ensemble: [svm, linknet-lite0-fast], augment: none, parts: 2}"
    done = workplace.snakemake("-n", "-p", "inventory", "--config", members)
    assert jobs(done)["predict"] == 3 * 3
    assert jobs(done)["train"] == 2
    models = "--model results/demo/models/svm.pt --model results/demo/models/linknet-lite0-fast.pt"
    together = [line for line in commands(done, "predict") if models in line]
    assert len(together) == 3 * (2 + 1)
    assert sum("/ensemble/spread.tif" in line and "--part" not in line for line in together) == 3
    assert not any("--spread" in line for line in commands(done, "predict") if models not in line)
    (merged,) = [line for line in commands(done, "vectorize") if "inventory.gpkg" in line]
    assert merged.count("/ensemble/probability.tif") == merged.count("/ensemble/spread.tif") == 3
    assert len(commands(done, "score")) == 3 * 3


def test_nothing_of_the_default_leaks_into_a_users_configuration(workplace):
    """One scene in the file means one scene in the run, and the default's settings are not merged in."""
    demo = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    mine = {
        "run": "mine",
        "scenes": [{"name": "only", "product": demo["scenes"][2]["product"], "labels": demo["scenes"][2]["labels"]}],
        "ortho": {"dem": demo["ortho"]["dem"]},
        "training": {"recipes": ["svm"]},
    }
    done = workplace.snakemake("-n", "inventory", "--configfile", workplace.write("mine.yaml", mine))
    planned, text = jobs(done), done.stdout + done.stderr
    assert planned["reflectance"] == 1
    assert planned["train"] == 1
    assert "score" not in planned
    assert "gf1_2013" not in text
    assert "map_area" not in text


def test_all_mistakes_of_a_configuration_are_told_at_once(workplace):
    name = workplace.write("wrong.yaml", {"run": "w", "scene": [], "ortho": {"resampling": "cubik", "dm": "x"}})
    done = workplace.snakemake("-n", "inventory", "--configfile", name, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "did you mean 'scenes'?" in said
    assert "did you mean 'dem'?" in said
    assert "cubik" in said
    assert "Traceback" not in said


@pytest.fixture(scope="session")
def finished(workplace):
    """The small run, killed once in the middle of `fuse` and brought to its end by the plain command."""
    process = subprocess.Popen(
        workplace.command("inventory", *SMALL),
        cwd=workplace.folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    scenes = workplace.folder / "results/small/scenes"
    deadline = time.monotonic() + 240
    while not list(scenes.glob("*/.part-*fused.tif*")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no fusion began"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    workplace.killed_fused = list(scenes.glob("*/fused.tif"))
    workplace.leftovers = list(scenes.glob("*/.part-*"))
    workplace.kept = {p: p.stat().st_mtime_ns for p in scenes.glob("*/reflectance/scene.json")}
    workplace.second = workplace.snakemake("inventory", *SMALL)
    return workplace


def test_a_killed_run_goes_on_where_it_was(finished):
    assert finished.leftovers, "the kill came in the middle of a rule"
    again = jobs(finished.second)
    assert again.get("reflectance", 0) == 2 - len(finished.kept)
    assert again["fuse"] == 2 - len(finished.killed_fused)
    assert {p: p.stat().st_mtime_ns for p in finished.kept} == finished.kept
    results = finished.folder / "results/small"
    assert not list(results.rglob(".part-*"))
    for name in ("inventory.gpkg", "report.html", "run.json"):
        assert (results / name).stat().st_size > 0


def test_a_second_run_has_nothing_to_do(finished):
    done = finished.snakemake("-n", "inventory", *SMALL)
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("section", "changed", "again"),
    [
        ("vectorization", {"min_area_m2": 500}, {"vectorize_scene", "merge", "score", "sizes", "track", "report_run"}),
        (
            "prediction",
            {"overlap": 32},
            {"predict", "vectorize_scene", "merge", "score", "sizes", "track", "report_run"},
        ),
        (
            "fusion",
            {"method": "brovey"},
            {"fuse", "tile", "train", "predict", "vectorize_scene", "merge", "score", "sizes", "track", "report_run"},
        ),
        (
            "tiling",
            {"seed": 1},
            {"tile", "train", "predict", "vectorize_scene", "merge", "score", "sizes", "track", "report_run"},
        ),
    ],
)
def test_a_changed_setting_runs_only_what_depends_on_it(finished, section, changed, again):
    settings = yaml.safe_load((finished.folder / "small.yaml").read_text())
    settings[section] = settings.get(section, {}) | changed
    name = finished.write(f"{section}.yaml", settings)
    assert finished.planned("--configfile", name).keys() - {"inventory"} == again


def test_each_landslide_tells_its_uncertainty(finished):
    """The default looks at each window in eight ways, and how far these lie apart is kept."""
    results = finished.folder / "results/small"
    for file in (results / "inventory.gpkg", results / "scenes/gf1_20150805/quick/landslides.gpkg"):
        frame = pyogrio.read_dataframe(file, layer="landslides")
        assert len(frame)
        assert frame["uncertainty"].between(0, 0.5).all()
        assert frame["uncertainty"].max() > 0


def test_every_product_has_its_provenance(finished):
    results = finished.folder / "results/small"
    for product in [*results.rglob("fused.tif"), *results.rglob("probability.tif"), *results.rglob("*.gpkg")]:
        if product.name not in ("index.gpkg", "fused.coregistration.gpkg"):  # parts of other products
            assert product.with_name(product.name + ".provenance.json").is_file(), product


def test_a_second_snakemake_on_the_same_run_is_refused(finished):
    import fcntl

    with open(finished.folder / "results/small/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = finished.snakemake("inventory", *SMALL, "--forcerun", "report_run", check=False)
    assert done.returncode != 0
    assert "being worked on by another snakemake" in done.stdout + done.stderr


def test_snakemake_report_is_made_with_captions(finished):
    finished.snakemake("inventory", *SMALL, "--report", "report.html")
    page = (finished.folder / "report.html").read_text()
    assert "Landslide polygons of all scenes of the run" in page


def test_parts_of_a_prediction_are_jobs_and_end_in_the_same_pixels(finished):
    """As on a cluster, but here: the same rules, and what two jobs keep is joined by a third."""
    probability = "results/small/scenes/gf1_20150805/quick/probability.tif"
    with rasterio.open(finished.folder / probability) as src:
        whole = src.read()
    dealt = (*SMALL, "--config", "prediction={parts: 2, area: demo/map_area.gpkg}")
    done = finished.snakemake(probability, *dealt, "--forcerun", "predict", "--rerun-triggers", "mtime")
    assert jobs(done) == {"predict": 1, "predict_part": 2}
    with rasterio.open(finished.folder / probability) as src:
        np.testing.assert_array_equal(src.read(), whole)
    assert not list((finished.folder / probability).parent.glob("*.rows"))


def test_a_cluster_gets_each_scene_and_part_as_a_job(workplace):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    done = workplace.snakemake("-n", "inventory", "--profile", "profiles/slurm", "--config", "prediction={parts: 4}")
    assert jobs(done)["predict_part"] == 4 * 6
