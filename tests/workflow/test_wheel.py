"""The wheel works where it is installed, whatever lies in the folder it is called from."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True, timeout=300)
    (file,) = folder.glob("geocrack-*.whl")
    return file


def test_wheel_carries_configurations_sensors_and_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "pipeline/configs/demo.yaml",
        "pipeline/configs/models/linknet-lite0-fast.yaml",
        "pipeline/Snakefile",
        "geo/sensors/gf1_pms.yaml",
        "geo/inventory/landslides.qml",
        "geo/py.typed",
    ):
        assert wanted in names
    assert not [n for n in names if n.startswith("tests/")]


def test_installed_command_runs_beside_the_users_own_models_and_geo(wheel, tmp_path):
    site, place = tmp_path / "site", tmp_path / "place"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, timeout=300)
    for name in ("models", "geo", "pipeline"):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text("raise RuntimeError('the user\\'s own package was imported')\n")
    done = subprocess.run(
        [str(site / "bin" / "geocrack"), "demo", "-o", "demo", "--size-km", "1.0", "0.8"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((place / "demo" / "products").iterdir())) == 3
    imported = subprocess.run(
        [sys.executable, "-c", "import geo, models, pipeline; print(geo.__file__, models.__file__, pipeline.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert imported.stdout.count(str(site)) == 3, "the test must use the wheel, not the checkout"
