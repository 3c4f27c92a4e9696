"""The order of training: a function of (seed, epoch, unit), so that a resumed run meets the same batches."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gigavideo_train.data.samples import Row, Unit


@dataclass(frozen=True)
class Batch:
    """Units of one optimiser step, over all processes; their clips have one shape."""

    epoch: int
    units: list[Unit]


def batches(units: list[Unit], epochs: int, batch_size: int, seed: int) -> Iterator[Batch]:
    """Every unit once per epoch. The last batch of a shape may be smaller."""
    for epoch in range(epochs):
        shapes: dict[Any, list[Unit]] = defaultdict(list)
        for unit in sorted(units, key=lambda unit: _rank(seed, epoch, unit.id)):
            shapes[_shape(unit)].append(unit)
        cut = [
            same[start : start + batch_size] for same in shapes.values() for start in range(0, len(same), batch_size)
        ]
        # Shapes take turns as chance has it, else the longest clips would all come last.
        for members in sorted(cut, key=lambda members: _rank(seed, epoch, f"batch {members[0].id}")):
            yield Batch(epoch, members)


def portions(units: list[Unit], rank: int, size: int, micro_batch: int | None) -> list[list[Unit]]:
    """What one of `size` processes computes of a batch, in passes of `micro_batch` units; None is all in one.

    The number of passes is the same for all processes: one that has less gets empty ones.
    """
    most = -(-len(units) // size)
    per_pass = micro_batch or most
    mine = units[rank::size]
    return [mine[start : start + per_pass] for start in range(0, most, per_pass)]


def num_steps(units: list[Unit], epochs: int, batch_size: int, max_steps: int | None) -> int:
    """Optimiser steps of a run."""
    per_epoch = sum(1 for _ in batches(units, 1, batch_size, seed=0))
    return min(epochs * per_epoch, max_steps or epochs * per_epoch)


def _shape(unit: Unit) -> tuple:
    return tuple(_clip_shape(row) for row in (unit.row, unit.real, unit.loser))


def _clip_shape(row: Row | None) -> tuple[int, int, int] | None:
    return None if row is None else (row["num_frames"], row["height"], row["width"])


def _rank(seed: int, epoch: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{epoch}/{name}".encode()).digest()
