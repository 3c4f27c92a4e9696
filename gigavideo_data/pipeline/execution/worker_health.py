"""Whether a worker rejects rows because it is broken itself: counters of one stage, on the driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gigavideo_data.errors import RunError
from gigavideo_data.pipeline.execution.outcome import Outcome
from gigavideo_data.pipeline.stages import STAGES
from gigavideo_data.reasons import Reason, blames_worker

MAX_IN_A_ROW = 5
TIMES_THE_OTHERS = 10  # a worker's share of rejected rows, compared with that of all others
MIN_REJECTED = 10  # rows of that worker, below which shares are not compared


class SickWorkerError(RunError):
    """A worker rejects rows that are not to blame; `worker` names it, `keys` are these rows, the last one last."""

    def __init__(self, message: str, worker: str, keys: list[str]) -> None:
        super().__init__(message)
        self.worker, self.keys = worker, keys


@dataclass
class _Counts:
    finished: int = 0
    rejected: list[str] = field(default_factory=list)  # keys
    in_a_row: int = 0


class WorkerHealth:
    """Counts the outcomes of each worker. Rejections caused by the row itself are not counted."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._counts: dict[str, _Counts] = {}
        self._ended: dict[str, str] = {}  # key of a row whose task met a dead GPU or engine, to its worker

    def ended(self, worker: str, keys: Iterable[str]) -> None:
        """Note that a worker ended itself in a task with these rows."""
        self._ended |= dict.fromkeys(keys, worker)

    def blames(self, key: str, reason: str) -> bool:
        """Whether a rejection of the stage may be the fault of a worker."""
        if STAGES[self.stage].engine == "captions":
            return False  # files of a user, and no GPU
        return blames_worker(reason) or (reason == Reason.WORKER_DIED and key in self._ended)

    def count(self, outcome: Outcome) -> None:
        """Count a row.

        Raises:
            SickWorkerError: `MAX_IN_A_ROW` rows in a row were rejected, or a share of the rows that is
                `TIMES_THE_OTHERS` as large as that of the other workers.
        """
        blamed = outcome.kind == "rejected" and self.blames(outcome.key, outcome.reason)
        if outcome.kind != "done" and not blamed:
            return
        worker = self._ended.get(outcome.key, outcome.worker) if blamed else outcome.worker
        counts = self._counts.setdefault(worker, _Counts())
        if not blamed:
            counts.finished += 1
            counts.in_a_row = 0
            return
        counts.rejected.append(outcome.key)
        counts.in_a_row += 1
        num_rejected, num_rows = len(counts.rejected), len(counts.rejected) + counts.finished
        if counts.in_a_row >= MAX_IN_A_ROW:
            found = f"{counts.in_a_row} rows in a row"
        elif num_rejected >= MIN_REJECTED and num_rejected / num_rows >= TIMES_THE_OTHERS * self._share_without(worker):
            found = (
                f"{num_rejected} of {num_rows} rows, {TIMES_THE_OTHERS} times the share of the other workers or more,"
            )
        else:
            return
        raise SickWorkerError(
            f"{self.stage}: {worker} rejected {found} and no row is to blame for it. The last reason: "
            f"{outcome.message}. The tracebacks are in log.txt. Check that GPU or engine, then run the same command "
            "again: finished rows are kept, and these rows are done again.",
            worker,
            list(counts.rejected),
        )

    def _share_without(self, worker: str) -> float:
        """Share of rejected rows of all other workers. One more is assumed, so that few rows prove little."""
        others = [counts for name, counts in self._counts.items() if name != worker]
        rejected = 1 + sum(len(counts.rejected) for counts in others)
        return rejected / (rejected + sum(counts.finished for counts in others))
