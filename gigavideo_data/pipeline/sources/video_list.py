"""The list of videos that somebody wants to be scored: a folder, a table beside its videos, or one file.

A table has one row per video: a column with its file, and where it has them, its prompt, its dimension and its
questions. A folder with a `metadata.csv`, `.jsonl` or `.parquet` is read by that table, as the `datasets` library does.
Nothing is opened but tables, and nothing is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from gigavideo_data.errors import RecipeError, RowError
from gigavideo_data.io import tables
from gigavideo_data.models.judges.base import negate
from gigavideo_data.pipeline.row import AskedQuestion
from gigavideo_data.pipeline.sources.caption_table import COLUMNS
from gigavideo_data.pipeline.sources.clip_files import ClipFiles
from gigavideo_data.reasons import Reason

ENDINGS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif")
TABLES = tables.ENDINGS
METADATA = tuple(f"metadata{ending}" for ending in (".csv", ".jsonl", ".parquet"))
FILE, PROMPT, DIMENSION = ("file_name", *COLUMNS["clip"]), COLUMNS["caption"], COLUMNS["dimension"]
QUESTIONS = ("questions",)


@dataclass(frozen=True)
class ListedVideo:
    """One video of the list.

    Attributes:
        file: its path in the folder, with /; as in the table where there is no such file.
        prompt: what it should show; None if nobody says.
        dimension: what it is to be scored on; None: on all dimensions that are asked for.
        questions: those of its row; None if the row has none.
        flaw: why it cannot be scored; None if nothing is wrong so far.
    """

    file: str
    prompt: str | None = None
    dimension: str | None = None
    questions: list[AskedQuestion] | None = None
    flaw: RowError | None = None


def is_list(videos: Path) -> bool:
    """Whether a name means videos, not a dataset of our format, here or on the Hub."""
    if videos.is_dir():
        return not (videos / "manifest.json").is_file()
    return videos.is_file() or videos.suffix.lower() in (*ENDINGS, *TABLES)


def read(
    videos: Path, prompts: Path | None = None, *, names_are_prompts: bool = False
) -> tuple[Path, list[ListedVideo]]:
    """The folder of the videos, and the list.

    Args:
        videos: a folder, a table beside its videos, or one video.
        prompts: a table with the prompts of the videos of a folder.
        names_are_prompts: the prompt of a video without one is the name of its file.

    Raises:
        RecipeError: there is nothing to score, or a table cannot be read.
    """
    if videos.is_dir():
        table = prompts or next((videos / name for name in METADATA if (videos / name).is_file()), None)
        folder = videos
        listed = _of_table(table, folder) if table else [ListedVideo(name) for name in _files(folder)]
    elif videos.suffix.lower() in TABLES and videos.is_file():
        folder = videos.parent
        listed = _of_table(videos, folder)
    elif videos.is_file():
        folder, listed = videos.parent, [ListedVideo(videos.name)]
    else:
        raise RecipeError(f"{videos}: no such folder, table or video")
    if not listed:
        raise RecipeError(
            f"{videos}: nothing to score; videos end in {', '.join(ENDINGS)}, tables in {', '.join(TABLES)}"
        )
    return folder, [_named(one) if names_are_prompts else one for one in _without_doubles(listed)]


def read_questions(file: Path) -> dict[str, list[AskedQuestion]]:
    """Questions for all videos by dimension, from a YAML file.

        mechanics:
          - Does the ball fall?
          - question: Does the ball hover?
            expected: no

    Raises:
        RecipeError: it cannot be read, or is not of this form.
    """
    try:
        parsed = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecipeError(f"{file}: cannot be read ({error})") from error
    if not isinstance(parsed, dict) or not parsed:
        raise RecipeError(f"{file}: must be a mapping of dimensions, each with a list of questions")
    return {str(name): _questions(listed, f"{file}: {name}") for name, listed in parsed.items()}


def _files(folder: Path) -> list[str]:
    """The videos of a folder and its subfolders, sorted; hidden ones are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.lower().endswith(ENDINGS) and not name.startswith(".")]
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _of_table(table: Path, folder: Path) -> list[ListedVideo]:
    """One video for each row of a table; a row that names none has a flaw."""
    files = ClipFiles(folder)
    found = []
    for place, row in tables.rows(table, (*FILE, *PROMPT, *DIMENSION, *QUESTIONS)):
        tables.need_column(row, FILE, place)
        name, prompt, dimension = (tables.cell(row, names) for names in (FILE, PROMPT, DIMENSION))
        given = next((row[name] for name in QUESTIONS if row.get(name)), None)
        questions = None if given is None else _questions(given, place)
        prompt = " ".join(prompt.split()) if prompt else None
        try:
            found.append(ListedVideo(_located(name, folder, files), prompt, dimension, questions))
        except RowError as error:
            found.append(ListedVideo(name or place, prompt, dimension, questions, error))
    return found


def _located(name: str | None, folder: Path, files: ClipFiles) -> str:
    if not name:
        raise RowError(Reason.NO_CLIP, "the row names no file")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name.startswith("~") or not name.isprintable():
        raise RowError(Reason.BAD_NAME, f"{name}: must be a path inside the folder of the videos")
    if (folder / path).is_file() or len(path.parts) > 1:
        return name  # whoever opens it says if it is not there
    return files.locate(name, timed=False)[0].name


def _without_doubles(listed: Sequence[ListedVideo]) -> Iterator[ListedVideo]:
    """A video that is listed twice for the same prompt and dimension has a flaw the second time."""
    seen = set()
    for one in listed:
        key = (one.file, one.prompt, one.dimension)
        if key in seen and one.flaw is None:
            flaw = RowError(Reason.DUPLICATE, f"{one.file}: is listed twice")
            yield ListedVideo(one.file, one.prompt, one.dimension, one.questions, flaw)
        else:
            yield one
        seen.add(key)


def _named(one: ListedVideo) -> ListedVideo:
    """With the name of the file as its prompt, without a number at its end: `a_cat_jumps-3.mp4`."""
    if one.prompt is not None:
        return one
    stem = PurePosixPath(one.file).stem
    head, dash, number = stem.rpartition("-")
    text = head if dash and number.isdigit() else stem
    return ListedVideo(
        one.file, " ".join(text.replace("_", " ").split()) or None, one.dimension, one.questions, one.flaw
    )


def _questions(given: Any, where: str) -> list[AskedQuestion]:
    """Questions of a cell or a list: texts whose right answer is yes, or objects with `question` and `expected`."""
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.lstrip().startswith("[") else [given]
        except ValueError as error:
            raise RecipeError(f"{where}: questions: not a JSON list ({error})") from error
    if not isinstance(given, list) or not given:
        raise RecipeError(f"{where}: questions: must be a list of texts, or of objects with question and expected")
    return [_question(one, where) for one in given]


def _question(one: Any, where: str) -> AskedQuestion:
    one = {"question": one} if isinstance(one, str) else one
    text = one.get("question") if isinstance(one, dict) else None
    expected = one.get("expected", "yes") if isinstance(one, dict) else None
    if isinstance(expected, bool):  # YAML reads yes and no as truth values
        expected = "yes" if expected else "no"
    if not isinstance(text, str) or not text.strip() or expected not in ("yes", "no"):
        raise RecipeError(f"{where}: {one!r}: must be a question, or an object with question and expected: yes or no")
    return {"question": text.strip(), "expected": expected, "gate": False, "negated": negate(text.strip())}
