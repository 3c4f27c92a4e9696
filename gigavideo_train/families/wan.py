"""Wan text-to-video pipelines: load, encode, decode, predict the velocity.

The VAE's latents are normalised with the mean and standard deviation that its configuration holds, exactly as the
pipeline undoes it before decoding; the text embedding is the pipeline's own, zeros beyond the last token.
"""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import WanPipeline

LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # of self- and cross-attention


def load(folder: Path) -> WanPipeline:
    """The whole pipeline from a local folder, float32, on the CPU."""
    diffusers.utils.logging.disable_progress_bar()  # of loading: seconds, and in the way of ours
    transformers.utils.logging.disable_progress_bar()
    pipeline = WanPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.transformer):
        part.requires_grad_(False)
    pipeline.vae.eval()
    pipeline.text_encoder.eval()
    return pipeline


@torch.inference_mode()
def encode_video(pipeline: WanPipeline, frames_THWC: np.ndarray) -> torch.Tensor:
    """Latents (C, F, H, W) float32, normalised, of uint8 RGB frames; the posterior's mode.

    The number of frames is cut to 4n + 1, which is what the VAE holds.
    """
    vae = pipeline.vae
    num_frames = (len(frames_THWC) - 1) // 4 * 4 + 1
    video_THWC = torch.from_numpy(frames_THWC[:num_frames]).to(vae.device)
    video_1CFHW = video_THWC.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    latents_CFHW = vae.encode(video_1CFHW.to(vae.dtype)).latent_dist.mode()[0].float()
    mean, std = (
        torch.tensor(v, device=vae.device).view(-1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    return ((latents_CFHW - mean) / std).cpu()


def decode(pipeline: WanPipeline, latents_CFHW: torch.Tensor) -> torch.Tensor:
    """Frames (T, H, W, C) float in [0, 1] of normalised latents, as the pipeline decodes them, and differentiable."""
    vae = pipeline.vae
    mean, std = (
        torch.tensor(v).to(latents_CFHW).view(-1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    video_CTHW = vae.decode((latents_CFHW * std + mean)[None].to(vae.dtype), return_dict=False)[0][0]
    return (video_CTHW.float().permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)


@torch.inference_mode()
def encode_prompt(pipeline: WanPipeline, prompt: str, max_tokens: int) -> torch.Tensor:
    """Text embedding (L, D) float32, L = `max_tokens`."""
    text_1LD, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=max_tokens)
    return text_1LD[0].float().cpu()


def velocity(
    transformer: torch.nn.Module, noisy_BCFHW: torch.Tensor, sigma_B: torch.Tensor, text_BLD: torch.Tensor
) -> torch.Tensor:
    """The predicted noise - clean, shaped as `noisy_BCFHW`. Wan counts time from 0 to 1000."""
    return transformer(noisy_BCFHW, 1000 * sigma_B, text_BLD, return_dict=False)[0]
