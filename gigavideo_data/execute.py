"""Ray Data runs the rows of one stage that the store does not have yet.

Ray only schedules: the store is the truth, and what comes back from Ray is counted, not believed. Facts of Ray that
shaped this file: a killed worker's rows are retried without bound unless told otherwise, so attempts are counted by the
row adapter and Ray may try a little more often than that; with ignored errors a job "succeeds" with rows missing, so
missing rows are looked for; pools take CPU slots that reading needs, so a worker asks for a small fraction of one.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gigavideo_data import video
from gigavideo_data.engines import Kind, load_engine, needs_actor_pool, rows_at_once
from gigavideo_data.errors import GigaVideoError, RunError
from gigavideo_data.judges.watched import WatchedJudge
from gigavideo_data.recipe import Limits, Place, Scale
from gigavideo_data.stages import STAGES, Item, run_row
from gigavideo_data.store import Store, canonical

STALL_S = 1800  # no row finished for so long: something hangs, and the run says so instead of waiting
NODE_ANSWERS_S = 120  # for a new node's first worker to start
SLOTS_PER_WORKER = 0.1  # of a CPU, in Ray's books only
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SHORT_FOLDER = "/tmp"
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # the system's limit for the whole path of a socket
# Variables that name folders for sockets, TMPDIR where they are not set; and what is put behind the folder.
SOCKETS = {
    "RAY_TMPDIR": "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store",
    "VLLM_RPC_BASE_PATH": "/01234567-0123-0123-0123-0123456789ab",
}


class Worker:
    """Holds engines and passes rows to the adapter: a Ray actor, or one in each process that runs tasks."""

    def __init__(self, stage: str, store: str, run_id: str, attempts: int) -> None:
        self.stage, self.store, self.run_id, self.attempts = stage, Store(Path(store)), run_id, attempts
        self.engines: dict[bytes, Any] = {}
        self.loading = threading.Lock()
        self.broken = ""  # why this worker can make no more rows

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Take rows {"key", "work"} and return {"key", "outcome"}, in order."""
        rows = [(str(key), json.loads(str(work))) for key, work in zip(batch["key"], batch["work"], strict=True)]
        kind = STAGES[self.stage].engine
        at_once = max(rows_at_once(kind, row["engine"]["backend"]) for _, row in rows) if kind else 1
        outcomes = [self._row(*row) for row in rows] if at_once == 1 else self._in_threads(rows, at_once)
        return {"key": list(batch["key"]), "outcome": outcomes}

    def _in_threads(self, rows: list[tuple[str, dict[str, Any]]], at_once: int) -> list[str]:
        """Make rows in so many threads. Once one of them is fatal, the others are not waited for.

        An endpoint that drops connections can hold a request for minutes, while another one has failed already.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        finished: queue.SimpleQueue[tuple[int, str | BaseException]] = queue.SimpleQueue()
        for number in range(len(rows)):
            waiting.put(number)

        def work() -> None:
            while True:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    finished.put((number, self._row(*rows[number])))
                except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, where it is raised
                    finished.put((number, error))

        for _ in range(min(at_once, len(rows))):
            threading.Thread(target=work, daemon=True).start()
        outcomes = [""] * len(rows)
        for _ in rows:
            number, outcome = finished.get()
            if isinstance(outcome, BaseException):
                raise outcome
            if self.broken:
                return [self.broken] * len(rows)
            outcomes[number] = outcome
        return outcomes

    def _row(self, key: str, row: dict[str, Any]) -> str:
        if self.broken:
            return self.broken
        try:
            engine = self._engine(row["engine"])
            return run_row(self.stage, key, engine, row["inputs"], self.store, self.run_id, self.attempts)
        except RunError as error:  # would be lost among Ray's ignored errors
            self.broken = f"fatal: {error}"
            return self.broken

    def _engine(self, settings: dict[str, Any]) -> Any:
        kind = STAGES[self.stage].engine
        if kind is None:
            return None
        name = canonical(settings)
        with self.loading:
            if name not in self.engines:
                self.engines[name] = self._load(kind, settings)
        return self.engines[name]

    def _load(self, kind: Kind, settings: dict[str, Any]) -> Any:
        import cv2

        cv2.setNumThreads(1)
        try:
            engine = load_engine(kind, settings)
        except Exception as error:  # part of the row adapter: no row could be made, so the run stops
            reason = " ".join(str(error).split())[:300]
            told = f"{settings['backend']} cannot be loaded: {type(error).__name__}: {reason}"
            if not isinstance(error, GigaVideoError):
                kept = self.store.keep_traceback(self.stage, settings["backend"], error)
                told += f" The traceback is in {kept}"
            raise RunError(told) from error
        if kind == "judge" and "min_mass" in settings:
            return WatchedJudge(engine, settings["model"], settings["min_mass"], settings.get("readout", "logits"))
        return engine


@cache
def _worker(stage: str, store: str, run_id: str, attempts: int) -> Worker:
    return Worker(stage, store, run_id, attempts)


def _in_task(batch: dict[str, np.ndarray], *worker: Any) -> dict[str, list[str]]:
    return _worker(*worker)(batch)


class Ray:
    """One Ray for a whole build, started when the first row is missing, so that a finished build never starts it."""

    def __init__(self, limits: Limits, scale: Scale) -> None:
        self.run_id = uuid.uuid4().hex[:12]
        self.limits, self.scale = limits, scale
        self.replicas = 0  # workers of a stage that no GPU bounds
        self._up = False

    def _start(self, store: Path) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault(
            "RAY_ENABLE_AUTO_CONNECT", "0"
        )  # else its executor thread starts a second Ray at shutdown
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its errors come back as rows or exceptions
        import ray
        import ray.data

        if not ray.is_initialized():
            on_cluster = "RAY_ADDRESS" in os.environ
            self.replicas = self.limits.replicas or len(os.sched_getaffinity(0))
            variables = _ONE_THREAD | {video.MAX_CLIP_VARIABLE: str(video.max_clip_bytes() / 2**30)}
            settings = {"runtime_env": {"env_vars": variables}} if on_cluster else _local_settings(self.replicas)
            inherited = {} if on_cluster else variables | socket_folders(os.environ)
            with _no_native_chatter(), _inherited(inherited):
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
            self._up = True
            if on_cluster:
                self.replicas = self.limits.replicas or max(1, int(ray.cluster_resources().get("CPU", 1)))
                _check_shared(store)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # a row's failure is data; missing rows are counted afterwards
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it tells ignored errors with their tracebacks

    def outcomes(self, stage_name: str, items: list[Item], store: Store) -> Iterator[str]:
        """Run rows and yield one outcome each ("done", "rejected", "kept"), in any order.

        Raises:
            RunError: the store is full or not seen by every node, an engine cannot be loaded, there are fewer GPUs than
                one worker is to have, or nothing has finished for `STALL_S`.
        """
        self._start(store.root.resolve())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # restarts and retries have no named parameter yet, and Ray says so
            dataset = self._mapped(items, store)
        for batch in _bounded(
            dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"), stage_name
        ):
            for outcome in batch["outcome"]:
                if str(outcome).startswith("fatal: "):
                    raise RunError(f"{stage_name}: {str(outcome).removeprefix('fatal: ')}")
                yield str(outcome)

    def _mapped(self, items: list[Item], store: Store) -> Any:
        """Rows through a pool of workers that hold a heavy engine; else through tasks, which start at once."""
        import ray.data

        name, stage = items[0].stage, STAGES[items[0].stage]
        kind = stage.engine
        backends = {item.engine["backend"] for item in items} if kind else set()
        resident = kind is not None and any(needs_actor_pool(kind, backend) for backend in backends)
        # A worker that holds an engine is given as many rows as that answers together; there may be no other worker.
        at_once = max(rows_at_once(kind, backend) for backend in backends) if kind and resident else 1
        per_task = max(stage.rows_per_task, at_once)
        place = getattr(self.scale, stage.engine or "", Place())
        there = ray.cluster_resources().get("GPU", 0.0)
        # vLLM takes what memory there is: on a machine without a GPU a second worker would find none.
        cores = 1 if "vllm" in backends else self.replicas
        gpus, workers = placed(place, there, cores, f"scale.{stage.engine}.gpus")
        local = {"gpus": gpus, "compile": self.scale.compile}
        rows = [
            {"key": i.key, "work": json.dumps({"engine": i.engine | i.local | local, "inputs": i.inputs | i.implied})}
            for i in items
        ]
        blocks = -(-len(rows) // per_task)
        source = ray.data.from_items(rows, override_num_blocks=blocks)
        worker = (name, str(store.root.resolve()), self.run_id, self.limits.attempts)
        # One more than the adapter's own limit: the last one finds no attempt left and writes the rejection.
        retries = 2 * (self.limits.attempts + 1) * per_task
        slot = {"num_gpus": gpus} if resident and gpus else {"num_cpus": SLOTS_PER_WORKER}
        shared = {"batch_size": None, "batch_format": "numpy", **slot}
        if resident:
            return source.map_batches(
                Worker,
                fn_constructor_args=worker,
                compute=ray.data.ActorPoolStrategy(size=min(workers, blocks), max_tasks_in_flight_per_actor=2),
                max_restarts=-1,
                max_task_retries=retries,
                **shared,
            )
        tasks = ray.data.TaskPoolStrategy(size=min(self.replicas, blocks))
        return source.map_batches(_in_task, fn_args=worker, compute=tasks, max_retries=retries, **shared)

    def close(self) -> None:
        """Stop Ray if this build started it."""
        if self._up:
            import ray

            ray.shutdown()
            self._up = False


def placed(place: Place, there: float, cores: int, key: str) -> tuple[float, int]:
    """GPUs of each worker that holds a model, and the number of workers.

    Args:
        place: what the recipe says.
        there: GPUs of the machine or cluster.
        cores: workers where there are no GPUs.
        key: of `place.gpus` in the recipe, for the message.

    Raises:
        RunError: fewer GPUs than one worker is to have.
    """
    gpus = min(1.0, there) if place.gpus is None else place.gpus
    if gpus > there:
        raise RunError(f"{key}: {gpus:g} asked for, {there:g} here; ask for fewer, or set RAY_ADDRESS")
    return gpus, place.replicas or (int(there / gpus) if gpus else cores)


@contextmanager
def ray_for_build(limits: Limits, scale: Scale) -> Iterator[Ray]:
    """A `Ray` that is closed however the build ends."""
    executor = Ray(limits, scale)
    try:
        yield executor
    finally:
        executor.close()


def _local_settings(replicas: int) -> dict[str, Any]:
    # Slots are bookkeeping, not threads: enough for the pool, the reader and Ray's own helpers on any machine.
    # "local": another Ray that happens to run here is not asked for, and would refuse these settings.
    slots = max(4, replicas + 2)
    return {"address": "local", "num_cpus": slots, "object_store_memory": 256 * 2**20, "include_dashboard": False}


def socket_folders(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that send sockets to a short folder, where that for temporary files has too long a name for them.

    Raises:
        RunError: a folder that was named for sockets is too long, or there is no short one.
    """
    moved = {}
    for variable, path in SOCKETS.items():
        longest = SOCKET_BYTES - len(path)
        name = variable if variable in environment else "TMPDIR"
        num_bytes = len(os.fsencode(environment.get(name, "")))
        if num_bytes <= longest:
            continue
        if name == variable or not os.access(SHORT_FOLDER, os.W_OK):
            raise RunError(
                f"{name} has {num_bytes} bytes, too many for the paths of sockets. Set {variable} to a folder whose "
                f"name has at most {longest}, such as {SHORT_FOLDER}."
            )
        moved[variable] = SHORT_FOLDER
    return moved


