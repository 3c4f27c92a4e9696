"""A worker: it loads engines and passes rows to the row adapter, several at a time where the engine answers so.

It runs in a process of Ray. A task is some rows of one engine. What the worker reports travels as columns, so that an
error that ends the run arrives with its message and its traceback.
"""

from __future__ import annotations

import json
import queue
import threading
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gigavideo_data.errors import GigaVideoError, RunError
from gigavideo_data.io.hashing import canonical
from gigavideo_data.io.run_log import last_line
from gigavideo_data.models.judges.watched import WatchedJudge
from gigavideo_data.models.registry import load_engine, rows_at_once
from gigavideo_data.pipeline.execution.row_adapter import MAX_TRACEBACK_LETTERS, Work, run_rows
from gigavideo_data.pipeline.stages import STAGES
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.engines import Kind

MAX_MESSAGE_LETTERS = 300  # of an exception that is quoted in an error


@dataclass(frozen=True)
class Outcome:
    """What became of a row. `fatal` ends the run: every other row would fail too.

    Attributes:
        kind: done, rejected, kept (the store had it already) or fatal.
        message: of a fatal error, for the user.
        traceback: of a fatal error, for the log.
    """

    kind: str
    message: str = ""
    traceback: str = ""


class Worker:
    """A Ray actor, or one object in each process that runs Ray tasks."""

    def __init__(self, stage: str, store: str, run_id: str, attempts: int) -> None:
        """Create a worker without engines; they are loaded for the first row that needs them.

        Args:
            stage: name of the stage.
            store: folder of the store.
            run_id: names the run, for counting attempts.
            attempts: that one run may make of a row.
        """
        self.stage, self.store, self.run_id, self.attempts = stage, Store(Path(store)), run_id, attempts
        self.engines: dict[bytes, Any] = {}
        self.loading = threading.Lock()
        self.in_use: dict[bytes, threading.Lock] = {}  # of each engine that answers one row at a time
        self.fatal: Outcome | None = None  # why this worker can process no more rows

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Process tasks. Several threads may call this: an engine that answers one row at a time is in one of them.

        Args:
            batch: column `task`, JSON: the engine's settings (`engine`), and key and inputs of each row (`rows`).

        Returns:
            Columns `kind`, `message` and `traceback` (see `Outcome`), one line per row, in order.
        """
        outcomes = [outcome for task in batch["task"] for outcome in self._task(**json.loads(str(task)))]
        return {
            "kind": [outcome.kind for outcome in outcomes],
            "message": [outcome.message for outcome in outcomes],
            "traceback": [outcome.traceback for outcome in outcomes],
        }

    def _task(self, engine: dict[str, Any], rows: list[Work]) -> list[Outcome]:
        num_threads = rows_at_once(STAGES[self.stage].engine, engine["backend"])
        if num_threads > 1:
            return self._in_threads(engine, rows, num_threads)
        with self.in_use.setdefault(canonical(engine), threading.Lock()):
            return self._rows(engine, rows)

    def _in_threads(self, engine: dict[str, Any], rows: list[Work], num_threads: int) -> list[Outcome]:
        """Process rows in threads. After a fatal error the other rows are not waited for.

        An endpoint that drops connections can hold a request for minutes, while another one has failed already.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        finished: queue.SimpleQueue[tuple[int, Outcome | BaseException]] = queue.SimpleQueue()
        for number in range(len(rows)):
            waiting.put(number)

        def work() -> None:
            while True:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    finished.put((number, self._rows(engine, [rows[number]])[0]))
                except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, where it is raised
                    finished.put((number, error))

        for _ in range(min(num_threads, len(rows))):
            threading.Thread(target=work, daemon=True).start()
        outcomes: dict[int, Outcome] = {}
        while len(outcomes) < len(rows):
            number, outcome = finished.get()
            if isinstance(outcome, BaseException):
                raise outcome
            if self.fatal:
                return [self.fatal] * len(rows)
            outcomes[number] = outcome
        return [outcomes[number] for number in range(len(rows))]

    def _rows(self, settings: dict[str, Any], rows: list[Work]) -> list[Outcome]:
        if self.fatal:
            return [self.fatal] * len(rows)
        try:
            engine = self._engine(settings)
            return [*map(Outcome, run_rows(self.stage, rows, engine, self.store, self.run_id, self.attempts))]
        except RunError as error:  # returned, since Ray is configured to ignore exceptions
            lines = "".join(traceback.format_exception(error))[-MAX_TRACEBACK_LETTERS:]
            self.fatal = Outcome("fatal", str(error), lines)
            return [self.fatal] * len(rows)

    def _engine(self, settings: dict[str, Any]) -> Any:
        name = canonical(settings)
        with self.loading:
            if name not in self.engines:
                self.engines[name] = self._load(STAGES[self.stage].engine, settings)
        return self.engines[name]

    def _load(self, kind: Kind, settings: dict[str, Any]) -> Any:
        import cv2

        cv2.setNumThreads(1)
        try:
            engine = load_engine(kind, settings)
        except Exception as error:  # no row could be processed, so the run ends; the cause is kept for the log
            message = str(error) if isinstance(error, GigaVideoError) else last_line(error)
            message = " ".join(message.split())[:MAX_MESSAGE_LETTERS]
            raise RunError(f"{settings['backend']} cannot be loaded: {message}") from error
        if kind == "judge" and "min_mass" in settings:
            return WatchedJudge(engine, settings["model"], settings["min_mass"], settings.get("readout", "logits"))
        return engine


@cache
def _worker(stage: str, store: str, run_id: str, attempts: int) -> Worker:
    return Worker(stage, store, run_id, attempts)


def in_task(batch: dict[str, np.ndarray], *worker: Any) -> dict[str, list[str]]:
    """Process a batch in a Ray task, with this process's worker."""
    return _worker(*worker)(batch)
