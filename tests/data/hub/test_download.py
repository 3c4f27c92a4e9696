"""Versions of the Hub consumed: pinned to a commit, compared with their manifest, and refused by name if hostile."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest

from gigavideo_data import cli
from gigavideo_data.dataset import writer
from gigavideo_data.errors import DatasetError
from gigavideo_data.hub import retry
from gigavideo_data.hub.download import local_folder
from gigavideo_data.io import video
from gigavideo_train import cli as train_cli
from tests.support.hub_clients import connect, gv_data, gv_train, here
from tests.support.hub_server import serving, serving_from_two_hosts
from tests.support.hub_state import Fault, File, Hub
from tests.support.rows import FPS, make_rows, write_set
from tests.support.train_set import row, rows, training_set

REPO = "org/ds"


@pytest.fixture
def hub():
    with serving() as made:
        yield made


def put(hub: Hub, folder: Path, tag: str, name: str = REPO) -> None:
    """A folder as it would be after a push, without one: what is tested here is reading."""
    if ("datasets", name) not in hub.repos:
        hub.create("datasets", name, private=False)
    repo = hub.repo(name)
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and ".gv" not in p.parts}
    held = {path: File(file.read_bytes(), lfs=path.endswith(".parquet")) for path, file in files.items()}
    repo.tags[tag] = hub.commit(repo, tag, "", held).sha


def manifest_of(hub: Hub, tag: str) -> dict:
    commit = hub.repo(REPO).at(tag)
    assert commit is not None
    found: dict = json.loads(commit.files["manifest.json"].data)
    return found


def change(hub: Hub, tag: str, manifest: dict, **files: File) -> None:
    """Another commit under the same tag: what a hostile owner, or a broken Hub, can do."""
    repo = hub.repo(REPO)
    commit = repo.at(tag)
    assert commit is not None
    text = json.dumps(manifest).encode()
    repo.tags[tag] = hub.commit(repo, "", "", commit.files | {"manifest.json": File(text, lfs=False)} | files).sha


@pytest.mark.parametrize("text", ["runs/train/x", "runs/x", "sets/quickstrat", "./org/ds", "ds", "~/a", "/a/b"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets" / "quickstart").mkdir(parents=True)
    with pytest.raises(DatasetError, match=f"{text}: no such folder") as caught:
        local_folder(text)
    assert ("did you mean sets/quickstart?" in str(caught.value)) == (text == "sets/quickstrat")


def test_a_name_is_told_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_folder(REPO) is None
    (tmp_path / "org").mkdir()
    assert local_folder(f"{REPO}@v1.0.0") is None
    (tmp_path / REPO).mkdir()
    assert local_folder(REPO) == Path(REPO)


def test_every_command_that_reads_takes_a_name(hub, tmp_path):
    put(hub, write_set(tmp_path / "set"), "v1.0.0")
    here, there = (json.loads(gv_data(hub, tmp_path, "inspect", name, "--json")[1]) for name in ("set", REPO))
    assert here == there
    code, _, said = gv_data(hub, tmp_path, "verify", f"{REPO}@v1.0.0")
    assert (code, hub.repo(REPO).tags["v1.0.0"] in said) == (0, True), said
    assert gv_data(hub, tmp_path, "report", REPO, "--out", "page.html")[0] == 0
    assert (tmp_path / "page.html").exists()
    code, _, said = gv_data(hub, tmp_path, "rescore", REPO, "--in-place")
    assert (code, "--out" in said) == (2, True)


@pytest.mark.slow
def test_the_newest_version_of_a_format_that_is_read_here_is_taken_and_never_main(hub, tmp_path):
    put(hub, write_set(tmp_path / "old", make_rows()[:-1]), "v1.9.0")
    put(hub, write_set(tmp_path / "new"), "v1.10.0")
    put(hub, write_set(tmp_path / "main", make_rows()[:-2]), "scratch")
    put(hub, tmp_path / "new", "v2.0.0")
    change(hub, "v2.0.0", manifest_of(hub, "v2.0.0") | {"format": "9.0"})

    def rows(name: str) -> dict:
        found: dict = json.loads(gv_data(hub, tmp_path, "verify", name, "--json")[1])["rows"]
        return found

    assert rows(REPO) == rows("new")
    assert rows(f"{REPO}@v1.9.0") == rows("old") != rows("new")
    code, _, said = gv_data(hub, tmp_path, "verify", f"{REPO}@v2.0.0")
    assert (code, "format 9.0" in said, "Upgrade gigavideo" in said) == (1, True, True)
    code, _, said = gv_data(hub, tmp_path, "verify", f"{REPO}@v7.0.0")
    assert (code, "no version v7.0.0; there is" in said) == (4, True)


@pytest.mark.slow
@pytest.mark.parametrize("body", ["swap", "cut"])
def test_bytes_that_are_damaged_on_the_way_are_fetched_again(hub, tmp_path, body):
    put(hub, write_set(tmp_path / "set"), "v1.0.0")
    hub.faults = [Fault("GET", "resolve/.*/data/train", body=body)]
    code, _, said = gv_data(hub, tmp_path, "verify", REPO)
    assert (code, hub.faults[0].times) == (0, 0), said


@pytest.mark.slow
def test_bytes_that_stay_damaged_are_refused(hub, tmp_path):
    put(hub, write_set(tmp_path / "set"), "v1.0.0")
    hub.faults = [Fault("GET", "resolve/.*/data/train", body="swap", times=9)]
    code, _, said = gv_data(hub, tmp_path, "verify", REPO)
    assert (code, "not the file that its manifest lists" in said) == (4, True), said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../etc/passwd", "is not allowed"),
        ("data/../../secrets.parquet", "is not allowed"),
        ("/etc/passwd", "is not allowed"),
        ("data/train.py", "is not allowed"),
        ("https://example.org/data.parquet", "is not allowed"),
    ],
)
def test_a_manifest_that_lists_what_it_must_not_is_refused_by_name_before_anything_is_fetched(
    hub, tmp_path, name, words
):
    put(hub, write_set(tmp_path / "set"), "v1.0.0")
    manifest = manifest_of(hub, "v1.0.0")
    manifest["files"][name] = {"sha256": "0" * 64, "rows": 1, "bytes": 10}
    change(hub, "v1.0.0", manifest)
    hub.asked.clear()
    code, _, said = gv_data(hub, tmp_path, "inspect", REPO)
    assert code == 1
    assert words in said
    assert repr(name) in said
    assert not [path for _, path in hub.asked if "/resolve/" in path and not path.endswith("manifest.json")]


def test_a_shard_that_is_not_as_large_as_listed_is_refused_before_it_is_fetched(hub, tmp_path):
    put(hub, write_set(tmp_path / "set"), "v1.0.0")
    manifest = manifest_of(hub, "v1.0.0")
    shard = next(name for name in manifest["files"] if name.startswith("data/train"))
    change(hub, "v1.0.0", manifest, **{shard: File(b"PAR1" * 100_000, lfs=True)})
    code, _, said = gv_data(hub, tmp_path, "inspect", REPO)
    assert (code, "has 400000 bytes on the Hub" in said) == (4, True), said
    manifest["files"][shard]["bytes"] = 1 << 40
    change(hub, "v1.0.0", manifest)
    code, _, said = gv_data(hub, tmp_path, "inspect", REPO)
    assert (code, "more than 4 GiB" in said) == (1, True), said


def test_of_a_set_only_the_shards_with_kept_clips_are_fetched(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)  # a row each
    frames_THWC = np.random.default_rng(0).integers(0, 256, (9, 320, 320, 3), np.uint8)
    large = video.encode(frames_THWC, FPS)
    facts = {"num_frames": 9, "height": 320, "width": 320, "video_sha256": hashlib.sha256(large).hexdigest()}
    bad = [row(seed, reward=0.1) | facts for seed in (90, 91)]
    bad = [one | {"video": {"bytes": large, "path": f"{one['id']}.mp4"}} for one in bad]
    put(hub, training_set(tmp_path / "set", [*rows(), *bad]), "v1.0.0")
    arguments = ("--dataset", f"{REPO}@v1.0.0", "--set", "max_steps=1", "--set", "epochs=9", "--json")
    code, printed, said = gv_train(hub, tmp_path, *arguments, "--dry-run")
    assert code == 0, said
    files = manifest_of(hub, "v1.0.0")["files"]
    data = [name for name in files if name.startswith("data/train-")]
    not_kept = [name for name in data if files[name]["bytes"] > len(large)]
    assert len(not_kept) == len(bad)
    assert all(0 < hub.given[name] < files[name]["bytes"] / 2 for name in not_kept), hub.given
    hub.given.clear()

    code, printed, said = gv_train(hub, tmp_path, *arguments)
    assert code == 0, said
    kept = sum(line["kept"] * (2 if line["source"] == "twin" else 1) for line in json.loads(printed)["samples"])
    assert all(hub.given[name] < files[name]["bytes"] / 2 for name in not_kept)
    needed = kept - 1  # one pair's twin and real clip are equal, and encoded once
    assert f"clips are in {needed} of {len(files)} files" in said

    assert "clips are in" not in gv_train(hub, tmp_path, *arguments, "--out", "again")[2], "all are encoded already"


def test_a_damaged_shard_is_named_at_once_and_not_asked_for_again(hub, tmp_path):
    put(hub, training_set(tmp_path / "set"), "v1.0.0")
    hub.faults = [Fault("GET", r"/resolve/.*train-.*parquet", body="swap", times=99)]
    code, _, said = gv_train(hub, tmp_path, "--dataset", REPO, "--set", "max_steps=1")
    assert (code, "Traceback" in said) == (1, False), said
    assert "data/train-00000-of-00001.parquet is damaged" in said
    assert not (tmp_path / "runs" / "train" / "ds" / "model").exists()


def test_a_model_is_trained_from_a_version_and_says_which(hub, tmp_path):
    put(hub, training_set(tmp_path / "set"), "v1.0.0")
    settings = ("--set", "max_steps=1", "--set", "epochs=9", "--set", "batch_size=2")
    code, _, said = gv_train(hub, tmp_path, "--dataset", f"{REPO}@v1.0.0", *settings)
    assert code == 0, said
    card = (tmp_path / "runs" / "train" / "ds" / "model" / "README.md").read_text()
    assert f"`{REPO}@v1.0.0`, commit `{hub.repo(REPO).tags['v1.0.0']}`" in card
    assert manifest_of(hub, "v1.0.0")["recipe_hash"] in card
    code, _, said = gv_train(hub, tmp_path, "--dataset", "runs/quickstrat", "--dry-run")
    assert (code, "runs/quickstrat: no such folder" in said, "Traceback" in said) == (1, True, False)


@pytest.fixture
def gv(monkeypatch, capsys, tmp_path):
    """`gv-data` or `gv-train` in this process, in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    mains = {"data": cli.main, "train": train_cli.main}
    return lambda which, *arguments: here(mains[which], monkeypatch, capsys, *arguments)


