"""Run gv-data and gv-train as processes of their own: the memory of Ray and CUDA ends with them."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gigavideo_data.errors import GigaVideoError

MODULES = {"gv-data": "gigavideo_data", "gv-train": "gigavideo_train"}
INTERRUPTED = 130

# Program, its arguments, and a name for messages; returns what the command printed with --json.
Run = Callable[[str, list[str], str], dict[str, Any]]


class CommandError(GigaVideoError):
    """A command of a round failed; it has the exit code of that command."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def commands_in(out: Path, note: Callable[[str], None]) -> Iterator[Run]:
    """A function that runs commands for the loop in `out`.

    A command inherits a lock and so holds it until it ends, even if this process is killed before. The next loop in
    the folder waits for it: two commands must not write to one folder.

    Args:
        out: folder of the loop.
        note: prints one line.
    """
    with (out / ".command").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("waiting for the last command of a killed gv-loop to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield partial(_run, lock.fileno())


def _run(lock: int, program: str, arguments: list[str], name: str) -> dict[str, Any]:
    """Run a command to its end; its stderr is that of this process.

    Raises:
        CommandError: it failed.
        KeyboardInterrupt: it was interrupted, or this process was; the command has ended by then.
    """
    command = [sys.executable, "-m", MODULES[program], *arguments, "--json"]
    # A group of its own: Ctrl-C then reaches only this process, which passes it on once.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[lock], process_group=0) as process:
        try:
            printed, _ = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise
    if process.returncode in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
        raise KeyboardInterrupt
    try:
        facts: dict[str, Any] = json.loads(printed)
    except ValueError:
        facts = {}
    if process.returncode == 0:
        return facts
    raise CommandError(f"{name}: {_reason(facts, process.returncode)}", max(process.returncode, 1))


def _reason(facts: dict[str, Any], code: int) -> str:
    if "error" in facts:
        return str(facts["error"]["message"])
    if code < 0:
        ended = f"ended by signal {-code} ({signal.Signals(-code).name})"
        return f"{ended}; finished work is kept, and the same gv-loop command continues"
    return f"failed with exit code {code}; its messages are above, and its log is in the folder of the round"
