"""One training run of the proof, and the rows that it sees. The runs themselves are listed in `arms` and `final`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.rows import DatasetRow, RewardEntry
from gigavideo_data.scoring.rewards import row_outcome

FOCUS = "motion_order_understanding"
DIMENSIONS = (
    FOCUS,
    "instance_preservation",
    "dynamic_attribute",
    "dynamic_spatial_relationship",
    "composition",
    "camera_motion",
    "mechanics",
)

# Samples of each variant of a prompt; the dimensions with few combinations get more.
SAMPLES = {FOCUS: 2, "dynamic_spatial_relationship": 2, "composition": 2}
MORE_SAMPLES = 4

# The settings of all runs, where nothing else is written. They were chosen on the dev prompts.
LR, STEPS = 3e-4, 160
BUDGET = (("batch_size", 32), ("ema", 0.95), ("decay", "linear"))

ALL = ("synthetic", "twin", "real")
SYNTHETIC = ("synthetic",)
FEW_OTHERS, MANY_OTHERS = 16, 50  # prompts of each untrained dimension


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        table, name: its place in the results.
        dimensions: the trained ones; only synthetic rows written for them are used.
        seed: of training, and of the draws for `corrupted` and `prompts`.
        data: the dataset.
        strategy: of the trainer.
        sources: kinds of rows used.
        corrupted: share of the rewards exchanged among each other, within a dimension.
        samples: samples used of each variant of a prompt; None is the number of `SAMPLES` and `MORE_SAMPLES`.
        prompts: number of base prompts, drawn at random, whose rows are used; None is all.
        own_data: only the base's own training clips, each with reward 1.
        distils: all advantages of `nft` are 0, so that the loss only holds the model where it is.
        lr: learning rate.
        steps: optimizer steps; None if `epochs` decides.
        epochs: passes over the kept samples.
        settings: further settings of the trainer.
        others: number of prompts of each untrained dimension that are scored too, one seed each.
        views: what the tuned model is scored on, keys of `views.VIEWS`.
    """

    table: str
    name: str
    dimensions: tuple[str, ...]
    seed: int = 0
    data: str = "focus"
    strategy: str = "nft"
    sources: tuple[str, ...] = ALL
    corrupted: float = 0.0
    samples: int | None = None
    prompts: int | None = None
    own_data: bool = False
    distils: bool = False
    lr: float = LR
    steps: int | None = STEPS
    epochs: int = 10_000
    settings: tuple[tuple[str, Any], ...] = BUDGET
    others: int = FEW_OTHERS
    views: tuple[str, ...] = ("test",)

    @property
    def key(self) -> str:
        """The name of its files."""
        return file_name(self.table, self.name, str(self.seed))


def file_name(*words: str) -> str:
    """Words as the name of a file."""
    text = " ".join(words).lower()
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in text).split())


def result_file(work: Path, view: str, run: Run | None) -> Path:
    """The file with the rewards of a tuned model, or of the untuned base, on one view."""
    return work / "results" / view / f"{run.key if run else 'base'}.json"


def rows_for(run: Run, rows: list[DatasetRow]) -> list[DatasetRow]:
    """The rows that a run uses, of all rows, changed as it says."""
    if run.own_data:
        return [_worth_one(row, run.dimensions[0]) for row in rows if row["source"] == "real"]
    seen = [r for r in rows if r["source"] in run.sources]
    seen = [r for r in seen if r["source"] != "synthetic" or _is_used(r, run)]
    if run.prompts is not None:
        names = sorted({row["prompt_id"] for row in seen})
        drawn = set(random.Random(f"{run.seed}").sample(names, min(run.prompts, len(names))))
        seen = [row for row in seen if row["prompt_id"] in drawn]
    return corrupt(seen, run.corrupted, run.seed) if run.corrupted else seen


def _is_used(row: DatasetRow, run: Run) -> bool:
    dimension = row["dimension"] or ""
    return dimension in run.dimensions and row["sample"] < (run.samples or SAMPLES.get(dimension, MORE_SAMPLES))


def corrupt(rows: list[DatasetRow], share: float, seed: int) -> list[DatasetRow]:
    """Exchange a share of the rewards among each other, in each dimension; the others stay."""
    rng = random.Random(f"{seed} {share}")
    made = [row | {"rewards": [reward.copy() for reward in row["rewards"]]} for row in rows]
    rewards = [reward for row in made for reward in row["rewards"] if reward["value"] is not None]
    for dimension in sorted({reward["dimension"] for reward in rewards}):
        mine = [reward for reward in rewards if reward["dimension"] == dimension]
        chosen = rng.sample(mine, round(share * len(mine)))
        values = [reward["value"] for reward in chosen]
        rng.shuffle(values)
        for reward, value in zip(chosen, values, strict=True):
            reward["value"] = value
    return [row | {"reward": row_outcome(row["rewards"], row["dimension"], _scored_on(row)).value} for row in made]


def _scored_on(row: DatasetRow) -> set[str]:
    return {reward["dimension"] for reward in row["rewards"]}


def _worth_one(row: DatasetRow, dimension: str) -> DatasetRow:
    reward: RewardEntry = {"dimension": dimension, "value": 1.0, "status": "scored", "reason": None}
    return {**row, "source": "synthetic", "pair_id": None, "dimension": dimension, "rewards": [reward], "reward": 1.0}
