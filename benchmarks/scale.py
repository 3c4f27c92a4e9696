"""Builds of many rows with fake engines: what the pipeline itself takes, and how that grows.

    python -m benchmarks.scale [--rows 1000 10000] [--without-ray] [--plain 200] [--repeats 3] [--folder /dev/shm]

Each size is built in a process of its own, built again when it is finished, and verified, by the functions of
`gv-data build` and `gv-data verify`. Engines are fakes (see `scale_fakes`): words, one tiny clip, answers without a
model. All prompts differ, and near duplicates are looked for, as in the recipe of the paper. The folder holds the store
and the dataset. On a disk most of the time is waiting for it, so the default is a folder in memory.

Builds of `--plain` rows take turns with Ray Data alone, and these are compared with each other too, as a control. Ray
Data alone has the same tasks, engines, clips and final table; nothing is durable, counted, verified or resumable.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parent.parent
FAKES = Path(__file__).parent / "scale_fakes"
DIMENSIONS = ("composition", "instance_preservation")
SAMPLE_S = 0.5  # between two looks at the processes
MB = 1e6
HEADER = """| rows | action | s | driver CPU s | children CPU s | driver peak MB | largest child MB | MB read | files |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
COMPARED_HEADER = """| arm | s | over plain | CPU s | over plain |
| --- | --- | --- | --- | --- |"""


@dataclass
class Run:
    """What one process took.

    Attributes:
        seconds: by the clock.
        cpu_s: processor seconds of the driver.
        workers_cpu_s: processor seconds of its children, Ray's own processes included.
        driver_mb: largest resident memory of the driver.
        worker_mb: largest resident memory of one child.
        read_mb: bytes that the driver read.
        files: in the store and in the dataset, at the end.
    """

    seconds: float
    cpu_s: float
    workers_cpu_s: float
    driver_mb: float
    worker_mb: float
    read_mb: float
    files: int


# --- in the child ----------------------------------------------------------------------------------------------------


