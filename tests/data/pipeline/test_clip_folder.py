"""Real clips in a folder: found by their names, cut by their times, and fitted to the target model."""

import hashlib
import io
from pathlib import Path

import av
import numpy as np
import pytest

from gigavideo_data.errors import RowError
from gigavideo_data.io import video
from gigavideo_data.pipeline.sources.clip_files import ClipFiles
from gigavideo_data.pipeline.sources.clip_folder import FolderClips
from gigavideo_data.pipeline.sources.stream_copy import stream_copied
from tests.support.clip_files import numbered, numbers

SHAPE = {"dataset": "koala", "height": 32, "width": 32, "fps": 8.0, "num_frames": 17, "stride": 4}


@pytest.fixture
def clips(tmp_path) -> FolderClips:
    (tmp_path / "abc_7.mp4").write_bytes(video.encode(numbered(24), 16.0))
    (tmp_path / "source.mp4").write_bytes(video.encode(numbered(32), 8.0))
    (tmp_path / "short.mp4").write_bytes(video.encode(numbered(3), 8.0))
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    return FolderClips({**SHAPE, "load": str(tmp_path)})


def test_a_clip_with_a_file_of_its_own_is_used_whole(clips):
    caption, data, origin = clips.clip("a heron", "abc_7", 10.0, 14.0)
    clip = video.decode(data)
    assert (caption, clip.fps, clip.frames_THWC.shape) == ("a heron", 8.0, (9, 32, 32, 3))
    assert numbers(clip.frames_THWC) == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert origin == {"dataset": "koala", "clip": "abc_7", "start_s": 10.0, "end_s": 14.0}


def test_a_source_is_cut_by_its_times(clips):
    _, data, _ = clips.clip("a heron", "source_3", 1.0, 3.9)
    assert numbers(video.decode(data).frames_THWC) == [*range(8, 8 + 17)]


@pytest.mark.parametrize(
    ("clip", "reason"), [("none_1", "no_clip"), ("none", "no_clip"), ("broken", "broken_clip"), ("short", "too_short")]
)
def test_an_unusable_clip_is_rejected_with_its_reason(clips, clip, reason):
    with pytest.raises(RowError) as caught:
        clips.clip("a heron", clip, None, None)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("DJI_0001", "DJI_0001.MP4"),
        ("DJI_0001.MP4", "DJI_0001.MP4"),
        ("DJI_0001.mp4", "DJI_0001.MP4"),
        ("IMG_0002", "IMG_0002.MOV"),
        ("000017", "000017.mp4"),
        ("a.b", "a.b.mp4"),
        ("clip (1)", "clip (1).webm"),
        ("caf\u00e9", "cafe\u0301.mkv"),
        ("both.webm", "both.webm"),
        ("Case", "Case.mp4"),
    ],
)
def test_a_name_finds_its_file_without_ending_and_in_any_case_of_it(tmp_path, name, file):
    for other in ("both.mp4", "both.webm", "Case.mp4", "case.mp4", "17.mp4", "a.mp4", file):
        (tmp_path / other).touch()
    assert ClipFiles(tmp_path).locate(name, timed=False) == (tmp_path / file, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("17", "no file 17, as written or with .mp4"),
        ("scene_2", "no file scene_2, as"),
        ("SCENE", "no file SCENE"),
        ("scene.mov", "no file scene.mov"),
        ("notes", "no file notes"),
        ("both", "both can be both.MOV or both.mp4"),
    ],
)
def test_a_name_finds_no_other_file(tmp_path, name, words):
    for file in ("scene.mp4", "scene_1.mp4", "000017.mp4", "notes.txt", "both.mp4", "both.MOV"):
        (tmp_path / file).touch()
    with pytest.raises(RowError, match=words):
        ClipFiles(tmp_path).locate(name, timed=False)


def test_only_a_table_with_times_cuts_a_clip_out_of_its_source(tmp_path):
    for name in ("scene.mp4", "scene_1.mp4"):
        (tmp_path / name).touch()
    files = ClipFiles(tmp_path)
    assert files.locate("scene_1", timed=True) == (tmp_path / "scene_1.mp4", True)
    assert files.locate("scene_2", timed=True) == (tmp_path / "scene.mp4", False)
    with pytest.raises(RowError, match="no file other_2 and no source other, as"):
        files.locate("other_2", timed=True)


def test_a_row_without_times_is_not_cut_from_a_source(clips):
    with pytest.raises(RowError, match="no_clip"):
        clips.clip("a heron", "source_3", None, None)


def source(
    file: Path, num_frames: int = 17, size: tuple[int, int] = (32, 32), fps: float = 8.0, turned: int = 0
) -> bytes:
    """A video as another program writes it: of lower quality than ours, with a title."""
    data = video.encode(numbered(num_frames, *size), fps, crf=35)
    with av.open(io.BytesIO(data)) as original, av.open(str(file), "w") as container:
        container.metadata["title"] = "in my garden"
        copy = container.add_stream_from_template(original.streams.video[0])
        copy.set_display_rotation(turned)
        for packet in original.demux(video=0):
            if packet.size:
                packet.stream = copy
                container.mux(packet)
    return data


@pytest.mark.parametrize("name", ["fits.mp4", "fits.mkv"])
def test_a_clip_that_fits_keeps_its_coded_frames_and_no_metadata(tmp_path, name):
    coded = source(tmp_path / name)
    clips = FolderClips({**SHAPE, "load": str(tmp_path)})
    _, data, _ = clips.clip("a heron", "fits", None, None)
    assert len(data) < len(coded)
    assert b"in my garden" in (tmp_path / name).read_bytes()
    assert b"in my garden" not in data
    assert b"x264" not in data
    kept, was = video.decode(data), video.decode(coded)
    assert (kept.fps, np.array_equal(kept.frames_THWC, was.frames_THWC)) == (8.0, True)
    sha256 = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert clips.source_file("fits", None, None) == {"name": name, "path": name, "sha256": sha256}


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        ({"num_frames": 18}, (None, None)),
        ({"num_frames": 16}, (None, None)),
        ({"size": (48, 32)}, (None, None)),
        ({"fps": 16.0}, (None, None)),
        ({"num_frames": 33}, (1.0, 4.0)),
    ],
)
def test_a_clip_that_had_to_be_fitted_is_encoded_again(tmp_path, changes, times):
    source(tmp_path / "clip.mp4", **changes)
    clips = FolderClips({**SHAPE, "load": str(tmp_path)})
    _, data, _ = clips.clip("a heron", "clip_1" if times[0] else "clip", *times)
    assert b"x264" in data
    assert clips.source_file("clip_1" if times[0] else "clip", *times)["name"] == "clip.mp4"


def test_a_copy_of_coded_frames_has_no_rotation(tmp_path):
    source(tmp_path / "a.mp4", turned=90)
    data = stream_copied(tmp_path / "a.mp4", height=32, width=32, fps=8.0, num_frames=17)
    for file, degrees in ((tmp_path / "a.mp4", 90), (io.BytesIO(data or b""), 0)):
        with av.open(file) as container:
            assert next(container.decode(video=0)).rotation == degrees
