"""Work on windows, some at a time: results come in order and memory holds only what is in flight."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import pickle
import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CGROUP = Path("/sys/fs/cgroup/cpu.max")
#: Parameters of GNU's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def cpus(wanted: int | None = None) -> int:
    """CPUs this process may really use, at most ``wanted``; a workflow may promise more than there are."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    there = min(there, _quota(_CGROUP) or there)
    return max(1, min(wanted or there, there))


def _quota(file: Path) -> int | None:
    """CPUs that a container may use (``docker --cpus``), rounded up; None where there is no such limit."""
    try:
        quota, period = file.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or the quota is "max"
        return None


def stream(
    compute: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
) -> Generator[tuple[Item, Result]]:
    """Compute items in parallel and yield ``(item, result)`` in the order of the items.

    At most ``2 * workers`` items are in flight, so memory does not grow with their number. NumPy, OpenCV
    and GDAL release the interpreter lock, so threads are enough on one machine.

    Parameters
    ----------
    compute : callable
        Pure function of an item.
    items : iterable
        For instance windows.
    workers : int, optional
        Threads; by default as many as CPUs, and of an executor as many as it says that it has (``slots``).
    executor : concurrent.futures.Executor, optional
        Where to compute instead, for instance what ``geo.cluster.connected`` gives.

    Yields
    ------
    (item, result)
    """
    own = executor is None
    # an executor has other CPUs than those here
    slots: int = cpus(workers) if executor is None else workers or getattr(executor, "slots", None) or cpus()
    pool = executor or ThreadPoolExecutor(slots)
    pending: deque = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(compute, item)))
            if len(pending) >= 2 * slots:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        for _, future in pending:
            future.cancel()
        if own:
            pool.shutdown(wait=True, cancel_futures=True)


def keep_memory(largest: int = 64 * 2**20, *, heaps: int = 2) -> None:
    """Let what a window frees be taken by the next one, instead of going back to the system each time.

    By default GNU's C library returns large arrays at once, and the system then clears the same pages again for every
    window: half of the time of a fusion or a network. Threads share few heaps, so that what is kept does not grow
    with their number. ``give_back_memory`` returns it when the work is done.

    Parameters
    ----------
    largest : int
        Bytes from which an array still goes back at once.
    heaps : int
        With more than one, some are of blocks of 64 MiB, which larger arrays do not fit in: these still go back.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, largest)
        library.mallopt(_M_TRIM_THRESHOLD, largest)
        library.mallopt(_M_ARENA_MAX, heaps)


def give_back_memory() -> None:
    """Hand what was freed back to the system, so that the next step does not come on top of it.

    The C library keeps freed memory for each thread that used it. Only GNU's knows this call; elsewhere nothing is
    done.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class OncePerProcess(Generic[Item, Result]):
    """A function that is sent to other processes with every item, and unpacked by each of them once.

    What it opens and keeps there (files, blocks of images) so serves all items of the process.

    Parameters
    ----------
    function : callable
        May be anything that ``cloudpickle`` takes, the package that dask brings.
    """

    def __init__(self, function: Callable[[Item], Result]):
        pickler: Any = import_module("cloudpickle")  # by name, since it carries no types
        self._packed, self._name = pickler.dumps(function), uuid.uuid4().hex

    def __call__(self, item: Item) -> Result:
        with _lock:
            if self._name not in _unpacked:
                while len(_unpacked) >= _FUNCTIONS:
                    _unpacked.pop(next(iter(_unpacked)))
                _unpacked[self._name] = pickle.loads(self._packed)
            function = _unpacked[self._name]
        return function(item)


#: Functions that a process keeps unpacked: one of a run that goes on, and that of the run before it.
_FUNCTIONS = 2
_unpacked: dict[str, Callable] = {}
_lock = threading.Lock()
