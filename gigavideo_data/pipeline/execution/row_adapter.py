"""The one adapter through which every row passes.

It guarantees that a finished row is never processed twice, that an attempt is counted before it starts, and that a
failed row becomes a record with the reason. Where a stage processes rows in batches, this holds for every row of one.
A record says what its row took (`spent`, see `meter`), so that a resumed build knows what its earlier runs spent.
"""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.io.hashing import canonical
from gigavideo_data.pipeline.execution.meter import Meter
from gigavideo_data.pipeline.stages import STAGES, Blobs, Record, rejection
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason

Work = tuple[str, dict[str, Any]]  # key and inputs of a row

log = logging.getLogger(__name__)

MAX_TRACEBACK_LETTERS = 20_000  # kept of one; its end names the exception

# Errors of the disk: every other row would fail too, so the run stops.
FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES)


def run_rows(
    stage_name: str,
    rows: Sequence[Work],
    engine: Any,
    store: Store,
    run_id: str,
    limit: int,
    meter: Meter | None = None,
) -> list[str]:
    """Process rows of one engine, in one call of it where the stage has batches, and write each as `run_row` does.

    A row is in one batch of a run at most. If the call fails or its worker dies, each of its rows is tried alone, with
    `limit` attempts of its own, so a bad row does not reject the others.

    Args:
        stage_name: name of the stage.
        rows: keys and inputs.
        engine: of all rows.
        store: where finished rows are.
        run_id: names the run, for counting attempts.
        limit: attempts that one run may make of a row alone.
        meter: measures what the rows take; by default, they take time of a CPU.

    Returns:
        What `run_row` returns, for each row.

    Raises:
        RunError: as `run_row`.
    """
    meter = meter or Meter("cpu")
    run, batch = STAGES[stage_name].run, STAGES[stage_name].batch
    if batch is None or len(rows) < 2:
        return [run_row(stage_name, key, engine, inputs, store, run_id, limit, meter) for key, inputs in rows]
    with meter.row() as seconds:
        made, tried = _called_together(stage_name, rows, engine, store, run_id)
        call_s = seconds()
    outcomes = []
    for key, inputs in rows:
        share_s = call_s / len(tried) if key in tried else 0.0  # also of a call that failed
        work = partial(batch.finish, made[key], inputs) if key in made else partial(run, engine, inputs, store)
        outcomes.append(_process(stage_name, key, work, store, run_id, limit, meter, share_s))
    return outcomes


def _called_together(
    stage_name: str, rows: Sequence[Work], engine: Any, store: Store, run_id: str
) -> tuple[dict[str, Any], list[str]]:
    """What the engine makes of those rows that are in no store and were in no batch of this run; nothing if it fails.

    Also returns the keys of the rows that were in the call.

    Raises:
        RunError: as `run_row`.
    """
    batch = STAGES[stage_name].batch
    assert batch is not None
    with _disk_errors_end_the_run():
        new = {
            key: inputs
            for key, inputs in rows
            if store.get(stage_name, key) is None
            and store.begin_attempt(stage_name, key, f"{run_id}-batch", limit=1) is not None
        }
        if len(new) < 2:
            return {}, []
        try:
            return dict(zip(new, batch.call(engine, list(new.values()), store), strict=True)), list(new)
        except RunError:
            for key in new:
                store.forget(stage_name, key)
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
                raise
            log.warning("%s: a batch of %d rows failed; each row is tried alone", stage_name, len(new), exc_info=True)
            return {}, list(new)


def run_row(
    stage_name: str,
    key: str,
    engine: Any,
    inputs: dict[str, Any],
    store: Store,
    run_id: str,
    limit: int,
    meter: Meter | None = None,
) -> str:
    """Process one row, and write its record or its rejection durably.

    Returns:
        "done", "rejected", or "kept" when the store had the record already.

    Raises:
        RunError: every other row would fail too: the store cannot be written (the disk is full, read-only or broken),
            or the engine says so.
    """
    work = partial(STAGES[stage_name].run, engine, inputs, store)
    return _process(stage_name, key, work, store, run_id, limit, meter or Meter("cpu"))


def _process(
    stage_name: str,
    key: str,
    work: Callable[[], tuple[Record, Blobs]],
    store: Store,
    run_id: str,
    limit: int,
    meter: Meter,
    earlier_s: float = 0.0,
) -> str:
    """As `run_row`; `earlier_s` was spent on the row before, together with others."""
    with _disk_errors_end_the_run(), meter.row() as seconds:

        def spent() -> Record:
            return {"spent": meter.spent(earlier_s + seconds())}

        if store.get(stage_name, key) is not None:
            return "kept"
        while (attempt := store.begin_attempt(stage_name, key, run_id, limit)) is not None:
            try:
                record, blobs = work()
                canonical(record)  # a record that is no JSON, such as one with NaN, is a failure of this row
            except RunError:
                store.forget(stage_name, key)  # this attempt does not count: the row was not at fault
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
                    raise
                if isinstance(error, ConnectionError | TimeoutError) and attempt < limit:
                    continue
                store.put(stage_name, key, _failure(error, attempt) | spent())
                return "rejected"
            store.put(stage_name, key, record | spent(), blobs)
            return "done"
        died = rejection(Reason.WORKER_DIED, "its worker died at every attempt")
        store.put(stage_name, key, died | {"attempts": limit} | spent())
        return "rejected"


@contextmanager
def _disk_errors_end_the_run() -> Iterator[None]:
    """Raise an OSError that is no row's failure as a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"the store cannot be written ({error.strerror or error}). Free space or name another --store, then run "
            "the same command again: finished rows are kept."
        ) from error


def _failure(error: Exception, attempts: int) -> Record:
    """The record of a row that raised `error`: its own reason, or else the exception's name and traceback."""
    if isinstance(error, RowError):
        return {"rejected": error.reason.value, "detail": _one_line(error.detail), "attempts": attempts}
    detail = str(error)
    if isinstance(error, OSError) and error.filename:
        detail = error.strerror or ""  # rejects are published, and the path is one of this machine
    lines = "".join(traceback.format_exception(error))[-MAX_TRACEBACK_LETTERS:]
    return {
        "rejected": type(error).__name__,
        "detail": _one_line(detail),
        "attempts": attempts,
        "traceback": _encodable(lines),
    }


def _one_line(text: str) -> str:
    return " ".join(_encodable(text).split())[:300]


def _encodable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()
