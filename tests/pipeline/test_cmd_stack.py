"""``geocrack stack`` from the command line, and what tiling and training make of it."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from click.testing import CliRunner
from shapely import box

from geo.errors import ConfigError
from models.chips import open_chips, read_chip
from models.dataset import gather
from models.recipe import parse
from pipeline.cli import geocrack
from tests.geo.terrain import map_grid, mountains, write_dem, write_image

SHAPE = (256, 384)
GRID = map_grid(SHAPE, 10.0)


def run(*args):
    result = CliRunner().invoke(geocrack, [str(a) for a in args], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture
def image(tmp_path):
    values = np.random.default_rng(0).uniform(0.05, 0.5, (4, *SHAPE)).astype(np.float32)
    values[:, :, :8] = np.nan
    return write_image(tmp_path / "fused.tif", values, grid=GRID, cog=True, tags={"GEOCRACK_SCENE": "S"})


@pytest.fixture
def dem(tmp_path):
    transform = GRID.affine @ Affine.translation(-9, -9)
    return write_dem(tmp_path / "dem.tif", heights=mountains(420, relief=40), transform=transform, crs="EPSG:32648")


def test_a_recipe_takes_the_bands_of_a_stack_that_it_names(image, dem, tmp_path):
    told = run("stack", image, "-o", tmp_path / "stack.tif", "--dem", dem, "--add", "slope, ndvi").output
    assert "blue, green, red, nir, slope, ndvi; 97.9 % valid" in told
    record = json.loads((tmp_path / "stack.tif.provenance.json").read_text())
    assert record["results"]["bands"] == ["blue", "green", "red", "nir", "slope", "ndvi"]
    left, top = GRID.affine.c, GRID.affine.f
    scars = [box(left + 320 * k, top - 2000, left + 320 * k + 150, top - 100) for k in range(12)]
    gpd.GeoDataFrame(geometry=scars, crs="EPSG:32648").to_file(tmp_path / "labels.gpkg")
    chips = tmp_path / "chips"
    split = ("--size", "32", "--block-chips", "1", "--gap-m", "0", "--fractions", "0.5", "0.25", "0.25")
    run("tile", tmp_path / "stack.tif", "--labels", tmp_path / "labels.gpkg", "-o", chips, *split)
    assert json.loads((chips / "chips.json").read_text())["bands"] == ["blue", "green", "red", "nir", "slope", "ndvi"]
    recipe = {
        "network": {"name": "linknet", "encoder": "resnet34"},
        "bands": ["red", "nir", "slope", "ndvi"],
        "weights": "none",
        "size": 32,
        "phases": [{"epochs": 1, "learning_rate": 0.01, "batch": 2}],
    }
    data = gather(parse(recipe), [chips])
    assert data.bands == ("red", "nir", "slope", "ndvi")
    fitted = data.train[0]
    values, _, valid = read_chip(data.train.records[0])
    physical = fitted.image.astype(np.float64) * data.std + data.mean
    for k, band in enumerate((2, 3, 4, 5)):
        assert physical[valid][:, k] == pytest.approx(values[band][valid], abs=0.005 * data.std[k] + 0.01 * data.std[k])
    slope = np.concatenate([read_chip(r)[0][4].ravel() for r in open_chips([chips]).records])
    assert 5 < np.nanmean(slope) < 60  # degrees, not scaled away


def test_the_usual_terrain_comes_with_a_dem(image, dem, tmp_path):
    told = run("stack", image, "-o", tmp_path / "s.tif", "--dem", dem, "--before", image).output
    assert "elevation, slope, aspect_sin, aspect_cos, blue_before, green_before, red_before, nir_before" in told


def test_wrong_wishes_are_one_sentence(image, tmp_path):
    with pytest.raises(ConfigError, match="unknown band 'slop'; did you mean 'slope'"):
        run("stack", image, "-o", tmp_path / "s.tif", "--add", "slop")
    assert not (tmp_path / "s.tif").exists()
