"""One stage's rows, finished: from the store, and what is missing from Ray; shown, counted, and none lost."""

from __future__ import annotations

import time
from typing import Any

from gigavideo_data.errors import RunError
from gigavideo_data.execute import Ray
from gigavideo_data.progress import Progress
from gigavideo_data.stages import Item, Record
from gigavideo_data.store import Store


class Runner:
    """Runs stages, one after the other; `cost` says what each took."""

    def __init__(self, store: Store, ray: Ray, progress: Progress, *, retry_rejected: bool = False) -> None:
        self.store, self.ray, self.progress = store, ray, progress
        self.retry_rejected = retry_rejected
        self.cost: list[dict[str, Any]] = []

    def records(self, items: list[Item], label: str | None = None) -> list[Record]:
        """Have the records of one stage's items: from the store, and what is missing from Ray.

        Raises:
            RunError: rows are missing afterwards, the store is full, or a model cannot be loaded.
        """
        if not items:
            return []
        stage, label = items[0].stage, label or items[0].stage
        wanted = {item.key: item for item in items}
        records = {key: self.store.get(stage, key) for key in wanted}
        if self.retry_rejected:
            for key in [key for key, record in records.items() if record and "rejected" in record]:
                self.store.forget(stage, key)
                records[key] = None
        missing = [wanted[key] for key, record in records.items() if record is None]
        damaged = sum(self.store.has_record(stage, item.key) for item in missing)
        if damaged:
            self.progress.note(f"{label}: {damaged} finished rows of the store are damaged; making them again")
        self.progress.start(label, total=len(wanted), cached=len(wanted) - len(missing))
        began = time.monotonic()
        if missing:
            for _ in self.ray.outcomes(stage, missing, self.store):
                self.progress.advance()
            records |= {item.key: self.store.get(stage, item.key) for item in missing}
        self.progress.finish()
        lost = [key for key, record in records.items() if record is None]
        if lost:
            raise RunError(
                f"{label}: {len(lost)} of {len(wanted)} rows came back neither made nor rejected. Run the same command "
                "again: finished rows are kept."
            )
        cost = {
            "stage": label,
            "rows": len(wanted),
            "calls": len(missing),
            "cached": len(wanted) - len(missing),
            "seconds": round(time.monotonic() - began, 3),
        }
        spent = [record["tokens"] for item in missing if "tokens" in (record := records[item.key] or {})]
        if spent:  # by a language model, now; what the store had cost nothing
            cost["tokens"] = {kind: sum(tokens[kind] for tokens in spent) for kind in ("prompt", "completion")}
        self.cost.append(cost)
        return [records[item.key] or {} for item in items]
