"""A plan's clips and prompts, encoded once, before training: by all processes, what the cache lacks of what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gigavideo_data import video
from gigavideo_data.generators.models import folder_revision
from gigavideo_data.progress import Progress
from gigavideo_train.dataset import Row, clips, fetch
from gigavideo_train.distributed import World
from gigavideo_train.families.condition import Condition, condition
from gigavideo_train.latents import Cache
from gigavideo_train.plan import Plan


@dataclass(frozen=True)
class Tensors:
    """The encoded form of rows, in a cache that names the encoders."""

    clips: Cache
    prompts: Cache
    max_tokens: int

    @classmethod
    def of(cls, plan: Plan, root: Path) -> Tensors:
        """Those of a plan's model."""
        vae, text, tokenizer = (
            folder_revision(plan.model_folder / part) for part in ("vae", "text_encoder", "tokenizer")
        )
        max_tokens = plan.profile.max_tokens  # an encoder that sees the padding makes other embeddings of other lengths
        prompts = Cache(root, f"text {text} {tokenizer} {max_tokens}")
        return cls(Cache(root, f"latents {vae}"), prompts, max_tokens)

    def latents(self, rows: Sequence[Row]) -> torch.Tensor:
        """(B, C, F, H, W) of clips of one shape."""
        return torch.stack([self.clips.get(row["video_sha256"]) for row in rows])

    def told(self, rows: Sequence[Row], device: torch.device) -> Condition:
        """What the transformer is told of clips."""
        texts_LD = [self.prompts.get(row["prompt"]) for row in rows]
        told = condition(texts_LD, self.max_tokens, [row["fps"] for row in rows])
        return Condition(*(tensor.to(device) for tensor in told))


def encode(
    plan: Plan,
    pipeline: Any,
    family: ModuleType,
    cache_root: Path,
    world: World,
    progress: Progress,
    texts: Sequence[str] = (),
) -> Tensors:
    """Fill the cache with what a plan trains on or holds out and with `texts`; tell what was there and what it takes.

    The encoders are on the CPU before and after; each is on the device only while it has something to encode.
    """
    tensors = Tensors.of(plan, cache_root)
    rows = [
        row for unit in (*plan.units, *plan.held_out) for row in (unit.row, unit.real, unit.loser) if row is not None
    ]
    prompts = sorted({*(row["prompt"] for row in rows), *texts})
    names = {row["video_sha256"]: row["id"] for row in rows}  # equal clips are encoded once
    new_prompts = [prompt for prompt in prompts if not tensors.prompts.has(prompt)]
    new_clips = [sha256 for sha256 in sorted(names) if not tensors.clips.has(sha256)]
    world.wait()  # everybody has looked before anybody writes

    progress.start("text", total=len(prompts), cached=len(prompts) - len(new_prompts))
    if new_prompts:
        pipeline.text_encoder.to(world.device)
        for prompt in world.share(new_prompts):
            tensors.prompts.make(prompt, partial(family.encode_prompt, pipeline, prompt, tensors.max_tokens))
            progress.advance(world.size)
        pipeline.text_encoder.cpu()
    progress.finish()

    mine = {names[sha256]: sha256 for sha256 in world.share(new_clips)}
    fetch(plan.dataset, set(mine), progress)
    progress.start("latents", total=len(names), cached=len(names) - len(new_clips))
    if new_clips:
        pipeline.vae.to(world.device)
        for name, data in clips(plan.dataset, set(mine)):
            frames_THWC = video.decode(data, name).frames_THWC
            tensors.clips.make(mine[name], partial(family.encode_video, pipeline, frames_THWC))
            progress.advance(world.size)
        pipeline.vae.cpu()
    progress.finish()

    world.wait()
    if world.is_first:
        text_mb, clips_mb = tensors.prompts.size(prompts) / 1e6, tensors.clips.size(names) / 1e6
        found = len(prompts) + len(names) - len(new_prompts) - len(new_clips)
        share = f"{found} of {len(prompts) + len(names)} were there"
        progress.note(f"cache {cache_root}: {clips_mb:.1f} MB of latents, {text_mb:.1f} MB of text; {share}")
    return tensors
