"""Two published rounds with the genuine commands on the miniature: killed at five places, they end as without kills."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gigavideo_data.dataset.reader import read_manifest
from gigavideo_data.models.spec import folder_revision
from tests.support.hub_clients import environment
from tests.support.hub_server import serving
from tests.support.hub_state import Fault, Hub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
RECIPE = {
    "dimensions": "[motion_order_understanding]",
    "others": "{dimensions: [mechanics], prompts: 1}",
    "prompts.per_dimension": "2",
    "samples_per_prompt": "4",
    "captions.count": "1",
    "eval_prompts": "{per_dimension: 2, seeds: 1}",
    "check.videos": "0",
    "limits.max_rejected": "1.0",
}
TRAINING = ("max_steps=2", "batch_size=4", "validate_every=null")


IN_ROUND_1 = ("loop/round-1/dataset", "loop/round-1/metrics.jsonl", "loop/round-1/eval")  # exist while a step runs
IN_ROUND_2 = ("loop/round-2/dataset", "loop/round-2/metrics.jsonl")


def start(folder: Path, hub: Hub) -> subprocess.Popen:
    sets = [part for key, value in RECIPE.items() for part in ("--set", f"{key}={value}")]
    training = [part for text in TRAINING for part in ("--train-set", text)]
    command = [sys.executable, "-m", "gigavideo_loop", "--recipe", "quickstart", "--rounds", "2", "--out", "loop"]
    folder.mkdir(exist_ok=True)
    with (folder / "messages.txt").open("a") as messages:
        return subprocess.Popen(
            [*command, "--store", "store", *sets, *training, "--push", "org/ds"],
            cwd=folder,
            env=environment(hub, folder / "hub"),
            stdout=messages,
            stderr=messages,
        )


def kill_at(place: str, folder: Path, hub: Hub) -> None:
    """Start the loop, and kill it and everything that it started when a path appears."""
    process = start(folder, hub)
    deadline = time.monotonic() + 600
    while not (folder / place).exists():
        assert process.poll() is None, (folder / "messages.txt").read_text()
        assert time.monotonic() < deadline, place
        time.sleep(0.02)
    kill_all(process.pid)
    process.wait()


def kill_all(process: int) -> None:
    """Kill a process and all that it started, as a power cut does."""
    children: list[int] = []
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # of a thread that has just ended
            children += [int(number) for number in file.read_text().split()]
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    for child in children:
        kill_all(child)


def results(folder: Path) -> dict[str, object]:
    """All that must not depend on an interruption."""
    out = folder / "loop"
    loop = json.loads((out / "loop.json").read_text())
    for one in loop["rounds"]:
        one.pop("seconds")
        one["published"].pop("sha")  # of the Hub, which counts its own commits
    rounds = [out / f"round-{one['number']}" for one in loop["rounds"]]
    return {
        "loop": loop,
        "rows": [pq.read_table(each / "dataset/data", columns=["id", "reward"]).to_pylist() for each in rounds],
        "weights": [
            hashlib.sha256(path.read_bytes()).hexdigest()
            for each in rounds
            for path in sorted((each / "model").rglob("*.safetensors"))
        ],
    }


def published(hub: Hub) -> dict[str, dict[str, str]]:
    """The Parquet files of every version of the dataset."""
    repo = hub.repo("org/ds")
    commits = {commit.sha: commit for commit in repo.commits}
    return {
        tag: {path: file.sha256 for path, file in commits[sha].files.items() if path.endswith(".parquet")}
        for tag, sha in repo.tags.items()
    }


def test_a_killed_loop_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with serving() as hub, serving() as failing:
        assert start(whole, hub).wait(timeout=900) == 0, (whole / "messages.txt").read_text()

        for place in IN_ROUND_1:
            kill_at(place, cut, failing)
        failing.faults = [Fault("POST", "/commit/", 403, times=99)]
        assert start(cut, failing).wait(timeout=900) == 4, (cut / "messages.txt").read_text()
        assert not (cut / "loop/round-2").exists(), "a round that is not published is not followed by another one"
        failing.faults = []
        for place in IN_ROUND_2:
            kill_at(place, cut, failing)
        assert start(cut, failing).wait(timeout=900) == 0, (cut / "messages.txt").read_text()

        assert results(cut) == results(whole)
        assert published(hub).keys() == {"v1.0.0", "v2.0.0"}
        assert published(failing) == published(hub)

    first, second = (whole / f"loop/round-{number}" for number in (1, 2))
    assert read_manifest(second / "dataset")["generators"] == [
        {"model": "model", "revision": folder_revision(first / "model"), "adapter": None}
    ]
    prompts = [set(pq.read_table(each / "dataset/data")["base_prompt"].to_pylist()) for each in (first, second)]
    assert not prompts[0] & prompts[1], "fresh prompts in every round"
