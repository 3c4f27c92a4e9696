"""Motion, brightness and length of clips."""

import numpy as np
import pytest

from gigavideo_data.io import video
from gigavideo_data.pipeline.clip_measures import MAX_SIDE_PX, measure


def texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


def sliding(height: int, width: int, step: int, num_frames: int = 6) -> np.ndarray:
    picture = texture(height, width + step * num_frames + 8)
    return np.stack([picture[:, step * at : step * at + width] for at in range(num_frames)])


def test_a_still_clip_has_no_motion_also_after_compression() -> None:
    still = np.repeat(texture(48, 48)[None], 8, axis=0)
    assert measure(still, 8.0)["motion_px"] == 0
    assert measure(video.decode(video.encode(still, 8.0)).frames_THWC, 8.0)["motion_px"] < 0.05
    assert measure(still[:1], 8.0)["motion_px"] == 0


def test_motion_is_in_px_of_the_clip_per_frame_also_where_frames_are_shrunk() -> None:
    assert measure(sliding(64, 64, 2), 8.0)["motion_px"] == pytest.approx(2, rel=0.25)
    assert measure(sliding(2 * MAX_SIDE_PX, 2 * MAX_SIDE_PX, 4), 8.0)["motion_px"] == pytest.approx(4, rel=0.25)


def test_motion_of_one_colour_on_a_ground_of_its_grey_level_is_seen() -> None:
    frames = np.full((6, 48, 48, 3), 100, np.uint8)
    for at in range(6):
        frames[at, 16:32, 4 * at : 4 * at + 16] = (225, 45, 56)  # the grey level is 100
    assert measure(frames, 8.0)["motion_px"] > 0.2


def test_brightness_and_length() -> None:
    found = measure(np.full((12, 16, 16, 3), 40, np.uint8), 8.0)
    assert (found["brightness"], found["length_s"]) == (40, 1.5)
