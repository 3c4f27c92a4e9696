"""Text-to-video by diffusers pipelines, in batches of one size, with a seed per row.

The rounding of sums depends on the shape of a batch. So every call has the same shape: a smaller batch is filled with
copies of its last row. Then the other rows do not change a video's bytes, and an interrupted build resumes to the same
dataset.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ContextParallelConfig, DiffusionPipeline, FirstBlockCacheConfig, LTXPipeline
from safetensors import safe_open

from gigavideo_data import heartbeat
from gigavideo_data.errors import RowError, RunError
from gigavideo_data.models import attention
from gigavideo_data.models.generators.base import Generated
from gigavideo_data.models.generators.batch_kernels import use_batch_kernels
from gigavideo_data.models.generators.profile_table import Profile
from gigavideo_data.models.generators.profiles import batch_size_of, low_noise_guidance, model_folder, profile_of
from gigavideo_data.models.precision import compute_in_bfloat16
from gigavideo_data.reasons import Reason

log = logging.getLogger(__name__)

FIRST_BLOCK_THRESHOLD = 0.05  # the library's default; fixed, since the profile's name stands for it
# The adapter's name in PEFT's names of parameters: blocks.0.attn1.to_q.lora_A.default_0.weight
_ADAPTER_NAME = re.compile(r"(?<=\.lora_[AB])\.[^.]+(?=\.(weight|bias)$)")


def _unchanged(latents_BCFHW: torch.Tensor, pipeline: Any, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    del pipeline, num_frames, size
    return latents_BCFHW


def _trim_padding(latents_BFCHW: torch.Tensor, pipeline: Any, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    """CogVideoX 1.5 pads its latent frames at the start to a multiple of the temporal patch."""
    del size
    kept = (num_frames - 1) // pipeline.vae_scale_factor_temporal + 1
    return latents_BFCHW[:, -kept:].transpose(1, 2)


def _unpacked_patches(latents_BND: torch.Tensor, pipeline: Any, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    """LTX-Video's latents are a sequence of patches."""
    frames = (num_frames - 1) // pipeline.vae_temporal_compression_ratio + 1
    height, width = (side // pipeline.vae_spatial_compression_ratio for side in size)
    space, time = pipeline.transformer_spatial_patch_size, pipeline.transformer_temporal_patch_size
    latents_BCFHW: torch.Tensor = pipeline._unpack_latents(latents_BND, frames, height, width, space, time)
    return latents_BCFHW


@dataclass(frozen=True)
class PipelineFamily:
    """How a family of pipelines is called.

    Attributes:
        embeddings: the results of its `encode_prompt`, by the names under which a call takes them.
        unpack: a function from the latents of the last step to (B, C, F, H, W).
        float32: modules that stay in float32 on an accelerator.
        tiled: whether the decoder works tile by tile, because it needs more memory than the rest.
        negative: whether guidance takes a negative prompt; else guidance is distilled into the model.
        fps: whether a call takes the frame rate.
        joint: whether videos and texts attend to each other in one sequence, not by cross-attention; None where the
            calls of attention were not looked at, so that torch chooses their kernel.
        masked: whether the padding of texts is masked.
        guider: whether guidance is a part of the pipeline instead of an argument. Such a pipeline has no callback and
            no limit on the length of a text, and its latents are decoded here.
        options: further arguments of a call.
    """

    embeddings: tuple[str, ...]
    unpack: Callable[[torch.Tensor, Any, int, tuple[int, int]], torch.Tensor] = _unchanged
    float32: tuple[str, ...] = ()
    tiled: bool = False
    negative: bool = True
    fps: bool = False
    joint: bool | None = False
    masked: bool = False
    guider: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


# The sampling that LTX-2 was published with; the library's defaults are those of LTX-2.3.
_LTX2_OPTIONS = {
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_rescale": 0.0,
    "use_cross_timestep": False,
}
FAMILIES = {  # by the class name in a pipeline's index
    "WanPipeline": PipelineFamily(("prompt_embeds",), float32=("vae",)),
    "HunyuanVideoPipeline": PipelineFamily(
        ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"),
        tiled=True,
        negative=False,
        joint=True,
        masked=True,
    ),
    "HunyuanVideo15Pipeline": PipelineFamily(
        ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2"),
        tiled=True,
        joint=None,
        guider=True,
    ),
    "CogVideoXPipeline": PipelineFamily(("prompt_embeds",), _trim_padding, tiled=True, joint=True),
    "LTXPipeline": PipelineFamily(("prompt_embeds", "prompt_attention_mask"), _unpacked_patches, fps=True, masked=True),
    "LTX2Pipeline": PipelineFamily(
        ("prompt_embeds", "prompt_attention_mask"), _unpacked_patches, fps=True, joint=None, options=_LTX2_OPTIONS
    ),
}


class DiffusersGenerator:
    """One pipeline, on the current accelerator if there is one (see `VideoGenerator`)."""

    def __init__(self, generator: dict[str, Any]) -> None:
        """Load a pipeline.

        Args:
            generator: steps, guidance, negative_prompt and profile as in the `generator` column; `load`,
                `load_revision` and `load_adapter`, where pipeline and LoRA are; `compile`, whether the transformer's
                blocks are compiled; `split_over`, the number of processes that compute a video together; `weights`,
                "float32" if those of the transformer are not rounded.

        Raises:
            RunError: the pipeline's family is not in the table, or the adapter does not fit it.
            HubError: the model cannot be downloaded.
        """
        self.settings = generator
        self.profile, self.batch_size = profile_of(generator["load"]), batch_size_of(generator)
        folder = model_folder(generator["load"], generator.get("load_revision"))
        name = DiffusionPipeline.load_config(folder)["_class_name"]
        if name not in FAMILIES:
            raise RunError(f"generators: {name} is not one of {', '.join(FAMILIES)}; name another model")
        self.family = FAMILIES[name]
        on_gpu = torch.cuda.is_available()
        self.device = "cuda" if on_gpu else "cpu"
        if not on_gpu:
            torch.set_num_threads(1)  # the workers run in parallel; it also gives equal bytes
        keeps_float32 = on_gpu and generator.get("weights") == "float32"
        dtypes = {"default": torch.bfloat16, **dict.fromkeys(self.family.float32, torch.float32)}
        dtypes |= {"transformer": torch.float32} if keeps_float32 else {}
        self.pipeline = DiffusionPipeline.from_pretrained(
            folder, dtype=dtypes if on_gpu else torch.float32, local_files_only=True, use_safetensors=True
        )
        if generator.get("load_adapter"):
            load_adapter(self.pipeline, Path(generator["load_adapter"]).expanduser())
        if generator["profile"] == "paper":
            _set_shift(self.pipeline, generator["shift"])
        if self.family.guider:
            self.pipeline.guider = self.pipeline.guider.new(guidance_scale=generator["guidance"])
        if keeps_float32:
            compute_in_bfloat16(self.pipeline.transformer)
        for transformer in _transformers(self.pipeline):
            if self.family.guider:  # has no callback that could send heartbeats
                transformer.register_forward_hook(lambda *_: heartbeat.beat())
            if generator["profile"] == "first_block_cache":
                transformer.enable_cache(FirstBlockCacheConfig(FIRST_BLOCK_THRESHOLD))
            if generator.get("split_over"):
                transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=generator["split_over"]))
            if generator.get("compile"):
                transformer.compile_repeated_blocks()
        self._place()
        choice = attention.choose(attention_shapes(self.pipeline, self.family, self.profile), torch.device(self.device))
        log.info("%s", choice.note)
        self.kernels = choice.order
        self.pipeline.set_progress_bar_config(disable=True)
        self._encoded = lru_cache(maxsize=1)(self._encode)  # the samples of a prompt follow each other
        self._negative = self._encode(generator["negative_prompt"]) if self._guided() else {}

    def _guided(self) -> bool:
        return self.family.negative and self.settings["guidance"] > 1

    def _place(self) -> None:
        """Put all modules on the accelerator if they need less than half of its memory, else each while it runs."""
        if self.device == "cpu":
            if self.batch_size > 1:
                use_batch_kernels(self.pipeline)
            return
        modules = [part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module)]
        num_bytes = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
        here = torch.cuda.current_device()
        if num_bytes * 2 < torch.cuda.get_device_properties(here).total_memory:
            self.pipeline.to(self.device)
        else:
            self.pipeline.enable_model_cpu_offload(gpu_id=here)
        if self.family.tiled:
            self.pipeline.vae.enable_tiling()

    def _encode(self, text: str) -> dict[str, torch.Tensor]:
        """The embeddings of a text, by the names of a call's arguments."""
        options: dict[str, Any] = {} if self.family.guider else {"max_sequence_length": self.profile.max_tokens}
        if self.family.negative and not self.family.guider:
            options["do_classifier_free_guidance"] = False  # one text
        returned = self.pipeline.encode_prompt(prompt=text, device=torch.device(self.device), **options)
        return dict(zip(self.family.embeddings, returned, strict=False))  # the rest, of the negative prompt, is None

    def _encode_all(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The embeddings of texts, each encoded alone."""
        encoded = [self._encoded(text) for text in texts]
        return {name: torch.cat([each[name] for each in encoded]) for name in encoded[0]}

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        """Make up to `batch_size` videos (see `VideoGenerator`).

        Raises:
            RowError: a value of a video is not finite (bad_video).
        """
        missing = self.batch_size - len(prompts)
        assert missing >= 0, f"{len(prompts)} prompts for a batch of {self.batch_size}"
        texts = self._encode_all([*prompts, *[prompts[-1]] * missing])
        with attention.use_kernels(self.kernels):
            frames_BTCHW, latents = self._sampled(texts, [*seeds, *[seeds[-1]] * missing])
        size = self.profile.height, self.profile.width
        latents_BCFHW = self.family.unpack(latents, self.pipeline, self.profile.num_frames, size).float().cpu()
        return [
            Generated(to_uint8(frames_TCHW), self.profile.fps, latents_CFHW)
            for frames_TCHW, latents_CFHW in zip(frames_BTCHW[: len(prompts)], latents_BCFHW, strict=False)
        ]  # without the copies

    def _sampled(self, texts: dict[str, torch.Tensor], seeds: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (B, T, C, H, W) in [0, 1] on the device, and the latents of the last step as the pipeline has them."""
        pipeline, profile = self.pipeline, self.profile
        options: dict[str, Any] = {
            **texts,
            **{f"negative_{name}": torch.cat([value] * self.batch_size) for name, value in self._negative.items()},
            "height": profile.height,
            "width": profile.width,
            "num_frames": profile.num_frames,
            "num_inference_steps": self.settings["steps"],
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            **self.family.options,
        }
        if self.family.guider:
            latents = pipeline(**options, output_type="latent").frames
            return self._decode(latents), latents
        if self.family.fps:
            options["frame_rate"] = profile.fps
        second = low_noise_guidance(self.settings)
        if second is not None:
            options["guidance_scale_2"] = second
        last: list[torch.Tensor] = []

        def keep(_: Any, __: int, ___: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            last[:] = [tensors["latents"]]
            heartbeat.beat()
            return {}

        frames_BTCHW = pipeline(
            **options,
            guidance_scale=self.settings["guidance"],
            max_sequence_length=profile.max_tokens,
            callback_on_step_end=keep,
            output_type="pt",
        ).frames
        return frames_BTCHW, last[0]

    def _decode(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        """What a pipeline with a guider does after its last step, which returns the latents or the frames, not both.

        Video by video: the mask in the autoencoder of HunyuanVideo 1.5 fits a batch of one.
        """
        vae = self.pipeline.vae
        plain_BCFHW = latents_BCFHW.to(vae.dtype) / vae.config.scaling_factor
        video_BCTHW = torch.cat([vae.decode(one_1CFHW, return_dict=False)[0] for one_1CFHW in plain_BCFHW.split(1)])
        self.pipeline.maybe_free_model_hooks()
        frames_BTCHW: torch.Tensor = self.pipeline.video_processor.postprocess_video(video_BCTHW, output_type="pt")
        return frames_BTCHW


def to_uint8(frames_TCHW: torch.Tensor) -> np.ndarray:
    """Frames (T, C, H, W) in [0, 1] as uint8 (T, H, W, C), rounded on their device: a quarter of the bytes is copied.

    Raises:
        RowError: a value is not finite (bad_video).
    """
    frames_TCHW = frames_TCHW.float()
    if not bool(frames_TCHW.isfinite().all()):
        raise RowError(Reason.BAD_VIDEO, "the decoded video has values that are not finite")
    frames_THWC: np.ndarray = (frames_TCHW * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return frames_THWC


def _transformers(pipeline: Any) -> Iterator[Any]:
    """The transformer of a pipeline, and that of low noise where it has one."""
    for name in ("transformer", "transformer_2"):
        if getattr(pipeline, name, None) is not None:
            yield getattr(pipeline, name)


def _set_shift(pipeline: Any, shift: float) -> None:
    config = pipeline.scheduler.config
    key = "flow_shift" if "flow_shift" in config else "shift"
    pipeline.scheduler = type(pipeline.scheduler).from_config(config, **{key: shift})


def attention_shapes(pipeline: Any, family: PipelineFamily, profile: Profile) -> list[attention.Shape]:
    """The calls of attention in one forward pass of a pipeline's transformer; none where they were not looked at."""
    if family.joint is None:
        return []
    config = pipeline.transformer.config
    heads, width, num_texts = config.num_attention_heads, config.attention_head_dim, profile.max_tokens
    num_tokens = _num_tokens(pipeline, profile)
    if family.joint:
        both = num_tokens + num_texts
        return [attention.Shape(heads, both, both, width, family.masked)]
    return attention.shapes_of(heads, width, num_tokens, num_texts, masked=family.masked)


def _num_tokens(pipeline: Any, profile: Profile) -> int:
    """Number of tokens that the transformer makes of a video of the profile's size."""
    patch = pipeline.transformer.config.patch_size
    if isinstance(pipeline, LTXPipeline):
        ratios = pipeline.vae_temporal_compression_ratio, pipeline.vae_spatial_compression_ratio
    else:
        ratios = pipeline.vae_scale_factor_temporal, pipeline.vae_scale_factor_spatial
    depth, side = patch[:2] if isinstance(patch, Sequence) else (pipeline.transformer.config.patch_size_t or 1, patch)
    frames = -(-((profile.num_frames - 1) // ratios[0] + 1) // depth)  # the last ones are padded
    return frames * (profile.height // ratios[1] // side) * (profile.width // ratios[1] // side)


def load_adapter(pipeline: Any, folder: Path, name: str | None = None) -> None:
    """Load a LoRA and check that every weight was used: the library only warns of those that fit no parameter.

    Args:
        pipeline: of diffusers.
        folder: of the LoRA.
        name: of the adapter in the pipeline; None for the library's choice.

    Raises:
        RunError: a weight fits no parameter; the message has its name, and one that fits.
    """
    options = {"local_files_only": True, "use_safetensors": True}
    keys = list(pipeline.lora_state_dict(folder, **options))
    if any("dora_scale" in key for file in folder.glob("*.safetensors") for key in _names_in(file)):
        raise RunError(f"adapter {folder.name}: it is a DoRA, whose scales diffusers ignores; use a plain LoRA")
    pipeline.load_lora_weights(folder, adapter_name=name, **options)
    parts = {role: part for role, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    loaded = {
        f"{role}.{_ADAPTER_NAME.sub('', parameter)}"
        for role, part in parts.items()
        for parameter, _ in part.named_parameters()
        if ".lora_" in parameter
    }
    unused = [key for key in keys if key not in loaded]
    if unused or not loaded:
        layers = (name for name, layer in pipeline.transformer.named_modules() if isinstance(layer, torch.nn.Linear))
        raise RunError(
            f"adapter {folder.name}: {len(unused)} of its {len(keys)} weights fit no parameter of the model, such as "
            f"{unused[0] if unused else 'none at all'}; names such as transformer.{next(layers)}.lora_A.weight do"
        )


def _names_in(file: Path) -> list[str]:
    with safe_open(file, "pt") as weights:
        return list(weights.keys())
