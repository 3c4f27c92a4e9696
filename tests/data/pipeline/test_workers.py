"""Workers: how many hold a heavy engine, and what is said of an engine that cannot be loaded."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gigavideo_data.errors import RunError
from gigavideo_data.models.registry import judge_spec, writer_spec
from gigavideo_data.pipeline.execution import ray_session
from gigavideo_data.pipeline.execution.ray_executor import compiles, placed
from gigavideo_data.pipeline.execution.ray_session import socket_folders
from gigavideo_data.pipeline.execution.worker import Worker
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.engines import ENGINES
from gigavideo_data.recipe.recipe import Judge, Limits, Placement, Scale, Writer


@pytest.mark.parametrize(
    ("place", "there", "workers"),
    [
        (Placement(), 0, (0, 4)),  # as many as cores
        (Placement(replicas=2), 0, (0, 2)),
        (Placement(), 8, (1, 8)),
        (Placement(gpus=2), 8, (2, 4)),
        (Placement(gpus=3), 8, (3, 2)),
        (Placement(gpus=0.5), 2, (0.5, 4)),
        (Placement(gpus=4, replicas=1), 8, (4, 1)),
    ],
)
def test_workers_share_out_the_gpus_or_else_the_cores(place, there, workers):
    assert placed(place, there, 4, "scale.judge.gpus") == workers


@pytest.mark.parametrize(
    ("scale", "gpus", "compiled"),
    [(Scale(), 1.0, True), (Scale(), 0.0, False), (Scale(compile=False), 1.0, False), (Scale(compile=True), 0.0, True)],
)
def test_blocks_are_compiled_on_a_gpu_unless_the_recipe_says_otherwise(scale, gpus, compiled):
    assert compiles(scale, gpus) is compiled


def test_fewer_gpus_than_one_worker_is_to_have_are_told_with_the_key_to_change():
    with pytest.raises(RunError, match=r"scale\.judge\.gpus: 4 requested, 2 available"):
        placed(Placement(gpus=4), 2, 4, "scale.judge.gpus")


@pytest.mark.parametrize(
    ("stage", "engine"),
    [
        ("judge", judge_spec(Judge(backend="vllm", model="org/judge"))),
        ("extend", writer_spec(Writer(backend="vllm"))),
    ],
)
def test_a_missing_vllm_ends_the_build_with_what_to_do(tmp_path, monkeypatch, stage, engine):
    monkeypatch.setitem(sys.modules, "vllm", None)
    for module in ("models.llm.vllm_engine", "models.llm.vllm_model", "models.judges.vllm_judge"):
        monkeypatch.delitem(sys.modules, f"gigavideo_data.{module}", raising=False)
    store = Store(tmp_path)
    store.create()
    task = json.dumps({"engine": engine[0] | engine[1] | {"gpus": 0}, "rows": [("ab", {})]})
    outcome = Worker(stage, str(tmp_path), "run", 3)({"task": np.array([task])})
    assert outcome["kind"] == ["fatal"]
    assert outcome["message"][0].startswith("vllm cannot be loaded: ")
    assert "pip install 'gigavideo[vllm]'" in outcome["message"][0]
    assert store.get(stage, "ab") is None  # the row is not to blame


@pytest.fixture
def scripted_writer(monkeypatch):
    """A writer that does what `doing` says; the worker answers 32 of its rows at once."""
    doing: dict[str, Callable[[], str]] = {}

    class Scripted:
        def __init__(self, engine):
            del engine

        def extend(self, prompt):
            return {"prompt": doing[prompt]()}

    monkeypatch.setitem(ENGINES["writer"], "http", replace(ENGINES["writer"]["http"], cls=("scripted", "Writer")))
    monkeypatch.setitem(sys.modules, "scripted", SimpleNamespace(Writer=Scripted))
    return doing


def extend(folder, *prompts: str) -> dict[str, list[str]]:
    rows = [(f"{prompt}-key", {"prompt": prompt}) for prompt in prompts]
    task = json.dumps({"engine": {"backend": "http"}, "rows": rows})
    return Worker("extend", str(folder), "run", 3)({"task": np.array([task])})


def test_a_dead_endpoint_ends_the_batch_without_waiting_for_requests_that_hang(tmp_path, scripted_writer):
    ended = threading.Event()

    def refuses() -> str:
        raise RunError("the endpoint cannot be reached")

    def hangs() -> str:
        assert ended.wait(60)
        return "late"

    scripted_writer |= {"dead": refuses, "hung": hangs}
    outcomes = extend(tmp_path, "hung", "dead")
    assert not ended.is_set()
    assert outcomes["kind"] == ["fatal"] * 2
    assert outcomes["message"] == ["the endpoint cannot be reached"] * 2
    ended.set()


def test_rows_that_are_answered_at_once_come_back_in_order(tmp_path, scripted_writer):
    second = threading.Event()

    def first() -> str:
        assert second.wait(60)
        return "first"

    def odd() -> str:
        second.set()
        raise ValueError("odd")

    scripted_writer |= {"first": first, "odd": odd, "last": lambda: "last"}
    assert extend(tmp_path, "first", "odd", "last")["kind"] == ["done", "rejected", "done"]


def test_sockets_go_to_a_short_folder_where_that_for_temporary_files_has_a_long_name(monkeypatch):
    assert socket_folders({}) == socket_folders({"TMPDIR": "/scratch/me"}) == {}
    assert socket_folders({"TMPDIR": "/" + "x" * 60}) == {"RAY_TMPDIR": "/tmp"}
    long = "/" + "x" * 116
    assert socket_folders({"TMPDIR": long}) == {"RAY_TMPDIR": "/tmp", "VLLM_RPC_BASE_PATH": "/tmp"}
    assert socket_folders({"TMPDIR": long, "RAY_TMPDIR": "/ours"}) == {"VLLM_RPC_BASE_PATH": "/tmp"}
    with pytest.raises(RunError, match=r"RAY_TMPDIR has 117 bytes.*a folder whose name has at most \d\d, such as /tmp"):
        socket_folders({"RAY_TMPDIR": long})
    monkeypatch.setattr(ray_session, "SHORT_FOLDER", "/nowhere")
    with pytest.raises(RunError, match=r"TMPDIR has 117 bytes.*Set RAY_TMPDIR to a folder"):
        socket_folders({"TMPDIR": long})


FAILING_BLOCK = """
import sys
from pathlib import Path
import ray
from gigavideo_data.pipeline.execution.ray_session import RaySession
from gigavideo_data.recipe.recipe import Limits
from gigavideo_data.io.run_log import run_log

def fails(batch):
    print("printed by a worker", file=sys.stderr, flush=True)
    raise ValueError("raised by a worker")

with run_log(Path("log.txt")):
    session = RaySession(Limits(replicas=1))
    session.start(Path(".").resolve())
    print(ray.is_initialized())
    list(ray.data.range(1).map_batches(fails, batch_size=None).iter_batches())
    session.log_worker_errors()
    session.close()
"""


def test_ray_starts_with_a_long_name_for_temporary_files_and_its_errors_reach_the_log(tmp_path):
    folder = tmp_path / ("x" * (117 - len(str(tmp_path))))
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "RAY_TMPDIR"} | {"TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", FAILING_BLOCK],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["True"], done.stderr
    assert "raised by a worker" not in done.stderr
    text = (tmp_path / "log.txt").read_text()
    assert "ValueError: raised by a worker" in text
    assert "printed by a worker" in text


def test_a_ray_that_does_not_start_in_time_is_started_again_by_the_same_command(tmp_path, monkeypatch):
    def init(**_):
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(RunError, match="Run the same command again"):
        ray_session.RaySession(Limits()).start(tmp_path)
