"""Rows per second of the stage `synthesize` with the miniature: one video per call, and in batches.

    python -m benchmarks.synthesis_batch [--rounds 5] [--rows 16]

Each arm makes the same rows in a store of its own: sampling, MP4, latents, durable files. One process per core makes
`--rows` of them at once. The arms take turns in each round, and the first one has two turns, as a control. Nothing else
may run meanwhile; other work changes processor seconds less than rows per second.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import diffusers
import torch
import transformers

from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.registry import generator_spec
from gigavideo_data.pipeline.execution.row_adapter import run_rows
from gigavideo_data.pipeline.stages import synthesis
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Generator

MINIATURE = PROFILES["miniature"]
ARMS = {
    "one video per call": 1,
    f"batches of {MINIATURE.batch_size}": MINIATURE.batch_size,
    "one video per call again (control)": 1,
}
PROMPTS = ("a red circle moves to the left", "two blue bars", "a green pillar falls", "a red bar turns cyan")


@cache
def generator(batch_size: int) -> DiffusersGenerator:
    """The miniature with a batch size, loaded once per process."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    cv2.setNumThreads(1)
    PROFILES["miniature"] = replace(MINIATURE, batch_size=batch_size)
    return DiffusersGenerator(generator_spec(Generator()).settings)


def seconds(batch_size: int, first_seed: int, num_rows: int) -> tuple[float, float]:
    """Make rows as a worker does; seconds by the clock, and of the processor."""
    engine, spec = generator(batch_size), generator_spec(Generator())
    items = [synthesis(spec, PROMPTS[n % len(PROMPTS)], first_seed + n) for n in range(num_rows)]
    rows = [(item.key, item.inputs | item.implied) for item in items]
    with tempfile.TemporaryDirectory() as folder:
        began, began_cpu = time.monotonic(), time.process_time()
        for start in range(0, num_rows, batch_size):
            outcomes = run_rows("synthesize", rows[start : start + batch_size], engine, Store(Path(folder)), "run", 3)
            assert set(outcomes) == {"done"}, outcomes
        return time.monotonic() - began, time.process_time() - began_cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16, help="of each process, in each turn")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {name: [] for name in ARMS}
    processor: dict[str, list[float]] = {name: [] for name in ARMS}
    pools = [ProcessPoolExecutor(1, get_context("spawn")) for _ in range(cores)]
    for number in range(args.rounds + 1):
        for name, batch_size in ARMS.items():
            seeds = [(number * cores + core) * args.rows for core in range(cores)]
            turns = [pool.submit(seconds, batch_size, seed, args.rows) for pool, seed in zip(pools, seeds, strict=True)]
            clock, cpu = zip(*(turn.result() for turn in turns), strict=True)
            if number:  # the first round loads the models
                rates[name].append(cores * args.rows / max(clock))
                processor[name].append(sum(cpu) / (cores * args.rows))
    for pool in pools:
        pool.shutdown()
    print(
        f"Printed by `python -m benchmarks.synthesis_batch --rounds {args.rounds} --rows {args.rows}`, on {cores} "
        f"{platform.machine()} cores, torch {torch.__version__}.\n"
    )
    print("| arm | rows/s | lowest to highest | over the first arm | processor seconds per row |")
    print("| --- | --- | --- | --- | --- |")
    first = statistics.median(rates[next(iter(ARMS))])
    for name in ARMS:
        rate = statistics.median(rates[name])
        spread = f"{min(rates[name]):.2f} to {max(rates[name]):.2f}"
        print(f"| {name} | {rate:.2f} | {spread} | {rate / first:.2f} | {statistics.median(processor[name]):.3f} |")


if __name__ == "__main__":
    main()
