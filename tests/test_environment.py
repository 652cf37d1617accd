"""``environment.yml``, ``pyproject.toml`` and ``requirements.lock`` say the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {  # PyPI -> conda-forge or bioconda, where they differ
    "dask": "dask-core",
    "huggingface-hub": "huggingface_hub",
    "matplotlib": "matplotlib-base",
    "opencv-python-headless": "opencv",
    "pvlib": "pvlib-python",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}


#: What conda has to be told of besides: it knows no extras of packages.
CONDA_ALONE = {"jsonschema": ">=4.18"}


def split(requirement: str) -> tuple[str, str]:
    """``"numpy[extra] >=2.0; marker"`` -> ``("numpy", ">=2.0")``."""
    pattern = r"([A-Za-z0-9_.-]+)(?:\[\S+\])?\s*([^;]*?)\s*(?:;.*)?"
    name, version = re.fullmatch(pattern, requirement).groups()
    return name.lower(), version.replace(" ", "")


@pytest.fixture(scope="module")
def project() -> dict[str, str]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = table["optional-dependencies"]
    wanted = [*table["dependencies"], *extras["dev"]]
    for name in ("sixs", "clouds", "onnx", "openvino", "slurm"):  # `dev` asks for them, so that their tests run
        assert name in next(r for r in extras["dev"] if r.startswith("geocrack["))
        wanted += extras[name]
    return dict(split(r) for r in wanted if not r.startswith("geocrack["))


def test_conda_environment_has_the_dependencies_of_the_package(project):
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    conda = dict(split(entry) for entry in listed if isinstance(entry, str))
    conda |= dict(split(entry) for entry in pip if not entry.startswith("-"))
    assert "--no-deps -e ." in pip
    assert {"python", "pip", "gdal"} <= conda.keys()
    expected = {CONDA_NAMES.get(name, name): version for name, version in project.items()}
    assert {n: v for n, v in conda.items() if n not in ("python", "pip", "gdal")} == expected | CONDA_ALONE


def test_what_is_imported_is_named():
    """What comes only because another package needs it may go with that package's next version."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [r for name, listed in table["optional-dependencies"].items() if name != "dev" for r in listed]
    named = {split(r)[0] for r in [*table["dependencies"], *extras]}
    floors = ("geo", "models", "pipeline")
    imported = set()
    for node in (n for f in floors for p in (ROOT / f).rglob("*.py") for n in ast.walk(ast.parse(p.read_text()))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.split(".")[0])
    origin = packages_distributions()  # of packages that are installed: extras may not be
    unnamed = {
        name
        for name in imported - set(sys.stdlib_module_names) - set(floors)
        if name in origin and named.isdisjoint(d.lower().replace("_", "-") for d in origin[name])
    }
    assert unnamed == set()


def test_lock_pins_every_dependency_with_hashes_and_names_no_index(project):
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pins = re.findall(r"^([a-z0-9._-]+)==(\S+)", lock, flags=re.M)
    assert project.keys() <= {name for name, _ in pins}
    blocks = re.split(r"^(?=[a-z0-9._-]+==)", lock, flags=re.M)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


def test_torch_and_torchvision_are_locked_as_a_pair_that_fits():
    import torch
    import torchvision

    assert torch.__version__.split("+")[0] == "2.14.1"
    assert torchvision.__version__.split("+")[0] == "0.29.1"
    assert torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([1.0]), 0.5).tolist() == [0]
