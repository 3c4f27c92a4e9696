"""Tables of people, row by row: CSV, TSV, JSON lines or Parquet. Cells of text tables stay text (see `tables`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.errors import RecipeError
from gigavideo_data.io import tables

ENDINGS = (*tables.DELIMITERS, ".jsonl", ".parquet")
BATCH = 1000  # rows read at a time


def rows(table: Path, used: Sequence[str] | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a table by column, each with its place for messages.

    Args:
        table: ends in one of `ENDINGS`.
        used: columns that are read of a Parquet file, where it has them; None: all.

    Raises:
        RecipeError: another ending, or it cannot be read; names the row.
    """
    where, ending = f"table {table}", table.suffix.lower()
    if ending not in ENDINGS:
        raise RecipeError(f"{where}: must end in {', '.join(ENDINGS)}")
    try:
        if ending == ".parquet":
            yield from _parquet(table, where, used)
        elif ending == ".jsonl":
            for number, line in tables.lines(table, where):
                if line.strip():
                    yield f"{where}: line {number}", _object(line, f"{where}: line {number}")
        else:
            text_rows = tables.rows(table, where)
            next(text_rows)  # the header
            for number, row in text_rows:
                yield f"{where}: row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(f"{where}: cannot be read ({str(error).splitlines()[0][:120]})") from error


def cell(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The text of the first of some columns that has any."""
    for name in names:
        if (value := row.get(name)) is not None and str(value).strip():
            return str(value).strip()
    return None


def need_column(row: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    """Refuse a row of a table that has none of some columns.

    Raises:
        RecipeError: names them.
    """
    if not set(names) & row.keys():
        raise RecipeError(f"{place}: no column {' or '.join(names)}; it has {', '.join(map(str, row))}")


def _parquet(table: Path, where: str, used: Sequence[str] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with pq.ParquetFile(table) as file:
        names = [name for name in file.schema_arrow.names if used is None or name in used]
        found = (row for batch in file.iter_batches(BATCH, columns=names) for row in batch.to_pylist())
        for number, row in enumerate(found, 1):
            yield f"{where}: row {number}", row


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError as error:
        raise RecipeError(f"{place}: not JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise RecipeError(f"{place}: must be an object with the columns as keys")
    return parsed
