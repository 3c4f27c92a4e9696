"""Ends a run in which a row is stuck: its worker lives, and no heartbeat came for much longer than usual.

A worker whose reports stop is gone, or blocks its own threads. Ray starts another one, so it is not waited for; if
nobody works any more, the run ends too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from gigavideo_data.errors import RunError
from gigavideo_data.pipeline.execution.reports import Report

MEDIAN_GAPS = 20  # a row is stuck after so many times the median gap between two heartbeats of its stage
LOADING_S = 4 * 3600  # for an engine without a heartbeat: 140 GB at 10 MB/s, fetched by a library that sends none
WAITING_S = 1800  # for a worker to do anything
GONE_S = 60  # without a change of a worker's report, which shared storage may show late

AGAIN = "Run the same command again: finished rows are kept."


class Watchdog:
    """Watches one stage."""

    def __init__(
        self, stage: str, names: Mapping[str, str], least_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock.

        Args:
            stage: its name.
            names: of its rows, by key.
            least_s: seconds without a heartbeat that are allowed in any case.
            clock: seconds.
        """
        self.stage, self.names, self.least_s, self.clock = stage, names, least_s, clock
        self._last_progress = clock()
        self._changed: dict[tuple[str, int], tuple[int, float]] = {}  # number of the newest report, and when it came
        self._gaps: dict[tuple[str, int], float] = {}

    @property
    def limit_s(self) -> float:
        """Seconds without a heartbeat after which a row is stuck."""
        return max(self.least_s, MEDIAN_GAPS * median(self._gaps.values()) if self._gaps else 0.0)

    def progressed(self) -> None:
        """Note that rows finished."""
        self._last_progress = self.clock()

    def check(self, reports: Sequence[Report]) -> None:
        """Compare the reports of all workers with the limits.

        Raises:
            RunError: a row is stuck, an engine is loaded for too long, or nobody works.
        """
        now = self.clock()
        for report in reports:
            process = report.worker, report.pid
            if self._changed.get(process, (None, now))[0] != report.number:
                self._changed[process] = report.number, now
            if report.gap_s is not None:
                self._gaps[process] = report.gap_s
        for report in reports:
            lives = now - self._changed[report.worker, report.pid][1] < GONE_S
            if lives and (report.row or report.loading):
                self._last_progress = now
                self._check_one(report)
        if now - self._last_progress > WAITING_S:
            raise RunError(f"{self.stage}: no row finished and no worker was at work for {WAITING_S} s. {AGAIN}")

    def _check_one(self, report: Report) -> None:
        if report.loading:
            if report.quiet_s > LOADING_S:
                raise RunError(
                    f"{self.stage}: the engine on {report.where} is not loaded after {report.quiet_s:.0f} s. {AGAIN}"
                )
            return
        if report.quiet_s > self.limit_s:
            row = self.names.get(report.row, report.row)
            raise RunError(
                f"{self.stage}: row {row} is stuck on {report.where}: its last heartbeat was "
                f"{report.quiet_s:.0f} s ago and the limit is {self.limit_s:.0f} s. {AGAIN} If one step of this model "
                "takes that long, raise limits.stall_s."
            )
