"""Models of the Hub, read by the genuine client from a cache folder, as it is on a machine without a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gigavideo_data.commands.plan import plan
from gigavideo_data.errors import RecipeError
from gigavideo_data.hub import models
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from tests.support.hub_clients import connect
from tests.support.hub_server import serving

ROOT = Path(__file__).parents[3]
COMMIT, OTHER = "1" * 40, "2" * 40
MODEL = "org/judge"


@pytest.fixture
def cache(tmp_path) -> Path:
    """The cache as the client writes it: main is one commit, another one lies beside it."""
    model = tmp_path / "hub" / "models--org--judge"
    for commit in (COMMIT, OTHER):
        (model / "snapshots" / commit).mkdir(parents=True)
        (model / "snapshots" / commit / "config.json").write_text("{}")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return tmp_path


def offline(cache: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own: the client reads its settings when it is imported."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    env.pop("HF_HUB_CACHE", None)
    return subprocess.run(
        [sys.executable, "-c", code], env=env, check=False, capture_output=True, text=True, timeout=120
    )


PIN = """
from gigavideo_data.hub.pin import pinned
from gigavideo_data.recipe.recipe import Judge, Recipe
judge = Judge(backend="transformers", model="org/judge", revision={revision})
recipe = Recipe(name="r", dimensions=["composition"], judge=judge)
before = recipe.hash
after = pinned(recipe)
print(after.judge.revision, after.resolved()["judge"]["revision"], after.hash != before, after.name)
"""


@pytest.mark.parametrize(("revision", "commit"), [(None, COMMIT), ("main", COMMIT), (OTHER, OTHER)])
def test_a_build_names_the_commit_that_answers(cache, revision, commit):
    run = offline(cache, PIN.format(revision=repr(revision)))
    assert run.stdout.split() == [commit, commit, str(revision != commit), "r"], run.stderr


def test_a_model_that_cannot_be_asked_for_ends_with_the_hubs_exit_code_and_what_to_check(cache, tmp_path):
    recipe = {"name": "r", "dimensions": ["composition"], "judge": {"backend": "transformers", "model": "org/other"}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    words = ["gv-data", "build", "--recipe", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out")]
    run = offline(cache, f"import sys; from gigavideo_data.cli import main; sys.argv = {words!r}; main()")
    assert run.returncode == 4
    assert "org/other: config.json cannot be fetched from the Hub" in run.stderr
    assert "HF_TOKEN" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_parts_that_load_nothing_from_the_hub_ask_nobody():
    from gigavideo_data.hub.pin import pinned
    from gigavideo_data.recipe.recipe import Recipe

    recipe = Recipe(name="r", dimensions=("composition",), target="org/target")
    assert pinned(recipe) == recipe
    assert pinned(recipe).hash == recipe.hash


REFUSED = """
from gigavideo_data.errors import RecipeError
from gigavideo_data.models.generators.profiles import base_of
made = [{"model": "org/judge", "revision": commit} for commit in COMMITS]
for name in ("org/judge", "org/judge@"):
    try:
        base_of(name, {"target_model": "org/judge", "recipe": {"generators": made}})
    except RecipeError as error:
        print(error)
"""


def test_a_model_of_several_commits_has_to_be_told_which(cache):
    several, none = offline(cache, REFUSED.replace("COMMITS", f"{COMMIT, OTHER}")).stdout.splitlines()
    assert f"--model org/judge@{min(COMMIT, OTHER)}" in several
    assert none == "--model org/judge@: a revision is missing after the @"


BASE = """
from gigavideo_data.models.generators.profiles import base_of
manifest = {"target_model": "org/judge", "recipe": {"generators": MADE}
print(*(base_of(name, manifest) for name in (None, "org/judge", "org/judge@main", "miniature")), sep="|")
"""


@pytest.mark.parametrize(
    ("made", "commit"),
    [
        ("[]}", COMMIT),
        (f"[{{'model': 'org/judge', 'revision': '{OTHER}'}}]}}", OTHER),
        (f"[{{'model': 'org/another', 'revision': '{OTHER}'}}]}}", COMMIT),
        (
            "[]}, 'merged': [{'recipe': " + f"{{'generators': [{{'model': 'org/judge', 'revision': '{OTHER}'}}]}}}}]",
            OTHER,
        ),
        ("[{'model': 'org/judge', 'revision': 'refs/pr/7'}, {'model': 'org/judge'}]}", COMMIT),
    ],
)
def test_the_model_trained_is_the_commit_that_made_the_videos_unless_another_is_told(cache, made, commit):
    for folder in (cache / "hub" / "models--org--judge" / "snapshots").iterdir():
        (folder / "model_index.json").write_text("{}")
    run = offline(cache, BASE.replace("MADE", made))
    found = [f"org/judge@{name}" for name in (commit, commit, COMMIT)]
    assert run.stdout.strip().split("|") == [*found, "miniature"], run.stderr


def test_a_plan_asks_a_silent_hub_once_and_names_what_it_could_not_look_up(tmp_path, monkeypatch):
    with serving() as hub:
        pass
    connect(hub, tmp_path, monkeypatch)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: pytest.fail("tried again"))
    facts = plan(load("physics"), Store(tmp_path / "store"))
    assert {line["stage"] for line in facts["stages"]} >= {"prompt", "synthesize", "judge"}
    named = [warning.split(":")[0] for warning in facts["warnings"]]
    assert {"Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Qwen/Qwen2.5-7B-Instruct"} <= set(named)
    assert all("the Hub does not answer" in warning for warning in of_the_hub(facts))


def test_a_plan_names_each_model_that_the_hub_does_not_have(tmp_path, monkeypatch):
    with serving() as hub:
        connect(hub, tmp_path, monkeypatch)
        facts = plan(load("physics"), Store(tmp_path / "store"))
        assert all("there is no such repository" in warning for warning in of_the_hub(facts))
        assert len(hub.asked) >= len(of_the_hub(facts)) > 1


def of_the_hub(facts: dict) -> list[str]:
    """The warnings of a plan without the one about this machine, which has no GPU."""
    return [warning for warning in facts["warnings"] if "a build on this machine is refused" not in warning]


@pytest.mark.parametrize("model", ["runs/nope", "runs/train/x/model", "models/wan/base"])
def test_a_folder_that_is_not_there_is_no_model_of_the_hub(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asked the Hub"))
    with pytest.raises(RecipeError, match=f"{model}: no such folder"):
        models.commit_of(model, None, "model_index.json")
    with pytest.raises(RecipeError, match=f"{model}: no such folder"):
        models.folder_of(model, None, ["vae"])
