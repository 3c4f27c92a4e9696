"""What all families share: loading a pipeline from disk, and frames as the input of its autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from gigavideo_data.io.resampling import resize_and_crop, valid_num_frames


def load_pipeline(folder: Path) -> Any:
    """Load the whole pipeline from a local folder: float32, on the CPU, all parameters frozen."""
    diffusers.utils.logging.disable_progress_bar()  # loading takes seconds, and its bars would mix with ours
    transformers.utils.logging.disable_progress_bar()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.transformer):
        part.requires_grad_(False)
    pipeline.vae.eval()
    pipeline.text_encoder.eval()
    return pipeline


def load_transformer(pipeline: Any, folder: Path) -> Any:
    """The transformer of another pipeline folder of the same class: float32, on the CPU, all parameters frozen."""
    transformer = type(pipeline.transformer).from_pretrained(
        folder / "transformer", dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    return transformer.requires_grad_(False)


def frames_to_tensor(frames_THWC: np.ndarray, stride: int, multiple: int, vae: torch.nn.Module) -> torch.Tensor:
    """Uint8 RGB frames as (1, C, T, H, W) in [-1, 1], on the device and in the dtype of the autoencoder.

    The clip is cropped to what the model can represent, with the same rounding as its pipeline: one frame more than a
    multiple of `stride`, and sides (px) that are multiples of `multiple`.
    """
    frames_THWC = frames_THWC[: valid_num_frames(len(frames_THWC), stride)]
    height, width = (side // multiple * multiple for side in frames_THWC.shape[1:3])
    if (height, width) != frames_THWC.shape[1:3]:
        frames_THWC = resize_and_crop(frames_THWC, height, width)
    video_1CTHW = torch.from_numpy(frames_THWC).to(vae.device).permute(3, 0, 1, 2)[None]
    return (video_1CTHW.float() / 127.5 - 1).to(vae.dtype)
