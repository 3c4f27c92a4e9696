"""What every generator is: a thing that makes a video of a prompt and a seed."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gigavideo_data.errors import RowError
from gigavideo_data.reasons import Reason

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Generated:
    """One video: frames_THWC uint8 RGB, fps in Hz, and the final latents (C, F, H, W) as the transformer sees them."""

    frames_THWC: np.ndarray
    fps: float
    latents_CFHW: torch.Tensor


@dataclass(frozen=True)
class Shape:
    """What a generator's videos are like: frames, px, Hz."""

    num_frames: int
    height: int
    width: int
    fps: float


def checked(made: Generated, shape: Shape) -> Generated:
    """A video of the shape that its model makes, with finite latents.

    Raises:
        RowError: it is another one (bad_video), or its latents cannot be used (bad_latents); with what was returned.
    """
    frames, expected = made.frames_THWC, (shape.num_frames, shape.height, shape.width, 3)
    if frames.dtype != np.uint8 or frames.shape != expected:
        raise RowError(
            Reason.BAD_VIDEO, f"the generator returned frames {frames.dtype} {frames.shape}, expected uint8 {expected}"
        )
    if not isfinite(made.fps) or abs(made.fps - shape.fps) > 1e-3:
        raise RowError(Reason.BAD_VIDEO, f"the generator returned {made.fps:g} Hz, expected {shape.fps:g} Hz")
    latents = made.latents_CFHW
    if latents.ndim != 4 or 0 in latents.shape:
        raise RowError(
            Reason.BAD_LATENTS, f"the generator returned latents {tuple(latents.shape)}, expected (C, F, H, W)"
        )
    num_odd = int((~latents.isfinite()).sum())
    if num_odd:
        raise RowError(Reason.BAD_LATENTS, f"{num_odd} of {latents.numel()} values of the latents are not finite")
    return made


class VideoGenerator(Protocol):
    """A generator is loaded once per worker and makes one video at a time."""

    def generate(self, prompt: str, seed: int) -> Generated:
        """Make one video; the same prompt and seed give the same video on one machine."""
        ...
