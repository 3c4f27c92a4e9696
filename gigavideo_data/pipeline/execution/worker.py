"""A worker: it loads engines and passes rows to the row adapter, several at a time where the engine answers so.

It runs in a process of Ray. A task is some rows of one engine. What becomes of rows travels as columns, so that an
error that ends the run arrives with its message and its traceback. A dead GPU or engine ends the process: Ray starts
another one for its rows.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gigavideo_data import heartbeat
from gigavideo_data.errors import GigaVideoError, RunError
from gigavideo_data.io.hashing import canonical
from gigavideo_data.io.run_log import last_line
from gigavideo_data.models.judges.watched import WatchedJudge
from gigavideo_data.models.registry import is_remote, load_engine, rows_at_once
from gigavideo_data.pipeline.execution.meter import Device, Meter
from gigavideo_data.pipeline.execution.outcome import Outcome, to_columns
from gigavideo_data.pipeline.execution.reports import Pulse, Reporter, worker_name
from gigavideo_data.pipeline.execution.row_adapter import MAX_TRACEBACK_LETTERS, Work, WorkerFailure, run_rows
from gigavideo_data.pipeline.stages import STAGES
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.engines import Kind

MAX_MESSAGE_LETTERS = 300  # of an exception that is quoted in an error


class Worker:
    """A Ray actor, or one object in each process that runs Ray tasks."""

    def __init__(self, stage: str, store: str, run_id: str, attempts: int, num_gpus: float = 0.0) -> None:
        """Create a worker without engines; they are loaded for the first row that needs them.

        Args:
            stage: name of the stage.
            store: folder of the store.
            run_id: names the run, for counting attempts.
            attempts: that one run may make of a row.
            num_gpus: that the worker holds.
        """
        self.stage, self.store, self.run_id, self.attempts = stage, Store(Path(store)), run_id, attempts
        self.num_gpus = num_gpus
        self.engines: dict[bytes, Any] = {}
        self.loading = threading.Lock()
        self.turn = threading.Lock() if STAGES[stage].batch else None  # held while an engine makes rows together
        self.in_use: dict[bytes, threading.Lock] = {}  # of each engine that answers one row at a time
        self.alone = threading.Lock()  # held by a row that was begun before: it may have killed its worker
        self.meters: dict[Device, Meter] = {}  # the tasks of a worker share its time
        self.at_work: list[str] = []  # keys of the rows of all tasks in progress
        self.fatal: Outcome | None = None  # why this worker can process no more rows
        self.pulse = Pulse()
        self.reporter = Reporter(self.store.reports(run_id), worker_name(num_gpus), self.pulse)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Process tasks. Several threads may call this: an engine that answers one row at a time is in one of them.

        Args:
            batch: column `task`, JSON: the engine's settings (`engine`), and key and inputs of each row (`rows`).

        Returns:
            Columns of one `Outcome` per row, in order.
        """
        tasks = [json.loads(str(task)) for task in batch["task"]]
        mine = [key for task in tasks for key, _ in task["rows"]]
        self.at_work += mine
        try:
            with heartbeat.listening(self.pulse.beat), self.reporter.reporting():
                outcomes = [outcome for task in tasks for outcome in self._task(**task)]
        except WorkerFailure as failure:
            self.reporter.report_end(failure.key, [*self.at_work], failure.error)
            end_process(failure)
        for key in mine:
            self.at_work.remove(key)
        return to_columns([replace(outcome, worker=self.reporter.worker) for outcome in outcomes])

    def _task(self, engine: dict[str, Any], rows: list[Work]) -> list[Outcome]:
        kind, backend = STAGES[self.stage].engine, engine["backend"]
        device: Device = "endpoint" if is_remote(kind, backend) else "gpu" if self.num_gpus else "cpu"
        meter = self.meters.setdefault(device, Meter(device, self.num_gpus))
        num_threads = rows_at_once(kind, backend)
        if num_threads > 1:
            return self._in_threads(engine, rows, meter, num_threads)
        if self.turn:  # which is held for the engine's calls alone
            return self._rows(engine, rows, meter)
        with self.in_use.setdefault(canonical(engine), threading.Lock()):
            return self._rows(engine, rows, meter)

    def _in_threads(self, engine: dict[str, Any], rows: list[Work], meter: Meter, num_threads: int) -> list[Outcome]:
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
                    finished.put((number, self._rows(engine, [rows[number]], meter)[0]))
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

    def _rows(self, settings: dict[str, Any], rows: list[Work], meter: Meter) -> list[Outcome]:
        if self.fatal:
            return [self.fatal] * len(rows)
        parts = [rows] if STAGES[self.stage].batch else [[row] for row in rows]
        try:
            engine = self._engine(settings)
            return [outcome for part in parts for outcome in self._part(engine, part, meter)]
        except RunError as error:  # returned, since Ray is configured to ignore exceptions
            lines = "".join(traceback.format_exception(error))[-MAX_TRACEBACK_LETTERS:]
            self.fatal = Outcome("fatal", str(error), lines)
            return [self.fatal] * len(rows)

    def _part(self, engine: Any, rows: list[Work], meter: Meter) -> list[Outcome]:
        """Process rows that the engine gets together; a row that was begun before, with no such row beside it."""
        turn = self.turn
        if turn is None and self.store.num_attempts(self.stage, rows[0][0], self.run_id):
            turn = self.alone
        with self.pulse.row(rows[0][0]):
            kinds = run_rows(self.stage, rows, engine, self.store, self.run_id, self.attempts, meter, turn)
        return [self._outcome(kind, key) for kind, (key, _) in zip(kinds, rows, strict=True)]

    def _outcome(self, kind: str, key: str) -> Outcome:
        record = self.store.peek(self.stage, key) if kind == "rejected" else None
        if record is None:
            return Outcome(kind, key=key)
        return Outcome(kind, f"{record['rejected']}: {record['detail']}", key=key, reason=record["rejected"])

    def _engine(self, settings: dict[str, Any]) -> Any:
        name = canonical(settings)
        with self.loading:
            if name not in self.engines:
                with self.pulse.loading():
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


def end_process(failure: WorkerFailure) -> NoReturn:
    """End the process as a crash would: Ray starts another one and does the task again."""
    traceback.print_exception(failure, file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


@cache
def _worker(stage: str, store: str, run_id: str, attempts: int, num_gpus: float) -> Worker:
    return Worker(stage, store, run_id, attempts, num_gpus)


def in_task(batch: dict[str, np.ndarray], *worker: Any) -> dict[str, list[str]]:
    """Process a batch in a Ray task, with this process's worker."""
    return _worker(*worker)(batch)
