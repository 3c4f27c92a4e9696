"""Wan text-to-video: 2.1, and 2.2 TI2V 5B, whose transformer takes one timestep per token.

Latents are normalised with the mean and standard deviation in the autoencoder's configuration. Text embeddings are
padded with zeros up to the longest prompt, without a mask, as in the pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gigavideo_train.models.base import Condition
from gigavideo_train.models.loading import frames_to_tensor

BLOCKS = "blocks"
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]  # of both attentions, and the FFN
MASKS_TEXT = False


@torch.inference_mode()
def encode_video(pipeline: Any, frames_THWC: np.ndarray) -> torch.Tensor:
    """Latents (C, F, H, W) float32 on the CPU of uint8 RGB frames: the mode of the posterior, normalised."""
    vae, patch = pipeline.vae, pipeline.transformer.config.patch_size
    multiple = pipeline.vae_scale_factor_spatial * patch[1]
    video_1CTHW = frames_to_tensor(frames_THWC, pipeline.vae_scale_factor_temporal, multiple, vae)
    latents_CFHW = vae.encode(video_1CTHW).latent_dist.mode()[0].float()
    mean, std = (
        torch.tensor(v, device=vae.device).view(-1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    return ((latents_CFHW - mean) / std).cpu()


def latents_shape(pipeline: Any, num_frames: int, height: int, width: int) -> tuple[int, ...]:
    """(C, F, H, W) of the latents that `encode_video` makes of a clip of this size, px."""
    side_px, patch = pipeline.vae_scale_factor_spatial, pipeline.transformer.config.patch_size[1]
    frames = (num_frames - 1) // pipeline.vae_scale_factor_temporal + 1
    sides = (size // (side_px * patch) * patch for size in (height, width))
    return pipeline.transformer.config.in_channels, frames, *sides


def decode(pipeline: Any, latents_BCFHW: torch.Tensor) -> torch.Tensor:
    """Frames (B, T, H, W, C) float in [0, 1] of normalised latents, as the pipeline decodes them; differentiable."""
    vae = pipeline.vae
    mean, std = (
        torch.tensor(v).to(latents_BCFHW).view(-1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    video_BCTHW = vae.decode((latents_BCFHW * std + mean).to(vae.dtype), return_dict=False)[0]
    return (video_BCTHW.float().permute(0, 2, 3, 4, 1) / 2 + 0.5).clamp(0, 1)


@torch.inference_mode()
def encode_prompt(pipeline: Any, prompt: str, max_tokens: int) -> torch.Tensor:
    """Embedding (L, D) float32 on the CPU of the tokens of a prompt, at most `max_tokens`."""
    text_1LD, _ = pipeline.encode_prompt(
        prompt,
        do_classifier_free_guidance=False,
        max_sequence_length=max_tokens,
        device=pipeline.text_encoder.device,
    )
    text_LD = text_1LD[0].float().cpu()
    return text_LD[: int(text_LD.any(1).nonzero().max()) + 1]


def num_tokens(transformer: torch.nn.Module, shape_CFHW: Sequence[int]) -> int:
    """Number of tokens that the transformer makes of latents of this shape."""
    return math.prod(side // size for side, size in zip(shape_CFHW[1:], transformer.config.patch_size, strict=True))


def set_timesteps(pipeline: Any, num_steps: int, shape_CFHW: Sequence[int], device: torch.device) -> None:
    """Prepare the scheduler of the pipeline for sampling; its shift does not depend on the shape."""
    del shape_CFHW
    pipeline.scheduler.set_timesteps(num_steps, device=device)


def velocity(
    pipeline: Any, transformer: torch.nn.Module, noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """Predicted noise - clean, (B, C, F, H, W). The timestep of Wan runs from 0 to 1000."""
    timestep = 1000 * sigma_B
    if pipeline.config.expand_timesteps:
        timestep = timestep[:, None].expand(-1, num_tokens(transformer, noisy_BCFHW.shape[1:]))
    return transformer(
        hidden_states=noisy_BCFHW, timestep=timestep, encoder_hidden_states=condition.text_BLD, return_dict=False
    )[0]
