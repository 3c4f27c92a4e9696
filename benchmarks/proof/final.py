"""Sections of the proof on test prompts, which are scored once: every training run and every loop. Literal tables.

The settings are those of `runs` and `rounds`, chosen on dev prompts. `nft` and its control with shuffled rewards have
three training seeds on the focus; everything else has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.proof.arms import SHUFFLED
from benchmarks.proof.rounds import Loop, do_loops
from benchmarks.proof.runs import (
    BUDGET,
    DIMENSIONS,
    FOCUS,
    MANY_OTHERS,
    MORE_SAMPLES,
    SAMPLES,
    STEPS,
    SYNTHETIC,
    Run,
)
from benchmarks.proof.sets import COMMON, build
from benchmarks.proof.work import do_all
from gigavideo_data.io.terminal import words

SEEDS = (0, 1, 2)
JOINT = (FOCUS, "instance_preservation")  # of table 4
VIEWS = ("test", "dev", "tune", "guidance 1")  # of `nft`, its control, and the loops
NUM_ROUNDS = 5

# The datasets. `all` also holds the evaluation prompts of every section.
SETS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # name -> dimensions, values of the recipe
    "all": (
        DIMENSIONS,
        {
            "samples_per_prompt": MORE_SAMPLES,
            "eval_prompts.per_dimension": 120,  # all test combinations of the focus
            "eval_prompts.seeds": 4,
        },
    ),
    # Its captions are of clips with questions on the focus.
    "focus": ((FOCUS,), {"samples_per_prompt": SAMPLES[FOCUS], "eval_prompts.per_dimension": 0}),
}
SHARED = {**COMMON, "captions.count": 160}

DATA_ARMS = {  # table 2, in the paper's words; all three kinds of rows are `reweight` of table 3
    "P_s V_s": SYNTHETIC,
    "P_r V_s": ("twin",),
    "P_s V_s + P_r V_s": ("synthetic", "twin"),
    "P_r V_s + P_r V_r": ("twin", "real"),
}
OFFLINE = ("sft", "sft-filtered", "reweight", "dpo", "nft")  # table 3
ONLINE = ("reweight-online", "backprop-online")  # at equal steps only: a step takes many times as long
EPOCHS = 4  # of table 3's second half
CORRUPTED = (0.1, 0.2, 0.3, 0.4, 0.5)
CLIPS = (1, 2, 3, 4)  # of each variant; a group has three variants
KEPT = (12, 25, 51, 102)  # base prompts

NFT = ("method", "nft, one round")
CONTROL = ("method", "nft, one round" + SHUFFLED)
REWEIGHT = ("strategies", "reweight")


def method() -> Iterator[Run]:
    """One round of `nft` on the focus, and the same with shuffled rewards."""
    for seed in SEEDS:
        for (table, name), corrupted in ((NFT, 0.0), (CONTROL, 1.0)):
            yield Run(
                table, name, (FOCUS,), seed, sources=SYNTHETIC, corrupted=corrupted, others=MANY_OTHERS, views=VIEWS
            )


def alone() -> Iterator[Run]:
    """Table 1: `nft` on each other dimension alone, and the same with shuffled rewards."""
    for dimension in DIMENSIONS[1:]:
        for label, corrupted in (("", 0.0), (SHUFFLED, 1.0)):
            name = words(dimension) + label
            yield Run("alone", name, (dimension,), data="all", sources=SYNTHETIC, corrupted=corrupted)


def data() -> Iterator[Run]:
    """Table 2: kinds of rows, with `reweight`, the paper's strategy."""
    for name, sources in DATA_ARMS.items():
        yield Run("data", name, (FOCUS,), strategy="reweight", sources=sources)


def strategies() -> Iterator[Run]:
    """Table 3: strategies on all rows of one dataset, at equal steps and at equal epochs."""
    for strategy in (*OFFLINE, *ONLINE):
        yield Run("strategies", strategy, (FOCUS,), strategy=strategy)
    for strategy in OFFLINE:
        name = f"{strategy}, {EPOCHS} epochs"
        yield Run("strategies", name, (FOCUS,), strategy=strategy, steps=None, epochs=EPOCHS)


def jointly() -> Iterator[Run]:
    """Table 4: two dimensions and all of them, each with as many clips and passes as when it is trained alone."""
    for dimension in JOINT:
        yield Run("jointly", f"reweight, {words(dimension)} alone", (dimension,), data="all", strategy="reweight")
    for label, dimensions in (("two dimensions", JOINT), ("all dimensions", DIMENSIONS)):
        steps = STEPS * len(dimensions)
        yield Run("jointly", f"reweight, {label}", dimensions, data="all", strategy="reweight", steps=steps)
        yield Run(
            "jointly",
            f"reweight, {label}, joint reward",
            dimensions,
            data="all",
            strategy="reweight",
            steps=steps,
            settings=(*BUDGET, ("reward", "mean")),
        )
        yield Run("jointly", f"nft, {label}", dimensions, data="all", sources=SYNTHETIC, steps=steps)


def controls() -> Iterator[Run]:
    """Training without rewards: on the base's own training clips, and of `nft` with every advantage 0."""
    # From `all`, which has the base's whole mixture; `focus` has only clips with questions on its dimension.
    yield Run("controls", "continued base training", (FOCUS,), data="all", strategy="sft", own_data=True)
    yield Run("controls", "self-distillation", (FOCUS,), sources=SYNTHETIC, distils=True)


def curves() -> Iterator[Run]:
    """`nft` with corrupted rewards, with fewer and more clips per group, and with fewer kept rows."""
    for share in CORRUPTED:
        yield Run("corrupted", f"{share:.0%}", (FOCUS,), sources=SYNTHETIC, corrupted=share, others=0)
    for samples in CLIPS:
        yield Run("clips", f"{3 * samples}", (FOCUS,), data="all", sources=SYNTHETIC, samples=samples, others=0)
    for prompts in KEPT:
        yield Run("kept", f"{prompts} prompts", (FOCUS,), sources=SYNTHETIC, prompts=prompts, others=0)


def loops() -> Iterator[Loop]:
    """Rounds of `nft`, of the same with shuffled rewards, and of `reweight`."""
    for seed in SEEDS:
        for label, corrupted in (("", 0.0), (SHUFFLED, 1.0)):
            yield Loop("nft" + label, seed=seed, corrupted=corrupted, num_rounds=NUM_ROUNDS, views=VIEWS)
    yield Loop("reweight", strategy="reweight", num_rounds=NUM_ROUNDS, views=VIEWS)


ROUNDS, ROUNDS_CONTROL, ROUNDS_REWEIGHT = dict.fromkeys((each.best.table, each.best.name) for each in loops())

SECTIONS = {
    "method": method,
    "alone": alone,
    "data": data,
    "strategies": strategies,
    "jointly": jointly,
    "controls": controls,
    "curves": curves,
}


def folder(work: Path) -> Path:
    """The work folder of these sections."""
    return work / "test"


def build_sets(work: Path, changes: dict[str, Any] | None = None) -> None:
    """Build the datasets; `changes` replaces values of both."""
    for name, (dimensions, values) in SETS.items():
        settings = {"name": name, **SHARED, **values, **(changes or {})}
        build(folder(work) / name, work / "store", dimensions, settings)


def do_runs(work: Path, runs: Iterable[Run]) -> None:
    """Do the runs that have no result yet."""
    do_all(list(runs), folder(work), "all")


def do_rounds(work: Path, these: Iterable[Loop]) -> None:
    """Do the loops that have no result yet."""
    do_loops(list(these), folder(work), work / "store", "all")
