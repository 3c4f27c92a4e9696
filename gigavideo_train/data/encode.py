"""Encode the clips and prompts of a run once, before training: all processes encode what the cache lacks.

Where the dataset ships latents of the model's own autoencoder, the clip is neither decoded nor encoded. Shipped
latents, the last step of a sampler, differ slightly from an encoding of the compressed video, so the cache keeps the
two apart: the tensor of a clip depends on the dataset, never on what the cache holds already.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch

from gigavideo_data.dataset.schema import BFLOAT16_BYTES
from gigavideo_data.dataset.table_check import check_clip
from gigavideo_data.errors import DatasetError
from gigavideo_data.io import video
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.spec import folder_revision
from gigavideo_data.rows import DatasetRow
from gigavideo_train.data.cache import Cache
from gigavideo_train.data.dataset import Dataset, ShippedLatents, clips, fetch, fetch_latents, latents
from gigavideo_train.distributed.world import World
from gigavideo_train.models.base import Condition, Family, make_condition
from gigavideo_train.models.loading import encoder_dtype, load_autoencoder, load_text_encoder

NO_PROMPT = ""  # of the unconditional velocity


class Conditioning(TypedDict):
    """The columns of a row that a model is conditioned on."""

    prompt: str
    fps: float


@dataclass(frozen=True)
class EncodedRows:
    """Encoded clips and prompts, in caches named by their encoders.

    Attributes:
        model_folder: of the pipeline with the encoders.
        clips: latents of clips, by the sha256 of the clip.
        shipped: latents that came with a dataset, by their own sha256 and shape.
        prompts: text embeddings, by prompt.
        max_tokens: length to which a text is padded.
        usable: sha256 of a clip -> its latents in the dataset, where the run uses them.
    """

    model_folder: Path
    clips: Cache
    shipped: Cache
    prompts: Cache
    max_tokens: int
    usable: Mapping[str, ShippedLatents]

    @classmethod
    def open(
        cls, model_folder: Path, max_tokens: int, usable: Mapping[str, ShippedLatents], cache_root: Path, world: World
    ) -> EncodedRows:
        """The caches of a model, in `cache_root`; `usable` is `Plan.latents`. Rank 0 reads and hashes the encoders."""

        def revisions() -> list[str]:
            return [folder_revision(model_folder / part) for part in ("vae", "text_encoder", "tokenizer")]

        vae, text, tokenizer = world.broadcast_from_rank0(revisions)
        dtypes = [encoder_dtype(model_folder, part, world.device) for part in ("vae", "text_encoder")]
        in_vae_dtype, in_text_dtype = ("" if dtype == torch.float32 else f" {dtype}" for dtype in dtypes)
        # An encoder that attends to the padding gives other embeddings for other lengths.
        prompts = Cache(cache_root, f"text {text} {tokenizer} {max_tokens}{in_text_dtype}")
        clips = Cache(cache_root, f"latents {vae}{in_vae_dtype}")
        return cls(model_folder, clips, Cache(cache_root, "shipped latents"), prompts, max_tokens, usable)

    def location(self, sha256: str) -> tuple[Cache, str]:
        """The cache of a clip's latents, and their name there."""
        ours = self.usable.get(sha256)
        return (self.shipped, f"{ours.sha256} {ours.shape_CFHW}") if ours else (self.clips, sha256)

    def latents(self, rows: Sequence[DatasetRow]) -> torch.Tensor:
        """Latents (B, C, F, H, W) float32 on the CPU of clips of one shape."""
        located = [self.location(row["video_sha256"]) for row in rows]
        return torch.stack([cache.get(name) for cache, name in located])

    def condition(self, rows: Sequence[Conditioning], device: torch.device) -> Condition:
        """The conditioning of clips."""
        texts_LD = [self.prompts.get(row["prompt"]) for row in rows]
        condition = make_condition(texts_LD, self.max_tokens, [row["fps"] for row in rows])
        return Condition(*(tensor.to(device) for tensor in condition))


def encode(
    encoded: EncodedRows,
    dataset: Dataset,
    rows: Sequence[DatasetRow],
    texts: Sequence[str],
    pipeline: Any,
    family: Family,
    world: World,
    progress: Progress,
) -> None:
    """Encode the clips and prompts that the cache lacks. An encoder is loaded only if it has something to encode.

    Args:
        encoded: the caches to fill.
        dataset: source of the clips.
        rows: whose clips and prompts are needed.
        texts: further prompts.
        pipeline: result of `load_pipeline`.
        family: of the pipeline.
        world: every process encodes its share.
        progress: shows both stages, and at the end the size of the encoded data and how much was cached.

    Raises:
        DatasetError: a clip or its latents do not match their row.
        HubError: a shard cannot be fetched.
        RunError: a tensor cannot be written.
    """
    prompts = sorted({*(row["prompt"] for row in rows), *texts})
    by_clip = {row["video_sha256"]: row for row in rows}  # equal clips are encoded once
    located = {sha256: encoded.location(sha256) for sha256 in sorted(by_clip)}
    new_prompts = [prompt for prompt in prompts if not encoded.prompts.has(prompt)]
    new = [sha256 for sha256, (cache, name) in located.items() if not cache.has(name)]
    new_shipped = {sha256: by_clip[sha256] for sha256 in new if sha256 in encoded.usable}
    new_clips = {sha256: by_clip[sha256] for sha256 in new if sha256 not in encoded.usable}
    if new_clips:
        video.check_installed(
            f"encoding {len(new_clips)} clips (latents=own takes latents of the dataset, if it has them)"
        )
    world.barrier()  # every process has looked before any writes

    progress.start("text", total=len(prompts), cached=len(prompts) - len(new_prompts))
    if new_prompts:
        _encode_prompts(encoded, new_prompts, pipeline, family, world, progress)
    progress.finish()
    progress.start("latents", total=len(located), cached=len(located) - len(new))
    _unpack_shipped(encoded, dataset, new_shipped, pipeline, family, world, progress)
    if new_clips:
        _encode_clips(encoded, dataset, new_clips, pipeline, family, world, progress)
    progress.finish()

    world.barrier()
    for row in world.share(list(rows)):
        cache, name = located[row["video_sha256"]]
        _check_shape(cache.shape(name), row, pipeline, family)
    if world.is_first:
        text_mb = encoded.prompts.size(prompts) / 1e6
        clips_mb = sum(cache.size([name]) for cache, name in located.values()) / 1e6
        total = len(prompts) + len(located)
        share = f"{total - len(new_prompts) - len(new)} of {total} were cached"
        if dataset.latents:
            from_dataset = len(located.keys() & encoded.usable)
            share += f"; latents of {from_dataset} of {len(located)} clips came with the dataset"
        root = encoded.clips.root
        progress.note(f"cache {root}: {clips_mb:.1f} MB of latents, {text_mb:.1f} MB of text; {share}")