def test_what_the_cache_holds_is_read_without_a_network(hub, tmp_path, monkeypatch, gv):
    put(hub, training_set(tmp_path / "set"), "v1.0.0")
    put(hub, training_set(tmp_path / "other", [*rows(), row(99)]), "v2.0.0")
    connect(hub, tmp_path, monkeypatch, offline=True)
    code, _, said = gv("data", "inspect", REPO)
    assert (code, "no such folder here" in said, "not in this machine's cache" in said) == (4, True, True), said

    connect(hub, tmp_path, monkeypatch)
    assert gv("data", "inspect", f"{REPO}@v1.0.0")[0] == 0
    hub.asked.clear()
    connect(hub, tmp_path, monkeypatch, offline=True)
    commit = hub.repo(REPO).tags["v1.0.0"]
    for name in (REPO, f"{REPO}@v1.0.0", f"{REPO}@{commit}"):
        for command in (("data", "inspect", name), ("train", "--dataset", name, "--dry-run")):
            code, _, said = gv(*command)
            assert code == 0, said
    code, _, said = gv("data", "verify", f"{REPO}@v1.0.0")
    assert (code, commit in said) == (0, True), said
    assert not hub.asked

    code, _, said = gv("data", "inspect", f"{REPO}@v2.0.0")
    assert (code, "not in this machine's cache" in said) == (4, True), said
    shard = next((tmp_path / "hub").rglob("data/train-*"))
    shard.write_bytes(shard.read_bytes()[:-9] + b"x" * 9)
    code, _, said = gv("data", "inspect", REPO)
    assert (code, "or damaged there" in said) == (4, True), said
    connect(hub, tmp_path, monkeypatch)
    assert gv("data", "inspect", f"{REPO}@{commit}")[0] == 0, "fetched again"


