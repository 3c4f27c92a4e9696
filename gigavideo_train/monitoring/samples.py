"""Held-out prompts made into clips while a model trains, from the same noise each time, judged if that is asked.

    samples/step-00000100/0.mp4, samples.html

Steps and guidance are the model's own; the solver is Euler's, whatever the pipeline's, so that one loop serves all
families.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress
from gigavideo_train.data import dataset
from gigavideo_train.data.encode import Tensors
from gigavideo_train.distributed.world import World
from gigavideo_train.judging import verdicts
from gigavideo_train.judging.judges import Row
from gigavideo_train.models.base import Condition
from gigavideo_train.monitoring.sample_page import Pair, Shown, page
from gigavideo_train.plan import Plan

NO_TEXT = ""  # what guidance leads away from


@dataclass(frozen=True)
class Sample:
    """A row of the dataset's prompts, and the seed of its noise."""

    row: Row
    seed: int

    @property
    def prompt(self) -> str:
        text: str = self.row["prompt"]
        return text


def chosen(plan: Plan, progress: Progress) -> list[Sample]:
    """What is to be made: of the dataset's prompts for development, some of the dimensions trained; none if not asked.

    Raises:
        DatasetError: there are none, or they break the contract.
        HubError: the Hub does not give them as they are listed.
    """
    if plan.config.sample_every is None:
        return []
    wanted = plan.config.dimensions or plan.dataset.manifest["dimensions"]
    prompts = [row for row in dataset.dev_prompts(plan.dataset, progress) if row["dimension"] in wanted]
    if not prompts:
        raise DatasetError(
            f"{plan.dataset.folder}: no held-out prompts of {', '.join(wanted)} to sample. Build with "
            "eval_prompts.per_dimension, or leave sample_every out."
        )
    prompts.sort(key=lambda row: row["prompt_id"])
    return [Sample(row, row["seeds"][0]) for row in prompts[: plan.config.sample_prompts]]


def texts(samples: list[Sample]) -> list[str]:
    """All that has to be encoded for them."""
    return [*(sample.prompt for sample in samples), NO_TEXT] if samples else []


def write(
    samples: list[Sample],
    out: Path,
    step: int,
    plan: Plan,
    tensors: Tensors,
    pipeline: Any,
    family: ModuleType,
    velocity: Callable[[torch.Tensor, torch.Tensor, Condition], torch.Tensor],
    world: World,
) -> dict[str, float | int | None]:
    """Make the clips of one step, in the size and length of the first clip trained on, and the page anew.

    Every process makes equally many, though some twice: the passes of a model may be a matter of all of them. Each
    judges those that it wrote.

    Returns:
        What metrics.jsonl is to tell of them, for the first process; nothing if they are not judged.
    """
    like = plan.units[0].row
    shape_CFHW = tensors.latents([like]).shape[1:]
    placed = pipeline.vae.device
    pipeline.vae.to(world.device)
    for first in range(0, len(samples), world.size):
        at = first + world.rank
        sample = samples[at % len(samples)]
        told, plain = (
            tensors.told([{"prompt": text, "fps": like["fps"]}], world.device) for text in (sample.prompt, NO_TEXT)
        )
        noise_1CFHW = torch.randn((1, *shape_CFHW), generator=torch.Generator().manual_seed(sample.seed))
        clean_1CFHW = solved(
            lambda noisy, sigma, told=told, plain=plain: guided(
                velocity, noisy, sigma, told, plain, plan.profile.guidance
            ),
            noise_1CFHW.to(world.device),
            plan.profile.steps,
            plan.shift,
        )
        if at < len(samples):
            with torch.no_grad():
                frames_THWC = (255 * family.decode(pipeline, clean_1CFHW)[0]).round().byte().cpu().numpy()
            write_durably(_clip(out, step, at), video.encode(frames_THWC, like["fps"]))
    pipeline.vae.to(placed)
    if plan.sample_judges:
        mine = range(world.rank, len(samples), world.size)
        verdicts.judge({_clip(out, step, at): samples[at].row for at in mine}, plan.sample_judges)
    world.wait()
    if not world.is_first:
        return {}
    pairs = [
        Pair(sample.prompt, sample.row["dimension"], *(_shown(out, each, at, plan) for each in (0, step)))
        for at, sample in enumerate(samples)
    ]
    judges = sorted({judge.engine["model"] for judge in plan.sample_judges.values()})
    write_durably(out / "samples.html", page(pairs, step, judges).encode("utf-8"))
    return verdicts.means(pair.tuned.verdict for pair in pairs if pair.tuned.verdict) if plan.sample_judges else {}


def guided(
    velocity: Callable[[torch.Tensor, torch.Tensor, Condition], torch.Tensor],
    noisy_BCFHW: torch.Tensor,
    sigma_B: torch.Tensor,
    told: Condition,
    plain: Condition,
    guidance: float,
) -> torch.Tensor:
    """The velocity, led away from that without a text."""
    towards = velocity(noisy_BCFHW, sigma_B, told)
    if guidance <= 1:
        return towards
    away = velocity(noisy_BCFHW, sigma_B, plain)
    return away + guidance * (towards - away)


@torch.no_grad()
def solved(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], noise_BCFHW: torch.Tensor, steps: int, shift: float
) -> torch.Tensor:
    """Follow the velocity from noise to a clean latent, in steps that are even before the shift."""
    noisy_BCFHW = noise_BCFHW
    even = [1 - number / steps for number in range(steps + 1)]
    for sigma, after in pairwise(shift * s / (1 + (shift - 1) * s) for s in even):
        sigma_B = torch.full((len(noisy_BCFHW),), sigma, device=noisy_BCFHW.device)
        noisy_BCFHW = noisy_BCFHW + (after - sigma) * velocity(noisy_BCFHW, sigma_B)
    return noisy_BCFHW


def _shown(out: Path, step: int, at: int, plan: Plan) -> Shown:
    """A clip as the page shows it; a verdict of an earlier part of the run is left out where nobody is asked now."""
    return Shown(_clip(Path(), step, at), verdicts.read(_clip(out, step, at)) if plan.sample_judges else None)


def _clip(out: Path, step: int, at: int) -> Path:
    return out / "samples" / f"step-{step:08}" / f"{at}.mp4"
