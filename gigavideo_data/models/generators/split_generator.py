"""One video on several GPUs: diffusers splits the tokens of the transformer over processes (Ulysses attention).

A worker with several GPUs is the first process and starts one more for each other GPU. All have the whole model and the
same seeds, so each has the same latents after every step; the first one's video is kept. A process that fails ends the
others, since they would wait for it without end.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.models.generators.base import Generated
from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator

HOST = "127.0.0.1"


class SplitGenerator:
    """A pipeline on several GPUs (see `VideoGenerator`)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Load the pipeline in all processes.

        Args:
            settings: those of `DiffusersGenerator`, and `gpus`, the number of processes.
        """
        size = int(settings["gpus"])
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        self._closing = False
        self._others = [_start(settings, rank, size, port) for rank in range(1, size)]
        for process in self._others:
            threading.Thread(target=self._end_with, args=(process,), daemon=True).start()
        self._first = _joined(settings, 0, size, port)
        self.batch_size = self._first.batch_size

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        """Make up to `batch_size` videos (see `VideoGenerator`).

        Raises:
            RowError: as `DiffusersGenerator`, in every process.
            RunError: this process failed; the others would wait for it.
        """
        for process in self._others:
            _send(process, [list(prompts), list(seeds)])
        try:
            return self._first.generate(prompts, seeds)
        except RowError:
            raise
        except Exception as error:  # of any kind: the processes are no longer at the same step
            self.close()
            raise RunError(f"a video on {1 + len(self._others)} GPUs failed: {error}") from error

    def close(self) -> None:
        """End the other processes."""
        self._closing = True
        for process in self._others:
            process.kill()
            process.wait()

    def _end_with(self, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        if not self._closing:
            sys.stderr.write(f"a process of a generator on several GPUs ended with {code}\n")
            os._exit(1)  # the worker, whose row is then tried again


def _start(settings: dict[str, Any], rank: int, size: int, port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=sys.stderr, text=True)
    _send(process, [settings, rank, size, port])
    return process


def _send(process: subprocess.Popen[str], message: list[Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _joined(settings: dict[str, Any], rank: int, size: int, port: int) -> DiffusersGenerator:
    """The pipeline of one process, after all processes have met."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=f"tcp://{HOST}:{port}", rank=rank, world_size=size
    )
    return DiffusersGenerator(settings | {"split_over": size})


def _follow() -> None:
    """Make what the first process makes, until it closes its end of the pipe."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # the first process ended, perhaps in the middle of a step

    threading.Thread(target=read, daemon=True).start()
    generator = _joined(*json.loads(lines.get()))
    while True:
        prompts, seeds = json.loads(lines.get())
        try:
            generator.generate(prompts, seeds)
        except RowError:  # the first process has the same one, and rejects the row
            continue


if __name__ == "__main__":
    _follow()
