"""The benchmark of the preprocessing: that it runs, says where a peer is missing, and makes scenes of any size."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]


@pytest.fixture
def preprocess(monkeypatch):
    """Give the benchmark, a program in a folder of its own."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import preprocess

    yield preprocess
    del sys.modules["preprocess"], sys.modules["watched"]


def test_the_table_says_where_a_peer_is_missing(preprocess, tmp_path, monkeypatch):
    once = functools.cache(preprocess.watched.run)  # what is run again, to be timed, is run once
    monkeypatch.setattr(preprocess.watched, "run", lambda command: once(tuple(map(str, command))))
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["--size", "256", "--runs", "1", "--rows", "fusion", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(preprocess.main, arguments)
    assert done.exception is None, done.exception
    table = [line.split(" | ") for line in (tmp_path / "out" / "preprocess.md").read_text().splitlines()[4:]]
    assert [row[0] for row in table] == ["| Brovey, uncompressed", "| Brovey, ZSTD", *["| GSA"] * 2, *["| MTF-GLP"] * 2]
    for name, seconds, megabytes, peer, *_ in table:
        assert float(seconds) > 0 < float(megabytes)
        of = "gdal_pansharpen.py" if "Brovey" in name else "otbcli_BundleToPerfectSensor"
        assert peer.startswith(f"`{of} ")
        assert peer.endswith("` is not installed")


MEASURED = """
import sys, tracemalloc
from geo import preprocess
from pipeline.cli import geocrack

preprocess._PAN_MB, preprocess._MSS_MB, preprocess._TIE_POINTS_MB = 4, 2, 4  # full in both scenes
tracemalloc.start()
geocrack(sys.argv[1:], standalone_mode=False)
print(tracemalloc.get_traced_memory()[1] / 1e6)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_scene(preprocess, tmp_path):
    """Four times the ground, on which PAN in float32 is 9 MB more and the fused image 37 MB.

    Arrays are counted, not what the process holds: that grows with what the C library and GDAL keep, up to limits
    which only large scenes reach. Of several threads it would hang on chance how many windows are in work at a time.
    """
    peaks_mb = []
    for height in (1_500, 6_000):
        folder = tmp_path / str(height)
        described = preprocess.product(folder, (height, 512))
        command = ["preprocess", "--generic", described, "--dem", folder / "dem.tif", "--geoid", "none", "--no-cog"]
        command += ["-o", folder / "fused.tif", "--no-check", "--threads", "1", "-q"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, command)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        peaks_mb.append(float(done.stdout.split()[-1]))
    assert peaks_mb[1] < peaks_mb[0] + 8, peaks_mb
