"""What `gv-data eval` measured of a round: its eval.json, and the rewards per prompt and seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gigavideo_data.scoring.bootstrap import MEANS, Scored, compare
from gigavideo_loop.state import Targets


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: the facts of eval.json, and the rewards of both judges; the second list may be empty."""

    facts: dict[str, Any]
    scored: list[Scored]
    second: list[Scored]

    @property
    def dimensions(self) -> list[str]:
        """The dimensions that have evaluation prompts."""
        return [line["dimension"] for line in self.facts["comparisons"] if line["dimension"] not in MEANS]


def read_evaluation(folder: Path) -> Evaluation:
    """Read the folder of an evaluation.

    Raises:
        OSError: a file is missing.
    """
    facts = json.loads((folder / "eval.json").read_text("utf-8"))
    rows = pq.read_table(folder / "rewards.parquet").to_pylist()
    return Evaluation(facts, _scored(rows, "base", "tuned"), _scored(rows, "second_base", "second_tuned"))


def _scored(rows: list[dict[str, Any]], base: str, tuned: str) -> list[Scored]:
    scored = [Scored(row["dimension"], row["prompt_id"], row["seed"], row[base], row[tuned]) for row in rows]
    return scored if any(one.base is not None or one.tuned is not None for one in scored) else []


def of_targets(scored: list[Scored], targets: list[str]) -> Targets:
    """The mean over the target dimensions; all None without rewards on them."""
    lines = compare(one for one in scored if one.dimension in targets)
    if not lines:
        return {"base": None, "tuned": None, "difference": None, "low": None, "high": None}
    mean = lines[-1]  # of several dimensions, their mean is the last line
    return {
        "base": mean.base,
        "tuned": mean.tuned,
        "difference": mean.difference,
        "low": mean.low,
        "high": mean.high,
    }
