"""Starting and stopping Ray: its settings here or on a cluster, folders for its sockets, and its own log files."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RunError
from gigavideo_data.io import video
from gigavideo_data.recipe.recipe import Limits

log = logging.getLogger(__name__)

SLOW_START = "timed out during startup"  # in Ray's message
NODE_TIMEOUT_S = 120  # for the first worker of a node to start
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SHORT_FOLDER = "/tmp"
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # the system's limit for the whole path of a socket
# Variables that name folders for sockets, TMPDIR where they are not set; and what is appended to the folder.
SOCKETS = {
    "RAY_TMPDIR": "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store",
    "VLLM_RPC_BASE_PATH": "/01234567-0123-0123-0123-0123456789ab",
}
MAX_STDERR_BYTES = 20_000  # of one worker process, its end


class RaySession:
    """One Ray for a whole run. It starts when the first row is missing, so a finished build never starts it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.replicas = 0  # workers of a stage that no GPU bounds; known after `start`
        self._folder: Path | None = None  # of Ray's own log files, where this run started Ray
        self._started = False

    def start(self, store: Path) -> None:
        """Start Ray if it is not running, or connect to the cluster of RAY_ADDRESS.

        Raises:
            RunError: Ray does not start in time, a node of the cluster does not see the store, or there is no short
                folder for sockets.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Otherwise its executor thread starts a second Ray at shutdown.
        os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its errors come back as rows or exceptions
        import ray
        import ray.data

        if not ray.is_initialized():
            on_cluster = "RAY_ADDRESS" in os.environ
            self.replicas = self.limits.replicas or len(os.sched_getaffinity(0))
            variables = _ONE_THREAD | {video.MAX_CLIP_VARIABLE: str(video.max_clip_bytes() / 2**30)}
            settings = {"runtime_env": {"env_vars": variables}} if on_cluster else _local_settings(self.replicas)
            inherited = {} if on_cluster else variables | socket_folders(os.environ)
            with _without_native_output(), _environment(inherited):
                try:
                    context = ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
                except Exception as error:  # Ray has no class of its own for this
                    if SLOW_START not in str(error):
                        raise
                    raise RunError(
                        "Ray did not start in time, as on a busy machine. Run the same command again: finished rows "
                        "are kept."
                    ) from error
            self._started = True
            self._folder = Path(context.address_info["session_dir"]) / "logs"
            if on_cluster:
                self.replicas = self.limits.replicas or max(1, int(ray.cluster_resources().get("CPU", 1)))
                check_shared(store)
        data_context = ray.data.DataContext.get_current()
        data_context.enable_progress_bars = False
        data_context.print_on_execution_start = False
        data_context.max_errored_blocks = -1  # a row's failure is a record; missing rows are counted afterwards
        ray_data_log = logging.getLogger("ray.data")
        ray_data_log.setLevel(logging.ERROR)
        ray_data_log.handlers = [_ToRunLog()]

    def log_worker_errors(self) -> None:
        """Copy what worker processes wrote to stderr into the run's log, such as the reason of a crash."""
        for file in sorted(self._folder.glob("worker-*.err")) if self._folder else ():
            if text := file.read_bytes()[-MAX_STDERR_BYTES:].decode(errors="replace").strip():
                log.error("%s of Ray ends with:\n%s", file.name, text)

    def close(self) -> None:
        """Stop Ray if this run started it."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False


class _ToRunLog(logging.Handler):
    """Passes records on to the run's log, and so keeps them off the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        log.handle(record)


def _local_settings(replicas: int) -> dict[str, Any]:
    # CPUs here are what Ray counts, not threads: enough for the pool, the reader and Ray's own helpers.
    # "local": another Ray that runs on this machine would refuse these settings.
    slots = max(4, replicas + 2)
    return {"address": "local", "num_cpus": slots, "object_store_memory": 256 * 2**20, "include_dashboard": False}


def socket_folders(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that put sockets into a short folder, where the path of the folder for temporary files is too long.

    Raises:
        RunError: the path of a folder that was set for sockets is too long, or no short folder can be written.
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


def check_shared(store: Path) -> None:
    """Check that every node of the cluster sees the store, before one writes rows that no other finds.

    Raises:
        RunError: a node does not see it, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    marker = str(store / "format")
    look = ray.remote(num_cpus=0, max_retries=0)(os.path.exists)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = [look.options(scheduling_strategy=strategy).remote(marker) for strategy in there]
    ray.wait(answers, num_returns=len(answers), timeout=NODE_TIMEOUT_S)
    without = [node["NodeManagerHostname"] for node, one in zip(nodes, answers, strict=True) if not _answered(one)]
    if without:
        raise RunError(
            f"the store {store} is not seen by {', '.join(without)}. Name a --store and --out on shared storage."
        )


def _answered(answer: Any) -> bool:
    import ray

    try:
        return bool(ray.get(answer, timeout=0))
    except ray.exceptions.RayError:
        return False


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a local Ray and its workers; a `runtime_env` would start seconds later."""
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
def _without_native_output() -> Iterator[None]:
    """Hide what Ray's native part prints on stderr at its start; its errors come as exceptions."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
