"""A GPU that fails: it rejects no row that is not to blame, and a worker that rejects row after row ends the run."""

import importlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from gigavideo_data.errors import DeadEngineError, RowError, RunError
from gigavideo_data.models.device_errors import is_dead, is_out_of_memory
from gigavideo_data.models.generators.base import Generated
from gigavideo_data.models.llm.batcher import DynamicBatcher
from gigavideo_data.pipeline.execution import worker as worker_module
from gigavideo_data.pipeline.execution.monitor import StageMonitor
from gigavideo_data.pipeline.execution.outcome import Outcome
from gigavideo_data.pipeline.execution.ray_executor import RayExecutor, in_tasks
from gigavideo_data.pipeline.execution.reports import Pulse, Reporter, take_reports
from gigavideo_data.pipeline.execution.row_adapter import WorkerFailure, run_row, run_rows
from gigavideo_data.pipeline.execution.worker import Worker
from gigavideo_data.pipeline.execution.worker_health import SickWorkerError, WorkerHealth
from gigavideo_data.pipeline.stages import STAGES, Batch, Item, Stage
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.engines import ENGINES
from gigavideo_data.recipe.recipe import Limits, Scale

ROOT, FAULTS = Path(__file__).parents[3], Path(__file__).parents[2] / "support" / "faults"
FULL = "CUDA out of memory. Tried to allocate 12.00 GiB. GPU 0 has a total capacity of 79.11 GiB"


class EngineDeadError(Exception):
    """As vLLM names its own."""


@pytest.mark.parametrize(
    ("error", "dead", "full"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True, False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True, False),
        (RuntimeError("Worker failed with error 'CUDA error: unspecified launch failure', see above"), True, False),
        (EngineDeadError("EngineCore encountered an issue"), True, False),
        (DeadEngineError("a plug-in's"), True, False),
        (torch.OutOfMemoryError(FULL), False, True),
        (torch.AcceleratorError("CUDA error: out of memory"), False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("a caption that says CUDA error: out of memory"), False, False),
    ],
)
def test_errors_of_a_gpu_are_known_by_type_or_message(error, dead, full):
    assert (is_dead(error), is_out_of_memory(error)) == (dead, full)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), DeadEngineError),
        (torch.OutOfMemoryError(FULL), DeadEngineError),  # the engine still holds the requests of that call
        (EngineDeadError("EngineCore encountered an issue"), EngineDeadError),
        (RuntimeError("no such kernel"), RunError),
        (ValueError("the prompt is too long"), RowError),
    ],
)
def test_errors_of_vllm_are_those_of_a_row_the_engine_or_the_run(monkeypatch, error, expected):
    module = "gigavideo_data.models.llm.vllm_engine"
    failed = {"VLLMClientError": type("C", (Exception,), {}), "VLLMServerError": type("S", (Exception,), {})}
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "vllm.exceptions", SimpleNamespace(**failed))
    monkeypatch.setitem(sys.modules, "vllm.platforms", SimpleNamespace(current_platform=None))
    monkeypatch.delitem(sys.modules, module, raising=False)
    translate_errors = importlib.import_module(module).translate_errors
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(expected), translate_errors():
        raise error


class Painter:
    """Makes videos of one colour; a call with more than `capacity` of them, or at `full` calls, is out of memory."""

    def __init__(self, capacity: int = 100, full: int = 0, error: BaseException | None = None) -> None:
        self.capacity, self.full, self.error = capacity, full, error
        self.calls: list[int] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        self.calls.append(len(prompts))
        if self.error:
            raise self.error
        if len(prompts) > self.capacity or len(self.calls) <= self.full:
            raise torch.OutOfMemoryError(FULL)
        return [Generated(np.full((2, 32, 32, 3), seed, np.uint8), 8.0) for seed in seeds]


SHAPE = {"num_frames": 2, "height": 32, "width": 32, "fps": 8.0}
ROWS: list[tuple[str, dict[str, Any]]] = [
    (f"key-{number}", {"prompt": "p", "seed": number, "shape": SHAPE}) for number in range(6)
]


def paint(folder: Path, painter: Painter, rows=ROWS) -> list[str]:
    return run_rows("synthesize", rows, painter, Store(folder), "run", 3)


def test_a_batch_that_is_out_of_memory_is_done_in_halves(tmp_path):
    painter = Painter(capacity=3)
    assert paint(tmp_path, painter) == ["done"] * 6
    assert painter.calls == [6, 3, 3]


