"""Choose the usable rows of a table of captioned clips, real or made elsewhere, with a reason for every other row.

CSV, TSV or Parquet, with a caption and the name of a clip in each row, both used exactly as written. The columns of
Koala-36M are supported: a clip's name is that of its source with an index, its times are a list of two texts, and its
training suitability is between about 2.5 and 5.
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

from gigavideo_data.dataset.prompt_text import flaw_of
from gigavideo_data.errors import RecipeError
from gigavideo_data.io import tables
from gigavideo_data.reasons import Reason

# The names that each column may have; the first one found is used.
COLUMNS = {
    "caption": ("caption", "prompt", "text"),
    "clip": ("videoID", "clip", "file", "video", "path", "id"),
    "times": ("timestamp",),
    "suitability": ("video_training_suitability_score", "suitability", "vtss"),
    "dimension": ("dimension",),
}
NOT_TEXT = frozenset({"times", "suitability"})
BATCH = 1000  # rows read at a time
BARE_NAME = re.compile(r"[^./\\][^/\\]*")
_TIME = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d*)?)")


@dataclass(frozen=True)
class Cells:
    """The cells of one row: text as it is written, None if it is empty or the table has no such column.

    Times and suitability of a Parquet table have its own types.
    """

    caption: str | None = None
    clip: str | None = None
    times: Any = None
    suitability: Any = None
    dimension: str | None = None


@dataclass(frozen=True)
class Captioned:
    """One usable row: caption, the clip's bare name, and its times in its source (seconds), None if not in the table.

    `dimension` is what the prompt was written for, None if not in the table.
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
    """Return the first `count` usable rows, and the rows rejected before them.

    Args:
        table: .csv, .tsv or .parquet.
        count: the largest number of usable rows.
        max_seconds: clips with longer times are rejected.
        min_suitability: rows with less, or without a value, are rejected; None accepts all.
        needs_dimension: whether the table must have a column `dimension`.

    Returns:
        The usable rows, and of each rejected row its clip and the reason: no_caption, bad_name, bad_times, too_long,
        low_suitability.

    Raises:
        RecipeError: the table cannot be read, a required column is missing, or a cell is not text.
    """
    usable: list[Captioned] = []
    rejected: list[tuple[str, Reason]] = []
    optional = {"suitability": min_suitability is not None, "dimension": needs_dimension}
    for row in _rows(table, ["caption", "clip", *(name for name, needed in optional.items() if needed)]):
        if len(usable) == count:
            break
        outcome = _checked(row, max_seconds, min_suitability)
        if isinstance(outcome, Captioned):
            usable.append(outcome)
        else:
            rejected.append((row.clip or "", outcome))
    return usable, rejected


def _checked(row: Cells, max_seconds: float, min_suitability: float | None) -> Captioned | Reason:
    """The row, or why it is rejected."""
    caption, clip = " ".join((row.caption or "").split()), row.clip or ""
    if flaw_of(caption):
        return Reason.NO_CAPTION
    if not BARE_NAME.fullmatch(clip) or not clip.isprintable():
        return Reason.BAD_NAME  # anything else could lead out of the folder
    if row.times is None:
        start_s = end_s = None
    else:
        span = _span(row.times)
        if span is None:
            return Reason.BAD_TIMES
        start_s, end_s = span
        if end_s - start_s > max_seconds:
            return Reason.TOO_LONG
    if min_suitability is not None and not (_float(row.suitability) or 0.0) >= min_suitability:
        return Reason.LOW_SUITABILITY
    return Captioned(caption, clip, start_s, end_s, row.dimension)


def _rows(table: Path, needed: list[str]) -> Iterator[Cells]:
    where, ending = f"table {table}", table.suffix.lower()
    if ending not in (".parquet", *tables.DELIMITERS):
        raise RecipeError(f"{where}: must be .csv, .tsv or .parquet")
    try:
        if ending == ".parquet":
            yield from _parquet_rows(table, where, needed)
        else:
            rows = tables.text_rows(table, where)
            columns = _columns(list(next(rows)[1]), where, needed)
            for _, row in rows:
                yield Cells(**{name: row[column] or None for name, column in columns.items()})
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(f"{where}: cannot be read ({_short(error)})") from error


def _parquet_rows(table: Path, where: str, needed: list[str]) -> Iterator[Cells]:
    with pq.ParquetFile(table) as file:
        schema = file.schema_arrow
        columns = _columns(schema.names, where, needed)
        for name in columns.keys() - NOT_TEXT:
            _check_type(schema.field(columns[name]), where, numbers=name == "clip")
        number = 0
        for batch in file.iter_batches(BATCH, columns=list(columns.values())):
            for at in range(batch.num_rows):
                number += 1
                place = f"{where}: row {number}"
                yield Cells(**{name: _cell(batch[column][at], name, place) for name, column in columns.items()})


def _columns(names: list[str], where: str, needed: list[str]) -> dict[str, str]:
    """The table's columns by the fields of `Cells`."""
    columns = {field: next((name for name in COLUMNS[field] if name in names), None) for field in COLUMNS}
    for field in needed:
        if columns[field] is None:
            raise RecipeError(f"{where}: no column {' or '.join(COLUMNS[field])}; it has {', '.join(names)}")
    return {field: name for field, name in columns.items() if name is not None}


def _check_type(column: pa.Field, where: str, *, numbers: bool) -> None:
    """Refuse cells without a definite spelling: the name 007 as a number, or a caption in bytes."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(fits(kind) for fits in text) and not (numbers and pa.types.is_integer(kind)):
        raise RecipeError(f"{where}: column {column.name} holds {kind}, not text; save it as text")


def _cell(scalar: pa.Scalar, name: str, where: str) -> Any:
    try:
        value = scalar.as_py()
    except UnicodeDecodeError as error:
        raise RecipeError(f"{where}: not UTF-8 text ({error.object[:60]!r}); save it as UTF-8") from error
    return value if value is None or name in NOT_TEXT else str(value)


def _span(text: Any) -> tuple[float, float] | None:
    """Seconds from "['0:00:01.5', '0:00:04']", read as a Python literal, never evaluated; None for anything else."""
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
