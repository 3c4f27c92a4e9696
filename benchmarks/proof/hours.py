"""How long a section takes: numbers of clips and steps that are not done yet, times the seconds of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.proof.rounds import SET as ROUND_SET
from benchmarks.proof.rounds import Loop
from benchmarks.proof.runs import DIMENSIONS, FOCUS, MORE_SAMPLES, SAMPLES, Run, result_file
from benchmarks.proof.views import NUM_TUNE_PROMPTS, TUNE
from benchmarks.proof.work import missing_views

# Assumptions, on one core of an AMD EPYC; `python -m benchmarks.proof pace` prints those of another machine.
CLIP_BUILT_S = 0.24  # sampled, judged and written
CLIP_ENCODED_S = 0.05  # once, before the first training on it
CLIP_SCORED_S = 0.20
STEP_S = 0.6  # of 32 samples
STEPS_OF = {"dpo": 2.6, "reweight-online": 5.6, "backprop-online": 15.2}  # a step, in steps of the other strategies

# Combinations of each dimension (docs/miniature.md): no more prompts can be drawn.
COMBINATIONS = {
    "tune": dict(zip(DIMENSIONS, (204, 88, 101, 264, 375, 90, 35), strict=True)),
    "dev": dict(zip(DIMENSIONS, (87, 32, 45, 79, 156, 44, 13), strict=True)),
    "test": dict(zip(DIMENSIONS, (111, 51, 51, 141, 180, 57, 10), strict=True)),
}


def of_set(dimensions: Iterable[str], values: Mapping[str, Any]) -> float:
    """Core seconds of building a dataset and encoding its clips, from the values of its recipe."""
    per_prompt = values["prompts.variants"] * values["samples_per_prompt"]
    prompts = [min(values["prompts.per_dimension"], COMBINATIONS["tune"][name]) for name in dimensions]
    return (sum(prompts) * per_prompt + values["captions.count"]) * (CLIP_BUILT_S + CLIP_ENCODED_S)


def of_run(run: Run, per_dimension: int, seeds: int, work: Path) -> float:
    """Core seconds of training a run and scoring its missing views.

    Args:
        run: with all its settings.
        per_dimension: evaluation prompts of each dimension.
        seeds: of each evaluation prompt.
        work: folder with the results.
    """
    views = missing_views(run, work)
    return (_training(run) if views else 0.0) + sum(_scoring(run, view, per_dimension, seeds) for view in views)


def of_base(views: Iterable[str], per_dimension: int, seeds: int, work: Path) -> float:
    """Core seconds of scoring the untuned base on the views where it is missing."""
    everything = Run("base", "base", DIMENSIONS)
    missing = [view for view in dict.fromkeys(views) if not result_file(work, view, None).exists()]
    return sum(_scoring(everything, view, per_dimension, seeds) for view in missing)


def of_loop(loop: Loop, per_dimension: int, seeds: int, work: Path) -> float:
    """Core seconds of the rounds of a loop that have no result yet, and of its missing views."""
    missing = [run for number in loop.numbers if missing_views(run := loop.run(number), work)]
    rounds = sum(of_set([FOCUS], ROUND_SET) + of_run(run, per_dimension, seeds, work) for run in missing)
    return rounds + sum(_scoring(loop.best, view, per_dimension, seeds) for view in missing_views(loop.best, work))


def hours(core_seconds: float) -> float:
    """Hours on all cores of this machine."""
    return core_seconds / 3600 / len(os.sched_getaffinity(0))


def _training(run: Run) -> float:
    clips = sum(_clips(name, run.samples) for name in run.dimensions)
    steps = run.steps or run.epochs * clips / dict(run.settings)["batch_size"]
    return steps * STEP_S * STEPS_OF.get(run.strategy, 1.0)


def _clips(dimension: str, samples: int | None) -> int:
    return COMBINATIONS["tune"][dimension] * 3 * (samples or SAMPLES.get(dimension, MORE_SAMPLES))


def _scoring(run: Run, view: str, per_dimension: int, seeds: int) -> float:
    if view == TUNE:
        return NUM_TUNE_PROMPTS * seeds * CLIP_SCORED_S
    available = COMBINATIONS["dev" if view == "dev" else "test"]
    prompts = {name: min(per_dimension, number) for name, number in available.items()}
    trained = sum(prompts[name] for name in run.dimensions) * seeds
    return (trained + sum(min(run.others, prompts[n]) for n in DIMENSIONS if n not in run.dimensions)) * CLIP_SCORED_S