def test_a_commit_needs_no_question_and_a_known_tag_no_answer(hub, tmp_path, monkeypatch, gv):
    put(hub, write_set(tmp_path / "set"), "v1.0.0")
    connect(hub, tmp_path, monkeypatch)
    monkeypatch.setattr(retry, "WAITS_S", (1000.0,))
    assert gv("data", "inspect", f"{REPO}@{hub.repo(REPO).tags['v1.0.0']}")[0] == 0
    assert not [path for _, path in hub.asked if path.endswith("/refs")]
    assert gv("data", "inspect", f"{REPO}@v1.0.0")[0] == 0
    code, _, said = gv("data", "inspect", f"{REPO}@{'a' * 40}")
    assert (code, "there is no such version, branch or commit" in said) == (4, True), said
    hub.faults = [Fault("GET", "/refs", 503, times=99)]
    assert gv("data", "inspect", f"{REPO}@v1.0.0")[0] == 0
    code, _, said = gv("data", "inspect", REPO)
    assert (code, "did not answer" in said) == (4, True), "the newest version may be another one"
    hub.faults = [Fault("GET", "/refs", 403, times=99)]
    assert gv("data", "inspect", f"{REPO}@v1.0.0")[0] == 4, "refused is refused"


def test_large_files_lie_on_a_second_host_which_is_sent_no_token(tmp_path, monkeypatch, gv):
    training_set(tmp_path / "set")
    with serving_from_two_hosts() as hub:
        connect(hub, tmp_path, monkeypatch)
        for command in (
            ("data", "push", "set", REPO),
            ("train", "--dataset", REPO, "--dry-run"),  # ranged requests
            ("data", "verify", REPO),
        ):
            began = time.monotonic()
            code, _, said = gv(*command)
            assert code == 0, said
            assert time.monotonic() - began < 60
    assert {method for method, _ in hub.store_asked} == {"PUT", "GET"}
    assert {token for _, token in hub.store_asked} == {""}
    assert len(hub.asked) < 200


