"""Lists of videos to score: every form is read, and what is wrong with a row is said of that row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_data.pipeline.sources.video_list import read, read_questions

PROMPT = "a cat jumps over a low wall"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("b.MP4", "sub/a.webm", "sub/c.mp4", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def listed(where: Path, **options) -> list[tuple]:
    return [(one.file, one.prompt, one.dimension) for one in read(where, **options)[1]]


def test_a_folder_gives_its_videos_and_those_of_its_subfolders(folder: Path) -> None:
    assert listed(folder) == [("b.MP4", None, None), ("sub/a.webm", None, None), ("sub/c.mp4", None, None)]
    assert listed(folder / "b.MP4") == [("b.MP4", None, None)]


def test_names_are_prompts_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a_cat_jumps-12.mp4").touch()
    (tmp_path / "a half-open door.mp4").touch()
    found = listed(tmp_path, names_are_prompts=True)
    assert [prompt for _, prompt, _ in found] == ["a half-open door", "a cat jumps"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_tables_of_every_kind_say_the_same(folder: Path, ending: str) -> None:
    table = folder / f"metadata.{ending}"
    rows = [("b.MP4", PROMPT, "mechanics"), ("sub/c.mp4", "007", "")]
    if ending == "csv":
        lines = ["file_name,caption,dimension", *(",".join(row) for row in rows)]
        table.write_text("\n".join(lines))
    elif ending == "jsonl":
        keys = ("file_name", "caption", "dimension")
        table.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    else:
        names, captions, dimensions = zip(*rows, strict=True)
        columns = {"file_name": names, "caption": captions, "dimension": dimensions, "other": [b"x", b"y"]}
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), table)
    expected = [("b.MP4", PROMPT, "mechanics"), ("sub/c.mp4", "007", None)]
    assert listed(folder) == listed(table) == listed(folder, prompts=table) == expected


def test_a_row_that_cannot_be_used_says_why(folder: Path) -> None:
    names = ("b", "nothing", "../b.MP4", "/etc/x.mp4", "~/x.mp4", "", "b.MP4")
    lines = ["video,prompt", *(f"{name},{PROMPT}" for name in names)]
    (folder / "list.csv").write_text("\n".join(lines))
    _, found = read(folder / "list.csv")
    assert [one.flaw and one.flaw.reason for one in found] == [
        None,
        "no_clip",
        "bad_name",
        "bad_name",
        "bad_name",
        "no_clip",
        "duplicate",
    ]


def test_questions_of_a_row_are_texts_or_objects(folder: Path) -> None:
    cells = ["Is it a cat?", json.dumps([{"question": "Is it a dog?", "expected": "no"}, "Is it a cat?"]), ""]
    rows = [{"file": "b.MP4", "questions": cell, "prompt": str(number)} for number, cell in enumerate(cells)]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, found = read(folder / "list.jsonl")
    asked = [[(q["question"], q["expected"]) for q in one.questions or ()] for one in found]
    assert asked == [[("Is it a cat?", "yes")], [("Is it a dog?", "no"), ("Is it a cat?", "yes")], []]
    assert found[2].questions is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rows"),
        ("name,prompt\na.mp4,x\n", "no column file_name or"),
        ("file,questions\nb.MP4,[1\n", "row 2: questions: not a JSON list"),
        ("file,questions\nb.MP4,[1]\n", "must be a question"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(folder: Path, text: str, says: str) -> None:
    (folder / "list.csv").write_text(text)
    with pytest.raises(RecipeError, match=says):
        read(folder / "list.csv")


def test_nothing_to_score_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for where in (tmp_path, tmp_path / "absent", tmp_path / "absent.csv"):
        with pytest.raises(RecipeError, match=r"nothing to score|no such folder"):
            read(where)


def test_questions_for_all_are_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "questions.yaml"
    file.write_text("mechanics:\n  - Does it fall?\n  - question: Does it hover?\n    expected: no\n")
    (asked,) = read_questions(file).values()
    assert [(one["question"], one["expected"]) for one in asked] == [("Does it fall?", "yes"), ("Does it hover?", "no")]
    for text in ("- Does it fall?", "mechanics: []", "mechanics: [{expected: no}]", "{"):
        file.write_text(text)
        with pytest.raises(RecipeError, match=r"questions\.yaml"):
            read_questions(file)
