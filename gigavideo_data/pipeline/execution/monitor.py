"""The driver's view of the workers of one stage: it reads their reports, and counts what becomes of their rows."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from gigavideo_data.pipeline.execution.outcome import Outcome
from gigavideo_data.pipeline.execution.reports import Report, take_reports
from gigavideo_data.pipeline.execution.watchdog import Watchdog
from gigavideo_data.pipeline.execution.worker_health import MAX_IN_A_ROW, SickWorkerError, WorkerHealth
from gigavideo_data.pipeline.stages import Item
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason

log = logging.getLogger(__name__)


class StageMonitor:
    """Watches the workers of one stage."""

    def __init__(self, items: list[Item], reports: Path, least_s: float) -> None:
        """Start to watch.

        Args:
            items: of the stage.
            reports: folder of the workers' reports.
            least_s: see `Watchdog`.
        """
        self.stage, self.keys = items[0].stage, [item.key for item in items]
        self._names = {item.key: item.row_id or item.key for item in items}
        self._folder = reports
        self._watchdog = Watchdog(self.stage, self._names, least_s)
        self._health = WorkerHealth(self.stage)

    def poll(self) -> None:
        """Read the reports; those of workers that ended are logged.

        Raises:
            RunError: see `Watchdog.check`.
        """
        self._watchdog.check(self._living())

    def count(self, outcome: Outcome) -> None:
        """Count a row that came back.

        Raises:
            SickWorkerError: see `WorkerHealth.count`.
        """
        self._watchdog.progressed()
        if outcome.reason == Reason.WORKER_DIED:
            self._living()  # may say why it died
        self._health.count(outcome)

    def log_rejections(self, error: SickWorkerError, store: Store) -> None:
        """Write the tracebacks of a worker's last rejections into the run's log."""
        for key in error.keys[-MAX_IN_A_ROW:]:
            record = store.peek(self.stage, key) or {}
            log.error("%s: %s rejected row %s\n%s", self.stage, error.worker, self._names[key], record.get("traceback"))

    def forget_rejections(self, store: Store) -> None:
        """Remove the rejections that may be a worker's fault, so that the next run does these rows again."""
        for key in self.keys:
            record = store.peek(self.stage, key)
            if record and "rejected" in record and self._health.blames(key, record["rejected"]):
                store.forget(self.stage, key)

    def close(self) -> None:
        """Read the last reports and remove them."""
        self._living()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _living(self) -> list[Report]:
        """The reports of workers that go on. That a worker ended is logged."""
        reports = take_reports(self._folder)
        for report in reports:
            if report.error:
                self._health.ended(report.worker, report.task)
                log.error(
                    "%s: %s ended at row %s: %s. Ray starts it again, and its rows are done again\n%s",
                    self.stage,
                    report.where,
                    self._names.get(report.row, report.row),
                    report.error,
                    report.traceback,
                )
        return [report for report in reports if not report.error]
