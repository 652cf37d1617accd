"""Blocks of rows: a run that was broken off and parts end with the bits of one run."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
import rasterio
import torch
from test_predict import Fake, mean_filter, ramp, run, write

import models
from geo.errors import ModelError, OutputError, RasterError
from geo.geotiff import GeoTiffWriter
from models.predict import Windows, predict
from models.predict.kept import Kept
from models.predict.search import Search, runs
from models.predict.strips import Strip, Tally
from models.threads import limited_threads, shared_out

SETTINGS = {"overlap": 16, "batch": 3, "dtype": "float32", "block_rows": 100}


def read(path):
    with rasterio.open(path) as src:
        return src.read(1)


def broken_after(count):
    """A progress that ends like Ctrl-C after some batches."""

    def progress(items, _label, _total):
        yield from islice(items, count)
        raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_a_run_that_was_broken_off_goes_on_to_the_same_bits(tmp_path, image, overlap):
    settings = {**SETTINGS, "overlap": overlap}
    whole, told = run(image, Fake(function=mean_filter), tmp_path / "whole.tif", **settings)
    out = tmp_path / "p.tif"
    model = Fake(function=mean_filter)
    with pytest.raises(KeyboardInterrupt):
        run(image, model, out, progress=broken_after(12 if overlap < 40 else 30), **settings)
    assert not out.exists()
    kept = list((tmp_path / "p.tif.rows").rglob("*.npz"))
    assert kept
    before, model.calls = len(model.calls), []
    resumed, told_again = run(image, model, out, **settings)
    np.testing.assert_array_equal(resumed, whole)
    assert told_again == told
    assert not (tmp_path / "p.tif.rows").exists()
    assert len(model.calls) < before + len(model.calls)
    again = Fake(function=mean_filter)
    run(image, again, tmp_path / "q.tif", **settings)
    assert len(model.calls) < len(again.calls)


def test_what_was_kept_of_other_inputs_or_settings_does_not_count(tmp_path, image):
    out = tmp_path / "p.tif"
    with pytest.raises(KeyboardInterrupt):
        run(image, Fake(), out, progress=broken_after(12), **SETTINGS)
    assert list((tmp_path / "p.tif.rows").rglob("*.npz"))
    other, _ = run(image, Fake(function=lambda x: x[:, 1]), out, **{**SETTINGS, "batch": 2})
    expected, _ = run(image, Fake(function=lambda x: x[:, 1]), tmp_path / "q.tif", **{**SETTINGS, "batch": 2})
    np.testing.assert_array_equal(other, expected)
    assert not (tmp_path / "p.tif.rows").exists()


def test_fingerprints_tell_images_models_and_settings_apart(tmp_path, image, network):
    def mark(**changed):
        return Search(
            **{"image": str(image), "models": (str(network),), "overlap": 16, "batch": 3, **changed}
        ).fingerprint()

    first = mark()
    assert mark() == first
    assert mark(threads=7) == first  # how it is computed is no matter
    assert len({first, mark(overlap=32), mark(augment="d4"), mark(dtype="float32"), mark(threshold=0.1)}) == 5
    os.utime(image, ns=(1, 1))
    assert mark() != first


def test_what_other_versions_computed_does_not_count(image, network, monkeypatch):
    """A run that was killed before an update must not be joined from two programs."""

    def mark(backend):
        return Search(image=str(image), models=(str(network),), overlap=16, batch=3, backend=backend).fingerprint()

    first = {backend: mark(backend) for backend in ("torch", "onnx")}
    for name, changed in (("geocrack", ("torch", "onnx")), ("torch", ("torch", "onnx")), ("onnxruntime", ("onnx",))):
        monkeypatch.setattr("models.predict.search.version", lambda of, new=name: "9" if of == new else "1")
        newer = {backend: mark(backend) for backend in first}
        monkeypatch.setattr("models.predict.search.version", lambda _: "1")
        assert {backend for backend in first if newer[backend] != mark(backend)} == set(changed)


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[3])
from test_predict import Fake
from models.predict import predict
class Slow(Fake):
    def __repr__(self): return "slow"
    def probability(self, images):
        time.sleep(float(sys.argv[4]))
        return super().probability(images)
predict(sys.argv[1], Slow(), sys.argv[2], overlap=16, batch=3, dtype="float32", block_rows=100)
"""


