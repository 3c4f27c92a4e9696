"""LTX-Video: the transformer takes latents as a sequence of patches with positions in seconds and pixels.

Its text encoder also attends to the padding, so an embedding depends on `max_tokens`. The transformer masks it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift

from gigavideo_train.models.base import Condition
from gigavideo_train.models.loading import frames_to_tensor

BLOCKS = "transformer_blocks"
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]  # of both attentions, and the FFN
MASKS_TEXT = True


@torch.inference_mode()
def encode_video(pipeline: Any, frames_THWC: np.ndarray) -> torch.Tensor:
    """Latents (C, F, H, W) float32 on the CPU of uint8 RGB frames: the mode of the posterior, normalised."""
    vae = pipeline.vae
    multiple = pipeline.vae_spatial_compression_ratio * pipeline.transformer_spatial_patch_size
    video_1CTHW = frames_to_tensor(frames_THWC, pipeline.vae_temporal_compression_ratio, multiple, vae)
    latents_1CFHW = vae.encode(video_1CTHW).latent_dist.mode().float()
    return pipeline._normalize_latents(latents_1CFHW, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)[
        0
    ].cpu()


def latents_shape(pipeline: Any, num_frames: int, height: int, width: int) -> tuple[int, ...]:
    """(C, F, H, W) of the latents that `encode_video` makes of a clip of this size, px."""
    side_px, patch = pipeline.vae_spatial_compression_ratio, pipeline.transformer_spatial_patch_size
    frames = (num_frames - 1) // pipeline.vae_temporal_compression_ratio + 1
    sides = (size // (side_px * patch) * patch for size in (height, width))
    return pipeline.transformer.config.in_channels, frames, *sides


def decode(pipeline: Any, latents_BCFHW: torch.Tensor) -> torch.Tensor:
    """Frames (B, T, H, W, C) float in [0, 1] of normalised latents, as the pipeline decodes them; differentiable."""
    vae = pipeline.vae
    mean, std = (tensor.to(latents_BCFHW.device) for tensor in (vae.latents_mean, vae.latents_std))
    plain_BCFHW = pipeline._denormalize_latents(latents_BCFHW, mean, std, vae.config.scaling_factor)
    at_B = torch.zeros(len(plain_BCFHW), device=plain_BCFHW.device) if vae.config.timestep_conditioning else None
    video_BCTHW = vae.decode(plain_BCFHW.to(vae.dtype), at_B, return_dict=False)[0]
    return (video_BCTHW.float().permute(0, 2, 3, 4, 1) / 2 + 0.5).clamp(0, 1)


@torch.inference_mode()
def encode_prompt(pipeline: Any, prompt: str, max_tokens: int) -> torch.Tensor:
    """Embedding (L, D) float32 on the CPU of the tokens of a prompt, at most `max_tokens`."""
    text_1LD, mask_1L, *_ = pipeline.encode_prompt(
        prompt,
        do_classifier_free_guidance=False,
        max_sequence_length=max_tokens,
        device=pipeline.text_encoder.device,
    )
    return text_1LD[mask_1L].float().cpu()


def num_tokens(transformer: torch.nn.Module, shape_CFHW: Sequence[int]) -> int:
    """Number of tokens that the transformer makes of latents of this shape."""
    side, depth = transformer.config.patch_size, transformer.config.patch_size_t
    return (shape_CFHW[1] // depth) * (shape_CFHW[2] // side) * (shape_CFHW[3] // side)


def set_timesteps(pipeline: Any, num_steps: int, shape_CFHW: Sequence[int], device: torch.device) -> None:
    """Prepare the scheduler of the pipeline for sampling; its shift depends on the number of latent positions."""
    config = pipeline.scheduler.config
    mu = calculate_shift(
        math.prod(shape_CFHW[1:]),
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    pipeline.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu, device=device)


def velocity(
    pipeline: Any, transformer: torch.nn.Module, noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """Predicted noise - clean, (B, C, F, H, W). The timestep of LTX-Video runs from 0 to 1000."""
    patch = pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size
    frames, height, width = noisy_BCFHW.shape[2:]
    side_px = pipeline.vae_spatial_compression_ratio
    predicted_BND = transformer(
        hidden_states=pipeline._pack_latents(noisy_BCFHW, *patch),
        encoder_hidden_states=condition.text_BLD,
        timestep=1000 * sigma_B,
        encoder_attention_mask=condition.mask_BL,
        num_frames=frames,
        height=height,
        width=width,
        rope_interpolation_scale=(
            (pipeline.vae_temporal_compression_ratio / condition.fps_B).view(-1, 1, 1, 1, 1),
            side_px,
            side_px,
        ),
        return_dict=False,
    )[0]
    return pipeline._unpack_latents(predicted_BND, frames, height, width, *patch)
