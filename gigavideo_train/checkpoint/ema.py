"""Exponential moving average (EMA) of the weights over the steps. A run that keeps one publishes it as its model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

Weights = dict[str, torch.Tensor]


def copy_weights(parameters: dict[str, torch.nn.Parameter]) -> Weights:
    """A detached copy of the weights: the EMA before the first step."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@torch.no_grad()
def update(average: Weights, parameters: dict[str, torch.nn.Parameter], decay: float | None, num_taken: int) -> None:
    """Add the weights after optimizer step `num_taken`, counted from 1, to the average; nothing if `decay` is None.

    The decay starts low and rises to `decay`. Otherwise a run of fewer than 1 / (1 - decay) steps would publish little
    but the base.
    """
    if decay is None:
        return
    share = 1 - min(decay, (1 + num_taken) / (10 + num_taken))
    for name, parameter in parameters.items():
        average[name].lerp_(parameter, share)


@contextmanager
def swap_weights(average: Weights, parameters: dict[str, torch.nn.Parameter]) -> Iterator[None]:
    """Run the model with the averaged weights; an empty average changes nothing."""
    own = copy_weights({name: parameters[name] for name in average})
    _assign(average, parameters)
    try:
        yield
    finally:
        _assign(own, parameters)


@torch.no_grad()
def _assign(weights: Weights, parameters: dict[str, torch.nn.Parameter]) -> None:
    for name, tensor in weights.items():
        parameters[name].copy_(tensor)
