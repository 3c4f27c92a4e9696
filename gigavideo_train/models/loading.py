"""What all families share: loading a pipeline from disk, and frames as the input of its autoencoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from gigavideo_data.io.resampling import resize_and_crop, valid_num_frames
from gigavideo_data.models.generators.diffusers_generator import FAMILIES
from gigavideo_train.models.registry import pipeline_class


def load_pipeline(folder: Path) -> Any:
    """Load a pipeline from a local folder without its encoders: float32, on the CPU, all parameters frozen.

    The text encoder is None, and the autoencoder has only its settings, until the functions below load them: they are
    the largest part of a pipeline, and a run has nothing to encode where all is in the cache.
    """
    diffusers.utils.logging.disable_progress_bar()  # loading takes seconds, and its bars would mix with ours
    transformers.utils.logging.disable_progress_bar()
    with torch.device("meta"):
        kind = _class_of(folder, "vae")
        vae = kind.from_config(kind.load_config(folder / "vae"))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        folder, vae=vae, text_encoder=None, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.transformer.requires_grad_(False)
    return pipeline


def load_text_encoder(pipeline: Any, folder: Path, device: torch.device) -> None:
    """Load the text encoder into a pipeline, frozen and on a device, in the dtype of `encoder_dtype`."""
    pipeline.register_modules(text_encoder=_load(folder, "text_encoder", encoder_dtype(folder, "text_encoder", device)))
    pipeline.text_encoder.to(device)


def load_autoencoder(pipeline: Any, folder: Path, dtype: torch.dtype) -> None:
    """Load the autoencoder into a pipeline, frozen and on the CPU."""
    pipeline.register_modules(vae=_load(folder, "vae", dtype))


def encoder_dtype(folder: Path, part: str, device: torch.device) -> torch.dtype:
    """The dtype in which a part of a pipeline encodes: on a GPU that of the generators.

    It is bfloat16 for text encoders and the autoencoder of LTX-Video. That of Wan stays float32, as diffusers advises
    for quality.
    """
    if device.type != "cuda" or part in FAMILIES[pipeline_class(folder)].float32:
        return torch.float32
    return torch.bfloat16


def _load(folder: Path, part: str, dtype: torch.dtype) -> Any:
    module = _class_of(folder, part).from_pretrained(
        folder / part, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    return module.eval().requires_grad_(False)


def _class_of(folder: Path, part: str) -> Any:
    """The class of a part, as the pipeline's index names it."""
    library, name = json.loads((folder / "model_index.json").read_text("utf-8"))[part]
    return getattr({"diffusers": diffusers, "transformers": transformers}[library], name)


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
