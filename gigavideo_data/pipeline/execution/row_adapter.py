"""The one adapter through which every row passes.

It guarantees that a finished row is never processed twice, that an attempt is counted before it starts, and that a
failed row becomes a record with the reason. Where a stage processes rows in batches, this holds for every row of one.
A dead GPU or engine is no failure of a row: `WorkerFailure` ends the process, and the row is done again elsewhere.
A record says what its row took (`spent`, see `meter`), so that a resumed build knows what its earlier runs spent.

Where several threads share an engine, a row takes its turn before its attempt is counted, and gives it up after the
engine's call: its video is encoded and written while the engine makes the next one. From its second attempt on a row
keeps the turn to the end. So a row that kills its worker is not counted against the rows beside it more than once.
"""

from __future__ import annotations

import errno
import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from gigavideo_data import heartbeat
from gigavideo_data.errors import RowError, RunError
from gigavideo_data.io.hashing import canonical
from gigavideo_data.models.device_errors import free_memory, is_dead, is_out_of_memory
from gigavideo_data.pipeline.execution.meter import Meter
from gigavideo_data.pipeline.stages import STAGES, Batch, Blobs, Record, rejection
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason

Work = tuple[str, dict[str, Any]]  # key and inputs of a row
# What is done for one row; it is given a function that it calls once it needs the engine no more.
RowWork = Callable[[Callable[[], None]], tuple[Record, Blobs]]

Result = TypeVar("Result")

log = logging.getLogger(__name__)

MAX_TRACEBACK_LETTERS = 20_000  # kept of one; its end names the exception

# Errors of the disk: every other row would fail too, so the run stops.
FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES)


class WorkerFailure(BaseException):
    """The GPU or the engine of this process is dead. No `except Exception` may make a rejection of it.

    `key` names the row whose attempt met the error.
    """

    def __init__(self, key: str, error: Exception) -> None:
        super().__init__(key, error)
        self.key, self.error = key, error


def run_rows(
    stage_name: str,
    rows: Sequence[Work],
    engine: Any,
    store: Store,
    run_id: str,
    limit: int,
    meter: Meter | None = None,
    turn: threading.Lock | None = None,
) -> list[str]:
    """Process rows of one engine, in one call of it where the stage has batches, and write each as `run_row` does.

    A row is in one batch of a run at most. If the call fails or its worker dies, each of its rows is tried alone, with
    `limit` attempts of its own, so a bad row does not reject the others. If a GPU has too little memory for the call,
    each half of the batch is tried first.

    Args:
        stage_name: name of the stage.
        rows: keys and inputs.
        engine: of all rows.
        store: where finished rows are.
        run_id: names the run, for counting attempts.
        limit: attempts that one run may make of a row alone.
        meter: measures what the rows take; by default, they take time of a CPU.
        turn: held by the one thread that may call the engine; None where there is one thread.

    Returns:
        What `run_row` returns, for each row.

    Raises:
        RunError, WorkerFailure: as `run_row`.
    """
    meter, batch = meter or Meter("cpu"), STAGES[stage_name].batch
    if batch is None or len(rows) < 2:
        return [run_row(stage_name, key, engine, inputs, store, run_id, limit, meter, turn) for key, inputs in rows]
    with turn or nullcontext(), meter.row() as seconds:
        made, tried = _called_together(stage_name, rows, engine, store, run_id)
        call_s = seconds()
    outcomes = []
    for key, inputs in rows:
        share_s = call_s / len(tried) if key in tried else 0.0  # also of a call that failed
        work, held = _alone(stage_name, engine, inputs, store), turn
        if key in made:
            work, held = _finishing(batch, made[key], inputs), None
        outcomes.append(_process(stage_name, (key, inputs), work, store, run_id, limit, meter, held, share_s))
    return outcomes


def _called_together(
    stage_name: str, rows: Sequence[Work], engine: Any, store: Store, run_id: str
) -> tuple[dict[str, Any], list[str]]:
    """What the engine makes of those rows that are in no store and were in no batch of this run; nothing if it fails.

    Also returns the keys of the rows that were in the call.

    Raises:
        RunError, WorkerFailure: as `run_row`.
    """
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
            mine, middle = list(new.items()), len(new) // 2
            made, memory_ran_out = _call(stage_name, mine, engine, store)
            if memory_ran_out:
                free_memory()
                for half in (mine[:middle], mine[middle:]):
                    made |= _call(stage_name, half, engine, store)[0]
            return made, list(new)
        except RunError:
            for key in new:
                store.forget(stage_name, key)
            raise


def _call(stage_name: str, rows: list[Work], engine: Any, store: Store) -> tuple[dict[str, Any], bool]:
    """One call of the engine: what it makes of each row, nothing if it fails; and whether the GPU's memory ran out."""
    batch = STAGES[stage_name].batch
    assert batch is not None
    try:
        made = batch.call(engine, [inputs for _, inputs in rows], store)
        return dict(zip((key for key, _ in rows), made, strict=True)), False
    except RunError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
            raise
        if is_dead(error):
            raise WorkerFailure(rows[0][0], error) from error
        log.warning("%s: a batch of %d rows failed, a smaller one is tried", stage_name, len(rows), exc_info=True)
        return {}, is_out_of_memory(error)


