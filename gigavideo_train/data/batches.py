"""The order of training: a function of (seed, epoch, sample id), so that a resumed run sees the same batches."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from gigavideo_train.data.samples import Sample

ClipShape = tuple[int, int, int]  # frames, height and width in px


@dataclass(frozen=True)
class Batch:
    """Samples of one optimizer step over all processes; their clips have one shape."""

    epoch: int
    samples: list[Sample]


def batches(samples: list[Sample], epochs: int, batch_size: int, seed: int) -> Iterator[Batch]:
    """Every sample once per epoch. The last batch of a shape may be smaller."""
    for epoch in range(epochs):
        by_shape: dict[tuple[ClipShape | None, ...], list[Sample]] = defaultdict(list)
        for sample in sorted(samples, key=lambda sample: _shuffle_key(seed, epoch, sample.id)):
            by_shape[_shape(sample)].append(sample)
        groups = [
            same[start : start + batch_size] for same in by_shape.values() for start in range(0, len(same), batch_size)
        ]
        # Batches of all shapes are shuffled together, or the longest clips would all come last.
        for group in sorted(groups, key=lambda group: _shuffle_key(seed, epoch, f"batch {group[0].id}")):
            yield Batch(epoch, group)


def portions(samples: list[Sample], rank: int, size: int, micro_batch: int | None) -> list[list[Sample]]:
    """Split the part of a batch that one of `size` processes computes into passes of `micro_batch` samples.

    Without `micro_batch` all are one pass. The number of passes is the same for all processes: one that has fewer
    samples gets empty passes.
    """
    most = -(-len(samples) // size)
    per_pass = micro_batch or most
    mine = samples[rank::size]
    return [mine[start : start + per_pass] for start in range(0, most, per_pass)]


def num_steps(samples: list[Sample], epochs: int, batch_size: int, max_steps: int | None) -> int:
    """Optimizer steps of a run."""
    per_epoch = sum(1 for _ in batches(samples, 1, batch_size, seed=0))
    return min(epochs * per_epoch, max_steps or epochs * per_epoch)


def _shape(sample: Sample) -> tuple[ClipShape | None, ...]:
    rows = (sample.row, sample.real, sample.loser)
    return tuple(None if row is None else (row["num_frames"], row["height"], row["width"]) for row in rows)


def _shuffle_key(seed: int, epoch: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{epoch}/{name}".encode()).digest()
