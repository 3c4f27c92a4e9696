"""Section `rounds-dev`: rounds of `nft` on the focus, scored on dev prompts, to choose the settings of the loop.

Compared are the weight kappa of the distance to the first model, fresh prompts against the same ones every round, and
clips without guidance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.proof.results import NOT_MEASURED, compare_results, distance, read, with_interval
from benchmarks.proof.rounds import Loop, do_loops
from benchmarks.proof.runs import DIMENSIONS, FOCUS, result_file
from benchmarks.proof.sets import build
from gigavideo_data.io.terminal import words

PROMPTS = "prompts"  # the dataset with the dev prompts of all dimensions, fixed before the first round
SET: dict[str, Any] = {
    "name": PROMPTS,
    "prompts.per_dimension": 1,  # a dataset has rows; nobody trains on these
    "prompts.variants": 1,
    "samples_per_prompt": 1,
    "captions.count": 0,
    "check.videos": 0,
    "eval_prompts.per_dimension": 100,
    "eval_prompts.seeds": 3,
}
LOOPS = (
    Loop("nft, kappa 0.1, fresh prompts", kappa=0.1, fresh=True),
    Loop("nft, kappa 0.03, fresh prompts", kappa=0.03, fresh=True),
    Loop("nft, kappa 0.1, same prompts", kappa=0.1, fresh=False),
    Loop("nft, kappa 0.1, fresh prompts, clips at guidance 1", dataset={"generators.0.guidance": 1.0}),
)


def folder(work: Path) -> Path:
    """The work folder of this section."""
    return work / "rounds-dev"


def run(work: Path, loops: tuple[Loop, ...] = LOOPS, changes: dict[str, Any] | None = None) -> None:
    """Do all rounds; the same call continues after an interruption.

    Args:
        work: folder of the proof.
        loops: to do.
        changes: of `SET`.
    """
    store = work / "store"
    build(folder(work) / PROMPTS, store, DIMENSIONS, {**SET, **(changes or {})})
    do_loops(loops, folder(work), store, PROMPTS)


def table(work: Path, loops: tuple[Loop, ...] = LOOPS) -> str:
    """One row per loop and round: gain on every dimension, the focus first."""
    here = folder(work)
    base = read(result_file(here, "dev", None))
    lines = []
    for loop in loops:
        for number in loop.numbers:
            result = read(result_file(here, "dev", loop.run(number)))
            if base and result:
                gains = [with_interval(compare_results(base, result, dimension)) for dimension in DIMENSIONS]
                cells = [loop.name, str(number), str(result["plan"]["kept"]), distance(result), *gains]
                lines.append(f"| {' | '.join(cells)} |")
    if not lines:
        return NOT_MEASURED
    head = ["loop", "round", "samples", "KID", f"**{words(FOCUS)}**", *(words(each) for each in DIMENSIONS[1:])]
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines])
