"""One training by several processes: each takes its share of every batch, and gradients are averaged.

The recipe's batch stays the whole batch, so that several processes take the same steps as one; only networks with
batch statistics on CPUs differ, because each process knows the statistics of its own share (on GPUs they are shared:
SyncBatchNorm). Dice over a batch is over the share of each process.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from geo.errors import ConfigError, GeocrackError
from models.chips import IGNORE
from models.recipe import Loss

Value = TypeVar("Value")

#: Others wait that long while one process validates.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Team:
    """The processes of a training, as one of them sees it; by default it is alone.

    Attributes
    ----------
    rank : int
        Which one it is, from 0; that one validates, writes and reports.
    size : int
        How many they are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates, writes and reports."""
        return self.rank == 0

    def share(self, numbers: Sequence[int]) -> list[int]:
        """Chips of a batch that this process takes: every n-th."""
        return list(numbers[self.rank :: self.size])

    def check(self, batch: int) -> None:
        """Raise ``ConfigError`` where a batch is too small to be shared out."""
        if batch < self.size:
            raise ConfigError(
                f"a batch of {batch} cannot be shared out to {self.size} processes; give fewer --devices, or a larger "
                "batch (--set phases.0.batch=...)"
            )

    def prepare(self, module: Any, device: torch.device) -> Any:
        """Let batch statistics be those of all processes, where the device can."""
        if self.size == 1 or device.type != "cuda":
            return module
        return with_shared_statistics(module)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Give the module through which gradients are averaged; what is frozen by now stays out of it."""
        if self.size == 1:
            return module
        where = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=where)

    def hold(self, module: nn.Module, holds: bool) -> AbstractContextManager:
        """Keep gradients from being averaged before the last of the batches that are summed up."""
        if isinstance(module, nn.parallel.DistributedDataParallel) and holds:
            return module.no_sync()
        return nullcontext()

    def weigh(self, value: torch.Tensor, labels: torch.Tensor, settings: Loss) -> torch.Tensor:
        """Weigh the loss of a share so that the mean over processes is the loss of the whole batch.

        Parameters
        ----------
        value : tensor, scalar
        labels : tensor of uint8, shape (n, h, w)
            Of the share.
        settings : Loss
        """
        if self.size == 1:
            return value
        if settings.reduction == "sum":
            return value * self.size
        own = (labels != IGNORE).flatten(1).any(dim=1).sum().to(torch.float64)
        every = own.clone()
        distributed.all_reduce(every)
        return value * (self.size * own.clamp(min=1) / every.clamp(min=1)).to(value.dtype)

    def mean(self, value: float, device: torch.device) -> float:
        """Mean of a number over the processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        return float(total) / self.size

    def agree(self, value: Value | None) -> Value:
        """Give all processes what the leading one found."""
        if self.size == 1:
            return value  # type: ignore[return-value]
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]  # type: ignore[return-value]


def with_shared_statistics(module: nn.Module) -> nn.Module:
    """Replace batch normalisation, timm's with an activation in it too, by one with statistics over all processes."""
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(module)


def by_torchrun() -> bool:
    """Whether this process was started by ``torchrun`` as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def follows() -> bool:
    """Whether this process was started by ``torchrun`` and another one leads."""
    return by_torchrun() and os.environ["RANK"] != "0"


def device_of(rank: int, wanted: str | None) -> torch.device:
    """Device of a process: its own GPU where there are some, unless the CPU is wanted."""
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if rank >= there:
        raise ConfigError(
            f"process {rank + 1} of a training has no GPU, this machine has {there}; give fewer --devices"
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def check_devices(size: int, wanted: str | None) -> None:
    """Raise ``ConfigError`` where there are fewer GPUs than processes, on a machine that has some."""
    there = torch.cuda.device_count() if torch.cuda.is_available() and wanted != "cpu" else size
    if size > there:
        raise ConfigError(f"--devices {size}: this machine has {there} GPU{'s' * (there != 1)}; give at most {there}")


@contextmanager
def joined(rank: int, size: int, device: torch.device, meeting: str) -> Iterator[Team]:
    """Meet the other processes of a training, and part at the end.

    Parameters
    ----------
    rank, size : int
    device : torch.device
        NCCL between GPUs, Gloo between CPUs.
    meeting : str
        ``env://`` under torchrun, or ``file://...``.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        yield Team(rank, size)
    finally:
        distributed.destroy_process_group()


def launch(size: int, work: Callable[..., Any], *arguments: Any) -> None:
    """Run ``work(rank, size, meeting, *arguments)`` in processes of their own and wait for them.

    Raises
    ------
    GeocrackError
        The one that a process raised; the others are ended.
    """
    with tempfile.TemporaryDirectory(prefix="geocrack-") as folder:
        level = logging.getLogger("models").getEffectiveLevel()
        context = torch.multiprocessing.spawn(
            _member, args=(size, folder, level, work, arguments), nprocs=size, join=False
        )
        try:
            while not context.join():
                pass
        except BaseException as error:
            for process in context.processes:
                if process.is_alive():
                    process.terminate()
                process.join()
            told = Path(folder) / "error"
            if isinstance(error, Exception) and told.exists():
                raise pickle.loads(told.read_bytes()) from None  # written by our own process a moment ago
            raise


def _member(rank: int, size: int, folder: str, level: int, work: Callable[..., Any], arguments: tuple) -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("models").setLevel(level if rank == 0 else logging.ERROR)
    try:
        work(rank, size, f"file://{folder}/meeting", *arguments)
    except GeocrackError as error:
        part = Path(folder) / f"error-{rank}"
        part.write_bytes(pickle.dumps(error))
        os.replace(part, Path(folder) / "error")
        raise
