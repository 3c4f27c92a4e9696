"""More samples where rewards differ: a build that is killed in its second pass ends as an uninterrupted one does."""

import json
import signal
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from gigavideo_data.commands.plan import plan
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from gigavideo_data.scoring.groups import Outcome, outcome
from tests.support.workspace import BATCH, SMALL, WORKERS, Workspace

FIRST, MORE = 2, 3
SAMPLES = f"{{first: {FIRST}, more: {MORE}}}"
CHANGES: dict[str, Any] = {"prompts__per_dimension": "6"}
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("reference"))
    code, said = workspace.build(samples_per_prompt=SAMPLES, **CHANGES)
    assert code == 0, said
    return workspace


def first_rewards(rows: list) -> dict[tuple[str, str], list[float]]:
    rewards: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["source"] == "synthetic" and row["sample"] < FIRST:
            rewards.setdefault((row["dimension"], row["prompt_id"]), []).append(row["reward"])
    return rewards


def test_its_rows_are_those_that_the_rewards_of_the_first_samples_select(reference: Workspace) -> None:
    rows = reference.rows()
    outcomes = {group: outcome(values, 0.5) for group, values in first_rewards(rows).items()}
    numbers = Counter((row["dimension"], row["prompt_id"]) for row in rows if row["source"] == "synthetic")
    assert numbers == {group: FIRST + MORE * (one is Outcome.DIFFERENT) for group, one in outcomes.items()}
    assert 0 < list(outcomes.values()).count(Outcome.DIFFERENT) < len(outcomes)
    counted: Counter[str] = Counter()
    for line in reference.manifest()["sampled"]:
        counted.update(line["prompts"])
    assert +counted == Counter(one.value for one in outcomes.values())
    assert reference.calls() == sum(row["source"] != "real" for row in rows)
    verify_folder(reference.folder / "out")


def test_its_cost_and_its_plan_list_both_passes(reference: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "miniature", replace(PROFILES["miniature"], batch_size=BATCH))
    cost = json.loads((reference.folder / "out" / "cost.json").read_text())
    calls = {line["stage"]: line["calls"] for line in cost["stages"]}
    num_added = sum(row["source"] == "synthetic" and row["sample"] >= FIRST for row in reference.rows())
    assert calls["synthesize more"] == calls["judge more"] == num_added
    assert calls["synthesize"] == reference.calls() - num_added
    values = SMALL | {"prompts.per_dimension": "6", "samples_per_prompt": SAMPLES}
    recipe = load("quickstart-all", [f"{key}={value}" for key, value in values.items()])
    lines = {line["stage"]: line for line in plan(recipe, Store(reference.folder / "store"))["stages"]}
    assert all(line["rows"] == line["in_store"] for line in lines.values())
    assert lines["synthesize more"]["rows"] == num_added
    new = {line["stage"]: line for line in plan(recipe, Store(reference.folder / "none"))["stages"]}
    assert (new["synthesize"]["rows"], new["synthesize more"]["rows"]) == (2 * 6 * FIRST + 4, 2 * 6 * MORE)


@pytest.mark.parametrize("added", [1, 5])
def test_killed_in_its_second_pass_it_resumes_to_the_same_bytes(reference: Workspace, tmp_path, added: int) -> None:
    workspace = Workspace(tmp_path / "killed")
    num_added = sum(row["source"] == "synthetic" and row["sample"] >= FIRST for row in reference.rows())
    num_first = reference.calls() - num_added
    process = workspace.start(faults={"GV_SLEEP_S": "0.3"}, samples_per_prompt=SAMPLES, **CHANGES)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if workspace.finished("synthesize") >= num_first + added:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.communicate(timeout=60)
    assert num_first < workspace.finished("synthesize") < reference.calls()
    code, said = workspace.build(samples_per_prompt=SAMPLES, **CHANGES)
    assert code == 0, said
    assert workspace.files() == reference.files()
    assert workspace.calls() - reference.calls() <= WORKERS * BATCH, "the batches that the kill interrupted"


def test_a_rejected_first_sample_does_not_count_until_it_is_tried_again(reference: Workspace, tmp_path) -> None:
    rows = reference.rows()
    chosen = [group for group, values in first_rewards(rows).items() if outcome(values, 0.5) is Outcome.DIFFERENT]
    poison = next(row for row in rows if (row["dimension"], row["prompt_id"]) == chosen[0])
    workspace = Workspace(tmp_path / "poison")
    options: dict[str, Any] = {"samples_per_prompt": SAMPLES, "limits__max_rejected": "1.0", **CHANGES}
    code, said = workspace.build(faults={"GV_KILL_WORD": poison["prompt"]}, **options)
    assert code == 0, said
    assert [row["sample"] for row in workspace.rows() if row["prompt"] == poison["prompt"]] == []
    unscored = sum(line["prompts"]["unscored"] for line in workspace.manifest()["sampled"])
    assert unscored == 1
    assert {row["reason"] for row in workspace.rejects() if row["stage"] == "synthesize"} == {"worker_died"}
    verify_folder(workspace.folder / "out")
    code, said = workspace.build(retry=True, **options)
    assert code == 0, said
    data, expected = (
        {name: digest for name, digest in files.items() if name.startswith("data/")}
        for files in (workspace.files(), reference.files())
    )
    assert data == expected


def test_judged_again_it_keeps_its_rows_and_what_its_build_decided(reference: Workspace) -> None:
    arguments = ["score", "out", "--recipe", "quickstart-all", "--set", "judge.readout=text", "--out", "hard"]
    process = reference.run(arguments)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert {row["id"] for row in reference.rows("hard")} == {row["id"] for row in reference.rows()}
    assert reference.manifest("hard")["sampled"] == reference.manifest()["sampled"]
    assert reference.manifest("hard")["recipe_hash"] != reference.manifest()["recipe_hash"]
