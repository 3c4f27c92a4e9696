"""The interface of the training loop to a model family: conditioning, and the protocol that a family implements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional


class Condition(NamedTuple):
    """What a transformer is conditioned on, for each sample of a batch, besides noisy latents and sigma.

    Attributes:
        text_BLD: text embeddings, float32, padded with zeros to one length.
        mask_BL: which of them belong to tokens of the prompt, bool.
        fps_B: frame rate of the clip, Hz, float32.
    """

    text_BLD: torch.Tensor
    mask_BL: torch.Tensor
    fps_B: torch.Tensor


# velocity(noisy_BCFHW, sigma_B, condition) -> predicted noise - clean (B, C, F, H, W), float32
Velocity = Callable[[torch.Tensor, torch.Tensor, Condition], torch.Tensor]


def make_condition(texts_LD: Sequence[torch.Tensor], max_tokens: int, fps: Sequence[float]) -> Condition:
    """Batch the embeddings of prompts.

    Args:
        texts_LD: one (L, D) float32 tensor per prompt, L at most `max_tokens`.
        max_tokens: length after padding.
        fps: frame rate per clip, Hz.
    """
    lengths_B = torch.tensor([len(text_LD) for text_LD in texts_LD])
    text_BLD = torch.stack([functional.pad(text_LD, (0, 0, 0, max_tokens - len(text_LD))) for text_LD in texts_LD])
    return Condition(text_BLD, torch.arange(max_tokens) < lengths_B[:, None], torch.tensor(fps, dtype=torch.float32))


class Family(Protocol):
    """How one kind of diffusers pipeline encodes, decodes and predicts. Each family is a module with these names.

    `pipeline` is the result of `load_pipeline`. Where a transformer is passed too, only the settings of the pipeline
    are read. Latents are normalised as the transformer sees them.
    """

    @property
    def BLOCKS(self) -> str:
        """Name of the transformer's list of equal blocks."""

    @property
    def LORA_TARGETS(self) -> list[str]:
        """Names of the linear layers that get a LoRA."""

    @property
    def MASKS_TEXT(self) -> bool:
        """Whether cross-attention has a mask of the text."""

    def encode_video(self, pipeline: Any, frames_THWC: np.ndarray) -> torch.Tensor:
        """Latents (C, F, H, W) float32 on the CPU of uint8 RGB frames: the mode of the posterior."""

    def latents_shape(self, pipeline: Any, num_frames: int, height: int, width: int) -> tuple[int, ...]:
        """(C, F, H, W) of the latents of a clip with this many frames and this size in px, without encoding it."""

    def decode(self, pipeline: Any, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        """Frames (B, T, H, W, C) float in [0, 1], as the pipeline decodes them; differentiable."""

    def encode_prompt(self, pipeline: Any, prompt: str, max_tokens: int) -> torch.Tensor:
        """Embedding (L, D) float32 on the CPU, one row per token, without padding; L is at most `max_tokens`."""

    def num_tokens(self, transformer: Any, shape_CFHW: Sequence[int]) -> int:
        """Number of tokens that the transformer makes of latents of this shape."""

    def set_timesteps(self, pipeline: Any, num_steps: int, shape_CFHW: Sequence[int], device: torch.device) -> None:
        """Prepare the scheduler of the pipeline for sampling latents of this shape, as the pipeline does."""

    def velocity(
        self,
        pipeline: Any,
        transformer: Any,
        noisy_BCFHW: torch.Tensor,
        sigma_B: torch.Tensor,
        condition: Condition,
    ) -> torch.Tensor:
        """Predicted noise - clean, (B, C, F, H, W); sigma is in (0, 1)."""
