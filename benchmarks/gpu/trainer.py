"""What `gv-train` costs over a loop written by hand: the same model, batch, kernels and noise.

The trainer runs as it does for a user, from a pipeline folder and a cache of latents and texts, and is ended after some
steps, before it would write a checkpoint. The loop by hand runs before and after it: their ratio is the control.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.gpu import models
from benchmarks.gpu.job import Job
from benchmarks.gpu.training import kernel_order
from gigavideo_data.io.progress import Progress
from gigavideo_data.models import attention
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.generators.profiles import Base
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.batches import batches
from gigavideo_train.data.dataset import Dataset
from gigavideo_train.data.encode import EncodedRows
from gigavideo_train.data.samples import Sample, Selection
from gigavideo_train.distributed.world import World, world
from gigavideo_train.losses.flow import Schedule, draws
from gigavideo_train.models import blocks
from gigavideo_train.plan import Plan
from gigavideo_train.training import run_training

STEPS, SKIPPED = 6, 2  # the first steps compile and fill allocators
GOAL = 1.02
CLIPS = 4
PROFILE = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


class Enough(Exception):
    """The trainer has made the steps that are timed."""


class Ends:
    """Takes the place of the progress bar: it ends the run after some steps."""

    def __init__(self, steps: int) -> None:
        self.stage, self.steps = "", steps

    def start(self, stage: str, **_: Any) -> None:
        self.stage = stage

    def advance(self, _number: int = 1) -> None:
        if self.stage == "train":
            self.steps -= 1
            if not self.steps:
                raise Enough

    def finish(self) -> None: ...

    def note(self, text: str) -> None:
        print(f"  {text}", flush=True)


def plan_of(job: Job, folder: Path) -> Plan:
    """A run on random latents and texts, which are put into the cache under their names."""
    shape_CFHW = models.shape_CFHW(tiny=job.tiny)
    _, frames, height, width = shape_CFHW
    rows: list[Any] = [  # with the columns that training reads
        {
            "id": f"{number:032x}",
            "source": "synthetic",
            "dimension": "mechanics",
            "prompt": f"prompt {number}",
            "video_sha256": f"{number:064x}",
            "num_frames": 4 * (frames - 1) + 1,
            "height": 8 * height,
            "width": 8 * width,
            "fps": 16.0,
        }
        for number in range(CLIPS)
    ]
    manifest: Any = {"dimensions": ["mechanics"], "target_model": str(folder), "files": {}}
    selection = Selection([Sample(row) for row in rows], dropped=Counter())
    config = TrainConfig(
        strategy="sft", batch_size=1, epochs=1000, checkpointing="selective", micro_batch=1, checkpoint_every=10_000
    )
    plan = Plan(
        Dataset(job.scratch, manifest, "bench", rows, {}),
        selection,
        config,
        Base(str(folder)),
        folder,
        PROFILES[PROFILE],
        3.0,
    )
    tensors = EncodedRows.open(
        plan.model_folder, plan.profile.max_tokens, plan.latents, job.scratch / "cache", World(0, 1, job.device)
    )
    generator = torch.Generator().manual_seed(2)
    for row in rows:
        tensors.clips.make(row["video_sha256"], lambda: torch.randn(shape_CFHW, generator=generator))
        tensors.prompts.make(row["prompt"], lambda: torch.randn((200, 4096), generator=generator))
    return plan


def by_hand(job: Job, plan: Plan, order: list[str]) -> list[float]:
    """Seconds of each step of the plainest loop that trains the same."""
    from diffusers import WanTransformer3DModel

    torch.compiler.reset()
    on_gpu = job.device.type == "cuda"
    tensors = EncodedRows.open(
        plan.model_folder, plan.profile.max_tokens, plan.latents, job.scratch / "cache", World(0, 1, job.device)
    )
    model = WanTransformer3DModel.from_pretrained(plan.model_folder / "transformer", dtype=torch.float32)
    model = model.train().to(job.device)
    blocks.checkpoint_activations(model.blocks, plan.config.checkpointing)
    if on_gpu:
        blocks.compile_blocks(model.blocks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.config.lr, fused=True if on_gpu else None)
    schedule = Schedule(plan.config.density, plan.config.logit_mean, plan.config.logit_std, plan.shift)
    seconds: list[float] = []
    with attention.use_kernels(order):
        for batch in batches(plan.samples, 1000, 1, plan.config.seed):
            began = time.perf_counter()
            rows = [sample.row for sample in batch.samples]
            clean = tensors.latents(rows)
            sigma, noise = draws([row["id"] for row in rows], clean.shape[1:], 0, batch.epoch, schedule)
            clean, sigma, noise = (x.to(job.device) for x in (clean, sigma, noise))
            text = tensors.condition(rows, job.device).text_BLD
            s = sigma.view(-1, 1, 1, 1, 1)
            with torch.autocast(job.device.type, torch.bfloat16, enabled=on_gpu):
                velocity = model((1 - s) * clean + s * noise, 1000 * sigma, text, return_dict=False)[0]
            (velocity.float() - (noise - clean)).square().mean().backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), plan.config.max_grad_norm)
            if torch.isfinite(norm):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - began)
            if len(seconds) == STEPS:
                return seconds
    raise AssertionError("the plan has too few batches")


def by_trainer(job: Job, plan: Plan, name: str) -> list[float]:
    """Seconds of each step as the trainer writes them."""
    torch.compiler.reset()
    out = job.scratch / name
    with world() as alone, contextlib.suppress(Enough):
        run_training(plan, out, job.scratch / "cache", alone, cast("Progress", Ends(STEPS)), resume=False)
    return [json.loads(line)["s_per_step"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def run(job: Job) -> None:
    from diffusers import AutoencoderKLWan

    began = time.perf_counter()
    vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1)  # nothing is encoded: the smallest will do
    transformer = models.wan_transformer(job.device, tiny=job.tiny)
    folder = models.save_wan_pipeline(job.scratch / "pipeline", transformer, vae, PROFILE)
    del transformer
    plan = plan_of(job, folder)
    order = kernel_order(job.device, tiny=job.tiny)
    job.record.figure("writing the pipeline and the cache", time.perf_counter() - began, "s")
    steps = {}
    for name, one in (("before", by_hand), ("trainer", None), ("after", by_hand)):
        if name == "after" and not job.has_time("control: by hand, again", 45):
            break
        steps[name] = one(job, plan, order)[SKIPPED:] if one else by_trainer(job, plan, "run")[SKIPPED:]
        job.free_memory()
        label = "trainer" if name == "trainer" else f"by hand, {name}"
        job.record.figure(
            f"{label}, a step", statistics.median(steps[name]), "s", least=min(steps[name]), most=max(steps[name])
        )
    hand = [statistics.median(steps[name]) for name in ("before", "after") if name in steps]
    ratio = statistics.median(steps["trainer"]) / statistics.mean(hand)
    job.record.figure("trainer over by hand", ratio, "", goal=GOAL)
    if len(hand) == 2:
        job.record.figure("by hand over by hand (control)", hand[1] / hand[0], "")
