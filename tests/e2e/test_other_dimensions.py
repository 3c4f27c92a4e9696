"""A dataset with dimensions that must not get worse: its rows, and what every command says of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gigavideo_data.commands.merge import merge
from gigavideo_data.commands.rescore import recompute
from gigavideo_data.dataset import summary
from gigavideo_data.dataset.manifest import others_of, targets_of
from gigavideo_data.dataset.reader import read_eval_prompts, read_manifest
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.io import terminal
from gigavideo_train.cli import app
from tests.support.workspace import Workspace

TARGET, OTHERS = "motion_order_understanding", ("dynamic_attribute", "mechanics")
RECIPE: dict[str, Any] = {
    "dimensions": f"[{TARGET}]",
    "others": f"{{dimensions: [{', '.join(OTHERS)}], prompts: 1}}",
    "prompts__per_dimension": "3",
    "captions__count": "2",
    "eval_prompts__per_dimension": "1",
    "eval_prompts__seeds": "1",
    "generators__0__steps": "2",
    "validation_share": "0.0",
    "limits__replicas": "1",
    "check__videos": "2",
}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    built = Workspace(tmp_path_factory.mktemp("others"))
    code, said = built.build(**RECIPE)
    assert code == 0, said
    assert "targets: motion order understanding" in said
    assert "others, which must not get worse: dynamic attribute, mechanics" in said
    return built


def test_others_have_rows_and_evaluation_prompts(workspace: Workspace) -> None:
    out = workspace.folder / "out"
    verify_folder(out)
    manifest = read_manifest(out)
    assert manifest["dimensions"] == [TARGET, *OTHERS]
    assert (targets_of(manifest), others_of(manifest)) == ([TARGET], list(OTHERS))
    rows = workspace.rows()
    samples = Counter(row["dimension"] for row in rows if row["source"] == "synthetic")
    assert samples == {TARGET: 3 * 2, OTHERS[0]: 2, OTHERS[1]: 2}
    assert all(row["status"] != "not_scored" for row in rows if row["source"] != "real")
    assert Counter(prompt["dimension"] for prompt in read_eval_prompts(out)) == dict.fromkeys((TARGET, *OTHERS), 2)
    assert {check["dimension"] for check in manifest["judge_check"]} == {TARGET, *OTHERS}
    assert set(manifest["rewards"]) >= {TARGET, *OTHERS}


def test_the_card_the_page_and_the_summary_say_which_are_others(workspace: Workspace) -> None:
    out = workspace.folder / "out"
    words = "Not to be improved, but not to get worse either: dynamic attribute"
    assert f"on **motion order understanding**. {words}, mechanics.\n" in (out / "README.md").read_text()
    page = (out / "report.html").read_text()
    assert f"motion order understanding. {words} and mechanics." in " ".join(page.split())
    assert "<h3>mechanics <small>other</small></h3>" in page
    facts = summary.summarize(out)
    assert (facts["targets"], facts["others"]) == ([TARGET], list(OTHERS))


@pytest.mark.parametrize(("options", "others"), [((), OTHERS), (("--dimensions", f"{TARGET},mechanics"), OTHERS[1:])])
def test_others_with_rows_are_trained_on_and_a_dry_run_says_so(
    workspace: Workspace, options: tuple[str, ...], others: tuple[str, ...]
) -> None:
    arguments = ["--dataset", str(workspace.folder / "out"), "--dry-run", "--strategy", "sft", *options]
    facts = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (facts["targets"], facts["others"]) == ([TARGET], list(others))
    kept = {line["dimension"]: line["kept"] for line in facts["samples"] if line["source"] == "synthetic"}
    assert {name for name, number in kept.items() if number} == {TARGET, *others}
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert f"others, which must not get worse: {', '.join(map(terminal.words, others))}" in " ".join(shown.split())


def test_datasets_with_others_are_merged_and_rescored(
    workspace: Workspace, small_build: Workspace, tmp_path: Path
) -> None:
    out = workspace.folder / "out"
    assert recompute(out, tmp_path / "again")["changed"] == 0
    assert others_of(read_manifest(tmp_path / "again")) == list(OTHERS)
    merge([out, small_build.folder / "out"], tmp_path / "merged")
    verify_folder(tmp_path / "merged")
    manifest = read_manifest(tmp_path / "merged")
    assert manifest["dimensions"] == [TARGET, *OTHERS, "instance_preservation"]
    assert manifest["recipe"]["dimensions"] == targets_of(manifest) == [TARGET, "instance_preservation"]
    assert others_of(manifest) == list(OTHERS)


@pytest.mark.slow
def test_the_next_build_has_fresh_prompts_and_resumes(workspace: Workspace) -> None:
    first = {row["base_prompt"] for row in workspace.rows() if row["source"] == "synthetic"}
    changes = RECIPE | {"prompts__used": "[out]"}
    code, said = workspace.build("second", **changes)
    assert code == 0, said
    assert "3 of 3 training prompts are fresh" in said
    assert first.isdisjoint(row["base_prompt"] for row in workspace.rows("second") if row["source"] == "synthetic")
    recipe = workspace.manifest("second")["recipe"]
    assert recipe["prompts"]["used"][0].startswith("quickstart-all@")
    files, calls = workspace.files("second"), workspace.calls()
    assert workspace.build("second", **changes)[0] == 0
    assert (workspace.files("second"), workspace.calls()) == (files, calls)


@pytest.mark.slow
def test_a_comparison_and_another_judge_keep_the_others(workspace: Workspace) -> None:
    arguments = ["eval", "--tuned", "miniature", "--prompts", "out", "--split", "dev", "--out", "compared", "--json"]
    printed, said = workspace.run(arguments).communicate(timeout=200)
    assert json.loads(printed)["others"] == list(OTHERS), said
    score = ["score", "out", "--recipe", "quickstart-all", "--set", "judge.readout=text", "--out", "hard"]
    process = workspace.run(score)
    _, said = process.communicate(timeout=200)
    assert process.wait() == 0, said
    verify_folder(workspace.folder / "hard")
    assert others_of(read_manifest(workspace.folder / "hard")) == list(OTHERS)
