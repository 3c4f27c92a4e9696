"""Validation loss: the training loss on the validation split, with the same noise every time; and when it is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

import torch

from gigavideo_train.data.batches import Batch, batches
from gigavideo_train.data.samples import Sample
from gigavideo_train.distributed.world import World
from gigavideo_train.losses.inputs import VALIDATION_EPOCH, Inputs
from gigavideo_train.losses.losses import Losses

Result = TypeVar("Result")


class ValidationSchedule:
    """Which of the due validations are done, so that all of them take at most a share of the run's time.

    The validations before the first step and after the last one are always done. What they leave of the share is spread
    evenly over the steps between. Times are those of this process since it started.

    Args:
        total: steps of the run.
        done: those of an earlier process of the run.
        share: of the time of all steps and validations; None for no limit.
        clock: seconds.
    """

    def __init__(self, total: int, done: int, share: float | None, clock: Callable[[], float] = perf_counter) -> None:
        self._total, self._share, self._clock = total, share, clock
        self._last = done  # step after which the last validation was done
        self._step_s: list[float] = []
        self._spent_s = self._latest_s = 0.0

    def add_step(self, seconds: float) -> None:
        """Note the time of a step."""
        self._step_s.append(seconds)

    def measure(self, step: int, compute: Callable[[], Result]) -> Result:
        """Do a validation after `step` steps, and note its time."""
        began = self._clock()
        result = compute()
        self._latest_s = self._clock() - began
        self._spent_s += self._latest_s
        self._last = step
        return result

    def allows(self, step: int) -> bool:
        """Whether a validation that is due after `step` steps is done."""
        if self._share is None or step == self._total or not self._latest_s:
            return True
        steady_s = self._step_s[1:] or self._step_s  # the first step compiles
        left = self._total - step
        run_s = sum(self._step_s) + left * sum(steady_s) / len(steady_s) + self._spent_s + self._latest_s
        free_s = self._share * run_s - self._spent_s - self._latest_s  # without the last validation
        number = int(free_s / self._latest_s)
        return number > 0 and (step - self._last) * (number + 1) >= self._total - self._last


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
