"""Publishing: whatever the Hub does, it ends in one commit, the right tag, and the set that is here."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.hub_clients import gv_data, python, run, start
from tests.support.hub_server import READS, WRITES, serving
from tests.support.hub_state import Fault, File, Hub
from tests.support.rows import make_row, make_rows, write_set

REPO = "org/ds"


@pytest.fixture
def hub():
    with serving() as made:
        yield made


def publish(hub: Hub, folder: Path, *more: str) -> dict:
    code, printed, said = gv_data(hub, folder, "push", "set", REPO, "--json", *more)
    assert code == 0, said
    facts: dict = json.loads(printed)
    return facts


def state(hub: Hub) -> tuple[int, dict[str, str]]:
    """Number of commits beside the first, and the tags by what they name."""
    repo = hub.repo(REPO)
    numbers = {commit.sha: number for number, commit in enumerate(repo.commits)}
    return len(repo.commits) - 1, {tag: f"commit {numbers[sha]}" for tag, sha in repo.tags.items()}


def assert_whole(hub: Hub, folder: Path) -> None:
    """Its newest commit holds the local files, byte by byte."""
    there = hub.repo(REPO).commits[-1].files
    manifest = json.loads((folder / "set" / "manifest.json").read_text())
    for name in (*manifest["files"], "cost.json", "manifest.json"):
        assert there[name].data == (folder / "set" / name).read_bytes(), name
    assert "gigavideo-dataset" in there["README.md"].data.decode()


# It leaves without Python's own end: threads of Arrow that still hold a Python file may abort the process there
# (apache/arrow issue 45214; datasets works around it for older versions of Arrow only).
LOADED = """
import json, os, sys
from datasets import Video, get_dataset_config_names, load_dataset
def plain(row):
    return {name: value if name != "video" else [value["path"], value["bytes"].hex()] for name, value in row.items()}
def rows(split):
    split = split.cast_column("video", Video(decode=False)) if "video" in split.features else split
    return [plain(row) for row in split]
source, revision = sys.argv[1], sys.argv[2] or None
for config in get_dataset_config_names(source, revision=revision):
    for streaming in (False, True):
        sets = load_dataset(source, config, revision=revision, streaming=streaming)
        print(json.dumps([config, streaming, {name: rows(split) for name, split in sets.items()}], sort_keys=True))
