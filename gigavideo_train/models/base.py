"""What a transformer is told of each sample of a batch besides its noisy latents and its sigma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional


class Condition(NamedTuple):
    """Texts, padded with zeros to one length, and how fast the clips run.

    Attributes:
        text_BLD: embeddings, float32.
        mask_BL: which of them are tokens of the prompt, bool.
        fps_B: frames of the clip per second, Hz.
    """

    text_BLD: torch.Tensor
    mask_BL: torch.Tensor
    fps_B: torch.Tensor


def condition(texts_LD: Sequence[torch.Tensor], max_tokens: int, fps: Sequence[float]) -> Condition:
    """Put together embeddings of any lengths up to `max_tokens`, and frame rates in Hz."""
    lengths_B = torch.tensor([len(text_LD) for text_LD in texts_LD])
    text_BLD = torch.stack([functional.pad(text_LD, (0, 0, 0, max_tokens - len(text_LD))) for text_LD in texts_LD])
    return Condition(text_BLD, torch.arange(max_tokens) < lengths_B[:, None], torch.tensor(fps, dtype=torch.float32))
