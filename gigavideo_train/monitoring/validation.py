"""The loss on rows that are not trained on: as in training, but each row meets the same noise whenever it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.data.batches import Batch, batches
from gigavideo_train.data.samples import Unit
from gigavideo_train.distributed.world import World
from gigavideo_train.losses.inputs import Inputs
from gigavideo_train.losses.losses import Losses

EPOCH = -1  # of the draws: no epoch of training has it


@torch.no_grad()
def mean_loss(
    units: list[Unit],
    config: TrainConfig,
    world: World,
    passes: Callable[[Batch], list[Inputs]],
    loss_of: Callable[[Inputs], Losses],
) -> float:
    """Mean over held-out units, each weighed as in training.

    Args:
        units: all of them; every process takes its share.
        config: of the run.
        world: this process among its like.
        passes: what this process computes of a batch.
        loss_of: of one pass.
    """
    total = torch.zeros((), device=world.device)
    for batch in batches(units, 1, config.batch_size, seed=0):
        for one in passes(replace(batch, epoch=EPOCH)):
            total += loss_of(one).loss_B.sum()
    (mean,) = world.sum(total[None] / len(units))
    return mean
