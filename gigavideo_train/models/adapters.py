"""LoRA adapters of a transformer in training: a new one, or one that a run continues, with a frozen copy beside it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from gigavideo_data.models.generators.diffusers_generator import load_adapter
from gigavideo_train.models.base import Condition, Family, Velocity

TRAINED, OLD = "default", "v_old"  # names of adapters; the first is PEFT's


def add(transformer: Any, family: Family, rank: int, alpha: float) -> None:
    """Add a new LoRA, which changes nothing yet, and train it."""
    from peft import LoraConfig

    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=family.LORA_TARGETS), TRAINED)


def continue_from(pipeline: Any, folder: Path, *, keep_old: bool) -> None:
    """Load a LoRA and train it; with `keep_old` a second time, as the adapter `OLD`, which stays as it is.

    Both require gradients, although `OLD` is only called without: torch computes some products of weights that require
    none in another way, with other rounding.

    Raises:
        RunError: the adapter does not fit the model.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")  # there are two on purpose
        for name in (TRAINED, OLD) if keep_old else (TRAINED,):
            load_adapter(pipeline, folder, name)
    pipeline.transformer.set_adapter(TRAINED)
    for parameter_name, parameter in pipeline.transformer.named_parameters():
        if ".lora_" in parameter_name:
            parameter.requires_grad_(True)


def is_trained(parameter_name: str) -> bool:
    """Whether a parameter that requires gradients is trained."""
    return f".{OLD}." not in parameter_name


def with_old(transformer: Any, velocity: Velocity) -> Velocity:
    """The velocity of the model with the adapter `OLD` in place of the trained one; to be called without gradients."""

    def old(noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, condition: Condition) -> torch.Tensor:
        transformer.set_adapter(OLD)
        try:
            return velocity(noisy_BCFHW, sigma_B, condition)
        finally:
            transformer.set_adapter(TRAINED)

    return old


def without(transformer: Any, velocity: Velocity) -> Velocity:
    """The velocity of the model without any adapter."""

    def plain(noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, condition: Condition) -> torch.Tensor:
        transformer.disable_adapters()
        try:
            return velocity(noisy_BCFHW, sigma_B, condition)
        finally:
            transformer.enable_adapters()

    return plain
