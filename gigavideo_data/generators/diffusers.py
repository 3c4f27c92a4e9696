"""Text-to-video by diffusers pipelines, one video at a time, seeded per row.

One video per call is what large models run at anyway; for small ones it makes a video's bytes independent of its
neighbours, so that an interrupted build resumes to the same dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from gigavideo_data.generators.models import model_folder, profile_of


@dataclass(frozen=True)
class Generated:
    """One video: frames_THWC uint8 RGB, fps in Hz, and the final latents (C, F, H, W) as the transformer sees them."""

    frames_THWC: np.ndarray
    fps: float
    latents_CFHW: torch.Tensor


class DiffusersGenerator:
    """A pipeline, loaded once per worker."""

    def __init__(self, generator: dict[str, Any]) -> None:
        """Load a pipeline.

        Args:
            generator: steps, guidance and negative_prompt as in the `generator` column; `load`, the name or folder of
                the pipeline on this machine; `load_adapter`, that of a LoRA, if any.
        """
        torch.set_num_threads(1)  # workers are the parallelism; it also keeps the bytes equal on any pool size
        self.settings = generator
        folder = model_folder(generator["load"])
        self.profile = profile_of(generator["load"])
        self.pipeline = DiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        if generator.get("load_adapter"):
            self.pipeline.load_lora_weights(generator["load_adapter"], local_files_only=True, use_safetensors=True)
        self.pipeline.set_progress_bar_config(disable=True)

    @torch.inference_mode()
    def generate(self, prompt: str, seed: int) -> Generated:
        """Make one video; the same prompt and seed give the same video on one machine."""
        pipeline, profile = self.pipeline, self.profile
        latents_1CFHW = pipeline(
            prompt=prompt,
            negative_prompt=self.settings["negative_prompt"],
            height=profile.height,
            width=profile.width,
            num_frames=profile.num_frames,
            num_inference_steps=self.settings["steps"],
            guidance_scale=self.settings["guidance"],
            generator=torch.Generator().manual_seed(seed),
            max_sequence_length=profile.max_tokens,
            output_type="latent",
        ).frames
        return Generated(self.decode(latents_1CFHW)[0], profile.fps, latents_1CFHW[0])

    @torch.inference_mode()
    def decode(self, latents_BCFHW: torch.Tensor) -> np.ndarray:
        """Frames (B, T, H, W, 3), uint8 RGB, of final latents.

        Raises:
            ValueError: a decoded value is not finite.
        """
        vae, shape = self.pipeline.vae, (1, -1, 1, 1, 1)
        mean, std = (torch.tensor(v).view(shape) for v in (vae.config.latents_mean, vae.config.latents_std))
        frames_BCTHW = vae.decode(latents_BCFHW * std + mean, return_dict=False)[0]
        if not torch.isfinite(frames_BCTHW).all():
            raise ValueError("the decoded video holds values that are not finite")
        frames_BCTHW = ((frames_BCTHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return frames_BCTHW.permute(0, 2, 3, 4, 1).contiguous().numpy()
