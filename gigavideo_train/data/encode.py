"""A plan's clips and prompts, encoded once, before training: by all processes, what the cache lacks of what is kept.

A clip whose latents the dataset ships, of the very autoencoder of the model, is neither decoded nor encoded. What its
sampler ended with differs a little from what the autoencoder makes of the decoded and compressed video, so the two are
kept apart: what a clip's tensor is depends on the dataset, never on what the cache has seen before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from gigavideo_data.dataset.schema import BFLOAT16_BYTES
from gigavideo_data.dataset.table_check import check_clip
from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.spec import folder_revision
from gigavideo_train.data.cache import Cache
from gigavideo_train.data.dataset import Row, Shipped, clips, fetch, fetch_latents, latents
from gigavideo_train.distributed.world import World
from gigavideo_train.models.base import Condition, condition
from gigavideo_train.plan import Plan


@dataclass(frozen=True)
class Tensors:
    """The encoded form of rows, in a cache that names the encoders.

    `ready` maps the sha256 of a clip to its latents in the dataset, where they are this autoencoder's.
    """

    clips: Cache
    shipped: Cache
    prompts: Cache
    max_tokens: int
    ready: dict[str, Shipped]

    @classmethod
    def of(cls, plan: Plan, root: Path) -> Tensors:
        """Those of a plan's model."""
        vae, text, tokenizer = (
            folder_revision(plan.model_folder / part) for part in ("vae", "text_encoder", "tokenizer")
        )
        max_tokens = plan.profile.max_tokens  # an encoder that sees the padding makes other embeddings of other lengths
        prompts = Cache(root, f"text {text} {tokenizer} {max_tokens}")
        ready = {sha256: one for sha256, one in plan.dataset.latents.items() if one.vae == vae}
        return cls(Cache(root, f"latents {vae}"), Cache(root, "shipped latents"), prompts, max_tokens, ready)

    def of_clip(self, sha256: str) -> tuple[Cache, str]:
        """Where the latents of a clip are kept, and as what."""
        one = self.ready.get(sha256)
        return (self.shipped, f"{one.sha256} {one.shape_CFHW}") if one else (self.clips, sha256)

    def latents(self, rows: Sequence[Row]) -> torch.Tensor:
        """(B, C, F, H, W) of clips of one shape."""
        kept = [self.of_clip(row["video_sha256"]) for row in rows]
        return torch.stack([cache.get(name) for cache, name in kept])

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
    by_clip = {row["video_sha256"]: row for row in rows}  # equal clips are encoded once
    kept = {sha256: tensors.of_clip(sha256) for sha256 in sorted(by_clip)}
    new_prompts = [prompt for prompt in prompts if not tensors.prompts.has(prompt)]
    new = [sha256 for sha256, (cache, name) in kept.items() if not cache.has(name)]
    new_shipped = [sha256 for sha256 in new if sha256 in tensors.ready]
    new_clips = [sha256 for sha256 in new if sha256 not in tensors.ready]
    if new_clips:
        video.check_installed(f"encoding {len(new_clips)} clips, whose latents are in neither dataset nor cache,")
    world.wait()  # everybody has looked before anybody writes

    progress.start("text", total=len(prompts), cached=len(prompts) - len(new_prompts))
    if new_prompts:
        pipeline.text_encoder.to(world.device)
        for number, prompt in enumerate(world.share(new_prompts)):
            tensors.prompts.make(prompt, partial(family.encode_prompt, pipeline, prompt, tensors.max_tokens))
            progress.advance(world.in_round(number, new_prompts))
        pipeline.text_encoder.cpu()
    progress.finish()

    mine_shipped = set(world.share(new_shipped))
    mine = {by_clip[sha256]["id"]: sha256 for sha256 in world.share(new_clips)}
    fetch_latents(plan.dataset, mine_shipped, progress)
    fetch(plan.dataset, set(mine), progress)
    progress.start("latents", total=len(kept), cached=len(kept) - len(new))
    for number, (sha256, data) in enumerate(latents(plan.dataset, mine_shipped)):
        cache, name = kept[sha256]
        cache.make(name, partial(_unpacked, data, tensors.ready[sha256], by_clip[sha256], pipeline, family))
        progress.advance(world.in_round(number, new_shipped))
    if new_clips:
        pipeline.vae.to(world.device)
        for number, (row_id, data) in enumerate(clips(plan.dataset, set(mine))):
            sha256 = mine[row_id]
            frames_THWC = _decoded(data, by_clip[sha256])
            tensors.clips.make(sha256, partial(family.encode_video, pipeline, frames_THWC))
            progress.advance(world.in_round(number, new_clips))
        pipeline.vae.cpu()
    progress.finish()

    world.wait()
    for row in world.share(rows):
        cache, name = kept[row["video_sha256"]]
        _check_shape(cache.shape(name), row, pipeline, family)
    if world.is_first:
        text_mb = tensors.prompts.size(prompts) / 1e6
        clips_mb = sum(cache.size([name]) for cache, name in kept.values()) / 1e6
        found = len(prompts) + len(kept) - len(new_prompts) - len(new)
        share = f"{found} of {len(prompts) + len(kept)} were there"
        if plan.dataset.latents:
            share += f"; latents of {len(kept.keys() & tensors.ready)} of {len(kept)} clips came with the dataset"
        progress.note(f"cache {cache_root}: {clips_mb:.1f} MB of latents, {text_mb:.1f} MB of text; {share}")
    return tensors


