"""The benchmark of the preprocessing: that it runs, and says where a peer is missing."""

from __future__ import annotations

import functools
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
