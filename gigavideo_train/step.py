"""The parts of one optimizer step: the trained model, its velocity, gradients of a batch, and the optimizer.

The training loop calls them; the GPU benchmark times the same functions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gigavideo_data.models.precision import keep_float32
from gigavideo_train.checkpoint import ema
from gigavideo_train.config import TrainConfig
from gigavideo_train.distributed.world import World
from gigavideo_train.losses import metrics
from gigavideo_train.losses.inputs import Inputs
from gigavideo_train.losses.losses import Losses, combined
from gigavideo_train.models import adapters, blocks
from gigavideo_train.models.base import Condition, Family, Velocity
from gigavideo_train.models.loading import load_transformer

Flops = dict[torch.Size, int]  # of the forward pass of one sample, by the shape of its latents


@dataclass(frozen=True)
class TrainedModel:
    """The transformer in training.

    Attributes:
        transformer: on its device, sharded if the run shards.
        parameters: the trained ones, by name.
        optimizer: over them.
        average: their EMA; empty without the setting `ema`.
        velocity: of the transformer.
        reference: of the transformer before training; None where the loss does not use it.
        first: of the model before the first round of training; None where it is `reference`, or not used.
        flops: filled by all three.
    """

    transformer: torch.nn.Module
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.AdamW
    average: ema.Weights
    velocity: Velocity
    reference: Velocity | None
    first: Velocity | None
    flops: Flops


def set_up_model(
    pipeline: Any,
    family: Family,
    config: TrainConfig,
    world: World,
    adapter: Path | None = None,
    first_folder: Path | None = None,
) -> TrainedModel:
    """Make the transformer of a pipeline trainable and move it to the device of this process.

    Args:
        pipeline: as `load_pipeline` returns it.
        family: of the pipeline.
        config: of the run.
        world: this process.
        adapter: folder of a LoRA to continue; None trains a new one, or all weights.
        first_folder: of the pipeline of the model before the first round, as `start.first_model` returns it.

    Raises:
        RunError: the adapter does not fit the model.
    """
    transformer = pipeline.transformer.train()
    compares = config.compares_with_start
    if adapter is None:
        make_trainable(transformer, config, family)
    else:
        adapters.continue_from(pipeline, adapter, keep_old=compares)
    flops: Flops = {}

    def frozen_velocity(frozen: torch.nn.Module) -> Velocity:
        if world.device.type == "cuda" and not _is_sharded(config, world):
            blocks.store_as_bfloat16(frozen.get_submodule(family.BLOCKS).children())
        prepare(frozen, config, family, world)
        return velocity_of(frozen, family, pipeline, world.device, flops)

    reference = first = None
    if compares and config.tune == "full":
        # It is called without gradients, but its parameters keep requiring them: torch computes some products of
        # weights that require none in another way, with other rounding.
        reference = frozen_velocity(copy.deepcopy(transformer))
    if first_folder:
        first = frozen_velocity(load_transformer(pipeline, first_folder))
    prepare(transformer, config, family, world)
    velocity = velocity_of(transformer, family, pipeline, world.device, flops)
    if compares and adapter:
        reference = adapters.with_old(transformer, velocity)
        if config.strategy == "nft" and config.nft_kappa and not first_folder:
            first = adapters.without(transformer, velocity)
    elif compares and config.tune == "lora":
        reference = adapters.without(transformer, velocity)
    parameters = {
        name: p for name, p in transformer.named_parameters() if p.requires_grad and adapters.is_trained(name)
    }
    optimizer = adamw(parameters.values(), config, world.device)
    average = ema.copy_weights(parameters) if config.ema else {}
    return TrainedModel(transformer, parameters, optimizer, average, velocity, reference, first, flops)


def make_trainable(transformer: torch.nn.Module, config: TrainConfig, family: Family) -> None:
    """Train all weights, or add a new LoRA and train that."""
    if config.tune == "full":
        transformer.requires_grad_(True)
    else:
        adapters.add(transformer, family, config.lora_rank, config.lora_alpha)


def prepare(transformer: torch.nn.Module, config: TrainConfig, family: Family, world: World) -> None:
    """Set up precision, checkpointing and compilation, then move the model to the device, sharded if the run shards."""
    keep_float32(transformer)
    its_blocks = list(transformer.get_submodule(family.BLOCKS))
    blocks.checkpoint_activations(its_blocks, config.checkpointing)
    if config.compile_blocks if config.compile_blocks is not None else world.device.type == "cuda":
        blocks.compile_blocks(its_blocks)
    if _is_sharded(config, world):
        blocks.shard(transformer, its_blocks, world.mesh(), offload=config.offload)
    else:
        transformer.to(world.device)


def _is_sharded(config: TrainConfig, world: World) -> bool:
    return world.size > 1 or config.offload


def velocity_of(
    transformer: torch.nn.Module,
    family: Family,
    pipeline: Any,
    device: torch.device,
    flops: Flops,
    *,
    bfloat16: bool | None = None,
) -> Velocity:
    """The velocity of a model, (B, C, F, H, W) float32.

    Args:
        transformer: on `device`.
        family: of the pipeline.
        pipeline: its settings are read, its weights are not used.
        device: of the model.
        flops: gets the FLOPs of one forward pass for each new shape of latents.
        bfloat16: compute with bfloat16 autocast; None: on a GPU.
    """
    computes_in_bfloat16 = device.type == "cuda" if bfloat16 is None else bfloat16
    autocast = torch.autocast(device.type, torch.bfloat16) if computes_in_bfloat16 else nullcontext()

    def velocity(noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, condition: Condition) -> torch.Tensor:
        shape_CFHW = noisy_BCFHW.shape[1:]
        if shape_CFHW not in flops:
            with autocast, blocks.count_flops() as counter, torch.no_grad():
                family.velocity(pipeline, transformer, noisy_BCFHW, sigma_B, condition)
            flops[shape_CFHW] = counter.get_total_flops() // len(noisy_BCFHW)
        with autocast:  # entered anew: a recomputed block would lack the casts that the pass above has cached
            return family.velocity(pipeline, transformer, noisy_BCFHW, sigma_B, condition).float()

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


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate of a step (from 0) of `total`: linear warm-up, then constant or linear decay to the end."""
    warmup = (step + 1) / (config.warmup_steps + 1)
    decay = (total - step) / max(1, total - config.warmup_steps) if config.decay == "linear" else 1.0
    return config.lr * min(1.0, warmup, decay)


