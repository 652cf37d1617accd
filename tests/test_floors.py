"""The floors of the house: ``pipeline`` stands on ``models`` and ``geo``; ``geo`` stands alone."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(p for floor in ("geo", "models", "pipeline") for p in (ROOT / floor).rglob("*.py"))


def imported(path):
    """Full names of all modules that a file imports, wherever in it."""
    package = path.relative_to(ROOT).with_suffix("").parts
    package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def uses(path, *names):
    """Imports of a file that are one of these modules or lie in them."""
    return [m for m in imported(path) if any(m == name or m.startswith(f"{name}.") for name in names)]


def where(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [p for p in MODULES if where(p).startswith("geo/")], ids=where)
def test_geo_knows_no_network_and_no_user(path):
    assert uses(path, "models", "pipeline", "torch", "torchvision", "segmentation_models_pytorch", "click") == []


@pytest.mark.parametrize("path", [p for p in MODULES if where(p).startswith("models/")], ids=where)
def test_models_know_no_command_line(path):
    assert uses(path, "pipeline", "click") == []


@pytest.mark.parametrize("path", [p for p in MODULES if where(p).startswith("geo/synthetic")], ids=where)
def test_the_synthetic_world_knows_nothing_of_the_chain_that_is_tested_on_it(path):
    """Else both could be wrong in the same way."""
    assert (
        uses(
            path, *(f"geo.{room}" for room in ("radiometry", "atmosphere", "ortho", "coregister", "fusion", "sensors"))
        )
        == []
    )


@pytest.mark.parametrize("path", MODULES, ids=where)
def test_no_drawer_for_everything(path):
    assert path.stem.strip("_") not in {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("floor", ["geo", "models", "pipeline"])
def test_types_are_published(floor):
    assert (ROOT / floor / "py.typed").is_file()


def test_the_map_of_the_house_is_true():
    """Every room in CONTRIBUTING.md is there, and every room that is there is on the map."""
    drawn = re.findall(r"```\n(Snakefile .*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[0]
    floor, named = "", set()
    for line in drawn.splitlines():
        name = line.split()[0]
        floor = "" if not line.startswith(" ") else floor
        named.add(floor + name.rstrip("/"))
        floor = name if not line.startswith(" ") else floor
    assert [n for n in sorted(named) if not (ROOT / n).exists()] == []
    rooms = {
        f"{floor}/{entry.name}"
        for floor in ("geo", "models", "pipeline")
        for entry in (ROOT / floor).iterdir()
        if (entry.suffix == ".py" and entry.stem != "__init__") or (entry / "__init__.py").is_file()
    }
    assert sorted(rooms - named) == []
