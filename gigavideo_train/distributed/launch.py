"""One process per GPU of this machine, started and ended together, where torchrun has not started them.

The first process talks; what the others say is shown only of the one to blame when a run fails.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist

from gigavideo_data.errors import RecipeError
from gigavideo_train.distributed.world import FAILED

GRACE_S = 10.0  # for a process to end after another failed, or after a second Ctrl-C; then it is killed
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)  # exit codes of one that was told to stop, and did


def num_processes(asked: int | None) -> int:
    """How many processes this one is to start: 1 is none, itself.

    Raises:
        RecipeError: there are not so many GPUs.
    """
    if "RANK" in os.environ:  # torchrun has started it, or we have
        return 1
    num_gpus = torch.cuda.device_count()
    if asked and num_gpus and asked > num_gpus:
        raise RecipeError(f"--processes {asked}: there are {num_gpus} GPUs to be seen here, and each takes one process")
    return asked or max(1, num_gpus)


def together(size: int, command: list[str]) -> int:
    """Run a command in `size` processes that find each other as torchrun's do.

    When one fails, the others are ended. SIGINT, SIGTERM and SIGHUP are passed on to all.

    Returns:
        The exit code of the process that failed first, or of the first one if they were told to stop: 128 and the
        number of a signal that killed it.
    """
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked.append(received))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory(prefix="gv-train-") as name:
        failures = Path(name) / "failures"
        said = [Path(name) / f"{rank}.txt" for rank in range(size)]
        processes = [_start(rank, size, command, store.port, failures, said[rank]) for rank in range(size)]
        try:
            _await(processes, asked)
            if not any(_failed(process) for process in processes):
                return _exit_code(processes[0])
            blamed = _first_failed(processes, failures)
            _wait([processes[blamed]])  # it has told of its error before others met theirs, and may end after them
            _end(processes, signal.SIGTERM)
            if blamed:
                told = said[blamed].read_text("utf-8", "replace")
                sys.stderr.write(f"process {blamed} of {size} failed with {processes[blamed].returncode}\n{told}")
            return _exit_code(processes[blamed])
        finally:
            for process in processes:
                process.kill()


def _await(processes: list[subprocess.Popen], asked: list[int]) -> None:
    """Until all have ended or one has failed. Meanwhile what is asked of this process is passed on.

    Who was told to stop has a checkpoint to write; after a second Ctrl-C it gets no more time for that.
    """
    interrupts, deadline = 0, math.inf
    while any(p.poll() is None for p in processes) and not any(_failed(p) for p in processes):
        while asked:
            number = asked.pop(0)
            for process in processes:  # SIGHUP, of a terminal that is gone, is a wish to stop too
                process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
            interrupts += number == signal.SIGINT
            if interrupts == 2:
                deadline = time.monotonic() + GRACE_S
        if time.monotonic() > deadline:
            _kill(processes)
            return
        time.sleep(0.05)


def _failed(process: subprocess.Popen) -> bool:
    return process.poll() not in (None, 0, *STOPPED)


def _exit_code(process: subprocess.Popen) -> int:
    """As a shell tells it: 128 and the number of the signal that killed it."""
    code: int = process.returncode
    return code if code >= 0 else 128 - code


def _start(rank: int, size: int, command: list[str], port: int, failures: Path, said: Path) -> subprocess.Popen:
    threads = str(max(1, (os.cpu_count() or 1) // size))
    env = {"OMP_NUM_THREADS": threads} | os.environ
    env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), FAILED: str(failures)}
    # The store is ours: torch then lets no process serve one, and no port is guessed.
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    # A session of its own: Ctrl-C on a terminal reaches it once, through us.
    if rank == 0:
        return subprocess.Popen(command, env=env, start_new_session=True)
    with said.open("w") as file:
        return subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=file)


def _first_failed(processes: list[subprocess.Popen], failures: Path) -> int:
    """Who is to blame: a process that was killed could not say so; else the one that said so first."""
    ended = {rank: process.returncode for rank, process in enumerate(processes) if _failed(process)}
    killed = [rank for rank, code in ended.items() if code < 0]
    if killed:
        return killed[0]
    return int(failures.read_text().split()[0]) if failures.exists() else min(ended)


def _end(processes: list[subprocess.Popen], number: int) -> None:
    for process in processes:
        process.send_signal(number)  # does nothing to one that has ended
    _wait(processes)


def _wait(processes: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + GRACE_S
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    _kill(processes)


def _kill(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.wait()
