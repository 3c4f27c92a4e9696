"""`gv-data calibrate`: the scores of a judge against people, on pairs or ratings.

    calibrate(Path("people.csv"), Path("scores.csv"))

`scores` is what `gv-data score` wrote. The table of people has one row per video (`video`, `score`) or per pair
(`video_a`, `video_b`, `choice`); the columns of VideoGen-RewardBench are understood too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.io import tables
from gigavideo_data.scoring import calibration
from gigavideo_data.scoring.calibration import Choice, Pair, Rating

VIDEO = ("video", "file", "file_name", "path")
VIDEO_A, VIDEO_B = ("video_a", "path_A"), ("video_b", "path_B")
SCORE, CHOICE = ("score", "rating"), ("choice",)
ASPECTS = ("Overall", "VQ", "MQ", "TA")  # choices of VideoGen-RewardBench, each reported as a dimension of its own
PROMPT, DIMENSION = ("prompt", "caption"), ("dimension",)
CHOICES: dict[str, Choice] = {"a": "a", "b": "b", "same": "same", "tie": "same"}
ALL = "all"  # the name of the ratings of a table without dimensions


@dataclass(frozen=True)
class _Judged:
    """The scores of a judge by file: those of each column, and the prompt of the file."""

    columns: dict[str, dict[str, float]]
    prompts: dict[str, str]

    def key(self, name: str) -> str | None:
        """The file that a name means: its path, or a bare name that only one file has."""
        if name in self.prompts:
            return name
        same = [file for file in self.prompts if PurePosixPath(file).name == PurePosixPath(name).name]
        return same[0] if len(same) == 1 else None

    def score(self, file: str, dimension: str, column: str | None) -> float | None:
        """The score of a file on a dimension, if the judge has one of that name, else its `reward`."""
        name = column or (dimension if dimension in self.columns else "reward")
        return self.columns.get(name, {}).get(file)


def calibrate(people: Path, scores: Path, column: str | None = None) -> dict[str, Any]:
    """Compare a judge with people.

    Args:
        people: table of choices or ratings.
        scores: table of `gv-data score`.
        column: of the scores, for all dimensions; None: the column with the name of the dimension, else `reward`.

    Returns:
        JSON-able: under `dimensions`, for each dimension of the people's table the facts of `calibration.Agreement`,
        and for ratings those of `calibration.Ranking` under `ranking`; `unmatched`: rows without a score, with the
        first of them.

    Raises:
        RecipeError: a table cannot be read, has none of the columns, or no video of it has a score.
    """
    judged = _read_scores(scores)
    if column is not None and column not in judged.columns:
        raise RecipeError(f"--column {column}: not in {scores}; it has {', '.join(judged.columns)}")
    pairs: dict[str, list[Pair]] = defaultdict(list)
    ratings: dict[str, list[Rating]] = defaultdict(list)
    unmatched: list[str] = []
    for place, row in tables.rows(people):
        prompt, dimension = (tables.cell(row, names) for names in (PROMPT, DIMENSION))
        if tables.cell(row, VIDEO_A):
            for name, choice in _choices(row, place, dimension or ALL).items():
                pair = _pair(row, choice, name, prompt, judged, column)
                if pair:
                    pairs[name].append(pair)
                else:
                    unmatched.append(place)
        else:
            tables.need_column(row, VIDEO, place)
            rating = _rating(row, place, dimension or ALL, prompt, judged, column)
            if rating:
                ratings[dimension or ALL].append(rating)
            else:
                unmatched.append(place)
    if not pairs and not ratings:
        raise RecipeError(f"{people}: none of its videos has a score in {scores}; the names of the files must be equal")
    found = {name: calibration.agreement(each).facts() for name, each in pairs.items()}
    for name, each in ratings.items():
        ranking = calibration.ranking(each).facts()
        found[name] = calibration.agreement(calibration.pairs_of(each)).facts() | {"ranking": ranking}
    return {"dimensions": found, "unmatched": {"rows": len(unmatched), "first": unmatched[:3]}}


def _read_scores(table: Path) -> _Judged:
    columns: dict[str, dict[str, float]] = defaultdict(dict)
    prompts = {}
    for place, row in tables.rows(table):
        tables.need_column(row, ("file",), place)
        file = str(row["file"])
        prompts[file] = tables.cell(row, PROMPT) or ""
        for name, value in row.items():
            if name not in ("file", "sha256", "prompt", "dimension", "reason", "answers") and value not in (None, ""):
                columns[name][file] = _number(value, f"{place}: {name}")
    if not columns:
        raise RecipeError(f"{table}: has no scores; name a table that `gv-data score` wrote")
    return _Judged(dict(columns), prompts)


def _choices(row: Mapping[str, Any], place: str, dimension: str) -> dict[str, Choice]:
    """What people chose, by dimension."""
    texts = {dimension: tables.cell(row, CHOICE)} if set(CHOICE) & row.keys() else {}
    texts |= {name: tables.cell(row, (name,)) for name in ASPECTS if name in row}
    if not texts:
        raise RecipeError(f"{place}: no column {' or '.join((*CHOICE, *ASPECTS))}; it has {', '.join(map(str, row))}")
    wrong = {name: text for name, text in texts.items() if (text or "").lower() not in CHOICES}
    if wrong:
        name, text = next(iter(wrong.items()))
        raise RecipeError(f"{place}: {name}: {text!r}: must be A, B or same")
    return {name: CHOICES[(text or "").lower()] for name, text in texts.items()}


def _pair(
    row: Mapping[str, Any], choice: Choice, dimension: str, prompt: str | None, judged: _Judged, column: str | None
) -> Pair | None:
    """A pair with its scores; None if one of the videos has none."""
    files = [judged.key(tables.cell(row, names) or "") for names in (VIDEO_A, VIDEO_B)]
    scores = [judged.score(file, dimension, column) if file else None for file in files]
    if files[0] is None or scores[0] is None or scores[1] is None:
        return None
    return Pair(prompt or judged.prompts[files[0]], scores[0], scores[1], choice)


def _rating(
    row: Mapping[str, Any], place: str, dimension: str, prompt: str | None, judged: _Judged, column: str | None
) -> Rating | None:
    """A rating with its score; None if the video has none."""
    tables.need_column(row, SCORE, place)
    human = _number(tables.cell(row, SCORE), f"{place}: {' or '.join(SCORE)}")
    file = judged.key(tables.cell(row, VIDEO) or "")
    score = judged.score(file, dimension, column) if file else None
    return None if file is None or score is None else Rating(prompt or judged.prompts[file], score, human)


def _number(value: Any, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise RecipeError(f"{place}: {value!r}: must be a number")
    return number