def test_a_row_that_is_out_of_memory_twice_is_rejected_with_its_size(tmp_path):
    painter = Painter(capacity=0)
    assert paint(tmp_path, painter, ROWS[:2]) == ["rejected"] * 2
    assert painter.calls == [2, 1, 1, 1, 1, 1, 1], "the batch, its halves, and each row alone with one retry"
    record = Store(tmp_path).get("synthesize", "key-0") or {}
    assert (record["rejected"], record["attempts"]) == ("out_of_memory", 1)
    assert record["detail"].startswith("one video of 2 frames of 32 x 32 px: CUDA out of memory. Tried to allocate 12")


def test_memory_that_is_free_again_costs_a_row_one_retry_and_the_cache_is_emptied_before(tmp_path, monkeypatch):
    freed: list[int] = []
    painter, (key, inputs) = Painter(full=1), ROWS[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(len(painter.calls)))
    assert run_row("synthesize", key, painter, inputs, Store(tmp_path), "run", 1) == "done"
    assert (painter.calls, freed) == ([1, 1], [1])


@pytest.mark.parametrize("num_rows", [1, 6])
def test_a_dead_gpu_rejects_nothing_and_the_attempts_stay_counted(tmp_path, num_rows):
    rows, dead = ROWS[:num_rows], Painter(error=torch.AcceleratorError("CUDA error: unspecified launch failure"))
    with pytest.raises(WorkerFailure):
        paint(tmp_path, dead, rows)
    assert Store(tmp_path).get("synthesize", "key-0") is None
    assert len(list((tmp_path / "attempts" / "synthesize").iterdir())) == num_rows
    assert paint(tmp_path, Painter(), rows) == ["done"] * num_rows


def test_a_row_at_which_the_gpu_dies_every_time_is_rejected_after_the_limit(tmp_path):
    dead = Painter(error=DeadEngineError("dead"))
    for _ in range(3):
        with pytest.raises(WorkerFailure):
            paint(tmp_path, dead, ROWS[:1])
    assert paint(tmp_path, dead, ROWS[:1]) == ["rejected"]
    assert (Store(tmp_path).get("synthesize", "key-0") or {})["rejected"] == "worker_died"


# --- the counters of the driver ------------------------------------------------------------------------------------


def outcomes(worker: str, reason: str, number: int) -> list[Outcome]:
    kind = "rejected" if reason else "done"
    return [Outcome(kind, f"{reason}: why", key=f"{worker}-{at}", reason=reason, worker=worker) for at in range(number)]


def counted(rows: list[Outcome], stage: str = "synthesize") -> None:
    health = WorkerHealth(stage)
    for row in rows:
        health.count(row)


@pytest.mark.parametrize("reason", ["KeyError", "out_of_memory"])
def test_five_rejections_in_a_row_on_one_worker_end_the_run(reason):
    others = outcomes("b", "", 1)
    counted([*outcomes("a", reason, 4), *others, *outcomes("a", "", 1), *outcomes("a", reason, 4)])
    with pytest.raises(SickWorkerError, match=f"a rejected 5 rows in a row .*{reason}: why") as caught:
        counted([*outcomes("a", reason, 4), *others, *outcomes("a", reason, 1)])
    assert caught.value.worker == "a"


@pytest.mark.parametrize(
    "reason", [*(reason for reason in Reason if reason != Reason.OUT_OF_MEMORY), "TimeoutError", "DatasetError"]
)
def test_rejections_that_lie_in_the_rows_count_for_no_worker(reason):
    counted(outcomes("a", reason, 100))


def test_exceptions_at_files_of_a_user_count_for_no_worker():
    counted(outcomes("a", "KeyError", 100), stage="caption")


def test_ten_times_the_share_of_the_others_ends_the_run():
    often = [row for _ in range(10) for row in (*outcomes("a", "KeyError", 1), *outcomes("a", "", 4))]
    with pytest.raises(SickWorkerError, match="a rejected 10 of 46 rows"):
        counted([*outcomes("b", "", 99), *often])
    counted([*outcomes("b", "", 20), *often])  # of so few rows, one may be rejected by chance
    counted([*outcomes("b", "", 90), *(3 * [*outcomes("b", "KeyError", 3), *outcomes("b", "", 1)]), *often])
    counted(often)  # nobody to compare it with


def test_rows_at_which_the_gpu_died_count_for_the_worker_that_had_it():
    health = WorkerHealth("synthesize")
    rows = [Outcome("rejected", key=f"{at}", reason="worker_died", worker="restarted") for at in range(5)]
    for row in rows:
        health.count(row)  # killed by others
    health.ended("gpu 3", [row.key for row in rows])
    for row in rows[:4]:
        health.count(row)
    with pytest.raises(SickWorkerError, match="gpu 3 rejected 5 rows in a row"):
        health.count(rows[4])


