"""`gv-data score VIDEOS`: one row for each video, in files of any kind, and nobody is asked twice."""

import csv
import hashlib
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from gigavideo_data.io import video
from gigavideo_data.io.progress import Progress
from gigavideo_data.miniature.clips import RenderedClips
from gigavideo_data.pipeline.sources import packed_videos, video_list
from tests.support.clip_files import written
from tests.support.forked import Forked

pytestmark = pytest.mark.timeout(600)
PROMPTS = (
    "a green pillar falls and stays on the floor",
    "a cyan pillar falls and bounces off the floor",
    "a green bar falls and stays on the floor",
)
QUESTION = "Is there a green pillar above the floor at the start?"


def clip(prompt: str) -> bytes:
    return RenderedClips({}).of_prompt(prompt, seed=1)


def score(folder: Path, *arguments: str) -> tuple[int, str, str]:
    command = ["score", *arguments, "--recipe", "quickstart", "--store", "store"]
    process = Forked("gv-data", command, dict(os.environ), folder)
    printed, said = process.communicate(timeout=240)
    return process.wait(), printed, said


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    (folder / "sub").mkdir(parents=True)
    for name, prompt in zip(("right.mp4", "sub/other.mp4", "wrong.mp4"), PROMPTS, strict=True):
        (folder / name).write_bytes(clip(prompt))
    (folder / "broken.mp4").write_text("<html>")
    (folder / "leads-out.mp4").symlink_to(tmp_path / "outside.mp4")
    (tmp_path / "outside.mp4").write_bytes(clip(PROMPTS[0]))
    lines = [f"right,{PROMPTS[0]}", f"sub/other.mp4,{PROMPTS[1]}", f"wrong.mp4,{PROMPTS[0]}"]
    lines += [f"{name},{PROMPTS[0]}" for name in ("broken.mp4", "leads-out.mp4", "absent.mp4")]
    (folder / "list.csv").write_text("\n".join(["file,prompt,dimension", *(f"{line},mechanics" for line in lines)]))
    return folder


def test_a_table_of_scores_goes_to_stdout_and_every_video_has_a_row(videos: Path) -> None:
    before = {path: path.read_bytes() for path in videos.rglob("*.mp4")}
    code, printed, said = score(videos.parent, "clips/list.csv", "--set", "limits.max_rejected=0.5")
    assert code == 0, said
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(printed))}
    assert [float(rows[name]["mechanics"]) > 0.9 for name in ("right.mp4", "sub/other.mp4")] == [True, True]
    assert rows["wrong.mp4"]["mechanics"] == ""
    assert rows["wrong.mp4"]["reason"].startswith("gate_failed")
    reasons = [rows[name]["reason"].split(":")[0] for name in ("broken.mp4", "leads-out.mp4", "absent.mp4")]
    assert reasons == ["broken_clip", "no_clip", "no_clip"]
    assert rows["sub/other.mp4"]["sha256"] == video_sha256(videos / "sub/other.mp4")
    assert str(videos.parent) not in printed
    assert "6 videos, 3 rejected" in said
    assert {path: path.read_bytes() for path in videos.rglob("*.mp4")} == before

    # A video that has not changed is neither read nor judged again.
    (videos / "sub/other.mp4").write_bytes(clip(PROMPTS[2]))
    code, printed, said = score(videos.parent, "clips/list.csv", "--out", "scores.parquet")
    assert code == 3, "one of the four videos that could be opened is broken"
    assert "judge       2/3  2 from the store" in said
    again = {row["file"]: row for row in pq.read_table(videos.parent / "scores.parquet").to_pylist()}
    assert again["right.mp4"]["mechanics"] == pytest.approx(float(rows["right.mp4"]["mechanics"]))
    assert again["sub/other.mp4"]["reason"].startswith("gate_failed")


def video_sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_given_questions_need_no_prompt_and_files_of_other_kinds_are_judged_as_they_are(tmp_path: Path) -> None:
    frames_THWC = video.decode(clip(PROMPTS[0])).frames_THWC
    (tmp_path / "clips").mkdir()
    for name, container in {"a.mkv": "matroska", "b.mov": "mov"}.items():
        (tmp_path / "clips" / name).write_bytes(written(frames_THWC, container))
    (tmp_path / "clips/c.mp4").write_bytes(clip(PROMPTS[1]))
    (tmp_path / "questions.yaml").write_text(f"mechanics: [{json.dumps(QUESTION)}]\n")
    code, printed, said = score(tmp_path, "clips", "--questions", "questions.yaml", "--json")
    assert code == 0, said
    facts = json.loads(printed)
    assert (facts["videos"], facts["rejected"]) == (3, 0)
    found = {row["file"]: row["mechanics"] > 0.5 for row in facts["rows"]}
    assert found == {"a.mkv": True, "b.mov": True, "c.mp4": False}
    assert {answer["question"] for row in facts["rows"] for answer in row["answers"]} == {QUESTION}


def test_videos_inside_parquet_files_are_unpacked_once(tmp_path: Path) -> None:
    clips = [clip(text) for text in PROMPTS]
    videos = [*({"bytes": data, "path": "x"} for data in clips), None]
    rows = [{"video": one, "prompt": text} for one, text in zip(videos, [*PROMPTS, PROMPTS[0]], strict=True)]
    (tmp_path / "set/data").mkdir(parents=True)
    for number, part in enumerate((rows[:2], rows[2:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"set/data/part-{number}.parquet")
    progress = Progress(Console(quiet=True))
    files = packed_videos.parquet_files(tmp_path / "set")
    table = packed_videos.unpack(files, tmp_path / "out", progress)
    folder, listed = video_list.read(table)
    assert [one.prompt for one in listed] == [*PROMPTS, PROMPTS[0]]
    assert [one.flaw and one.flaw.reason for one in listed] == [None, None, None, "no_clip"]
    assert [(folder / one.file).read_bytes() for one in listed[:3]] == clips
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}
    packed_videos.unpack(files, tmp_path / "out", progress)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.mp4")} == before
    pq.write_table(pa.table({"file_name": ["a.mp4"]}), tmp_path / "plain.parquet")
    assert packed_videos.parquet_files(tmp_path / "plain.parquet") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("clips", "--out", "scores.txt"), "must end in .csv, .jsonl, .parquet"),
        (("clips", "--in-place"), "--in-place: only for a dataset"),
        (("clips", "--dimensions", "mechanic"), "unknown dimension 'mechanic'; did you mean 'mechanics'"),
        (("absent.csv",), "absent.csv"),
        (("empty",), "nothing to score"),
    ],
)
def test_a_mistake_is_said_before_anything_is_read(videos: Path, arguments: tuple[str, ...], says: str) -> None:
    (videos.parent / "empty").mkdir()
    code, _, said = score(videos.parent, *arguments)
    assert (code in (1, 2), says in said) == (True, True), said
    assert not (videos.parent / "store").exists()
