"""The genuine clients against the loopback Hub.

They read their settings when imported: in processes of their own from the environment; in this process, which is much
faster, `connect` sets them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.forked import Forked
from tests.support.hub_server import WRITES
from tests.support.hub_state import Hub

ROOT = Path(__file__).parents[2]


def environment(hub: Hub, home: Path, token: str | None = WRITES) -> dict[str, str]:
    """What a process needs to talk to this Hub and to nothing else."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT)}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    return env | ({"HF_TOKEN": token} if token else {})


def start(hub: Hub, folder: Path, *arguments: str, token: str | None = WRITES) -> Forked:
    """Begin `gv-data` in a folder."""
    return Forked("gv-data", arguments, environment(hub, folder / "hf", token), folder, hub=True)


def gv_data(hub: Hub, folder: Path, *arguments: str, token: str | None = WRITES) -> tuple[int, str, str]:
    """Run `gv-data` to its end: exit code, stdout, stderr."""
    process = start(hub, folder, *arguments, token=token)
    printed, said = process.communicate(timeout=240)
    return process.wait(), printed, said


def python(hub: Hub, folder: Path, code: str) -> str:
    """Run code as a stranger would, without a token and with a cache of its own, and return what it printed."""
    status, printed, said = run(hub, folder, sys.executable, "-c", code)
    assert status == 0, said
    return printed


def gv_train(hub: Hub, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `gv-train` to its end, as a stranger: exit code, stdout, stderr."""
    process = Forked("gv-train", arguments, environment(hub, folder / "stranger", None), folder, hub=True)
    printed, said = process.communicate(timeout=240)
    return process.wait(), printed, said


def run(hub: Hub, folder: Path, *command: str, token: str | None = None) -> tuple[int, str, str]:
    """Run a command, without a token as a stranger: exit code, stdout, stderr."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(hub, folder / "stranger", token),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def connect(hub: Hub, home: Path, patch: pytest.MonkeyPatch, token: str = WRITES, *, offline: bool = False) -> None:
    """Let the client of this process talk to this Hub, with a cache in `home`."""
    from huggingface_hub import HfFileSystem, close_session, constants

    settings = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": offline,
    }
    for name, value in settings.items():
        patch.setattr(constants, name, value)
    patch.setenv("NO_PROXY", "127.0.0.1")
    patch.setenv("HF_TOKEN", token)
    HfFileSystem.clear_instance_cache()
    close_session()


def here(main: Callable[[], None], patch: pytest.MonkeyPatch, caught: pytest.CaptureFixture, *arguments: str) -> tuple:
    """Run a command line in this process to its end: exit code, stdout, stderr."""
    patch.setattr(sys, "argv", ["command", *arguments])
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    return code, *caught.readouterr()
