"""No inverse crime: the synthetic scenes share nothing with the chain that is tested on them."""

import ast
from pathlib import Path

import pytest

import geo.synthetic

FORBIDDEN = ("geo.radiometry", "geo.ortho", "geo.coregister", "geo.fusion", "geo.sensors", "geo.atmosphere", "models")
MODULES = sorted(Path(geo.synthetic.__file__).parent.glob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_there_are_modules():
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_imports_nothing_of_the_chain(path):
    found = {n for n in imported(path) if any(n == f or n.startswith(f"{f}.") for f in FORBIDDEN)}
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_shares_only_the_foundation(path):
    ours = {n for n in imported(path) if n.split(".")[0] in ("geo", "pipeline", "models")}
    allowed = ("geo.synthetic", "geo.atomic", "geo.stream", "geo.errors")
    assert all(n.startswith(allowed) for n in ours), ours