# --- the worker and the executor, without Ray ------------------------------------------------------------------------


class InProcess(RayExecutor):
    """One worker in this process."""

    def __init__(self) -> None:
        super().__init__(Limits(), Scale())
        self.events: list[str] = []
        self.session: Any = SimpleNamespace(
            start=lambda _: None,
            close=lambda: self.events.append("closed"),
            log_worker_errors=lambda: self.events.append("logged"),
        )

    def _mapped(self, items: list[Item], store: Store) -> Any:
        worker = Worker(items[0].stage, str(store.root), self.run_id, 3)
        tasks = [
            {"engine": task[0].engine, "rows": [(item.key, item.inputs) for item in task]} for task in in_tasks(items)
        ]
        return SimpleNamespace(iter_batches=lambda **_: (worker({"task": np.array([json.dumps(t)])}) for t in tasks))


@pytest.fixture
def writer(monkeypatch):
    """A writer that calls `writer.extend`."""
    scripted = SimpleNamespace(extend=None)

    class Scripted:
        def __init__(self, engine):
            del engine

        def extend(self, prompt):
            return scripted.extend(prompt)

    monkeypatch.setitem(ENGINES["writer"], "grammar", replace(ENGINES["writer"]["grammar"], cls=("scripted", "Writer")))
    monkeypatch.setitem(sys.modules, "scripted", SimpleNamespace(Writer=Scripted))
    return scripted


ITEMS = [Item("extend", {"backend": "grammar"}, {"prompt": f"p{n}"}, row_id=f"row-{n}") for n in range(30)]


def test_a_run_that_a_broken_worker_ended_keeps_what_is_done_and_does_its_rejections_again(tmp_path, writer, caplog):
    def breaks(prompt: str) -> dict[str, Any]:
        if prompt == "p1":
            raise RowError(Reason.LOST_FACTS, "its own fault")
        if int(prompt[1:]) > 3:
            raise KeyError("from a broken engine")
        return {"prompt": prompt}

    writer.extend = breaks
    store, executor = Store(tmp_path), InProcess()
    with pytest.raises(RunError, match=r"rejected 5 rows in a row .*KeyError: 'from a broken engine'"):
        list(executor.process("extend", ITEMS, store))
    assert executor.events == ["logged", "closed"]
    assert caplog.text.count("raise KeyError") == 5
    assert "rejected row row-8" in caplog.text
    records = {item.inputs["prompt"]: record for item in ITEMS if (record := store.peek("extend", item.key))}
    assert records.keys() == {"p0", "p1", "p2", "p3"}
    writer.extend = lambda prompt: {"prompt": prompt}
    missing = [item for item in ITEMS if store.peek("extend", item.key) is None]
    assert list(InProcess().process("extend", missing, store)) == ["done"] * 26


def test_a_dead_engine_ends_its_process_and_the_log_says_where(tmp_path, writer, caplog, monkeypatch):
    def ended(failure: WorkerFailure) -> None:
        raise SystemExit(str(failure.key))

    def dies(prompt: str) -> dict[str, Any]:
        if prompt == "p7":
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return {"prompt": prompt}

    writer.extend = dies
    monkeypatch.setattr(worker_module, "end_process", ended)
    store = Store(tmp_path)
    worker = Worker("extend", str(tmp_path), "run", 3, num_gpus=1)
    rows = [(item.key, item.inputs) for item in ITEMS[:10]]
    with pytest.raises(SystemExit):
        worker({"task": np.array([json.dumps({"engine": {"backend": "grammar"}, "rows": rows})])})
    monitor = StageMonitor(ITEMS, store.reports("run"), 300)
    with caplog.at_level(logging.ERROR):
        monitor.poll()
        monitor.poll()
    assert caplog.text.count("ended at row row-7: torch.AcceleratorError: CUDA error: an illegal memory access") == 1
    monitor.close()
    assert not store.reports("run").exists()
    assert store.peek("extend", ITEMS[7].key) is None


def in_two_threads(worker: Worker, tasks: list[list[tuple[str, dict]]], backend: str) -> list[int]:
    """Two tasks of a worker at once; the numbers of those in which it died."""
    died: list[int] = []

    def work(number: int) -> None:
        task = json.dumps({"engine": {"backend": backend}, "rows": tasks[number]})
        try:
            worker({"task": np.array([task])})
        except SystemExit:
            died.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return sorted(died)


