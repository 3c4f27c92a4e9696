"""Several processes that train together, forked from one that has imported all they need."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from tests.support.forked import Forked

WAIT_S = 200.0


def run_together(
    size: int,
    arguments: list[str],
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    *,
    hub: bool = False,
) -> str:
    """`gv-train` in `size` processes, as torchrun would start them; all must end well, and in time.

    Returns:
        What the first one says.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**(env or os.environ), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    processes = [
        Forked("gv-train", arguments, shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, folder, hub=hub)
        for rank in range(size)
    ]
    try:
        said = [process.communicate(WAIT_S)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, said
    return said[0]
