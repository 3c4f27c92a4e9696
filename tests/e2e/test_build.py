"""Whole builds through the command line, with real Ray: what is promised when something goes wrong.

Every recovery is compared with an uninterrupted build: same files, same bytes, and as many videos made as its rows,
give or take the batches in flight at a kill. The generator is replaced by one that renders and counts (see
tests/support/faults).
"""

import json
import os
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gigavideo_data.commands.plan import plan
from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.loading import load
from gigavideo_data.scoring.pixels import JUDGE_ID
from tests.support.workspace import BATCH, SMALL, WORKERS, Workspace

STAGES = ("prompt", "caption", "extend", "questions", "synthesize", "judge")
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def reference(small_build, tmp_path_factory) -> Workspace:
    """An uninterrupted build of the small recipe, which tests here go on with."""
    return small_build.copied(tmp_path_factory.mktemp("reference"))


def test_a_build_verifies_and_makes_every_video_once(reference):
    verified = verify_folder(reference.folder / "out")
    rows = pq.read_table(reference.folder / "out" / "data", columns=["source"])["source"].to_pylist()
    assert set(rows) == {"synthetic", "twin", "real"}
    assert verified.clips == len(rows)
    assert reference.calls() == len(rows) - rows.count("real")
    assert (reference.folder / "out" / "report.html").exists()
    measured = [row["source"] for row in reference.rows() if any(m["judge"] == JUDGE_ID for m in row["measurements"])]
    assert sorted(measured) == sorted(source for source in rows if source != "real")


@pytest.fixture
def batches_of_the_build(monkeypatch):
    """In this process, the batch size that the builds have in theirs: it is part of the keys."""
    monkeypatch.setitem(PROFILES, "miniature", replace(PROFILES["miniature"], batch_size=BATCH))


def test_card_and_cost_say_what_the_useful_samples_took_and_a_resumed_build_says_the_same(reference):
    def cost() -> Any:
        return costs.cost_per_sample(costs.read(reference.folder / "out"))

    figure = cost()
    assert figure["device"] == "CPU"
    assert {"prompt", "extend", "questions", "synthesize", "judge", "judge check"} <= figure["stages"].keys()
    assert all(seconds > 0 for seconds in figure["stages"].values())
    assert costs.sentence(figure) in (reference.folder / "out" / "README.md").read_text()
    assert reference.build()[0] == 0  # it takes all rows from the store, which knows what they took
    assert cost() == figure


@pytest.mark.usefixtures("batches_of_the_build")
def test_a_plan_knows_what_is_there_and_touches_nothing(reference, tmp_path):
    settings = [f"{key}={value}" for key, value in SMALL.items()]
    before = sum(1 for _ in (reference.folder / "store").rglob("*"))

    def stages(store: Path, *more: str) -> dict[str, dict]:
        facts = plan(load("quickstart-all", [*settings, *more]), Store(store))
        return {line["stage"]: line for line in facts["stages"]}

    made = stages(reference.folder / "store")
    assert all(line["rows"] == line["in_store"] for line in made.values())
    assert made["synthesize"]["rows"] == reference.calls()
    twice = stages(reference.folder / "store", "samples_per_prompt=4")
    assert twice["questions"] == made["questions"]
    more = twice["synthesize"]["rows"] - twice["synthesize"]["in_store"]
    assert more == 2 * len({row["prompt"] for row in reference.rows() if row["source"] == "synthetic"})
    empty = stages(tmp_path / "none")
    assert all(line["in_store"] == 0 for line in empty.values())
    assert all(empty[stage]["rows"] >= made[stage]["rows"] for stage in made)
    assert not (tmp_path / "none").exists()
    assert sum(1 for _ in (reference.folder / "store").rglob("*")) == before


def test_a_plan_counts_what_it_knows_of_videos_whose_model_cannot_be_looked_up(reference):
    model = 'generators=[{"model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"}]'
    settings = [f"{key}={value}" for key, value in SMALL.items()]
    facts = plan(load("quickstart-all", [*settings, model]), Store(reference.folder / "store"))
    lines = {line["stage"]: line for line in facts["stages"]}
    assert lines["questions"]["rows"] == lines["questions"]["in_store"] > 0
    assert lines["synthesize"]["rows"] > lines["synthesize"]["in_store"] == 0
    assert lines["judge"]["rows"] > 0
    assert any("offline" in warning for warning in facts["warnings"])


