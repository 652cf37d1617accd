import pickle
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from geo.stream import OncePerProcess, cpus, stream


def test_results_come_in_the_order_of_the_items():
    def slower_first(item):
        time.sleep(0.002 * (8 - item))
        return item * 10

    assert list(stream(slower_first, range(8), workers=4)) == [(i, i * 10) for i in range(8)]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_is_in_flight_than_promised(workers):
    taken, given, ahead = 0, 0, []

    def items():
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    for _ in stream(lambda item: item, items(), workers=workers):
        given += 1
        ahead.append(taken - given)
    assert given == 50
    assert max(ahead) < 2 * cpus(workers)


def test_a_failure_reaches_the_reader_and_stops_the_work():
    started = []

    def compute(item):
        started.append(item)
        if item == 3:
            raise ValueError("block 3 is damaged")
        return item

    results = stream(compute, range(1000), workers=2)
    done = [next(results)[0] for _ in range(3)]
    with pytest.raises(ValueError, match="block 3 is damaged"):
        next(results)
    assert done == [0, 1, 2]
    assert len(started) < 20


def test_a_reader_that_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    windows = stream(lambda item: item, range(1000), workers=2)
    next(windows)
    windows.close()
    assert threading.active_count() == before


def test_work_can_go_to_another_executor_which_stays_open():
    with ThreadPoolExecutor(1) as executor:
        assert [r for _, r in stream(lambda i: i + 1, range(5), executor=executor)] == [1, 2, 3, 4, 5]
        assert executor.submit(lambda: "open").result() == "open"


def test_an_executor_is_kept_busy_whatever_the_cpus_here_are():
    inside, most, lock = 0, 0, threading.Lock()

    def work(_):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1

    with ThreadPoolExecutor(24) as executor:
        executor.slots = 12
        assert len(list(stream(work, range(48), executor=executor))) == 48
    assert 12 <= most <= 24  # those that work, and as many that wait


def test_nothing_in_nothing_out():
    assert list(stream(lambda item: item, [])) == []


def test_no_more_cpus_than_there_are():
    assert cpus(10_000) == cpus()
    assert cpus(1) == 1
    assert cpus(0) == cpus()


@pytest.mark.parametrize(
    ("said", "cpus_there"), [("max 100000", None), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_the_quota_of_a_container_counts(tmp_path, monkeypatch, said, cpus_there):
    (tmp_path / "cpu.max").write_text(said + "\n")
    monkeypatch.setattr("geo.stream._CGROUP", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert cpus() == (cpus_there or 16)
    assert cpus(1) == 1


class Opens:
    """A function that counts its calls, and how often it was unpacked."""

    unpacked = 0

    def __init__(self):
        self.calls = 0

    def __setstate__(self, state):
        Opens.unpacked += 1
        self.calls = 0

    def __getstate__(self):
        return {"calls": 0}

    def __call__(self, item):
        self.calls += 1
        return self.calls


def test_a_function_is_unpacked_once_by_each_process():
    """What it opened there serves all items."""
    sent = pickle.dumps(OncePerProcess(Opens()))
    assert [pickle.loads(sent)(item) for item in "abc"] == [1, 2, 3]
    assert Opens.unpacked == 1
    assert [OncePerProcess(Opens())("a") for _ in range(3)] == [1, 1, 1]


_FAULTS = """
import resource, sys
import numpy as np
from geo.stream import keep_memory
if sys.argv[1] == "kept":
    keep_memory(2**30, heaps=1)
for _ in range(4):
    np.ones(80_000_000, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(80_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library can be told")
def test_kept_memory_is_not_cleared_by_the_system_again():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    kept = faults("kept")
    assert kept < 50
    assert faults("plain") > 4 * kept + 100
