"""One process per GPU, or several on a CPU: torchrun starts them, gloo or NCCL joins them.

Each process works on its share of a global batch and gradients are summed, so any number of them computes the same
step. Nothing is sharded yet: a model must fit on one device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from gigavideo_data.errors import GigaVideoError

WAIT = timedelta(minutes=30)  # for the slowest process, encoding included; then the run fails instead of hanging

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

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Sum gradients over processes; one without samples in this step adds zeros."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])  # one message instead of hundreds
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def sum(self, values: list[float]) -> list[float]:
        """Sums over processes, float64."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()


@contextmanager
def world() -> Iterator[World]:
    """Join the processes that torchrun started; alone without it."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=WAIT)
    try:
        yield World(rank, size, device)
    finally:
        if size > 1:
            dist.destroy_process_group()
