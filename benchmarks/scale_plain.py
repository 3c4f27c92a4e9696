"""Ray Data without the pipeline, for the comparison of `benchmarks.scale`: the tasks of a build, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich.console import Console

from gigavideo_data.io.progress import Progress
from gigavideo_data.models.registry import load_engine, needs_actor_pool
from gigavideo_data.pipeline.execution.ray_executor import SLOTS_PER_WORKER, in_tasks
from gigavideo_data.pipeline.execution.ray_session import RaySession
from gigavideo_data.pipeline.stages import STAGES, Batch, Item, Record
from gigavideo_data.recipe.recipe import Limits

if TYPE_CHECKING:
    from gigavideo_data.pipeline.store import Store


class PlainRunner:
    """A runner of steps (see `runner.Runner`) that has Ray Data process every item."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.progress, self.session = folder, Progress(Console(quiet=True)), RaySession(Limits(replicas=2))

    def records(self, items: Iterable[Item], label: str | None = None) -> Sequence[Record]:
        """The record of each item, in order."""
        del label
        import ray.data

        items = list(items)
        if not items:
            return []
        self.session.start(self.folder)
        tasks = [
            {
                "engine": task[0].engine | task[0].local,
                "rows": [(item.key, item.inputs | item.implied) for item in task],
            }
            for task in in_tasks(items)
        ]
        stage, num = items[0].stage, min(2, len(tasks))
        in_pool = needs_actor_pool(STAGES[stage].engine, items[0].engine["backend"])
        source = ray.data.from_items([{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
        shared: dict[str, Any] = {"batch_size": None, "batch_format": "numpy", "num_cpus": SLOTS_PER_WORKER}
        if in_pool:
            pool = ray.data.ActorPoolStrategy(size=num)
            done = source.map_batches(
                PlainWorker, fn_constructor_args=(stage, str(self.folder)), compute=pool, **shared
            )
        else:
            slots = ray.data.TaskPoolStrategy(size=num)
            done = source.map_batches(in_task, fn_args=(stage, str(self.folder)), compute=slots, **shared)
        found: dict[str, Record] = {}
        for batch in done.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
            found |= {str(key): json.loads(text) for key, text in zip(batch["key"], batch["record"], strict=True)}
        return [found[item.key] for item in items]


class PlainWorker:
    """Calls the stage for each row; clips are files, written without care."""

    def __init__(self, stage: str, folder: str) -> None:
        self.stage, self.store = STAGES[stage], PlainStore(Path(folder))
        self.engines: dict[str, Any] = {}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Process tasks (see `execution.worker.Worker`); columns `key` and `record`."""
        keys, records = [], []
        for text in batch["task"]:
            task = json.loads(str(text))
            name = json.dumps(task["engine"])
            if name not in self.engines:
                self.engines[name] = load_engine(self.stage.engine, task["engine"])
            for key, record in self._rows(self.engines[name], task["rows"]):
                keys.append(key)
                records.append(json.dumps(record))
        return {"key": keys, "record": records}

    def _rows(self, engine: Any, rows: list[tuple[str, dict[str, Any]]]) -> Iterable[tuple[str, Record]]:
        run, store = self.stage.run, cast("Store", self.store)
        called = (
            run.call(engine, [inputs for _, inputs in rows], store) if isinstance(run, Batch) else [None] * len(rows)
        )
        for (key, inputs), made in zip(rows, called, strict=True):
            record, blobs = run.finish(made, inputs) if isinstance(run, Batch) else run(engine, inputs, store)
            names = {name: self.store.keep(data) for name, data in blobs.items()}
            yield key, {**record, "blobs": names} if names else record


class PlainStore:
    """Clips in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clips"
        self.folder.mkdir(exist_ok=True)

    def keep(self, data: bytes) -> str:
        """Write a clip; return its name."""
        name = hashlib.sha256(data).hexdigest() + ".mp4"
        (self.folder / name).write_bytes(data)
        return name

    def blob(self, name: str) -> bytes:
        """The bytes of a clip."""
        return (self.folder / name).read_bytes()


@cache
def _worker(stage: str, folder: str) -> PlainWorker:
    return PlainWorker(stage, folder)


def in_task(batch: dict[str, np.ndarray], stage: str, folder: str) -> dict[str, list[str]]:
    """Process a batch in a Ray task, with this process's worker."""
    return _worker(stage, folder)(batch)
