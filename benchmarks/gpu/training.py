"""The trainer's own step on Wan 2.1 1.3B at 832x480x81, by checkpointing, compilation and kind of sample.

A pass is forward and backward of one sample; a pair has two. Model TFLOP/s count three forward passes of FLOPs a pass,
whatever is computed twice.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from benchmarks.gpu import models
from benchmarks.gpu.ceilings import matmul_flops
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import steady
from gigavideo_data.models import attention
from gigavideo_train.config import TrainConfig
from gigavideo_train.distributed.world import World, full_tensor
from gigavideo_train.losses.inputs import Inputs
from gigavideo_train.losses.losses import Losses, loss_parts
from gigavideo_train.models import wan
from gigavideo_train.step import Flops, adamw, backward, make_trainable, prepare, velocity_of

GOAL_S = 2.0
ROUNDS, BUDGET_S = 6, 9.0
# Peak of the second step in GB, float32 weights and AdamW's state included: a dry run of the same step with fake
# tensors on a CPU, without compilation. A CUDA context takes up to 1 GB more.
DRY_RUN_GB = {
    ("full", "selective", "synthetic"): 31.7,
    ("full", "selective", "pair"): 37.4,
    ("full", "full", "synthetic"): 28.3,
    ("full", "none", "synthetic"): 165.3,
    ("lora", "full", "synthetic"): 13.3,
    ("lora", "full", "pair"): 13.5,
}


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        expected_s: how long its measurement takes on one H100, calculated.
        with_optimizer: whether clipping and AdamW are timed too; they depend on `tune` and `offload` alone.
        offload: whether weights and AdamW's state are in the CPU's memory.
    """

    tune: Literal["full", "lora"]
    checkpointing: Literal["none", "selective", "full"]
    compiled: bool
    kind: str
    expected_s: float
    with_optimizer: bool = False
    offload: bool = False

    @property
    def settings(self) -> str:
        return f"{self.tune}, offloaded" if self.offload else self.tune

    @property
    def name(self) -> str:
        return f"{self.settings}, {self.checkpointing}, {'compiled' if self.compiled else 'eager'}, {self.kind}"


CASES = (  # in the order of their value
    Case("full", "selective", True, "synthetic", 55, with_optimizer=True),
    Case("full", "selective", True, "pair", 30),
    Case("lora", "full", True, "synthetic", 45, with_optimizer=True),
    Case("full", "full", True, "synthetic", 50, with_optimizer=True, offload=True),
    Case("full", "selective", False, "synthetic", 25),
    Case("full", "full", True, "synthetic", 25),
    Case("full", "full", True, "pair", 30),
    Case("full", "full", False, "synthetic", 25),
    Case("lora", "full", True, "pair", 30),
    Case("full", "none", True, "synthetic", 40),
    Case("full", "selective", False, "pair", 35),
    Case("full", "full", False, "pair", 35),
    Case("lora", "full", False, "synthetic", 25),
)


