"""One process per GPU, or several on a CPU: `launch` or torchrun starts them, gloo or NCCL joins them.

Each process works on its share of a global batch and gradients are summed, so any number of them computes the same
step. Weights, gradients and optimiser state are divided over them (`blocks.shard`).
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

WAIT = timedelta(minutes=30)  # for the slowest process, encoding included; then the run fails instead of hanging
FAILED = "GIGAVIDEO_FAILED"  # names a file to which processes add their numbers as they fail

Decision = TypeVar("Decision")


@dataclass(frozen=True)
class World:
    """This process among its like."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: list) -> list:
        """This process's part of a global list."""
        return items[self.rank :: self.size]

    def in_round(self, number: int, items: list) -> int:
        """How many of a global list all processes do while this one does the `number`-th (from 0) of its part."""
        return min(self.size, len(items) - number * self.size)

    def agreed(self, decide: Callable[[], Decision]) -> Decision:
        """What the first process decides, for all; if it fails, all fail."""
        if self.size == 1:
            return decide()
        said: list[Any] = [None, None]
        if self.is_first:
            try:
                said[0] = decide()
            except GigaVideoError as error:
                said[1] = error
        dist.broadcast_object_list(said, device=self.device)
        if said[1] is not None:
            raise said[1]
        decided: Decision = said[0]
        return decided

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def memory_bytes(self) -> int | None:
        """Of this process's GPU; None on a CPU, where nothing is chosen by it."""
        return torch.cuda.get_device_properties(self.device).total_memory if self.device.type == "cuda" else None

    def mesh(self) -> DeviceMesh:
        """All processes in a row; one alone is joined with itself."""
        if not dist.is_initialized():
            dist.init_process_group(_backend(self.device), store=dist.HashStore(), rank=0, world_size=1)
        return init_device_mesh(self.device.type, (self.size,))

    def gathered(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors in one piece on the CPU of the first process, one after the other; nothing for the others."""
        found = {}
        for name, tensor in tensors.items():
            complete = whole(tensor.detach())  # all take part
            if self.is_first:
                found[name] = complete.to("cpu", copy=True)  # without the padding it was sent with
        return found

    def sum(self, values: Sequence[float] | torch.Tensor) -> list[float]:
        """Sums of numbers over processes, float64; waits for the device."""
        total = torch.as_tensor(values, dtype=torch.float64, device=self.device).clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total.tolist()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in one piece for every process, which all must ask for if it is divided."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _backend(device: torch.device) -> str:
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"  # gloo for what is offloaded


@contextmanager
def world() -> Iterator[World]:
    """Join the processes that were started together; alone if none were.

    One that fails where others have before it ends without a word: what it met is that they are gone.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group(_backend(device), timeout=WAIT)
    failed = False
    try:
        yield World(rank, size, device)
    except KeyboardInterrupt:  # all were told to stop, and none is to blame
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
    """Whether no other process of this machine has failed before; always, if nobody keeps account."""
    if FAILED not in os.environ:
        return True
    path = Path(os.environ[FAILED])
    with path.open("a") as file:
        file.write(f"{rank}\n")
    return path.read_text().split()[0] == str(rank)
