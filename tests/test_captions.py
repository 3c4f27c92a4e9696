"""Captioned clips: which rows of a table are usable, and how a clip is fitted to the target model."""

import hashlib
import io
import math
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clip_files import written

from gigavideo_data import captions, resampling, video
from gigavideo_data.captions import Captioned
from gigavideo_data.clip_files import ClipFiles
from gigavideo_data.errors import DatasetError, RecipeError, RowError
from gigavideo_data.folder_clips import FolderClips
from gigavideo_data.stream_copy import stream_copied

KOALA = {
    "videoID": "abcDEF-_123_7",
    "url": "https://example.org/watch?v=abcDEF-_123",
    "timestamp": "['0:00:01.500', '0:00:04']",
    "caption": "A  heron wades\nthrough reeds.",
    "video_training_suitability_score": 4.2,
}


def table(folder: Path, *rows: dict, name: str = "table.parquet") -> Path:
    rows_of_table = pa.Table.from_pylist([KOALA | row for row in rows])
    if name.endswith(".csv"):
        import pyarrow.csv

        pyarrow.csv.write_csv(rows_of_table, folder / name)
    else:
        pq.write_table(rows_of_table, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_the_columns_of_koala_36m_are_read(tmp_path, name):
    usable, rejected = captions.choose(table(tmp_path, {}, name=name), 5, 5.0, 4.0)
    assert usable == [Captioned("A heron wades through reeds.", "abcDEF-_123_7", 1.5, 4.0)]
    assert rejected == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"caption": "  "}, "no_caption"),
        ({"caption": None}, "no_caption"),
        ({"caption": "a heron\0wades"}, "no_caption"),
        ({"videoID": "../../etc/passwd"}, "bad_name"),
        ({"videoID": "/etc/passwd"}, "bad_name"),
        ({"videoID": ".hidden"}, "bad_name"),
        ({"timestamp": "__import__('os').getcwd()"}, "bad_times"),
        ({"timestamp": "['0:00:04', '0:00:01']"}, "bad_times"),
        ({"timestamp": "['0:00:04']"}, "bad_times"),
        ({"timestamp": "['0:00:00', '0:00:05.1']"}, "too_long"),
        ({"video_training_suitability_score": 3.9}, "low_suitability"),
        ({"video_training_suitability_score": None}, "low_suitability"),
        ({"video_training_suitability_score": float("nan")}, "low_suitability"),
    ],
)
def test_a_row_is_rejected_with_a_reason_and_the_next_one_is_taken(tmp_path, row, reason):
    usable, rejected = captions.choose(table(tmp_path, row, {"caption": "the next"}, {}), 1, 5.0, 4.0)
    assert [one.caption for one in usable] == ["the next"]
    assert [why for _, why in rejected] == [reason]


def test_columns_may_have_other_names_and_times_may_be_missing(tmp_path):
    pq.write_table(pa.table({"text": ["a boat"], "file": ["boat.mp4"]}), tmp_path / "mine.parquet")
    assert captions.choose(tmp_path / "mine.parquet", 9, 5.0, None)[0] == [Captioned("a boat", "boat.mp4", None, None)]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.parquet", None, "cannot be read"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.txt", b"x", "must be .csv, .tsv or .parquet"),
        ("a.csv", b"a,b\n1,2\n", "no column caption or prompt or text; it has a, b"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=words):
        captions.choose(tmp_path / name, 1, 5.0, None)


def test_a_limit_on_suitability_needs_its_column(tmp_path):
    pq.write_table(pa.table({"text": ["a boat"], "file": ["boat.mp4"]}), tmp_path / "mine.parquet")
    with pytest.raises(RecipeError, match="no column video_training_suitability_score"):
        captions.choose(tmp_path / "mine.parquet", 1, 5.0, 4.0)


