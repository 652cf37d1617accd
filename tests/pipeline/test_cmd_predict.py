"""``geocrack predict`` with real networks: tags, grid, bands, and the same answer for a part as for the whole."""

import hashlib
import json
import os
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from click.testing import CliRunner

import models
from geo.errors import GridError, ModelError, OutputExistsError, RasterError
from models import model_file, recipe
from pipeline.cli import geocrack

PLACE = Affine(2, 0, 357_240, 0, -2, 3_464_000)
BANDS = ("blue", "green", "red", "nir")
SEGMENTER = {
    "network": {"name": "linknet", "encoder": "tu-test_efficientnet"},
    "weights": "none",
    "size": 64,
    "phases": [{"epochs": 1, "learning_rate": 1}],
}


def run(*arguments):
    result = CliRunner().invoke(geocrack, [str(a) for a in ("predict", *arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def save(path, settings, module, **facts):
    defaults = {"bands": ["red", "nir"], "mean": [0.2, 0.3], "std": [0.1, 0.1], "chip_size": 64, "threshold": 0.37}
    model_file.save(path, module, recipe.parse(settings), metrics={}, **{**defaults, **facts})
    return path


def random_network(folder, name):
    torch.manual_seed(0)
    module = models.build(name, bands=2, encoder="tu-test_efficientnet")
    *_, last = (layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d))
    torch.nn.init.normal_(last.weight)  # random weights give 0.5 everywhere; make them say something
    settings = {**SEGMENTER, "network": {"name": name, "encoder": "tu-test_efficientnet"}}
    return save(folder / f"{name}.pt", settings, module)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return random_network(tmp_path_factory.mktemp("model"), "linknet")


def write(path, stored, *, names=BANDS, transform=PLACE):
    count, height, width = stored.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=stored.dtype, crs="EPSG:32648",
        transform=transform, nodata=0,
    ) as dst:  # fmt: skip
        dst.write(stored)
        if names:
            dst.descriptions = names
        dst.scales, dst.offsets = (1e-4,) * count, (-0.1,) * count
        dst.update_tags(GEOCRACK_SCENE="s1", GEOCRACK_ACQUIRED="2015-08-05T03:50:02+00:00")
    return path


def ground(shape=(200, 200), seed=0):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(4, shape[0] // 10 + 1, shape[1] // 10 + 1)).repeat(10, 1).repeat(10, 2)
    values = 3500 + 700 * smooth[:, : shape[0], : shape[1]] + 100 * rng.normal(size=(4, *shape))
    return np.clip(values, 1001, 9999).astype(np.uint16)


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "fused.tif", ground())


def test_the_probability_carries_scene_and_model(tmp_path, image, network):
    output = tmp_path / "p.tif"
    result = run(image, "--model", network, "-o", output, "--overlap", 32, "--threads", 1)
    assert "100.0 % of the image was searched (0.16 km2)" in result.output
    with rasterio.open(output) as dst, rasterio.open(image) as src:
        assert (dst.shape, dst.transform, dst.crs) == (src.shape, src.transform, src.crs)
        tags = dst.tags()
        stored = dst.read(1)
    assert tags["GEOCRACK_MODEL"] == hashlib.sha256(network.read_bytes()).hexdigest()[:12]
    assert tags["GEOCRACK_RECIPE"] == "linknet tu-test_efficientnet"
    assert float(tags["GEOCRACK_THRESHOLD"]) == 0.37
    assert (tags["GEOCRACK_SCENE"], tags["GEOCRACK_ACQUIRED"]) == ("s1", "2015-08-05T03:50:02+00:00")
    assert stored.max() <= 250
    record = json.loads((tmp_path / "p.tif.provenance.json").read_text())
    assert record["results"]["landslide_share"] == pytest.approx((stored * 0.004 >= 0.37).mean(), abs=0.02)
    assert record["results"]["searched_km2"] == pytest.approx(200 * 200 * 4 / 1e6)
    assert record["settings"]["overlap"] == 32


def test_windows_that_contradict_each_other_are_told(tmp_path, image, network, monkeypatch):
    output = tmp_path / "p.tif"
    for limit, told in ((1.0, False), (0.0, True)):
        monkeypatch.setattr("pipeline.commands.predict.UNSURE_APART", limit)
        result = run(image, "--model", network, "-o", output, "--overlap", 32, "--threads", 1, "--overwrite")
        assert ("hangs on the window it is seen in" in result.output) == told
        assert "fused.tif" in result.output or not told


def test_a_window_is_what_the_network_says_of_it(tmp_path, image, network):
    run(image, "--model", network, "-o", tmp_path / "p.tif", "--overlap", 0, "--dtype", "float32")
    with rasterio.open(tmp_path / "p.tif") as dst, rasterio.open(image) as src:
        found = dst.read(1)
        values = src.read((3, 4)).astype(np.float32) * np.float32(1e-4) + np.float32(-0.1)
    row, column = (int(start) for start in (3_464_000 // 2 % 64, -357_240 // 2 % 64))  # windows lie at multiples of 64
    at = np.s_[row : row + 64, column : column + 64]
    direct = model_file.load(network).probability(values[None, :, *at])[0]
    np.testing.assert_allclose(found[at], direct, atol=1e-5)
    assert np.ptp(direct) > 0.3, "the network says something"


@pytest.mark.parametrize("name", ["linknet", "unet", "deeplabv3plus", "pspnet"])
def test_a_part_gives_what_the_whole_gives(tmp_path, image, name):
    """A crop that begins anywhere: equal, but for the windows that reach past the new edge."""
    options = ("--model", random_network(tmp_path, name), "--overlap", 32, "--dtype", "float32")
    run(image, "-o", tmp_path / "p.tif", *options)
    part = write(tmp_path / "part.tif", ground()[:, 63:, 7:], transform=PLACE @ Affine.translation(7, 63))
    run(part, "-o", tmp_path / "q.tif", *options, "--batch", 3)
    with rasterio.open(tmp_path / "p.tif") as whole, rasterio.open(tmp_path / "q.tif") as crop:
        assert np.ptp(whole.read(1)) > 0.02, "the network says something"
        np.testing.assert_allclose(crop.read(1)[64:, 64:], whole.read(1)[127:, 71:], atol=1e-5)


@pytest.mark.parametrize("name", ["linknet", "unet"])
def test_a_part_that_begins_and_ends_with_windows_differs_in_their_overlap_alone(tmp_path, image, name):
    """Only the windows that reach past its edges see other neighbours, and they end one overlap inside."""
    options = ("--model", random_network(tmp_path, name), "--overlap", 32, "--dtype", "float32")
    run(image, "-o", tmp_path / "p.tif", *options)
    row, column = (int(start) for start in (3_464_000 // 2 % 32, -357_240 // 2 % 32))  # windows lie at multiples of 32
    height, width = 64 + 2 * 32, 64 + 32
    crop = np.s_[row + 32 : row + 32 + height, column + 32 : column + 32 + width]
    place = PLACE @ Affine.translation(column + 32, row + 32)
    run(write(tmp_path / "part.tif", ground()[:, *crop], transform=place), "-o", tmp_path / "q.tif", *options)
    with rasterio.open(tmp_path / "p.tif") as whole, rasterio.open(tmp_path / "q.tif") as part:
        apart = np.abs(part.read(1) - whole.read(1)[crop])
    record = json.loads((tmp_path / "q.tif.provenance.json").read_text())
    assert (record["results"]["window_px"], record["results"]["overlap_px"]) == (64, 32)
    assert apart[32:-32, 32:-32].max() < 1e-3
    assert apart.max() > 1e-3, "the edge is another"


@pytest.mark.parametrize("name", ["linknet", "unet", "pspnet"])
def test_an_area_gives_what_the_whole_gives_up_to_its_edge(tmp_path, image, name):
    """Outside of it nothing is said, but the network sees the ground there."""
    options = ("--model", random_network(tmp_path, name), "--overlap", 32, "--dtype", "float32")
    run(image, "-o", tmp_path / "p.tif", *options)
    with rasterio.open(tmp_path / "p.tif") as whole:
        values, corner = whole.read(1), whole.transform @ (41, 52)
        box = shapely.box(corner[0], corner[1] - 2 * 77, corner[0] + 2 * 83, corner[1])
    gpd.GeoDataFrame(geometry=[box], crs="EPSG:32648").to_file(tmp_path / "area.gpkg")
    run(image, "-o", tmp_path / "q.tif", *options, "--area", tmp_path / "area.gpkg")
    with rasterio.open(tmp_path / "q.tif") as part:
        found = part.read(1, masked=True)
    assert 77 * 83 * 0.9 < found.count() <= 77 * 83
    np.testing.assert_array_equal(found.compressed(), values[~np.ma.getmaskarray(found)])


def test_the_svm_sees_pixels_one_by_one(tmp_path, image):
    torch.manual_seed(0)
    module = models.build("svm", bands=2)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    model = save(tmp_path / "svm.pt", {"kind": "pixel"}, module)
    run(image, "--model", model, "-o", tmp_path / "p.tif", "--dtype", "float32")
    with rasterio.open(tmp_path / "p.tif") as dst, rasterio.open(image) as src:
        values = src.read((3, 4)).astype(np.float32) * np.float32(1e-4) + np.float32(-0.1)
        np.testing.assert_allclose(dst.read(1), model_file.load(model).probability(values[None])[0], atol=1e-6)


def test_black_ground_beyond_a_photograph_is_not_searched(tmp_path, network):
    pixels = np.random.default_rng(0).integers(2, 255, (3, 200, 210)).astype(np.uint8)
    pixels[:, :50, :60] = 0
    pixels[:, 120:140, 120:140] = 0  # a dark roof
    photograph = tmp_path / "photo.tif"
    with rasterio.open(
        photograph, "w", driver="GTiff", count=3, height=200, width=210, dtype="uint8", photometric="RGB",
        crs="EPSG:32648", transform=PLACE,
    ) as dst:  # fmt: skip
        dst.write(pixels)
    options = ("--model", network, "-o", tmp_path / "p.tif", "--bands", "red,green,nir", "--overwrite")
    for more, searched in (((), 200 * 210 - 50 * 60), (("--black-px", 0), 200 * 210), (("--black-px", 3001), 42_000)):
        said = run(photograph, *options, *more).output
        with rasterio.open(tmp_path / "p.tif") as dst:
            assert (dst.read(1) != 255).sum() == searched
        assert ("marks no nodata; black areas at its border, 7.1 % of it" in said) == (searched < 42_000)
    record = json.loads((tmp_path / "p.tif.provenance.json").read_text())
    assert record["settings"]["black_px"] == 3001
    run(photograph, *options)
    record = json.loads((tmp_path / "p.tif.provenance.json").read_text())
    assert record["results"]["black_border_share"] == pytest.approx(50 * 60 / 42_000)


def test_an_area_of_any_layer_confines_the_search(tmp_path, image, network):
    box = shapely.transform(shapely.box(20, 30, 90, 110), lambda p: np.column_stack(PLACE @ (p[:, 0], p[:, 1])))
    frame = gpd.GeoDataFrame(geometry=[box], crs="EPSG:32648").to_crs("EPSG:4326")
    frame.to_file(tmp_path / "areas.gpkg", layer="map")
    frame.translate(1.0).to_file(tmp_path / "areas.gpkg", layer="train")
    options = ("--model", network, "-o", tmp_path / "p.tif", "--area", tmp_path / "areas.gpkg", "--overlap", 32)
    run(image, *options, "--area-layer", "map")
    with rasterio.open(tmp_path / "p.tif") as dst:
        searched = dst.read(1) != 255
    assert searched[30:110, 20:90].all()
    assert searched.sum() == 80 * 70
    with pytest.raises(GridError, match="lies outside the image"):
        run(image, *options, "--area-layer", "train", "--overwrite")


def test_bands_and_files_that_do_not_fit(tmp_path, image, network):
    output = tmp_path / "p.tif"
    rgb = write(tmp_path / "rgb.tif", ground()[:3], names=("red", "green", "blue"))
    with pytest.raises(ModelError, match=r"net\.pt was trained on the bands red, nir, .*rgb\.tif has red, green, blue"):
        run(rgb, "--model", network, "-o", output)
    with pytest.raises(
        ModelError, match="an overlap of 64 pixels leaves no step between windows of 64; give 32 or less"
    ):
        run(image, "--model", network, "-o", output, "--window", 64, "--overlap", 64)
    with pytest.raises(ModelError, match=r"fused\.tif is a TIFF; expected a model"):
        run(image, "--model", image, "-o", output)
    with pytest.raises(RasterError, match=r"none\.tif does not exist"):
        run(tmp_path / "none.tif", "--model", network, "-o", output, "--overlap", 32)
    unnamed = write(tmp_path / "unnamed.tif", ground(), names=None)
    with pytest.raises(RasterError, match="give --bands in the order of the file"):
        run(unnamed, "--model", network, "-o", output, "--overlap", 32)
    assert not output.exists()
    run(unnamed, "--model", network, "-o", output, "--overlap", 32, "--bands", "blue,green,red,nir")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run(image, "--model", network, "-o", output)


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, network):
    dark = write(tmp_path / "dark.tif", np.zeros((4, 70, 80), np.uint16))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "predict", dark, "--model", network, "-o", tmp_path / "p.tif",
         "--overlap", "32"],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"geocrack: {dark} has no valid pixel: all is nodata, cloud or shadow; expected an image with data"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dark.tif"]


@pytest.mark.parametrize("name", ["linknet.pt", "./linknet.pt", "copy.pt"])
def test_a_model_does_not_answer_together_with_itself(tmp_path, image, network, monkeypatch, name):
    """Two equal answers have no spread, which would pass for a sure ensemble."""
    for file in ("linknet.pt", "copy.pt"):
        (tmp_path / file).write_bytes(network.read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"holds the same model as linknet\.pt, which tells no spread"):
        run(image, "--model", "linknet.pt", "--model", name, "-o", "p.tif", "--spread", "s.tif")
    assert not list(tmp_path.glob("[ps].tif*"))


def test_the_spread_has_a_record_too(tmp_path, network):
    rng = np.random.default_rng(0)
    write(tmp_path / "a.tif", rng.integers(1000, 5000, (4, 80, 90)).astype("uint16"))
    outputs = [tmp_path / "p.tif", tmp_path / "s.tif"]
    given = ["--model", network, "--augment", "d4", "--overlap", 16]
    run(tmp_path / "a.tif", *given, "-o", outputs[0], "--spread", outputs[1])
    records = [json.loads((tmp_path / f"{file.name}.provenance.json").read_text()) for file in outputs]
    assert [record["product"] for record in records] == ["p.tif", "s.tif"]
    assert records[0]["results"] == records[1]["results"]
    assert records[1]["results"]["answers"] == 8
