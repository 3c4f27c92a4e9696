"""What rows take: a worker's busy time is divided among its rows, kept in their records, and added up over runs."""

import io
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gigavideo_data.io.progress import Progress
from gigavideo_data.pipeline.execution import meter
from gigavideo_data.pipeline.execution.meter import Meter
from gigavideo_data.pipeline.execution.row_adapter import run_row, run_rows
from gigavideo_data.pipeline.execution.runner import StoreRunner, with_spent
from gigavideo_data.pipeline.execution.worker import Worker
from gigavideo_data.pipeline.stages import STAGES, Batch, Item, Stage
from gigavideo_data.pipeline.store import Store


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(meter, "time", found)
    return found


def test_rows_at_the_same_time_share_it_and_their_sum_is_the_busy_time(clock: Clock) -> None:
    shared = Meter("cpu")
    with shared.row() as one:
        clock.now += 2  # alone
        with shared.row() as two:
            clock.now += 4  # together
            second = two()
        clock.now += 1
        first = one()
    clock.now += 50  # idle
    with shared.row() as three:
        clock.now += 3
        third = three()
    assert (first, second, third) == (2 + 2 + 1, 2, 3)
    assert first + second + third == 2 + 4 + 1 + 3


def test_a_worker_with_several_gpus_counts_each(clock: Clock) -> None:
    two = Meter("gpu", 2.0)
    with two.row() as seconds:
        clock.now += 1.5
        assert two.spent(seconds()) == {"gpu": 3.0}
    assert Meter("endpoint").spent(4.0) == {"endpoint": 4.0}


class Slow:
    """A writer whose calls take seconds of a clock; the first ones fail."""

    def __init__(self, clock: Clock, failures: int = 0) -> None:
        self.clock, self.failures = clock, failures

    def extend(self, prompt: str) -> dict[str, Any]:
        self.clock.now += 5
        self.failures -= 1
        if self.failures >= 0:
            raise TimeoutError
        if prompt == "bad":
            raise ValueError(prompt)
        return {"prompt": prompt}


def test_a_record_says_what_all_attempts_took_and_a_rejected_one_too(tmp_path, clock: Clock) -> None:
    store = Store(tmp_path)
    run_row("extend", "tried", Slow(clock, failures=2), {"prompt": "good"}, store, "run", 3)
    assert (store.get("extend", "tried") or {})["spent"] == {"cpu": 15.0}
    run_row("extend", "bad", Slow(clock), {"prompt": "bad"}, store, "run", 3)
    record = store.get("extend", "bad") or {}
    assert (record["rejected"], record["spent"]) == ("ValueError", {"cpu": 5.0})


@pytest.mark.parametrize(("fails", "spent"), [(False, [4.0, 4.0]), (True, [9.0, 9.0])])
def test_the_rows_of_a_batch_share_its_call_even_if_it_failed(
    tmp_path, monkeypatch, clock: Clock, fails: bool, spent: list[float]
) -> None:
    def call(_: Any, rows: Sequence[dict[str, Any]], __: Any) -> list[dict[str, Any]]:
        clock.now += 8 if len(rows) > 1 else 5
        if fails and len(rows) > 1:
            raise ValueError
        return [{} for _ in rows]

    stage = Stage(1, "generator", Batch(call, lambda made, _: (made, {})))
    monkeypatch.setitem(STAGES, "synthesize", stage)
    store = Store(tmp_path)
    assert run_rows("synthesize", [("one", {}), ("two", {})], None, store, "run", 3) == ["done"] * 2
    assert [(store.get("synthesize", key) or {})["spent"]["cpu"] for key in ("one", "two")] == spent


def test_a_worker_measures_the_device_that_it_holds(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Worker, "_engine", lambda *_: SimpleNamespace(extend=lambda prompt: {"prompt": prompt}))
    store = Store(tmp_path)
    found: list[str] = []
    for number, (backend, gpus) in enumerate([("grammar", 0.0), ("vllm", 0.5), ("http", 0.0)]):
        worker = Worker("extend", str(tmp_path), "run", 1, gpus)
        worker._task({"backend": backend}, [(f"key-{number}", {"prompt": "p"})])
        found += (store.get("extend", f"key-{number}") or {})["spent"]
    assert found == ["cpu", "gpu", "endpoint"]


def test_threads_of_a_worker_do_not_count_its_time_twice() -> None:
    shared, together = Meter("cpu"), threading.Barrier(4)
    spent: list[float] = []

    def work() -> None:
        with shared.row() as seconds:
            together.wait(10)
            time.sleep(0.05)
            spent.append(seconds())

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < sum(spent) <= time.monotonic() - began + 1e-6


class InProcess:
    """An executor without Ray."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def process(self, stage: str, items: list[Item], store: Store) -> Any:
        for item in items:
            yield run_row(stage, item.key, Slow(self.clock), item.inputs, store, "run", 1)


def item(prompt: str) -> Item:
    return Item("extend", {"backend": "grammar"}, {"prompt": prompt})


def test_a_resumed_build_counts_what_earlier_runs_spent_and_no_record_twice(tmp_path, clock: Clock) -> None:
    def runner() -> StoreRunner:
        progress = Progress(Console(file=io.StringIO()))
        return StoreRunner(Store(tmp_path), InProcess(clock), progress, tmp_path / "log.txt")  # type: ignore[arg-type]

    runner().records([item("one")])  # and then it was interrupted
    resumed = runner()
    resumed.records([item("one"), item("two")])
    resumed.records([item("two"), item("three")], label="again")
    assert [(line["calls"], line["spent"]) for line in resumed.cost] == [(1, {"cpu": 10.0}), (1, {"cpu": 5.0})]


def test_what_old_records_took_is_not_known() -> None:
    def total(*records: dict[str, Any]) -> Any:
        found: Any = {}
        for record in records:
            found = with_spent(found, record)
        return found

    assert total({"spent": {"gpu": 1.0}}, {"prompt": "of an older version"}, {"spent": {"gpu": 1.0}}) is None
    assert total({"spent": {"gpu": 1.0}}, {"spent": {"gpu": 0.5}}, {"spent": {"cpu": 2.0}}) == {"gpu": 1.5, "cpu": 2.0}
