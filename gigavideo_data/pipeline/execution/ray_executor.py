"""Ray Data processes the rows of one stage that the store does not have yet.

Ray only schedules: the store is the truth, and missing rows are found by looking there. Facts of Ray that shaped this
file: the rows of a killed worker are retried without limit unless a limit is set, so the row adapter counts attempts,
and Ray may retry a little more often than that; with ignored errors a job "succeeds" with rows missing; actor pools
take CPU slots that reading needs, so a worker asks for a small fraction of one.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gigavideo_data.errors import RunError
from gigavideo_data.io.hashing import canonical
from gigavideo_data.models.registry import needs_actor_pool, quiet_s, rows_at_once
from gigavideo_data.pipeline.execution.monitor import StageMonitor
from gigavideo_data.pipeline.execution.outcome import from_columns
from gigavideo_data.pipeline.execution.ray_session import RaySession, log
from gigavideo_data.pipeline.execution.worker import Worker, in_task
from gigavideo_data.pipeline.execution.worker_health import SickWorkerError
from gigavideo_data.pipeline.stages import STAGES, Item, Stage
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Limits, Placement, Scale

POLL_S = 5.0  # between two looks at the reports of the workers
SLOTS_PER_WORKER = 0.1  # of a CPU, as Ray counts them


class RayExecutor:
    """Processes rows with Ray; one object for a whole run."""

    def __init__(self, limits: Limits, scale: Scale) -> None:
        self.run_id = uuid.uuid4().hex[:12]
        self.limits, self.scale = limits, scale
        self.session = RaySession(limits)

    def process(self, stage_name: str, items: list[Item], store: Store) -> Iterator[str]:
        """Process rows and yield one outcome for each ("done", "rejected", "kept"), in any order.

        Raises:
            RunError: the store is full or not seen by every node, an engine cannot be loaded, there are fewer GPUs than
                one worker needs, a row is stuck (see `Watchdog`), or a worker is broken (see `WorkerHealth`).
        """
        self.session.start(store.root.resolve())
        for mine in in_pools(items):  # one after the other, so that each pool has the GPUs to itself
            yield from self._outcomes(stage_name, mine, store)

    def _outcomes(self, stage_name: str, items: list[Item], store: Store) -> Iterator[str]:
        """The outcomes of the rows of one pool."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about restarts and retries, which have no named parameter yet
            dataset = self._mapped(items, store)
        batches = dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy")
        monitor = StageMonitor(items, store.reports(self.run_id), self._least_quiet_s(items))
        try:
            for batch in _polled(batches, stage_name, monitor.poll):
                for outcome in from_columns(batch):
                    if outcome.kind == "fatal":
                        log.error("%s: a worker ended the run\n%s", stage_name, outcome.traceback)
                        raise RunError(f"{stage_name}: {outcome.message}")
                    monitor.count(outcome)
                    yield outcome.kind
        except SickWorkerError as error:
            monitor.log_rejections(error, store)
            self.session.log_worker_errors()
            self.session.close()  # first, because the worker may be rejecting other rows
            monitor.forget_rejections(store)
            raise
        except RunError:
            self.session.log_worker_errors()
            raise
        finally:
            monitor.close()

    def _least_quiet_s(self, items: list[Item]) -> float:
        """Seconds without a heartbeat that the engines of a stage may take in any case."""
        engines = {(STAGES[item.stage].engine, item.engine["backend"]) for item in items}
        return max(self.limits.stall_s, *(quiet_s(kind, backend) for kind, backend in engines))

    def _mapped(self, items: list[Item], store: Store) -> Any:
        """The rows of one pool: through workers that hold a heavy engine, or else through tasks, which start faster."""
        import ray.data

        name, stage, backend = items[0].stage, STAGES[items[0].stage], items[0].engine["backend"]
        in_pool = needs_actor_pool(stage.engine, backend)
        place = getattr(self.scale, stage.engine, Placement())
        # vLLM takes all the memory: on a machine without a GPU there is none left for a second worker.
        cores = 1 if backend == "vllm" else self.session.replicas
        available = ray.cluster_resources().get("GPU", 0.0)
        gpus, workers = placed(place, available, cores, f"scale.{stage.engine}.gpus")
        local = {"gpus": gpus, "compile": compiles(self.scale, gpus)}
        tasks = list(in_tasks(items))
        rows = [{"task": _as_json(task, local)} for task in tasks]
        source = ray.data.from_items(rows, override_num_blocks=len(rows))
        held = gpus if in_pool else 0.0  # tasks hold none
        worker = (name, str(store.root.resolve()), self.run_id, self.limits.attempts, held)
        # One more than the adapter's own limit: the last attempt finds none left and writes the rejection.
        retries = 2 * (self.limits.attempts + 1) * max(map(len, tasks))
        slot = {"num_gpus": held} if held else {"num_cpus": SLOTS_PER_WORKER}
        # A block has one task. Its size is named all the same: on GPUs Ray takes no batches of None, which is a block.
        shared = {"batch_size": 1, "batch_format": "numpy", **slot}
        if in_pool:
            calls = calls_at_once(stage, backend, gpus)
            return source.map_batches(
                Worker,
                fn_constructor_args=worker,
                compute=ray.data.ActorPoolStrategy(
                    size=min(workers, len(tasks)),
                    max_tasks_in_flight_per_actor=calls + 1,
                    max_concurrent_calls_per_actor=calls,
                    enable_true_multi_threading=calls > 1,
                ),
                max_restarts=-1,
                max_task_retries=retries,
                **shared,
            )
        compute = ray.data.TaskPoolStrategy(size=min(self.session.replicas, len(tasks)))
        return source.map_batches(in_task, fn_args=worker, compute=compute, max_retries=retries, **shared)


