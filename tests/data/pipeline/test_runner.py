"""The runner of a build: unexpected exceptions of rows reach the log and the terminal, and no row is lost."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gigavideo_data.errors import RunError
from gigavideo_data.io.progress import Progress
from gigavideo_data.io.run_log import run_log
from gigavideo_data.pipeline.execution.row_adapter import run_row
from gigavideo_data.pipeline.execution.runner import StoreRunner
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
