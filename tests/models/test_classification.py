"""Training, scoring and looking over scenes: the same seed, no leak, scores by hand, cells where they belong."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

sys.path.insert(0, str(Path(__file__).parent))
from made_pictures import TINY, picture, write_set

from geo.errors import ConfigError, GeocrackError, GridError, LabelError, ModelError, OutputError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.raster import Encoding
from models import model_file, recipe
from models.classification import classifier_file, loop
from models.classification.evaluate import corners_of, explained, judge, scores_of
from models.classification.heat import Grid, Heat, heat_map
from models.classification.loop import rank
from models.classification.scores import counted, ratios, summary, threshold_for, wilson
from models.classification.table import write_table
from models.classification.train import train
from models.optimizer import fallen


def made(**change):
    return recipe.parse(TINY | change)


@pytest.fixture(scope="module")
def walls(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "walls", 16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, walls):
    """A baseline that has learnt to tell dark lines."""
    path = tmp_path_factory.mktemp("made") / "model.pt"
    phases = [{"epochs": 6, "learning_rate": 0.002, "batch": 4}]
    found = train(made(network={"name": "baseline"}, phases=phases), [walls], path, threads=1, test_fraction=0.25)
    return path, found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": [1, 2]}, r"classes.0: input should be a valid string \(found 1\)"),
        ({"classes": ["crack", "crack"]}, "classes: 'crack' is given twice"),
        ({"positive": "other"}, "positive: 'other' is none of the classes crack, sound"),
        ({"std": [1.0, 0.0, 1.0]}, "std.1: input should be greater than 0"),
        ({"window": 0}, "window: input should be greater than or equal to 1"),
        ({"validation": [[1], [2]]}, "validation.0: list should have at least 251 items"),
        ({"seen": {"train": []}}, "seen.val: field required"),
        ({"tags": {"numbers": {"km": [0.0, 0.0]}, "categories": {}}}, "tags.numbers.km.1: input should be greater"),
        ({"recipe": recipe.load("linknet-lite0").model_dump(mode="json")}, "its recipe is of kind 'segmenter'"),
        ({"recipe": {"kind": ["x"]}}, "unknown kind"),
        ({"metrics": {"test": {"walls": 0.9}}}, "metrics.test.walls: input should be a valid dictionary"),
        ({"bands": None}, "lacks bands; it was not written whole"),
    ],
)
def test_odd_content_of_a_classifier_is_told(trained, tmp_path, change, message):
    content = torch.load(trained[0], weights_only=True)
    kept = {key: value for key, value in (content | change).items() if value is not None}
    torch.save(kept, tmp_path / "odd.pt")
    with pytest.raises(GeocrackError, match=message):
        classifier_file.load(tmp_path / "odd.pt")


def test_a_classifier_whose_weights_are_no_numbers_is_refused(trained, tmp_path):
    content = torch.load(trained[0], weights_only=True)
    content["state"][list(content["state"])[-1]].fill_(torch.nan)
    torch.save(content, tmp_path / "spoilt.pt")
    with pytest.raises(ModelError, match=r"weights that are no finite numbers \(1 of \d+ parts"):
        classifier_file.load(tmp_path / "spoilt.pt")


def test_a_classifier_with_complex_weights_is_refused(trained, tmp_path):
    content = torch.load(trained[0], weights_only=True)
    content["state"] = {name: value.to(torch.complex64) for name, value in content["state"].items()}
    torch.save(content, tmp_path / "complex.pt")
    with pytest.raises(ModelError, match=r"what no training writes \(complex numbers in"):
        classifier_file.load(tmp_path / "complex.pt")


def state(path):
    return torch.load(path, weights_only=True)["state"]


def equal(one, two):
    return all(torch.equal(one[k], two[k]) for k in one)


def test_it_learns_and_writes_what_it_did(trained, walls):
    path, found = trained
    assert found["test"]["walls"]["scores"]["accuracy"] >= 0.75
    assert list(found["test"]) == ["walls"]
    loaded = classifier_file.load(path)
    assert (loaded.classes, loaded.positive, loaded.window) == (("crack", "sound"), "crack", 40)
    assert loaded.scale.bands == ("red", "green", "blue")
    assert loaded.trained_on["counts"] == {"train": 22, "val": 2, "test": 8}
    assert loaded.validation.sum() == 2
    assert json.loads(path.with_name("model.metrics.json").read_text())["test"] == found["test"]
    assert list(path.with_name("model.tensorboard").glob("events.out.tfevents.*"))


def test_same_seed_same_weights_and_a_broken_training_goes_on_to_them(tmp_path, walls):
    phases = [{"epochs": 3, "learning_rate": 0.01, "batch": 8}]
    augmentation = {"rotation_deg": 20, "flips": ["horizontal"], "hue_deg": 20, "crop": 0.9}
    whole = made(phases=phases, augmentation=augmentation)
    train(whole, [walls], tmp_path / "one.pt", threads=1)
    train(whole, [walls], tmp_path / "two.pt", threads=1)
    assert equal(state(tmp_path / "one.pt"), state(tmp_path / "two.pt"))

    class Killed(Exception):
        pass

    def kill(items, label="", total=None):
        for number, item in enumerate(items):
            if label == "Training" and number == 5:
                raise Killed
            yield item

    with pytest.raises((Killed, RuntimeError)):
        train(whole, [walls], tmp_path / "broken.pt", threads=1, progress=kill)
    train(whole, [walls], tmp_path / "broken.pt", threads=1, resume=True)
    assert equal(state(tmp_path / "one.pt"), state(tmp_path / "broken.pt"))
    with pytest.raises(ModelError, match="was written with another seed"):
        train(whole, [walls], tmp_path / "broken.pt", threads=1, resume=True, seed=1, overwrite=True)


def test_another_table_of_tags_is_another_training(tmp_path):
    folder = write_set(tmp_path / "walls", 10)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    recipe = made(network={"name": "multimodal", "encoder": "test_efficientnet"}, tags={"numbers": ["km"]})
    (folder / "tags.csv").write_text("\n".join(["image,km", *(f"{name},{i}" for i, name in enumerate(names))]))
    train(recipe, [folder], tmp_path / "model.pt", threads=1)
    (folder / "tags.csv").write_text("\n".join(["image,km", *(f"{name},{i % 3}" for i, name in enumerate(names))]))
    with pytest.raises(ModelError, match="was written with other tags; give"):
        train(recipe, [folder], tmp_path / "model.pt", threads=1, resume=True, overwrite=True)


def test_two_stages_keep_their_tests_apart(tmp_path, trained, walls):
    path, _ = trained
    small = write_set(tmp_path / "soil", 8, first=300)
    second = made(network={"name": "baseline"})
    found = train(second, [walls, small], tmp_path / "b.pt", start_from=path, threads=1, test_fraction=0.25)
    assert list(found["test"]) == ["walls", "soil"]
    assert found["test"]["soil"]["images"] == 4
    one, two = classifier_file.load(path), classifier_file.load(tmp_path / "b.pt")
    assert two.scale == one.scale  # the weights expect it
    assert one.seen["train"] <= two.seen["train"]
    assert two.trained_on["start_from"] == str(path)


def test_what_the_first_stage_has_seen_is_no_test(tmp_path, trained, walls):
    path, _ = trained
    second = made(network={"name": "baseline"})
    with pytest.raises(LabelError, match=r"test images, such as .* were learnt from by .*model\.pt; give --seed"):
        train(second, [walls], tmp_path / "b.pt", start_from=path, threads=1, test_fraction=0.25, seed=5)
    with pytest.raises(ModelError, match="another architecture; take the recipe that it was trained by"):
        train(made(), [walls], tmp_path / "b.pt", start_from=path, threads=1)
    other = write_set(tmp_path / "other", 10, classes=("rust", "sound"))
    with pytest.raises(ModelError, match="knows the classes crack, sound, the images show rust, sound"):
        train(second, [other], tmp_path / "b.pt", start_from=path, threads=1)


def test_which_class_is_sought_must_be_clear(tmp_path):
    folder = write_set(tmp_path / "x", 6, classes=("good", "bad"))
    with pytest.raises(ModelError, match="which of them is sought is not clear; say it: --set positive=good"):
        train(made(), [folder], tmp_path / "m.pt", threads=1, val_fraction=0.3)
    with pytest.raises(ModelError, match="seeks the class 'ugly', the images show bad, good"):
        train(made(positive="ugly"), [folder], tmp_path / "m.pt", threads=1, val_fraction=0.3)


def test_the_class_that_the_hint_names_can_be_given(tmp_path):
    folder = write_set(tmp_path / "x", 6, classes=("0", "1"))
    with pytest.raises(ModelError, match=r"say it: --set positive=1$"):
        train(made(), [folder], tmp_path / "m.pt", threads=1, val_fraction=0.3)
    train(made(positive="1"), [folder], tmp_path / "m.pt", threads=1, val_fraction=0.3)
    assert classifier_file.load(tmp_path / "m.pt").positive == "1"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("1", "1"), ("007", "007"), ("yes", "yes"), ("off", "off"), ("'no'", "no"), ("2024-01-31",) * 2],
)
def test_a_class_is_called_as_it_was_typed(typed, meant):
    assert recipe.load("classify-lenet5", [f"positive={typed}"]).positive == meant


def test_yes_and_no_in_a_file_are_no_names_of_classes():
    assert made(positive=1).positive == "1"
    assert recipe.load("classify-lenet5", ["positive=null"]).positive is None
    with pytest.raises(ConfigError, match="quote it where one is called yes, no"):
        made(positive=True)


def test_frozen_weights_stay_and_rates_fall(tmp_path, walls):
    phases = [{"epochs": 1, "learning_rate": 0.1, "batch": 8, "freeze": "encoder"}]
    frozen = made(phases=phases, class_weights="balanced")
    train(frozen, [walls], tmp_path / "m.pt", threads=1)
    trained = state(tmp_path / "m.pt")
    torch.manual_seed(0)
    from models import classification

    fresh = classification.build("timm", bands=3, classes=2, size=32, encoder="test_efficientnet").state_dict()
    assert all(torch.equal(trained[k], fresh[k]) for k in fresh if k.startswith("encoder."))
    assert not torch.equal(trained["head.1.weight"], fresh["head.1.weight"])
    plateau = made(schedule="plateau", plateau_epochs=2, step_factor=0.5)
    rows = [{"validation_accuracy": a, "validation_loss": 1.0} for a in (0.5, 0.6, 0.6, 0.6, 0.6, 0.6)]
    assert [fallen(plateau, n, [rank(row) for row in rows[:n]]) for n in range(7)] == [1, 1, 1, 1, 0.5, 0.5, 0.25]


def test_balanced_sampling_shows_rare_classes_as_often(tmp_path, walls, monkeypatch):
    from models.classification import loop

    seen = []
    real = loop.FittedPictures.batch

    def batch(self, numbers, *more, **how):
        if how.get("seed") is not None or more:
            seen.append(self.labels[list(numbers)])
        return real(self, numbers, *more, **how)

    rare = tmp_path / "rare"
    shutil.copytree(walls, rare)
    for path in sorted((rare / "crack").iterdir())[4:]:
        path.unlink()
    monkeypatch.setattr(loop.FittedPictures, "batch", batch)
    even = made(sampling="balanced", phases=[{"epochs": 1, "learning_rate": 0.01, "batch": 4}])
    train(even, [rare], tmp_path / "m.pt", threads=1, val_fraction=0.3)
    assert [np.bincount(labels).tolist() for labels in seen] == [[2, 2]] * len(seen)
    assert seen


def test_summed_gradients_are_those_of_a_larger_batch(tmp_path, walls, monkeypatch):
    """Without batch statistics, two batches of three are one of six, even where four were to be summed up."""
    monkeypatch.setattr(loop, "_set_mode", lambda module, *_: module.eval())
    plain = {"schedule": "constant", "augmentation": {}, "optimizer": {"name": "sgd", "momentum": 0.0}}
    for name, batch, steps, accumulate in (("whole", 6, 1, 1), ("parts", 3, 2, 4)):
        phases = [{"epochs": 1, "learning_rate": 0.1, "batch": batch, "accumulate": accumulate}]
        settings = made(phases=phases, steps_per_epoch=steps, **plain)
        train(settings, [walls], tmp_path / f"{name}.pt", threads=1)
    whole, parts = state(tmp_path / "whole.pt"), state(tmp_path / "parts.pt")
    for name, value in whole.items():
        assert torch.allclose(value, parts[name], atol=1e-5), name


def test_one_scale_of_losses_is_found_for_all_epochs(tmp_path, walls, monkeypatch):
    made_of = []

    def scaler(*_):
        made_of.append(torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1))
        return made_of[-1]

    monkeypatch.setattr(loop, "make_scaler", scaler)
    phases = [{"epochs": 1, "learning_rate": 0.01, "batch": 8}] * 2
    train(made(phases=phases, steps_per_epoch=2), [walls], tmp_path / "model.pt", threads=1)
    last = torch.load(tmp_path / "model.checkpoints" / "last.pt", weights_only=True)
    assert [scaler.get_scale() for scaler in made_of] == [4.0 * 2**4]
    assert last["scaler"]["scale"] == 4.0 * 2**4


def test_mixed_precision_changes_nothing_on_a_cpu(tmp_path, walls):
    for precision in ("float32", "mixed"):
        train(made(precision=precision), [walls], tmp_path / f"{precision}.pt", threads=1)
    assert equal(state(tmp_path / "float32.pt"), state(tmp_path / "mixed.pt"))


def test_a_recipe_is_known_again_as_it_was_before_it_could_sample():
    plain = made()
    assert not {"sampling", "precision"} & plain.model_dump(mode="json").keys()
    balanced = made(sampling="balanced")
    assert balanced.model_dump(mode="json")["sampling"] == "balanced"
    assert type(plain).model_validate(balanced.model_dump(mode="json")) == balanced
    with pytest.raises(ConfigError, match="sampling and class_weights are both balanced"):
        made(sampling="balanced", class_weights="balanced")


def test_calibration_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.25, 0.75], [0.25, 0.75]])
    found = summary(np.array([0, 0, 1, 0]), probabilities, list("abcd"), ["crack", "sound"], 0, replicates=10)
    bins = [(row["images"], row["found"]) for row in found["calibration"]]
    assert bins == [(2, 0.5), (2, 1.0)]
    assert found["calibration_error"] == pytest.approx((0.25 + 0.05) / 2, abs=0.01)


def test_a_loss_that_is_no_number_names_its_images(tmp_path, walls, monkeypatch):
    real = torch.nn.functional.cross_entropy
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda *a, **k: real(*a, **k) * float("nan"))
    wild = made(phases=[{"epochs": 9, "learning_rate": 0.1, "batch": 8}])
    with pytest.raises(ModelError, match=r"no longer a number .* on the images walls/"):
        train(wild, [walls], tmp_path / "m.pt", threads=1)
    assert not (tmp_path / "m.pt").exists()


def test_image_and_tags_together(tmp_path):
    folder = write_set(tmp_path / "walls", 10)
    rows = [
        f"{p.relative_to(folder)},{len(p.parts)},{'cut' if 'crack' in str(p) else ''}" for p in folder.rglob("*.png")
    ]
    (folder / "tags.csv").write_text("\n".join(["image,km,setting", *rows]))
    settings = made(
        network={"name": "multimodal", "encoder": "test_efficientnet", "hidden": 4},
        tags={"numbers": ["km"], "categories": ["setting"]},
    )
    train(settings, [folder], tmp_path / "m.pt", threads=1)
    loaded = classifier_file.load(tmp_path / "m.pt")
    assert loaded.tags.width == 3
    judged = judge(loaded, [folder], threads=1)
    assert len(judged.pictures) == 4
    assert [e.attention.shape for e in explained(loaded, judged)] == [(32, 32)] * 4
    with pytest.raises(ModelError, match="looks at tags beside the image"):
        write_table(folder, loaded, tmp_path / "t.csv")
    with pytest.raises(ModelError, match="looks at tags beside the image, which a scene has not"):
        heat_map(next(folder.rglob("*.png")), loaded, tmp_path / "h.tif")


def test_evaluation_leaves_out_what_was_learnt_from(tmp_path, trained, walls):
    path, found = trained
    loaded = classifier_file.load(path)
    judged = judge(loaded, [walls], threads=1)
    assert judged.left_out == {"walls": 24}
    scored = scores_of(loaded, judged, replicates=100)["walls"]
    assert scored["confusion"] == found["test"]["walls"]["confusion"]
    assert len(scored["wrong"]) == 8 - np.trace(np.array(scored["confusion"]))
    corners = corners_of(judged, explained(loaded, judged))
    assert len(corners.right) + len(corners.wrong) + corners.none == 8
    seen = tmp_path / "seen"
    shutil.copytree(walls, seen)
    for picture_ in judged.pictures.pictures:
        (seen / picture_.path.relative_to(walls)).unlink()
    with pytest.raises(LabelError, match="has no image to test on: 24 were learnt from"):
        judge(loaded, [seen], threads=1)
    with pytest.raises(ModelError, match="knows the classes crack, sound, the images show crack, rust"):
        judge(loaded, [write_set(tmp_path / "o", 2, classes=("crack", "rust"), first=70)], threads=1)


def test_scores_by_hand():
    counts = np.array([[2, 1], [2, 3]])
    found = {k: float(v) for k, v in ratios(counts, 0).items()}
    assert found == pytest.approx(
        {"accuracy": 5 / 8, "precision": 1 / 2, "recall": 2 / 3, "specificity": 3 / 5, "f1": 4 / 7}
    )
    three = ratios(np.array([[3, 1, 0], [0, 2, 2], [1, 0, 1]]), 0)
    assert float(three["specificity"]) == 5 / 6


def test_intervals_draw_groups_not_images():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 2, 20), 10)
    answers = np.where(np.repeat(rng.random(20) < 0.7, 10), labels, 1 - labels)
    probabilities = np.eye(2)[answers]
    parts = [str(n) for n in np.repeat(np.arange(20), 10)]
    alone = [str(n) for n in range(200)]
    spans = [summary(labels, probabilities, g, ["a", "b"], 0)["intervals"]["accuracy"] for g in (parts, alone)]
    widths = [high - low for low, high in spans]
    assert widths[0] > 2 * widths[1]  # ten look-alikes tell as much as one
    one_class = summary(np.zeros(4, int), np.eye(2)[[0, 0, 0, 0]], list("abcd"), ["a", "b"], 0)
    assert (one_class["scores"]["specificity"], one_class["intervals"]["specificity"]) == (None, None)


def test_all_right_is_not_sure():
    labels = np.arange(30) % 2
    groups = [str(n) for n in range(30)]
    spans = summary(labels, np.eye(2)[labels], groups, ["a", "b"], 0)["intervals"]
    assert spans["accuracy"] == wilson(30, 30) == pytest.approx([0.8865, 1], abs=1e-3)
    assert spans["recall"] == spans["precision"] == wilson(15, 15)
    iou = wilson(15, 15)[0]
    assert spans["f1"] == pytest.approx([2 * iou / (1 + iou), 1], abs=1e-5)
    few = summary(labels[:9], np.eye(2)[labels[:9]], groups[:9], ["a", "b"], 0)
    assert set(few["intervals"].values()) == {None}
    photographs = [str(n // 3) for n in range(30)]
    assert summary(labels, np.eye(2)[labels], photographs, ["a", "b"], 0)["intervals"]["accuracy"] == wilson(10, 10)


def test_threshold_for_a_recall():
    labels = np.array([0] * 50 + [1] * 50)
    probability = np.concatenate([np.linspace(0.51, 1, 50), np.linspace(0, 0.49, 50)])
    found = threshold_for(counted(labels, probability, 0), 0.98)
    assert found["recall"] == 0.98
    assert 0.51 < found["threshold"] <= 0.52
    assert found["skipped"] == 1
    assert found["recall_interval"] == wilson(49, 50) == pytest.approx([0.895, 0.9965], abs=1e-3)
    assert threshold_for(counted(labels, probability, 0), 1.0)["threshold"] <= 0.51
    useless = threshold_for(counted(labels, np.zeros(100), 0), 0.98)
    assert (useless["recall"], useless["threshold"]) == (0.0, 0.002)


def test_cells_get_the_windows_that_lie_over_them():
    grid = Grid.of((100, 70), 40, 20)
    assert (grid.step, grid.cells, grid.windows) == (20, (5, 4), (4, 3))
    assert [len(job) for job in grid.jobs(2)] == [2, 1] * 4
    assert [place for job in grid.jobs(2) for place in job] == [(r, c) for r in range(4) for c in range(3)]
    heat = Heat(grid)
    heat.add((0, 0), np.ones((40, 40), bool), 0.2, 0.5)
    heat.add((0, 1), np.ones((40, 40), bool), 0.6, 0.5)
    values, data, kept = heat.maps()
    assert values[0, 0, :3] == pytest.approx([0.2, 0.4, 0.6])
    assert values[1, 0, :3] == pytest.approx([0.2, 0.6, 0.6])
    assert kept[0].tolist() == [False, True, True, False]
    assert data.sum() == 6
    odd = Grid.of((100, 100), 41, None)
    assert (odd.step, odd.reach) == (21, 2)
    assert odd.weights()[0].tolist() == [1, 20 / 21]
    with pytest.raises(ModelError, match="leave a step of 5; give an overlap of 30 or less"):
        Grid.of((100, 100), 40, 35)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Ground of 200 x 240 pixels with a crack in one corner and nodata in another."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    rows = [[picture(7 * r + c, (r, c) == (4, 5)) for c in range(6)] for r in range(5)]
    image = np.vstack([np.hstack(row) for row in rows])[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
    image[:, :90, :90] = np.nan
    box = GeoBox((200, 240), Affine(2, 0, 500_000, 0, -2, 3_500_000), "EPSG:32648")
    with GeoTiffWriter(path, box, ["red", "green", "blue"], Encoding("uint8", 0)) as writer:
        writer.write(image, Window(0, 0, 240, 200))
    return path


def test_a_scene_gets_a_heat_map_and_a_screen_that_holds_the_crack(tmp_path, trained, scene):
    loaded = classifier_file.load(trained[0])
    found = heat_map(scene, loaded, tmp_path / "heat.tif", screen=tmp_path / "screen.gpkg", batch=7)
    assert found["windows"] == 9 * 11
    assert found["windows_skipped"] == 9
    with rasterio.open(tmp_path / "heat.tif") as src:
        assert (src.shape, src.res, src.bounds) == ((10, 12), (40, 40), (500_000, 3_499_600, 500_480, 3_500_000))
        assert src.descriptions == ("probability", "highest")
        heat = src.read(masked=True) * 0.004
    assert heat.mask[0, :4, :4].all()
    assert heat.mask[0].sum() == 16
    assert heat[1, 8:, 10:].max() > heat[1, 5:8, :6].max()
    frame = gpd.read_file(tmp_path / "screen.gpkg")
    assert frame.crs.to_epsg() == 32648
    assert frame.union_all().contains(gpd.points_from_xy([500_000 + 2 * 220], [3_500_000 - 2 * 180])[0])
    assert set(frame.recall_wanted) == {0.98}
    assert frame.area.sum() / (200 * 240 * 4) < 0.6
    again = heat_map(scene, loaded, tmp_path / "again.tif", screen=tmp_path / "screen.tif", batch=50)
    assert again == found
    heat_map(scene, loaded, tmp_path / "third.tif", screen=tmp_path / "third.gpkg", batch=7)
    screen = (tmp_path / "screen.gpkg").read_bytes()
    assert (tmp_path / "third.gpkg").read_bytes() == screen
    assert int.from_bytes(screen[60:64], "big") == 10300  # GeoPackage 1.3, which QGIS 3.22 reads without a warning
    with rasterio.open(tmp_path / "screen.tif") as src:
        assert set(np.unique(src.read())) == {0, 1, 255}


def test_the_whole_chain_can_skip_what_is_screened_out(tmp_path, trained, scene):
    from models.predict import predict

    class Everything:
        bands, chip_size, reach, stride, threshold = ("red", "green", "blue"), 32, 0, 1, 0.5

        def probability(self, images):
            return np.ones((len(images), *images.shape[2:]), np.float32)

    heat_map(scene, classifier_file.load(trained[0]), tmp_path / "heat.tif", screen=tmp_path / "screen.gpkg")
    predict(scene, Everything(), tmp_path / "p.tif", overlap=0, batch=4, area=tmp_path / "screen.gpkg")
    with rasterio.open(tmp_path / "p.tif") as src:
        searched = src.read_masks(1) > 0
    assert searched[160:, 200:].any()
    assert 0 < searched.mean() < 0.6


def test_a_scene_that_is_screened_out_as_a_whole_is_not_searched(tmp_path, trained, scene, monkeypatch, caplog):
    from click.testing import CliRunner

    from geo.inventory import read
    from models.classification import heat
    from models.predict import predict
    from pipeline.cli import geocrack

    class Blind:
        bands, chip_size, reach, stride, threshold = ("red", "green", "blue"), 32, 0, 1, 0.5

    real = heat.threshold_for
    monkeypatch.setattr(heat, "threshold_for", lambda *given: real(*given) | {"threshold": 1.1})
    heat_map(scene, classifier_file.load(trained[0]), tmp_path / "heat.tif", screen=tmp_path / "screen.gpkg")
    assert "no ground is kept" in caplog.text
    found = predict(scene, Blind(), tmp_path / "p.tif", overlap=0, batch=4, area=tmp_path / "screen.gpkg")
    assert (found["valid_share"], found["landslide_share"]) == (0, None)
    with rasterio.open(tmp_path / "p.tif") as src:
        assert not src.read_masks(1).any()
    files = [tmp_path / "p.tif", "--image", scene, "-o", tmp_path / "i.gpkg"]
    result = CliRunner().invoke(geocrack, ["vectorize", *map(str, files), "--project", "--threshold", "0.5"])
    assert result.exception is None, result.output
    assert "was not searched: the screening kept no ground of it" in result.output
    inventory = read(tmp_path / "i.gpkg")
    assert len(inventory.landslides) == 0
    assert list(inventory.not_searched_km2) == ["outside area"]


def test_polygons_that_cannot_be_written_leave_nothing(tmp_path, trained, scene, monkeypatch):
    def fails(*_, **__):
        raise pyogrio.errors.DataSourceError("sqlite3_exec(...) failed: database or disk is full")

    monkeypatch.setattr(pyogrio, "write_dataframe", fails)
    with pytest.raises(OutputError, match=r"s\.gpkg could not be written whole: no space is left on its disk"):
        heat_map(scene, classifier_file.load(trained[0]), tmp_path / "h.tif", screen=tmp_path / "s.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_scenes_that_do_not_fit_have_a_sentence(tmp_path, trained, scene):
    loaded = classifier_file.load(trained[0])
    plain = tmp_path / "plain.png"
    cv2.imwrite(str(plain), picture(1, True, (80, 80)))
    heat_map(plain, loaded, tmp_path / "plain.tif", screen=tmp_path / "plain_screen.tif")
    with pytest.raises(GridError, match="has no CRS, so kept ground has no place"):
        heat_map(plain, loaded, tmp_path / "h.tif", screen=tmp_path / "s.gpkg")
    with pytest.raises(ModelError, match=r"neither \.gpkg nor \.tif"):
        heat_map(scene, loaded, tmp_path / "h.tif", screen=tmp_path / "s.shp")
    with pytest.raises(ModelError, match=r"trained on the bands red, green, blue, .* has a, b, c"):
        heat_map(scene, loaded, tmp_path / "h.tif", bands=["a", "b", "c"])
    with pytest.raises(ModelError, match="windows of 8 pixels are too small"):
        heat_map(scene, loaded, tmp_path / "h.tif", window=8)
    empty = tmp_path / "empty.tif"
    box = GeoBox((64, 64), Affine(2, 0, 0, 0, -2, 0), "EPSG:32648")
    with GeoTiffWriter(empty, box, ["red", "green", "blue"], Encoding("uint8", 0)) as writer:
        writer.write(np.full((3, 64, 64), np.nan, np.float32), Window(0, 0, 64, 64))
    with pytest.raises(RasterError, match="has no valid pixel"):
        heat_map(empty, loaded, tmp_path / "h.tif", screen=tmp_path / "s.gpkg")
    assert not (tmp_path / "h.tif").exists()
    assert not (tmp_path / "s.gpkg").exists()


def test_other_units_are_told(tmp_path, trained, scene, caplog):
    reflectance = tmp_path / "reflectance.tif"
    box = GeoBox((64, 64), Affine(2, 0, 0, 0, -2, 0), "EPSG:32648")
    values = np.random.default_rng(0).uniform(0.05, 0.2, (3, 64, 64)).astype(np.float32)
    with GeoTiffWriter(reflectance, box, ["red", "green", "blue"], Encoding("float32", float("nan"))) as writer:
        writer.write(values, Window(0, 0, 64, 64))
    heat_map(reflectance, classifier_file.load(trained[0]), tmp_path / "h.tif")
    assert "has other values than the training images" in caplog.text


def test_a_table_of_images(tmp_path, trained, walls):
    found = write_table(walls, classifier_file.load(trained[0]), tmp_path / "t.csv")
    assert found["images"] == 32
    with open(tmp_path / "t.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0].keys() == {"image", "class", "probability_crack", "probability_sound"}
    assert sum(row["class"] == row["image"].split("/")[0] for row in rows) >= 24
    (tmp_path / "none").mkdir()
    with pytest.raises(RasterError, match="holds no images"):
        write_table(tmp_path / "none", classifier_file.load(trained[0]), tmp_path / "u.csv")


def test_a_damaged_classifier_is_refused(tmp_path, trained):
    content = bytearray(Path(trained[0]).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "m.pt").write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"m\.pt is damaged \(by its checksum its part '\S+' is not what was"):
        classifier_file.load(tmp_path / "m.pt")


def test_files_of_other_kinds_are_refused(tmp_path, trained):
    content = torch.load(trained[0], weights_only=True)
    with pytest.raises(ModelError, match="is a classifier, which says of a whole image what it shows"):
        model_file.load(trained[0])
    other = tmp_path / "other.pt"
    torch.save(content | {"kind": "segmenter"}, other)
    with pytest.raises(ModelError, match="kind 'segmenter', which labels pixels; expected a classifier"):
        classifier_file.load(other)
    torch.save(content | {"state": {}}, other)
    with pytest.raises(ModelError, match="weights of another architecture than its recipe's 'baseline'"):
        classifier_file.load(other)
    torch.save({k: v for k, v in content.items() if k != "seen"}, other)
    with pytest.raises(ModelError, match="lacks seen"):
        classifier_file.load(other)
    torch.save(content | {"version": 9}, other)
    with pytest.raises(ModelError, match="of version 9"):
        classifier_file.load(other)
    other.write_bytes(b"not a model")
    with pytest.raises(ModelError, match="expected a classifier"):
        classifier_file.load(other)
