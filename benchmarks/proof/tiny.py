"""The sections at a size that only checks the code: a few prompts and steps. Its numbers mean nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.proof.rounds import Loop
from benchmarks.proof.runs import Run

PROMPTS = {"eval_prompts.per_dimension": 2, "eval_prompts.seeds": 1}  # of the dataset with the evaluation prompts
SETS: dict[str, Any] = {"prompts.per_dimension": 2, "captions.count": 4, "eval_prompts.per_dimension": 2}


def run(full: Run) -> Run:
    """A run of two steps."""
    return replace(full, steps=2, epochs=10_000, others=min(full.others, 1))


def loop(full: Loop) -> Loop:
    """Two rounds of two steps on two prompts."""
    return replace(full, num_rounds=2, steps=2, others=1, dataset={"prompts.per_dimension": 2})


def loops(full: tuple[Loop, ...]) -> tuple[Loop, ...]:
    """One loop with fresh prompts and one with the same prompts in every round."""
    by_kind = {each.fresh: each for each in reversed(full)}
    return tuple(map(loop, by_kind.values()))