def backward(
    passes: Iterable[Inputs],
    parts_of: Callable[[Inputs], Iterable[Losses]],
    config: TrainConfig,
    flops: Flops,
    device: torch.device,
) -> torch.Tensor:
    """Add the gradients of one batch to the parameters; the host does not wait for the device.

    Args:
        passes: this process's micro-batches, on the device.
        parts_of: the losses of one of them, in parts as `loss_parts` computes them. Each part is gone back through
            before the next one is computed.
        config: of the run; the loss is a mean over `batch_size`.
        flops: as `velocity_of` fills it.
        device: of the sums.

    Returns:
        The sums of `metrics.sums_of`, float64.
    """
    sums = metrics.zero_sums(device)
    for inputs in passes:
        parts = []
        for part in parts_of(inputs):
            (part.loss_B.sum() / config.batch_size).backward()
            parts.append(part.detached())
        if inputs.counts:
            sums += metrics.sums_of(combined(parts), inputs, flops)
    return sums


def clip_gradients(parameters: dict[str, torch.nn.Parameter], config: TrainConfig) -> torch.Tensor:
    """Clip the gradients; their norm before, on the device, of which the host does not wait."""
    return torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)


def update_weights(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.AdamW,
    average: ema.Weights,
    config: TrainConfig,
    num_taken: int,
) -> None:
    """Optimizer step `num_taken`, counted from 1, of the weights and of their average."""
    optimizer.step()
    ema.update(average, parameters, config.ema, num_taken)
