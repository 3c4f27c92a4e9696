"""Experiment trackers get the numbers of metrics.jsonl: TensorBoard, wandb or trackio.

They are called directly: accelerate's trackers need its PartialState, which sets thread counts and environment
variables of a process that has its own.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from gigavideo_train.config import TrackerName


class Tracker:
    """Sends numbers to an installed tracker (`config.check_tracker`).

    TensorBoard writes to `tensorboard/` in the run's folder, and hides what an earlier part of the run logged after
    `done` steps. wandb and trackio, which have one interface, get a run named as the folder.
    """

    def __init__(self, name: TrackerName, out: Path, done: int) -> None:
        self._writer = self._run = None
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / name), purge_step=done + 1 if done else 0)
        else:
            self._run = importlib.import_module(name).init(project="gigavideo", name=out.name)

    def write(self, values: dict[str, Any]) -> None:
        """Send one object of metrics.jsonl."""
        numbers, step = flat_numbers(values), values["step"]
        if self._run:
            self._run.log(numbers, step=step)
        if self._writer:
            for name, number in numbers.items():
                self._writer.add_scalar(name, number, step)
            self._writer.flush()

    def close(self) -> None:
        if self._run:
            self._run.finish()
        if self._writer:
            self._writer.close()


def flat_numbers(values: dict[str, Any]) -> dict[str, float]:
    """The numbers of one object of metrics.jsonl except its step; nested ones as "group/name"."""
    pairs = ((key, value if isinstance(value, dict) else {"": value}) for key, value in values.items() if key != "step")
    named = ((f"{key}/{name}".rstrip("/"), number) for key, group in pairs for name, number in group.items())
    return {name: number for name, number in named if number is not None}