def test_a_killed_process_goes_on_and_ends_bit_identical(tmp_path, image):
    whole, _ = run(image, Fake(), tmp_path / "whole.tif", **SETTINGS)
    out = tmp_path / "p.tif"
    command = [sys.executable, "-c", KILLED, str(image), str(out), os.path.dirname(__file__)]
    process = subprocess.Popen([*command, "0.1"])
    deadline = time.monotonic() + 60
    while not list((tmp_path).rglob("0*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "p.tif.rows").rglob("0*.npz")}
    assert done
    subprocess.run([*command, "0"], check=True, timeout=100)
    np.testing.assert_array_equal(read(out), whole)
    assert not (tmp_path / "p.tif.rows").exists()


def test_parts_are_joined_to_the_bits_of_one_run(tmp_path, image, network):
    predict = models.predict.predict
    predict(image, network, tmp_path / "whole.tif", **SETTINGS)
    for k in (3, 1, 2):
        assert predict(image, network, tmp_path / "p.tif", part=(k, 3), **SETTINGS)["blocks"] >= 1
        assert not (tmp_path / "p.tif").exists()
    told = predict(image, network, tmp_path / "p.tif", progress=broken_after(0), **SETTINGS)  # nothing left to compute
    np.testing.assert_array_equal(read(tmp_path / "p.tif"), read(tmp_path / "whole.tif"))
    assert told["valid_share"] == pytest.approx(1 - 400 / (330 * 150))


def test_more_parts_than_blocks_leave_some_with_nothing_to_do(tmp_path, image, network):
    found = [
        models.predict.predict(image, network, tmp_path / "p.tif", part=(k, 9), **SETTINGS)["blocks"]
        for k in range(1, 10)
    ]
    assert sum(found) == len(Windows(64, 48, 0).blocks(330, 100))


def test_a_full_disk_keeps_what_is_finished(tmp_path, image, monkeypatch):
    real = Kept.put

    def put(self, number, strips):
        if number == 2:
            raise OutputError("no space is left")
        real(self, number, strips)

    monkeypatch.setattr(Kept, "put", put)
    with pytest.raises(OutputError):
        run(image, Fake(), tmp_path / "p.tif", **SETTINGS)
    assert len(list((tmp_path / "p.tif.rows").rglob("*.npz"))) == 2
    assert not (tmp_path / "p.tif").exists()


FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[3])
from test_predict import Fake
from geo.errors import OutputError
from models.predict import predict
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    predict(sys.argv[1], Fake(), sys.argv[2], overlap=16, batch=3, dtype="float32", block_rows=100)
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "file"), [(1_000, ".npz"), (70_000, "p.tif")])
def test_a_disk_that_fills_is_one_sentence_and_leaves_no_half_file(tmp_path, image, limit, file):
    """While finished rows are kept, and while they are joined; a limit on the size of files stands for the disk."""
    out = tmp_path / "p.tif"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(image), str(out), os.path.dirname(__file__), str(limit)],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1, done.stdout
    assert file in done.stdout.split(" could not be written")[0]
    assert not out.exists()
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".part")]
    for kept in tmp_path.rglob("*.npz"):
        with np.load(kept) as stored:
            assert stored["0.probability"].shape[1] == 150


def test_kept_rows_that_are_damaged_are_computed_anew(tmp_path, image):
    whole, _ = run(image, Fake(), tmp_path / "whole.tif", **SETTINGS)
    out = tmp_path / "p.tif"
    with pytest.raises(KeyboardInterrupt):
        run(image, Fake(), out, progress=broken_after(24), **SETTINGS)
    first, second, *_ = sorted(out.with_name("p.tif.rows").rglob("*.npz"))
    first.write_bytes(b"")  # as after a power failure
    content = bytearray(second.read_bytes())
    content[200:260] = bytes(60)
    second.write_bytes(content)
    with pytest.raises(OutputError, match=r"00001\.npz, which keeps finished rows, is damaged .*run the same command"):
        run(image, Fake(), out, **SETTINGS)
    found, _ = run(image, Fake(), out, **SETTINGS)
    np.testing.assert_array_equal(found, whole)


class Blind(Fake):
    def probability(self, images):
        return np.full((len(images), 64, 64), np.nan, np.float32)


def test_a_slip_in_a_later_command_does_not_cost_what_was_kept(tmp_path, image):
    out = tmp_path / "p.tif"
    with pytest.raises(KeyboardInterrupt):
        run(image, Fake(), out, progress=broken_after(12), **SETTINGS)
    kept = sorted(out.with_name("p.tif.rows").rglob("*.npz"))
    with pytest.raises(ModelError, match="gives no number"):
        run(image, Blind(), out, **{**SETTINGS, "batch": 2})
    assert kept
    assert sorted(out.with_name("p.tif.rows").rglob("*.npz")) == kept


def test_an_image_without_valid_ground_keeps_nothing(tmp_path):
    path = write(tmp_path / "a.tif", ramp((330, 90)), invalid=np.ones((330, 90), bool))
    with pytest.raises(RasterError, match="no valid pixel"):
        run(path, Fake(), tmp_path / "p.tif", **SETTINGS)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(("numbers", "grouped"), [([], []), ([0, 1, 4, 5, 7], [[0, 1], [4, 5], [7]])])
def test_runs(numbers, grouped):
    assert runs(numbers) == grouped


def _strip(row, top, rows, value, spread=None):
    layers = [None if v is None else np.full((rows, 6), v, np.uint8) for v in (value, spread)]
    return Strip(row, top, *layers, Tally(windows=row + 1, total=0.25))


