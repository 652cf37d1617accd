import json
import re

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from geo.errors import GridError, OutputExistsError, RasterError, RegistrationError
from geo.masks import quality_path
from pipeline.cli import geocrack
from pipeline.provenance import provenance_path
from tests.geo.date_scene import PIXEL_M, write_dates
from tests.geo.terrain import map_grid, write_image


def run(*arguments):
    return CliRunner().invoke(geocrack, ["coregister", *(str(a) for a in arguments)])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return write_dates(folder, size=256, warp=lambda c, r: (6.4 + 0 * c, -3.3 + 0 * r), bands=2)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_date_is_brought_to_another(images, tmp_path):
    out = tmp_path / "after.tif"

    result = run(*images, "-o", out)
    assert result.exit_code == 0, result.exception
    assert names(tmp_path) == [
        "after.coregistration.gpkg",
        "after.coregistration.json",
        "after.coregistration.png",
        "after.quality.tif",
        "after.tif",
        "after.tif.provenance.json",
    ]
    found = json.loads((tmp_path / "after.coregistration.json").read_text())
    assert found["status"] == "measured"
    assert found["shift_x_m"] == pytest.approx(6.4 * PIXEL_M, abs=0.1)
    assert found["shift_y_m"] == pytest.approx(3.3 * PIXEL_M, abs=0.1)
    assert "after.tif lay 14.4" in result.output
    record = json.loads(provenance_path(out).read_text())
    assert record["step"] == "coregister"
    assert record["results"]["coregistration"] == found
    assert record["settings"] == {"max_shift_m": 100.0, "resampling": "cubic"}
    with rasterio.open(out) as dst, rasterio.open(images[0]) as ref, rasterio.open(images[1]) as src:
        assert dst.transform == src.transform
        inner = (slice(20, -20), slice(20, -20))
        before = np.corrcoef(ref.read(1)[inner].ravel(), src.read(1)[inner].ravel())[0, 1]
        after = np.corrcoef(ref.read(1)[inner].ravel(), dst.read(1)[inner].ravel())[0, 1]
        assert after > before + 0.05
    again = run(*images, "-o", out)
    assert isinstance(again.exception, OutputExistsError)
    assert run(*images, "-o", out, "--overwrite").exit_code == 0
    assert run(images[0], out, "-o", tmp_path / "third.tif").exit_code == 0
    assert json.loads((tmp_path / "third.coregistration.json").read_text())["shift_px"] < 0.05


def test_a_failure_leaves_nothing_and_is_no_zero_shift(images, tmp_path):
    (tmp_path / "in").mkdir()
    other, _ = write_dates(tmp_path / "in", size=256, seed=9)
    result = run(other, images[1], "-o", tmp_path / "out" / "after.tif")
    assert isinstance(result.exception, RegistrationError)
    message = str(result.exception)
    assert "could not be registered: no large part of them matches within 128 m" in message
    assert message.endswith("look at both images, or allow more with --max-shift-m")
    assert not (tmp_path / "out").exists()


def test_inputs_are_never_replaced(images):
    for path in (*images, quality_path(images[0])):
        result = run(*images, "-o", path, "--overwrite")
        assert isinstance(result.exception, OutputExistsError)
        assert "would replace the input" in str(result.exception)
    assert not provenance_path(images[0]).exists()


def test_what_cannot_be_compared_is_told(images, tmp_path):
    with rasterio.open(images[1]) as src:
        values = src.read() * 1e-4
    grid = map_grid(values.shape[1:], PIXEL_M)
    zone = write_image(tmp_path / "zone.tif", values, grid=type(grid)(grid.shape, grid.affine, "EPSG:32647"))
    far = write_image(tmp_path / "far.tif", values, grid=map_grid(values.shape[1:], PIXEL_M, left=356490))
    for moving, error, words in (
        (zone, GridError, "EPSG:32648 and .*zone.tif EPSG:32647; expected orthos in one CRS"),
        (far, GridError, "overlap by 11 x 256 pixels of the former; expected 24 x 24 at least"),
        (tmp_path / "none.tif", RasterError, "none.tif does not exist"),
    ):
        result = run(images[0], moving, "-o", tmp_path / "out.tif")
        assert isinstance(result.exception, error)
        assert re.search(words, str(result.exception))
    assert not (tmp_path / "out.tif").exists()
