"""One of several processes: the given rank fails in the given way while the others wait for it."""

import os
import signal
import sys
import threading
from pathlib import Path

from gigavideo_data.command_line import run_and_exit
from gigavideo_data.errors import RecipeError
from gigavideo_train.distributed.world import World, world

stop_asked = threading.Event()


def fail(way: str, joined: World) -> None:
    if way == "error":
        raise RecipeError(f"number {joined.rank} cannot go on")
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "stopped":  # as others wait for it to write a checkpoint with them
        stop_asked.wait(120)
        raise RecipeError(f"number {joined.rank} cannot go on")


def main() -> None:
    who, way = int(sys.argv[1]), sys.argv[2]
    with world() as joined:
        joined.barrier()
        if way == "stopped":
            signal.signal(signal.SIGTERM, lambda *_: stop_asked.set())
            (Path(sys.argv[3]) / str(joined.rank)).touch()
        if joined.rank == who:
            fail(way, joined)
        joined.barrier()


if __name__ == "__main__":
    run_and_exit(main)
