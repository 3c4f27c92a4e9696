"""The comparisons of a loop by dimension and round, and the sentences at the top of its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from gigavideo_data.scoring import bootstrap

MEAN_OF_TARGETS: Final = "mean of the targets"
COLUMNS: Final = ["dimension", "prompt_id", "seed", "base", "tuned"]

Comparison = dict[str, Any]  # one dimension of one round, as in eval.json
Lines = dict[str, list[Comparison | None]]  # by dimension; one entry per round, None where the round has none


def by_dimension(rounds: list[dict[str, Any]], targets: list[str]) -> Lines:
    """Comparisons of all rounds by dimension: first the targets, then the others, and the mean of all as the last.

    Args:
        rounds: each with the list `comparisons`.
        targets: names of dimensions.
    """
    found = [{line["dimension"]: line for line in each["comparisons"]} for each in rounds]
    present = dict.fromkeys(name for lines in found for name in lines)
    order = [name for name in targets if name in present] + [n for n in present if n not in (*targets, "mean")]
    order += ["mean"] if "mean" in present else []
    return {name: [lines.get(name) for lines in found] for name in order}


def mean_of_targets(out: Path, rounds: list[dict[str, Any]], targets: list[str]) -> list[Comparison | None]:
    """Compare the mean over the targets, with its interval, in each round; from the rewards that the evaluation wrote.

    Returns:
        One comparison per round; None where the folder of the evaluation has no rewards of a target.
    """
    means: list[Comparison | None] = []
    for each in rounds:
        file = out / each["eval"] / "rewards.parquet"
        rows = pq.read_table(file, columns=COLUMNS).to_pylist() if file.is_file() else []
        scored = [bootstrap.Scored(**row) for row in rows if row["dimension"] in targets]
        means.append(bootstrap.facts(bootstrap.compare(scored))[-1] if scored else None)
    return means


def verdict(loop: dict[str, Any], targets: list[Comparison | None]) -> str:
    """Say which round is best and by how much, or that none is above the base.

    Args:
        loop: loop.json.
        targets: the comparison of the mean over the targets in each round.
    """
    rounds, base = loop["rounds"], loop["base"]["dev_mean"]
    if not rounds:
        return "No round is finished."
    if loop["best"] is None:
        means = [(each["dev_mean"], each["number"]) for each in rounds if each["dev_mean"] is not None]
        if not means or base is None:
            return "No round is above the base: the dev mean of the targets could not be computed."
        mean, number = max(means)
        return (
            f"No round is above the base: the highest dev mean of the targets is {mean:.3f} (round {number}), "
            f"that of the base {base:.3f}."
        )
    at = [each["number"] for each in rounds].index(loop["best"])
    change = targets[at] or {"difference": rounds[at]["dev_mean"] - base, "low": None}
    if change["low"] is None:
        interval, remark = "without an interval", ""
    else:
        interval = f"95 % interval {change['low']:+z.3f} to {change['high']:+z.3f}"
        remark = " The interval contains zero: the gain is not significant." if change["low"] <= 0 else ""
    mean = rounds[at]["dev_mean"]
    return (
        f"Round {loop['best']} is best: the dev mean of the targets is {mean:.3f} with its model and {base:.3f} with "
        f"the base, a difference of {change['difference']:+z.3f} ({interval}).{remark}"
    )


def progress(loop: dict[str, Any]) -> str:
    """Say where the loop stands: stopped and why, finished, or not finished."""
    done, planned, stopped = len(loop["rounds"]), loop["rounds_planned"], loop["stopped"]
    if stopped:
        guard, detail = stopped["guard"], stopped["detail"]
        return f"The loop stopped after round {stopped['round']} of {planned}, by the guard “{guard}”: {detail}"
    if done < planned:
        return f"{done} of {planned} rounds are finished: the loop is still running, or was interrupted."
    return f"All {planned} rounds are finished; no guard stopped the loop."
