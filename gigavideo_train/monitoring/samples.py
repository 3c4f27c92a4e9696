"""Sample clips of held-out prompts during training, from the same noise each time, judged if `judge_samples` is set.

    samples/step-00000100/0.mp4, samples.html

Scheduler, number of steps and guidance are those of the model's pipeline, as in `gv-data eval`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress
from gigavideo_data.rows import EvalPrompt
from gigavideo_train.data import dataset
from gigavideo_train.data.encode import NO_PROMPT, EncodedRows
from gigavideo_train.distributed.world import World
from gigavideo_train.judging import verdicts
from gigavideo_train.models.base import Condition, Family, Velocity
from gigavideo_train.monitoring.sample_page import Clip, ClipPair, page
from gigavideo_train.plan import Plan

Metrics = dict[str, float | int | None]


def choose_prompts(plan: Plan, progress: Progress) -> list[EvalPrompt]:
    """Prompts of the dataset's split `dev` for the trained dimensions; none without `sample_every`.

    Raises:
        DatasetError: there are none, or they break the contract.
        HubError: they cannot be downloaded, or differ from their listing.
    """
    if plan.config.sample_every is None:
        return []
    rows = [row for row in dataset.dev_prompts(plan.dataset, progress) if row["dimension"] in plan.dimensions]
    if not rows:
        raise DatasetError(
            f"{plan.dataset.folder}: no held-out prompts of {', '.join(plan.dimensions)} to sample. Build with "
            "eval_prompts.per_dimension, or leave sample_every out."
        )
    rows.sort(key=lambda row: row["prompt_id"])
    return rows[: plan.config.sample_prompts]


def texts(prompts: list[EvalPrompt]) -> list[str]:
    """All texts that must be encoded for sampling."""
    return [*(prompt["prompt"] for prompt in prompts), NO_PROMPT] if prompts else []


@dataclass(frozen=True)
class SampleWriter:
    """Samples, judges and shows the clips of a run.

    Attributes:
        prompts: in the order of the clips.
        out: folder of the run.
        plan: of the run. Clips have the size and length of the first clip trained on.
        encoded: latents and texts.
        pipeline: its decoder and scheduler are used.
        family: of the pipeline.
        velocity: of the model in training.
        world: every process samples its share. All run equally many forward passes, since a sharded model needs all
            processes for each pass; so some clips are sampled twice.
    """

    prompts: list[EvalPrompt]
    out: Path
    plan: Plan
    encoded: EncodedRows
    pipeline: Any
    family: Family
    velocity: Velocity
    world: World

    def write(self, step: int) -> Metrics:
        """Write the clips of a step and the page.

        Returns:
            The metrics of judged clips, on the first process; else nothing.
        """
        self._write_clips(step)
        if self.plan.sample_judges:
            own = range(self.world.rank, len(self.prompts), self.world.size)
            verdicts.judge_clips({self._path(step, at): self.prompts[at] for at in own}, self.plan.sample_judges)
        self.world.barrier()
        return self._write_page(step) if self.world.is_first else {}

    def _write_clips(self, step: int) -> None:
        device, vae = self.world.device, self.pipeline.vae
        fps = self.plan.samples[0].row["fps"]
        device_before = vae.device
        vae.to(device)
        for first in range(0, len(self.prompts), self.world.size):
            at = first + self.world.rank
            latents_1CFHW = self._sample(self.prompts[at % len(self.prompts)])
            if at < len(self.prompts):
                with torch.no_grad():
                    frames_1THWC = self.family.decode(self.pipeline, latents_1CFHW)
                frames_THWC = (255 * frames_1THWC[0]).round().byte().cpu().numpy()
                write_durably(self._path(step, at), video.encode(frames_THWC, fps))
        vae.to(device_before)

    def _sample(self, prompt: EvalPrompt) -> torch.Tensor:
        """Latents (1, C, F, H, W) of a clip, from the first seed of its prompt."""
        device, like = self.world.device, self.plan.samples[0].row
        shape_CFHW = self.encoded.latents([like]).shape[1:]
        texts = (prompt["prompt"], NO_PROMPT)
        text, no_text = (self.encoded.condition([{"prompt": one, "fps": like["fps"]}], device) for one in texts)
        noise_1CFHW = torch.randn((1, *shape_CFHW), generator=torch.Generator().manual_seed(prompt["seeds"][0]))
        self.family.set_timesteps(self.pipeline, self.plan.profile.steps, shape_CFHW, device)

        def guided(noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
            return cfg_velocity(self.velocity, noisy_BCFHW, sigma_B, text, no_text, self.plan.profile.guidance)

        return sample_latents(guided, self.pipeline.scheduler, noise_1CFHW.to(device))

    def _write_page(self, step: int) -> Metrics:
        pairs = [
            ClipPair(prompt["prompt"], prompt["dimension"], self._clip(0, at), self._clip(step, at))
            for at, prompt in enumerate(self.prompts)
        ]
        judges = sorted({judge.engine["model"] for judge in self.plan.sample_judges.values()})
        write_durably(self.out / "samples.html", page(pairs, step, judges).encode("utf-8"))
        if not self.plan.sample_judges:
            return {}
        return verdicts.mean_reward(pair.tuned.verdict for pair in pairs if pair.tuned.verdict)

    def _clip(self, step: int, at: int) -> Clip:
        """A clip for the page; a verdict of an earlier part of the run is left out if this part judges nothing."""
        path = self._path(step, at)
        verdict = verdicts.read(path) if self.plan.sample_judges else None
        return Clip(path.relative_to(self.out).as_posix(), verdict)

    def _path(self, step: int, at: int) -> Path:
        return self.out / "samples" / f"step-{step:08}" / f"{at}.mp4"


def cfg_velocity(
    velocity: Velocity,
    noisy_BCFHW: torch.Tensor,
    sigma_B: torch.Tensor,
    text: Condition,
    no_text: Condition,
    guidance: float,
) -> torch.Tensor:
    """The velocity with classifier-free guidance, (B, C, F, H, W); a single pass for a guidance of at most 1."""
    conditional = velocity(noisy_BCFHW, sigma_B, text)
    if guidance <= 1:
        return conditional
    unconditional = velocity(noisy_BCFHW, sigma_B, no_text)
    return unconditional + guidance * (conditional - unconditional)


@torch.no_grad()
def sample_latents(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], scheduler: Any, noise_BCFHW: torch.Tensor
) -> torch.Tensor:
    """Denoise with a scheduler of diffusers whose timesteps are set.

    Args:
        velocity: of noisy latents and sigma_B.
        scheduler: its timesteps are 1000 sigma.
        noise_BCFHW: standard normal, float32.
    """
    latents_BCFHW = noise_BCFHW
    for timestep in scheduler.timesteps:
        sigma_B = (timestep / 1000).float().expand(len(latents_BCFHW))
        latents_BCFHW = scheduler.step(velocity(latents_BCFHW, sigma_B), timestep, latents_BCFHW, return_dict=False)[0]
    return latents_BCFHW
