"""Does this device compute what a CPU computes in float32? Relative differences of losses and gradients."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.gpu import models
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import relative_error
from gigavideo_train.config import TrainConfig
from gigavideo_train.distributed.world import World, full_tensor
from gigavideo_train.models import blocks, ltx, wan
from gigavideo_train.models.base import Condition
from gigavideo_train.step import adamw, prepare, velocity_of

STEPS = 10
TOLERANCE = 0.05  # relative, of one bfloat16 step against float32
CPU = torch.device("cpu")
# Prints the losses of a few steps: run as a process without a GPU for the reference, and as one that sees the GPU.
TRAINED = """
import json, sys
from pathlib import Path
from benchmarks.gpu.trainer import Ends, Enough
from gigavideo_train import plan as planning
from gigavideo_train.data.dataset import read
from gigavideo_train.distributed.world import world
from gigavideo_train.training import run_training

folder, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
settings = ["batch_size=4", "epochs=50", "warmup_steps=0", "decay=none", "lr=1e-4", "validate_every=null"]
settings += ["compile_blocks=false", "checkpoint_every=10000", "latents=own"]
with world() as alone:
    plan = planning.make(read(folder), None, None, settings)
    try:
        run_training(plan, out, out / "cache", alone, Ends(steps), resume=False)
    except Enough:
        pass
lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
(out / "losses.json").write_text(json.dumps([line["loss"] for line in lines]))
"""


def run(job: Job) -> None:
    for name, make, family, settings, shape_CFHW in _families():
        _one_step(job, name, make, family, settings, shape_CFHW)
    _fsdp(job)
    _compiled(job)
    _miniature(job)


def _families() -> list[tuple[str, Callable[[], Any], Any, Any, tuple[int, ...]]]:
    from diffusers import LTXPipeline, LTXVideoTransformer3DModel, WanTransformer3DModel

    def of_wan(**more: Any) -> Any:
        sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 2, "text_dim": 32}
        return WanTransformer3DModel(**sizes, **more)

    def of_ltx() -> Any:
        return LTXVideoTransformer3DModel(
            in_channels=16,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=32,
        )

    def settings(*, expand: bool) -> Any:
        return SimpleNamespace(config=SimpleNamespace(expand_timesteps=expand))

    packing = SimpleNamespace(
        transformer_spatial_patch_size=1,
        transformer_temporal_patch_size=1,
        vae_spatial_compression_ratio=32,
        vae_temporal_compression_ratio=8,
        _pack_latents=LTXPipeline._pack_latents,
        _unpack_latents=LTXPipeline._unpack_latents,
    )
    return [
        ("Wan 2.1", of_wan, wan, settings(expand=False), (16, 3, 8, 8)),
        ("Wan 2.2", lambda: of_wan(in_channels=48, out_channels=48), wan, settings(expand=True), (48, 3, 8, 8)),
        ("LTX-Video", of_ltx, ltx, packing, (16, 3, 8, 8)),
    ]


def _loss_and_gradient(
    transformer: Any, family: Any, settings: Any, shape_CFHW: tuple[int, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one matching step on inputs that are the same on every device; the gradient of all weights in one row."""
    generator = torch.Generator().manual_seed(3)
    noisy, target = (torch.randn((2, *shape_CFHW), generator=generator).to(device) for _ in range(2))
    text = torch.randn((2, 24, 32), generator=generator).to(device)
    mask = torch.ones((2, 24), dtype=torch.bool, device=device)
    sigma = torch.tensor([0.3, 0.8], device=device)
    condition = Condition(text, mask, torch.full((2,), 24.0, device=device))
    transformer.zero_grad(set_to_none=True)
    velocity = velocity_of(transformer, family, settings, device, {})
    loss = (velocity(noisy, sigma, condition) - target).square().mean()
    loss.backward()
    full = (p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in transformer.parameters())
    return loss.detach(), torch.cat([grad.flatten().float().cpu() for grad in full])


def _record(job: Job, name: str, ours: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> None:
    loss, gradient = (relative_error(a, b) for a, b in zip(ours, expected, strict=True))
    job.record.figure(f"{name}: relative error of the gradient", gradient, "", loss=loss, right=gradient < TOLERANCE)


def _one_step(
    job: Job, name: str, make: Callable[[], Any], family: Any, settings: Any, shape_CFHW: tuple[int, ...]
) -> None:
    reference = models.build(make, CPU).train()
    expected = _loss_and_gradient(reference, family, settings, shape_CFHW, CPU)
    ours = copy.deepcopy(reference).to(job.device)
    _record(job, f"{name}, one step", _loss_and_gradient(ours, family, settings, shape_CFHW, job.device), expected)


def _wan_case() -> tuple[Any, Any, Any, tuple[int, ...]]:
    _, make, family, settings, shape_CFHW = _families()[0]
    return models.build(make, CPU).train(), family, settings, shape_CFHW


def _fsdp(job: Job) -> None:
    reference, family, settings, shape_CFHW = _wan_case()

    def measure(transformer: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return _loss_and_gradient(transformer, family, settings, shape_CFHW, job.device)

    plain = measure(copy.deepcopy(reference).to(job.device))
    world = World(0, 1, job.device)
    for name, offload in (("FSDP2 with one rank", False), ("FSDP2 with one rank, offloaded", True)):
        sharded = copy.deepcopy(reference)
        blocks.shard(sharded, list(sharded.blocks), world.mesh(), offload=offload)
        _record(job, f"{name} over a plain step", measure(sharded), plain)
        torch.nn.utils.clip_grad_norm_(sharded.parameters(), 1.0)
        adamw(sharded.parameters(), TrainConfig(), job.device).step()
        finite = all(bool(full_tensor(p.detach()).isfinite().all()) for p in sharded.parameters())
        job.record.note(f"{name}, weights after AdamW are finite", str(finite))
    torch.distributed.destroy_process_group()


def _compiled(job: Job) -> None:
    reference, family, settings, shape_CFHW = _wan_case()

    def measure(transformer: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return _loss_and_gradient(transformer, family, settings, shape_CFHW, job.device)

    plain = measure(copy.deepcopy(reference).to(job.device))
    compiled = copy.deepcopy(reference)
    prepare(compiled, TrainConfig(checkpointing="selective", compile_blocks=True), wan, World(0, 1, job.device))
    _record(job, "compiled and checkpointed over eager", measure(compiled), plain)


def _miniature(job: Job) -> None:
    name = f"miniature, {STEPS} steps from shipped latents"
    if job.latents is None:
        job.record.note(name, "left out: needs --latents DIR, a set built with `gv-data build`")
        return
    expected = _train(job, job.scratch / "miniature-reference", gpu=False)
    ours = _train(job, job.scratch / "miniature-device", gpu=job.device.type == "cuda")
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, expected, strict=True))
    job.record.figure(f"{name}: largest relative difference of a loss", worst, "", steps=len(ours), right=worst < 0.1)


def _train(job: Job, out: Path, *, gpu: bool) -> list[float]:
    out.mkdir()
    environment = os.environ if gpu else os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", TRAINED, str(job.latents), str(out), str(2 if job.tiny else STEPS)]
    subprocess.run(command, check=True, env=environment, timeout=max(10.0, job.left_s))
    losses: list[float] = json.loads((out / "losses.json").read_text())
    return losses
