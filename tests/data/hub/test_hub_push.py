"""Pushing again, and what is refused while pushing; the client runs in this process."""

import json
import time
from pathlib import Path

import pytest

from gigavideo_data.cli import main
from gigavideo_data.errors import HubError
from gigavideo_data.hub import repo
from gigavideo_data.hub.upload import preflight
from tests.data.hub.test_hub import model
from tests.support.hub_clients import connect, here
from tests.support.hub_server import serving
from tests.support.hub_state import Fault
from tests.support.rows import make_row, make_rows, write_set

REPO = "org/ds"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serving() as made:
        connect(made, tmp_path, monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield made


@pytest.fixture
def gv_data(monkeypatch, capsys):
    return lambda *arguments: here(main, monkeypatch, capsys, *arguments)


def test_a_tag_that_names_this_very_content_is_done_already(hub, gv_data, tmp_path):
    write_set(tmp_path / "set")
    push = ("push", "set", REPO, "--tag", "v1.0.0", "--json")
    first = json.loads(gv_data(*push)[1])
    sent, commits = hub.sent, len(hub.repo(REPO).commits)
    code, printed, said = gv_data(*push)
    assert code == 0, said
    assert json.loads(printed) == first | {"changes": "nothing changed", "bytes": 0}
    assert "already on the Hub" in said
    write_set(tmp_path / "set", [*make_rows(), make_row(900)])
    code, _, said = gv_data(*push)
    assert (code, "v1.0.0 is taken by another content" in said) == (4, True), said
    assert (hub.sent, len(hub.repo(REPO).commits)) == (sent, commits)

    gv_data("push", "set", REPO, "--tag", "v1.1.0")
    write_set(tmp_path / "set")  # the content of the older version again
    code, printed, said = gv_data(*push)
    assert (code, json.loads(printed)["sha"]) == (0, first["sha"]), said


def test_a_tag_of_a_model_that_names_this_very_content_is_done_already(hub, gv_data, tmp_path):
    folder = model(tmp_path / "model")
    push = ("push", "model", "org/tuned", "--model", "--tag", "v1.0.0", "--json")
    first = json.loads(gv_data(*push)[1])
    code, printed, said = gv_data(*push)
    assert (code, json.loads(printed)["sha"]) == (0, first["sha"]), said
    (folder / "transformer" / "model.safetensors").write_bytes(b"others" * 100)
    code, _, said = gv_data(*push)
    assert (code, "v1.0.0 is taken by another content" in said) == (4, True), said
    assert len(hub.repo("org/tuned", "models").commits) == 2


@pytest.mark.usefixtures("hub")
def test_before_a_build_a_taken_tag_is_refused_unless_its_set_lies_in_the_folder(gv_data, tmp_path):
    folder = write_set(tmp_path / "set")
    gv_data("push", "set", REPO)
    assert preflight(REPO, tag="v1.0.0", out=folder).tags
    assert preflight(REPO, tag="v2.0.0", out=tmp_path / "new").tags
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"recipe_hash": "f" * 16}))
    for out in (folder, tmp_path / "new"):
        with pytest.raises(HubError, match=r"v1\.0\.0 is taken by another content"):
            preflight(REPO, tag="v1.0.0", out=out)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "repos/create"),
        ("POST", "/preupload/"),
        ("POST", "objects/batch"),
        ("PUT", "/lfs/"),
        ("POST", "/commit/"),
        ("POST", "/tag/"),
    ],
)
def test_a_refused_upload_is_final_and_says_why(hub, gv_data, tmp_path, method, path):
    model(tmp_path / "model")
    meanings = {401: "does not accept the token", 403: "may not write there; use one with write access"}
    for status in (401, 403, 404, 409, 422):
        hub.faults = [Fault(method, path, status, times=99)]
        hub.objects.clear()
        began = time.monotonic()
        code, _, said = gv_data("push", "model", f"org/tuned-{status}", "--model", "--tag", "v1.0.0")
        assert (code, meanings.get(status, f"the Hub answered {status}") in said) == (4, True), said
        assert time.monotonic() - began < 5
        assert hub.faults[0].times == 98


def test_a_refusal_by_way_of_xet_is_final(hub, monkeypatch, tmp_path):
    """The client tells it as an error of the connection, whose text alone holds the status."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path))
    hub.create("datasets", REPO, private=False)
    (tmp_path / "a.parquet").write_bytes(b"PAR1" * 1000)
    hub.faults = [Fault("GET", "/xet-write-token/", 403, times=99)]
    place = repo.Repository(REPO, "dataset", private=False, head=None, tags={})
    with pytest.raises(HubError, match="may not write there"):
        repo.upload(place, "data/a.parquet", Path("a.parquet"))
    assert hub.faults[0].times == 98


def test_a_refusal_to_read_asks_for_the_right_to_read(hub, gv_data, tmp_path):
    hub.create("datasets", REPO, private=False)
    write_set(tmp_path / "set")
    gv_data("push", "set", REPO)
    for path, headers, words in (
        ("/refs", {"X-Error-Code": "GatedRepo"}, "accept the terms"),
        ("/refs", {}, "may not read there; use one with read access"),
        ("/resolve/", {"X-Error-Code": "GatedRepo"}, "accept the terms"),
        ("/resolve/", {}, "may not read there; use one with read access"),
    ):
        hub.faults = [Fault("GET", path, 403, headers, times=99), Fault("HEAD", path, 403, headers, times=99)]
        began = time.monotonic()
        code, _, said = gv_data("inspect", f"{REPO}@v1.0.0")
        assert (code, words in said, "write" in said) == (4, True, False), said
        assert time.monotonic() - began < 10
    code, _, said = gv_data("inspect", "org/none")
    assert (code, "there is no such repository, or it is private" in said) == (4, True), said


def test_a_role_that_the_hub_does_not_tell_is_found_out_by_writing(hub, gv_data, tmp_path):
    write_set(tmp_path / "set")
    hub.role = None
    hub.org_takes_repos = False
    code, _, said = gv_data("build", "--recipe", "quickstart", "--push", REPO)
    assert (code, "may not write there; use one with write access" in said) == (4, True), said
    assert not (tmp_path / "runs" / "store").exists()
    hub.org_takes_repos = True
    code, _, said = gv_data("push", "set", REPO, "--private")
    assert (code, hub.repo(REPO).private, list(hub.repo(REPO).tags)) == (0, True, ["v1.0.0"]), said


def test_a_role_that_may_only_read_is_named(hub, gv_data, tmp_path):
    write_set(tmp_path / "set")
    hub.role = "read"
    code, _, said = gv_data("push", "set", REPO)
    assert (code, said.strip().endswith("your role in org is read; you may write as somebody")) == (4, True), said
    hub.create("datasets", REPO, private=False)  # of its own, in spite of the role
    assert gv_data("push", "set", REPO)[0] == 0
