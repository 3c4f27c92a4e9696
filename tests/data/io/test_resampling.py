"""Reading a part of a video file at another frame rate and size, as a player shows it."""

import io
import math
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from gigavideo_data.errors import DatasetError, RowError
from gigavideo_data.io import resampling, video
from tests.support.clip_files import numbered, numbers, written


@pytest.mark.parametrize(
    ("num_frames", "fps", "rate", "expected"),
    [
        (24, 24, 8, [0, 3, 6, 9, 12, 15, 18, 21]),
        (4, 8, 16, [0, 0, 1, 1, 2, 2, 3, 3]),
        (5, 25, 16, [0, 1, 3]),
        (15, 30000 / 1001, 16, [0, 1, 3, 5, 7, 9, 11, 13]),
    ],
)
def test_another_frame_rate_has_the_frame_that_was_shown_at_each_moment(num_frames, fps, rate, expected):
    spans = [(number / fps, (number + 1) / fps, number) for number in range(num_frames)]
    assert list(resampling.at_rate(spans, rate)) == expected


def test_time_stamps_may_be_rounded_to_milliseconds():
    spans = [(round(n / 30, 3), round((n + 1) / 30, 3), n) for n in range(300)]
    assert list(resampling.at_rate(spans, 15)) == [*range(0, 300, 2)]


@pytest.mark.parametrize(
    ("num_frames", "stride", "fits"), [(81, 4, 81), (80, 4, 77), (5, 4, 5), (4, 4, 1), (161, 8, 161)]
)
def test_frame_counts_follow_the_models_rule(num_frames, stride, fits):
    assert resampling.valid_num_frames(num_frames, stride) == fits


def test_frames_fill_another_size_and_lose_their_edges():
    frames = numbered(1, 40, 100)
    frames[:, :, :30], frames[:, :, 70:] = 255, 255
    filled = resampling.resize_and_crop(frames, 20, 20)
    assert filled.shape == (1, 20, 20, 3)
    assert filled.max() < 30
    assert resampling.resize_and_crop(frames, 80, 80).shape == (1, 80, 80, 3)


SLOWER = [*range(16), *(16 + 4 * number for number in range(16))]  # 16 frames in a second, then 4: in 1/16 s


