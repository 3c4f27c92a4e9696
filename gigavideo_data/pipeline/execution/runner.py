"""The records of one stage's items: those of the store, and the missing ones by Ray; shown, counted, and none lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from filelock import FileLock, Timeout

from gigavideo_data.errors import RunError
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.run_log import run_log
from gigavideo_data.pipeline.execution.meter import DIGITS, Spent
from gigavideo_data.pipeline.execution.ray_executor import RayExecutor, ray_executor
from gigavideo_data.pipeline.stages import Item, Record
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.recipe import Limits, Scale

log = logging.getLogger(__name__)

MAX_INPUT_LETTERS = 500  # of a failed row, in the log

Key = TypeVar("Key", bound=Hashable)


class Runner(Protocol):
    """What the steps of a build need: records for items, and a place to report to."""

    progress: Progress

    def records(self, items: Sequence[Item], label: str | None = None) -> list[Record]:
        """Return one record for each item of one stage, in order; `label` is the name that is shown."""
        ...


def grouped_records(
    runner: Runner, groups: Sequence[Mapping[Key, Item]], label: str | None = None
) -> list[dict[Key, Record]]:
    """The records of groups of items of one stage, each under the key of its item; `label` as in `Runner.records`."""
    items = [item for group in groups for item in group.values()]
    by_item = dict(zip((item.key for item in items), runner.records(items, label), strict=True))
    return [{key: by_item[item.key] for key, item in group.items()} for group in groups]


class StoreRunner:
    """Takes records from the store and has Ray make the missing ones; `cost` says what each stage took."""

    def __init__(
        self, store: Store, executor: RayExecutor, progress: Progress, log_path: Path, *, retry_rejected: bool = False
    ) -> None:
        self.store, self.executor, self.progress, self.log_path = store, executor, progress, log_path
        self.retry_rejected = retry_rejected
        self.cost: list[dict[str, Any]] = []
        self._counted: set[str] = set()  # keys of the records whose cost is in `cost`

    def records(self, items: Sequence[Item], label: str | None = None) -> list[Record]:
        """Return one record for each item of one stage.

        Raises:
            RunError: rows are missing afterwards, the store is full, or a model cannot be loaded.
        """
        if not items:
            return []
        stage, label = items[0].stage, label or items[0].stage
        requested = {item.key: item for item in items}
        records = {key: self.store.get(stage, key) for key in requested}
        if self.retry_rejected:
            for key in [key for key, record in records.items() if record and "rejected" in record]:
                self.store.forget(stage, key)
                records[key] = None
        missing = [requested[key] for key, record in records.items() if record is None]
        damaged = sum(self.store.has_record(stage, item.key) for item in missing)
        if damaged:
            self.progress.note(f"{label}: {damaged} finished rows of the store are damaged and are made again")
        num_cached = len(requested) - len(missing)
        self.progress.start(label, total=len(requested), cached=num_cached)
        began = time.monotonic()
        if missing:
            for _ in self.executor.process(stage, missing, self.store):
                self.progress.advance()
            records |= {item.key: self.store.get(stage, item.key) for item in missing}
        self.progress.finish()
        finished = {key: record for key, record in records.items() if record is not None}
        if len(finished) < len(requested):
            raise RunError(
                f"{label}: {len(requested) - len(finished)} of {len(requested)} rows were neither finished nor "
                "rejected. Run the same command again: finished rows are kept."
            )
        self._log_failures(label, [(requested[key], record) for key, record in finished.items()])
        made = [finished[item.key] for item in missing]
        self._add_cost(label, finished, made, time.monotonic() - began)
        return [finished[item.key] for item in items]

    def _log_failures(self, label: str, finished: list[tuple[Item, Record]]) -> None:
        """Write the tracebacks of unexpected exceptions into the log, and name the log."""
        unexpected = [(item, record) for item, record in finished if "traceback" in record]
        for item, record in unexpected:
            log.error(
                "stage %s, row %s, engine %s, inputs %s\n%s",
                label,
                item.row_id or item.key,
                item.engine,
                str(item.inputs)[:MAX_INPUT_LETTERS],
                record["traceback"],
            )
        if unexpected:
            _, last = unexpected[-1]
            message = f"{label}: {len(unexpected)} rows failed unexpectedly, the last one with {last['rejected']}"
            self.progress.note(f"{message}: {last['detail']}. The tracebacks are in {self.log_path}")
        if any(record.get("rejected") == Reason.WORKER_DIED for _, record in finished):
            self.executor.session.log_worker_errors()

    def _add_cost(self, label: str, finished: dict[str, Record], made: list[Record], seconds: float) -> None:
        """Append an entry of cost.json: what this run did, and what the records took whenever they were made."""
        new = [record for key, record in finished.items() if key not in self._counted]
        self._counted |= finished.keys()
        cost = {
            "stage": label,
            "rows": len(finished),
            "calls": len(made),
            "cached": len(finished) - len(made),
            "seconds": round(seconds, 3),
            "spent": total_spent(new),
        }
        spent = [record["tokens"] for record in made if "tokens" in record]
        if spent:  # by a language model, in this run
            cost["tokens"] = {kind: sum(tokens[kind] for tokens in spent) for kind in ("prompt", "completion")}
        self.cost.append(cost)


def total_spent(records: Sequence[Record]) -> Spent | None:
    """What records took in all, by device; None if one of them does not say it, as those of older versions."""
    total: Spent = {}
    for record in records:
        if "spent" not in record:
            return None
        for device, seconds in record["spent"].items():
            total[device] = total.get(device, 0.0) + seconds
    return {device: round(seconds, DIGITS) for device, seconds in total.items()}


@contextmanager
def store_runner(
    out: Path,
    store_root: Path,
    progress: Progress,
    limits: Limits,
    scale: Scale,
    *,
    hosts: Sequence[str] = (),
    retry_rejected: bool = False,
) -> Iterator[StoreRunner]:
    """A runner for one run: its store, its Ray, and its log in `out`, which no other run uses meanwhile.

    Args:
        out: folder of the run's results.
        store_root: folder of the store.
        progress: where to show it.
        limits: of the recipe.
        scale: of the recipe.
        hosts: of endpoints, which the log must not contain.
        retry_rejected: process rejected rows of the store again.

    Raises:
        RunError: another run uses `out`, or the store cannot be written.
        UnexpectedError: of the block inside, see `run_log`.
    """
    lock_file = out / ".gv" / "lock"
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    store = Store(store_root)
    try:
        with FileLock(lock_file, timeout=0), run_log(out / "log.txt", hosts) as log_path:
            store.create()
            with ray_executor(limits, scale) as executor:
                yield StoreRunner(store, executor, progress, log_path, retry_rejected=retry_rejected)
    except Timeout:
        raise RunError(f"{out}: another build or evaluation uses this folder. Wait, or name another --out.") from None
