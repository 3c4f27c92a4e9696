"""A dataset judged again: as if it had been built with the other judge, and nobody asked twice."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gigavideo_data.dataset.verify import verify_folder
from tests.support.workspace import Workspace

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def built(small_build, tmp_path_factory) -> Workspace:
    workspace = small_build.copied(tmp_path_factory.mktemp("built"), "soft")
    assert workspace.build("hard", judge__readout="text")[0] == 0
    return workspace


def score(workspace: Workspace, *arguments: str) -> dict:
    process = workspace.run(["score", *arguments, "--json"])
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    facts: dict = json.loads(printed)
    return facts


def without_ledger(folder: Path) -> dict:
    manifest: dict = json.loads((folder / "manifest.json").read_text())
    return {key: value for key, value in manifest.items() if key not in ("ledger", "files")}


def test_it_is_the_set_that_a_build_with_that_judge_makes(built):
    (built.folder / "judge.yaml").write_text("judge: {readout: text}\n")  # all that a recipe for another judge needs
    facts = score(built, "soft", "--recipe", "judge.yaml", "--out", "again")
    rows = built.rows("hard")
    made = sum(row["source"] != "real" for row in rows)
    assert (facts["rows"], facts["judged"], facts["rejected"]) == (len(rows), made, 0)
    verify_folder(built.folder / "again")
    for part in ("data", "eval_prompts", "preview"):
        tables = [pq.read_table(built.folder / name / part) for name in ("again", "hard")]
        assert tables[0].equals(tables[1]), part
    assert without_ledger(built.folder / "again") == without_ledger(built.folder / "hard")
    ends = {line["source"]: line for line in built.manifest("again")["ledger"] if line["stage"] == "rejudge"}
    assert {source: line["out"] for source, line in ends.items() if source != "eval"} == {
        source: [row["source"] for row in rows].count(source) for source in ("real", "synthetic", "twin")
    }


def test_what_this_judge_has_answered_is_not_asked_again_and_nothing_moves(built):
    facts = score(built, "soft", "--recipe", "quickstart-all", "--out", "same")
    assert facts["judged"] == 0
    assert built.rows("same") == built.rows("soft")
    assert without_ledger(built.folder / "same") == without_ledger(built.folder / "soft")
