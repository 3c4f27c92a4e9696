"""Exponential moving average (EMA) of the weights over the steps. A run that keeps one publishes it as its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.distributed.tensor import DTensor

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
    averages, weights = _parts(average[name] for name in parameters), _parts(parameters.values())
    torch._foreach_lerp_(averages, weights, share)


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
    if weights:  # torch refuses empty lists
        torch._foreach_copy_(_parts(parameters[name] for name in weights), _parts(weights.values()))


def _parts(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """This process's part of each tensor: one call of torch changes all of them, whatever their shards."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
