"""The protocol of feature networks, and how features are pooled over a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

PARTS = 3  # of a clip in time, pooled apart, so that the order of events is not lost


class ClipFeatures(Protocol):
    """A feature network is loaded once per worker and measures one batch of clips at a time."""

    def features(self, clips_THWC: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The pooled features (D,) float of each clip; D is the same for all clips.

        The other clips of a batch, their number and their order must not change a result.

        Args:
            clips_THWC: uint8 RGB frames of each clip.
        """
        ...


def parts(num_frames: int) -> list[slice]:
    """The thirds of a clip, in frames of any kind; none is empty, so in a short clip they overlap."""
    return [slice(at * num_frames // PARTS, -(-(at + 1) * num_frames // PARTS)) for at in range(PARTS)]
