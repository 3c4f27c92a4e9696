"""A writer whose GPU dies once, and in that process answers nothing more, as after a sticky error of CUDA.

GV_CALLS  file that gets one line per call
GV_DIES   number of the call, over all processes, at which the GPU dies
"""

import os
from pathlib import Path
from typing import Any

import torch


class SickWriter:
    """Extends a prompt by one word."""

    def __init__(self, engine: dict[str, Any]) -> None:
        del engine
        self.calls, self.is_dead = Path(os.environ["GV_CALLS"]), False

    def extend(self, prompt: str) -> dict[str, Any]:
        with self.calls.open("a") as calls:
            calls.write(prompt + "\n")
        if len(self.calls.read_text().splitlines()) == int(os.environ["GV_DIES"]):
            self.is_dead = True
        if self.is_dead:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return {"prompt": f"{prompt} slowly"}
