"""The protocol of feature networks, and how features are pooled over a clip."""

from __future__ import annotations

from typing import Protocol

import numpy as np

PARTS = 3  # of a clip in time, pooled apart, so that the order of events is not lost


class ClipFeatures(Protocol):
    """A feature network is loaded once per worker and measures one clip at a time."""

    def features(self, frames_THWC: np.ndarray) -> np.ndarray:
        """The pooled features (D,) float of one clip; D is the same for all clips.

        Args:
            frames_THWC: uint8 RGB.
        """
        ...


def parts(num_frames: int) -> list[slice]:
    """The thirds of a clip, in frames of any kind; none is empty, so in a short clip they overlap."""
    return [slice(at * num_frames // PARTS, -(-(at + 1) * num_frames // PARTS)) for at in range(PARTS)]
