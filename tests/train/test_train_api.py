"""The public function `train`, the command line around it, and the log of unexpected exceptions."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gigavideo_train
from gigavideo_data.errors import RecipeError, UnexpectedError
from gigavideo_train import api, training
from gigavideo_train.distributed.world import World
from gigavideo_train.plan import Plan
from tests.support.forked import Forked
from tests.support.train_set import row, training_set

pytestmark = pytest.mark.timeout(300)
SETTINGS = {"max_steps": 1, "batch_size": 2, "validate_every": None}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_set(tmp_path_factory.mktemp("api") / "set", [row(1), row(2)])


def test_train_returns_the_folder_of_the_tuned_model(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    model = gigavideo_train.train(dataset, out=out, cache=tmp_path / "cache", settings=SETTINGS)
    assert (model / "model_index.json").is_file()
    assert model.parent == out
    assert list(capsys.readouterr()) == ["", ""]
    with pytest.raises(RecipeError, match="epochs"):
        gigavideo_train.train(dataset, out=tmp_path / "other", settings={"epoch": 1})


def test_an_unexpected_exception_keeps_its_traceback_without_secrets(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("https://judge.example.org/v1 refused the key a-planted-secret")

    monkeypatch.setenv("OPENAI_API_KEY", "a-planted-secret")
    monkeypatch.setattr(training, "load_pipeline", fail)
    with pytest.raises(UnexpectedError) as caught:
        gigavideo_train.train(dataset, out=tmp_path / "out", settings=SETTINGS)
    log = tmp_path / "out" / "log.0.txt"
    assert str(log) in str(caught.value)
    text = log.read_text()
    assert "Traceback" in text
    assert "ValueError" in text
    assert "in fail" in text
    for secret in ("a-planted-secret", "judge.example.org"):
        assert secret not in text


def test_one_process_reads_and_plans_for_the_others(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(rank: int) -> Plan:
        return api.make_plan(str(dataset), World(rank, 1, torch.device("cpu")), None, None, [], None, None)

    first = planned(0)
    sent = pickle.dumps(first)
    monkeypatch.setattr(World, "broadcast_from_rank0", lambda *_: pickle.loads(sent))  # noqa: S301 - ours
    for name in ("read", "base_of"):
        monkeypatch.setattr(api, name, None)
    second = planned(1)
    assert second == first
    assert second.identity == first.identity


def gv_train(*arguments: str) -> tuple[int, str, str]:
    process = Forked("gv-train", arguments, {})
    out, errors = process.communicate(timeout=120)
    return process.returncode, out, errors


def test_an_error_is_one_json_object_on_stdout_where_json_is_requested(dataset: Path, tmp_path: Path) -> None:
    arguments = ("--dataset", str(dataset), "--out", str(tmp_path / "out"), "--set", "lr=-1")
    code, out, errors = gv_train(*arguments, "--json")
    assert code == RecipeError.exit_code
    error = json.loads(out)["error"]
    assert error["exit_code"] == code
    assert error["message"] in errors
    code, out, errors = gv_train(*arguments)
    assert (code, out) == (RecipeError.exit_code, "")
    assert "lr" in errors


def test_the_plan_of_a_dry_run_is_on_stdout(dataset: Path) -> None:
    code, out, errors = gv_train("--dataset", str(dataset), "--dry-run")
    assert code == 0
    assert "effective sample size 2 of 2" in out
    assert "sample size" not in errors


@pytest.mark.parametrize("option", ["-h", "--version"])
def test_help_and_version_import_no_torch(option: str) -> None:
    code = "import sys; from gigavideo_train.cli import app; app(standalone_mode=False); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "gv-train" in done.stdout
