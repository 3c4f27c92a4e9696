"""Strangers' datasets, our token, and the whole way from a set to a model that others load."""

import json
from pathlib import Path

import numpy as np
import pytest

from gigavideo_data.dataset import writer
from gigavideo_data.io import video
from gigavideo_data.models.generators.profiles import MODEL_INFO_FILE, model_folder
from tests.data.hub.test_download import put
from tests.support.hub_clients import environment, gv_data, gv_train, python
from tests.support.hub_server import WRITES, serving
from tests.support.hub_state import Fault, File, Hub
from tests.support.ranks import run_together
from tests.support.rows import FPS, make_row, make_rows, write_set
from tests.support.train_set import row, rows, training_set

REPO = "org/ds"
SECRET = "what only this machine knows"


@pytest.fixture
def hub():
    with serving() as made:
        yield made


def hostile(name: str, folder: Path) -> dict:
    """A row that no build of ours makes."""
    one = row(77, reward=0.99)
    (folder / "secret.mp4").write_text(SECRET)
    data = one["video"]["bytes"]
    videos = {
        "path": {"bytes": None, "path": str(folder / "secret.mp4")},
        "url": {"bytes": None, "path": "https://127.0.0.1:9/a.mp4"},
        "climbs": {"bytes": data, "path": "../secret.mp4"},
        "none": None,
        "bomb": {"bytes": video.encode(np.zeros((1, 4096, 4100, 3), np.uint8), FPS), "path": "a.mp4"},
        "cut": {"bytes": data[: len(data) // 2], "path": "a.mp4"},
    }
    return one | {"video": videos[name]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["path", "url", "climbs", "none", "bomb", "cut"])
def test_hostile_rows_are_refused_by_name_and_nothing_of_this_machine_leaves(hub, tmp_path, monkeypatch, name):
    bad = hostile(name, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(writer, "verify_folder", lambda *_: None)
        put(hub, training_set(tmp_path / "set", [*rows(), bad]), "v1.0.0")
    steps = ("--set", "max_steps=1", "--set", "batch_size=2")
    for code, printed, said in (
        gv_data(hub, tmp_path, "verify", REPO),
        *([] if name == "climbs" else [gv_train(hub, tmp_path, "--dataset", REPO, *steps)]),  # it never looks at paths
        gv_data(hub, tmp_path, "push", "set", "org/passed-on"),
    ):
        assert (code, "Traceback" in said, SECRET in printed + said) == (1, False, False), said
        assert bad["id"] in said
    assert ("datasets", "org/passed-on") not in hub.repos or len(hub.repo("org/passed-on").commits) == 1
    code, _, said = gv_data(hub, tmp_path, "report", REPO, "--out", "page.html")
    assert "Traceback" not in said
    assert code or SECRET not in (tmp_path / "page.html").read_text()


def test_the_token_is_written_nowhere(hub, tmp_path):
    write_set(tmp_path / "set")
    outputs = list(gv_data(hub, tmp_path, "push", "set", REPO, "--json"))
    hub.faults = [Fault("POST", "/commit/", 403), Fault("GET", "/tree/", 400)]
    write_set(tmp_path / "set", [*make_rows(), make_row(901)])
    outputs += gv_data(hub, tmp_path, "push", "set", REPO)
    outputs += gv_data(hub, tmp_path, "push", "set", REPO)
    assert not any(fault.times for fault in hub.faults)
    assert not any(WRITES in str(text) for text in outputs), outputs
    pushed = [file.data for repo in hub.repos.values() for commit in repo.commits for file in commit.files.values()]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(pushed) > 5 < len(kept)
    assert not any(WRITES.encode() in data for data in pushed + kept)


@pytest.mark.slow
def test_a_set_of_the_hub_judged_again_is_its_next_version(hub, tmp_path):
    put(hub, training_set(tmp_path / "set"), "v1.0.0")
    judge = ("--recipe", "quickstart", "--set", "limits.replicas=1")
    code, printed, said = gv_data(hub, tmp_path, "score", REPO, *judge, "--out", "set", "--push", REPO, "--json")
    assert code == 0, said
    facts = json.loads(printed)
    judged = sum(one["source"] != "real" for one in rows())
    assert (facts["judged"], facts["tag"], facts["changes"]) == (judged, "v2.0.0", f"{judged} rows changed")
    assert set(hub.repo(REPO).tags) == {"v1.0.0", "v2.0.0"}
    manifest = json.loads(hub.repo(REPO).at("v2.0.0").files["manifest.json"].data)
    assert manifest["recipe_hash"] == facts["recipe"]


def train_with_two(hub: Hub, folder: Path, *arguments: str) -> None:
    steps = ("--set", "max_steps=1", "--set", "batch_size=2")
    run_together(2, [*arguments, *steps], environment(hub, folder / "stranger", None), folder, hub=True)


@pytest.mark.slow
def test_two_processes_train_from_a_name_that_is_resolved_once(hub, tmp_path):
    put(hub, training_set(tmp_path / "set"), "v1.0.0")
    train_with_two(hub, tmp_path, "--dataset", REPO)
    assert sum(path.endswith("/refs") for _, path in hub.asked) == 1
    assert (tmp_path / "runs" / "train" / "ds" / "model" / "README.md").exists()


@pytest.mark.slow
def test_two_processes_train_the_commit_of_a_model_that_the_first_one_found(hub, tmp_path):
    training_set(tmp_path / "set")
    name, base = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", model_folder("miniature")
    hub.create("models", name, private=False)
    files = {p.relative_to(base).as_posix(): p for p in base.rglob("*") if p.is_file() and p.name != MODEL_INFO_FILE}
    held = {path: File(file.read_bytes(), lfs=path.endswith(".safetensors")) for path, file in files.items()}
    sha = hub.commit(hub.repo(name, "models"), "weights", "", held).sha
    train_with_two(hub, tmp_path, "--dataset", "set", "--model", name)
    asked = [path for _, path in hub.asked if name in path]
    assert sum("/main/" in path for path in asked) <= 2  # of one small file, about it and itself
    assert any(sha in path for path in asked)
    assert sha in (tmp_path / "runs" / "train" / "set" / "model" / "README.md").read_text()


@pytest.mark.slow
def test_from_a_set_to_a_published_model_each_step_a_process_of_its_own(hub, tmp_path):
    training_set(tmp_path / "set")
    recipe = json.loads((tmp_path / "set" / "manifest.json").read_text())["recipe_hash"]
    code, printed, said = gv_data(hub, tmp_path, "push", "set", REPO, "--json")
    assert code == 0, said
    sha = json.loads(printed)["sha"]
    steps = ("--set", "max_steps=2", "--set", "batch_size=2")
    code, _, said = gv_train(hub, tmp_path, "--dataset", f"{REPO}@v1.0.0", *steps)
    assert code == 0, said
    code, _, said = gv_data(hub, tmp_path, "push", "runs/train/ds/model", "org/tuned", "--model", "--tag", "v1.0.0")
    assert code == 0, said
    files = hub.repo("org/tuned", "models").at("v1.0.0").files
    card = files["README.md"].data.decode()
    assert f"`{REPO}@v1.0.0`, commit `{sha}`" in card
    assert recipe in card
    assert not [name for name in files if name.endswith((".pt", ".bin", ".pkl", ".py"))]
    load = """
import torch
from diffusers import WanPipeline
pipeline = WanPipeline.from_pretrained("org/tuned", revision="v1.0.0", dtype=torch.float32, use_safetensors=True)
print(float(pipeline.transformer.proj_out.weight.abs().sum()))
"""
    assert float(python(hub, tmp_path, load)) > 0
