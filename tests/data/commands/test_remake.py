"""Datasets without their generated videos, and the videos made again."""

import json
import shutil

import pytest

from gigavideo_data.commands.remake import withhold
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import DatasetError
from gigavideo_train.data import dataset
from tests.support.rows import make_rows, write_set
from tests.support.workspace import Workspace

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def built(small_build, tmp_path_factory) -> Workspace:
    workspace = small_build.copied(tmp_path_factory.mktemp("built"), "whole")
    withhold(workspace.folder / "whole", workspace.folder / "scores")
    return workspace


@pytest.fixture
def elsewhere(built, tmp_path) -> Workspace:
    """Another machine, with the scores and no finished work."""
    workspace = Workspace(tmp_path / "elsewhere")
    shutil.copytree(built.folder / "scores", workspace.folder / "scores")
    return workspace


def run(workspace: Workspace, *arguments: str, faults: dict[str, str] | None = None) -> tuple[int, dict, str]:
    process = workspace.run([*arguments, "--json"], faults)
    printed, said = process.communicate(timeout=300)
    return process.returncode, json.loads(printed or "{}"), said


def data_sums(workspace: Workspace, name: str) -> dict[str, str]:
    return {path: value for path, value in workspace.files(name).items() if path.startswith(("data/", "preview/"))}


def test_what_is_withheld_is_the_generated_videos_and_nothing_else(built):
    from datasets import Video, concatenate_datasets, load_dataset

    folder = built.folder / "scores"
    generated = sum(row["source"] != "real" for row in built.rows("whole"))
    assert built.rows("scores") == built.rows("whole")
    assert verify_folder(folder).clips == len(built.rows("whole"))
    splits = load_dataset(str(folder), cache_dir=str(built.folder / "cache"))
    rows = concatenate_datasets(list(splits.values()))
    videos = rows.cast_column("video", Video(decode=False))
    assert {row["id"] for row in videos if row["video"] is None} == {
        row["id"] for row in built.rows("whole") if row["source"] != "real"
    }
    assert generated > 0
    assert "withheld" in (folder / "README.md").read_text()
    with pytest.raises(DatasetError, match="gv-data remake"):
        dataset.read(folder)


def test_made_again_it_is_the_same_set(built, elsewhere):
    code, facts, said = run(elsewhere, "remake", "scores", "--out", "remade")
    assert code == 0, said
    generated = [row for row in built.rows("whole") if row["source"] != "real"]
    assert elsewhere.calls() == len(generated)
    assert (facts["made"], facts["others"], facts["rejected"]) == (len(generated), 0, 0)
    assert data_sums(elsewhere, "remade") == data_sums(built, "whole")
    verify_folder(elsewhere.folder / "remade")


@pytest.mark.slow
def test_videos_that_come_out_otherwise_are_not_scored_until_they_are_judged_again(built, elsewhere):
    word = next(row["prompt"].split()[1] for row in built.rows("whole") if row["source"] == "synthetic")
    code, facts, said = run(elsewhere, "remake", "scores", "--out", "remade", faults={"GV_OTHER_WORD": word})
    assert code == 0, said
    before, after = ({row["id"]: row for row in rows} for rows in (built.rows("whole"), elsewhere.rows("remade")))
    others = {name for name in after if after[name]["video_sha256"] != before[name]["video_sha256"]}
    assert 0 < len(others) == facts["others"] < facts["made"]
    assert {after[name]["status"] for name in others} == {"not_scored"}
    assert all(after[name] == before[name] for name in after.keys() - others)
    verify_folder(elsewhere.folder / "remade")

    code, facts, said = run(elsewhere, "score", "remade", "--recipe", "quickstart-all", "--in-place")
    assert code == 0, said
    assert facts["judged"] == len(others)
    judged = {row["id"]: row for row in elsewhere.rows("remade")}
    assert all(judged[name]["answers"] and judged[name]["status"] != "not_scored" for name in others)
    asked = {name: [(a["dimension"], a["question"]) for a in row["answers"]] for name, row in judged.items()}
    assert asked == {name: [(a["dimension"], a["question"]) for a in row["answers"]] for name, row in before.items()}
    assert all(judged[name] == before[name] for name in judged.keys() - others)
    verify_folder(elsewhere.folder / "remade")


def test_another_model_of_the_same_name_is_refused_before_anything_is_made(tmp_path):
    workspace = Workspace(tmp_path / "here")
    withhold(write_set(workspace.folder / "set", make_rows()), workspace.folder / "scores")
    code, _, said = run(workspace, "remake", "scores", "--out", "remade")
    assert (code, "--model NAME=FOLDER" in said, workspace.calls()) == (2, True, 0), said


def test_a_whole_set_has_nothing_to_make_again(built):
    code, _, said = run(built, "remake", "whole", "--out", "remade")
    assert (code, "nothing to make again" in said) == (1, True), said
