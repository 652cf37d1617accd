"""How many threads torch computes with, and the memory they take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from geo.stream import cpus, keep_memory

#: Larger than any layer's maps.
_LARGEST_BYTES = 2**30


def keep_layers_memory() -> None:
    """Let a layer of a network on CPUs take the memory of those before it.

    Each layer's maps are fresh arrays of up to hundreds of megabytes. Where they went back to the system, it cleared
    their pages again at every step: a light network took 1.5 to 2 times as long.
    """
    keep_memory(_LARGEST_BYTES, heaps=1)


@contextmanager
def limited_threads(wanted: int | None) -> Iterator[int]:
    """Let torch compute with some threads inside the block; it has as many as before after it.

    What layers free is kept from here on (``keep_layers_memory``).

    Parameters
    ----------
    wanted : int or None
        At most as many as CPUs that are really there; None is torch's own choice (``OMP_NUM_THREADS``).

    Yields
    ------
    int
        The number taken.
    """
    import torch  # not before it is needed: it takes two seconds

    keep_layers_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(cpus(wanted or before))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def shared_out(most: int) -> Iterator[int]:
    """Let several threads call torch side by side inside the block, each with its share of the threads one had.

    Within a call all threads wait for the slowest at the end of every layer; calls beside each other never do.

    Parameters
    ----------
    most : int
        Calls that there will be at the same time, at most.

    Yields
    ------
    int
        How many there should be.
    """
    import torch

    global _inside, _there
    with _lock:  # the workers of a cluster may come here from several threads of one process
        if not _inside:
            _there = torch.get_num_threads()
        _inside += 1
        before = _there
    calls = max(1, min(most, before))
    torch.set_num_threads(before // calls)  # what threads take that call torch for the first time
    try:
        yield calls
    finally:
        with _lock:
            _inside -= 1
        torch.set_num_threads(before)


#: Who shares threads out at the moment, and how many there were before the first of them did.
_lock, _inside, _there = threading.Lock(), 0, 1