def _encode_prompts(
    encoded: EncodedRows, prompts: list[str], pipeline: Any, family: Family, world: World, progress: Progress
) -> None:
    load_text_encoder(pipeline, encoded.model_folder, world.device)
    for number, prompt in enumerate(world.share(prompts)):
        encoded.prompts.make(prompt, partial(family.encode_prompt, pipeline, prompt, encoded.max_tokens))
        progress.advance(world.num_in_round(number, prompts))
    pipeline.register_modules(text_encoder=None)  # not needed any more, and the largest part of some pipelines


def _unpack_shipped(
    encoded: EncodedRows,
    dataset: Dataset,
    rows: dict[str, DatasetRow],
    pipeline: Any,
    family: Family,
    world: World,
    progress: Progress,
) -> None:
    """Copy shipped latents of clips, given by sha256, into the cache."""
    mine = set(world.share(list(rows)))
    fetch_latents(dataset, mine, progress)
    for number, (sha256, data) in enumerate(latents(dataset, mine)):
        cache, name = encoded.location(sha256)
        cache.make(name, partial(_unpacked, data, encoded.usable[sha256], rows[sha256], pipeline, family))
        progress.advance(world.num_in_round(number, list(rows)))


def _encode_clips(
    encoded: EncodedRows,
    dataset: Dataset,
    rows: dict[str, DatasetRow],
    pipeline: Any,
    family: Family,
    world: World,
    progress: Progress,
) -> None:
    """Encode clips, given by sha256."""
    mine = {rows[sha256]["id"]: sha256 for sha256 in world.share(list(rows))}
    fetch(dataset, set(mine), progress)
    load_autoencoder(pipeline, encoded.model_folder, encoder_dtype(encoded.model_folder, "vae", world.device))
    pipeline.vae.to(world.device)
    for number, (row_id, data) in enumerate(clips(dataset, set(mine))):
        sha256 = mine[row_id]
        frames_THWC = _decoded(data, rows[sha256])
        encoded.clips.make(sha256, partial(family.encode_video, pipeline, frames_THWC))
        progress.advance(world.num_in_round(number, list(rows)))
    pipeline.vae.cpu()


def _decoded(data: bytes, row: DatasetRow) -> np.ndarray:
    """Frames of a row's clip, uint8 (T, H, W, 3)."""
    where, sha256 = f"row {row['id']}", hashlib.sha256(data).hexdigest()
    if sha256 != row["video_sha256"]:
        raise DatasetError(
            f"{where}: its clip has sha256 {sha256}, video_sha256 says {row['video_sha256']}. Do not use this dataset."
        )
    clip = video.decode(data, where)
    check_clip(row, where, clip.frames_THWC.shape[:3], clip.fps)
    return clip.frames_THWC


def _check_shape(shape_CFHW: tuple[int, ...], row: DatasetRow, pipeline: Any, family: Family) -> None:
    """Refuse a row whose clip was encoded for another row or run and does not have the size that this row states."""
    expected_CFHW = family.latents_shape(pipeline, row["num_frames"], row["height"], row["width"])
    if shape_CFHW != expected_CFHW:
        raise DatasetError(
            f"row {row['id']}: the latents of its clip have shape {shape_CFHW}; a clip of {row['num_frames']} frames "
            f"of {row['height']} x {row['width']} px, as the row states, has {expected_CFHW}. Do not use this dataset."
        )


def _unpacked(data: bytes, shipped: ShippedLatents, row: DatasetRow, pipeline: Any, family: Family) -> torch.Tensor:
    """Shipped latents as (C, F, H, W) float32."""
    shape_CFHW = family.latents_shape(pipeline, row["num_frames"], row["height"], row["width"])
    if shipped.shape_CFHW != shape_CFHW or len(data) != math.prod(shape_CFHW) * BFLOAT16_BYTES:
        raise DatasetError(
            f"{shipped.shard}: latents of row {row['id']} are {len(data)} bytes of shape {shipped.shape_CFHW}; for its "
            f"clip the model has shape {shape_CFHW}. Do not use this dataset."
        )
    latents_CFHW = torch.frombuffer(bytearray(data), dtype=torch.bfloat16).reshape(shape_CFHW).float()
    if not latents_CFHW.isfinite().all():
        raise DatasetError(f"{shipped.shard}: latents of row {row['id']} are not finite. Do not use this dataset.")
    return latents_CFHW
