"""Pools of workers: engines of different backends run one after the other, so that each has the GPUs to itself."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gigavideo_data.models.registry import generator_spec
from gigavideo_data.pipeline.execution.ray_executor import in_pools
from gigavideo_data.pipeline.execution.worker import Worker
from gigavideo_data.pipeline.panel import Panel
from gigavideo_data.pipeline.stages import Item, synthesis
from gigavideo_data.recipe.engines import ENGINES
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Generator, Judge, Specialists

ROOT = Path(__file__).parents[3]


def backends(pools: list[list[Item]]) -> list[list[str]]:
    return [[item.engine["backend"] for item in pool] for pool in pools]


def test_the_judges_of_the_paper_have_pools_of_their_own_and_whole_gpus():
    recipe = load("all")
    panel = Panel(recipe.judge, recipe.specialists, recipe.all_dimensions)
    judges = [panel.judge_of(name) for name in ("mechanics", "instance_preservation", "camera_motion")]
    pools = in_pools([panel.item(judge, "0" * 64, ["Is it?"], str(row)) for row in range(2) for judge in judges])
    assert backends(pools) == [["vllm"] * 2, ["counting"] * 2, ["camera"] * 2]
    assert [[item.row_id for item in pool] for pool in pools] == [["0", "1"]] * 3
    assert recipe.scale.judge.gpus is None


def test_each_engine_of_vllm_has_a_pool_and_light_engines_share_one():
    judges = [Judge(backend="vllm", model="a/b"), Judge(backend="vllm", model="a/c"), Judge()]
    panels = [Panel(judge, Specialists(), ("mechanics",)) for judge in judges]
    items = [panel.item(judge, "0" * 64, ["Is it?"]) for panel, judge in zip(panels, judges, strict=True)]
    camera = replace(items[2], engine={"backend": "camera"})
    assert backends(in_pools([*items, camera, items[0]])) == [["vllm", "vllm"], ["vllm"], ["miniature", "camera"]]
    generators = [synthesis(generator_spec(Generator(steps=steps)), "a ball", 0) for steps in (1, 2)]
    assert backends(in_pools(generators)) == [["diffusers"] * 2]


def test_an_engine_that_answers_one_row_at_a_time_is_never_entered_by_two_threads(tmp_path, monkeypatch):
    in_use, both_wait = threading.Lock(), threading.Barrier(2)

    class Scripted:
        def __init__(self, engine):
            del engine

        def extend(self, prompt):
            assert in_use.acquire(blocking=False), "entered by two threads"
            threading.Event().wait(0.05)  # long enough for the other thread to come in
            in_use.release()
            return {"prompt": prompt}

    alone = replace(ENGINES["writer"]["http"], cls=("scripted", "Writer"), rows_at_once=1)
    monkeypatch.setitem(ENGINES["writer"], "http", alone)
    monkeypatch.setitem(sys.modules, "scripted", SimpleNamespace(Writer=Scripted))
    worker = Worker("extend", str(tmp_path), "run", 3)

    def call(name: str) -> list[str]:
        task = json.dumps(
            {"engine": {"backend": "http"}, "rows": [(f"{name}{at}", {"prompt": name}) for at in range(3)]}
        )
        both_wait.wait(30)
        return worker({"task": np.array([task])})["kind"]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, ["one", "other"])) == [["done"] * 3] * 2


ENGINES_OF_ONE_GPU = '''
"""Engines that take a whole GPU when they are loaded, as vLLM does: a lock that its process keeps."""

import fcntl
import threading
from dataclasses import replace
from pathlib import Path

from gigavideo_data.models.judges.base import Answer
from gigavideo_data.recipe.engines import ENGINES

together, inside = threading.Condition(), 0


class Greedy:
    def __init__(self, engine):
        self.gpu = Path("gpu").open("a")
        fcntl.flock(self.gpu, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where another engine has it
        self.backend = engine["backend"]

    def answer(self, frames_THWC, fps, questions):
        global inside
        if self.backend == "vllm":
            with together:
                inside += 1
                together.notify_all()
                if not together.wait_for(lambda: inside > 8, timeout=60):
                    raise ValueError("the rows of a second task are not prepared meanwhile")
        return [Answer(0.9, 0.1) for _ in questions]


for name in ("vllm", "counting"):
    ENGINES["judge"][name] = replace(ENGINES["judge"][name], cls=("greedy", "Greedy"))
'''
BUILD = """
import sys
from pathlib import Path
import numpy as np
import ray
import greedy
from gigavideo_data.io import video
from gigavideo_data.pipeline.execution.ray_executor import ray_executor
from gigavideo_data.pipeline.panel import Panel
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load

recipe = load("all", ["judge.min_mass=0.5"])
store = Store(Path("store"))
store.create()
clips = [np.full((2, 32, 32, 3), 5 * number, np.uint8) for number in range(16)]
names = [store.keep(video.encode(frames_THWC, 8.0), ".mp4").removesuffix(".mp4") for frames_THWC in clips]
panel = Panel(recipe.judge, recipe.specialists, recipe.all_dimensions)
items = [
    panel.item(panel.judge_of(dimension), name, ["Is it?"])
    for name in names
    for dimension in ("mechanics", "instance_preservation")
]
ray.init(address="local", num_cpus=4, num_gpus=1, object_store_memory=256 * 2**20, include_dashboard=False)
with ray_executor(recipe.limits, recipe.scale) as executor:
    outcomes = list(executor.process("judge", items, store))
records = [store.get("judge", item.key) for item in items]
print(len(outcomes), set(outcomes), [record for record in records if record is None or "rejected" in record])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_judges_that_take_a_whole_gpu_run_on_one_and_vllm_gets_two_tasks_at_once(tmp_path):
    (tmp_path / "greedy.py").write_text(ENGINES_OF_ONE_GPU)
    (tmp_path / "sitecustomize.py").write_text("import greedy\n")
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        env={
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "PATH": "/usr/bin:/bin",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.strip() == "32 {'done'} []", done.stdout + done.stderr[-3000:]
