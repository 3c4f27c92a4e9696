"""The mean of the weights over the steps, weighing old ones less and less: smoother than the last of them.

Where a run keeps one, it is what becomes the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

Weights = dict[str, torch.Tensor]


def copied(parameters: dict[str, torch.nn.Parameter]) -> Weights:
    """A mean before the first step: the weights as they are."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@torch.no_grad()
def update(mean: Weights, parameters: dict[str, torch.nn.Parameter], decay: float | None, num_taken: int) -> None:
    """Take in the weights after a step, the `num_taken`-th from 1.

    Where `decay`, the old mean's share, is None, there is no mean. It is short at first, else a run of fewer than
    1 / (1 - decay) steps would be left with little but the base.
    """
    if decay is None:
        return
    share = 1 - min(decay, (1 + num_taken) / (10 + num_taken))
    for name, parameter in parameters.items():
        mean[name].lerp_(parameter, share)


@contextmanager
def in_place(mean: Weights, parameters: dict[str, torch.nn.Parameter]) -> Iterator[None]:
    """Let the model have the mean for its weights meanwhile; where there is no mean, its own."""
    own = copied({name: parameters[name] for name in mean})
    _put(mean, parameters)
    try:
        yield
    finally:
        _put(own, parameters)


@torch.no_grad()
def _put(weights: Weights, parameters: dict[str, torch.nn.Parameter]) -> None:
    for name, tensor in weights.items():
        parameters[name].copy_(tensor)