def recipe(num_rows: int) -> Any:
    """The recipe of a build of about so many rows."""
    from gigavideo_data.recipe.recipe import Recipe

    return Recipe.model_validate(
        {
            "name": "scale",
            "dimensions": DIMENSIONS,
            "prompts": {"per_dimension": num_rows // len(DIMENSIONS), "dedup_threshold": 0.9},
            "eval_prompts": {"per_dimension": 8},
            "limits": {"replicas": 2},
        }
    )


def build(num_rows: int, folder: Path) -> None:
    """What `gv-data build` does."""
    from rich.console import Console

    from gigavideo_data.commands.build import build as build_dataset
    from gigavideo_data.io.progress import Progress

    with Progress(Console(stderr=True)) as progress:
        build_dataset(recipe(num_rows), folder / "out", folder / "store", progress, with_latents=False)


class Here:
    """Processes rows in the driver, in place of `RayExecutor`."""

    session = SimpleNamespace(log_worker_errors=lambda: None)

    def process(self, stage: str, items: list[Any], store: Any) -> Iterator[str]:
        """Process rows and yield one outcome for each."""
        from gigavideo_data.pipeline.execution.ray_executor import in_tasks
        from gigavideo_data.pipeline.execution.worker import Worker

        worker = Worker(stage, str(store.root), "here", 3)
        for task in in_tasks(items):
            engine, rows = task[0].engine | task[0].local, [(item.key, item.inputs | item.implied) for item in task]
            yield from worker({"task": np.array([json.dumps({"engine": engine, "rows": rows})])})["kind"]


def build_here(num_rows: int, folder: Path) -> None:
    """What `gv-data build` does, without Ray."""
    from gigavideo_data.pipeline.execution import runner

    setattr(runner, "ray_executor", lambda *_: nullcontext(Here()))  # noqa: B010 - it is not of that type
    build(num_rows, folder)


def verify(num_rows: int, folder: Path) -> None:
    """What `gv-data verify` does."""
    from gigavideo_data.dataset.verify import verify_folder

    assert sum(verify_folder(folder / "out").rows.values()) >= num_rows


def plain(num_rows: int, folder: Path) -> None:
    """The same work by Ray Data alone, stage by stage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks import scale_plain
    from gigavideo_data.io.spool import Spool
    from gigavideo_data.pipeline import steps

    context = steps.Context(recipe(num_rows), scale_plain.PlainRunner(folder))
    asked = steps.ask(context, steps.extend(context, steps.prompts(context)))
    generated = steps.synthesize(context, Spool(row for row in asked if row.source == "synthetic"))
    rows = steps.reward(context, steps.judge(context, generated))
    (folder / "out").mkdir()
    facts = [{"id": row.id, "prompt": row.prompt, "answers": row.answers, "rewards": row.rewards} for row in rows]
    pq.write_table(pa.Table.from_pylist(facts), folder / "out" / "train.parquet")


ACTIONS: dict[str, Callable[[int, Path], None]] = {
    "build": build,
    "build without Ray": build_here,
    "finished build again": build,
    "verify": verify,
    "plain": plain,
}


def child(action: str, num_rows: int, folder: Path, profile: Path | None) -> None:
    """Do one thing in this process and print what it took of this process."""
    import cProfile

    profiler = cProfile.Profile() if profile else None
    if profiler:
        profiler.enable()
    ACTIONS[action](num_rows, folder)
    if profiler:
        profiler.disable()
        profiler.dump_stats(str(profile))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    read = int(Path("/proc/self/io").read_text().split()[1])
    facts = {"cpu_s": usage.ru_utime + usage.ru_stime, "driver_mb": usage.ru_maxrss * 1024 / MB, "read_mb": read / MB}
    print(json.dumps(facts))


# --- in the parent ---------------------------------------------------------------------------------------------------


def run(action: str, num_rows: int, folder: Path, profile: Path | None = None) -> Run:
    """Do one thing in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--child", action, "--rows", str(num_rows)]
    command += ["--folder", str(folder), *(("--profile", str(profile)) if profile else ())]
    environment = os.environ | {"PYTHONPATH": f"{FAKES}:{ROOT}"}
    began = time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        seen = Seen(process.pid)
        output, _ = process.communicate()
        seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{action} of {num_rows} rows failed")
    facts = json.loads(output.splitlines()[-1])
    files = sum(len(names) for _, _, names in os.walk(folder))
    return Run(seconds, workers_cpu_s=seen.cpu_s, worker_mb=seen.peak / MB, files=files, **facts)


class Seen:
    """Looks at the children of a process until it ends."""

    def __init__(self, pid: int) -> None:
        self._pid, self._cpu_s, self.peak = pid, dict[int, float](), 0
        threading.Thread(target=self._look, daemon=True).start()

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all children, each as last seen."""
        return sum(self._cpu_s.values())

    def _look(self) -> None:
        while Path(f"/proc/{self._pid}").exists():
            family = {self._pid}
            for one in sorted(processes()):
                if one.parent in family:
                    family.add(one.pid)
                    self._cpu_s[one.pid] = one.cpu_s
                    self.peak = max(self.peak, one.num_bytes)
            time.sleep(SAMPLE_S)


class Process(NamedTuple):
    """A process of this machine: its processor seconds and resident memory."""

    pid: int
    parent: int
    cpu_s: float
    num_bytes: int


def processes() -> Iterator[Process]:
    """All processes; children usually have larger numbers than their parents."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
        cpu_s = ticks / os.sysconf("SC_CLK_TCK")
        yield Process(int(path.parent.name), int(fields[1]), cpu_s, pages * os.sysconf("SC_PAGE_SIZE"))


def sizes(rows: list[int], folder: Path, profile: Path | None, *, with_ray: bool = True) -> Iterator[str]:
    """Lines of a table: each size, and what is done with it."""
    for num_rows in rows:
        with tempfile.TemporaryDirectory(dir=folder, prefix="scale-") as scratch:
            for action in ("build" if with_ray else "build without Ray", "finished build again", "verify"):
                file = profile / f"{action.split()[0]}-{num_rows}" if profile else None
                one = run(action, num_rows, Path(scratch), file)
                numbers = (one.seconds, one.cpu_s, one.workers_cpu_s, one.driver_mb, one.worker_mb, one.read_mb)
                yield f"| {num_rows:,} | {action} | {' | '.join(f'{x:,.1f}' for x in numbers)} | {one.files:,} |"


def compared(num_rows: int, repeats: int, folder: Path) -> Iterator[str]:
    """Lines of a table: builds and Ray Data alone, in turn."""
    taken: dict[str, list[float]] = {}
    for _ in range(repeats):
        for arm, action in (("plain", "plain"), ("build", "build"), ("plain again (control)", "plain")):
            with tempfile.TemporaryDirectory(dir=folder, prefix="scale-") as scratch:
                one = run(action, num_rows, Path(scratch))
                taken.setdefault(arm, []).append(one.seconds)
                taken.setdefault(f"{arm}, processor", []).append(one.cpu_s + one.workers_cpu_s)
    for arm in ("plain", "build", "plain again (control)"):
        seconds, cpu = statistics.median(taken[arm]), statistics.median(taken[f"{arm}, processor"])
        ratios = [
            statistics.median(a / b for a, b in zip(taken[arm + kind], taken["plain" + kind], strict=True))
            for kind in ("", ", processor")
        ]
        yield f"| {arm} | {seconds:.1f} | {ratios[0]:.2f} | {cpu:.1f} | {ratios[1]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[300, 1000, 3000])
    parser.add_argument("--without-ray", action="store_true", help="process the rows in the driver")
    parser.add_argument("--plain", type=int, default=0, help="rows of the comparison with Ray Data alone; 0: none")
    parser.add_argument("--repeats", type=int, default=3, help="of the comparison")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--profile", type=Path, help="folder for profiles of the drivers")
    parser.add_argument("--child", choices=ACTIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.rows[0], args.folder, args.profile)
        return
    cores = len(os.sched_getaffinity(0))
    print(f"On {cores} {platform.machine()} cores, folder in {args.folder}.\n", flush=True)
    if args.rows:
        print(HEADER, flush=True)
        for line in sizes(args.rows, args.folder, args.profile, with_ray=not args.without_ray):
            print(line, flush=True)
    if args.plain:
        print(f"\n{args.plain} rows, median of {args.repeats}\n\n{COMPARED_HEADER}", flush=True)
        for line in compared(args.plain, args.repeats, args.folder):
            print(line, flush=True)


if __name__ == "__main__":
    main()
