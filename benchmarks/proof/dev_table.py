"""The results of `arms` as Markdown: gain, signal and drift of each strategy, from the result files alone.

gain = signal + drift. Signal: training on the rewards less training on shuffled rewards. Drift: training on shuffled
rewards less the base, so what training changes without any information about quality.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.proof.arms import SHUFFLED, STRATEGIES, arms, folder
from benchmarks.proof.runs import FOCUS, Run, result_file
from benchmarks.proof.tell import Rewards, interval, rewards_of
from gigavideo_data.io.terminal import words
from gigavideo_data.scoring.bootstrap import Comparison, Scored, compare


def table(work: Path, dimensions: Sequence[str]) -> str:
    """One row per dimension and strategy; dimensions without results are left out."""
    lines = [
        "| dimension | strategy | samples | base | tuned | gain | signal | drift |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for dimension in dimensions:
        here = folder(work, dimension)
        found = {run.name: _found(here, run) for run in arms(dimension)}
        base = _found(here, None)
        if base is None or None in found.values():
            continue
        for strategy in STRATEGIES:
            lines.append(_row(dimension, strategy, base, found[strategy], found[strategy + SHUFFLED]))
    return "\n".join(lines)


def table_of(work: Path, runs: Iterable[Run]) -> str:
    """One row per run on the focus; a sentence before all are done."""
    here = folder(work, FOCUS)
    base, found = _found(here, None), {run.name: _found(here, run) for run in runs}
    if base is None or None in found.values():
        return "Not measured."
    lines = ["| strategy | samples | base | tuned | gain |", "| --- | --- | --- | --- | --- |"]
    for name, result in found.items():
        assert result is not None
        gain = _difference(base, result)
        cells = [name, str(result["plan"]["kept"]), f"{gain.base:.3f}", f"{gain.tuned:.3f}", _with_interval(gain)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(work: Path) -> str:
    """Whether `nft` learned from its rewards on the focus."""
    here = folder(work, FOCUS)
    found = {run.name: _found(here, run) for run in arms(FOCUS)}
    real, shuffled = found["nft"], found["nft" + SHUFFLED]
    if real is None or shuffled is None:
        return f"Not measured on {words(FOCUS)}."
    signal = _difference(shuffled, real)
    above = signal.low is not None and signal.low > 0
    result = "above zero" if above else "not above zero"
    return (
        f"On {words(FOCUS)}, `nft` less its control with shuffled rewards, paired per prompt: "
        f"{_with_interval(signal)}, which is {result}."
    )


def _found(here: Path, run: Run | None) -> dict[str, Any] | None:
    file = result_file(here, "dev", run)
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def _row(
    dimension: str, strategy: str, base: dict[str, Any], real: dict[str, Any] | None, shuffled: dict[str, Any] | None
) -> str:
    assert real is not None
    assert shuffled is not None
    if "refused" in real or "refused" in shuffled:
        return f"| {words(dimension)} | {strategy} | 0 | - | - | nothing to train on | - | - |"
    gain = _difference(base, real)
    cells = [words(dimension), strategy, str(real["plan"]["kept"]), f"{gain.base:.3f}", f"{gain.tuned:.3f}"]
    cells += [_with_interval(each) for each in (gain, _difference(shuffled, real), _difference(base, shuffled))]
    return f"| {' | '.join(cells)} |"


def _difference(one: dict[str, Any], other: dict[str, Any]) -> Comparison:
    """The rewards of `other` less those of `one`, on the same prompts and seeds."""
    before: Rewards = rewards_of(one)
    after: Rewards = rewards_of(other)
    return compare(Scored(*key, before[key], after[key]) for key in after)[-1]


def _with_interval(over: Comparison) -> str:
    return f"{over.difference:+z.3f} ({interval(over)})"
