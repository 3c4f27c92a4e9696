"""Camera motion: read from clips whose motion is known, and VBench-2.0's rule on tracks made by hand."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from gigavideo_data import video
from gigavideo_data.judges.camera import LABELS, Motion, motion, vbench2_labels
from gigavideo_data.miniature.world import CAMERAS, Scene, Thing, render

H, W, T = 120, 208, 17
PX = {  # px of the ground per frame, scale per frame
    "static": (0, 0, 1),
    "pan right": (-1.5, 0, 1),
    "pan left": (1.5, 0, 1),
    "tilt down": (0, -1.5, 1),
    "tilt up": (0, 1.5, 1),
    "zoom in": (0, 0, 1.012),
    "zoom out": (0, 0, 1 / 1.012),
}


@cache
def ground():
    """Soft noise with edges, larger than the picture."""
    rng = np.random.default_rng(0)
    noise = cv2.resize(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8), (3 * W, 3 * H), interpolation=cv2.INTER_CUBIC)
    return cv2.GaussianBlur(noise, (5, 5), 0)


def clip(dx=0.0, dy=0.0, scale=1.0, rotation=0.0, *, thing=False, frames=T):
    """A clip of the ground under a camera, in front of it perhaps a square that runs to the right."""
    made = []
    for t in range(frames):
        matrix = cv2.getRotationMatrix2D((1.5 * W, 1.5 * H), rotation * t, scale**t)
        matrix[:, 2] += (dx * t - W, dy * t - H)
        frame = cv2.warpAffine(ground(), matrix, (W, H))
        if thing:
            frame[40:80, 20 + 6 * t : 60 + 6 * t] = (230, 40, 40)
        made.append(frame)
    return np.stack(made)


def likeliest(found: Motion) -> str:
    chances = found.chances()
    return max(chances, key=lambda label: chances[label])


def read(frames_THWC: np.ndarray) -> Motion:
    found = motion(frames_THWC)
    assert found is not None
    return found


@pytest.mark.parametrize("thing", [False, True])
@pytest.mark.parametrize("label", PX)
def test_known_motion_is_read_through_h264_with_and_without_something_in_front(label, thing):
    frames_THWC = video.decode(video.encode(clip(*PX[label], thing=thing), 16.0)).frames_THWC
    found = read(frames_THWC)
    assert likeliest(found) == label
    assert found.score({label}) > 0.8
    assert all(found.score({other}) < 0.2 for other in LABELS if other != label)


def test_motion_is_measured_in_shares_of_the_shorter_side():
    found = read(clip(dx=3.0))
    assert found.dx == pytest.approx(3 * (T - 1) / H, rel=0.05)
    assert found.dy == pytest.approx(0, abs=0.01)
    assert read(clip(scale=1.01)).log_scale == pytest.approx((T - 1) * np.log(1.01), rel=0.05)
    assert abs(read(clip(rotation=1.0)).rotation) == pytest.approx(np.radians(T - 1), rel=0.05)


def test_two_moves_at_once_are_both_or_neither():
    found = read(clip(dx=-1.5, scale=1.012))
    assert found.score({"pan right", "zoom in"}) > 0.7
    assert found.score({"pan right"}) < 0.6  # a move that nobody asked for costs half


def test_the_same_clip_has_one_motion():
    assert motion(clip(dx=1.0, thing=True)) == motion(clip(dx=1.0, thing=True))


@pytest.mark.parametrize("frames", [np.full((5, 64, 64, 3), 90, np.uint8), np.zeros((1, 64, 64, 3), np.uint8)])
def test_a_picture_without_anything_to_follow_has_no_motion(frames):
    assert motion(frames) is None


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_miniatures_cameras_are_read(camera):
    scene = Scene(skill="camera_motion", things=(Thing("red", "circle"),), camera=camera, ground="textured")
    words = camera.split()
    label = f"{words[0].rstrip('s')} {words[1]}" if len(words) > 1 else "static"
    hits = 0
    for seed in range(5):
        found = motion(render(scene, np.random.default_rng(seed)))
        hits += found is not None and likeliest(found) == label
    assert hits >= 4


# --- VBench-2.0 ------------------------------------------------------------------------------------------------------

Y, X = np.meshgrid(np.linspace(20, 460, 10), np.linspace(20, 812, 10), indexing="ij")
START = np.stack([X, Y], -1)


def tracks(end, frames=16):
    steps = np.linspace(0, 1, frames)[:, None, None, None]
    return START * (1 - steps) + end * steps


def moved(dx, dy, points=START):
    return points + np.array([dx, dy])


def around(scale):
    centre = np.array([416, 240])
    return centre + (START - centre) * scale


@pytest.mark.parametrize(
    ("end", "labels"),
    [
        (moved(-30, 0), {"pan_right"}),
        (moved(30, 0), {"pan_left"}),
        (moved(0, 30), {"tilt_up"}),
        (moved(0, -30), {"tilt_down"}),
        (moved(-30, 30), {"pan_right", "tilt_up"}),
        (moved(2, 2), {"static"}),  # below 0.005 of 480 px
        (moved(3, 0), {"pan_left"}),
        # The middle one of ten points is beside the middle: a zoom fires a pan, a tilt and with them oblique as well.
        (around(1.2), {"zoom_in", "pan_left", "tilt_up", "oblique"}),
        (around(0.8), {"zoom_out", "pan_right", "tilt_down"}),
    ],
)
def test_the_rule_of_vbench2_reads_four_points(end, labels):
    assert vbench2_labels(tracks(end), 480, 832) == labels


def test_what_is_between_the_four_points_does_not_matter():
    end = moved(-30, 0)
    end[1:5, 1:5] += (200, 100)
    assert vbench2_labels(tracks(end), 480, 832) == {"pan_right"}


def test_an_orbit_is_an_upper_part_that_moves_against_the_lower():
    end = START.copy()
    end[:5] += (40, 0)
    end[5:] -= (40, 0)
    assert "orbits" in vbench2_labels(tracks(end, 41), 480, 832)
    assert "orbits" not in vbench2_labels(tracks(end, 20), 480, 832)  # fewer than two looks at it


def test_static_is_lost_in_clips_of_more_than_twenty_frames():
    assert vbench2_labels(tracks(START, 20), 480, 832) == {"static"}
    assert vbench2_labels(tracks(START, 41), 480, 832) == set()


def test_another_grid_is_refused():
    with pytest.raises(ValueError, match="10, 10, 2"):
        vbench2_labels(np.zeros((4, 9, 10, 2)), 480, 832)


def test_an_unknown_label_is_no_score():
    with pytest.raises(KeyError):
        Motion(0, 0, 0, 0, 1).score({"orbit"})
    assert replace(Motion(0, 0, 0, 0, 1), dx=1.0).score({"pan left"}) > 0.9