NAMES = ["000017", "0", "1e5", "NA", "null", "-0", "1_000", "Caf\u00e9 (1)"]
CAPTIONS = ["true", "false", "007", "NaN", "NULL", "1e5", "-", "2024-01-01"]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.TSV", "\t")])
def test_names_and_captions_are_used_as_written(tmp_path, name, delimiter):
    lines = [delimiter.join(cells) for cells in (("file", "caption"), *zip(NAMES, CAPTIONS, strict=True))]
    (tmp_path / name).write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    usable, rejected = captions.choose(tmp_path / name, 99, 5.0, None)
    assert ([one.clip for one in usable], [one.caption for one in usable], rejected) == (NAMES, CAPTIONS, [])


def test_an_empty_cell_is_none(tmp_path):
    (tmp_path / "a.csv").write_text("caption,file,id,timestamp\n,boat,1,\na boat,,2,\na boat,boat,3,\n\n")
    usable, rejected = captions.choose(tmp_path / "a.csv", 99, 5.0, None)
    assert usable == [Captioned("a boat", "boat", None, None)]
    assert rejected == [("boat", "no_caption"), ("", "bad_name")]


def test_names_that_are_whole_numbers_in_parquet_are_their_digits(tmp_path):
    columns = {"caption": pa.array(["one", "two"]).dictionary_encode(), "file": pa.array([0, 17])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert [one.clip for one in captions.choose(tmp_path / "a.parquet", 9, 5.0, None)[0]] == ["0", "17"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("caption,file\na,1\nun caf\u00e9,2\n".encode("latin-1"), r"row 3: not UTF-8 .*caf\\xe9.* save it as UTF-8"),
        ("caption,file\n猫在屋顶,1\n".encode("gbk"), "row 2: not UTF-8"),
        ("caption,file\na,1\n".encode("utf-16"), "row 1: not UTF-8"),
        ("caption,file\na,1\n".encode("utf-16-le"), "row 1: not UTF-8"),
        (b"caption,file\na\0b,1\n", "row 2: not UTF-8"),
        (b"caption,file\na boat, red,1\n", "row 2 has 3 cells, the header 2"),
        (b"caption,file\ntwo cats\njump,1\n", "row 2 has 1 cells, the header 2"),
        (b'caption,file\n"a boat,1\n', "row 2: "),
        (b"caption,file,caption\na,1,b\n", "row 1: column caption is there twice"),
        (b"", "has no rows"),
    ],
)
def test_an_ambiguous_table_is_refused_with_its_row(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(RecipeError, match=f"table .*a.csv.*{words}"):
        captions.choose(tmp_path / "a.csv", 9, 5.0, None)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"caption": pa.array(["a"]), "file": pa.array([17.0])}, "column file holds double, not text; save it as text"),
        ({"caption": pa.array([True]), "file": pa.array(["a"])}, "column caption holds bool"),
        ({"caption": pa.array([b"a"]), "file": pa.array(["a"])}, "column caption holds binary"),
        ({"caption": pa.array([b"\xe9"]).view(pa.string()), "file": pa.array(["a"])}, "row 1: not UTF-8"),
    ],
)
def test_parquet_cells_that_are_not_text_are_refused(tmp_path, columns, words):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(RecipeError, match=words):
        captions.choose(tmp_path / "a.parquet", 9, 5.0, None)


# --- clips -----------------------------------------------------------------------------------------------------------


def numbered(num_frames: int, height=48, width=64) -> np.ndarray:
    """Frames whose grey level encodes their number."""
    return np.stack([np.full((height, width, 3), 20 + 6 * number, np.uint8) for number in range(num_frames)])


def numbers(frames_THWC: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 20) / 6) for frame in frames_THWC]


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


# --- time ------------------------------------------------------------------------------------------------------------

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
    data = written(numbered(32), "webm", rate=16, codec="libvpx-vp9")
    at = data.index(b"\x23\xe3\x83")  # DefaultDuration, replaced by an element that readers skip
    data = data[:at] + b"\xec\x86" + data[at + 2 :]
    assert shown(tmp_path, "a.webm", data) == [*range(0, 32, 2)]


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


# --- pictures --------------------------------------------------------------------------------------------------------


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