def test_a_row_that_kills_the_engine_of_many_rows_is_rejected_alone(tmp_path, monkeypatch):
    def answer(batch: list[str]) -> list[str]:
        if "poison" in batch:
            raise DeadEngineError("out of memory")
        return batch

    def ended(_: WorkerFailure) -> NoReturn:
        raise SystemExit

    monkeypatch.setattr(worker_module, "end_process", ended)
    monkeypatch.setattr(Worker, "_load", lambda *_: DynamicBatcher(lambda: answer, 8))
    stage = Stage(1, "judge", lambda engine, inputs, _: ({"answer": engine.submit(inputs["text"])}, {}))
    monkeypatch.setitem(STAGES, "judge", stage)
    texts = [[f"{task} {number}" for number in range(8)] for task in range(2)]
    texts[0][3] = "poison"
    tasks = [[(f"key-{task}-{number}", {"text": text}) for number, text in enumerate(texts[task])] for task in range(2)]
    left, lives = tasks, 0
    while left and lives < 12:
        lives += 1
        died = in_two_threads(Worker("judge", str(tmp_path), "run", 3, 1.0), left, "vllm")
        left = [left[number] for number in died]
    store = Store(tmp_path)
    rejected = [key for task in tasks for key, _ in task if "rejected" in (store.peek("judge", key) or {})]
    assert (left, rejected) == ([], ["key-0-3"])


def test_two_tasks_of_a_worker_do_not_count_its_time_twice(tmp_path, monkeypatch):
    def call(_engine: object, rows: Sequence[dict], _store: Store) -> list[dict]:
        time.sleep(0.2)
        return [{} for _ in rows]

    monkeypatch.setattr(Worker, "_load", lambda *_: None)
    monkeypatch.setitem(STAGES, "synthesize", Stage(2, "generator", Batch(call, lambda made, _: (made, {}))))
    worker, began = Worker("synthesize", str(tmp_path), "run", 3, 1.0), time.monotonic()
    in_two_threads(worker, [[(f"key-{number}", {})] for number in range(3)], "diffusers")
    store = Store(tmp_path)
    spent = [(store.peek("synthesize", f"key-{number}") or {})["spent"]["gpu"] for number in range(3)]
    assert 0.6 <= sum(spent) <= time.monotonic() - began


def test_the_first_report_of_the_end_stays_and_a_half_written_one_is_read_later(tmp_path):
    reporter = Reporter(tmp_path, "worker", Pulse())
    with reporter.reporting():
        reporter.report_end("row-1", ["row-1", "row-2"], RuntimeError("first"))
        reporter.report()
        reporter.report_end("row-3", ["row-3"], RuntimeError("second"))
    (tmp_path / "half.json").write_text('{"worker": "ot')
    (report,) = take_reports(tmp_path)
    assert (report.row, [*report.task]) == ("row-1", ["row-1", "row-2"])
    assert [file.name for file in tmp_path.iterdir()] == ["half.json"]


# --- with Ray --------------------------------------------------------------------------------------------------------

STICKY = """
from pathlib import Path
from gigavideo_data.io.run_log import run_log
from gigavideo_data.pipeline.execution.ray_executor import ray_executor
from gigavideo_data.pipeline.stages import Item
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Limits, Scale

items = [Item("extend", {"backend": "sick"}, {"prompt": f"p{number}"}, row_id=f"row-{number}") for number in range(200)]
store = Store(Path("store").resolve())
store.create()
with run_log(Path("log.txt")), ray_executor(Limits(replicas=1), Scale()) as executor:
    outcomes = list(executor.process("extend", items, store))
made = [(store.peek("extend", item.key) or {}).get("prompt") == item.inputs["prompt"] + " slowly" for item in items]
print(len(outcomes), outcomes.count("rejected"), sum(made))
"""


def test_a_gpu_that_dies_at_row_7_of_200_costs_one_restart_and_no_row(tmp_path):
    env = os.environ | {"GV_CALLS": str(tmp_path / "calls"), "GV_DIES": "7"}
    env |= {"PYTHONPATH": os.pathsep.join([str(FAULTS), str(ROOT)])}
    command = [sys.executable, "-c", STICKY]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.splitlines()[-1:] == ["200 0 200"], done.stderr  # Ray may print that the worker died
    text = (tmp_path / "log.txt").read_text()
    assert text.count("Ray starts it again") == 1
    assert "ended at row row-6: torch.AcceleratorError: CUDA error: an illegal memory access" in text
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 201
    assert calls.count("p6") == 2
    assert not list((tmp_path / "store" / "reports").iterdir())
