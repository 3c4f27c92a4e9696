"""What became of a row: from a worker to the driver, as columns of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Outcome:
    """What became of a row. `fatal` ends the run: every other row would fail too.

    Attributes:
        kind: done, rejected, kept (the store had it already) or fatal.
        message: of a fatal error, for the user; of a rejected row, its reason and detail.
        traceback: of a fatal error, for the log.
        key: of the row; empty of a fatal error.
        reason: of a rejected row.
        worker: that processed it (see `reports.worker_name`).
    """

    kind: str
    message: str = ""
    traceback: str = ""
    key: str = ""
    reason: str = ""
    worker: str = ""


def to_columns(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """One column for each attribute, one line for each outcome."""
    return {field.name: [getattr(outcome, field.name) for outcome in outcomes] for field in fields(Outcome)}


def from_columns(columns: Mapping[str, Iterable[object]]) -> Iterator[Outcome]:
    """The outcomes of `to_columns`."""
    for values in zip(*(columns[field.name] for field in fields(Outcome)), strict=True):
        yield Outcome(*map(str, values))
