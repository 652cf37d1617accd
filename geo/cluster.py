"""A cluster to compute on: the workers of a ``dask.distributed`` scheduler as an executor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from geo.errors import ClusterError

#: Seconds to wait for a scheduler, and for its first worker.
TIMEOUT_S = 20


@contextmanager
def connected(address: str, files: Sequence[str] = ()) -> Iterator[Executor]:
    """Connect to a scheduler; what is submitted to the executor runs on its workers.

    Parameters
    ----------
    address : str
        Such as ``tcp://10.0.0.1:8786``. Workers must see the same files under the same paths and hold the same
        version of this package.
    files : sequence of str
        Absolute paths of files that workers will read.

    Yields
    ------
    Executor
        For ``geo.stream.stream``; its ``slots`` are the threads of all workers.

    Raises
    ------
    ClusterError
        Nobody answers there, it has no workers, they cannot read a file or lack this package, or it was lost on the
        way.
    """
    from concurrent.futures import CancelledError

    from distributed import Client
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        client = Client(address, timeout=TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ClusterError(
            f"no scheduler answers at {address} ({type(error).__name__}); expected one started by `dask scheduler`, "
            "such as tcp://10.0.0.1:8786"
        ) from error
    try:
        _check_workers(client, address, files)
        with client.get_executor(pure=False) as executor:
            executor.slots = max(1, sum(client.nthreads().values()))
            yield executor
    except (
        CommClosedError,
        KilledWorker,
        CancelledError,
        FutureCancelledError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise ClusterError(
            f"the scheduler at {address} or its workers were lost ({type(error).__name__}); what is finished is kept: "
            "start them again and run the same command"
        ) from error
    finally:
        client.close(timeout=2)


def _check_workers(client: Any, address: str, files: Sequence[str]) -> None:
    """See that there are workers, and that they read the same files by the same program."""
    try:
        client.wait_for_workers(1, timeout=TIMEOUT_S)  # a cluster that grows when it is needed has none at first
    except TimeoutError:
        raise ClusterError(f"the scheduler at {address} has no workers; start some: dask worker {address}") from None
    for worker, found in client.run(_sizes, list(files), on_error="return").items():
        if isinstance(found, ImportError):
            raise ClusterError(
                f"the worker {worker} lacks a part of geocrack ({found}); install the same version where workers run"
            )
        if isinstance(found, BaseException):
            raise found
        for file, size in zip(files, found, strict=True):
            if size is None:
                raise ClusterError(
                    f"the worker {worker} cannot read {file}; workers need the same files under the same paths: put "
                    "them on a disk that all share, or work without --scheduler"
                )
            if size != os.path.getsize(file):
                raise ClusterError(
                    f"the worker {worker} has another {file} ({size} bytes) than this machine "
                    f"({os.path.getsize(file)} bytes); put it on a disk that all share"
                )


def _sizes(files: Sequence[str]) -> list[int | None]:
    """Bytes of each file, None where it cannot be read."""
    return [os.path.getsize(file) if os.access(file, os.R_OK) else None for file in files]
