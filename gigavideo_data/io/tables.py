"""Read tables and lists of people; a cell of a text table stays text: `007`, `NA`, `1e5`, `true` keep their spelling.

Anything ambiguous (not UTF-8, cells that do not match the header) is an error that names the row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.errors import RecipeError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*DELIMITERS, ".jsonl", ".parquet")
BATCH = 1000  # rows read at a time
_NOT_TEXT = re.compile("[\0\udc80-\udcff]")  # a NUL, or a byte that is not UTF-8 (see `surrogateescape`)


def checked(text: str, where: str) -> str:
    """Return the text.

    Raises:
        RecipeError: it was not saved as UTF-8; names the place.
    """
    if _NOT_TEXT.search(text):
        shown = text.encode("utf-8", "surrogateescape")[:60]
        raise RecipeError(f"{where}: not UTF-8 text ({shown!r}); save it as UTF-8")
    return text


def lines(path: Path, where: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file, each with its number from 1. Only a line break ends a line.

    Raises:
        RecipeError: it is not UTF-8.
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            yield number, checked(line, f"{where}: line {number}").rstrip("\n")


def text_rows(path: Path, where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV or TSV file by column, each with its number; the header is row 1. Empty rows are skipped.

    The first row returned is the header, which maps each name to itself.

    Raises:
        RecipeError: it is not UTF-8, has no header, or a row has more or fewer cells than the header.
        OSError: it cannot be read.
    """
    names: list[str] = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=DELIMITERS[path.suffix.lower()], strict=True)
        number = 0
        while True:
            number += 1
            here = f"{where}: row {number}"
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raise RecipeError(f"{here}: {error}; put cells with quotes or line breaks in quotes") from error
            cells = [checked(cell, here) for cell in cells]
            if not any(cells):
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                _check_names(names, here)
                yield number, {name: name for name in names if name}
                continue
            if len(cells) < len(names) or any(cells[len(names) :]):
                raise RecipeError(
                    f"{here} has {len(cells)} cells, the header {len(names)}; put cells with commas, tabs or line "
                    "breaks in quotes"
                )
            yield number, {name: cell for name, cell in zip(names, cells, strict=False) if name}
    if not names:
        raise RecipeError(f"{where}: has no rows; the first one must name the columns")


def _check_names(names: list[str], where: str) -> None:
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise RecipeError(f"{where}: column {', '.join(sorted(twice))} is there twice; remove one")


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
            for number, line in lines(table, where):
                if line.strip():
                    yield f"{where}: line {number}", _object(line, f"{where}: line {number}")
        else:
            found = text_rows(table, where)
            next(found)  # the header
            for number, row in found:
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
