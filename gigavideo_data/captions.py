"""A table of captioned clips, real or made elsewhere: which of its rows can be used, and why the others cannot.

CSV, TSV or Parquet, with a caption and the name of a clip in each row, both taken letter by letter. Koala-36M's columns
are understood as they are: the name of a clip is that of its source with an index, its times are written as a list of
two texts, and its training suitability runs from about 2.5 to 5.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data import tables
from gigavideo_data.errors import RecipeError
from gigavideo_data.reasons import Reason
from gigavideo_data.texts import flaw_of

# What a column may be called, the first one found counts.
CAPTION = ("caption", "prompt", "text")
CLIP = ("videoID", "clip", "file", "video", "path", "id")
TIMES = ("timestamp",)
SUITABILITY = ("video_training_suitability_score", "suitability", "vtss")
DIMENSION = ("dimension",)
KINDS = (CAPTION, CLIP, TIMES, SUITABILITY, DIMENSION)
Cells = dict[tuple[str, ...], Any]  # of a row, by kind of column
BATCH = 1000  # rows read at once
BARE_NAME = re.compile(r"[^./\\][^/\\]*")
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
    table: Path,
    count: int,
    max_seconds: float,
    min_suitability: float | None,
    *,
    needs_dimension: bool = False,
) -> tuple[list[Captioned], list[tuple[str, Reason]]]:
    """The first `count` rows that can be used.

    Args:
        table: .csv, .tsv or .parquet.
        count: how many.
        max_seconds: clips that are told to be longer fall.
        min_suitability: rows with less fall, and so do those without; None takes all.
        needs_dimension: whether the table must say what a prompt was written for.

    Returns:
        The rows, and for each row passed over on the way its clip and why: no_caption, bad_name, bad_times, too_long,
        low_suitability.

    Raises:
        RecipeError: the table cannot be read, a column that is needed is missing, or a cell of it is no text.
    """
    chosen: list[Captioned] = []
    fallen: list[tuple[str, Reason]] = []
    needed = [CAPTION, CLIP, *([SUITABILITY] if min_suitability is not None else [])]
    for row in _rows(table, [*needed, *([DIMENSION] if needs_dimension else [])]):
        if len(chosen) == count:
            break
        found = _read(row, max_seconds, min_suitability)
        if isinstance(found, Captioned):
            chosen.append(found)
        else:
            fallen.append((row.get(CLIP) or "", found))
    return chosen, fallen


def _read(row: Cells, max_seconds: float, min_suitability: float | None) -> Captioned | Reason:
    """The row, or why it falls."""
    caption, clip = " ".join((row.get(CAPTION) or "").split()), row.get(CLIP) or ""
    if flaw_of(caption):
        return Reason.NO_CAPTION
    if not BARE_NAME.fullmatch(clip) or not clip.isprintable():
        return Reason.BAD_NAME  # a bare name: the folder is said elsewhere, and nothing leads out of it
    times = row.get(TIMES)
    if times is None:
        start_s = end_s = None
    else:
        span = _span(times)
        if span is None:
            return Reason.BAD_TIMES
        start_s, end_s = span
        if end_s - start_s > max_seconds:
            return Reason.TOO_LONG
    if min_suitability is not None and not (_float(row.get(SUITABILITY)) or 0.0) >= min_suitability:
        return Reason.LOW_SUITABILITY
    return Captioned(caption, clip, start_s, end_s, row.get(DIMENSION))


def _rows(table: Path, needed: list[tuple[str, ...]]) -> Iterator[Cells]:
    """The cells that count; those of text as they stand there, None where there are none."""
    where, ending = f"table {table}", table.suffix.lower()
    if ending not in (".parquet", *tables.DELIMITERS):
        raise RecipeError(f"{where}: must be .csv, .tsv or .parquet")
    try:
        if ending == ".parquet":
            yield from _parquet_rows(table, where, needed)
        else:
            rows = tables.rows(table, where)
            columns = _columns(list(next(rows)[1]), where, needed)
            for _, row in rows:
                yield {kind: row[name] or None for kind, name in columns.items()}
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(f"{where}: cannot be read ({_short(error)})") from error


def _parquet_rows(table: Path, where: str, needed: list[tuple[str, ...]]) -> Iterator[Cells]:
    with pq.ParquetFile(table) as file:
        schema = file.schema_arrow
        columns = _columns(schema.names, where, needed)
        for kind in (CAPTION, CLIP, DIMENSION):
            if kind in columns:
                _check_type(schema.field(columns[kind]), where, numbers=kind is CLIP)
        number = 0
        for batch in file.iter_batches(BATCH, columns=list(columns.values())):
            for at in range(batch.num_rows):
                number += 1
                yield {kind: _cell(batch[name][at], kind, f"{where}: row {number}") for kind, name in columns.items()}


def _columns(names: list[str], where: str, needed: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Which of the table's columns is which; the first name found counts."""
    for kind in needed:
        if not set(kind) & set(names):
            raise RecipeError(f"{where}: no column {' or '.join(kind)}; it has {', '.join(names)}")
    found = {kind: next((name for name in kind if name in names), None) for kind in KINDS}
    return {kind: name for kind, name in found.items() if name is not None}


def _check_type(column: pa.Field, where: str, *, numbers: bool) -> None:
    """Refuse what has no spelling of its own: the name 007 as a number, or a caption in bytes."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(fits(kind) for fits in text) and not (numbers and pa.types.is_integer(kind)):
        raise RecipeError(f"{where}: column {column.name} holds {kind}, not text; save it as text")


def _cell(scalar: pa.Scalar, kind: tuple[str, ...], where: str) -> Any:
    try:
        value = scalar.as_py()
    except UnicodeDecodeError as error:
        raise RecipeError(f"{where}: not UTF-8 text ({error.object[:60]!r}); save it as UTF-8") from error
    return value if value is None or kind in (TIMES, SUITABILITY) else str(value)


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
