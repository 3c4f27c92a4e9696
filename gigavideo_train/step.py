"""The parts of one optimizer step: the trainable model, its velocity, gradients of a batch, and the optimizer.

`train` puts them together in its loop; the GPU benchmark times the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch

from gigavideo_train.config import TrainConfig
from gigavideo_train.distributed.world import World
from gigavideo_train.losses import metrics
from gigavideo_train.losses.inputs import Inputs
from gigavideo_train.losses.losses import Losses, Velocity
from gigavideo_train.models import blocks
from gigavideo_train.models.base import Condition

Flops = dict[torch.Size, int]  # of one sample's forward pass, by the shape of its latents


def make_trainable(transformer: torch.nn.Module, config: TrainConfig, family: ModuleType) -> None:
    """Train all weights, or add a fresh LoRA and train that."""
    if config.tune == "full":
        transformer.requires_grad_(True)
        return
    from peft import LoraConfig

    transformer.add_adapter(
        LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=family.LORA_TARGETS)
    )


def prepare(transformer: torch.nn.Module, config: TrainConfig, family: ModuleType, world: World) -> None:
    """Set up checkpointing and compilation, then move the model to the device, sharded if the run asks for it."""
    its_blocks = list(transformer.get_submodule(family.BLOCKS))
    blocks.recompute(its_blocks, config.checkpointing)
    if config.compile_blocks if config.compile_blocks is not None else world.device.type == "cuda":
        blocks.compiled(its_blocks)
    if world.size > 1 or config.offload:
        blocks.shard(transformer, its_blocks, world.mesh(), offload=config.offload)
    else:
        transformer.to(world.device)


def velocity_of(
    transformer: torch.nn.Module, family: ModuleType, pipeline: Any, device: torch.device, flops: Flops
) -> Velocity:
    """The model's velocity (B, C, F, H, W) float32; computed in bfloat16 autocast on a GPU.

    Args:
        transformer: on `device`.
        family: module of `families`.
        pipeline: its settings are read, its weights are not used.
        device: where the model is.
        flops: filled with the FLOPs of one forward pass for each new shape of latents.
    """
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()

    def velocity(noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, condition: Condition) -> torch.Tensor:
        shape_CFHW = noisy_BCFHW.shape[1:]
        with autocast:
            if shape_CFHW not in flops:
                with blocks.counted() as counter, torch.no_grad():
                    family.velocity(pipeline, transformer, noisy_BCFHW, sigma_B, condition)
                flops[shape_CFHW] = counter.get_total_flops() // len(noisy_BCFHW)
            predicted: torch.Tensor = family.velocity(pipeline, transformer, noisy_BCFHW, sigma_B, condition)
            return predicted.float()

    return velocity


def adamw(parameters: Iterable[torch.nn.Parameter], config: TrainConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW with float32 state, fused on a GPU."""
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True if device.type == "cuda" else None,
    )


def backward(
    passes: Iterable[Inputs],
    loss_of: Callable[[Inputs], Losses],
    config: TrainConfig,
    flops: Flops,
    device: torch.device,
) -> torch.Tensor:
    """Add the gradients of one batch to the parameters; the host does not wait for the device.

    Args:
        passes: this process's micro-batches, on the device.
        loss_of: the losses of one of them.
        config: of the run; the loss is a mean over `batch_size`.
        flops: as `velocity_of` fills it.
        device: of the sums.

    Returns:
        The sums of `tally`, float64.
    """
    sums = metrics.nothing(device)
    for one in passes:
        found = loss_of(one)
        (found.loss_B.sum() / config.batch_size).backward()
        if one.counts:
            sums += metrics.sums(found, one, flops)
    return sums
