"""The comparisons of a loop by dimension and round, and the sentences at the top of its page."""

from __future__ import annotations

from typing import Any, Final

from gigavideo_data.scoring.bootstrap import MEANS

MEAN_OF_TARGETS: Final = "mean of the targets"

Comparison = dict[str, Any]  # one dimension of one round, as in eval.json
Lines = dict[str, list[Comparison | None]]  # by dimension; one entry per round, None where the round has none


def by_dimension(rounds: list[dict[str, Any]], targets: list[str]) -> Lines:
    """Comparisons of all rounds by dimension: the targets, the others, and the means over several.

    Args:
        rounds: each with the list `comparisons`.
        targets: names of dimensions.
    """
    found = [{line["dimension"]: line for line in each["comparisons"]} for each in rounds]
    present = dict.fromkeys(name for lines in found for name in lines)
    order = [name for name in targets if name in present] + [n for n in present if n not in (*targets, *MEANS)]
    order += [name for name in MEANS if name in present]
    return {name: [lines.get(name) for lines in found] for name in order}


def verdict(loop: dict[str, Any]) -> str:
    """Say which round is best and by how much, or why none is; `loop` is loop.json."""
    rounds, base = loop["rounds"], loop["base"]["dev_mean"]
    if not rounds:
        return "No round is finished."
    if loop["best"] is None:
        return _without_best(rounds, base)
    best = next(each for each in rounds if each["number"] == loop["best"])
    change = best["targets"]
    interval, remark = "without an interval", ""
    if change["low"] is not None:
        interval = f"95 % interval {change['low']:+z.3f} to {change['high']:+z.3f}"
        remark = " The interval contains zero: the gain is not significant." if change["low"] <= 0 else ""
    return (
        f"Round {loop['best']} is best: the dev mean of the targets is {best['dev_mean']:.3f} with its model and "
        f"{base:.3f} with the base, a difference of {change['difference']:+z.3f} ({interval}).{remark}"
    )


def _without_best(rounds: list[dict[str, Any]], base: float | None) -> str:
    means = [(each["dev_mean"], each["number"]) for each in rounds if each["dev_mean"] is not None]
    if not means or base is None:
        return "No round is best: the dev mean of the targets could not be computed."
    mean, number = max(means)
    highest = f"the highest dev mean of the targets is {mean:.3f} (round {number}), that of the base {base:.3f}"
    if mean <= base:
        return f"No round is above the base: {highest}."
    return f"No round is best: {highest}, but a guard fired in every round above the base."


def progress(loop: dict[str, Any]) -> str:
    """Say where the loop stands: stopped and why, finished, or not finished."""
    done, planned, stopped = len(loop["rounds"]), loop["rounds_planned"], loop["stopped"]
    if stopped:
        guard, detail = stopped["guard"], stopped["detail"]
        return f"The loop stopped after round {stopped['round']} of {planned}, by the guard “{guard}”: {detail}"
    if done < planned:
        return f"{done} of {planned} rounds are finished: the loop is still running, or was interrupted."
    finished = "The round is finished" if planned == 1 else f"All {planned} rounds are finished"
    return f"{finished}; no guard stopped the loop."
