"""metrics.jsonl: one object per optimizer step or judged set of samples, flushed at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from gigavideo_train.config import TrackerName
from gigavideo_train.monitoring.trackers import Tracker


def read(path: Path) -> list[dict[str, Any]]:
    """The objects logged so far; a line that a kill cut short is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


class Metrics:
    """Writes the file, and to a tracker.

    Args:
        path: of the file.
        done: steps of an earlier part of the run; its lines up to there are kept, later ones are removed.
        report_to: a tracker.
        enabled: False on processes other than the first, which write nothing.
    """

    def __init__(self, path: Path, done: int, report_to: TrackerName | None, *, enabled: bool) -> None:
        self._file = None
        self._tracker = None
        if not enabled:
            return
        kept = [values for values in read(path) if values["step"] <= done] if done else []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(values)}\n" for values in kept))
        self._file = path.open("a")
        if report_to:
            self._tracker = Tracker(report_to, path.parent, done)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()
        if self._tracker:
            self._tracker.close()

    def write(self, **values: Any) -> None:
        """Log one object. JSON has no value for what is not finite: it becomes null."""
        if not self._file:
            return
        finite = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in values.items()}
        self._file.write(json.dumps(finite, allow_nan=False) + "\n")
        self._file.flush()
        if self._tracker:
            self._tracker.write(finite)
