"""Text-to-video by diffusers pipelines, one video at a time, seeded per row.

One video per call is what large models run at anyway; for small ones it makes a video's bytes independent of its
neighbours, so that an interrupted build resumes to the same dataset.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, FirstBlockCacheConfig
from safetensors import safe_open

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.generators.models import model_folder, profile_of
from gigavideo_data.generators.protocol import Generated
from gigavideo_data.reasons import Reason

FIRST_BLOCK_THRESHOLD = 0.05  # the library's default; part of what the profile's name means
# Which adapter a parameter is of, in the names that PEFT gives: blocks.0.attn1.to_q.lora_A.default_0.weight
_ADAPTER_NAME = re.compile(r"(?<=\.lora_[AB])\.[^.]+(?=\.(weight|bias)$)")


def _as_they_are(latents: torch.Tensor, pipeline: Any, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    del pipeline, num_frames, size
    return latents[0]


def _frames_first(latents_1FCHW: torch.Tensor, pipeline: Any, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    """CogVideoX 1.5 pads its latent frames at the start to fill the patches in time."""
    del size
    kept = (num_frames - 1) // pipeline.vae_scale_factor_temporal + 1
    return latents_1FCHW[0, -kept:].transpose(0, 1)


def _packed(latents_1ND: torch.Tensor, pipeline: Any, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    """LTX-Video's transformer sees a row of patches."""
    frames = (num_frames - 1) // pipeline.vae_temporal_compression_ratio + 1
    height, width = (side // pipeline.vae_spatial_compression_ratio for side in size)
    space, time = pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size
    latents_1CFHW: torch.Tensor = pipeline._unpack_latents(latents_1ND, frames, height, width, space, time)
    return latents_1CFHW[0]


@dataclass(frozen=True)
class Family:
    """How a pipeline is spoken to.

    Attributes:
        encoded: what its `encode_prompt` returns of one prompt, by the names under which a call takes it.
        unpacked: the latents of its last step as (C, F, H, W).
        whole: modules that stay in float32 on an accelerator.
        tiled: whether its decoder needs more memory than the rest, and so works tile by tile.
        negative: whether guidance takes a negative prompt; else it is distilled into the model.
        fps: whether a call is told the frame rate.
    """

    encoded: tuple[str, ...]
    unpacked: Callable[[torch.Tensor, Any, int, tuple[int, int]], torch.Tensor] = _as_they_are
    whole: tuple[str, ...] = ()
    tiled: bool = False
    negative: bool = True
    fps: bool = False


FAMILIES = {  # by the class that a pipeline's index names
    "WanPipeline": Family(("prompt_embeds",), whole=("vae",)),
    "HunyuanVideoPipeline": Family(
        ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"), tiled=True, negative=False
    ),
    "CogVideoXPipeline": Family(("prompt_embeds",), _frames_first, tiled=True),
    "LTXPipeline": Family(("prompt_embeds", "prompt_attention_mask"), _packed, fps=True),
}


class DiffusersGenerator:
    """A pipeline, loaded once per worker, on the first accelerator if there is one."""

    def __init__(self, generator: dict[str, Any]) -> None:
        """Load a pipeline.

        Args:
            generator: steps, guidance, negative_prompt and profile as in the `generator` column; `load`,
                `load_revision` and `load_adapter`, where pipeline and LoRA are found; `compile`, whether the
                transformer's blocks are compiled.

        Raises:
            RunError: a pipeline of a family that is not in the table, or an adapter that does not fit it.
            HubError: the Hub does not give it.
        """
        self.settings = generator
        self.profile = profile_of(generator["load"])
        folder = model_folder(generator["load"], generator.get("load_revision"))
        name = DiffusionPipeline.load_config(folder)["_class_name"]
        if name not in FAMILIES:
            raise RunError(f"generators: {name} is not among {', '.join(FAMILIES)}")
        self.family = FAMILIES[name]
        on_gpu = torch.cuda.is_available()
        self.device = "cuda" if on_gpu else "cpu"
        if not on_gpu:
            torch.set_num_threads(1)  # workers are the parallelism; it also keeps the bytes equal on any pool size
        dtypes = {"default": torch.bfloat16, **dict.fromkeys(self.family.whole, torch.float32)}
        self.pipeline = DiffusionPipeline.from_pretrained(
            folder, dtype=dtypes if on_gpu else torch.float32, local_files_only=True, use_safetensors=True
        )
        if generator.get("load_adapter"):
            load_adapter(self.pipeline, Path(generator["load_adapter"]).expanduser())
        if generator["profile"] == "first_block_cache":
            self.pipeline.transformer.enable_cache(FirstBlockCacheConfig(FIRST_BLOCK_THRESHOLD))
        if generator.get("compile"):
            self.pipeline.transformer.compile_repeated_blocks()
        self._place()
        self.pipeline.set_progress_bar_config(disable=True)
        self._encoded = lru_cache(maxsize=1)(self._encode)  # samples of one prompt come after each other
        self._negative = self._encode(generator["negative_prompt"]) if self._guided() else {}

    def _guided(self) -> bool:
        return self.family.negative and self.settings["guidance"] > 1

    def _place(self) -> None:
        """All of it on the accelerator if it takes less than half of it; else each part only while it works."""
        if self.device == "cpu":
            return
        modules = [part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module)]
        num_bytes = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
        if num_bytes * 2 < torch.cuda.get_device_properties(0).total_memory:
            self.pipeline.to(self.device)
        else:
            self.pipeline.enable_model_cpu_offload()
        if self.family.tiled:
            self.pipeline.vae.enable_tiling()

    def _encode(self, text: str) -> dict[str, torch.Tensor]:
        """What the transformer is told of a text, by the names of a call's arguments."""
        only_this = {"do_classifier_free_guidance": False} if self.family.negative else {}
        returned = self.pipeline.encode_prompt(
            prompt=text, max_sequence_length=self.profile.max_tokens, device=torch.device(self.device), **only_this
        )
        return dict(zip(self.family.encoded, returned, strict=False))  # what follows is of the negative prompt: None

    @torch.inference_mode()
    def generate(self, prompt: str, seed: int) -> Generated:
        """Make one video; the same prompt and seed give the same video on one machine.

        Raises:
            RowError: a value of the video is not finite (bad_video).
        """
        pipeline, profile = self.pipeline, self.profile
        last: list[torch.Tensor] = []

        def keep(_: Any, __: int, ___: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            last[:] = [tensors["latents"]]
            return {}

        frames_1THWC = pipeline(
            **self._encoded(prompt),
            **{f"negative_{name}": value for name, value in self._negative.items()},
            height=profile.height,
            width=profile.width,
            num_frames=profile.num_frames,
            num_inference_steps=self.settings["steps"],
            guidance_scale=self.settings["guidance"],
            generator=torch.Generator().manual_seed(seed),
            max_sequence_length=profile.max_tokens,
            callback_on_step_end=keep,
            output_type="np",
            **({"frame_rate": profile.fps} if self.family.fps else {}),
        ).frames
        if not np.isfinite(frames_1THWC).all():
            raise RowError(Reason.BAD_VIDEO, "the decoded video holds values that are not finite")
        frames_THWC = (frames_1THWC[0] * 255).round().astype(np.uint8)
        size = profile.height, profile.width
        latents_CFHW = self.family.unpacked(last[0], pipeline, profile.num_frames, size)
        return Generated(frames_THWC, profile.fps, latents_CFHW.float().cpu())


def load_adapter(pipeline: Any, folder: Path) -> None:
    """Load a LoRA, all of whose weights must find a parameter: the library only warns of those that do not.

    Raises:
        RunError: some do not; the message names one of them, and a name that would have been found.
    """
    options = {"local_files_only": True, "use_safetensors": True}
    keys = list(pipeline.lora_state_dict(folder, **options))
    if any("dora_scale" in key for file in folder.glob("*.safetensors") for key in _names_in(file)):
        raise RunError(f"adapter {folder.name}: it is a DoRA, whose scales diffusers leaves out; use a plain LoRA")
    pipeline.load_lora_weights(folder, **options)
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    loaded = {
        f"{name}.{_ADAPTER_NAME.sub('', parameter)}"
        for name, part in parts.items()
        for parameter, _ in part.named_parameters()
        if ".lora_" in parameter
    }
    lost = [key for key in keys if key not in loaded]
    if lost or not loaded:
        layers = (name for name, layer in pipeline.transformer.named_modules() if isinstance(layer, torch.nn.Linear))
        raise RunError(
            f"adapter {folder.name}: {len(lost)} of its {len(keys)} weights fit no parameter of the model, such as "
            f"{lost[0] if lost else 'none at all'}; names such as transformer.{next(layers)}.lora_A.weight do"
        )


def _names_in(file: Path) -> list[str]:
    with safe_open(file, "pt") as weights:
        return list(weights.keys())
