"""The shipped recipes: each loads, at the paper's size and at the small one, and can be planned anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gigavideo_data.cli import app
from gigavideo_data.recipe.dimensions.catalogue import load_dimension, names
from gigavideo_data.recipe.loading import load, shipped

ROOT = Path(__file__).parents[3]
TEMPLATES = ("paper", "paper-nft", "small")  # without dimensions of their own
QUICK = ("quickstart", "quickstart-all")  # with the embedded miniature
OF_MODELS = sorted(set(shipped()) - {*QUICK, *TEMPLATES})


def test_there_is_one_for_each_group_of_the_paper_and_two_for_any_dimensions() -> None:
    assert set(shipped()) == {"human", "physics", "dynamics", "existence", "all", *QUICK, *TEMPLATES}
    assert all(load(name).name == name for name in [*OF_MODELS, *QUICK])
    assert all(load("paper", dimensions=[name]).dimensions == (name,) for name in names())
    assert sorted(load("all").dimensions) == names()


def test_a_group_recipe_has_the_dimensions_that_are_labelled_with_the_group() -> None:
    groups = {group: sorted(load(group).dimensions) for group in ("human", "physics", "dynamics", "existence")}
    assert sum(map(len, groups.values())) == 12  # the paper's Table 4
    assert groups == {group: [name for name in names() if load_dimension(name).group == group] for group in groups}


@pytest.mark.parametrize("name", OF_MODELS)
def test_the_small_size_differs_only_in_numbers(name: str) -> None:
    large, small = load(name), load(name, ["extends=small"])
    few, many = (one.prompts.per_dimension * one.prompts.variants for one in (small, large))
    assert few < many / 50
    same = {"prompts", "check", "eval_prompts"}
    assert small.model_dump(exclude=same) == large.model_dump(exclude=same)


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("gv-data build --recipe p", ["paper-nft", "paper", "physics"]),
        ("gv-data plan --recipe paper --dimensions material,mec", ["material,mechanics"]),
        ("gv-data plan --recipe paper --dimensions mechanics,mec", []),
    ],
)
def test_the_shell_completes_recipes_and_dimensions(words: str, completions: list[str]) -> None:
    env = {"_GV_DATA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert CliRunner().invoke(app, env=env, prog_name="gv-data").stdout.split() == completions


PLAN = """
import json
from pathlib import Path
from gigavideo_data.commands.plan import plan
from gigavideo_data.commands.planning.rates import Gpu
from gigavideo_data.recipe.loading import load, shipped
from gigavideo_data.pipeline.store import Store
templates = ("paper", "paper-nft", "small")
plans = {(name, size): plan(load(name, size.split()), Store(Path("nowhere")), Gpu("rtx4090"))
         for name in shipped() if name not in templates
         for size in (["", "extends=small"] if not name.startswith("quickstart") else [""])}
plans |= {(name, ""): plan(load(name, dimensions=["mechanics"]), Store(Path("nowhere"))) for name in templates}
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
    assert rows["paper", ""]["synthesize"] == 560
    assert rows["paper-nft", ""]["synthesize"] == 560
    assert rows["small", ""]["synthesize"] == 4
    assert rows["all", ""]["synthesize"] == 17 * 560  # the paper's 9.5 thousand
    assert rows["physics", "extends=small"]["synthesize"] == 3 * 4
    assert "cannot be fetched" in plans["physics", ""]["warnings"][0]
    assert plans["paper", ""]["generators"] == [
        {
            "model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            "videos": "832x480, 81 frames at 16 Hz",
            "steps": 50,
            "licence": "apache-2.0",
        }
    ]
    hours = next(line for line in plans["physics", ""]["stages"] if line["stage"] == "synthesize")["seconds"] / 3600
    assert hours == pytest.approx(3 * 560 * 240 / 3600)
    for name in QUICK:
        assert all(line["seconds"] is not None for line in plans[name, ""]["stages"] if line["stage"] != "caption")


def test_the_quickstart_improves_one_skill_and_holds_the_others_of_the_tour() -> None:
    quick, tour = load("quickstart"), load("quickstart-all")
    assert sorted(quick.all_dimensions) == sorted(tour.dimensions)
    assert (len(quick.dimensions), tour.others.dimensions) == (1, ())
