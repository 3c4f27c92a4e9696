"""metrics.jsonl: one object per optimiser step or judged set of samples, flushed at once, cut back at a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

from gigavideo_train.monitoring.trackers import Tracker


def read(path: Path) -> list[dict[str, Any]]:
    """What a run has logged so far; a line that a kill cut short is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


class Metrics:
    """The file, and a tracker if there is one; `done` steps of an earlier part of the run are kept."""

    def __init__(self, path: Path, done: int, report_to: str | None, *, enabled: bool) -> None:
        self._file = None
        self._tracker = Tracker(path.parent / report_to, done) if enabled and report_to else None
        if enabled:
            kept = [values for values in read(path) if values["step"] <= done] if done else []
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{json.dumps(values)}\n" for values in kept))
            self._file = path.open("a")

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
        if self._tracker:
            self._tracker.close()

    def write(self, **values: Any) -> None:
        """One step. What is not finite is null: JSON has no other word for it."""
        if self._file:
            finite = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in values.items()}
            self._file.write(json.dumps(finite, allow_nan=False) + "\n")
            self._file.flush()
            if self._tracker:
                self._tracker.write(finite)
