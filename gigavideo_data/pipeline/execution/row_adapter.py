"""The one adapter through which every row passes.

It guarantees that a finished row is never processed twice, that an attempt is counted before it starts, and that a
failed row becomes a record with the reason.
"""

from __future__ import annotations

import errno
import traceback
from typing import Any

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.io.hashing import canonical
from gigavideo_data.pipeline.stages import STAGES, Record, rejection
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason

MAX_TRACEBACK_LETTERS = 20_000  # kept of one; its end names the exception

# Errors of the disk: every other row would fail too, so the run stops.
FATAL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES)


def run_row(
    stage_name: str, key: str, engine: Any, inputs: dict[str, Any], store: Store, run_id: str, limit: int
) -> str:
    """Process one row, and write its record or its rejection durably.

    Returns:
        "done", "rejected", or "kept" when the store had the record already.

    Raises:
        RunError: every other row would fail too: the store cannot be written (the disk is full, read-only or broken),
            or the engine says so.
    """
    try:
        if store.get(stage_name, key) is not None:
            return "kept"
        while (attempt := store.begin_attempt(stage_name, key, run_id, limit)) is not None:
            try:
                record, blobs = STAGES[stage_name].run(engine, inputs, store)
                canonical(record)  # a record that is no JSON, such as one with NaN, is a failure of this row
            except RunError:
                store.forget(stage_name, key)  # this attempt does not count: the row was not at fault
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in FATAL_ERRNOS:
                    raise
                if isinstance(error, ConnectionError | TimeoutError) and attempt < limit:
                    continue
                store.put(stage_name, key, _failure(error, attempt))
                return "rejected"
            store.put(stage_name, key, record, blobs)
            return "done"
        died = rejection(Reason.WORKER_DIED, "its worker died at every attempt")
        store.put(stage_name, key, died | {"attempts": limit})
        return "rejected"
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
