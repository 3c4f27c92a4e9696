"""One clip of Wan 2.1 1.3B through the generator class, over the forward passes that it needs.

Few steps are measured, and a clip of 50 steps is calculated from them: what is not denoising is added once.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import models
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import Figure, steady
from gigavideo_data.io import video
from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.generators.profiles import spec
from gigavideo_data.recipe.recipe import Generator

STEPS, FULL_STEPS = 3, 50
GOAL = 1.05
CLIPS = 2
PROMPT = "A red boat turns slowly in a harbour while gulls land on the pier."
WAN = PROFILES["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"]
TINY = replace(WAN, height=32, width=48, num_frames=9, max_tokens=16)


def _pipeline_folder(job: Job) -> Path:
    """The genuine transformer and autoencoder."""
    from diffusers import AutoencoderKLWan

    size = {"base_dim": 4, "num_res_blocks": 1} if job.tiny else {}
    vae = models.build(lambda: AutoencoderKLWan(**size), job.device)
    transformer = models.wan_transformer(job.device, tiny=job.tiny)
    return models.save_wan_pipeline(job.scratch / "pipeline", transformer, vae, "benchmark")


@contextmanager
def clocked(owner: Any, name: str, device: torch.device) -> Iterator[list[tuple[float, float]]]:
    """Record when each call of a method began and ended; the device is waited for on both sides."""
    calls: list[tuple[float, float]] = []
    plain: Callable[..., Any] = getattr(owner, name)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def call(*args: Any, **kwargs: Any) -> Any:
        began = now()
        result = plain(*args, **kwargs)
        calls.append((began, now()))
        return result

    setattr(owner, name, call)
    try:
        yield calls
    finally:
        delattr(owner, name)


def run(job: Job) -> None:
    PROFILES["benchmark"] = TINY if job.tiny else WAN
    generator = Generator(model=str(_pipeline_folder(job)), steps=STEPS)
    job.free_memory()
    for compiled in (True, False) if job.device.type == "cuda" else (False,):
        name = "compiled" if compiled else "eager"
        if not job.has_time(f"synthesis, {name}", 35):
            continue
        torch.compiler.reset()
        engine = DiffusersGenerator(spec(generator).settings | {"compile": compiled})
        job.record.figure(f"{name}, first clip (compilation included)", _clip(job, engine, 0)["whole"], "s")
        forward = _forward(job, engine)
        clips = [_clip(job, engine, number) for number in range(1, CLIPS + 1)]
        again = _forward(job, engine)
        _report(job, name, clips, forward, again)
        del engine
        job.free_memory()


@torch.inference_mode()
def _forward(job: Job, engine: DiffusersGenerator) -> Figure:
    """Seconds of one forward pass of the transformer."""
    profile, transformer = engine.profile, engine.pipeline.transformer
    shape = (1, 16, (profile.num_frames - 1) // 4 + 1, profile.height // 8, profile.width // 8)
    latents = torch.randn(shape, device=job.device, dtype=transformer.dtype)
    text = torch.randn((1, profile.max_tokens, 4096), device=job.device, dtype=transformer.dtype)
    t = torch.full((1,), 500.0, device=job.device)
    call = lambda: transformer(hidden_states=latents, timestep=t, encoder_hidden_states=text, return_dict=False)  # noqa: E731
    return steady(call, job.device, 3, 4.0)


def _clip(job: Job, engine: DiffusersGenerator, seed: int) -> dict[str, float]:
    """Seconds of one clip: in all, of its denoising steps, of the decoder, and of the rest."""
    pipeline = engine.pipeline
    with (
        clocked(pipeline.scheduler, "step", job.device) as steps,
        clocked(pipeline.vae, "decode", job.device) as decodes,
    ):
        began = time.perf_counter()
        (made,) = engine.generate([PROMPT], [seed])
        whole = time.perf_counter() - began
    ends = [end for _, end in steps]
    step = (ends[-1] - ends[0]) / (len(ends) - 1)  # between the ends of two scheduler steps lies one whole step
    parts = {"whole": whole, "step": step, "decode": decodes[0][1] - decodes[0][0]}
    parts["rest"] = whole - len(ends) * step - parts["decode"]
    if importlib.util.find_spec("av"):
        began = time.perf_counter()
        video.encode(made.frames_THWC, made.fps)
        parts["mp4"] = time.perf_counter() - began
    return parts


def _report(job: Job, name: str, clips: list[dict[str, float]], forward: Figure, again: Figure) -> None:
    record = job.record
    each = statistics.mean([forward.median, again.median])
    record.figure(f"{name}, forward pass", forward, "s")
    record.figure(f"{name}, forward pass again over the first (control)", again.median / forward.median, "")
    for part, label in (
        ("step", "denoising step"),
        ("decode", "decoder"),
        ("rest", "text, frames to the host, other"),
        ("mp4", "MP4 of the frames"),
    ):
        if part in clips[0]:
            record.figure(f"{name}, {label}", Figure.of([clip[part] for clip in clips]), "s")
    step = statistics.median(clip["step"] for clip in clips)
    record.figure(f"{name}, denoising step over its two forward passes", step / (2 * each), "", goal=GOAL)
    rest = statistics.median(clip["decode"] + clip["rest"] + clip.get("mp4", 0.0) for clip in clips)
    whole = FULL_STEPS * step + rest
    record.figure(f"{name}, a clip of {FULL_STEPS} steps", whole, "s", calculated=True)
    record.figure(
        f"{name}, a clip of {FULL_STEPS} steps over its forward passes",
        whole / (2 * FULL_STEPS * each),
        "",
        calculated=True,
        goal=GOAL,
    )
    if (memory := job.peak_gb()) is not None:
        record.figure(f"{name}, peak memory", memory, "GB")
