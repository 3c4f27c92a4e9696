"""One process per GPU, or several on a CPU, started by `launch` or torchrun and joined by NCCL or gloo.

Each process computes its share of a global batch and gradients are summed, so any number of processes computes the same
step. Weights, gradients and optimizer state are sharded (`blocks.shard`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from gigavideo_data.errors import GigaVideoError

TIMEOUT = timedelta(minutes=30)  # for the slowest process, encoding included; then the run fails instead of hanging
FAILURES_FILE = "GIGAVIDEO_FAILED"  # environment variable: a file to which each process appends its rank as it fails

Result = TypeVar("Result")


@dataclass(frozen=True)
class World:
    """This process among all processes of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: list) -> list:
        """This process's part of a global list."""
        return items[self.rank :: self.size]

    def num_in_round(self, number: int, items: list) -> int:
        """How many items of a global list all processes handle while this one handles its item `number`, from 0."""
        return min(self.size, len(items) - number * self.size)

    def broadcast_from_rank0(self, compute: Callable[[], Result]) -> Result:
        """The result that rank 0 computes, for all processes.

        Raises:
            GigaVideoError: rank 0 raised it; every process raises the same.
        """
        if self.size == 1:
            return compute()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = compute()
            except GigaVideoError as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, device=self.device)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def memory_bytes(self) -> int | None:
        """Memory of this process's GPU in bytes; None on a CPU."""
        return torch.cuda.get_device_properties(self.device).total_memory if self.device.type == "cuda" else None

    def mesh(self) -> DeviceMesh:
        """A one-dimensional mesh of all processes; a single process joins a group of its own first."""
        if not dist.is_initialized():
            dist.init_process_group(_backend(self.device), store=dist.HashStore(), rank=0, world_size=1)
        return init_device_mesh(self.device.type, (self.size,))

    def gather_to_rank0(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Unsharded copies on the CPU of rank 0, gathered one after the other; empty on the other ranks."""
        gathered = {}
        for name, tensor in tensors.items():
            complete = full_tensor(tensor.detach())  # a collective call
            if self.is_first:
                gathered[name] = complete.to("cpu", copy=True)  # the copy drops the padding of the all-gather
        return gathered

    def sum(self, values: Sequence[float] | torch.Tensor) -> list[float]:
        """Sums over processes, in float64. Waits for the device."""
        total = torch.as_tensor(values, dtype=torch.float64, device=self.device).clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total.tolist()


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The unsharded tensor on every process; a collective call if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _backend(device: torch.device) -> str:
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"  # gloo for offloaded tensors


@contextmanager
def world() -> Iterator[World]:
    """Join the processes that were started together; a single process needs no group.

    A process that fails after another one ends silently: its error is only a consequence.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group(_backend(device), timeout=TIMEOUT)
    failed = False
    try:
        yield World(rank, size, device)
    except KeyboardInterrupt:  # all processes were stopped, none has failed
        failed = True
        raise
    except BaseException:
        failed = True
        if not _is_first_to_fail(rank):
            raise SystemExit(1) from None
        raise
    finally:
        # After a failure the group is left to the system: NCCL would wait for processes that do not leave it.
        if dist.is_initialized() and (size == 1 or not failed):
            dist.destroy_process_group()


def _is_first_to_fail(rank: int) -> bool:
    """Whether no other process of this machine has failed before; always true if no launcher keeps the file."""
    if FAILURES_FILE not in os.environ:
        return True
    path = Path(os.environ[FAILURES_FILE])
    with path.open("a") as file:
        file.write(f"{rank}\n")
    return path.read_text().split()[0] == str(rank)