def test_the_same_build_again_makes_nothing_and_changes_nothing(reference):
    before, calls = reference.files(), reference.calls()
    shard = reference.folder / "out" / next(name for name in before if name.startswith("data/"))
    inode = shard.stat().st_ino
    began = time.monotonic()
    code, said = reference.build()
    assert code == 0
    assert "nothing changed" in said
    assert shard.stat().st_ino == inode, "not written again"
    assert (reference.files(), reference.calls()) == (before, calls)
    assert time.monotonic() - began < 60
    shard.write_bytes(b"damaged")
    assert reference.build()[0] == 0
    assert (reference.files(), reference.calls()) == (before, calls)


@pytest.mark.slow
def test_killed_in_every_stage_it_resumes_to_the_same_bytes(reference, tmp_path):
    workspace, kills = Workspace(tmp_path / "killed"), 0
    for stage in (*STAGES, "publish"):
        process = workspace.start(faults={"GV_SLEEP_S": "0.2"})
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            begun = workspace.finished(stage) if stage != "publish" else (workspace.folder / "out/.gv/staging").exists()
            if begun:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.005)
        process.communicate(timeout=60)
    assert kills >= len(STAGES)  # the last stages may be over before they are seen
    code, said = workspace.build()
    assert code == 0, said
    assert workspace.files() == reference.files()
    made_again = workspace.calls() - reference.calls()
    assert made_again <= 2 * WORKERS * BATCH, "only the batches that a kill interrupted, at the stage's start or in it"


@pytest.mark.slow
def test_on_one_worker_the_bytes_are_the_same(reference, tmp_path):
    workspace = Workspace(tmp_path / "one")
    assert workspace.build(limits__replicas="1")[0] == 0
    one, two = (w.files() for w in (workspace, reference))
    assert {k: v for k, v in one.items() if k.startswith("data/")} == {
        k: v for k, v in two.items() if k.startswith("data/")
    }


@pytest.mark.slow
def test_a_second_recipe_makes_no_shared_video_twice(reference):
    calls = reference.calls()
    code, said = reference.build("more", prompts__per_dimension="6", name="more")
    assert code == 0, said
    ids = [
        set(pq.read_table(reference.folder / out / "data", columns=["id"])["id"].to_pylist()) for out in ("out", "more")
    ]
    assert ids[0] < ids[1]
    assert reference.calls() - calls == len(ids[1] - ids[0])


@pytest.mark.slow
def test_a_row_that_kills_its_worker_is_rejected_with_a_reason_and_harms_no_other(reference, tmp_path):
    prompts = reference.rows()
    poison = next(row["base_prompt"] for row in prompts if row["source"] == "synthetic")  # both samples of one prompt
    doomed = sum(poison in row["prompt"] and row["source"] != "real" for row in prompts)
    assert 0 < doomed < len(prompts)
    workspace = Workspace(tmp_path / "poison")
    code, said = workspace.build(faults={"GV_KILL_WORD": poison})
    assert code == 3, said
    assert "limits.max_rejected" in said
    died = [row for row in workspace.rejects() if row["reason"] == "worker_died"]
    assert len(died) == doomed
    assert {row["attempts"] for row in died} == {3}
    calls = sum(poison in line for line in workspace.calls_file.read_text().splitlines())
    assert 3 * doomed < calls <= 4 * doomed, "in a batch, and then three times alone"
    verify_folder(workspace.folder / "out")
    code, said = workspace.build(retry=True)  # with more memory, say
    assert code == 0, said
    assert workspace.files() == reference.files()


@pytest.mark.slow
def test_a_full_disk_stops_the_build_and_the_same_command_goes_on(reference, tmp_path):
    workspace = Workspace(tmp_path / "full")
    code, said = workspace.build(faults={"GV_FILE_LIMIT": "2600"})  # bytes of one file: prompts fit, clips do not
    assert code == 1, said
    assert "--store" in said
    assert "Traceback" not in said
    code, said = workspace.build()
    assert code == 0, said
    assert workspace.files() == reference.files()
    assert workspace.calls() <= reference.calls() + 2 * WORKERS * BATCH


def test_a_truncated_clip_in_the_store_is_noticed_and_made_again(reference):
    rows = pq.read_table(reference.folder / "out" / "data", columns=["source", "video_sha256"]).to_pylist()
    sha256 = next(row["video_sha256"] for row in rows if row["source"] == "synthetic")
    blob = reference.folder / "store" / "blobs" / sha256[:2] / f"{sha256}.mp4"
    blob.write_bytes(blob.read_bytes()[:200])
    before, calls = reference.files(), reference.calls()
    code, said = reference.build()
    assert code == 0
    assert "damaged" in said
    assert reference.files() == before
    assert reference.calls() <= calls + 1


