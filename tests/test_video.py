"""Clips in and out of MP4."""

import importlib
import sys

import numpy as np
import pytest

import gigavideo_data
from gigavideo_data import video
from gigavideo_data.errors import DatasetError
from gigavideo_data.miniature import world
from gigavideo_data.miniature.grammar import sample_scene

FRAMES = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8)


def test_a_clip_survives_the_round_trip():
    smooth = np.broadcast_to(np.linspace(0, 255, 48)[None, None, :, None], FRAMES.shape).astype(np.uint8)
    clip = video.decode(video.encode(smooth, 12.5))
    assert clip.fps == 12.5
    assert clip.frames_THWC.shape == FRAMES.shape
    assert np.abs(clip.frames_THWC.astype(int) - smooth).mean() < 3


def test_the_index_stands_first():
    data = video.encode(FRAMES, 8.0)
    assert data.index(b"moov") < data.index(b"mdat")


def test_equal_frames_give_equal_bytes_whatever_else_is_in_memory():
    rng = np.random.default_rng(0)
    scene = sample_scene("instance_preservation", rng)
    frames_THWC = world.render(scene, rng)
    made = set()
    for _ in range(40):
        litter = [rng.integers(0, 255, size, np.uint8) for size in rng.integers(1000, 100_000, 5)]
        made.add(video.encode(frames_THWC, 8.0))
        del litter
    assert len(made) == 1


@pytest.mark.parametrize("frames", [FRAMES.astype(float), FRAMES[0], FRAMES[:, :31]])
def test_frames_of_another_kind_are_refused(frames):
    with pytest.raises(ValueError, match=r"uint8|even"):
        video.encode(frames, 8.0)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.95])
def test_a_truncated_file_is_refused_by_name(keep):
    data = video.encode(FRAMES, 8.0)
    cut = data[: keep if isinstance(keep, int) else int(len(data) * keep)]
    with pytest.raises(DatasetError, match=r"a\.mp4"):
        video.decode(cut, "a.mp4")


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_video_is_refused(data):
    with pytest.raises(DatasetError, match="cannot be decoded"):
        video.decode(data)


def test_a_clip_above_the_caps_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(video, "MAX_FRAMES", 4)
    with pytest.raises(DatasetError, match="not accepted"):
        video.decode(video.encode(FRAMES, 8.0))


def test_a_poster_is_a_jpeg():
    assert video.poster(FRAMES)[:2] == b"\xff\xd8"


def test_the_arithmetic_works_without_pyav_and_opencv(monkeypatch):
    for module in ("av", "cv2"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "gigavideo_data.video")
    monkeypatch.setattr(gigavideo_data, "video", video)  # so that the first module is put back afterwards
    alone = importlib.import_module("gigavideo_data.video")
    assert alone is not video
    assert alone.fitting(80, 4) == 77
    with pytest.raises(ImportError):
        alone.decode(b"")
