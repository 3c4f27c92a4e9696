"""Several processes that train together, forked from one that has imported all they need."""

from __future__ import annotations

import multiprocessing
import os
import socket

WAIT_S = 200.0


def run_together(size: int, arguments: list[str]) -> None:
    """`gv-train` in `size` processes, as torchrun would start them; all must end well, and in time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gigavideo_train.train", "gigavideo_train.cli", "diffusers", "peft"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=_rank, args=(rank, size, port, arguments)) for rank in range(size)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(WAIT_S)
        assert [process.exitcode for process in processes] == [0] * size
    finally:
        for process in processes:
            process.kill()


def _rank(rank: int, size: int, port: int, arguments: list[str]) -> None:
    import torch

    from gigavideo_train.cli import app

    torch.set_num_threads(1)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= where | {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    app(arguments, standalone_mode=False)
