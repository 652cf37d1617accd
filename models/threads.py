"""How many threads torch computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from geo.stream import cpus


@contextmanager
def limited_threads(wanted: int | None) -> Iterator[int]:
    """Let torch compute with some threads inside the block; it has as many as before after it.

    Parameters
    ----------
    wanted : int or None
        At most as many as CPUs that are really there; None is torch's own choice (``OMP_NUM_THREADS``).

    Yields
    ------
    int
        The number taken.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(cpus(wanted or before))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