SLOWER_AT_8_HZ = [*range(0, 17, 2), *(16 + number // 2 for number in range(1, 25))]


def shown(folder: Path, name: str, data: bytes, start_s: float = 0.0, end_s: float = math.inf, **changes) -> list[int]:
    (folder / name).write_bytes(data)
    shape = {"height": 48, "width": 64, "fps": 8.0, "num_frames": 33} | changes
    return numbers(resampling.read(folder / name, start_s=start_s, end_s=end_s, **shape))


@pytest.mark.parametrize(("name", "container"), [("a.mp4", "mp4"), ("a.mkv", "matroska"), ("a.mov", "mov")])
def test_each_moment_shows_the_frame_of_its_time_stamp(tmp_path, name, container):
    data = written(numbered(32), container, pts=SLOWER, rate=16)
    assert shown(tmp_path, name, data) == SLOWER_AT_8_HZ
    assert shown(tmp_path, name, data, 1.0, 3.0) == SLOWER_AT_8_HZ[8:24]
    assert shown(tmp_path, name, data, 1.2, 1.6) == [16, 17, 17]  # 1.2 s is between two frames: the earlier one


def test_a_browsers_webm_without_a_frame_rate_is_read(tmp_path):
    stamps_ms = [125 * at // 2 - 7 * at * at % 20 for at in range(16)]  # irregular, so that no rate can be guessed
    data = written(numbered(16), "webm", pts=stamps_ms, rate=1000, codec="libvpx-vp9")
    at = data.index(b"\x23\xe3\x83")  # DefaultDuration, replaced by an element that readers skip
    data = data[:at] + b"\xec\x86" + data[at + 2 :]
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].average_rate is None
    assert shown(tmp_path, "a.webm", data) == [*range(0, 16, 2)]


def test_times_count_from_the_start_that_a_player_shows(tmp_path):
    data = written(numbered(32), "mpegts", pts=range(100, 132))
    with av.open(io.BytesIO(data)) as container:
        assert container.start_time == 12.5e6
    assert shown(tmp_path, "a.ts", data) == [*range(32)]
    assert shown(tmp_path, "a.ts", data, 2.0, 3.0) == [*range(16, 24)]


@pytest.mark.parametrize("bframes", ["0", "3"])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_cut_begins_at_its_time_wherever_key_frames_are(tmp_path, container, bframes):
    data = written(numbered(38), container, rate=8, codec_options={"g": "12", "bf": bframes})
    for first in range(38):
        assert shown(tmp_path, "a.bin", data, first / 8, first / 8 + 1) == [*range(first, min(first + 8, 38))]


def test_a_file_without_an_index_is_read_from_its_start(tmp_path):
    data = written(numbered(38), "h264", rate=25)  # has no stamps and no index
    assert shown(tmp_path, "a.h264", data, 1.2, 1.4, fps=25.0) == [*range(30, 35)]
    data = written(numbered(32), "matroska", rate=8, codec_options={"g": "8"}, live="1")
    assert shown(tmp_path, "a.mkv", data, 2.0, 3.0) == [*range(16, 24)]


def test_time_stamps_that_go_back_are_a_reason(tmp_path):
    whole = written(numbered(8), "mpegts", rate=8)
    with pytest.raises(RowError) as caught:
        shown(tmp_path, "a.ts", whole + whole)
    assert (caught.value.reason, "time stamps go back" in caught.value.detail) == ("broken_clip", True)
    assert caught.value.detail.startswith("a.ts: ")


def test_memory_depends_on_the_frames_kept_and_not_on_the_file(tmp_path):
    data = written(np.zeros((256, 144, 256, 3), np.uint8), "mp4", rate=64)
    tracemalloc.start()
    assert len(shown(tmp_path, "a.mp4", data, num_frames=32)) == 32
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6  # of 28 MB decoded


def quarters(height: int, width: int) -> np.ndarray:
    """Frames whose four quarters have different colours."""
    frames_THWC = np.zeros((8, height, width, 3), np.uint8)
    frames_THWC[:, : height // 2, :, 0] = 200
    frames_THWC[:, :, : width // 2, 1] = 200
    return frames_THWC


def read(folder: Path, name: str, data: bytes, height: int, width: int) -> np.ndarray:
    (folder / name).write_bytes(data)
    return resampling.read(folder / name, height=height, width=width, fps=8.0, num_frames=8)


def alike(found_THWC: np.ndarray, expected_THWC: np.ndarray) -> bool:
    return found_THWC.shape == expected_THWC.shape and bool(np.abs(found_THWC.astype(int) - expected_THWC).mean() < 8)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(("container", "mirrored"), [("mp4", 0), ("mp4", 1), ("matroska", 0)])
def test_a_clip_is_rotated_and_mirrored_as_its_container_says(tmp_path, container, mirrored, degrees):
    frames_THWC = quarters(96, 128)
    data = written(frames_THWC, container, rotation={"degrees": degrees, "hflip": mirrored})
    expected_THWC = np.rot90(frames_THWC, degrees // 90, axes=(1, 2))
    expected_THWC = expected_THWC[:, :, ::-1] if mirrored else expected_THWC
    height, width = expected_THWC.shape[1:3]
    assert alike(read(tmp_path, "a.video", data, height, width), expected_THWC)
    if container == "mp4":
        assert alike(video.decode(data).frames_THWC, expected_THWC)
        assert video.measure(data) == video.Measured(8, height, width, 8.0)


def test_a_rotation_by_no_multiple_of_90_degrees_is_refused(tmp_path):
    data = written(quarters(96, 128), "mp4", rotation={"degrees": 30})
    with pytest.raises(RowError, match="no multiple of 90 degrees"):
        read(tmp_path, "a.mp4", data, 96, 128)
    with pytest.raises(DatasetError, match="no multiple of 90 degrees"):
        video.decode(data)


@pytest.mark.parametrize(("degrees", "height", "width"), [(0, 96, 256), (90, 256, 96)])
def test_pixels_that_are_not_square_are_stretched(tmp_path, degrees, height, width):
    data = written(quarters(96, 128), "mp4", aspect=2, rotation={"degrees": degrees})
    assert alike(read(tmp_path, "a.mp4", data, height, width), np.rot90(quarters(96, 256), degrees // 90, axes=(1, 2)))


def test_frames_of_an_extreme_aspect_ratio_are_refused_before_scaling(tmp_path):
    with pytest.raises(RowError, match="512 x 16 px"):
        read(tmp_path, "a.mp4", written(quarters(16, 512), "mp4"), 96, 64)


@pytest.mark.parametrize(
    ("transfer", "message"), [("smpte2084", "HDR .PQ"), ("arib-std-b67", "HDR .HLG"), ("bt709", "HDR .BT.2020 colours")]
)
def test_hdr_is_a_reason(tmp_path, transfer, message):
    colours = f"mbtree=0:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    data = written(quarters(96, 128), "mp4", pix_fmt="yuv420p10le", codec_options={"x264-params": colours})
    with pytest.raises(RowError, match=message) as caught:
        read(tmp_path, "a.mp4", data, 96, 128)
    assert caught.value.reason == "hdr"
    with pytest.raises(DatasetError, match=message):
        video.decode(data)


@pytest.mark.parametrize("transfer", ["bt709", "smpte170m", "iec61966-2-1"])
def test_standard_dynamic_range_is_accepted(tmp_path, transfer):
    colours = f"mbtree=0:colorprim=bt709:transfer={transfer}:colormatrix=bt709"
    data = written(quarters(96, 128), "mp4", codec_options={"x264-params": colours})
    assert read(tmp_path, "a.mp4", data, 96, 128).shape == (8, 96, 128, 3)


def joined(parts: list[bytes], container: str) -> bytes:
    """Raw H.264 videos concatenated in one stream, at 8 Hz."""
    buffer = io.BytesIO()
    raw = io.BytesIO(b"".join(parts))
    with av.open(raw, format="h264") as source, av.open(buffer, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 8)
            packet.duration = 1
            output.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_frames_that_change_their_size_are_a_reason(tmp_path, container):
    data = joined([written(quarters(*size), "h264") for size in ((96, 128), (128, 96))], container)
    (tmp_path / "a.video").write_bytes(data)
    with pytest.raises(RowError) as caught:
        resampling.read(tmp_path / "a.video", height=96, width=128, fps=8.0, num_frames=16)
    assert caught.value.reason == "size_changes"
    assert caught.value.detail.startswith("a.video: its pictures change from 128 x 96 px to 96 x 128 px")
    if container == "mp4":
        with pytest.raises(DatasetError, match="from 128 x 96 px to 96 x 128 px"):
            video.decode(data)


def test_a_whole_file_is_read_at_its_own_size_and_rate(tmp_path):
    (tmp_path / "a.mkv").write_bytes(written(numbered(8), "matroska"))
    (tmp_path / "b.mov").write_bytes(written(numbered(8), "mov", rotation={"degrees": 90}))
    for name, size in {"a.mkv": (48, 64), "b.mov": (64, 48)}.items():
        frames_THWC, fps = resampling.as_shown(tmp_path / name)
        assert (frames_THWC.shape, fps) == ((8, *size, 3), 8.0)
        assert numbers(frames_THWC) == list(range(8))


def test_odd_sizes_lose_a_line_and_wide_pixels_become_square(tmp_path):
    gif = written(numbered(5, 35, 41), "gif", codec="gif", codec_options={}, pix_fmt="rgb8")
    wide = written(numbered(5), "mp4", aspect=2)
    for data, shape in ((gif, (34, 40)), (wide, (48, 128))):
        (tmp_path / "clip").write_bytes(data)
        frames_THWC, _ = resampling.as_shown(tmp_path / "clip")
        assert frames_THWC.shape == (5, *shape, 3)


def test_a_file_with_more_frames_than_a_clip_may_have_is_refused(tmp_path, monkeypatch):
    (tmp_path / "long.mkv").write_bytes(written(numbered(20), "matroska"))
    monkeypatch.setenv(video.MAX_CLIP_VARIABLE, str(10 * 48 * 64 * 3 / 2**30))
    with pytest.raises(RowError, match="more than 10 frames of 64 x 48 px"):
        resampling.as_shown(tmp_path / "long.mkv")


def test_a_broken_file_is_refused_without_naming_its_folder(tmp_path):
    (tmp_path / "broken.mp4").write_text("<html>")
    with pytest.raises(RowError, match="cannot be decoded") as caught:
        resampling.as_shown(tmp_path / "broken.mp4")
    assert str(tmp_path) not in caught.value.detail
