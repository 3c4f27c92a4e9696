"""Start one process per GPU of this machine, where torchrun has not; all end together.

Only rank 0 writes to the terminal. When a run fails, the messages of the process that failed first are shown.
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
from gigavideo_train.distributed.world import FAILURES_FILE

GRACE_S = 10.0  # for a process to end after another failed, or after a second Ctrl-C; then it is killed
STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)  # exit codes of a process that was stopped


def num_processes(requested: int | None) -> int:
    """How many processes to start: `requested`, else one per visible GPU; 1 means that this process trains itself.

    Raises:
        RecipeError: there are fewer GPUs.
    """
    if "RANK" in os.environ:  # this process was started by torchrun or by `run_processes`
        return 1
    num_gpus = torch.cuda.device_count()
    if requested and num_gpus and requested > num_gpus:
        raise RecipeError(f"--processes {requested}: only {num_gpus} GPUs are visible, and each process needs one")
    return requested or max(1, num_gpus)


def run_processes(size: int, command: list[str]) -> int:
    """Run a command in `size` processes with the environment that torchrun would give them.

    When one fails, the others are stopped. SIGINT, SIGTERM and SIGHUP are forwarded to all.

    Returns:
        The exit code of the process that failed first; if all were stopped, that of rank 0. 128 and the number of the
        signal for a killed process.
    """
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: received.append(number))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory(prefix="gv-train-") as name:
        failures = Path(name) / "failures"
        outputs = [Path(name) / f"{rank}.txt" for rank in range(size)]
        processes = [_start(rank, size, command, store.port, failures, outputs[rank]) for rank in range(size)]
        try:
            _watch(processes, received)
            if not any(_failed(process) for process in processes):
                return _exit_code(processes[0])
            first = _first_failed(processes, failures)
            _wait([processes[first]])  # it recorded its failure before the others failed, and may end after them
            _stop(processes, signal.SIGTERM)
            if first:
                output = outputs[first].read_text("utf-8", "replace")
                sys.stderr.write(f"process {first} of {size} failed with {processes[first].returncode}\n{output}")
            return _exit_code(processes[first])
        finally:
            for process in processes:
                process.kill()


def _watch(processes: list[subprocess.Popen], received: list[int]) -> None:
    """Wait until all processes have ended or one has failed, and forward signals meanwhile.

    A stopped process writes a checkpoint first; after a second Ctrl-C it gets `GRACE_S` seconds for that.
    """
    interrupts, deadline = 0, math.inf
    while any(p.poll() is None for p in processes) and not any(_failed(p) for p in processes):
        while received:
            number = received.pop(0)
            for process in processes:  # SIGHUP, sent when a terminal closes, also stops the run
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
    """As in a shell: 128 and the number of the signal for a killed process."""
    code: int = process.returncode
    return code if code >= 0 else 128 - code


def _start(rank: int, size: int, command: list[str], port: int, failures: Path, output: Path) -> subprocess.Popen:
    threads = str(max(1, (os.cpu_count() or 1) // size))
    env = {"OMP_NUM_THREADS": threads} | os.environ
    env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), FAILURES_FILE: str(failures)}
    # The processes use the store of this one, so torch serves none and no free port has to be guessed.
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    # In its own session, a process gets the Ctrl-C of a terminal once, from here.
    if rank == 0:
        return subprocess.Popen(command, env=env, start_new_session=True)
    with output.open("w") as file:
        return subprocess.Popen(command, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=file)


def _first_failed(processes: list[subprocess.Popen], failures: Path) -> int:
    """Rank of the first process that failed: a killed one, which could not record it, or the first in the file."""
    codes = {rank: process.returncode for rank, process in enumerate(processes) if _failed(process)}
    killed = [rank for rank, code in codes.items() if code < 0]
    if killed:
        return killed[0]
    return int(failures.read_text().split()[0]) if failures.exists() else min(codes)


def _stop(processes: list[subprocess.Popen], number: int) -> None:
    for process in processes:
        process.send_signal(number)  # no effect on a process that has ended
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
