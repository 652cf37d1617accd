"""Scores: exact counts against scikit-learn, objects, baselines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.features
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely import affinity, box
from sklearn import metrics

from geo import inventory
from geo.errors import ConfigError, GridError, RasterError
from geo.inventory import make_inventory, scoring
from geo.inventory.baseline import Histogram
from geo.inventory.bootstrap import Resampling
from geo.inventory.matching import compare, summary
from geo.inventory.scoring import pixel_scores, score
from geo.raster import REFLECTANCE
from tests.geo.scored_scene import GRID, SHAPE, X, Y, rectangle, vector, write, write_inventory

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))

counts = st.integers(0, 10**9)


@pytest.fixture
def mapped(tmp_path):
    return write_inventory(tmp_path)


@given(tp=counts, fp=counts, fn=counts, tn=counts)
def test_identities(tp, fp, fn, tn):
    s = pixel_scores(tp, fp, fn, tn)
    if tp + fp + fn:
        assert s["iou"] == pytest.approx(s["f1"] / (2 - s["f1"]), abs=1e-12)
    if s["precision"] and s["recall"]:
        assert s["f1"] == pytest.approx(2 * s["precision"] * s["recall"] / (s["precision"] + s["recall"]))
    for name in ("precision", "recall", "f1", "iou", "miou", "accuracy"):
        assert s[name] is None or 0 <= s[name] <= 1


def test_no_denominator_no_score():
    s = pixel_scores(0, 0, 0, 9)
    assert (s["precision"], s["recall"], s["f1"], s["iou"], s["miou"]) == (None,) * 5
    assert s["accuracy"] == 1


@given(seed=st.integers(0, 500))
@settings(max_examples=30, deadline=None)
def test_like_scikit_learn(seed):
    random = np.random.default_rng(seed)
    true, found = random.random(200) < 0.3, random.random(200) < 0.4
    tn, fp, fn, tp = metrics.confusion_matrix(true, found, labels=[False, True]).ravel()
    s = pixel_scores(int(tp), int(fp), int(fn), int(tn))
    assert s["precision"] == pytest.approx(metrics.precision_score(true, found))
    assert s["recall"] == pytest.approx(metrics.recall_score(true, found))
    assert s["f1"] == pytest.approx(metrics.f1_score(true, found))
    assert s["iou"] == pytest.approx(metrics.jaccard_score(true, found))
    assert s["miou"] == pytest.approx(metrics.jaccard_score(true, found, average="macro"))
    assert s["accuracy"] == pytest.approx(metrics.accuracy_score(true, found))


def test_counts_only_ground_that_was_searched(tmp_path, mapped):
    truth = vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10), rectangle(0, 55, 10, 15)])
    s = score(mapped, truth)
    assert [s["pixels"][n] for n in ("tp", "fp", "fn", "tn")] == [160, 40 + 100, 40 + 50, 50 * 60 - 160 - 140 - 90]
    assert s["searched_km2"] == 50 * 60 * 4 / 1e6
    assert s["true_km2"] == 250 * 4 / 1e6
    assert s["mapped_km2"] == 300 * 4 / 1e6
    assert s["pixel_m"] == [2, 2]
    assert s["settings"]["min_area_m2"] == 100
    json.dumps(s, allow_nan=False)


def test_blocks_do_not_show(tmp_path, mapped, monkeypatch):
    random = np.random.default_rng(2)
    mask = np.kron(random.random((10, 14)) < 0.3, np.ones((5, 5))).astype(np.float32)
    write(tmp_path / "t.tif", mask)
    with rasterio.open(tmp_path / "t.tif", "r+") as dst:
        dst.scales = [1.0]
        dst.write(mask.astype(np.uint8), 1)
    image = random.random((4, *SHAPE)).astype(np.float32)
    write(tmp_path / "image.tif", image, ["blue", "green", "red", "nir"], REFLECTANCE)
    args = {"image": tmp_path / "image.tif", "probability": tmp_path / "p.tif"}
    whole = score(mapped, tmp_path / "t.tif", **args)
    monkeypatch.setattr(scoring, "_BLOCK_PIXELS", 300)
    assert score(mapped, tmp_path / "t.tif", **args) == whole
    # oracle
    seen = np.zeros(SHAPE, bool)
    seen[:, :60] = True
    found = rasterio.features.rasterize(
        inventory.read(mapped).landslides.geometry, SHAPE, transform=GRID.affine
    ).astype(bool)
    tn, fp, fn, tp = metrics.confusion_matrix(mask[seen] > 0, found[seen]).ravel()
    assert [whole["pixels"][n] for n in ("tp", "fp", "fn", "tn")] == [tp, fp, fn, tn]
    with rasterio.open(tmp_path / "p.tif") as src:
        probability = src.read(1) * 0.004
    ours = whole["probability"]
    assert ours["average_precision"] == pytest.approx(metrics.average_precision_score(mask[seen], probability[seen]))
    at = ours["curve"]["threshold"].index(0.5)
    above = probability[seen] >= 0.5
    assert ours["curve"]["precision"][at] == pytest.approx(metrics.precision_score(mask[seen], above))
    assert ours["curve"]["recall"][at] == pytest.approx(metrics.recall_score(mask[seen], above))


def test_objects(tmp_path, mapped):
    truth = [
        rectangle(5, 11, 20, 10),  # the first polygon, one pixel to the right: 2 m
        rectangle(44, 2, 4, 4),  # nothing there, and smaller than the inventory's 100 m2
        rectangle(30, 30, 10, 13),  # little of it is mapped
        rectangle(0, 62, 5, 5),  # on ground that was not searched
    ]
    o = score(mapped, vector(tmp_path / "t.gpkg", truth))["objects"]
    assert (o["true"], o["mapped"], o["hits"], o["misses"], o["false_alarms"]) == (3, 2, 1, 2, 1)
    assert o["misses_below_min_area"] == 1
    assert o["hit_rate"] == pytest.approx(1 / 3)
    assert "50%" in o["rule"]
    assert o["one_to_one"]["matches"] == 1
    assert o["one_to_one"]["mean_iou"] == pytest.approx(9 / 11)
    assert o["one_to_one"]["centroid_distance_m"] == {"median": 2.0, "max": 2.0, "share_within_10_m": 1.0}
    assert o["one_to_one"]["offset_m"] == {"east": -2.0, "north": 0.0}


def test_one_scar_in_pieces_and_two_scars_in_one():
    pieces = np.array([box(0, 0, 4, 10), box(6, 0, 10, 10)])
    assert summary(compare(pieces, np.array([box(0, 0, 10, 10)])))["hits"] == 1
    assert summary(compare(np.array([box(0, 0, 10, 10)]), pieces))["hits"] == 2
    assert summary(compare(np.array([box(0, 0, 10, 10)]), pieces))["false_alarms"] == 0
    twice = np.array([box(0, 0, 4, 10), box(0, 0, 4, 10)])  # drawn twice: covers 40 %, not 80
    assert summary(compare(np.array([box(0, 0, 10, 10)]), twice))["false_alarms"] == 1


def test_nothing_mapped_or_nothing_true():
    nothing = np.empty(0, object)
    o = summary(compare(nothing, np.array([box(0, 0, 1, 1)])))
    assert (o["hits"], o["misses"], o["hit_rate"], o["false_alarm_rate"]) == (0, 1, 0.0, None)
    o = summary(compare(np.array([box(0, 0, 1, 1)]), nothing))
    assert (o["false_alarms"], o["hit_rate"]) == (1, None)
    assert o["one_to_one"]["centroid_distance_m"]["median"] is None


def test_confined_to_an_area(tmp_path, mapped):
    truth = vector(tmp_path / "t.gpkg", [rectangle(5, 10, 20, 10)])
    area = vector(tmp_path / "a.gpkg", [rectangle(0, 0, 15, 70)], layer="map")
    s = score(mapped, truth, area=area)
    assert [s["pixels"][n] for n in ("tp", "fp", "fn", "tn")] == [100, 0, 0, 15 * 60 - 100]
    assert s["objects"]["one_to_one"]["centroid_distance_m"]["max"] == 0


def test_a_scar_outside_the_area_is_neither_missed_nor_matched(tmp_path, mapped):
    truth = vector(tmp_path / "t.gpkg", [rectangle(5, 10, 20, 10), rectangle(45, 5, 3, 3)])
    area = vector(tmp_path / "a.gpkg", [rectangle(0, 0, 15, 70)])
    assert score(mapped, truth, area=area)["objects"]["true"] == 1


@pytest.mark.parametrize(("column", "right"), [(10, True), (25, False)])
def test_no_interval_of_pixels_is_without_width(tmp_path, mapped, column, right):
    """All right or all wrong in few blocks is no certainty: the exact bound for as many draws, or nothing."""
    truth = [rectangle(5, column, 20, 10), *([rectangle(30, 40, 10, 10)] if right else [])]
    s = score(mapped, vector(tmp_path / "t.gpkg", truth), resampling=Resampling(16, 100, 0))
    assert s["pixels"]["f1"] == right
    for name, interval in [*s["pixels"]["interval"].items(), ("missed", s["objects"]["missed_area"]["interval"])]:
        assert interval is None or interval[0] < interval[1], name
    low, high = s["pixels"]["interval"]["f1"]
    assert (high == 1 and low < 0.9) if right else (low == 0 and high > 0.1)


def test_an_empty_inventory_misses_all(tmp_path):
    write(tmp_path / "p.tif", np.full(SHAPE, 0.1))
    inventory.write(tmp_path / "i.gpkg", make_inventory([tmp_path / "p.tif"], threshold=0.5))
    s = score(tmp_path / "i.gpkg", vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)]))
    assert (s["pixels"]["fn"], s["pixels"]["recall"], s["pixels"]["precision"]) == (200, 0, None)
    assert s["objects"]["misses"] == 1


def test_inventory_of_another_origin(tmp_path):
    found = vector(tmp_path / "i.gpkg", [rectangle(5, 10, 20, 10)], layer="drawn by hand")
    truth = vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)])
    with pytest.raises(GridError, match="does not tell the pixels it was made of; give --probability"):
        score(found, truth)
    probability = write(tmp_path / "p.tif", np.full(SHAPE, 0.1))
    assert score(found, truth, probability=probability)["pixels"]["tp"] == 160
    with rasterio.open(
        tmp_path / "t.tif", "w", driver="GTiff", width=70, height=50, count=1, dtype="uint8", crs="EPSG:32648",
        transform=GRID.affine,
    ) as dst:  # fmt: skip
        dst.write(np.zeros((1, *SHAPE), np.uint8))
    with pytest.raises(GridError, match="no layer 'searched'"):
        score(found, tmp_path / "t.tif")
    area = vector(tmp_path / "a.gpkg", [rectangle(0, 0, 30, 30)])
    assert score(found, tmp_path / "t.tif", area=area)["pixels"]["fp"] == 200


def test_best_single_threshold_on_ndvi_and_brightness(tmp_path, mapped):
    random = np.random.default_rng(4)
    true = np.zeros(SHAPE, bool)
    true[5:25, 10:20] = True
    image = np.where(true, 0.3, 0.15) + random.normal(0, 0.05, (4, *SHAPE))
    image[3] = np.where(true, 0.25, 0.4) + random.normal(0, 0.1, SHAPE)
    image[:, 10, 12] = np.nan  # not valid: not counted
    write(tmp_path / "image.tif", image, ["blue", "green", "red", "nir"], REFLECTANCE)
    s = score(mapped, vector(tmp_path / "t.gpkg", [rectangle(5, 10, 20, 10)]), image=tmp_path / "image.tif")
    ours = s["threshold_baseline"]
    stored = REFLECTANCE.encode(image.astype(np.float32)) * 1e-4 - 0.1
    seen = np.zeros(SHAPE, bool)
    seen[:, :60] = True
    seen[10, 12] = False
    for name, values, sign in (
        ("brightness", stored[:3].mean(axis=0), 1),
        ("ndvi", (stored[3] - stored[2]) / (stored[3] + stored[2]), -1),
    ):
        precision, recall, _ = metrics.precision_recall_curve(true[seen], sign * values[seen])
        best = np.max(2 * precision * recall / (precision + recall))
        assert ours[name]["f1"] == pytest.approx(best, abs=0.003)  # bins are a little wide
        assert ours[name]["landslide_is"] == ("above" if sign > 0 else "below")
        found = sign * values[seen] >= sign * ours[name]["threshold"]
        assert metrics.f1_score(true[seen], found) == pytest.approx(ours[name]["f1"], abs=0.005)
        assert ours[name]["pixels"] == seen.sum()
    assert ours["f1"] == max(ours["ndvi"]["f1"], ours["brightness"]["f1"])


def test_image_without_near_infrared_has_no_ndvi(tmp_path, mapped):
    write(tmp_path / "image.tif", np.full((3, *SHAPE), 0.2), ["red", "green", "blue"], REFLECTANCE)
    s = score(mapped, vector(tmp_path / "t.gpkg", [rectangle(5, 10, 20, 10)]), image=tmp_path / "image.tif")
    assert set(s["threshold_baseline"]) == {"brightness", "best", "f1"}


@given(seed=st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_histogram_finds_the_best_threshold(seed):
    random = np.random.default_rng(seed)
    values, true = random.integers(0, 20, 60), random.random(60) < 0.4
    histogram = Histogram(-0.5, 19.5, 20)
    histogram.add(values[:30], true[:30])
    histogram.add(values[30:], true[30:])
    best = histogram.best()
    tries = [metrics.f1_score(true, found, zero_division=0) for t in range(21) for found in (values >= t, values < t)]
    if true.any():
        assert best["f1"] == pytest.approx(max(tries))
        found = values > best["threshold"] if best["landslide_is"] == "above" else values < best["threshold"]
        assert metrics.f1_score(true, found) == pytest.approx(best["f1"])
        assert metrics.precision_score(true, found) == pytest.approx(best["precision"])
        assert histogram.average_precision() == pytest.approx(metrics.average_precision_score(true, values))
    else:
        assert best["f1"] is None


def test_area_that_is_no_file(tmp_path, mapped):
    truth = vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)])
    with pytest.raises(RasterError, match=r"none\.gpkg does not exist"):
        score(mapped, truth, area=tmp_path / "none.gpkg")


def marked(path, values, *, grid=GRID, **options):
    height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=1, dtype="uint8", crs="EPSG:32648",
        transform=grid.affine, **options,
    ) as dst:  # fmt: skip
        dst.write(np.asarray(values, np.uint8)[None])
    return path


@pytest.mark.parametrize("how", ["nodata", "smaller"])
def test_objects_count_where_the_truth_raster_is_known_only(tmp_path, mapped, how):
    """The second polygon lies where nobody knows the truth: it is no false alarm, as its pixels are none."""
    values = np.zeros(SHAPE)
    values[5:25, 10:20] = 1
    if how == "nodata":
        values[:, 45:] = 255  # through the second polygon
        marked(tmp_path / "t.tif", values, nodata=255)
    else:
        marked(tmp_path / "t.tif", values[:, :45])
    s = score(mapped, tmp_path / "t.tif")
    assert (s["pixels"]["tp"], s["pixels"]["fp"]) == (200, 50)
    assert (s["objects"]["mapped"], s["objects"]["false_alarms"]) == (2, 1)  # half of it was looked at
    values[:, 40:] = 255
    s = score(mapped, marked(tmp_path / "u.tif", values, nodata=255))
    assert s["pixels"]["fp"] == 0
    assert (s["objects"]["mapped"], s["objects"]["false_alarms"], s["objects"]["hits"]) == (1, 0, 1)
    assert s["objects"]["by_size"][1]["mapped"] == 1  # 800 m2


def test_objects_of_other_origin_count_where_the_probability_is_valid_only(tmp_path):
    values = np.full(SHAPE, 0.1)
    values[:, 40:] = np.nan
    probability = write(tmp_path / "p.tif", values)
    found = vector(tmp_path / "i.gpkg", [rectangle(5, 10, 20, 10), rectangle(5, 50, 20, 10)])
    true = vector(tmp_path / "t.gpkg", [rectangle(5, 10, 20, 10), rectangle(30, 45, 10, 20), rectangle(30, 30, 10, 20)])
    s = score(found, true, probability=probability)
    assert (s["pixels"]["tp"], s["pixels"]["fp"], s["pixels"]["fn"]) == (200, 0, 100)
    o = s["objects"]
    assert (o["true"], o["hits"], o["mapped"], o["false_alarms"]) == (2, 1, 1, 0)
    assert o["missed_area"]["missed_m2"] == 400  # the third scar's searched half
    assert s["truth"]["features"] == 3


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_pixels_and_objects_have_the_same_ground(tmp_path_factory, seed):
    """Of polygons along pixels, cut by the same ground, area by object is area by pixel."""
    folder = tmp_path_factory.mktemp("same")
    random = np.random.default_rng(seed)
    unknown = random.random(SHAPE) < 0.2
    true = np.where(unknown, 255, 0)
    true[10:20, 5:25] = np.where(unknown[10:20, 5:25], 255, 1)
    probability = write(folder / "p.tif", np.where(random.random(SHAPE) < 0.1, np.nan, 0.1))
    found = vector(folder / "i.gpkg", [rectangle(5, 10, 20, 10), rectangle(30, 40, 10, 10)])
    s = score(found, marked(folder / "t.tif", true, nodata=255), probability=probability)
    pixels, sizes = s["pixels"], s["objects"]["missed_area"]
    assert sizes["missed_m2"] == pytest.approx(4 * pixels["fn"], abs=1e-6)


@pytest.mark.parametrize("what", ["image", "probability"])
def test_rasters_elsewhere_are_told(tmp_path, mapped, what):
    true = vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)])
    far = GeoBox(SHAPE, Affine(2, 0, X + 1e5, 0, -2, Y), "EPSG:32648")
    bands = ("blue", "green", "red", "nir") if what == "image" else ("probability",)
    values = np.full((len(bands), *SHAPE), 0.2)
    write(tmp_path / "far.tif", values, bands, grid=far)
    with pytest.raises(GridError, match=rf"far\.tif lies elsewhere than .*i\.gpkg: .*; give the {what} of its scene"):
        score(mapped, true, **{what: tmp_path / "far.tif"})
    values[:, :, :60] = np.nan  # the searched ground
    write(tmp_path / "near.tif", values, bands)
    with pytest.raises(GridError, match=rf"near\.tif has no valid pixel on the ground that is compared; .*{what}"):
        score(mapped, true, **{what: tmp_path / "near.tif"})


def test_an_area_elsewhere_is_named(tmp_path, mapped):
    true = vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)])
    area = vector(tmp_path / "a.gpkg", [affinity.translate(rectangle(0, 0, 5, 5), 10_000)])
    with pytest.raises(GridError, match=r"a\.gpkg lies elsewhere: its extent is 412000 .*; give an --area of this"):
        score(mapped, true, area=area)


def test_what_is_no_probability_is_refused(tmp_path, mapped):
    true = vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)])
    with pytest.raises(RasterError, match=r"t\.tif holds the value 255; expected probabilities of 0 to 1: give a"):
        score(mapped, true, probability=marked(tmp_path / "t.tif", np.full(SHAPE, 255)))
    four = write(tmp_path / "four.tif", np.full((4, *SHAPE), 0.2), ("blue", "green", "red", "nir"))
    with pytest.raises(RasterError, match=r"four\.tif has 4 bands; expected one band of probability"):
        score(mapped, true, probability=four)


def test_blocks_of_few_pixels_are_refused(tmp_path, mapped):
    true = vector(tmp_path / "t.gpkg", [rectangle(5, 12, 20, 10)])
    with pytest.raises(ConfigError, match=r"blocks of 12 m are less than 8 pixels of 2 m wide, .*--block-m 16 or more"):
        score(mapped, true, resampling=scoring.Resampling(12))
    assert score(mapped, true, resampling=scoring.Resampling(16))["objects"]["interval"]["hit_rate"] is not None
