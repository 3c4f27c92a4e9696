"""The records of one stage's items: those of the store, and the missing ones by Ray; shown, counted, and none lost.

A build may have more rows than fit into memory, so missing items are kept on disk and records in the store.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

from filelock import FileLock, Timeout

from gigavideo_data.errors import RunError
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.run_log import run_log
from gigavideo_data.io.spool import Spool
from gigavideo_data.pipeline.execution.meter import DIGITS, Spent
from gigavideo_data.pipeline.execution.ray_executor import RayExecutor, ray_executor
from gigavideo_data.pipeline.stages import Item, Record
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.recipe import Limits, Scale

log = logging.getLogger(__name__)

MAX_INPUT_LETTERS = 500  # of a failed row, in the log
KEY_LETTERS = 32  # of an item's key
TOKENS = ("prompt", "completion")
# Items that Ray gets at once: it keeps something of each in memory. Models are loaded again for the next ones.
ITEMS_AT_ONCE = 16_384

Key = TypeVar("Key", bound=Hashable)


class Runner(Protocol):
    """What the steps of a build need: records for items, and a place to report to."""

    progress: Progress

    def records(self, items: Iterable[Item], label: str | None = None) -> Sequence[Record]:
        """Return one record for each item of one stage, in order; `label` is the name that is shown.

        All items are taken before it returns.
        """
        ...


def grouped_records(
    runner: Runner, groups: Iterable[Mapping[Key, Item]], label: str | None = None
) -> Iterator[dict[Key, Record]]:
    """The records of groups of items of one stage, each under the key of its item; `label` as in `Runner.records`."""
    keys_of_groups: list[tuple[Key, ...]] = []
    known: dict[tuple[Key, ...], tuple[Key, ...]] = {}  # few are different, so each is in memory once

    def items() -> Iterator[Item]:
        for group in groups:
            keys = tuple(group)
            keys_of_groups.append(known.setdefault(keys, keys))
            yield from group.values()

    records = iter(runner.records(items(), label))
    return ({key: next(records) for key in keys} for keys in keys_of_groups)


class StoredRecords(Sequence[Record]):
    """Records of one stage that are in the store; each is read when it is used."""

    def __init__(self, store: Store) -> None:
        self._store, self._stage, self._keys = store, "", bytearray()

    def append(self, item: Item) -> None:
        """Add the record of an item, which need not be finished yet."""
        self._stage = item.stage
        self._keys += item.key.encode()

    def __len__(self) -> int:
        return len(self._keys) // KEY_LETTERS

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        start = range(len(self))[index] * KEY_LETTERS
        key = self._keys[start : start + KEY_LETTERS].decode()
        record = self._store.peek(self._stage, key)
        if record is None:
            raise RunError(f"{self._stage}: a finished row is gone from the store. Run the same command again.")
        return record


class StoreRunner:
    """Takes records from the store and has Ray make the missing ones; `cost` says what each stage took."""

    def __init__(
        self, store: Store, executor: RayExecutor, progress: Progress, log_path: Path, *, retry_rejected: bool = False
    ) -> None:
        self.store, self.executor, self.progress, self.log_path = store, executor, progress, log_path
        self.retry_rejected = retry_rejected
        self.cost: list[dict[str, Any]] = []
        self._counted: set[str] = set()  # keys of the records whose cost is in `cost`

    def records(self, items: Iterable[Item], label: str | None = None) -> Sequence[Record]:
        """Return one record for each item of one stage; memory holds few of them at a time.

        Raises:
            RunError: rows are missing afterwards, the store is full, or a model cannot be loaded.
        """
        items = iter(items)
        first = next(items, None)
        if first is None:
            return []
        stage, label = first.stage, label or first.stage
        records, requested, missing = StoredRecords(self.store), set[str](), Spool[Item]()
        failures, cost, damaged = _Failures(label), _Cost(label), 0
        for item in chain([first], items):
            records.append(item)
            if item.key in requested:
                continue
            requested.add(item.key)
            record = self.store.get(stage, item.key)
            if record and self.retry_rejected and "rejected" in record:
                self.store.forget(stage, item.key)
                record = None
            if record:
                failures.add(item, record)
                cost.add(record, is_new=item.key not in self._counted)
            else:
                damaged += self.store.has_record(stage, item.key)
                missing.append(item)
        if damaged:
            self.progress.note(f"{label}: {damaged} finished rows of the store are damaged and are made again")
        self.progress.start(label, total=len(requested), cached=len(requested) - len(missing))
        began = time.monotonic()
        for start in range(0, len(missing), ITEMS_AT_ONCE):
            for _ in self.executor.process(stage, missing[start : start + ITEMS_AT_ONCE], self.store):
                self.progress.advance()
        self.progress.finish()
        for item in missing:
            record = self.store.get(stage, item.key)
            if record:
                cost.add(record, is_new=item.key not in self._counted, made=True)
                failures.add(item, record)
        if cost.made < len(missing):
            raise RunError(
                f"{label}: {len(missing) - cost.made} of {len(requested)} rows were neither finished nor "
                "rejected. Run the same command again: finished rows are kept."
            )
        if failures.num_unexpected:
            self.progress.note(f"{failures}. The tracebacks are in {self.log_path}")
        if failures.worker_died:
            self.executor.session.log_worker_errors()
        self._counted |= requested
        self.cost.append(cost.entry(time.monotonic() - began))
        return records


class _Failures:
    """Writes the tracebacks of unexpected exceptions into the log, and counts them."""

    def __init__(self, label: str) -> None:
        self.label, self.num_unexpected, self.worker_died = label, 0, False
        self._last: Record = {}

    def add(self, item: Item, record: Record) -> None:
        """Look at the record of an item."""
        self.worker_died |= record.get("rejected") == Reason.WORKER_DIED
        if "traceback" not in record:
            return
        self.num_unexpected, self._last = self.num_unexpected + 1, record
        log.error(
            "stage %s, row %s, engine %s, inputs %s\n%s",
            self.label,
            item.row_id or item.key,
            item.engine,
            str(item.inputs)[:MAX_INPUT_LETTERS],
            record["traceback"],
        )

    def __str__(self) -> str:
        message = f"{self.label}: {self.num_unexpected} rows failed unexpectedly, the last one with"
        return f"{message} {self._last['rejected']}: {self._last['detail']}"


class _Cost:
    """What a stage took: in this run, and of the rows' time whenever they were made."""

    def __init__(self, label: str) -> None:
        self.label, self.num_rows, self.made = label, 0, 0
        self._tokens: Counter[str] = Counter()
        self._spent: Spent | None = {}

    def add(self, record: Record, *, is_new: bool, made: bool = False) -> None:
        """Count a record.

        Args:
            record: of a row.
            is_new: whether no entry of this run has counted its time.
            made: whether it was made in this run.
        """
        self.num_rows += 1
        self._spent = with_spent(self._spent, record) if is_new else self._spent
        if made:
            self.made += 1
            self._tokens.update({kind: record["tokens"][kind] for kind in TOKENS} if "tokens" in record else {})

    def entry(self, seconds: float) -> dict[str, Any]:
        """The stage's entry of cost.json."""
        total = self._spent
        cost = {
            "stage": self.label,
            "rows": self.num_rows,
            "calls": self.made,
            "cached": self.num_rows - self.made,
            "seconds": round(seconds, 3),
            "spent": None if total is None else {device: round(value, DIGITS) for device, value in total.items()},
        }
        return cost | ({"tokens": dict(self._tokens)} if self._tokens else {})  # of a language model


def with_spent(total: Spent | None, record: Record) -> Spent | None:
    """A total, by device, with what a record took; None if it does not say it, as those of older versions."""
    if total is None or "spent" not in record:
        return None
    spent: Spent = record["spent"]
    return total | {device: total.get(device, 0.0) + seconds for device, seconds in spent.items()}


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
