"""Validation loss: the training loss on the validation split, with the same noise every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from gigavideo_train.data.batches import Batch, batches
from gigavideo_train.data.samples import Sample
from gigavideo_train.distributed.world import World
from gigavideo_train.losses.inputs import VALIDATION_EPOCH, Inputs
from gigavideo_train.losses.losses import Losses


@torch.no_grad()
def validation_loss(
    samples: list[Sample],
    batch_size: int,
    world: World,
    make_passes: Callable[[Batch], list[Inputs]],
    loss_of: Callable[[Inputs], Losses],
) -> float:
    """Mean loss over the samples, weighted as in training.

    Args:
        samples: all of them; every process computes its share.
        batch_size: samples per batch, over all processes.
        world: this process among all.
        make_passes: the passes that this process computes of a batch.
        loss_of: the losses of one pass.
    """
    total = torch.zeros((), device=world.device)
    for batch in batches(samples, 1, batch_size, seed=0):
        for inputs in make_passes(replace(batch, epoch=VALIDATION_EPOCH)):
            total += loss_of(inputs).loss_B.sum()
    (mean,) = world.sum(total[None] / len(samples))
    return mean
