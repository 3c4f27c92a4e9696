"""The recipes that come along: each loads, at the paper's size and at the small one, and can be planned anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gigavideo_data.dimensions.catalogue import names
from gigavideo_data.recipe import load, shipped

ROOT = Path(__file__).parent.parent
OF_MODELS = sorted(name for name, path in shipped().items() if "like: paper" in path.read_text())


def test_there_is_one_for_each_dimension_and_one_for_each_group_of_the_paper() -> None:
    assert set(OF_MODELS) == {*names(), "human", "physics", "dynamics", "existence", "all"}
    assert all(load(name).name == name for name in shipped())
    assert all(load(name).dimensions == (name,) for name in names())
    assert sorted(load("all").dimensions) == names()
    in_groups = [
        dimension for group in ("human", "physics", "dynamics", "existence") for dimension in load(group).dimensions
    ]
    assert len(in_groups) == len(set(in_groups)) == 12  # the paper's Table 4


@pytest.mark.parametrize("name", OF_MODELS)
def test_the_small_size_differs_only_in_numbers(name: str) -> None:
    large, small = load(name), load(name, ["like=small"])
    assert small.prompts.per_dimension * small.prompts.variants < large.prompts.per_dimension / 50
    same = {"prompts", "check", "eval_prompts"}
    assert small.model_dump(exclude=same) == large.model_dump(exclude=same)


PLAN = """
import json
from pathlib import Path
from gigavideo_data.plan import plan
from gigavideo_data.recipe import load, shipped
from gigavideo_data.store import Store
plans = {(name, size): plan(load(name, size.split()), Store(Path("nowhere")))
         for name in shipped() for size in (["", "like=small"] if "like" in shipped()[name].read_text() else [""])}
print(json.dumps([[*key, each] for key, each in plans.items()]))
"""


def test_every_recipe_plans_without_a_network_a_store_or_a_model(tmp_path: Path) -> None:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", PLAN], check=False, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    plans = {(name, size): each for name, size, each in json.loads(run.stdout)}
    assert len(plans) == len(shipped()) + len(OF_MODELS)
    assert list(tmp_path.iterdir()) == []
    rows = {key: {line["stage"]: line["rows"] for line in each["stages"]} for key, each in plans.items()}
    assert rows["physics", ""]["synthesize"] == 3 * 560
    assert rows["all", ""]["synthesize"] == 17 * 560  # the paper's 9.5 thousand
    assert rows["physics", "like=small"]["synthesize"] == 3 * 4
    assert "cannot be fetched" in plans["physics", ""]["warnings"][0]
    hours = next(line for line in plans["physics", ""]["stages"] if line["stage"] == "synthesize")["seconds"] / 3600
    assert hours == pytest.approx(3 * 560 * 240 / 3600)
    assert all(line["seconds"] is not None for line in plans["quickstart", ""]["stages"] if line["stage"] != "caption")
