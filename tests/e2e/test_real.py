"""The specialists on real pixels: `make test-real`. Clips and detector are fetched; see `real_packages`."""

from functools import cache

import av
import numpy as np
import pytest

from gigavideo_data.io import resampling
from gigavideo_data.models.judges.camera import Motion, Unknown, motion
from gigavideo_data.models.judges.counting import CountingJudge, CountingQuestions
from tests.support.real_packages import clip, detector_file
from tests.support.yolo_tiny import YoloTiny

pytestmark = pytest.mark.real

WIDTH = 480  # px, or less


@cache
def frames(name: str, first: int, last: int) -> np.ndarray:
    """Frames of a clip as an import reads them, at the clip's own rate."""
    path = clip(name)
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.average_rate
        fps, height, width = float(stream.average_rate), stream.height, stream.width
        width = round(width * (stream.sample_aspect_ratio or 1))  # nothing is cropped
    shown = min(WIDTH, width)
    return resampling.read(
        path,
        height=round(height * shown / width),
        width=shown,
        fps=fps,
        num_frames=last - first,
        start_s=(first + 0.25) / fps if first else 0.0,
    )


@pytest.mark.parametrize(
    ("name", "first", "last", "label"),
    [
        ("vtest.avi", 0, 80, "static"),
        ("vtest.avi", 300, 380, "static"),
        ("tree.avi", 0, 68, "static"),
        ("movie-hello.mp4", 0, 80, "static"),
        ("carphone_pristine.mp4", 0, 80, "static"),  # a man who moves fills most of the picture
        ("carphone_distorted.mp4", 0, 80, "static"),
        ("bikes.mp4", 0, 29, "static"),  # a bus drives along the middle
        ("bikes.mp4", 187, 241, "pan right"),  # people walk past
        ("cityCC0.mpg", 0, 80, "zoom out"),
        ("bigbuckbunny.mp4", 0, 80, "tilt up"),
        ("VID_20191220_170832.mp4", 0, 41, "tilt up"),
    ],
)
def test_the_camera_of_a_real_clip_is_told(name, first, last, label):
    found = motion(frames(name, first, last))
    assert isinstance(found, Motion)
    probabilities = found.probabilities()
    assert max(probabilities, key=lambda each: probabilities[each]) == label, found
    assert label != "static" or probabilities["static"] > 0.85


@pytest.mark.parametrize(
    ("name", "first", "last", "at"),
    [("bikes.mp4", 0, 60, 30), ("bikes.mp4", 200, 250, 42), ("cityCC0.mpg", 80, 150, 36)],
)
def test_a_real_cut_is_named(name, first, last, at):
    assert motion(frames(name, first, last)) == Unknown("cut", at)


@pytest.mark.parametrize(
    ("name", "first", "last", "prompts"),
    [
        (
            "vtest.avi",
            96,
            109,
            {
                "Five people cross a street.": 1.0,
                "Two people cross a street.": 0.0,
                "Nine people cross a street.": 0.0,
            },
        ),
        ("bikes.mp4", 138, 161, {"Seven cars pass a fence.": 0.0}),
        ("VID_20191220_170832.mp4", 0, 31, {"Two dogs lie on a floor.": 0.0}),
    ],
)
def test_a_real_detectors_counts_differ_from_frame_to_frame_and_the_median_decides(name, first, last, prompts):
    detector = YoloTiny(detector_file("yolov3-tiny.weights"), detector_file("coco.names"), 0.3)
    judge = CountingJudge({"model": "yolov3-tiny", "revision": None, "frames": 13}, detector)
    asked = [
        question["question"] for prompt in prompts for question in CountingQuestions({}).questions(prompt)["questions"]
    ]
    answers = judge.answer(frames(name, first, last), 8.0, asked)
    assert [answer.p_yes for answer in answers] == list(prompts.values()), answers[0].readings
