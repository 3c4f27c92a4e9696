"""The results of `arms` as Markdown: gain, signal and drift of each strategy, from the result files alone.

gain = signal + drift. Signal: training on the rewards less training on shuffled rewards. Drift: training on shuffled
rewards less the base, so what training changes without any information about quality.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.proof.arms import SHUFFLED, STRATEGIES, arms, folder
from benchmarks.proof.results import NOT_MEASURED, compare_results, distance, read, with_interval
from benchmarks.proof.runs import FOCUS, Run, result_file
from gigavideo_data.io.terminal import words


def table(work: Path, dimensions: Sequence[str]) -> str:
    """One row per dimension and strategy; dimensions without results are left out."""
    lines = [
        "| dimension | strategy | samples | base | tuned | gain | signal | drift | KID |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
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
    """One row per run on the focus that is done, and a sentence on the others."""
    here = folder(work, FOCUS)
    base, found = _found(here, None), {run.name: _found(here, run) for run in runs}
    missing = [name for name, result in found.items() if result is None]
    if base is None or len(missing) == len(found):
        return NOT_MEASURED
    lines = ["| strategy | samples | base | tuned | gain | KID |", "| --- | --- | --- | --- | --- | --- |"]
    for name, result in found.items():
        if result is None:
            continue
        gain = compare_results(base, result)
        cells = [
            name,
            str(result["plan"]["kept"]),
            f"{gain.base:.3f}",
            f"{gain.tuned:.3f}",
            with_interval(gain),
            distance(result),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Not measured: {'; '.join(missing)}."] if missing else []
    return "\n".join(lines)


def verdict(work: Path) -> str:
    """Whether `nft` learned from its rewards on the focus."""
    here = folder(work, FOCUS)
    found = {run.name: _found(here, run) for run in arms(FOCUS)}
    real, shuffled = found["nft"], found["nft" + SHUFFLED]
    if real is None or shuffled is None:
        return f"Not measured on {words(FOCUS)}."
    signal = compare_results(shuffled, real)
    above = signal.low is not None and signal.low > 0
    result = "above zero" if above else "not above zero"
    return (
        f"On {words(FOCUS)}, `nft` less its control with shuffled rewards, paired per prompt: "
        f"{with_interval(signal)}, which is {result}."
    )


def _found(here: Path, run: Run | None) -> dict[str, Any] | None:
    return read(result_file(here, "dev", run))


def _row(
    dimension: str, strategy: str, base: dict[str, Any], real: dict[str, Any] | None, shuffled: dict[str, Any] | None
) -> str:
    assert real is not None
    assert shuffled is not None
    if "refused" in real or "refused" in shuffled:
        return f"| {words(dimension)} | {strategy} | 0 | - | - | nothing to train on | - | - | - |"
    gain = compare_results(base, real)
    cells = [words(dimension), strategy, str(real["plan"]["kept"]), f"{gain.base:.3f}", f"{gain.tuned:.3f}"]
    cells += [with_interval(each) for each in (gain, compare_results(shuffled, real), compare_results(base, shuffled))]
    cells.append(distance(real))
    return f"| {' | '.join(cells)} |"
