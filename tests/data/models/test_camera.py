"""Camera motion, measured in clips whose motion is known."""

from dataclasses import asdict, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from gigavideo_data.commands.plan import DryRunRunner
from gigavideo_data.io import video
from gigavideo_data.miniature.world import CAMERAS, Scene, Thing, render
from gigavideo_data.models.judges.camera import LABELS, RULE, CameraJudge, CameraQuestions, Motion, Unknown, motion
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.steps import Context, reward
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Camera, Recipe
from gigavideo_data.rows import MeasurementEntry
from gigavideo_data.scoring.eval_reward import reward_of

H, W, T = 120, 208, 17
NUMBERS = [  # dx, dy, log_scale, agreement, border, cover
    [-0.2, -0.0001, 0.0, 0.9856, 1.0, 1.0621],
    [0.0, 0.2, 0.0001, 0.9688, 1.0, 1.0218],
    [-0.0001, 0.0, 0.191, 0.9763, 1.0, 0.9351],
]
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
    probabilities = found.probabilities()
    return max(probabilities, key=lambda label: probabilities[label])


def read(frames_THWC: np.ndarray) -> Motion:
    found = motion(frames_THWC)
    assert isinstance(found, Motion)
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
    assert found.score({"pan right"}) < 0.6  # an unexpected move halves the score


def test_the_same_clip_has_one_motion():
    assert motion(clip(dx=1.0, thing=True)) == motion(clip(dx=1.0, thing=True))


@pytest.mark.parametrize("frames", [np.full((5, 64, 64, 3), 90, np.uint8), np.zeros((1, 64, 64, 3), np.uint8)])
def test_a_picture_without_anything_to_follow_has_no_motion(frames):
    found = motion(frames)
    assert isinstance(found, Unknown)
    assert found.reason == "nothing_to_follow"


def bust(t, speed, *, left=0.2, right=0.8, top=0.15):
    """A picture of soft noise over most of the still ground, from the lower border upwards, t steps to the right."""
    frame = ground()[H : 2 * H, W : 2 * W].copy()
    texture = np.rot90(ground(), 2)[:H, W : 2 * W]
    at, end = (round((share + speed * t) * W) for share in (left, right))
    frame[round(top * H) :, at:end] = texture[round(top * H) :, : end - at]
    return frame


@pytest.mark.parametrize("speed", [0.002, 0.01, -0.01])
@pytest.mark.parametrize("contrast", [1.0, 0.35])
def test_a_large_thing_that_moves_before_a_still_background_is_not_the_camera(speed, contrast):
    still = ground()[H : 2 * H, W : 2 * W].astype(float)
    frames = np.stack([bust(t, speed) for t in range(T)])
    things = (frames != frames[0]).any(axis=(0, 3)) | (frames[0] != ground()[H : 2 * H, W : 2 * W]).any(axis=2)
    faint = np.where(things[..., None], frames, 128 + (still - 128) * contrast).astype(np.uint8)
    found = read(faint)
    assert likeliest(found) == "static"
    assert found.score({"static"}) > 0.8
    assert 0 < found.agreement < 0.9


def test_a_large_thing_that_stays_in_the_picture_does_not_hide_a_pan():
    frames = clip(*PX["pan left"])
    texture = np.rot90(ground(), 2)[:H, :W]
    frames[:, 18:, 42:166] = texture[18:, 42:166]
    assert likeliest(read(frames)) == "pan left"


def test_a_thing_before_a_background_without_texture_says_nothing_of_the_camera():
    frames = np.full((T, H, W, 3), 120, np.uint8)
    texture = np.rot90(ground(), 2)
    for t in range(T):
        frames[t, 30:90, 60 + 2 * t : 120 + 2 * t] = texture[30:90, :60]
    found = motion(frames)
    assert isinstance(found, Unknown)
    assert found.reason == "background_unclear"


def cut():
    """Two clips of still and different grounds, the second from frame 8 on."""
    return np.concatenate([clip(frames=8), np.rot90(clip(frames=9), 2, (1, 2))])


def test_a_camera_is_not_judged_across_a_cut():
    assert motion(cut()) == Unknown("cut", 8)
    fast = motion(clip(dx=-12.0))  # a tenth of the shorter side per frame is no cut
    assert isinstance(fast, Motion)
    assert likeliest(fast) == "pan right"


def test_the_judge_says_why_it_gives_no_answer():
    judge = CameraJudge({"revision": "camera-2"})
    (asked,) = CameraQuestions({}).questions(prompt="The camera pans left over a harbour.")["questions"]
    silent, turned = judge.answer(cut(), 8.0, [asked["question"], asked["negated"]])
    assert (silent.p_yes, silent.p_no, silent.readings) == (0, 0, {"no answer: cut": [8]})
    assert (turned.p_yes, turned.p_no) == (0, 0)
    (known,) = judge.answer(clip(*PX["pan left"]), 8.0, [asked["question"]])
    assert known.p_yes > 0.9
    assert {"camera border", "camera cover", "camera agreement"} < known.readings.keys()


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_miniatures_cameras_are_read(camera):
    scene = Scene(skill="camera_motion", things=(Thing("red", "circle"),), camera=camera, ground="textured")
    words = camera.split()
    label = f"{words[0].rstrip('s')} {words[1]}" if len(words) > 1 else "static"
    hits = 0
    for seed in range(5):
        found = motion(render(scene, np.random.default_rng(seed)))
        hits += isinstance(found, Motion) and likeliest(found) == label
    assert hits >= 4


def test_another_answer_needs_another_rule():
    """Where this fails, raise the number in `camera.RULE`, and write down the new numbers."""
    found = [read(clip(*PX[label], thing=True)) for label in ("pan right", "tilt up", "zoom in")]
    numbers = [[one.dx, one.dy, one.log_scale, one.agreement, one.border, one.cover] for one in found]
    assert RULE == "camera-2"
    np.testing.assert_allclose(numbers, NUMBERS, atol=2e-3)


def test_an_unknown_label_is_no_score():
    with pytest.raises(KeyError):
        Motion(0, 0, 0, 0, 1, 1, 1).score({"orbit"})
    assert replace(Motion(0, 0, 0, 0, 1, 1, 1), dx=1.0).score({"pan left"}) > 0.9


def test_the_reason_reaches_the_reward_of_a_row_and_of_an_evaluation(tmp_path):
    (asked,) = CameraQuestions({}).questions(prompt="The camera pans left over a harbour.")["questions"]
    (silent,) = CameraJudge({"revision": RULE}).answer(cut(), 8.0, [asked["question"]])
    prompt: Any = {"dimension": "camera_motion", "questions": [asked | {"dimension": "camera_motion"}]}
    assert reward_of(prompt, [asdict(silent)], Camera(), 0.5).reason == "cut"

    named: list[MeasurementEntry] = [
        {"dimension": "camera_motion", "name": name, "values": [8.0], "judge": "j"} for name in silent.readings
    ]
    row = Row("synthetic", "A pan.", "camera_motion", measurements=named, asks={"camera_motion": [asked]})
    row = replace(row, answers=[asked | {"dimension": "camera_motion", "p_yes": 0.0, "p_no": 0.0}])
    recipe = Recipe(name="r", dimensions=("camera_motion",))
    rewarded = reward(Context(recipe, DryRunRunner(Store(tmp_path))), [row])
    assert [one.rewards[0]["reason"] for one in rewarded] == ["cut"]
