"""What the frozen models of `nft` cost: a step of `nft` over one of `reweight`, and whether it starts at v_old exactly.

A step is forward and backward of one sample, clipping and AdamW, as in the trainer. The second reference is a second
pass of v_old: another model of its size costs the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Literal

import torch

from benchmarks.gpu import models
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import compared
from benchmarks.gpu.training import kernel_order
from gigavideo_data.models import attention
from gigavideo_train.config import TrainConfig
from gigavideo_train.distributed.world import World, full_tensor
from gigavideo_train.losses.inputs import Inputs
from gigavideo_train.losses.losses import loss_parts, losses
from gigavideo_train.models import wan
from gigavideo_train.models.base import Velocity
from gigavideo_train.step import TrainedModel, backward, set_up_model

GOAL, GOAL_SECOND = 1.40, 1.75
ROUNDS = 3
EXPECTED_S = 100.0  # of one way to train, on one H100; calculated

Tune = Literal["full", "lora"]
WAYS: tuple[tuple[Tune, Literal["selective", "full"]], ...] = (("full", "selective"), ("lora", "full"))


def run(job: Job) -> None:
    with attention.use_kernels(kernel_order(job.device, tiny=job.tiny)):
        for tune, checkpointing in WAYS:
            if job.has_time(f"{tune}, {checkpointing}", EXPECTED_S):
                shared = TrainConfig(
                    tune=tune, checkpointing=checkpointing, compile_blocks=not job.tiny, batch_size=1, lr=1e-6
                )
                _measure(job, shared)
                job.free_memory()


def _measure(job: Job, reweight: TrainConfig) -> None:
    torch.compiler.reset()
    name = f"{reweight.tune}, {reweight.checkpointing}"
    nft = reweight.model_copy(update={"strategy": "nft"})
    transformer = models.wan_transformer(job.device, tiny=job.tiny).requires_grad_(False)
    pipeline = SimpleNamespace(transformer=transformer, config=models.SETTINGS.config)
    model = set_up_model(pipeline, wan, nft, World(0, 1, job.device))
    inputs = models.inputs(job.device, tiny=job.tiny, pair=False)
    change = losses(inputs, model.velocity, model.reference, None, nft).change_B.max()
    # Zero, unless the blocks are compiled: with gradients they are other kernels, which round differently.
    job.record.figure(f"{name}, change of the velocity at the start, relative to v - v_old", float(change), "")

    baseline = _step(job, model, inputs, reweight, None)
    for label, first, goal in (("", None, GOAL), (" with a second reference", model.reference, GOAL_SECOND)):
        ratio, control = compared(_step(job, model, inputs, nft, first), baseline, job.device, ROUNDS)
        job.record.figure(f"{name}, nft{label} over reweight", ratio, "", goal=goal)
        job.record.figure(f"{name}, reweight over reweight (control)", control, "")
    memory = job.peak_gb()
    if memory is not None:
        job.record.figure(f"{name}, nft, peak memory", memory, "GB")


def _step(
    job: Job, model: TrainedModel, inputs: Inputs, config: TrainConfig, first: Velocity | None
) -> Callable[[], None]:
    def step() -> None:
        backward(
            [inputs],
            lambda one: loss_parts(one, model.velocity, model.reference, None, config, first),
            config,
            model.flops,
            job.device,
        )
        norm = torch.nn.utils.clip_grad_norm_(model.parameters.values(), config.max_grad_norm)
        float(full_tensor(norm))  # the trainer too waits for it, once a step
        model.optimizer.step()
        model.optimizer.zero_grad(set_to_none=True)

    return step