@pytest.mark.parametrize("lost", [{"X-Repo-Commit"}, {"ETag", "X-Linked-Etag"}])
def test_a_redirect_that_is_not_of_a_hub_is_told_at_once(tmp_path, monkeypatch, gv, lost):
    with serving_from_two_hosts() as hub:
        hub.lost_headers = lost
        put(hub, write_set(tmp_path / "set"), "v1.0.0")
        connect(hub, tmp_path, monkeypatch)
        monkeypatch.setattr("gigavideo_data.hub.retry.time.sleep", lambda _: pytest.fail("tried again"))
        code, _, said = gv("data", "verify", REPO)
    assert (code, "data/train-00000-of-00001.parquet" in said) == (4, True), said


def test_a_hub_that_says_nothing_is_given_up(hub, tmp_path, monkeypatch, gv):
    put(hub, write_set(tmp_path / "set"), "v1.0.0")
    connect(hub, tmp_path, monkeypatch)
    for name, value in (("READ_TIMEOUT_S", {"GET": 0.2}), ("WRITE_TIMEOUT_S", 0.2), ("WAITS_S", (1000.0,))):
        monkeypatch.setattr(retry, name, value)
    for method, path in (("GET", "/refs"), ("POST", "/paths-info/")):
        hub.faults = [Fault(method, path, delay_s=5.0)]
        began = time.monotonic()
        code, _, said = gv("data", "verify", REPO)
        assert (code, f"(ReadTimeout of {hub.endpoint.removeprefix('http://')})" in said) == (4, True), said
        assert time.monotonic() - began < 5
