"""Two rounds with the genuine commands on the miniature: killed in the middle, they end as without the kill."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gigavideo_data.dataset.reader import read_manifest
from gigavideo_data.models.spec import folder_revision

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


def start(folder: Path) -> subprocess.Popen:
    sets = [part for key, value in RECIPE.items() for part in ("--set", f"{key}={value}")]
    training = [part for text in TRAINING for part in ("--train-set", text)]
    command = [sys.executable, "-m", "gigavideo_loop", "--recipe", "quickstart", "--rounds", "2", "--out", "loop"]
    folder.mkdir(exist_ok=True)
    with (folder / "messages.txt").open("a") as messages:
        return subprocess.Popen(
            [*command, "--store", "store", *sets, *training], cwd=folder, stdout=messages, stderr=messages
        )


def results(folder: Path) -> dict[str, object]:
    """All that must not depend on an interruption."""
    out = folder / "loop"
    loop = json.loads((out / "loop.json").read_text())
    for one in loop["rounds"]:
        one.pop("seconds")
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


def test_a_killed_loop_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(whole).wait(timeout=900) == 0, (whole / "messages.txt").read_text()
    process = start(cut)
    while not (cut / "loop/round-2/dataset").is_dir():
        assert process.poll() is None, (cut / "messages.txt").read_text()
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert not (cut / "loop/round-2/steps.json").exists()
    assert start(cut).wait(timeout=900) == 0, (cut / "messages.txt").read_text()
    assert results(cut) == results(whole)

    first, second = (whole / f"loop/round-{number}" for number in (1, 2))
    assert read_manifest(second / "dataset")["generators"] == [
        {"model": "model", "revision": folder_revision(first / "model"), "adapter": None}
    ]
    prompts = [set(pq.read_table(each / "dataset/data")["base_prompt"].to_pylist()) for each in (first, second)]
    assert not prompts[0] & prompts[1], "fresh prompts in every round"
