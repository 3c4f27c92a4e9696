"""Motion, brightness and length of a clip, from its decoded frames."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

MAX_SIDE_PX = 256  # longer side of the frames in which motion is measured; larger frames are shrunk
# Of Farneback's dense optical flow: a window that spans a small object, and enough levels for fast ones.
FARNEBACK: dict[str, Any] = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 13,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.1,
    "flags": 0,
}


def measure(frames_THWC: np.ndarray, fps: float) -> dict[str, float]:
    """Measure a clip.

    Args:
        frames_THWC: uint8 RGB.
        fps: Hz.

    Returns:
        `motion_px`: mean length of the optical flow over all pixels and pairs of consecutive frames, in px of the clip
        per frame, 0 of a clip of one frame; `brightness`: mean grey level, 0 to 255; `length_s`: duration in seconds.
    """
    import cv2  # not installed on every machine that reads this module

    height, width = frames_THWC.shape[1:3]
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk_THWC = [cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA) for frame_HWC in frames_THWC]
    flows = [_flow(before_HWC, after_HWC) for before_HWC, after_HWC in pairwise(shrunk_THWC)]
    return {
        "motion_px": float(np.mean(flows)) / scale if flows else 0.0,
        "brightness": float(np.mean([cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY) for frame_HWC in shrunk_THWC])),
        "length_s": len(frames_THWC) / fps,
    }


def _flow(before_HWC: np.ndarray, after_HWC: np.ndarray) -> float:
    """Mean over the pixels of the longest flow of the three colours, in px.

    Of grey levels alone, red or blue things on a ground of their grey level would not move.
    """
    import cv2

    if np.array_equal(before_HWC, after_HWC):
        return 0.0  # Farneback gives a little flow at the border of equal frames
    lengths_CHW = [
        np.linalg.norm(cv2.calcOpticalFlowFarneback(before_HW, after_HW, None, **FARNEBACK), axis=-1)
        for before_HW, after_HW in zip(cv2.split(before_HWC), cv2.split(after_HWC), strict=True)
    ]
    return float(np.max(lengths_CHW, axis=0).mean())