def _decoded(data: bytes, row: Row) -> np.ndarray:
    """Frames of a row's clip, uint8 (T, H, W, 3).

    Raises:
        DatasetError: it is not the clip that the row describes: other bytes, size, length or frame rate.
    """
    where, sha256 = f"row {row['id']}", hashlib.sha256(data).hexdigest()
    if sha256 != row["video_sha256"]:
        raise DatasetError(
            f"{where}: its clip has sha256 {sha256}, video_sha256 says {row['video_sha256']}. Do not use this set."
        )
    clip = video.decode(data, where)
    check_clip(row, where, clip.frames_THWC.shape[:3], clip.fps)
    return clip.frames_THWC


def _check_shape(shape_CFHW: tuple[int, ...], row: Row, pipeline: Any, family: ModuleType) -> None:
    """Refuse a row whose clip is encoded already, for another row or run, and is not of the size that this row says."""
    expected_CFHW = family.latents_shape(pipeline, row["num_frames"], row["height"], row["width"])
    if shape_CFHW != expected_CFHW:
        raise DatasetError(
            f"row {row['id']}: the latents of its clip are of {shape_CFHW}, those of {row['num_frames']} frames of "
            f"{row['height']} x {row['width']} px, as the row says, of {expected_CFHW}. Do not use this set."
        )


def _unpacked(data: bytes, one: Shipped, row: Row, pipeline: Any, family: ModuleType) -> torch.Tensor:
    """Latents (C, F, H, W) float32 as a dataset ships them.

    Raises:
        DatasetError: they are not of the shape that encoding the row's clip would give, or not finite.
    """
    shape_CFHW = family.latents_shape(pipeline, row["num_frames"], row["height"], row["width"])
    if one.shape_CFHW != shape_CFHW or len(data) != math.prod(shape_CFHW) * BFLOAT16_BYTES:
        raise DatasetError(
            f"{one.shard}: latents of row {row['id']} are {len(data)} bytes of {one.shape_CFHW}, the model's of its "
            f"clip are of {shape_CFHW}. Do not use this set."
        )
    latents_CFHW = torch.frombuffer(bytearray(data), dtype=torch.bfloat16).reshape(shape_CFHW).float()
    if not latents_CFHW.isfinite().all():
        raise DatasetError(f"{one.shard}: latents of row {row['id']} are not finite. Do not use this set.")
    return latents_CFHW