def _check_shared(store: Path) -> None:
    """Ask every node of the cluster whether it sees the store, before one makes rows that no other finds.

    Raises:
        RunError: one does not, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    marker = str(store / "format")
    look = ray.remote(num_cpus=0, max_retries=0)(os.path.exists)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = [look.options(scheduling_strategy=strategy).remote(marker) for strategy in there]
    ray.wait(answers, num_returns=len(answers), timeout=NODE_ANSWERS_S)
    blind = [node["NodeManagerHostname"] for node, one in zip(nodes, answers, strict=True) if not _answered(one)]
    if blind:
        raise RunError(
            f"the store {store} is not seen by {', '.join(blind)}. Name a --store and --out on storage that they share."
        )


def _answered(answer: Any) -> bool:
    import ray

    try:
        return bool(ray.get(answer, timeout=0))
    except ray.exceptions.RayError:
        return False


@contextmanager
def _inherited(variables: dict[str, str]) -> Iterator[None]:
    """What a local Ray and its workers start with; as a `runtime_env`, each build would wait seconds longer."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


@contextmanager
def _no_native_chatter() -> Iterator[None]:
    """Ray's native part announces its log level on the raw stderr; what matters comes as an exception."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _bounded(batches: Any, stage_name: str) -> Iterator[dict[str, np.ndarray]]:
    """Iterate with a limit on each wait. The thread that waits for Ray dies with the process."""
    results: queue.Queue[Any] = queue.Queue()

    def drain() -> None:
        try:
            for batch in batches:
                results.put(batch)
            results.put(None)
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, where it is raised
            results.put(error)

    threading.Thread(target=drain, daemon=True).start()
    while True:
        try:
            got = results.get(timeout=STALL_S)
        except queue.Empty:
            raise RunError(
                f"{stage_name}: no row finished for {STALL_S} s. Run again: finished rows are kept."
            ) from None
        if got is None:
            return
        if isinstance(got, BaseException):
            raise RunError(
                f"{stage_name}: Ray stopped ({type(got).__name__}: {str(got).splitlines()[0][:200]})."
            ) from got
        yield got
