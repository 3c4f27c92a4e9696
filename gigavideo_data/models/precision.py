"""How a transformer with float32 weights computes in bfloat16: under autocast, less what diffusers keeps in float32.

Training and the evaluation of trained weights share it, so that a model is sampled as it was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def keep_float32(transformer: nn.Module) -> None:
    """Compute under autocast in float32 what diffusers keeps in float32 in a bfloat16 model (`_keep_in_fp32_modules`).

    Under autocast norms and modulation are float32 anyway, as long as their weights are. Linear layers, such as those
    of Wan's time embedder, are not.
    """
    kept = getattr(transformer, "_keep_in_fp32_modules", None) or []
    for name, module in transformer.named_modules():
        if name.rpartition(".")[2] in kept and any(isinstance(part, nn.Linear) for part in module.modules()):
            module.forward = _without_autocast(module.forward)


def compute_in_bfloat16(transformer: nn.Module) -> None:
    """Run a transformer with float32 weights under autocast, as in training. It is called as a pipeline calls it."""
    keep_float32(transformer)
    forward = transformer.forward

    def computed(*inputs: Any, **named: Any) -> tuple[torch.Tensor]:
        with torch.autocast(transformer.device.type, torch.bfloat16):
            return (forward(*inputs, **named)[0].float(),)

    transformer.forward = computed


def _without_autocast(forward: Callable[..., Any]) -> Callable[..., Any]:
    def computed(first: torch.Tensor, *inputs: Any, **named: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return forward(first, *inputs, **named)

    return computed
