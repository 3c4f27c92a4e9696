"""Features of a clip from the autoencoder of a text-to-video model: mean and spread of its latents, in thirds."""

from __future__ import annotations

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
        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # the workers run in parallel
        folder = vae_folder(engine["load"], engine["load_revision"])
        vae: Any = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        self.vae = vae.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
        self.vae.enable_tiling()  # on every machine: tiles change the latents of large clips a little
        self.stride = profile_of(engine["load"]).stride

    @torch.inference_mode()
    def features(self, frames_THWC: np.ndarray) -> np.ndarray:
        """Mean and standard deviation of each channel in each third of the latent frames, (6 C,).

        The clip has the size (px) of the model's videos; last frames that fill no latent frame are left out. Latents
        are the mode of the posterior, not normalised.
        """
        frames_THWC = frames_THWC[: valid_num_frames(len(frames_THWC), self.stride)]
        video_1CTHW = torch.from_numpy(frames_THWC).to(self.vae.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents_CFHW = self.vae.encode(video_1CTHW).latent_dist.mode()[0]
        thirds = [latents_CFHW[:, part] for part in parts(latents_CFHW.shape[1])]
        pooled = [statistic(third, dim=(1, 2, 3)) for third in thirds for statistic in (torch.mean, _std)]
        return torch.cat(pooled).cpu().numpy()


def _std(values: torch.Tensor, dim: tuple[int, ...]) -> torch.Tensor:
    return values.std(dim, correction=0)
