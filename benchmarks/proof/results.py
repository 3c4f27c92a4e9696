"""What the result files say: gains, contrasts between kinds of training, and tables of them as Markdown."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proof.runs import Run, result_file
from gigavideo_data.io.terminal import words
from gigavideo_data.scoring.bootstrap import Comparison, Scored, compare

NOT_MEASURED = "Not measured."

Rewards = dict[tuple[str, str, int], float | None]  # (dimension, prompt, seed of the video) -> reward
Kind = tuple[str, str]  # table and name of a run, without its seed


@dataclass(frozen=True)
class Trained:
    """The result of one run."""

    run: Run
    plan: dict[str, Any]
    rewards: Rewards
    distance: str


@dataclass(frozen=True)
class Contrast:
    """A comparison of two kinds of training on the same prompts and seeds: over prompts, and for each training seed."""

    prompts: Comparison
    by_seed: list[float]

    @property
    def spread(self) -> float | None:
        """Standard deviation over training seeds."""
        return statistics.stdev(self.by_seed) if len(self.by_seed) > 1 else None

    @property
    def verdict(self) -> str:
        """Above or below 0 if the interval over prompts and every training seed are; noise otherwise."""
        low, high = self.prompts.low, self.prompts.high
        if low is not None and low > 0 and min(self.by_seed) > 0:
            return "above"
        if high is not None and high < 0 and max(self.by_seed) < 0:
            return "below"
        return "noise"


class Results:
    """The result files of one view that are there.

    Attributes:
        kinds: all kinds of training, in the order of the runs, with results or not.
        base: rewards of the untuned base; empty if it has not been scored.
        by_name: the results of all training seeds of a kind of training.
        refused: kinds of training that had nothing to train on, with the reason.
    """

    def __init__(self, work: Path, view: str, runs: Iterable[Run]) -> None:
        runs = list(runs)
        self.kinds: list[Kind] = list(dict.fromkeys((run.table, run.name) for run in runs))
        base = read(result_file(work, view, None))
        self.base: Rewards = rewards_of(base) if base else {}
        self.by_name: dict[Kind, list[Trained]] = defaultdict(list)
        self.refused: dict[Kind, str] = {}
        for run in runs:
            found = read(result_file(work, view, run)) if self.base else None
            if found and "refused" in found:
                self.refused[run.table, run.name] = found["refused"]
            elif found:
                self.by_name[run.table, run.name].append(
                    Trained(run, found["plan"], rewards_of(found), distance(found))
                )

    def gain(self, kind: Kind, dimensions: Iterable[str] | None = None) -> Contrast | None:
        """Tuned model against base, on the trained dimensions or on those given; None if not measured."""
        mine = self.by_name.get(kind)
        if not mine:
            return None
        return _contrast([(self.base, one.rewards) for one in mine], set(dimensions or mine[0].run.dimensions))

    def others(self, kind: Kind) -> list[Comparison]:
        """The dimensions that were not trained, one comparison each and their mean; all training seeds together."""
        mine = self.by_name.get(kind, [])
        return compare(
            Scored(*key, self.base[key], one.rewards[key])
            for one in mine
            for key in one.rewards
            if key[0] not in one.run.dimensions
        )

    def against(self, one: Kind, other: Kind, dimension: str) -> Contrast | None:
        """One kind of training against another, for the training seeds that both have; None if not measured."""
        first, second = ({each.run.seed: each.rewards for each in self.by_name.get(kind, ())} for kind in (one, other))
        seeds = sorted(first.keys() & second.keys())
        return _contrast([(second[seed], first[seed]) for seed in seeds], {dimension}) if seeds else None


def read(file: Path) -> dict[str, Any] | None:
    """A result file; None if it is not there."""
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def rewards_of(result: dict[str, Any]) -> Rewards:
    """The rewards of a result file."""
    return {(r["dimension"], r["prompt_id"], r["seed"]): r["reward"] for r in result["rewards"]}


def distance(result: dict[str, Any]) -> str:
    """KID of base and tuned model to rendered clips in one cell, and whether the tuned one is within its margin."""
    realism = result.get("realism")
    if realism is None or realism["tuned"]["value"] is None:
        return "-"
    return f"{realism['base']['value']:.2f} to {realism['tuned']['value']:.2f}, {realism['verdict']}"


def compare_results(one: dict[str, Any], other: dict[str, Any], dimension: str | None = None) -> Comparison:
    """The rewards of a result file less those of another, same prompts and seeds; of one dimension, or of the mean."""
    before, after = rewards_of(one), rewards_of(other)
    return compare(Scored(*key, before[key], after[key]) for key in after if dimension in (None, key[0]))[-1]


def _contrast(pairs: list[tuple[Rewards, Rewards]], dimensions: set[str]) -> Contrast:
    def scored(pair: tuple[Rewards, Rewards]) -> list[Scored]:
        base, tuned = pair
        return [Scored(*key, base[key], tuned[key]) for key in tuned if key[0] in dimensions and key in base]

    def whole(these: list[Scored]) -> Comparison:
        return compare(these)[-1]  # the mean over dimensions, where there are several

    by_seed = [whole(scored(pair)).difference for pair in pairs]
    together = whole([one for pair in pairs for one in scored(pair)])
    return Contrast(together, [difference for difference in by_seed if difference is not None])


# --- text ------------------------------------------------------------------------------------------------------------

OVER = "95 % over prompts"
COLUMNS = ("samples", "steps", "base", "tuned", "gain", OVER, "SD over seeds", "others", OVER, "KID")
HEAD = [f"| | {' | '.join(COLUMNS)} |", f"| --- |{' --- |' * len(COLUMNS)}"]


def table(results: Results, kinds: Iterable[Kind]) -> str:
    """One row per kind of training: samples, gain, and its uncertainty; a sentence if none is measured."""
    lines = []
    for kind in kinds:
        label = label_of(kind)
        if kind in results.refused:
            lines.append(f"| {label} | 0 | - | - | - | - | nothing to train on | - | - | - | - |")
        gain = results.gain(kind)
        if gain is None:
            continue
        mine, others = results.by_name[kind], results.others(kind)
        facts = ["/".join(dict.fromkeys(str(one.plan.get(name, "-")) for one in mine)) for name in ("kept", "steps")]
        spread = "-" if gain.spread is None else f"{gain.spread:.3f}"
        cells = [label, *facts, *numbers(gain.prompts), spread, *(numbers(others[-1])[2:] if others else ("-", "-"))]
        cells.append("; ".join(dict.fromkeys(one.distance for one in mine)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*HEAD, *lines]) if lines else NOT_MEASURED


def label_of(kind: Kind) -> str:
    """The name of a kind of training in tables."""
    return kind[1] if " " in kind[1] else words(kind[1])  # P_s keeps its underscore


def numbers(over: Comparison) -> list[str]:
    """Mean rewards of base and tuned model, their difference, and its interval."""
    if over.difference is None:
        return ["-", "-", "-", "-"]
    return [f"{over.base:.3f}", f"{over.tuned:.3f}", f"{over.difference:+z.3f}", interval(over)]


def interval(over: Comparison) -> str:
    """The 95 % interval of a difference over prompts."""
    return "-" if over.low is None else f"{over.low:+z.3f} to {over.high:+z.3f}"


def with_interval(over: Comparison) -> str:
    """A difference and its interval in one cell."""
    return "-" if over.difference is None else f"{over.difference:+z.3f} ({interval(over)})"
