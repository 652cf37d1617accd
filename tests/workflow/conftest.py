"""A small world and a quick recipe, so that the whole chain runs in a minute or two."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


class Workplace:
    """A folder with the workflow's files, as a clone has them, and Snakemake in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("geo", "models", "pipeline", "configs", "profiles", "docs", "environment.yml"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "Snakefile", folder)

    def command(self, *arguments: str) -> list[str]:
        return [str(BIN / "snakemake"), "--cores", "2", *arguments]

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200
        )
        if check and done.returncode:
            pytest.fail(f"snakemake {' '.join(arguments)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
        return done

    def geocrack(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(BIN / "geocrack"), *arguments], cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a dry run would do."""
        return jobs(self.snakemake("-n", "inventory", *arguments))

    def write(self, name: str, settings: dict) -> str:
        (self.folder / name).write_text(yaml.safe_dump(settings, sort_keys=False))
        return name


def jobs(done: subprocess.CompletedProcess) -> dict[str, int]:
    """Jobs by rule from the table that Snakemake prints first; empty when there is nothing to do."""
    lines = (done.stdout + done.stderr).splitlines()
    if "Job stats:" not in lines:
        return {}
    counts = {}
    for line in lines[lines.index("Job stats:") + 3 :]:
        words = line.split()
        if len(words) != 2 or words[0] == "total":
            break
        counts[words[0]] = int(words[1])
    return counts


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Workplace:
    """The small world's products, two of its dates as scenes, one quick recipe."""
    place = Workplace(tmp_path_factory.mktemp("run"))
    made = place.geocrack("demo", "-o", "demo", "--size-km", "1.4", "1.0")
    assert made.returncode == 0, made.stderr
    recipe = yaml.safe_load((ROOT / "configs/models/linknet-lite0-fast.yaml").read_text())
    recipe["size"] = 64
    recipe["phases"][0]["epochs"] = 1
    place.write("quick.yaml", recipe)
    demo = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    demo |= {"run": "small", "scenes": demo["scenes"][1:], "tiling": {"size": 64, "block_chips": 1, "gap_m": 16}}
    demo["training"]["recipes"] = ["quick.yaml"]
    shutil.copy(place.folder / "demo/dem.tif", place.folder / "heights of the valley.tif")  # people use blanks
    demo["ortho"]["dem"] = "heights of the valley.tif"
    place.write("small.yaml", demo)
    return place
