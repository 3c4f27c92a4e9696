"""What every generator is: a thing that makes a video of a prompt and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Generated:
    """One video: frames_THWC uint8 RGB, fps in Hz, and the final latents (C, F, H, W) as the transformer sees them."""

    frames_THWC: np.ndarray
    fps: float
    latents_CFHW: torch.Tensor


class VideoGenerator(Protocol):
    """A generator is loaded once per worker and makes one video at a time."""

    def generate(self, prompt: str, seed: int) -> Generated:
        """Make one video; the same prompt and seed give the same video on one machine."""
        ...
