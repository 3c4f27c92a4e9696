"""The sections by name: what each does, how many hours it takes, and the pages that are written from its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from benchmarks.proof import final, hours, rounds_dev, tiny
from benchmarks.proof.rounds import Loop
from benchmarks.proof.runs import Run

ROUNDS_DEV, ROUNDS, TEST = "rounds-dev", "rounds", "test"
NAMES = (ROUNDS_DEV, *final.SECTIONS, ROUNDS, TEST)


@dataclass(frozen=True)
class Section:
    """A part of the proof that runs on its own.

    Attributes:
        hours: on all cores of this machine, of what has no result yet.
        run: does it; the same call continues after an interruption.
    """

    hours: float
    run: Callable[[], None]


def section(name: str, work: Path, *, is_tiny: bool) -> Section:
    """A section by name; `TEST` is all but `ROUNDS_DEV`."""
    if name == ROUNDS_DEV:
        return _rounds_dev(work, is_tiny=is_tiny)
    runs = [run for key, runs_of in final.SECTIONS.items() if name in (key, TEST) for run in runs_of()]
    loops = list(final.loops()) if name in (ROUNDS, TEST) else []
    return _final(work, runs, loops, is_tiny=is_tiny)


def _rounds_dev(work: Path, *, is_tiny: bool) -> Section:
    loops = tiny.loops(rounds_dev.LOOPS) if is_tiny else rounds_dev.LOOPS
    here, size = rounds_dev.folder(work), _eval_size(rounds_dev.SET)
    seconds = sum(hours.of_loop(loop, *size, here) for loop in loops) + hours.of_base(["dev"], *size, here)
    return Section(hours.hours(seconds), lambda: rounds_dev.run(work, loops, tiny.PROMPTS if is_tiny else None))


def _final(work: Path, runs: list[Run], loops: list[Loop], *, is_tiny: bool) -> Section:
    here, size = final.folder(work), _eval_size(final.SETS["all"][1])
    if is_tiny:
        runs, loops = list(map(tiny.run, runs)), list(map(tiny.loop, loops))
    views: Iterable[str] = chain(*(run.views for run in runs), *(("dev", *loop.views) for loop in loops))
    seconds = hours.of_base(views, *size, here)
    seconds += sum(hours.of_run(run, *size, here) for run in runs)
    seconds += sum(hours.of_loop(loop, *size, here) for loop in loops)
    # The clips of `focus` are among those of `all`, except those of its captions.
    if not (here / "all" / "manifest.json").exists():
        seconds += hours.of_set(final.SETS["all"][0], {**final.SHARED, **final.SETS["all"][1]})

    def run() -> None:
        final.build_sets(work, tiny.SETS if is_tiny else None)
        if runs:
            final.do_runs(work, runs)
        if loops:
            final.do_rounds(work, loops)

    return Section(hours.hours(seconds), run)


def _eval_size(values: dict[str, int]) -> tuple[int, int]:
    """Evaluation prompts of each dimension, and seeds of each."""
    return values["eval_prompts.per_dimension"], values["eval_prompts.seeds"]
