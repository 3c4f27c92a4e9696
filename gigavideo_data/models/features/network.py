"""Features of a clip from an image or video encoder of transformers: its pooled hidden states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from gigavideo_data.hub.models import network_of
from gigavideo_data.io.resampling import resize_and_crop
from gigavideo_data.models.features.base import parts
from gigavideo_data.models.features.specs import ENCODERS

MAX_SIDE_PX = 224  # of the square that an encoder sees
FRAMES = 16  # that an encoder of images sees, at equal distances
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # where the model names no others


class NetworkFeatures:
    """One encoder, on the first accelerator if there is one (see `ClipFeatures`)."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Load it, in float32: only safetensors, and no code of the repository.

        Args:
            engine: `load` and `load_revision`, its Hub id and commit, or its folder and None.

        Raises:
            HubError: it cannot be downloaded.
        """
        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # the workers run in parallel
        load, commit = engine["load"], engine["load_revision"]
        folder = network_of(load, commit) if commit else Path(load)
        network: Any = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        self.network = network.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
        config = self.network.config
        patch_px = config.patch_size if isinstance(config.patch_size, int) else config.tubelet_size[-1]
        self.side_px = min(config.image_size, MAX_SIDE_PX) // patch_px * patch_px
        self.takes_video = ENCODERS[config.model_type].takes_video
        self.num_frames = config.num_frames if self.takes_video else FRAMES
        processor = folder / "preprocessor_config.json"
        named = json.loads(processor.read_text("utf-8")) if processor.is_file() else {}
        self.mean, self.std = named.get("image_mean", IMAGENET_MEAN), named.get("image_std", IMAGENET_STD)

    @torch.inference_mode()
    def features(self, clips_THWC: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Mean hidden state over the tokens: of a clip (D,), or of an encoder of images, of each third of it (3 D,)."""
        return [self._pooled(clip_THWC) for clip_THWC in clips_THWC]

    def _pooled(self, frames_THWC: np.ndarray) -> np.ndarray:
        at = np.linspace(0, len(frames_THWC) - 1, self.num_frames).round().astype(int)
        shown_THWC = resize_and_crop(frames_THWC[at], self.side_px, self.side_px)
        device = self.network.device
        mean, std = (torch.tensor(values, device=device) for values in (self.mean, self.std))
        shown_TCHW = ((torch.from_numpy(shown_THWC).to(device).float() / 255 - mean) / std).permute(0, 3, 1, 2)
        if self.takes_video:
            hidden_LD = self.network(pixel_values=shown_TCHW[None]).last_hidden_state[0]
            return hidden_LD.mean(0).cpu().numpy()
        hidden_TD = self.network(pixel_values=shown_TCHW).last_hidden_state.mean(1)
        return torch.cat([hidden_TD[part].mean(0) for part in parts(self.num_frames)]).cpu().numpy()