def test_two_builds_in_one_folder_the_second_is_refused(tmp_path):
    workspace = Workspace(tmp_path / "twice")
    first = workspace.start(faults={"GV_SLEEP_S": "10"})  # still at work when the second one is refused
    deadline = time.monotonic() + 120
    while not workspace.finished("prompt") and time.monotonic() < deadline:
        time.sleep(0.05)
    code, said = workspace.build()
    first.send_signal(signal.SIGINT)
    _, said_first = first.communicate(timeout=120)
    assert code == 1
    assert "another" in said
    assert first.returncode == 130, said_first
    assert "interrupted" in said_first


def test_no_path_of_this_machine_is_published(reference):
    secrets = [str(reference.folder), str(Path.home()), os.uname().nodename]
    for path in (reference.folder / "out").rglob("*"):
        if path.is_file() and ".gv" not in path.parts:
            data = path.read_bytes()
            assert not [secret for secret in secrets if len(secret) > 5 and secret.encode() in data], path


def evaluate(workspace: Workspace, *arguments: str) -> tuple[int, str, str]:
    process = workspace.run(["eval", "--prompts", "out", "--json", *arguments])
    printed, said = process.communicate(timeout=300)
    return process.returncode, printed, said


def test_a_model_compared_with_itself_has_no_difference_and_costs_nothing_twice(reference):
    from gigavideo_data.models.generators.profiles import model_folder

    shutil.copytree(model_folder("miniature"), reference.folder / "copy")
    calls = reference.calls()
    code, printed, said = evaluate(reference, "--tuned", "copy", "--out", "same")
    assert code == 0, said
    facts = json.loads(printed)
    videos = sum(line["videos"] for line in facts["comparisons"] if line["dimension"] != "mean")
    assert reference.calls() - calls == 2 * videos  # another name is another generator, though its weights are the same
    for line in facts["comparisons"]:
        assert (line["difference"], line["low"], line["high"]) == (0, 0, 0)
        assert line["verdict"] == "unclear"
    assert {line["dimension"] for line in facts["comparisons"]} > set(SMALL["dimensions"].strip("[]").split(", "))
    assert facts["measures"]["motion"]["ratio"] == facts["measures"]["spread"]["ratio"] == 1
    assert facts["measures"]["realism"]["real"] == videos
    assert facts["second"] is None
    rewards = pq.read_table(reference.folder / "same" / "rewards.parquet").to_pylist()
    assert len(rewards) == videos
    assert all(row["base"] == row["tuned"] and row["second_base"] is None for row in rewards)
    fixed = json.loads((reference.folder / "same" / "eval.json").read_text())["fixed_clips"]
    prompts = {line["dimension"]: line["prompts"] for line in facts["comparisons"] if line["dimension"] != "mean"}
    assert Counter(pair["dimension"] for pair in fixed) == {name: min(num, 2) for name, num in prompts.items()}
    for pair in fixed:
        assert (reference.folder / "same" / "clips" / pair["tuned"]["clip"]).is_file()
    page = (reference.folder / "same" / "report.html").read_text()
    assert 'id="compared"' in page
    assert "<dt>realism</dt>" in page
    assert str(reference.folder) not in page
    calls, measured = reference.calls(), reference.finished("measure")
    code, printed, said = evaluate(reference, "--tuned", "copy", "--out", "again", "--second-judge", "readout=text")
    assert code == 0, said
    assert reference.calls() == calls
    assert reference.finished("measure") == measured
    again = json.loads(printed)
    assert again["measures"] == facts["measures"]
    assert [line["dimension"] for line in again["second"]["comparisons"]] == [
        line["dimension"] for line in again["comparisons"]
    ]
    code, printed, _ = evaluate(reference, "--tuned", "copy", "--out", "bare", "--no-measures")
    assert (code, json.loads(printed)["measures"]) == (0, None)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--tuned", "nowhere"], 2, "nor a folder"),
        (["--tuned", "miniature", "--adapter", "nowhere"], 2, "no such folder"),
        (["--tuned", "miniature", "--split", "validation"], 2, "'dev', 'test'"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_at_once(reference, arguments, code, words):
    found, _, said = evaluate(reference, *arguments)
    assert found == code
    assert words in said


def test_more_gpus_than_there_are_end_the_build_with_what_to_change(tmp_path):
    code, said = Workspace(tmp_path).build(scale__generator__gpus="64")
    assert code == 2
    assert "scale.generator.gpus: 64: miniature makes a video on one GPU" in said
    assert "Set gpus: 1" in said
    assert "Traceback" not in said
