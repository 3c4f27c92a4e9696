"""Features of a clip from the autoencoder of a text-to-video model: mean and spread of its latents, in thirds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoModel

from gigavideo_data.io.resampling import valid_num_frames
from gigavideo_data.models.features.base import parts
from gigavideo_data.models.generators.profiles import profile_of, vae_folder


class AutoencoderFeatures:
    """One autoencoder, on the first accelerator if there is one (see `ClipFeatures`)."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Load it, in float32.

        Args:
            engine: `load` and `load_revision`, the text-to-video model.

        Raises:
            HubError: the model cannot be downloaded.
            RecipeError: the model is not known.
        """
        on_gpu = torch.cuda.is_available()
        if not on_gpu:
            torch.set_num_threads(1)  # the workers run in parallel
        folder = vae_folder(engine["load"], engine["load_revision"])
        vae: Any = AutoModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        self.vae = vae.eval().requires_grad_(False).to("cuda" if on_gpu else "cpu")
        if on_gpu:
            self.vae.enable_tiling()  # large clips need more memory than the model
        profile = profile_of(engine["load"])
        self.stride, self.batch_size = profile.stride, profile.batch_size

    @torch.inference_mode()
    def features(self, clips_THWC: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Mean and standard deviation of each channel in each third of the latent frames, (6 C,) of each clip.

        A clip has the size (px) of the model's videos; last frames that fill no latent frame are left out. Latents are
        the mode of the posterior, not normalised. Every batch has the model's batch size and one shape: the rest is
        filled with copies, because the rounding of sums depends on the shape.
        """
        trimmed = [clip_THWC[: valid_num_frames(len(clip_THWC), self.stride)] for clip_THWC in clips_THWC]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for at, clip_THWC in enumerate(trimmed):
            by_shape.setdefault(clip_THWC.shape, []).append(at)
        found: dict[int, np.ndarray] = {}
        for all_of_shape in by_shape.values():
            for start in range(0, len(all_of_shape), self.batch_size):
                batch = all_of_shape[start : start + self.batch_size]
                filled = [*batch, *batch[-1:] * (self.batch_size - len(batch))]
                pooled = self._pooled(np.stack([trimmed[at] for at in filled]))
                found |= dict(zip(batch, pooled, strict=False))  # without the copies
        return [found[at] for at in range(len(trimmed))]

    def _pooled(self, frames_BTHWC: np.ndarray) -> np.ndarray:
        video_BCTHW = torch.from_numpy(frames_BTHWC).to(self.vae.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        # In this layout, convolutions of small frames take two thirds of the time.
        video_BCTHW = video_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        latents_BCFHW = self.vae.encode(video_BCTHW).latent_dist.mode()
        thirds = [latents_BCFHW[:, :, part] for part in parts(latents_BCFHW.shape[2])]
        pooled = [statistic(third, dim=(2, 3, 4)) for third in thirds for statistic in (torch.mean, _std)]
        return torch.cat(pooled, dim=1).cpu().numpy()


def _std(values: torch.Tensor, dim: tuple[int, ...]) -> torch.Tensor:
    return values.std(dim, correction=0)
