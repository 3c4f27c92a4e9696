"""The loss on rows that are not trained on: as in training, but each row meets the same noise whenever it is asked."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gigavideo_train.batches import batches, portions
from gigavideo_train.config import TrainConfig
from gigavideo_train.distributed import World
from gigavideo_train.units import Unit

EPOCH = -1  # of the draws: no epoch of training has it


@torch.no_grad()
def mean_loss(
    units: list[Unit], config: TrainConfig, world: World, loss: Callable[[list[Unit], int], torch.Tensor]
) -> float:
    """Mean over held-out units, each weighed as in training.

    Args:
        units: all of them; every process takes its share.
        config: of the run.
        world: this process among its like.
        loss: of units of one shape, in an epoch: (B,).
    """
    total = 0.0
    for batch in batches(units, 1, config.batch_size, seed=0):
        for mine in portions(batch.units, world.rank, world.size, config.micro_batch):
            # Who has nothing left passes a unit for nothing, as in training.
            found = float(loss(mine or batch.units[:1], EPOCH).sum())
            total += found if mine else 0.0
    (total,) = world.sum([total])
    return total / len(units)
