"""The runner of a build: unexpected exceptions of rows reach the log and the terminal, and no row is lost."""

import io
import json
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gigavideo_data.errors import RunError
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.run_log import run_log
from gigavideo_data.pipeline.execution import runner as runner_module
from gigavideo_data.pipeline.execution.row_adapter import run_row
from gigavideo_data.pipeline.execution.runner import StoreRunner, grouped_records
from gigavideo_data.pipeline.stages import Item
from gigavideo_data.pipeline.store import Store

KEY = "planted-key-0123"


class Broken:
    """A writer with a fault."""

    def extend(self, prompt: str) -> dict:
        raise KeyError(f"{prompt} {KEY} https://writer.example/v1")


class InProcess:
    """An executor without Ray."""

    session = SimpleNamespace(log_worker_errors=lambda: None)

    def process(self, stage: str, items: list[Item], store: Store):
        for item in items:
            yield run_row(stage, item.key, Broken(), item.inputs, store, "run", 1)


class Losing(InProcess):
    """An executor that drops its rows."""

    def process(self, stage: str, items: list[Item], store: Store):  # noqa: ARG002 - the protocol
        yield from ()


def runner(folder, screen: io.StringIO, executor: Any) -> StoreRunner:
    return StoreRunner(Store(folder), executor, Progress(Console(file=screen, width=200)), folder / "log.txt")


ITEM = Item("extend", {"backend": "http", "model": "m"}, {"prompt": "a ball falls"}, row_id="row-17")


def test_the_traceback_of_a_failed_row_is_logged_with_its_row_stage_and_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    screen = io.StringIO()
    with run_log(tmp_path / "log.txt"):
        (record,) = runner(tmp_path, screen, InProcess()).records([ITEM])
    assert record["rejected"] == "KeyError"
    text = (tmp_path / "log.txt").read_text()
    assert "stage extend, row row-17, engine {'backend': 'http', 'model': 'm'}" in text
    assert "raise KeyError" in text
    assert KEY not in text
    assert "writer.example" not in text
    assert "the last one with KeyError: 'a ball falls" in screen.getvalue()
    assert str(tmp_path / "log.txt") in screen.getvalue()


def test_rows_that_an_executor_loses_end_the_run(tmp_path):
    with pytest.raises(RunError, match="1 of 1 rows were neither finished nor rejected"):
        runner(tmp_path, io.StringIO(), Losing()).records([ITEM])


class Filling(InProcess):
    """An executor that finishes every row, and notes how many it gets at once."""

    def __init__(self) -> None:
        self.parts: list[int] = []

    def process(self, stage: str, items: list[Item], store: Store):
        self.parts.append(len(items))
        for item in items:
            path = store.root / stage / item.key[:2] / f"{item.key}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"prompt": item.inputs["prompt"].upper()}))
            yield "done"


def items(number: int) -> Iterator[Item]:
    return (Item("extend", {"backend": "http"}, {"prompt": f"a ball number {at} " * 20}) for at in range(number))


def test_ray_gets_few_items_at_once_and_the_records_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "ITEMS_AT_ONCE", 3)
    filling = Filling()
    records = runner(tmp_path, io.StringIO(), filling).records([*items(8), *items(1)])  # the last one is the first
    assert filling.parts == [3, 3, 2]
    assert [record["prompt"] for record in records] == [
        item.inputs["prompt"].upper() for item in [*items(8), *items(1)]
    ]
    again = Filling()
    assert [*runner(tmp_path, io.StringIO(), again).records(items(8))] == records[:8]
    assert not again.parts


def test_records_of_groups_come_under_their_keys(tmp_path):
    (one, two, three) = items(3)
    groups = [{"a": one, "b": two}, {}, {"b": one}, {"a": three}]
    found = [*grouped_records(runner(tmp_path, io.StringIO(), Filling()), groups)]
    texts = [{key: record["prompt"] for key, record in group.items()} for group in found]
    assert texts == [{key: item.inputs["prompt"].upper() for key, item in group.items()} for group in groups]


def test_memory_of_a_stage_hardly_grows_with_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "ITEMS_AT_ONCE", 100)
    for method in ("start", "advance", "finish"):
        monkeypatch.setattr(Progress, method, lambda *_, **__: None)  # printing loads modules

    def peak(name: str, number: int) -> int:
        tracemalloc.start()
        found = runner(tmp_path / name, io.StringIO(), Filling()).records(items(number))
        assert sum(1 for _ in found) == number
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak("first", 1000)  # what is allocated once, such as Python's table of names
    few, many = peak("few", 200), peak("many", 1000)
    assert many - few < 800 * 300  # a key in a set, and its letters
