"""A process of several: the one of this number fails while the others wait for it, in the way that is asked for."""

import os
import signal
import sys

from gigavideo_data.errors import RecipeError, run_and_exit
from gigavideo_train.distributed import World, world


def fail(way: str, joined: World) -> None:
    if way == "error":
        raise RecipeError(f"number {joined.rank} cannot go on")
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    who, way = int(sys.argv[1]), sys.argv[2]
    with world() as joined:
        joined.wait()
        if joined.rank == who:
            fail(way, joined)
        joined.wait()


if __name__ == "__main__":
    run_and_exit(main)
