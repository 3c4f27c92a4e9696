"""One round of training per dimension, scored on dev prompts: each strategy with a control whose rewards are shuffled.

Each dimension has its own work folder with its own dataset. No test prompt is scored here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.proof.runs import BUDGET, FOCUS, MORE_SAMPLES, SAMPLES, Run
from benchmarks.proof.sets import COMMON, build
from benchmarks.proof.work import do_all

STRATEGIES = ("sft-filtered", "reweight", "nft")
SHUFFLED = ", rewards shuffled"

SET = {**COMMON, "captions.count": 0, "eval_prompts.per_dimension": 100, "eval_prompts.seeds": 3}
DATASET, UNGUIDED = "set", "set-unguided"  # clips sampled with the default guidance, and with guidance 1
GUIDANCE = 3.0  # of the miniature's sampler

SETTINGS = (*BUDGET, ("latents", "encoded"))  # own ones are among the changes

# One setting at a time in place of that of the arms.
CHANGES: dict[str, tuple[tuple[str, Any], ...]] = {
    "sft-filtered": (("lr", 1e-4), ("max_steps", 320), ("latents", "own")),
    "reweight": (
        ("lr", 1e-4),
        ("batch_size", 16),
        ("max_steps", 320),
        ("ema", "null"),
        ("prompt_dropout", 0.1),
        ("latents", "own"),
    ),
    "nft": (
        ("lr", 1e-4),
        ("batch_size", 16),
        ("max_steps", 320),
        ("ema", "null"),
        ("nft_beta", 0.1),
        ("nft_beta", 1.0),
        ("group_by", "prompt"),
        ("prompt_dropout", 0.1),
        ("latents", "own"),
    ),
}


def arms(dimension: str) -> Iterator[Run]:
    """The runs of one dimension."""
    for strategy in STRATEGIES:
        for label, corrupted in (("", 0.0), (SHUFFLED, 1.0)):
            yield _run("arms", strategy + label, dimension, strategy=strategy, corrupted=corrupted)


def setting_arms() -> Iterator[Run]:
    """Other settings on the focus."""
    for strategy, changes in CHANGES.items():
        for key, value in changes:
            settings = tuple((dict(SETTINGS) | {key: value}).items())
            yield _run("settings", f"{strategy}, {key} {value}", FOCUS, strategy=strategy, settings=settings)


def guidance_arms() -> Iterator[Run]:
    """Three ways to treat guidance, on the focus: the plain loss, clips without guidance, and guidance in the loss."""
    for strategy in ("sft", "reweight", "nft"):
        yield _run("guidance", f"{strategy}, plain", FOCUS, strategy=strategy)
        yield _run("guidance", f"{strategy}, clips at guidance 1", FOCUS, strategy=strategy, data=UNGUIDED)
        guided = (*SETTINGS, ("loss_guidance", GUIDANCE))
        yield _run("guidance", f"{strategy}, guidance in the loss", FOCUS, strategy=strategy, settings=guided)


def _run(table: str, name: str, dimension: str, **changes: Any) -> Run:
    common: dict[str, Any] = {"data": DATASET, "settings": SETTINGS, "others": 0, "views": ("dev",)}
    return Run(table, name, (dimension,), **(common | changes))


def folder(work: Path, dimension: str) -> Path:
    """The work folder of a dimension."""
    return work / "dev" / dimension


def run_arms(work: Path, dimensions: Sequence[str]) -> None:
    """Build the dataset of each dimension, then train and score; the same call continues after an interruption."""
    for dimension in dimensions:
        _build(work, dimension, DATASET)
        do_all(list(arms(dimension)), folder(work, dimension), DATASET)


def run_setting_arms(work: Path) -> None:
    """The comparison of `setting_arms`."""
    _build(work, FOCUS, DATASET)
    do_all(list(setting_arms()), folder(work, FOCUS), DATASET)


def run_guidance_arms(work: Path) -> None:
    """The comparison of `guidance_arms`."""
    _build(work, FOCUS, DATASET)
    _build(work, FOCUS, UNGUIDED, {"generators.0.guidance": 1.0})
    do_all(list(guidance_arms()), folder(work, FOCUS), DATASET)


def _build(work: Path, dimension: str, name: str, changes: dict[str, Any] | None = None) -> None:
    settings = {"name": name, "samples_per_prompt": SAMPLES.get(dimension, MORE_SAMPLES), **SET, **(changes or {})}
    build(folder(work, dimension) / name, work / "store", [dimension], settings)
