"""A table of captioned clips, real or made elsewhere: which of its rows can be used, and why the others cannot.

CSV or Parquet, with a caption and the name of a clip in each row. Koala-36M's columns are understood as they are: the
name of a clip is that of its source with an index, its times are written as a list of two texts, and its training
suitability runs from about 2.5 to 5.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq

from gigavideo_data.errors import RecipeError

# What a column may be called, the first one found counts.
CAPTION = ("caption", "prompt", "text")
CLIP = ("videoID", "clip", "file", "video", "path", "id")
TIMES = ("timestamp",)
SUITABILITY = ("video_training_suitability_score", "suitability", "vtss")
BATCH = 1000  # rows read at once
_TIME = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d*)?)")


@dataclass(frozen=True)
class Captioned:
    """One usable row: caption, the clip's bare name, and where it lies in its source (seconds), if the table says.

    `dimension` is what a prompt was written for, where the table says that.
    """

    caption: str
    clip: str
    start_s: float | None
    end_s: float | None
    dimension: str | None = None


def choose(
    table: Path, count: int, max_seconds: float, min_suitability: float | None
) -> tuple[list[Captioned], list[tuple[str, str]]]:
    """The first `count` rows that can be used.

    Args:
        table: .csv or .parquet.
        count: how many.
        max_seconds: clips that are told to be longer fall.
        min_suitability: rows with less fall, and so do those without; None takes all.

    Returns:
        The rows, and for each row passed over on the way its clip and why: no_caption, bad_name, bad_times, too_long,
        low_suitability.

    Raises:
        RecipeError: the table cannot be read, or a column that is needed is missing.
    """
    chosen: list[Captioned] = []
    fallen: list[tuple[str, str]] = []
    for row in _rows(table, needs_suitability=min_suitability is not None):
        if len(chosen) == count:
            break
        found = _read(row, max_seconds, min_suitability)
        if isinstance(found, Captioned):
            chosen.append(found)
        else:
            fallen.append((str(_first(row, CLIP) or ""), found))
    return chosen, fallen


def _read(row: dict[str, Any], max_seconds: float, min_suitability: float | None) -> Captioned | str:
    """The row, or why it falls."""
    caption = " ".join(str(_first(row, CAPTION) or "").split())
    clip = str(_first(row, CLIP) or "")
    if not caption:
        return "no_caption"
    if not re.fullmatch(r"[\w. -]+", clip) or clip.startswith("."):
        return "bad_name"  # a bare name: the folder is said elsewhere, and nothing leads out of it
    times = _first(row, TIMES)
    if times is None:
        start_s = end_s = None
    else:
        span = _span(times)
        if span is None:
            return "bad_times"
        start_s, end_s = span
        if end_s - start_s > max_seconds:
            return "too_long"
    if min_suitability is not None and not (_float(_first(row, SUITABILITY)) or 0.0) >= min_suitability:
        return "low_suitability"
    return Captioned(caption, clip, start_s, end_s, row.get("dimension"))


def _rows(table: Path, *, needs_suitability: bool) -> Iterator[dict[str, Any]]:
    try:
        if table.suffix == ".parquet":
            file = pq.ParquetFile(table)
            names, batches = file.schema_arrow.names, file.iter_batches(BATCH)
        elif table.suffix == ".csv":
            parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
            reader = pyarrow.csv.open_csv(table, parse_options=parsing)
            names, batches = reader.schema.names, iter(reader)
        else:
            raise RecipeError(f"table {table}: must be .csv or .parquet")
    except (OSError, pyarrow.ArrowException) as error:
        raise RecipeError(f"table {table}: cannot be read ({_short(error)})") from error
    for needed in (CAPTION, CLIP, *([SUITABILITY] if needs_suitability else [])):
        if not set(needed) & set(names):
            raise RecipeError(f"table {table}: no column {' or '.join(needed)}; it has {', '.join(names)}")
    try:
        for batch in batches:
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise RecipeError(f"table {table}: broken ({_short(error)})") from error


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _span(text: Any) -> tuple[float, float] | None:
    """Seconds from "['0:00:01.5', '0:00:04']", read as a literal and nothing more; None if it is something else."""
    try:
        parts = ast.literal_eval(text) if isinstance(text, str) else text
    except (ValueError, SyntaxError):
        return None
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        return None
    matches = [_TIME.fullmatch(str(part).strip()) for part in parts]
    if not all(matches):
        return None
    start, end = (int(m[1]) * 3600 + int(m[2]) * 60 + float(m[3]) for m in matches if m)
    return (start, end) if end > start else None


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:120]