@pytest.mark.parametrize("spread", [None, 9])
def test_kept_rows_come_back_as_they_were(tmp_path, spread):
    kept = Kept(tmp_path / "p.tif", "search")
    strips = [_strip(0, 0, 0, 1, spread), _strip(1, 0, 130, 2, spread), _strip(2, 130, 3, 3, spread)]
    kept.put(4, iter(strips))
    assert kept.has(4)
    assert not kept.has(3)
    for given, found in zip(strips, kept.get(4), strict=True):
        assert (found.row, found.top, found.tally.plain()) == (given.row, given.top, given.tally.plain())
        np.testing.assert_array_equal(found.probability, given.probability)
        assert (found.spread is None) == (spread is None)
        if spread is not None:
            np.testing.assert_array_equal(found.spread, given.spread)


def test_a_block_whose_rows_end_in_an_error_is_not_kept(tmp_path):
    def broken():
        yield _strip(0, 0, 4, 1)
        raise ModelError("no number")

    kept = Kept(tmp_path / "p.tif", "search")
    with pytest.raises(ModelError):
        kept.put(0, broken())
    assert not kept.has(0)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_rows_that_are_missing_are_never_passed_over(tmp_path, image, network, monkeypatch):
    taken = Kept.get
    for lost in (0, 2):
        monkeypatch.setattr(
            Kept, "get", lambda kept, number, lost=lost: (s for s in taken(kept, number) if s.row != lost)
        )
        with pytest.raises(RuntimeError, match=r"image\.tif are missing from row \d+ on"):
            predict(image, network, tmp_path / "p.tif", batch=2, overlap=16, block_rows=100)
        assert not (tmp_path / "p.tif").exists()


def test_windows_beside_each_other_give_what_they_give_in_turn(tmp_path, image, network):
    """Each with one of two threads, and the blocks of a run that goes on with more of them."""
    outputs = []
    for threads in (1, 2):
        with limited_threads(threads):
            there = torch.get_num_threads()
            predict(image, network, tmp_path / f"{threads}.tif", batch=8, dtype="float32", block_rows=64)
            assert torch.get_num_threads() == there
        with rasterio.open(tmp_path / f"{threads}.tif") as src:
            outputs.append(src.read(1))
    np.testing.assert_array_equal(*outputs)


@pytest.fixture
def four_threads():
    """As many as torch is told, whatever the CPUs."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield 4
    torch.set_num_threads(before)


def test_threads_are_shared_out_and_come_back(four_threads):
    for most, calls, each in ((1, 1, 4), (2, 2, 2), (3, 3, 1), (1000, 4, 1)):
        with shared_out(most) as given:
            assert (given, torch.get_num_threads()) == (calls, each)
        assert torch.get_num_threads() == four_threads


def test_threads_come_back_whoever_leaves_first(four_threads):
    """Two threads of one process, as a worker of a cluster has them."""
    first, second = shared_out(8), shared_out(8)
    calls = [first.__enter__(), second.__enter__()]
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert calls == [4, 4]
    assert torch.get_num_threads() == four_threads
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == four_threads


def test_what_lies_beside_an_image_counts_as_part_of_it(tmp_path, image, network):
    search = Search(image=str(image), models=(str(network),), overlap=16, batch=3, area=str(tmp_path / "area.shp"))
    (tmp_path / "area.shp").write_bytes(b"shapes")
    marks = {search.fingerprint()}
    for name in ("image.tif.msk", "image.tif.aux.xml", "area.prj", "area.dbf"):
        (tmp_path / name).write_text("other")
        marks.add(search.fingerprint())
    assert len(marks) == 5


def test_a_failing_overwrite_brings_probability_and_spread_back(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", ramp((90, 90)))
    outputs = [tmp_path / "p.tif", tmp_path / "s.tif"]
    fakes = [Fake(function=lambda x, v=v: np.full((len(x), *x.shape[2:]), v, np.float32)) for v in (0.2, 0.6)]
    run(path, fakes, outputs[0], spread=outputs[1])
    before = [file.read_bytes() for file in outputs]
    finish = GeoTiffWriter.__exit__

    def fail(writer, *error):
        finish(writer, *error)
        if not error[0]:  # the spread, which is finished first, is in its place; the probability is not
            raise RuntimeError("odd")

    monkeypatch.setattr(GeoTiffWriter, "__exit__", fail)
    with pytest.raises(RuntimeError, match="odd"):
        run(path, fakes[:1] * 2, outputs[0], spread=outputs[1], overwrite=True)
    assert [file.read_bytes() for file in outputs] == before


def test_networks_are_computed_where_torch_has_a_gpu_and_rows_of_another_device_are_not_joined(network, monkeypatch):
    from models.predict import search

    moved = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *to, **how: moved.extend(to) or module)
    for there, place in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        search._read_model.cache_clear()
        search._loaded(network, "torch", None)
        assert moved[-1] == place
    on_gpu = search._programs("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_gpu != search._programs("torch")
    search._read_model.cache_clear()
