"""Encoding and decoding clips as MP4."""

import gc
import importlib
import io
import struct
import sys
import tracemalloc

import av
import numpy as np
import pytest

from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.io import mp4, resampling, video, video_frames
from gigavideo_data.miniature import world
from gigavideo_data.miniature.grammar import sample_scene
from tests.support.clip_files import written

FRAMES = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8)


def test_a_clip_survives_the_round_trip():
    smooth = np.broadcast_to(np.linspace(0, 255, 48)[None, None, :, None], FRAMES.shape).astype(np.uint8)
    clip = video.decode(video.encode(smooth, 12.5))
    assert clip.fps == 12.5
    assert clip.frames_THWC.shape == FRAMES.shape
    assert np.abs(clip.frames_THWC.astype(int) - smooth).mean() < 3


def test_the_index_is_at_the_start():
    data = video.encode(FRAMES, 8.0)
    assert data.index(b"moov") < data.index(b"mdat")


def test_equal_frames_give_equal_bytes_whatever_else_is_in_memory():
    rng = np.random.default_rng(0)
    scene = sample_scene("instance_preservation", rng, "tune")
    frames_THWC = world.render(scene, rng)
    files = set()
    for _ in range(40):
        litter = [rng.integers(0, 255, size, np.uint8) for size in rng.integers(1000, 100_000, 5)]
        files.add(video.encode(frames_THWC, 8.0))
        del litter
    assert len(files) == 1


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


@pytest.mark.parametrize("read", [video.decode, video.measure])
@pytest.mark.parametrize(
    ("module", "limit", "value", "message"),
    [
        (video, "MAX_FRAMES", 4, "at most 4 frames"),
        (video_frames, "MAX_PIXELS", 32 * 48 - 1, "at most 1535 px"),
        (video, "MAX_FRAME_BYTES", 32 * 48 * 3 // 2 - 1, "in the decoder"),
        (video_frames, "MAX_PACKETS", 3, "more than 3 packets"),
        (video_frames, "MAX_DECODE_S", -1, "decoding takes more than"),
    ],
)
def test_a_clip_above_a_limit_is_refused(monkeypatch, read, module, limit, value, message):
    data = video.encode(FRAMES, 8.0)
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(DatasetError, match=message):
        read(data)


@pytest.mark.parametrize("read", [video.decode, video.measure])
@pytest.mark.parametrize("fragmented", [False, True])
def test_the_size_of_all_frames_together_is_limited_and_the_limit_can_be_set(monkeypatch, read, fragmented):
    data = written(FRAMES, "mp4", movflags="frag_keyframe+empty_moov") if fragmented else video.encode(FRAMES, 8.0)
    allowed = FRAMES.nbytes / 2**30
    monkeypatch.setenv(video.MAX_CLIP_VARIABLE, str(allowed * 0.9))
    with pytest.raises(DatasetError, match=r"frames? of 48 x 32 px are not accepted.* GIGAVIDEO_MAX_CLIP_GIB allows"):
        read(data)
    monkeypatch.setenv(video.MAX_CLIP_VARIABLE, str(allowed))
    read(data)
    monkeypatch.delenv(video.MAX_CLIP_VARIABLE)
    assert video.max_clip_bytes() == 2**30


@pytest.mark.parametrize("text", ["", "many", "0", "-1", "nan", "inf"])
def test_an_invalid_limit_is_refused_by_name(monkeypatch, text):
    monkeypatch.setenv(video.MAX_CLIP_VARIABLE, text)
    with pytest.raises(RecipeError, match=f"GIGAVIDEO_MAX_CLIP_GIB={text}: must be"):
        video.decode(b"")


def test_a_fragmented_file_without_a_number_of_frames_is_limited_too(monkeypatch):
    data = written(FRAMES, "mp4", movflags="frag_every_frame+empty_moov")
    assert len(video.decode(data).frames_THWC) == len(FRAMES)
    monkeypatch.setattr(video, "MAX_FRAMES", 4)
    with pytest.raises(DatasetError, match="at most 4 frames"):
        video.decode(data)


def test_measuring_gives_the_facts_of_decoding_and_keeps_no_frame():
    data = video.encode(np.zeros((64, 256, 256, 3), np.uint8), 8.0)
    tracemalloc.start()
    measured = video.measure(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert measured == video.Measured(64, 256, 256, 8.0)
    assert peak < 1e6  # of 12.6 MB decoded


def test_the_arithmetic_works_without_pyav_and_opencv(monkeypatch):
    for package in ("av", "cv2"):
        monkeypatch.setitem(sys.modules, package, None)
    for module in (video, resampling):
        importlib.reload(module)
    assert resampling.valid_num_frames(80, 4) == 77
    with pytest.raises(ImportError):
        video.decode(b"")


def test_a_clip_of_a_set_has_a_constant_frame_rate():
    slower = [*range(8), *range(8, 40, 4)]  # 8 frames in a second, then 2
    with pytest.raises(DatasetError, match=r"not shown at a constant rate: frame 1 is shown at 0\.125 s"):
        video.decode(written(np.zeros((16, 32, 48, 3), np.uint8), "mp4", pts=slower))
    later = written(np.zeros((16, 32, 48, 3), np.uint8), "mp4", pts=range(100, 116), rate=30)
    assert video.measure(later) == video.Measured(16, 32, 48, 30.0)


def test_no_frame_waits_for_the_garbage_collector():
    data = written(FRAMES, "mp4", rotation={"degrees": 90})
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(one, av.VideoFrame) for one in gc.get_objects())
        for _ in range(5):
            video.measure(data)
        left = [one for one in gc.get_objects() if isinstance(one, av.VideoFrame)]
    finally:
        gc.enable()
    assert sum(frame.width > 2 for frame in left) == before


def claiming(data: bytes, num_samples: int) -> bytes:
    """An MP4 whose tables claim another number of samples, of one byte each."""
    changed = bytearray(data)
    for box, at, values in (("stsz", 4, (1, num_samples)), ("stts", 8, (num_samples,)), ("stsc", 12, (num_samples,))):
        place = data.index(box.encode()) + 4 + at
        changed[place : place + 4 * len(values)] = struct.pack(f">{len(values)}I", *values)
    return bytes(changed)


def test_a_file_that_claims_millions_of_frames_is_refused_before_it_is_opened(monkeypatch):
    data = claiming(video.encode(FRAMES, 8.0), 2_000_000)
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(DatasetError, match="more than 100000 packets"):
        video.decode(data)


def test_the_samples_of_all_tables_of_an_mp4_are_counted():
    whole = video.encode(FRAMES, 8.0)
    fragmented = written(FRAMES, "mp4", movflags="frag_every_frame+empty_moov")
    assert [mp4.num_samples(io.BytesIO(data), 100) for data in (whole, fragmented, whole + whole)] == [5, 5, 10]
    assert mp4.num_samples(io.BytesIO(claiming(whole, 2**32 - 1)), 100) == 101
    assert mp4.num_samples(io.BytesIO(struct.pack(">I4s", 8, b"free") * 101), 100) == 101
    assert mp4.num_samples(io.BytesIO(struct.pack(">I4sI4s", 16, b"moov", 8, b"cmov")), 100) == 101


@pytest.mark.parametrize("size", [0, 1, 2, 7, 9, 2**32 - 1])
def test_a_box_of_any_size_ends_the_count(size):
    for tail in (b"", b"\xff" * 4, b"\xff" * 8, b"\0" * 8):
        assert mp4.num_samples(io.BytesIO(struct.pack(">I4s", size, b"moov") + tail), 100) <= 101
