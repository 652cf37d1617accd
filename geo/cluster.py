"""A cluster to compute on: the workers of a ``dask.distributed`` scheduler as an executor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from geo.errors import ClusterError

#: Seconds to wait for a scheduler.
TIMEOUT_S = 20


@contextmanager
def connected(address: str) -> Iterator[Executor]:
    """Connect to a scheduler; what is submitted to the executor runs on its workers.

    Parameters
    ----------
    address : str
        Such as ``tcp://10.0.0.1:8786``. Workers must see the same files under the same paths and hold the same
        version of this package.

    Yields
    ------
    Executor
        For ``geo.stream.stream``.

    Raises
    ------
    ClusterError
        Nobody answers there, it has no workers, or it was lost on the way.
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
        if not client.scheduler_info()["workers"]:
            raise ClusterError(f"the scheduler at {address} has no workers; start some: dask worker {address}")
        with client.get_executor(pure=False) as executor:
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
