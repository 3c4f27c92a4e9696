"""The protocol of text-to-video generators, and the check of what one returns."""

from __future__ import annotations

from collections.abc import Sequence
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
    """One video.

    Attributes:
        frames_THWC: (T, H, W, 3) uint8 RGB.
        fps: Hz.
        latents_CFHW: (C, F, H, W) float, the final latents normalised as the transformer sees them; None of a generator
            that has none, such as a commercial API.
    """

    frames_THWC: np.ndarray
    fps: float
    latents_CFHW: torch.Tensor | None = None


@dataclass(frozen=True)
class Shape:
    """The shape of a model's videos: number of frames, px, px, Hz."""

    num_frames: int
    height: int
    width: int
    fps: float


class VideoGenerator(Protocol):
    """A generator is loaded once per worker and makes one batch of videos at a time."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Generated]:
        """Make one video for each prompt and seed, in order.

        On one machine, prompt and seed decide a video, bit by bit. The other rows of the batch, their number and their
        order must not change it: an interrupted build resumes with other batches, and must give the same dataset.

        Args:
            prompts: at most as many as the model's batch size (see `profiles.batch_size_of`). A plug-in gets one.
            seeds: one per prompt, in [0, 2**31).

        Raises:
            RowError: a prompt cannot be made into a video. Each row of the batch is tried again alone, and the row that
                fails alone is rejected with the reason.
            ConnectionError, TimeoutError: a service did not answer; the rows are tried again, up to `limits.attempts`.
            DeadEngineError: the engine of this process is dead; the process ends and the rows are done again.
            RunError: no prompt can be made into a video; the run stops.
        """
        ...


def checked(video: Generated, shape: Shape | None) -> Generated:
    """The video, if it has the expected shape and finite latents.

    Args:
        video: as a generator returned it.
        shape: of the model's videos; None where a generator chooses it, as a plug-in does.

    Raises:
        RowError: frames or frame rate are not as expected (bad_video), or the latents cannot be used (bad_latents).
    """
    frames = video.frames_THWC
    expected = (shape.num_frames, shape.height, shape.width, 3) if shape else "(T, H, W, 3)"
    fits = frames.shape == expected if shape else frames.ndim == 4 and frames.shape[3] == 3 and frames.size > 0
    if frames.dtype != np.uint8 or not fits:
        raise RowError(
            Reason.BAD_VIDEO, f"the generator returned frames {frames.dtype} {frames.shape}, expected uint8 {expected}"
        )
    if not (isfinite(video.fps) and video.fps > 0) or (shape and abs(video.fps - shape.fps) > 1e-3):
        rate = f"{shape.fps:g} Hz" if shape else "a positive number"
        raise RowError(Reason.BAD_VIDEO, f"the generator returned {video.fps:g} Hz, expected {rate}")
    latents = video.latents_CFHW
    if latents is None:
        return video
    if latents.ndim != 4 or 0 in latents.shape:
        raise RowError(
            Reason.BAD_LATENTS, f"the generator returned latents {tuple(latents.shape)}, expected (C, F, H, W)"
        )
    num_odd = int((~latents.isfinite()).sum())
    if num_odd:
        raise RowError(Reason.BAD_LATENTS, f"{num_odd} of {latents.numel()} values of the latents are not finite")
    return video
