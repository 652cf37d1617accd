import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from geo.errors import OutputExistsError
from pipeline import __version__
from pipeline.provenance import provenance_path, sha256, track


def test_the_record_lies_beside_a_file_and_inside_a_folder(tmp_path):
    assert provenance_path("results/fused.tif") == Path("results/fused.tif.provenance.json")
    assert provenance_path(tmp_path) == tmp_path / "provenance.json"


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"pixels")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"pixels").hexdigest()


def test_the_hash_of_a_folder_changes_with_names_and_contents_but_not_with_its_record(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a").write_text("1")
    before = sha256(tmp_path)
    (tmp_path / "provenance.json").write_text("{}")
    assert sha256(tmp_path) == before
    (tmp_path / "images/a").rename(tmp_path / "images/b")
    renamed = sha256(tmp_path)
    (tmp_path / "images/b").write_text("2")
    assert len({before, renamed, sha256(tmp_path)}) == 3


def test_what_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/geocrack", "fuse", "my scene.tif"])
    source, product = tmp_path / "mss.tif", tmp_path / "fused.tif"
    source.write_bytes(b"mss")
    with track("fuse", product, inputs=[source, None], settings={"method": "gsa", "dem": Path("d.tif")}) as record:
        time.sleep(0.05)
        product.write_bytes(b"fused")
        record["results"]["rmse_m"] = 0.4
    found = json.loads((tmp_path / "fused.tif.provenance.json").read_text())
    assert found["step"] == "fuse"
    assert found["product"] == "fused.tif"
    assert found["command"] == "geocrack fuse 'my scene.tif'"
    assert found["inputs"] == [{"path": str(source), "sha256": hashlib.sha256(b"mss").hexdigest()}]
    assert found["settings"] == {"method": "gsa", "dem": "d.tif"}
    assert found["results"] == {"rmse_m": 0.4}
    assert found["versions"]["geocrack"] == __version__
    assert found["versions"].keys() >= {"python"}
    assert 0.05 <= found["seconds"] < 5
    assert 10 < found["peak_memory_mb"] < 100_000
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["finished"])).total_seconds()) < 60


def test_seconds_are_the_works_not_the_hashing(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.provenance.sha256", lambda _: time.sleep(0.3) or "hash")
    with track("fuse", tmp_path / "a", inputs=["b"], settings={}) as record:
        pass
    assert record["seconds"] < 0.3


def fail(path):
    with track("fuse", path, inputs=[], settings={}):
        raise RuntimeError("half way")


def test_a_failed_step_leaves_no_record(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        fail(tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_replaced_with_its_product(tmp_path):
    for number in (1, 2):
        with track("fuse", tmp_path / "a.tif", inputs=[], settings={"number": number}):
            pass
    assert json.loads(provenance_path(tmp_path / "a.tif").read_text())["settings"] == {"number": 2}


def test_no_command_replaces_what_it_reads(tmp_path):
    dem = tmp_path / "dem.tif"
    dem.write_text("heights")
    with (
        pytest.raises(
            OutputExistsError, match=r"dem\.tif would replace the input .*; choose another name for the output"
        ),
        track("ortho", dem, inputs=["pan.tif", dem], settings={}),
    ):
        pytest.fail("the work began")
    with (
        pytest.raises(OutputExistsError, match="would replace the input"),
        track("tile", tmp_path, inputs=[dem], settings={}),
    ):
        pytest.fail("the work began")
    assert dem.read_text() == "heights"


def test_a_hash_that_fails_for_whatever_reason_is_no_empty_one(tmp_path, monkeypatch):
    source, product = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(b"abc")

    def fails(path):
        raise ValueError("odd")

    monkeypatch.setattr("pipeline.provenance.sha256", fails)
    with pytest.raises(ValueError, match="odd"), track("step", product, inputs=[source], settings={}):
        product.write_bytes(b"x")
    assert not provenance_path(product).exists()