def compiles(scale: Scale, gpus: float) -> bool:
    """Whether generators compile their blocks: where they have a GPU, unless the recipe says otherwise."""
    return gpus > 0 if scale.compile is None else scale.compile


def calls_at_once(stage: Stage, backend: str, gpus: float) -> int:
    """How many tasks a worker processes at a time.

    On a GPU, the next video is made while the last one is encoded. The rows of a second task are prepared while an
    engine that answers many rows at once answers those of the first.
    """
    return 2 if (stage.batch and gpus) or rows_at_once(stage.engine, backend) > 1 else 1


def in_pools(items: Iterable[Item]) -> list[list[Item]]:
    """Items of one stage by the pool of workers that processes them, each pool's in their order.

    There is one pool for each backend whose engines are held by workers, and one for each engine of vLLM, which takes
    its share of a GPU's memory for itself. All other engines share one pool: they run in tasks.
    """
    pools: dict[tuple[str, bytes] | None, list[Item]] = {}
    for item in items:
        backend: str = item.engine["backend"]
        settings = canonical(item.engine | item.local) if backend == "vllm" else b""
        in_pool = needs_actor_pool(STAGES[item.stage].engine, backend)
        pools.setdefault((backend, settings) if in_pool else None, []).append(item)
    return list(pools.values())


def in_tasks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items of one stage in tasks: those of each engine in their order, in parts of about equal length."""
    by_engine: dict[bytes, list[Item]] = {}
    for item in items:
        by_engine.setdefault(canonical(item.engine | item.local), []).append(item)
    for mine in by_engine.values():
        num_tasks = -(-len(mine) // _rows_per_task(mine[0]))
        for number in range(num_tasks):
            yield mine[number * len(mine) // num_tasks : (number + 1) * len(mine) // num_tasks]


def _rows_per_task(item: Item) -> int:
    stage, backend = STAGES[item.stage], item.engine["backend"]
    # A worker of a pool gets as many rows as its engine answers together: it may be the only worker.
    together = rows_at_once(stage.engine, backend) if needs_actor_pool(stage.engine, backend) else 1
    return max(stage.rows_per_task, together, item.batch_size)


def _as_json(task: list[Item], local: dict[str, Any]) -> str:
    engine = task[0].engine | task[0].local | local
    return json.dumps({"engine": engine, "rows": [(item.key, item.inputs | item.implied) for item in task]})


def placed(place: Placement, available: float, cores: int, key: str) -> tuple[float, int]:
    """GPUs of each worker that holds a model, and the number of workers.

    Args:
        place: from the recipe.
        available: GPUs of the machine or cluster.
        cores: number of workers where there are no GPUs.
        key: of `place.gpus` in the recipe, for the message.

    Raises:
        RunError: there are fewer GPUs than one worker needs.
    """
    gpus = min(1.0, available) if place.gpus is None else place.gpus
    if gpus > available:
        raise RunError(f"{key}: {gpus:g} requested, {available:g} available; request fewer, or set RAY_ADDRESS")
    return gpus, place.replicas or (int(available / gpus) if gpus else cores)


@contextmanager
def ray_executor(limits: Limits, scale: Scale) -> Iterator[RayExecutor]:
    """An executor whose Ray is stopped at the end, also after an error."""
    executor = RayExecutor(limits, scale)
    try:
        yield executor
    finally:
        executor.session.close()


def _polled(batches: Any, stage_name: str, poll: Callable[[], None]) -> Iterator[dict[str, np.ndarray]]:
    """Iterate, and call `poll` every `POLL_S` while waiting. The thread that waits for Ray ends with the process."""
    results: queue.Queue[Any] = queue.Queue()

    def drain() -> None:
        try:
            for batch in batches:
                results.put(batch)
            results.put(None)
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, where it is raised
            results.put(error)

    threading.Thread(target=drain, daemon=True).start()
    last_poll = time.monotonic()
    while True:
        if time.monotonic() - last_poll >= POLL_S:
            poll()
            last_poll = time.monotonic()
        try:
            got = results.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if got is None:
            return
        if isinstance(got, BaseException):
            raise RunError(
                f"{stage_name}: Ray stopped ({type(got).__name__}: {str(got).splitlines()[0][:200]})."
            ) from got
        yield got