def run_row(
    stage_name: str,
    key: str,
    engine: Any,
    inputs: dict[str, Any],
    store: Store,
    run_id: str,
    limit: int,
    meter: Meter | None = None,
    turn: threading.Lock | None = None,
) -> str:
    """Process one row, and write its record or its rejection durably; `meter` and `turn` as of `run_rows`.

    Returns:
        "done", "rejected", or "kept" when the store had the record already.

    Raises:
        RunError: every other row would fail too: the store cannot be written (the disk is full, read-only or broken),
            or the engine says so.
        WorkerFailure: the GPU or the engine is dead; the attempt stays counted.
    """
    work = _alone(stage_name, engine, inputs, store)
    return _process(stage_name, (key, inputs), work, store, run_id, limit, meter or Meter("cpu"), turn)


def _alone(stage_name: str, engine: Any, inputs: dict[str, Any], store: Store) -> RowWork:
    """The work on one row that is in no batch."""
    run = STAGES[stage_name].run

    def work(called: Callable[[], None]) -> tuple[Record, Blobs]:
        if not isinstance(run, Batch):
            return run(engine, inputs, store)
        (made,) = run.call(engine, [inputs], store)
        called()
        return run.finish(made, inputs)

    return work


def _finishing(batch: Batch, made: Any, inputs: dict[str, Any]) -> RowWork:
    """The work on one row of a batch, after the engine's call."""

    def work(_: Callable[[], None]) -> tuple[Record, Blobs]:
        return batch.finish(made, inputs)

    return work


def _process(
    stage_name: str,
    row: Work,
    work: RowWork,
    store: Store,
    run_id: str,
    limit: int,
    meter: Meter,
    turn: threading.Lock | None = None,
    earlier_s: float = 0.0,
) -> str:
    """As `run_row`; `earlier_s` was spent on the row before, together with others."""
    key, inputs = row
    with _disk_errors_end_the_run(), meter.row() as seconds:

        def spent() -> Record:
            return {"spent": meter.spent(earlier_s + seconds())}

        if store.get(stage_name, key) is not None:
            return "kept"
        while True:
            with _holding(turn) as give_up:
                attempt = store.begin_attempt(stage_name, key, run_id, limit)
                if attempt is None:
                    break
                try:
                    record, blobs = _with_memory_freed(partial(work, give_up if attempt == 1 else _nothing))
                    canonical(record)  # a record that is no JSON, such as one with NaN, is a failure of this row
                except RunError:
                    store.forget(stage_name, key)  # this attempt does not count: the row was not at fault
                    raise
                except Exception as error:
                    if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
                        raise
                    if is_dead(error):
                        raise WorkerFailure(key, error) from error
                    if isinstance(error, ConnectionError | TimeoutError) and attempt < limit:
                        heartbeat.beat()  # the next attempt has its own time
                        continue
                    store.put(stage_name, key, _failure(error, attempt, inputs) | spent())
                    return "rejected"
                store.put(stage_name, key, record | spent(), blobs)
                return "done"
        died = rejection(Reason.WORKER_DIED, "its worker died at every attempt")
        store.put(stage_name, key, died | {"attempts": limit} | spent())
        return "rejected"


def _with_memory_freed(work: Callable[[], Result]) -> Result:
    """Do the work; if a GPU has too little memory for it, free what can be freed and do it once more."""
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    free_memory()
    return work()


@contextmanager
def _holding(turn: threading.Lock | None) -> Iterator[Callable[[], None]]:
    """Hold the turn, if there is one, and yield a function that gives it up before the end."""
    with ExitStack() as held:
        if turn is not None:
            held.enter_context(turn)
        yield held.close


def _nothing() -> None: ...


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


def _failure(error: Exception, attempts: int, inputs: dict[str, Any]) -> Record:
    """The record of a row that raised `error`: its own reason, or else the exception's name and traceback."""
    if isinstance(error, RowError):
        return {"rejected": error.reason.value, "detail": _one_line(error.detail), "attempts": attempts}
    detail = str(error)
    if isinstance(error, OSError) and error.filename:
        detail = error.strerror or ""  # rejects are published, and the path is one of this machine
    reason = type(error).__name__
    if is_out_of_memory(error):
        reason, detail = Reason.OUT_OF_MEMORY.value, f"{_size(inputs)}: {detail}"
    lines = "".join(traceback.format_exception(error))[-MAX_TRACEBACK_LETTERS:]
    return {
        "rejected": reason,
        "detail": _one_line(detail),
        "attempts": attempts,
        "traceback": _encodable(lines),
    }


def _size(inputs: dict[str, Any]) -> str:
    """What a call for one row had to hold; the message of torch adds the bytes."""
    if "shape" in inputs:
        return "one video of {num_frames} frames of {width} x {height} px".format_map(inputs["shape"])
    if "questions" in inputs:
        return f"one clip and {len(inputs['questions'])} questions"
    return "one row"


def _one_line(text: str) -> str:
    return " ".join(_encodable(text).split())[:300]


def _encodable(text: str) -> str:
    """The text without lone surrogates, which UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()