sys.stdout.flush()
os._exit(0)
"""


def loaded(hub: Hub, folder: Path, source: str, revision: str = "") -> list:
    script = f"import sys; sys.argv = ['', {source!r}, {revision!r}]\n" + LOADED
    return [json.loads(line) for line in python(hub, folder, script).splitlines()]


def test_a_set_is_one_commit_and_a_tag_and_loads_there_as_here(hub, tmp_path):
    write_set(tmp_path / "set")
    facts = publish(hub, tmp_path)
    assert (facts["tag"], state(hub)) == ("v1.0.0", (1, {"v1.0.0": "commit 1"}))
    assert facts["sha"] == hub.repo(REPO).tags["v1.0.0"]
    assert_whole(hub, tmp_path)
    there = loaded(hub, tmp_path, REPO, "v1.0.0")
    assert {config for config, _, _ in there} == {"default", "preview", "eval_prompts", "rejects"}
    assert there == loaded(hub, tmp_path, str(tmp_path / "set"))


def spend(folder: Path, seconds: float) -> None:
    """Change what a set says that it cost; two of its clips are kept."""
    stage = {"stage": "judge", "rows": 8, "spent": {"cpu": seconds}}
    cost = {"stages": [stage], "samples": {"kept": 2, "effective": 2.0}, "wall_seconds": 9.0}
    (folder / "cost.json").write_text(json.dumps(cost))


@pytest.mark.slow
def test_the_same_set_again_sends_nothing_and_changes_nothing(hub, tmp_path):
    write_set(tmp_path / "set")
    spend(tmp_path / "set", 3.0)
    first = publish(hub, tmp_path)
    assert "1.5 CPU-seconds per kept clip" in hub.repo(REPO).commits[-1].files["README.md"].data.decode()
    before, sent = state(hub), hub.sent
    again = publish(hub, tmp_path)
    assert (state(hub), hub.sent) == (before, sent)
    assert (again["tag"], again["sha"], again["bytes"]) == (first["tag"], first["sha"], 0)
    spend(tmp_path / "set", 4.0)  # the same set, built again
    assert publish(hub, tmp_path)["tag"] == first["tag"]
    assert (state(hub), hub.sent) == (before, sent)


@pytest.mark.slow
def test_the_next_version_says_what_changed_and_leaves_the_files_of_others(hub, tmp_path):
    rows = make_rows()
    write_set(tmp_path / "set", rows)
    publish(hub, tmp_path)
    repo = hub.repo(REPO)
    hub.commit(repo, "somebody's", "", repo.commits[-1].files | {"data/old.parquet": File(b"x", lfs=True)})
    write_set(tmp_path / "set", [*rows, make_row(900)])
    added = publish(hub, tmp_path)
    assert (added["tag"], added["changes"]) == ("v1.1.0", "1 rows added")
    write_set(tmp_path / "set", [*rows, make_row(900, reward=0.5)])
    changed = publish(hub, tmp_path)
    assert (changed["tag"], changed["changes"]) == ("v2.0.0", "1 rows changed")
    write_set(tmp_path / "set", rows)
    assert publish(hub, tmp_path)["tag"] == "v3.0.0"  # one is gone
    assert "data/old.parquet" in repo.commits[-1].files
    assert_whole(hub, tmp_path)
    card = repo.commits[-1].files["README.md"].data.decode()
    assert f'load_dataset("{REPO}", revision="v3.0.0"' in card
    assert f"gv-train --dataset {REPO}@v3.0.0" in card
    listed = [line.split(":")[0] for line in card.split("## Versions")[1].split("\n- ")[1:]]
    assert listed == ["`v3.0.0`", "`v2.0.0`", "`v1.1.0`", "`v1.0.0`"]
    assert len(repo.tags) == len(set(repo.tags.values())) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        [Fault("POST", "/repos/create", 429, {"Retry-After": "1"}), Fault("GET", "whoami", 503)],
        [Fault("PUT", "/lfs/", 500, times=2), Fault("POST", "objects/batch", 502)],
        [Fault("POST", "/commit/", 503, times=2)],
        [Fault("POST", "/commit/", drop=True)],
        [Fault("POST", "/tag/", 503), Fault("GET", "/refs", 500)],
        [Fault("POST", "/tag/", drop=True)],
        [Fault("GET", "/tree/", 500), Fault("GET", "/tree/", drop=True), Fault("PUT", "/lfs/", drop=True)],
    ],
    ids=["create", "upload", "commit", "lost commit", "tag", "lost tag", "dropped"],
)
def test_what_may_pass_is_tried_again_and_never_done_twice(hub, tmp_path, faults):
    write_set(tmp_path / "set")
    hub.faults = faults
    publish(hub, tmp_path)
    assert not any(fault.times for fault in faults), "a fault that was never met proves nothing"
    assert state(hub) == (1, {"v1.0.0": "commit 1"})
    assert_whole(hub, tmp_path)


@pytest.mark.slow
def test_killed_while_it_sends_it_goes_on_with_what_is_missing(hub, tmp_path):
    write_set(tmp_path / "set")
    hub.faults = [Fault("PUT", "/lfs/"), Fault("PUT", "/lfs/"), Fault("PUT", "/lfs/", delay_s=5.0)]
    process = start(hub, tmp_path, "push", "set", REPO)
    deadline = time.monotonic() + 60
    while hub.faults[-1].times and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert state(hub) == (0, {})
    sent = set(hub.objects)
    assert 2 <= len(sent) < len(json.loads((tmp_path / "set" / "manifest.json").read_text())["files"])
    hub.asked.clear()
    publish(hub, tmp_path)
    assert state(hub) == (1, {"v1.0.0": "commit 1"})
    assert not {path.removeprefix("/lfs/") for method, path in hub.asked if method == "PUT"} & sent
    assert_whole(hub, tmp_path)


@pytest.mark.slow
def test_versions_of_one_set_do_not_change_between_whole_and_withheld(hub, tmp_path):
    write_set(tmp_path / "set")
    publish(hub, tmp_path)
    code, _, said = gv_data(hub, tmp_path, "push", "set", REPO, "--scores-only")
    assert (code, "choose another name" in said) == (4, True), said
    code, _, said = gv_data(hub, tmp_path, "push", "set", REPO, "--tag", "v5.0.0")
    assert (code, "nothing changed since v1.0.0" in said) == (4, True), said
    assert state(hub) == (1, {"v1.0.0": "commit 1"})


WRITTEN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.support.rows import COST, make_eval_prompts, make_manifest, make_rejects, make_rows
from gigavideo_data.dataset import writer
from gigavideo_data.hub import upload
writer.SHARD_BYTES = 1  # a row each
rows, rejects = make_rows(), make_rejects()
uploader = upload.BackgroundUploader(upload.preflight("org/ds"))
manifest = make_manifest(rows, rejects)
writer.write_dataset(Path("set"), rows, make_eval_prompts(), rejects, manifest, COST, uploader=uploader)
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_shards_are_sent_as_they_are_closed_and_once(hub, tmp_path, fails):
    hub.faults = [Fault("PUT", "/lfs/", 400)] * fails  # the uploader stops, and the push sends all
    code, _, said = run(hub, tmp_path, sys.executable, "-c", WRITTEN, str(Path(__file__).parents[3]), token=WRITES)
    assert code == 0, said
    files = json.loads((tmp_path / "set" / "manifest.json").read_text())["files"]
    shards = {facts["sha256"] for name, facts in files.items() if name.startswith("data/")}
    assert len(shards & set(hub.objects)) == (0 if fails else len(shards))
    assert state(hub) == (0, {})
    sent = set(hub.objects)
    hub.asked.clear()
    publish(hub, tmp_path)
    again = {path.removeprefix("/lfs/") for method, path in hub.asked if method == "PUT"}
    assert shards - sent <= again
    assert not again & sent
    assert_whole(hub, tmp_path)


@pytest.mark.slow
def test_somebody_elses_commit_in_between_is_refused_and_then_built_upon(hub, tmp_path):
    write_set(tmp_path / "set")
    publish(hub, tmp_path)
    write_set(tmp_path / "set", [*make_rows(), make_row(901)])
    theirs = {"notes.txt": File(b"mine", lfs=False)}
    hub.faults = [Fault("POST", "/commit/", meddle=theirs)]
    code, _, said = gv_data(hub, tmp_path, "push", "set", REPO)
    assert (code, state(hub)) == (4, (2, {"v1.0.0": "commit 1"}))
    assert "another commit was made in the meantime" in said
    assert publish(hub, tmp_path)["tag"] == "v1.1.0"
    assert state(hub) == (3, {"v1.0.0": "commit 1", "v1.1.0": "commit 3"})
    assert hub.repo(REPO).commits[-1].files["notes.txt"].data == b"mine"
    assert_whole(hub, tmp_path)


@pytest.mark.slow
def test_a_tag_that_is_taken_is_refused_before_anything_is_sent(hub, tmp_path):
    write_set(tmp_path / "set")
    publish(hub, tmp_path, "--tag", "v1.4.0")
    write_set(tmp_path / "set", [*make_rows(), make_row(902)])
    sent = hub.sent
    code, _, said = gv_data(hub, tmp_path, "push", "set", REPO, "--tag", "v1.4.0")
    assert (code, hub.sent, state(hub)) == (4, sent, (1, {"v1.4.0": "commit 1"}))
    assert "v1.4.0 is taken" in said
    assert gv_data(hub, tmp_path, "push", "set", REPO, "--tag", "latest")[0] == 2


@pytest.mark.parametrize(
    ("token", "repo", "words"),
    [
        (None, REPO, "hf auth login"),
        ("hf_wrong", REPO, "does not accept the token"),
        (READS, REPO, "may only read"),
        (WRITES, "strangers/ds", "you may not write there"),
        (WRITES, "strangers/theirs", "you may not write there"),
        (WRITES, "ds", "owner/name"),
        (WRITES, "org/foreign", "README.md is not a card"),
    ],
)
def test_what_cannot_succeed_is_refused_before_a_model_is_loaded(hub, tmp_path, token, repo, words):
    hub.create("datasets", "org/foreign", private=False)
    hub.create("datasets", "strangers/theirs", private=False)
    foreign = hub.repo("org/foreign")
    hub.commit(foreign, "card", "", {"README.md": File(b"# Something else", lfs=False)})
    arguments = ("build", "--recipe", "quickstart", "--out", "out", "--push", repo)
    code, printed, said = gv_data(hub, tmp_path, *arguments, token=token)
    assert code == 4
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()
    assert not token or token not in printed + said
    assert len(foreign.commits) == 2
    assert not any(method in ("PUT", "DELETE") or "/commit/" in path for method, path in hub.asked)


@pytest.mark.slow
def test_a_dead_hub_is_told_in_seconds(tmp_path):
    with serving() as hub:
        pass
    write_set(tmp_path / "set")
    began = time.monotonic()
    code, _, said = gv_data(hub, tmp_path, "push", "set", REPO)
    assert code == 4
    assert "did not answer" in said
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_private_set_is_made_private_and_strangers_do_not_see_it(hub, tmp_path):
    write_set(tmp_path / "set")
    publish(hub, tmp_path, "--private")
    assert hub.repo(REPO).private
    code = f"from huggingface_hub import repo_exists; print(repo_exists({REPO!r}, repo_type='dataset'))"
    assert python(hub, tmp_path, code).strip() == "False"


def model(folder: Path) -> Path:
    """What gv-train leaves, in little: and beside it what must not be published."""
    (folder / "transformer").mkdir(parents=True)
    (folder / "README.md").write_text("---\ntags: [gigavideo]\n---\n# tuned\n")
    (folder / "gigavideo.json").write_text('{"profile": "miniature", "dimensions": ["mechanics"]}')
    (folder / "transformer" / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "curves.svg").write_text("<svg/>")
    (folder / "transformer" / "other.svg").write_text("<svg/>")
    (folder / "optimizer.pt").write_bytes(b"a pickle")
    (folder / "secret.json").symlink_to("/etc/hostname")
    return folder


def test_a_model_is_published_with_its_card_and_without_pickles_and_links(hub, tmp_path):
    model(tmp_path / "model")
    code, printed, said = gv_data(hub, tmp_path, "push", "model", "org/tuned", "--model", "--json")
    assert code == 0, said
    repo = hub.repo("org/tuned", "models")
    assert json.loads(printed)["sha"] == repo.commits[-1].sha
    assert len(repo.commits) == 2
    assert set(repo.commits[-1].files) == {
        ".gitattributes",
        "README.md",
        "curves.svg",
        "gigavideo.json",
        "transformer/model.safetensors",
    }
    again = gv_data(hub, tmp_path, "push", "model", "org/tuned", "--model", "--tag", "v1.0.0", "--json")
    assert (json.loads(again[1])["changes"], len(repo.commits)) == ("nothing changed", 2)
    assert repo.tags == {"v1.0.0": repo.commits[-1].sha}
    (tmp_path / "model" / "README.md").write_text("# no card of ours")
    code, _, said = gv_data(hub, tmp_path, "push", "model", "org/other", "--model")
    assert (code, "no model that gv-train wrote" in said) == (1, True)
    assert ("models", "org/other") not in hub.repos
