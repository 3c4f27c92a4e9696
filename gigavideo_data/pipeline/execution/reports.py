"""What each worker is doing, for the driver: a small file in the store, written while a task takes long.

A thread of the worker writes it every few seconds, so a file that stops changing belongs to a process that is gone. The
worker measures times itself: clocks of two nodes are never compared.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from traceback import format_exception

from gigavideo_data.io.run_log import last_line
from gigavideo_data.pipeline.execution.row_adapter import MAX_TRACEBACK_LETTERS

REPORT_S = 5.0  # between two reports of a worker
MAX_GAPS = 1000  # the latest ones, of which a worker reports the median


@dataclass(frozen=True)
class Report:
    """One report of a worker.

    Attributes:
        worker: its host and GPU, or its host and process.
        pid: its process.
        number: of this report of the process; it grows as long as the process lives.
        row: key of the row in progress, the one that began first; empty if there is none.
        loading: whether an engine is being loaded, files fetched included.
        quiet_s: since the last heartbeat, or since row or loading began.
        gap_s: median time between two heartbeats of rows; None before the first one.
        error: why the process ends; empty while it goes on.
        traceback: of that error, for the log.
        task: keys of the rows of its task, if it ends.
    """

    worker: str
    pid: int
    number: int
    row: str = ""
    loading: bool = False
    quiet_s: float = 0.0
    gap_s: float | None = None
    error: str = ""
    traceback: str = ""
    task: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The worker with its process."""
        process = f"process {self.pid}"
        return self.worker if self.worker.endswith(process) else f"{self.worker} ({process})"


class Pulse:
    """When a worker made progress last. Methods may be called by any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._last, self._num_beats, self._loading = clock(), 0, False
        self._gaps: deque[float] = deque(maxlen=MAX_GAPS)
        self._rows: list[str] = []

    def beat(self) -> None:
        """Note progress within a row or within loading."""
        with self._lock:
            now = self._clock()
            if not self._loading:
                self._gaps.append(now - self._last)
            self._last = now
            self._num_beats += 1

    @contextmanager
    def row(self, key: str) -> Iterator[None]:
        """A row is in progress. Its end counts as a heartbeat if there was none in between."""
        with self._lock:
            self._last, before = self._clock(), self._num_beats
            self._rows.append(key)
        try:
            yield
        finally:
            if self._num_beats == before:
                self.beat()
            self._rows.remove(key)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """An engine is being loaded, which is not a row's time."""
        with self._lock:
            self._last, self._loading = self._clock(), True
        try:
            yield
        finally:
            with self._lock:
                self._last, self._loading = self._clock(), False

    def report(self, worker: str, number: int) -> Report:
        """What the worker is doing now."""
        with self._lock:
            gap_s = median(self._gaps) if self._gaps else None
            row, quiet_s = next(iter(self._rows), ""), self._clock() - self._last
        return Report(worker, os.getpid(), number, row, self._loading, quiet_s, gap_s)


class Reporter:
    """Writes the reports of this process."""

    def __init__(self, folder: Path, worker: str, pulse: Pulse) -> None:
        self.worker, self._pulse, self._number = worker, pulse, 0
        self._lock, self._num_tasks, self._has_ended = threading.Lock(), 0, False
        self._file = folder / f"{socket.gethostname()}-{os.getpid()}.json"

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report until the end of a task; two may be in progress. A short task writes no file."""
        ended = threading.Event()
        with self._lock:
            self._num_tasks += 1

        def report() -> None:
            while not ended.wait(REPORT_S):
                self.report()

        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with self._lock:
                self._num_tasks -= 1
                if not self._num_tasks and not self._has_ended:
                    self._file.unlink(missing_ok=True)

    def report(self) -> None:
        """Report what the process is doing."""
        self._number += 1
        self._write(self._pulse.report(self.worker, self._number))

    def report_end(self, row: str, task: Sequence[str], error: BaseException) -> None:
        """Report that the process ends because of an error, which a row of a task met."""
        lines = "".join(format_exception(error))[-MAX_TRACEBACK_LETTERS:]
        number = self._number + 1
        self._write(
            Report(self.worker, os.getpid(), number, row, error=last_line(error), traceback=lines, task=(*task,))
        )

    def _write(self, report: Report) -> None:
        temporary = self._file.with_suffix(".new")
        with self._lock, suppress(OSError):  # a full disk is found by the rows
            if self._has_ended:
                return  # the first report of the end stays
            self._has_ended = bool(report.error)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(asdict(report)), "utf-8")
            temporary.replace(self._file)


def worker_name(gpus: float) -> str:
    """Names what may be at fault: the GPU of this process, which outlives it, or else the process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if gpus else None
    return f"{socket.gethostname()} {f'GPU {visible}' if visible else f'process {os.getpid()}'}"


def take_reports(folder: Path) -> list[Report]:
    """The reports of all workers. Those of processes that ended themselves are removed."""
    reports = []
    for file in folder.glob("*.json"):
        with suppress(OSError, ValueError):  # the worker removed it meanwhile, or it is half written
            report = Report(**json.loads(file.read_bytes()))
            reports.append(report)
            if report.error:
                file.unlink(missing_ok=True)
    return reports
