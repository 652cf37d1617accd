"""A review in real QGIS: the form shows the picture, and what is saved is understood."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio

from geo import inventory
from geo.inventory import reviewed, thumbnails
from tests.review_scene import NEWER, image, make

PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "GDAL_", "PROJ_"))}


def has_qgis() -> bool:
    try:
        done = subprocess.run([PYTHON, "-c", "import qgis.gui"], capture_output=True, env=ENVIRONMENT, timeout=60)
    except OSError:
        return False
    return done.returncode == 0


pytestmark = pytest.mark.skipif(
    not has_qgis(), reason=f"{PYTHON} has no QGIS (Debian: apt-get install qgis python3-qgis, or set QGIS_PYTHON)"
)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """An inventory with pictures, in a folder with blanks, after a person worked on it."""
    folder = tmp_path_factory.mktemp("my reviews")
    path = make(folder)
    found = inventory.read(path)
    pictures = thumbnails.draw(found.review, {NEWER: image(folder / "fused.tif")}, 10)
    found = replace(found, review=thumbnails.named(found.review, path, pictures))
    inventory.write(path, found, overwrite=True)
    thumbnails.write(path, pictures)
    command = [PYTHON, str(Path(__file__).parent / "edit_review.py"), str(path), str(folder / "form.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    with rasterio.open(folder / "form.png") as src:
        return path, json.loads(done.stdout.splitlines()[-1]), src.read([1, 2, 3]).astype(int)


def test_the_form_shows_the_picture_and_the_value_list(session):
    path, facts, form = session
    assert facts["picture"] == "ExternalResource"
    assert facts["choices"] == ["candidate", "confirmed", "rejected", "edited"]
    red, green, blue = form
    assert ((red > blue + 80) & (green > blue + 60)).sum() > 200, "the yellow outline in the picture in the form"
    assert ((green > red + 10) & (green < 90)).sum() > 5000, "the forest around it"
    expected = path.parent / "inventory.review" / f"{facts['ids'][0]}.png"
    assert expected.exists()
    assert f'src="file:///{expected}"' in facts["tip"]


def test_what_was_saved_is_understood(session):
    path, facts, _ = session
    assert facts["saved"], facts["errors"]
    assert facts["new_status"] == "edited", "of a polygon that a person draws"
    found = reviewed.ingest(path, around_m=10)
    labels = found.labels.set_index("id")["origin"]
    ids = facts["ids"]
    assert labels[ids[0]] == "confirmed"
    assert labels[ids[2]] == "edited"
    assert labels[ids[4]].tolist() == ["edited", "edited"], "both parts of a split"
    assert sorted(found.labels["origin"]) == ["confirmed", "drawn", "edited", "edited", "edited"]
    refused = found.hard_negatives.set_index("id")["origin"]
    assert refused.to_dict() == {ids[1]: "rejected", ids[3]: "deleted"}
    assert found.findings["changed_without_status"] == 3