@dataclass
class Trained:
    """A model that is trained by one case's settings, as the trainer sets it up."""

    config: TrainConfig
    device: torch.device
    transformer: Any
    flops: Flops = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_trainable(self.transformer, self.config, wan)
        prepare(self.transformer, self.config, wan, World(0, 1, self.device))
        self.parameters = [p for p in self.transformer.parameters() if p.requires_grad]
        self.optimizer = adamw(self.parameters, self.config, self.device)
        self.velocity = velocity_of(self.transformer, wan, models.SETTINGS, self.device, self.flops)

    def loss_parts(self, inputs: Inputs) -> Iterator[Losses]:
        return loss_parts(inputs, self.velocity, self.velocity, None, self.config)

    def backward(self, inputs: Inputs) -> None:
        backward([inputs], self.loss_parts, self.config, self.flops, self.device)

    def update(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        float(full_tensor(norm))  # the trainer too waits for it, once a step
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def config_of(case: Case) -> TrainConfig:
    return TrainConfig(
        tune=case.tune,
        checkpointing=case.checkpointing,
        compile_blocks=case.compiled,
        offload=case.offload,
        batch_size=1,
        lr=1e-6,
    )


def kernel_order(device: torch.device, *, tiny: bool) -> list[str]:
    """Attention kernels, the fastest first, as the trainer chooses them."""
    if device.type != "cuda":
        return []
    sizes = models.WAN_TINY if tiny else models.WAN_1_3B
    _, frames, height, width = models.shape_CFHW(tiny=tiny)
    tokens = frames * (height // 2) * (width // 2)
    heads, width = sizes["num_attention_heads"], sizes["attention_head_dim"]
    return attention.choose(attention.shapes_of(heads, width, tokens, 512, masked=False), device).order


def run(job: Job) -> None:
    peak = matmul_flops(job.device, tiny=job.tiny, rounds=10, budget_s=1.0).median
    order = kernel_order(job.device, tiny=job.tiny)
    job.record.note("attention kernels, fastest first", ", ".join(order) or "torch's own choice")
    with attention.use_kernels(order):
        for case in _cases(tiny=job.tiny):
            if job.has_time(case.name, case.expected_s):
                try:
                    _measure(job, case, peak)
                except torch.OutOfMemoryError:
                    job.record.note(case.name, "out of memory")
                except RuntimeError as error:  # a way to train that does not work here costs itself alone
                    traceback.print_exc()
                    job.record.note(case.name, f"failed: {str(error).splitlines()[0][:200]}")
                job.free_memory()


def _cases(*, tiny: bool) -> Iterable[Case]:
    """A trial compiles once: what differs between cases is tried eagerly."""
    if not tiny:
        return CASES
    return dict.fromkeys((CASES[0], *(replace(case, compiled=False, expected_s=0) for case in CASES)))


def _measure(job: Job, case: Case, peak: float) -> None:
    torch.compiler.reset()
    job.free_memory()
    began = time.perf_counter()
    trained = Trained(config_of(case), job.device, models.wan_transformer(job.device, tiny=job.tiny))
    inputs = models.inputs(job.device, tiny=job.tiny, pair=case.kind == "pair")
    build_s = time.perf_counter() - began
    forwards = 2 if case.kind == "pair" else 1
    began = time.perf_counter()
    trained.backward(inputs)  # counts FLOPs, compiles, and makes AdamW's state
    trained.update()
    first_s = time.perf_counter() - began
    job.free_memory()
    trained.backward(inputs)
    trained.update()
    memory = job.peak_gb()
    steps = steady(lambda: trained.backward(inputs), job.device, ROUNDS, BUDGET_S)
    passes = steps.scaled(lambda seconds: seconds / forwards)
    work = 3 * next(iter(trained.flops.values()))
    is_goal = case == CASES[0] and not job.tiny
    job.record.figure(
        f"{case.name}, a pass",
        passes,
        "s",
        first_step_s=first_s,
        build_s=build_s,
        **({"goal_s": GOAL_S} if is_goal else {}),
    )
    job.record.figure(
        f"{case.name}, model TFLOP/s",
        passes.scaled(lambda seconds: work / seconds / 1e12),
        "TFLOP/s",
        of_matmul=work / passes.median / peak,
    )
    if memory is not None:
        dry = DRY_RUN_GB.get((case.settings, case.checkpointing, case.kind))
        compare = {"dry_run_gb": dry, "of_dry_run": memory / dry} if dry and not job.tiny else {}
        job.record.figure(f"{case.name}, peak memory", memory, "GB", **compare)
    if case.with_optimizer:
        _optimizer(job, case, trained, inputs)


def _optimizer(job: Job, case: Case, trained: Trained, inputs: Inputs) -> None:
    """Clipping and AdamW alone: the gradients of one backward pass are kept."""
    trained.backward(inputs)
    gradients = [p.grad for p in trained.parameters]

    def update() -> None:
        for parameter, gradient in zip(trained.parameters, gradients, strict=True):
            parameter.grad = gradient
        trained.update()

    seconds = steady(update, job.device, 10, 2.0)
    job.record.figure(f"{case.settings}, clipping and AdamW", seconds.scaled(lambda value: 1e3 * value), "ms")
