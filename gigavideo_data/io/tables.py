"""Read text tables and lists; every cell stays text, so that `007`, `NA`, `1e5` and `true` keep their spelling. Pure.

Anything ambiguous (not UTF-8, cells that do not match the header) is an error that names the row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from gigavideo_data.errors import RecipeError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
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


def rows(path: Path, where: str) -> Iterator[tuple[int, dict[str, str]]]:
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
