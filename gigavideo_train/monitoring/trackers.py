"""The numbers of metrics.jsonl for TensorBoard, if asked: it needs no account, and its files stay with the run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError


def check(report_to: str | None) -> None:
    """Find out whether a tracker is there.

    Raises:
        RecipeError: it is not installed.
    """
    if report_to and importlib.util.find_spec(report_to) is None:
        raise RecipeError(f"--report-to {report_to}: it is not installed; pip install 'gigavideo[{report_to}]'")


class Tracker:
    """A folder of TensorBoard's; what an earlier part of the run wrote after `done` steps is hidden there."""

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=done + 1 if done else 0)

    def write(self, values: dict[str, Any]) -> None:
        """One object of metrics.jsonl; its numbers only, those in groups as "group/name"."""
        for name, value in values.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for part, number in parts:
                if name != "step" and number is not None:
                    self._writer.add_scalar(f"{name}/{part}".rstrip("/"), number, values["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
