"""What the report says of how sure it is, and where the network looked."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import geopandas as gpd
import numpy as np
import pytest
import shapely
from made_run import RECIPES, make_run
from test_report import Nesting, made  # noqa: F401 - a fixture

from pipeline.report import attention, quicklooks_path, worst, write_report


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """A run whose first model is a small network that reddens at bare ground, and its report with attention."""
    from models import model_file, recipe
    from models.loop import start

    run = make_run(tmp_path_factory.mktemp("explained"))
    review = gpd.read_file(run / "inventory.gpkg", layer="landslides")
    review = review.assign(id=range(len(review)), look_first=range(len(review), 0, -1), look_because="large")
    review.to_file(run / "inventory.gpkg", layer="review")
    settings = recipe.parse(
        {
            "network": {"name": "linknet", "encoder": "tu-test_efficientnet"},
            "weights": "none",
            "size": 64,
            "phases": [{"epochs": 1, "learning_rate": 0.01}],
        }
    )
    bands = ("blue", "green", "red", "nir")
    module = start(settings, bands, 0)
    model_file.save(
        run / "models" / f"{RECIPES[0]}.pt", module, settings, bands=bands, mean=[0.06, 0.07, 0.06, 0.15],
        std=[0.03] * 4, chip_size=64, threshold=0.5, metrics={}, overwrite=True,
    )  # fmt: skip
    found = write_report(run, run / "report.html", explain=2)
    return run, (run / "report.html").read_text(), found


def test_attention_is_shown_where_it_is_asked_for(explained):
    run, page, found = explained
    Nesting(page)
    assert page.count("<h2>Where the network looked</h2>") == 1
    pictures = sorted(name for name in found["quicklooks"] if name.startswith("attention_"))
    assert pictures == [f"attention_{n}.png" for n in range(6)]  # two of each kind
    for name in pictures:
        picture = cv2.imread(str(quicklooks_path(run / "report.html") / name), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (320, 644, 4)
        left, right = picture[:, :320, :3].astype(int), picture[:, 324:, :3].astype(int)
        assert left.std() > 5  # the image is there
        shown = np.abs(left - right).max(axis=2) > 60
        assert shown.any()  # and attention beside it
        assert f'href="#{Path(name).stem}"' in page
    for words in ("It does not prove that the answer is right", "1. polygon 6", "missed, ", "false alarm, "):
        assert words in page
    assert re.search(r"Of the attention in these windows \d+ % lies in the four corners", page)
    said = re.findall(r"<figcaption>(\d\. polygon \d+)", page)
    assert said == ["1. polygon 6", "2. polygon 5"]  # in the order of the review


def test_attention_in_corners_tells_right_from_wrong(monkeypatch):
    """What is right is looked at in the middle, what is wrong is looked at evenly."""
    middle, even = np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)
    middle[24:40, 24:40] = 1

    def look(_, place):
        return attention._Seen(middle if place.geometry.area > 1 else even, None, "", None, [])

    def answers(size, number):
        scene, square = SimpleNamespace(day="2015-08-05"), shapely.box(0, 0, size, size)
        return [worst.Answer(square.area, scene, square, np.array([]), np.array([]), "EPSG:32648")] * number

    monkeypatch.setattr(attention, "_look", look)
    told = attention._corners(None, worst.Answers([], answers(1, 3), answers(9, 4)))
    assert "0 % lies in the four corners" in told
    assert "around the 4 largest mapped outlines that are right, and 25 % around the 3 largest false alarms" in told
    assert "+25 points (95 % interval +25 to +25)" in told
    assert attention._corners(None, worst.Answers([], [], answers(9, 4))) is None


def test_no_attention_unless_asked_for(made):  # noqa: F811
    assert "Where the network looked" not in made[1]


@pytest.mark.parametrize("which", ["none", "damaged"])
def test_a_report_is_whole_without_a_model_to_explain(made, tmp_path, caplog, which):  # noqa: F811
    run = tmp_path / "valley"
    shutil.copytree(made[0], run)
    if which == "none":
        (run / "models" / f"{RECIPES[0]}.pt").unlink()
    write_report(run, tmp_path / "report.html", explain=1)
    assert "Where the network looked" not in (tmp_path / "report.html").read_text()
    assert "shows no attention" in caplog.text


def test_without_truth_or_sample_there_is_no_interval_and_the_page_says_so(tmp_path):
    run = make_run(tmp_path, truth=False)
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text()
    assert "<span>landslides</span>" in page
    assert "Number and area have no interval: neither a truth" in page


def scored_with_intervals(run):
    path = run / "scenes/s2015/linknet-lite0-fast/score.json"
    score = json.loads(path.read_text())
    score["pixels"]["interval"] = {"true_per_mapped": [0.9, 1.2]}
    score["objects"]["interval"] = {"true_per_mapped": [0.86, 1.29], "hit_rate": [0.7, 0.95]}
    score["objects"]["interval"] |= {"false_alarm_rate": [0.02, 0.3]}
    path.write_text(json.dumps(score))
    return float(gpd.read_file(run / "inventory.gpkg", layer="landslides")["area_m2"].sum())


def test_number_and_area_have_intervals_by_blocks_of_truth(tmp_path):
    run = make_run(tmp_path)
    mapped = scored_with_intervals(run)
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text()
    assert "<b>7</b><span>landslides mapped (true, 95 %: 6 to 9)</span>" in page
    assert f"(true, 95 %: {mapped * 0.9 / 1e4:.1f} to {mapped * 1.2 / 1e4:.1f} ha)</span>" in page
    assert "The interval of the number and area is what is mapped times the truth" in page
    assert "(linknet-lite0-fast, s2015)" in page
    assert "<br><small>70 % to 95 %</small>" in page  # on its own line, or it reads as digits of the number before
    assert "<br><small>2 % to 30 %</small>" in page


@pytest.mark.parametrize("mine", [True, False])
def test_the_area_of_a_checked_sample_stands_first(tmp_path, mine):
    run = make_run(tmp_path)
    mapped = scored_with_intervals(run)
    estimate = {
        "design": {"points": 300},
        "mapped_km2": mapped / 1e6 * (1 if mine else 2),
        "area_km2": {"estimate": 0.03, "interval": [0.02, 0.04], "interval_wilson": [0.021, 0.051]},
        "notes": ["only 1 of 90 points of 'rest' differ from the others: use interval_wilson"],
    }
    (run / "checked.json").write_text(json.dumps(estimate))
    (run / "checked.json.provenance.json").write_text(json.dumps({"step": "estimate", "finished": "2026"}))
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text()
    assert ("(true, 95 %: 2.1 to 5.1 ha)" in page) == mine
    assert ("300 random points checked by eye, by which it is 3.0 ha" in page) == mine
    assert "The interval of the number is what" in page or not mine
    assert "landslides mapped (true, 95 %: 6 to 9)" in page
