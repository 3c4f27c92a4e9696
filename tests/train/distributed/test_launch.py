"""Processes that are started together end together: by success, by the first error, or by a signal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_train.distributed import launch
from tests.support.train_set import row, training_set

pytestmark = pytest.mark.timeout(300)
RANK = Path(__file__).parents[3] / "tests" / "support" / "faults" / "failing_rank.py"
WAIT_S = 120


def start(size: int, *command: str) -> subprocess.Popen:
    code = "import sys; from gigavideo_train.distributed.launch import run_processes; "
    code += f"sys.exit(run_processes({size}, sys.argv[1:]))"
    whole = [sys.executable, "-c", code, sys.executable, *command]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen, folder: Path, num_files: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while len(list(folder.iterdir())) < num_files:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("who", [0, 2])
def test_the_first_process_to_fail_ends_the_run_with_its_error_and_exit_code(who: int) -> None:
    process = start(3, str(RANK), str(who), "error")
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == RecipeError.exit_code
    assert errors.count(f"error: number {who} cannot go on") == 1
    assert "Traceback" not in errors


def test_a_killed_process_ends_the_run() -> None:
    process = start(2, str(RANK), "1", "killed")
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + signal.SIGKILL
    assert "process 1 of 2 failed with -9" in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_reaches_all_processes(tmp_path: Path, number: int, code: int) -> None:
    sleeper = "import os, sys, time; open(os.path.join(sys.argv[1], str(os.getpid())), 'w'); time.sleep(600)"
    process = start(2, "-c", sleeper, str(tmp_path))
    wait_for(process, tmp_path, 2)
    process.send_signal(number)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == code
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_one_that_fails_while_it_stops_ends_the_others(tmp_path: Path) -> None:
    process = start(2, str(RANK), "1", "stopped", str(tmp_path))
    wait_for(process, tmp_path, 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == RecipeError.exit_code
    assert errors.count("error: number 1 cannot go on") == 1


def test_one_command_trains_with_several_processes_and_prints_once(tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set", [row(1), row(2), row(3)])
    command = [sys.executable, "-m", "gigavideo_train", "--dataset", str(dataset), "--out", str(tmp_path / "out")]
    command += ["--cache", str(tmp_path / "latents"), "--processes", "2", "--json", "--set", "epochs=1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == 3
    assert done.stderr.count("tuned model in") == 1
    counted = re.findall(r"(\d+)/(\d+)  ", done.stderr)
    assert counted
    assert all(int(number) <= int(total) for number, total in counted), "each is counted once"
    assert (tmp_path / "out" / "model" / "model_index.json").exists()
    again = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT_S)
    assert again.returncode == 1
    assert again.stderr.count("error: ") == 1
    assert "holds a run already" in again.stderr


def test_without_a_gpu_one_process_is_enough_and_torchrun_s_start_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert (launch.num_processes(None), launch.num_processes(3)) == (1, 3)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert (launch.num_processes(None), launch.num_processes(2)) == (4, 2)
    with pytest.raises(RecipeError, match="4 GPUs"):
        launch.num_processes(5)
    monkeypatch.setenv("RANK", "0")
    assert launch.num_processes(None) == 1
